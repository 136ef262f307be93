"""Envelopes: lines that are sealed, torn, doubled, of nobody, and what they add up to."""

import pytest

from kmq.model import envelope
from kmq.model.envelope import Head, Recipient, Source, fold, head_line, head_tail, read_event, read_head, seal, unseal
from kmq.model.event import (
    Crashed,
    Deferred,
    Delivered,
    Failed,
    Moved,
    Redirected,
    Removed,
    Removing,
    Resubmitted,
    Resumed,
    Routed,
    Suspended,
)

NAME = "69212ad0-0000a1f3"
AT = "2026-11-22T05:50:11.123Z"
HEAD = Head(
    "", "", AT, "ä@example.org", [Recipient("a@x", "NEVER", "rfc822;A@x"), Recipient("b@x")], 7, Source("smtp", "::1")
)


def text(*events: object) -> bytes:
    lines = [head_line(NAME, "ab" * 32, head_tail(HEAD))]
    for seq, event in enumerate(events, 1):
        event.seq = seq  # type: ignore[attr-defined]
        event.at = AT  # type: ignore[attr-defined]
        lines.append(envelope.event_line(event))  # type: ignore[arg-type]
    return b"\n".join(lines)


def test_a_head_comes_back_as_it_was() -> None:
    head = read_head(head_line(NAME, "ab" * 32, head_tail(HEAD)))
    assert head is not None
    assert (head.id, head.sha256, head.sender, head.recipients) == (NAME, "ab" * 32, HEAD.sender, HEAD.recipients)


def test_every_flipped_bit_of_a_line_makes_it_unhappen() -> None:
    line = seal(b'{"seq":1,"event":"delivered","rcpt":"0"}')
    assert read_event(line) is not None
    for place in range(len(line)):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[place] ^= 1 << bit
            assert unseal(bytes(flipped)) is None or bytes(flipped[8:16]).lower() == line[8:16]


def test_a_torn_line_spoils_only_itself() -> None:
    whole = text(Delivered(rcpt="0", attempt=1, reply="250 ok"), Failed(rcpt="1", attempt=1, reply="550 no"))
    lines = whole.split(b"\n")
    torn = b"\n".join([lines[0], lines[1][:20], lines[2]])
    folded = fold(torn)
    assert folded is not None
    assert set(folded[1].done) == {1} and folded[1].next_seq == 3


def test_a_line_that_stands_twice_counts_once() -> None:
    whole = text(Deferred(rcpt="0-1", attempt=1, reply="451 later", until=AT))
    again = whole + b"\n" + whole.split(b"\n")[1]
    folded = fold(again)
    assert folded is not None
    assert (folded[1].results, len(folded[2])) == ([1, 1], 1)


def test_the_state_is_the_sum_of_its_events() -> None:
    folded = fold(
        text(
            Routed(rcpt="0-1", hop="SmtpDeliveryToMailbox;x;here", rule="kmq.conf:1"),
            Deferred(rcpt="0-1", attempt=1, reply="451 later", until=AT),
            Suspended(by="uid 0"),
            Crashed(phase="Executing", count=1),
            Delivered(rcpt="1", attempt=2, reply="250 ok"),
        )
    )
    assert folded is not None
    state = folded[1]
    assert (state.open, state.results, state.until[0], state.suspended, state.crashes) == ([0], [1, 2], AT, True, 1)
    assert state.hop == ["SmtpDeliveryToMailbox;x;here"] * 2


def test_back_from_poison_forgets_crashes_and_resume_lets_go() -> None:
    folded = fold(text(Crashed(count=2), Moved(home="poison", reason="x"), Moved(home="queue"), Suspended(), Resumed()))
    assert folded is not None
    assert (folded[1].home, folded[1].crashes, folded[1].suspended) == ("queue", 0, False)


def test_an_operator_may_mean_some_recipients() -> None:
    folded = fold(text(Suspended(), Resumed(rcpt="1"), Removing(rcpt="1", by="uid 0", ndr=True)))
    assert folded is not None
    state = folded[1]
    assert (state.held, state.suspended, state.open) == ({0}, False, [0, 1])
    assert {index: event.ndr for index, event in state.removing.items()} == {1: True}
    folded = fold(text(Suspended(rcpt="0"), Removed(rcpt="1", by="uid 0", reason="spam")))
    assert folded is not None
    assert (folded[1].open, folded[1].suspended) == ([0], True), "all that is left is held"


def test_what_is_sent_back_is_routed_anew_with_its_attempts_and_without_its_wait() -> None:
    folded = fold(
        text(
            Routed(rcpt="0-1", hop="SmtpDeliveryToMailbox;x;here"),
            Deferred(rcpt="0-1", attempt=1, reply="451 later", until=AT),
            Redirected(rcpt="0", by="uid 0", connector="relay"),
            Resubmitted(rcpt="0"),
        )
    )
    assert folded is not None
    state = folded[1]
    assert (state.hop, state.until, state.results) == (["", "SmtpDeliveryToMailbox;x;here"], ["", AT], [1, 1])
    assert state.forced == {0: "relay"}


@pytest.mark.parametrize("rcpt", ["x", "2-1", "0-99999999", "-1", "7"])
def test_a_sealed_line_that_names_nobody_harms_nobody(rcpt: str) -> None:
    folded = fold(text(Delivered(rcpt=rcpt, attempt=1, reply="250 ok")))
    assert folded is not None
    assert folded[1].open == [0, 1]


@pytest.mark.parametrize("damage", [b"", b"\0" * 300, b"{}", b"garbage\n{}"])
def test_without_a_good_head_there_is_no_envelope(damage: bytes) -> None:
    assert fold(damage) is None
