"""Ends of messages in a real scheduler process: what an operator hears of one that is leaving, and ends that a crash
cut short.
"""

import asyncio
from pathlib import Path

from kmq.model.event import Delivered, Failed
from tests.mailbag import Mailbag
from tests.run.stage import Stage, until


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


def results(response) -> list[object]:
    return [line["Result"] for line in response.lines]
