"""Notices in the sender's language: every sentence is there in each, and what programs read is the same in all."""

import string
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from smtplib import SMTP

import pytest
from flufl.bounce import all_failures

from kmq.config.address_maps import AddressMap, MapLine
from kmq.config.sections import NoticesSection
from kmq.languages.codes import CODES
from kmq.languages.tables import WORDINGS
from kmq.languages.wording import ELSE, Wording
from kmq.model.envelope import Recipient
from kmq.routing.languages import Languages
from kmq.run.notice import Action, Letter, Office, Told
from kmq.run.notices import compose, copy
from tests.fakes import EvilHop
from tests.run.test_notices import BODY, NOW, OFFICE, fields, head, parts, read, read_head
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import until

ENGLISH = WORDINGS["en"]
OTHERS = [code for code in CODES if code != "en"]
HOST = "smtp-in.b.test[192.0.2.1]:25"
REPLY = "550 5.1.1 <a@b.test>: no such user {here}; see https://b.test/why-not?x=%20"

#: Kind of notice -> what is told, and names of the sentences that say it.
KINDS: dict[str, tuple[Told, tuple[str, ...]]] = {
    "refused": (Told(0, REPLY, HOST, Action.FAILED), ("failed", "refused", "closing")),
    "our own word": (Told(0, REPLY, "", Action.FAILED), ("failed", "own_answer", "closing")),
    "given up": (Told(0, "451 4.4.1 later", HOST, Action.FAILED, True), ("failed", "gave_up", "last_answer_of")),
    "delayed": (Told(0, "451 4.4.1 later", HOST, Action.DELAYED), ("delayed", "waiting", "last_answer_of", "until")),
    "delayed here": (Told(0, "451 4.4.1 later", "", Action.DELAYED), ("delayed", "waiting", "last_answer")),
    "delivered": (Told(0, "250 2.0.0 Ok", "", Action.DELIVERED), ("delivered", "in_mailbox")),
    "relayed": (Told(0, "250 2.0.0 Ok: queued", HOST, Action.RELAYED), ("passed_on", "relayed")),
    "expanded": (Told(0, "250 2.0.0 expanded", "", Action.EXPANDED), ("passed_on", "expanded")),
}


def office(code: str) -> Office:
    return OFFICE._replace(languages=Languages(NoticesSection(language=code)), until=NOW + 86400)


def told(code: str, one: Told) -> EmailMessage:
    message = head(Recipient("a@b.test", notify="SUCCESS,FAILURE,DELAY"), ret="FULL")
    made = compose(Letter(message, BODY), [one], office(code), NOW)
    assert made is not None
    assert made.body.isascii(), "every server can carry it"
    return read(made)


def words_of(parsed: EmailMessage) -> str:
    return " ".join(str(parts(parsed)[0].get_content()).split())


def fixed_words(sentence: str) -> list[str]:
    """What stands between the placeholders of a sentence."""
    return [" ".join(text.split()) for text, *_ in string.Formatter().parse(sentence) if text.strip()]


# --- the tables -------------------------------------------------------------------------------------------------------


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, *_ in string.Formatter().parse(sentence) if name is not None}


def sentences(words: Wording) -> Iterator[tuple[str, str]]:
    for name, value in words._asdict().items():
        match value:
            case str():
                yield name, value
            case tuple():
                yield from ((f"{name} {place}", one) for place, one in enumerate(value))
            case _:
                yield from ((f"{name} {key}", one) for key, one in value.items())


def test_there_is_a_table_for_each_language() -> None:
    assert tuple(WORDINGS) == CODES
    assert [words.code for words in WORDINGS.values()] == list(CODES)


@pytest.mark.parametrize("code", OTHERS)
def test_a_language_says_all_that_english_says(code: str) -> None:
    english, other = dict(sentences(ENGLISH)), dict(sentences(WORDINGS[code]))
    assert other.keys() == english.keys()
    for name, sentence in english.items():
        assert placeholders(other[name]) == placeholders(sentence), name
        assert other[name].strip() == other[name] != "", name
        assert other[name].count("\n") == sentence.count("\n"), name
    assert ELSE in WORDINGS[code].advice


@pytest.mark.parametrize("code", OTHERS)
def test_nothing_was_left_in_english(code: str) -> None:
    same = {name for name, sentence in sentences(WORDINGS[code]) if sentence == dict(sentences(ENGLISH))[name]}
    assert same <= {"notice", "minutes 0", "minutes 1"}, "words that happen to be spelt alike"


@pytest.mark.parametrize("code", CODES)
def test_every_kind_of_notice_has_a_subject_of_its_own(code: str) -> None:
    subjects = [value for name, value in sentences(WORDINGS[code]) if name.startswith("subject_")]
    assert len(set(subjects)) == len(subjects) == 5


def test_a_blank_ahead_of_french_punctuation_does_not_break() -> None:
    for name, sentence in sentences(WORDINGS["fr"]):
        assert not set(sentence.split(" ")) & {":", ";", "!", "?"}, name
        for sign in ":;!?":
            assert sentence.count(sign) == sentence.count(f"\xa0{sign}"), name


# --- the notices ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_in_the_sender_s_language(code: str, kind: str) -> None:
    one, names = KINDS[kind]
    parsed, words = told(code, one), WORDINGS[code]
    first, second, third = parts(parsed)
    assert first["Content-Language"] == code
    assert first.get_content_charset() == "utf-8"
    text = words_of(parsed)
    for name in names:
        at = 0
        for piece in fixed_words(getattr(words, name)):
            at = text.find(piece, at)
            assert at >= 0, (name, piece, text)
    subject = words.subject_delivered if kind == "delivered" else words.subject_passed_on
    subject = {Action.FAILED: words.subject_failed, Action.DELAYED: words.subject_delayed}.get(one.action, subject)
    assert parsed["Subject"] == subject
    called = [str(part["Content-Description"]) for part in (first, second, third)]
    assert called == [words.notice, words.report, words.message if third.is_multipart() else words.header]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("kind", ["refused", "our own word"])
def test_what_was_answered_is_quoted_as_it_was_said(code: str, kind: str) -> None:
    text = str(parts(told(code, KINDS[kind][0]))[0].get_content())
    assert REPLY in " ".join(text.split())
    assert HOST in text or kind == "our own word", "a name with a hyphen is not broken"


@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize("kind", KINDS)
def test_programs_read_the_same_in_all_languages(code: str, kind: str) -> None:
    one, _ = KINDS[kind]
    here, there = told(code, one), told("en", one)
    assert fields(here) == fields(there)
    assert all_failures(here) == all_failures(there)
    assert here.get_content_type() == "multipart/report"
    for name in ("From", "To", "Date", "Auto-Submitted", "In-Reply-To"):
        assert here[name] == there[name]


@pytest.mark.parametrize(
    ("code", "span", "date"),
    [
        ("en", "for 5 days", "2026-11-22 05:50 UTC"),
        ("de", "Nach 5 Tagen", "vom 22.11.2026 um 05:50 UTC"),
        ("es", "durante 5 días", "del 22/11/2026 a las 05:50 UTC"),
        ("fr", "Après 5 jours", "du 22/11/2026 à 05:50 UTC"),
    ],
)
def test_times_are_written_as_people_write_them(code: str, span: str, date: str) -> None:
    now = NOW + 4 * 86400
    made = compose(Letter(head(), BODY), [Told(0, "451 4.4.1 x", HOST, Action.FAILED, True)], office(code), now)
    assert made is not None
    text = words_of(read(made))
    assert span in text
    assert date in text


@pytest.mark.parametrize("code", CODES)
def test_each_trouble_has_its_advice_once(code: str) -> None:
    advice = WORDINGS[code].advice
    message = head("a@b.test", "b@b.test", "c@b.test", "d@b.test")
    said = ["550 5.1.1 no", "552 5.2.2 full", "550 5.1.1 no, too", "554 5.9.9 who knows"]
    failures = [Told(index, one, HOST, Action.FAILED) for index, one in enumerate(said)]
    made = compose(Letter(message, BODY), failures, office(code), NOW)
    assert made is not None
    text = words_of(read(made))
    assert [text.count(" ".join(advice[key].split())) for key in ("1.1", "2.2", ELSE, "4.7")] == [1, 1, 1, 0]


# --- whose language ---------------------------------------------------------------------------------------------------


def test_each_sender_is_told_in_his_own() -> None:
    lines = (MapLine("@x.test", "de"), MapLine("postmaster@here.test", "es"))
    section = NoticesSection(language="fr", languages=AddressMap(lines))
    where = OFFICE._replace(languages=Languages(section))
    one = Told(0, "550 5.1.1 no", HOST, Action.FAILED)
    asking = b"Accept-Language: en\r\n" + BODY

    def language(sender: str, text: bytes = BODY) -> str:
        made = (compose if sender else copy)(Letter(head(sender=sender), text), [one], where, NOW)
        assert made is not None
        return str(parts(read(made))[0]["Content-Language"])

    assert language("s@x.test") == "de"
    assert language("s@x.test", asking) == "de"
    assert language("s@far.test") == "fr"
    assert language("s@far.test", asking) == "en"
    assert language("", asking) == "es", "the postmaster reads his own language, whatever a stranger's header says"


def test_the_postmaster_s_copy_is_said_in_his_language() -> None:
    one = Told(0, "550 5.1.1 no", HOST, Action.FAILED)
    for code in CODES:
        words = WORDINGS[code]
        for parent, name in (("69212ac0-00000001", "notice_lost"), ("", "message_lost")):
            made = copy(Letter(head(sender="", parent=parent), BODY), [one], office(code), NOW)
            assert made is not None
            parsed = read(made)
            assert parsed["Subject"] == words.subject_copy
            text = words_of(parsed)
            assert all(piece in text for piece in fixed_words(getattr(words, name)))
            assert parent in text
            assert fixed_words(words.advised)[0] not in text


def test_an_international_sender_reads_it_in_utf_8() -> None:
    made = compose(
        Letter(head(sender="ñandú@x.test", smtputf8=True), BODY),
        [Told(0, "550 5.1.1 buzón desconocido", HOST, Action.FAILED)],
        office("es"),
        NOW,
    )
    assert made is not None
    assert read_head(made).smtputf8
    parsed = BytesParser(policy=policy.default).parsebytes(made.body)
    assert [part.get_content_type() for part in parsed.iter_parts()][1] == "message/global-delivery-status"
    assert "buzón desconocido" in words_of(read(made))
    assert "Diagnostic-Code: smtp; 550 5.1.1 buzón desconocido\r\n".encode() in made.body


# --- with a real kmqd -------------------------------------------------------------------------------------------------


def test_a_german_is_told_in_german(tmp_path: Path) -> None:
    """Three senders, three languages: by address, by header, and by default."""
    notices = "\n\n[notices]\nlanguage = fr\nlanguages = ada@local.test de"
    with EvilHop().threaded() as hop:
        kmqd = Kmqd(tmp_path, hops={"far.test": hop.port}, drops=NO_DROPS + notices, workers=1)
        kmqd.start()
        try:
            with SMTP("127.0.0.1", kmqd.port, timeout=60) as client:
                for user, header in (("ada", ""), ("eve", "Accept-Language: es-MX, en;q=0.8\r\n"), ("bob", "")):
                    text = f"{header}Subject: x\r\n\r\ntext\r\n".encode()
                    client.sendmail(f"{user}@local.test", ["550-at-rcpt@far.test"], text)
            for user, code in (("ada", "de"), ("eve", "es"), ("bob", "fr")):
                parsed = first_mail(kmqd.mail / user / "new")
                assert parsed["Subject"] == WORDINGS[code].subject_failed
                assert parts(parsed)[0]["Content-Language"] == code
            assert not kmqd.accidents()
        finally:
            kmqd.close()


def first_mail(folder: Path) -> EmailMessage:
    until(lambda: folder.is_dir() and any(folder.iterdir()), f"there is mail in {folder}")
    (path,) = folder.iterdir()
    parsed = BytesParser(policy=policy.default).parsebytes(path.read_bytes())
    assert isinstance(parsed, EmailMessage)
    return parsed
