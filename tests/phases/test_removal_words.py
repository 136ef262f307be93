"""What is said of an attachment that was taken out: in each language, all of it, whatever the names are."""

import string

import pytest

from kmq.languages.codes import CODES
from kmq.phases.removal_words import WORDS, Removal, for_sender, in_place

REMOVAL = Removal(["a.exe", "b {server}.scr"], ["programs are not let through", "Win.Test.EICAR_HDB-1"], sealed=True)


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, *_ in string.Formatter().parse(sentence) if name is not None}


def test_there_are_words_in_each_language_of_notices() -> None:
    assert tuple(WORDS) == CODES


@pytest.mark.parametrize("code", CODES)
def test_a_language_says_all_that_english_says(code: str) -> None:
    for name, sentence in WORDS["en"]._asdict().items():
        other = getattr(WORDS[code], name)
        assert placeholders(other) == placeholders(sentence), name
        assert other.strip() == other != "", name
        assert code == "en" or other != sentence, name


@pytest.mark.parametrize("code", CODES)
def test_both_texts_name_the_server_the_files_and_why(code: str) -> None:
    here = in_place(REMOVAL, "mx.here.test", code)
    subject, lines = for_sender(REMOVAL, "mx.here.test", code)
    assert subject == WORDS[code].subject
    for text in (here, "\n".join(lines)):
        assert "mx.here.test" in text
        assert "\n  a.exe\n  b {server}.scr\n" in text
        assert text.index("programs are not") < text.index("Win.Test.EICAR_HDB-1")
        assert WORDS[code].sealed in text.replace("\n", " ")
        assert max(map(len, text.split("\n"))) <= 72


def test_an_unknown_language_is_english() -> None:
    assert in_place(REMOVAL, "mx", "tlh") == in_place(REMOVAL, "mx", "en")


def test_many_names_are_counted() -> None:
    text = in_place(Removal([f"{number}.exe" for number in range(25)], []), "mx", "de")
    assert "\n  19.exe\n  und 5 weitere" in text
    assert "20.exe" not in text
