"""How urgent mail is: what its header says, whose header counts, and what the envelope says of it."""

import pytest

from kmq.intake.content import Content
from kmq.intake.priority import NOT_ASKED, of_header
from kmq.model import priority
from kmq.model.envelope import Head, Recipient, head_line, head_tail
from kmq.model.priority import HIGH, LOW, NORMAL, Priority
from tests.intake.doors import Talk, receiver

#: Lines of a header -> what they come to.
HEADERS: list[tuple[bytes, Priority]] = [
    (b"Subject: hello", NORMAL),
    (b"X-Priority: 1", HIGH),
    (b"X-Priority: 1 (Highest)", HIGH),
    (b"x-PRIORITY:2", HIGH),
    (b"X-Priority : 3", NORMAL),
    (b"X-Priority: 4", LOW),
    (b"X-Priority: 5 (Lowest)", LOW),
    (b"X-Priority: 12", NORMAL),
    (b"X-Priority: 0", NORMAL),
    (b"X-Priority: urgent", NORMAL),
    (b"X-Priority:", NORMAL),
    (b"Priority: urgent", HIGH),
    (b"Priority: Non-Urgent", LOW),
    (b"Importance: High", HIGH),
    (b"Importance: low", LOW),
    (b"Importance: normal", NORMAL),
    # which of several counts
    (b"Importance: high\r\nX-Priority: 5", LOW),
    (b"Importance: high\r\nX-Priority: 3", NORMAL),
    (b"Importance: low\r\nPriority: urgent", HIGH),
    (b"X-Priority: what\r\nImportance: high", HIGH),
    (b"X-Priority: 1\r\nX-Priority: 5", HIGH),
    # what only looks like it
    (b"Subject: X-Priority: 1", NORMAL),
    (b"X-MSMail-Priority: High", NORMAL),
    (b"Subject: a\r\n\tPriority: urgent", NORMAL),
    (b"X-Priority-Of-Others: 1", NORMAL),
]


@pytest.mark.parametrize(("lines", "meant"), HEADERS)
def test_what_a_header_says(lines: bytes, meant: Priority) -> None:
    assert of_header(b"\r\nfrom: a@b\r\n" + lines.lower() + b"\r\nto: c@d") is meant


def content(header: bytes, text: bytes = b"hi\r\n", urgent_size: int = 1000) -> Content:
    found = Content(1 << 20, 998, 50, urgent_size)
    for byte in (header + b"\r\n\r\n" + text + b".\r\n",):
        found.dotted(byte)
    assert found.ended
    return found


def test_large_mail_is_never_urgent_and_may_be_of_low_priority() -> None:
    urgent, patient, text = b"X-Priority: 1", b"X-Priority: 5", b"a line of text\r\n" * 100
    assert content(urgent).priority is HIGH
    assert content(urgent, text).priority is NORMAL
    assert content(patient, text).priority is LOW


def test_the_text_says_nothing_and_a_header_that_nobody_asks_says_nothing() -> None:
    assert content(b"Subject: x", b"X-Priority: 1\r\n").priority is NORMAL
    assert content(b"X-Priority: 1", urgent_size=NOT_ASKED).priority is NORMAL


#: Who sends, to a receiver where priority_from says that -> the envelope's word.
WHOSE = [
    ("192.0.2.7", "trusted", ""),
    ("127.0.0.1", "trusted", "high"),
    ("192.0.2.7", "everybody", "high"),
    ("127.0.0.1", "nobody", ""),
]


@pytest.mark.parametrize(("ip", "whose", "word"), WHOSE)
def test_nobody_buys_himself_a_place_ahead_of_others(ip: str, whose: str, word: str) -> None:
    talk = Talk(ip, section=receiver(priority_from=whose), greeted=True, urgent_size=1000)
    assert talk.mail(b"Importance: high\r\n\r\nhi\r\n.\r\n")[0].startswith("250")
    assert talk.door.messages[0].head.priority == word


def test_without_priority_queuing_all_mail_is_alike() -> None:
    talk = Talk("127.0.0.1", greeted=True)
    talk.mail(b"X-Priority: 1\r\n\r\nhi\r\n.\r\n")
    assert talk.door.messages[0].head.priority == ""


def test_the_scheduler_reads_it_off_the_head_and_no_address_can_say_it() -> None:
    forged = '"x\\",\\"priority\\":\\"high\\""@client.test'
    for word, meant in (("high", HIGH), ("", NORMAL), ("low", LOW), ("what", NORMAL)):
        head = Head(
            "", "", "", forged, [Recipient('a,"priority":"high"@b')], 5, envid=',"priority":"high"', priority=word
        )
        assert priority.of_line(head_line("69212ad0-00000001", "00", head_tail(head))) == meant
