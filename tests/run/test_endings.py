"""Ends of messages in a real scheduler process: what an operator hears of one that is leaving, and ends that a crash
cut short.
"""

import asyncio
import time
from pathlib import Path

import msgspec

from kmq.admin.client import Response
from kmq.model import moment
from kmq.model.event import Delivered, Failed, Routed
from kmq.model.frame import Assign, Blame, Done, Known
from kmq.run.grace import Cause
from kmq.run.grace_evidence import HELD
from tests.mailbag import Mailbag
from tests.run.stage import FAR, Actor, Stage, until


def test_what_is_being_removed_is_neither_resumed_nor_held(tmp_path: Path) -> None:
    """Two operators: who comes second hears what the first one said, and his own word is not written."""

    async def story() -> None:
        async with Stage(tmp_path) as stage:
            await stage.scheduler()
            worker = stage.actor(1)
            await worker.come()
            mail = await stage.receiver.mail()
            has = await worker.gets(mail)
            assert results(await stage.operator("suspend", mail)) == ["pending"]
            assert results(await stage.operator("remove", mail)) == ["pending"]
            for verb in ("resume", "suspend", "resubmit"):
                (line,) = (await stage.operator(verb, mail)).lines
                assert (line["Result"], line["Why"]) == ("skipped", "it is being removed"), verb
            await stage.operator("settle")
            assert "resumed" not in stage.envelope(mail)
            worker.defers(has)
            await until(lambda: not stage.envelope(mail), "it is removed")

    asyncio.run(story())


def test_what_ended_just_before_a_crash_ends_and_nothing_is_deleted_that_nobody_was_told_of(tmp_path: Path) -> None:
    """Without journal the last result may be there, and the end that belongs to it not."""

    async def story() -> None:
        async with Stage(tmp_path) as stage:
            bag = Mailbag(stage.spool)
            done = bag.lay(Delivered(rcpt="0", attempt=1, reply="250 ok"))
            told = bag.lay(Failed(rcpt="0", attempt=1, reply="550 no", notice="69212ad0-00000009"), sender="")
            lost = bag.lay(Failed(rcpt="0", attempt=1, reply="550 no"), sender="")
            await stage.scheduler()
            await stage.all_loaded()
            await until(lambda: not stage.envelope(done) and not stage.envelope(told), "they end")
            await until(lambda: (stage.spool / "poison" / f"{lost}.env").exists(), "a notice that failed is set aside")
            assert (stage.spool / "poison" / f"{lost}.eml").exists()

    asyncio.run(story())


def test_a_result_that_is_said_again_is_told_as_it_was_recorded(tmp_path: Path) -> None:
    """The scheduler process died between the record and its acknowledgement. What was held did not fail."""

    async def story() -> None:
        async with Stage(tmp_path) as stage:
            await stage.scheduler()
            worker = stage.actor(1)
            await worker.come()
            mail, other = await stage.receiver.mail(), await stage.receiver.mail()
            held, failed = refused(await worker.gets(mail), 50), refused(await worker.gets(other), 1)
            worker.peer.say(failed)
            await until(lambda: worker.known(failed.n), "one alone is no jump, and is returned")
            worker.peer.say(held)
            await until(lambda: worker.known(held.n), "it is recorded")
            assert fates(worker, failed.n) == {}
            assert fates(worker, held.n) == {HELD: [Cause.LOGIN.value]}
            await stage.operator("settle")
            await stage.kill_scheduler()
            await stage.scheduler(worker)
            await worker.come()
            for one in (held, failed):
                worker.peer.say(one)
            await until(lambda: worker.known(held.n) and worker.known(failed.n), "they are known")
            assert fates(worker, held.n) == {HELD: [Cause.LOGIN.value]}
            assert fates(worker, failed.n) == {}
            (line,) = (await stage.operator("message", mail)).lines
            assert (line["NextHop"], line["RetryCount"]) == (FAR, 1), "it counts once"

    asyncio.run(story())


def refused(assign: Assign, count: int) -> Done:
    """The server refuses our login; count: recipients that it is said of."""
    at = moment.as_text(time.time())
    routed = Routed(rcpt=assign.rcpt, hop=FAR, at=at)
    failed = Failed(rcpt=assign.rcpt, attempt=assign.attempt, reply="535 5.7.8 no", host="far", at=at)
    events = [msgspec.Raw(msgspec.json.encode(event)) for event in (routed, failed)]
    blames = [Blame(Cause.LOGIN.name, count, "sender@example.org", ["far.test"])]
    return Done(assign.n, assign.m, assign.hop, assign.rcpt, assign.attempt, events, blames=blames)


def fates(worker: Actor, n: int) -> dict[str, list[str]]:
    """What it heard last with the acknowledgement of a result."""
    last = next(one for one in reversed(worker.peer.heard(Known)) if n in one.numbers)
    return last.fates.get(n, ("", {}))[1]


def results(response: Response) -> list[object]:
    return [line["Result"] for line in response.lines]
