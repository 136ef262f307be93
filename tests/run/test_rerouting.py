"""What was routed by an earlier configuration, and has nowhere to go by the one that kmqd begins with."""

import asyncio
from pathlib import Path

from kmq.model import hop as hops
from kmq.model.event import Deferred, Routed, Suspended
from tests.mailbag import Mailbag
from tests.run.stage import Stage, until

SUBMISSION = str(hops.SUBMISSION)
GONE = "SmartHostConnectorDelivery;old.example:25;old"


def test_a_start_routes_anew_what_waits_for_a_connector_that_is_gone(tmp_path: Path) -> None:
    async def story() -> None:
        async with Stage(tmp_path) as stage:
            bag = Mailbag(stage.spool)
            tried = [Routed(rcpt="0", hop=GONE), Deferred(rcpt="0", attempt=1, reply="450 no")]
            waits = bag.lay(*tried)
            late = bag.lay(Routed(rcpt="0", hop=GONE), Deferred(rcpt="0", attempt=1, until="2099-01-01T00:00:00.000Z"))
            held = bag.lay(Routed(rcpt="0", hop=GONE), Suspended(by="uid 0"))
            await stage.scheduler()
            await stage.all_loaded()
            worker = stage.actor(1)
            await worker.come()
            for mail in (waits, late):
                again = await worker.gets(mail)
                assert (again.hop, again.attempt) == (SUBMISSION, 2)
            (line,) = (await stage.operator("message", held)).lines
            assert (line["NextHop"], line["Status"]) == (GONE, "Suspended"), "an operator says when that goes on"
            await stage.operator("resume", held)
            await until(lambda: worker.given(held), "it goes on")
            has = worker.given(held)[-1]
            if has.hop == GONE:  # it was quicker than the next look
                worker.says(has, Deferred(rcpt="0", attempt=has.attempt, reply="451 4.3.5 no such connector"))
            await until(lambda: worker.given(held)[-1].hop == SUBMISSION, "routed anew, too")

    asyncio.run(story())
