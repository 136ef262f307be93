"""SMTP delivery against a server that does everything wrong that servers do, stage by stage."""

import asyncio

import pytest

from kmq.model.event import Failed
from kmq.phases.smtp import Smtp
from kmq.phases.work import Outcome
from tests.fakes import EXTENSIONS, EvilHop
from tests.phases.sending import against, kinds, outcome, results, section, until, work

# --- replies, stage by stage (RFC 5321 4.2, 4.3.2) -----------------------------------------------------------------

#: (fault of the recipient's address, result, uncertain)
FAULTS = [
    ("450-at-rcpt", "d", False),
    ("550-at-rcpt", "F", False),
    ("421-at-rcpt", "d", False),
    ("452-at-rcpt", "d", False),
    ("552-at-rcpt", "d", False),
    ("drop-at-rcpt", "d", False),
    ("rst-at-rcpt", "d", False),
    ("garbage-at-rcpt", "d", False),
    ("mixed-at-rcpt", "d", False),
    ("twice-at-rcpt", "d", False),
    ("451-at-data", "d", False),
    ("554-at-data", "F", False),
    ("421-at-data", "d", False),
    ("250-at-data", "d", False),
    ("drop-at-data", "d", False),
    ("garbage-at-data", "d", False),
    ("mixed-at-data", "d", False),
    ("twice-at-data", "d", False),
    ("451-at-dot", "d", False),
    ("554-at-dot", "F", False),
    ("421-at-dot", "d", True),
    ("drop-after-dot", "d", True),
    ("rst-after-dot", "d", True),
    ("garbage-at-dot", "d", True),
    ("mixed-at-dot", "d", True),
    ("354-at-dot", "d", True),
    # odd, but good
    ("multi-at-rcpt", "D", False),
    ("multi-at-dot", "D", False),
    ("slow-at-rcpt", "D", False),
    ("slow-at-data", "D", False),
    ("slow-at-dot", "D", False),
    ("plain-at-rcpt", "D", False),
    ("plain-at-data", "D", False),
    ("plain-at-dot", "D", False),
    ("twice-at-dot", "D", False),  # it was taken; the connection is not
]


@pytest.mark.parametrize("extensions", [EXTENSIONS, ("SIZE",)], ids=["pipelined", "one-by-one"])
@pytest.mark.parametrize(("fault", "result", "uncertain"), FAULTS)
def test_faults(fault: str, result: str, uncertain: bool, extensions: tuple[str, ...]) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(f"{fault}@b.test"))
        assert kinds(found) == result, found
        assert found.uncertain == uncertain
        assert found.unavailable is None
        # Whatever happened, the next message gets its own replies.
        after = await outcome(phase, work("good@b.test", text=b"Message-ID: <2@kmq.test>\r\n\r\n"))
        assert kinds(after) == "D"
        assert hop.copies["good@b.test", "<2@kmq.test>"] == 1

    against(EvilHop(extensions=extensions), story)


@pytest.mark.parametrize(
    ("fault", "result"), [("450", "d"), ("550", "F"), ("421", "d"), ("drop", "d"), ("garbage", "d"), ("354", "d")]
)
def test_faults_at_mail(fault: str, result: str) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("a@b.test", "c@b.test", sender=f"{fault}-at-mail@kmq.test"))
        assert kinds(found) == result * 2
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"

    against(EvilHop(), story)


def test_each_recipient_has_its_own_result() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        to = ["a@b.test", "550-at-rcpt@b.test", "b@b.test", "450-at-rcpt@b.test", "550-at-rcpt.2@b.test"]
        found = await outcome(phase, work(*to))
        assert kinds(found) == "DFDdF"
        assert [event.rcpt for event in found.events] == ["1,4", "3", "0,2"], "the same reply is told once"
        assert hop.messages[0].recipients == ["a@b.test", "b@b.test"]

    against(EvilHop(), story)


def test_nobody_accepted_but_data_was() -> None:
    """RFC 2920 3.1: the server waits for a text; it gets none, and the session goes on."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        assert kinds(await outcome(phase, work("550-at-rcpt@b.test"))) == "F"
        hop.data = ""
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        assert hop.connections == 1
        assert [message.recipients for message in hop.messages] == [["a@b.test"]]

    against(EvilHop(data="354 go ahead, whoever it is for"), story)


def test_a_session_is_reset_after_a_refused_transaction() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        await outcome(phase, work("550-at-rcpt@b.test"))
        await outcome(phase, work("a@b.test"))
        verbs = [line.split(b" ")[0] for line in hop.commands]
        assert verbs == [b"EHLO", b"MAIL", b"RCPT", b"DATA", b"RSET", b"MAIL", b"RCPT", b"DATA"]

    against(EvilHop(), story)


@pytest.mark.parametrize("too_many", ["452 4.5.3 too many", "552 too many", "452 too many"])
def test_too_many_recipients_go_in_further_transactions(too_many: str) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*(f"u{n}@b.test" for n in range(10))))
        assert kinds(found) == "D" * 10
        assert [len(message.recipients) for message in hop.messages] == [4, 4, 2]
        assert set(hop.copies.values()) == {1}
        told = [line for line in hop.commands if line.startswith(b"RCPT")]
        assert len(told) == 10 + 4 + 2, "what the server takes is known after the first time"

    against(EvilHop(recipients_limit=4, too_many=too_many), story)


def test_more_than_a_hundred_recipients_are_not_tried_at_once() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*(f"u{n}@b.test" for n in range(250))))
        assert kinds(found) == "D" * 250
        assert [len(message.recipients) for message in hop.messages] == [100, 100, 50]
        assert [event.rcpt for event in found.events] == ["0-99", "100-199", "200-249"]

    against(EvilHop(), story)


def test_a_server_that_takes_nobody_ends_it() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*(f"u{n}@b.test" for n in range(5))))
        assert kinds(found) == "d" * 5
        assert len([line for line in hop.commands if line.startswith(b"MAIL")]) == 1

    against(EvilHop(recipients_limit=0), story)


def test_a_connection_lost_between_two_transactions_defers_the_rest() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*(f"u{n}@b.test" for n in range(100)), "drop-at-rcpt@b.test", "z@b.test"))
        assert kinds(found) == "D" * 100 + "dd"

    against(EvilHop(), story)


def test_replies_of_a_peer_are_harmless_text() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        hop.data = "554 5.7.1 \x1b[2J\x07nasty\udcff"
        ((_, reply),) = results(await outcome(phase, work("a@b.test"))).values()
        assert reply == "554 5.7.1 \\x1b[2J\\x07nasty\\xff"

    against(EvilHop(), story)


# --- what this server cannot take --------------------------------------------------------------------------------


def test_too_large_for_this_server() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        (event,) = (await outcome(phase, work("a@b.test"))).events
        assert isinstance(event, Failed)
        assert (event.reply[:9], event.host) == ("552 5.3.4", ""), "we say so, not the server"
        assert not any(line.startswith(b"MAIL") for line in hop.commands)
        assert kinds(await outcome(phase, work("a@b.test", text=b"\r\n"))) == "D", "the connection lives on"

    against(EvilHop(extensions=("SIZE 10",)), story)


def test_international_addresses_need_smtputf8() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("пример@b.test", "a@b.test"))
        assert kinds(found) == "FD"
        assert results(found)[0][1].startswith("553 5.6.7")

    against(EvilHop(extensions=("PIPELINING", "8BITMIME")), story)


def test_an_address_that_would_break_the_line_never_leaves() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("a@b.test\r\nRCPT TO:<victim@b.test>", "good@b.test"))
        assert kinds(found) == "FD"
        assert results(found)[0][1].startswith("553 5.1.3")
        assert not any(b"victim" in line for line in hop.commands)

    against(EvilHop(), story)


def test_a_thousand_messages_that_cannot_be_sent_are_reported_without_end_of_stack() -> None:
    """Each report brings the next message at once: that must not nest."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        left = 3000
        done = asyncio.Event()

        def report(found: Outcome) -> None:
            nonlocal left
            assert kinds(found) == "F"
            left -= 1
            if left:
                phase.deliver(work("bad address"), report, lambda *_: None)
            else:
                done.set()

        phase.deliver(work("bad address"), report, lambda *_: None)
        await done.wait()
        await phase.close(1)
        assert hop.connections == 1, "no second connection was opened for what one could refuse"

    against(EvilHop(), story, messages_per_connection=100_000)


# --- time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "stage", "uncertain"),
    [
        ("hang-at-rcpt@b.test", "sending RCPT TO", False),
        ("hang-at-data@b.test", "sending DATA", False),
        ("hang-at-dot@b.test", "waiting for the reply to the final dot", True),
    ],
)
def test_every_stage_has_its_deadline(address: str, stage: str, uncertain: bool) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(address))
        ((kind, reply),) = results(found).values()
        assert kind == "Deferred"
        assert reply.startswith("451 4.4.2 timed out after ")
        assert reply.endswith(f"while {stage}" + "; delivery status unknown" * uncertain)
        assert found.uncertain == uncertain
        await until(lambda: hop.open == 0, "the connection is given up")

    limits = dict.fromkeys(("mail_timeout", "rcpt_timeout", "data_timeout", "final_timeout"), 0.05)
    against(EvilHop(), story, **limits)


def test_the_reply_to_the_dot_is_waited_for_ten_minutes() -> None:
    """RFC 5321 4.5.3.2.6; too short a wait here sends mail twice."""
    assert section(("x", 25)).final_timeout >= 600
