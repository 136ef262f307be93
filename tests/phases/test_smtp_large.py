"""Large bodies: streamed from their files, never whole in memory, never half delivered."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmq.phases.smtp import Smtp
from tests.fakes import EvilHop
from tests.phases.sending import TEXT, against, kinds, outcome, results, section, send, smtp, until, work


def large(size: int) -> bytes:
    """A body with dots at many line starts, also at the places where pieces are cut."""
    line = b".dot\r\n..\r\nplain text with some length to it\r\n.\r\n"
    return TEXT + line * (size // len(line))


def test_a_large_body_is_streamed(tmp_path: Path, loop_runner: Callable[[Any], Any]) -> None:
    text = large(3_000_000)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        shown: list[tuple[str, int]] = []
        found = await send(phase, work("a@b.test", text=text, file=tmp_path / "x.eml"), shown)
        assert kinds(found) == "D"
        assert hop.messages[0].body == text
        percents = [percent for _, percent in shown]
        assert percents == sorted(percents)
        assert percents[-1] == 100
        assert len(percents) > 10
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        assert hop.connections == 1

    against(EvilHop(), story, loop_runner)


def test_a_large_body_for_many_is_read_anew_for_each_transaction(tmp_path: Path) -> None:
    text = large(400_000)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work(*(f"u{n}@b.test" for n in range(5)), text=text, file=tmp_path / "x.eml"))
        assert kinds(found) == "DDDDD"
        assert [message.body == text for message in hop.messages] == [True] * 3

    against(EvilHop(recipients_limit=2), story)


@pytest.mark.parametrize("fault", ["drop", "rst", "421"])
def test_lost_in_the_middle_of_a_large_body_is_certain(tmp_path: Path, fault: str) -> None:
    """Row 53: without the dot the server throws away what it has, so there is no doubt."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        one = work(f"{fault}-at-body-1@b.test", text=large(5_000_000), file=tmp_path / "x.eml")
        found = await outcome(phase, one)
        assert (kinds(found), found.uncertain) == ("d", False)
        assert kinds(await outcome(phase, one)) == "D"
        assert hop.delivered("fault-at-body-1@b.test".replace("fault", fault)) == 1

    against(EvilHop(), story)


def test_a_refusal_in_the_middle_of_a_large_body_counts(tmp_path: Path) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("552-at-body@b.test", text=large(5_000_000), file=tmp_path / "x.eml"))
        ((kind, reply),) = results(found).values()
        assert (kind, reply[:3]) == ("Failed", "552")
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        assert hop.connections == 2

    against(EvilHop(), story)


def test_a_server_that_does_not_read_is_given_up_and_others_go_on(tmp_path: Path) -> None:
    """Row 59: a window that stays shut. The body never left us whole, so there is no doubt about the dot."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        stuck = send(phase, work("a@b.test", text=large(20_000_000), file=tmp_path / "x.eml"))
        async with EvilHop() as good:
            other = smtp(section(good.address))
            for _ in range(10):
                assert kinds(await outcome(other, work("a@b.test"))) == "D"
            await other.close(1)
        found = await stuck
        assert (kinds(found), found.uncertain) == ("d", False)
        assert "timed out" in results(found)[0][1]
        assert not hop.messages
        for session in hop._sessions:
            session.transport.resume_reading()

    against(EvilHop(reading=False), story, data_timeout=0.2)


def test_a_dot_that_never_left_is_no_doubt(loop_runner: Callable[[Any], Any]) -> None:
    """All was written, but the end of it lies in our own buffer when the server is given up."""

    async def story(hop: EvilHop, phase: Smtp) -> None:
        found = await outcome(phase, work("a@b.test", text=large(20_000_000)))
        assert (kinds(found), found.uncertain) == ("d", False)
        assert "timed out" in results(found)[0][1]
        assert "unknown" not in results(found)[0][1]
        for session in hop._sessions:
            session.transport.resume_reading()

    against(EvilHop(reading=False), story, loop_runner, final_timeout=0.1)


def test_a_damaged_body_is_not_delivered(tmp_path: Path) -> None:
    """Row 21: what is on the disk is not what was accepted; the server never sees the dot."""
    text = large(1_000_000)

    async def story(hop: EvilHop, phase: Smtp) -> None:
        one = work("a@b.test", text=text, file=tmp_path / "x.eml")
        (tmp_path / "x.eml").write_bytes(text[:-3] + b"X\r\n")
        found = await outcome(phase, one)
        assert (found.events, found.unavailable) == ([], None)
        assert "checksum" in found.damaged
        assert not hop.messages
        await until(lambda: hop.open == 0, "the connection cannot be used after half a message")
        mixed = work("bad address", "a@b.test", text=text, file=tmp_path / "x.eml")
        os.truncate(tmp_path / "x.eml", 5)
        found = await outcome(phase, mixed)
        assert (kinds(found), found.damaged) == ("Fd", "")
        assert "the message is damaged" in results(found)[1][1]
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"

    against(EvilHop(), story)


def test_a_body_that_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        one = work("a@b.test", text=large(200_000), file=tmp_path / "x.eml")
        os.rename(tmp_path / "x.eml", tmp_path / "y.eml")
        ((kind, reply),) = results(await outcome(phase, one)).values()
        assert (kind, reply) == ("Deferred", "451 4.3.0 cannot read the message: No such file or directory")
        os.rename(tmp_path / "y.eml", tmp_path / "x.eml")
        assert kinds(await outcome(phase, one)) == "D"

    against(EvilHop(), story)
