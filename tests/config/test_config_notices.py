"""[notices]: who is told in which language, and the mistakes with line and remedy."""

import pytest

from kmq.config import read, show
from kmq.config.address_maps import AddressMap, MapLine
from kmq.config.sections import NoticesSection
from kmq.errors import ConfigError

BASE = "[kmq]\nhostname = mx.example.org\n[notices]\n"


def section(text: str) -> NoticesSection:
    return read(BASE + text, "kmq.conf", "/etc/kmq", "mx").notices


def test_without_a_word_everybody_is_told_in_english_unless_he_asks() -> None:
    found = section("")
    assert (found.language, found.languages, found.language_by_header) == ("en", AddressMap(), True)


def test_lines_and_files_make_a_map() -> None:
    found = section(
        "language = fr\nlanguages =\n  @Example.DE de\n  ana@example.org ES\n  @*.fr fr\n  postmaster@ en\n  file:l\n"
    )
    assert found.language == "fr"
    assert found.languages == AddressMap(
        (
            MapLine("@example.de", "de"),
            MapLine("ana@example.org", "es"),
            MapLine("@*.fr", "fr"),
            MapLine("postmaster@", "en"),
        ),
        ("/etc/kmq/l",),
    )


def test_what_is_printed_gives_the_same_settings() -> None:
    one = read(BASE + "languages = @example.de de, file:l\nlanguage_by_header = no\n", "kmq.conf", "/etc/kmq", "mx")
    again = read(show(one), "kmq.conf", "/somewhere/else", "mx").notices
    assert again == one.notices


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("language = pt", "kmq.conf:4: [notices] language: 'pt' is not one of en, de, es, fr"),
        ("language = german", "'german' is not one of en, de, es, fr"),
        ("languages = @example.de", "is no pattern and language: write user@example.org, user@, @example.org"),
        ("languages = @example.de de fr", "is no pattern and language"),
        ("languages = @example.de it", "kmq.conf:4: [notices] languages: 'it' is not one of en, de, es, fr"),
        ("languages = example.de de", "'example.de' has no @"),
        ("languages = file:", "behind file: stands the path of a file"),
        ("language_by_header = perhaps", "'perhaps' is not one of yes, no"),
        ("langauge = de", "there is no such option; did you mean 'language'?"),
    ],
)
def test_mistakes_name_line_and_remedy(line: str, text: str) -> None:
    with pytest.raises(ConfigError) as told:
        section(f"{line}\n")
    assert text in str(told.value)
