"""One run: mail flows, processes die, and the ledger is judged when the queue is empty."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

from kmq.spool import incoming
from tests.postfix import Postfix
from tests.torture.harm import EVERYTHING, Harm
from tests.torture.hops import world
from tests.torture.image import Image
from tests.torture.kmqd import Kmqd
from tests.torture.ledger import IN_FLIGHT, Ledger, Verdict
from tests.torture.senders import Mix, Senders
from tests.waiting import until


@dataclass(frozen=True)
class Plan:
    """letters, kills: how many; seed: of all that is chosen; pace: the longest pause between two blows, in seconds."""

    letters: int
    kills: int
    seed: int
    pace: float = 2.0
    choice: Mapping[str, int] = field(default_factory=lambda: EVERYTHING)
    workers: int = 2
    receivers: int = 1
    queue: str = ""
    strangers: bool = False
    in_flight: float = IN_FLIGHT


class Outcome(NamedTuple):
    """What a run came to. wrong: every violation, in a sentence each."""

    wrong: list[str]
    verdict: Verdict
    blows: Counter[str]
    seconds: float

    def __str__(self) -> str:
        blows = ", ".join(f"{count} x {blow}" for blow, count in sorted(self.blows.items()))
        return f"{self.verdict} in {self.seconds:.0f} s; {sum(self.blows.values())} blows: {blows or 'none'}"


def run(plan: Plan, folder: Path, postfix: Postfix, image: Image | None = None) -> Outcome:
    """Below `folder`, which keeps configuration, spool and log; spool and Maildirs lie on `image` if there is one."""
    began = time.monotonic()
    ledger = Ledger(in_flight=plan.in_flight)
    with world(postfix) as around:
        kmqd = Kmqd(folder, around.hops, workers=plan.workers, receivers=plan.receivers, queue=plan.queue)
        if image is not None:
            kmqd.spool, kmqd.mail = image.at / "spool", image.at / "mail"
        try:
            kmqd.start()
            harm = Harm(kmqd, ledger, Random(plan.seed), plan.choice, image)
            asyncio.run(_mail_under_blows(plan, kmqd, ledger, harm, postfix))
            kmqd.drain(120)
            around.gather(kmqd, ledger)
            verdict = ledger.judge()
            wrong = [*verdict.wrong, *leftovers(kmqd)]
            if kmqd.stop() != 0:
                wrong.append("EXIT kmqd did not end in order")
        finally:
            kmqd.close()
    return Outcome(wrong, verdict, harm.blows, time.monotonic() - began)


async def _mail_under_blows(plan: Plan, kmqd: Kmqd, ledger: Ledger, harm: Harm, postfix: Postfix) -> None:
    chance = Random(plan.seed + 2)
    senders = Senders(kmqd.port, ledger, Mix(Random(plan.seed + 1)))
    strangers = asyncio.create_task(strangers_push(kmqd, postfix)) if plan.strangers else None
    share, rest = divmod(plan.letters, plan.kills + 1)
    try:
        senders.go(share + rest)
        for _ in range(plan.kills):
            await moment(chance, plan.pace, ledger, share)
            await harm.strike()
            senders.go(share)
        await harm.healed()
        await senders.done()
    finally:
        await senders.stop()
        if strangers is not None:
            strangers.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await strangers


async def moment(chance: Random, pace: float, ledger: Ledger, share: int) -> None:
    """Until the next blow falls: in the midst of mail, or after some time whatever is going on."""
    midst = chance.random() < 0.7
    count, pause = len(ledger.sent) + chance.randint(0, share), chance.uniform(0.0, pace)
    until_then = time.monotonic() + (pace if midst else pause)
    while time.monotonic() < until_then and not (midst and len(ledger.sent) >= count):
        await asyncio.sleep(0.002)


async def strangers_push(kmqd: Kmqd, postfix: Postfix) -> None:
    """smtp-source beside the ledger's senders: it says nothing of what was acknowledged, but it pushes."""
    command = [postfix.program("smtp-source"), "-s", "2", "-m", "200", "-l", "2000", "-f", "stranger@local.test"]
    command += ["-t", "stranger@far.test", f"127.0.0.1:{kmqd.port}"]
    while True:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=postfix.environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        await asyncio.sleep(0.3)


def leftovers(kmqd: Kmqd) -> list[str]:
    """What must not be there when all mail has come to its end."""
    until(lambda: not _abandoned(kmqd), f"bodies of dead receivers are removed: {_abandoned(kmqd)}")
    wrong = [f"ACCIDENT {line}" for line in kmqd.accidents()]
    wrong += [f"POISON {path.name}" for path in kmqd.poison()]
    wrong += [f"LEFT {path.name}" for path in kmqd.mail.glob("*/tmp/*")]
    return wrong


def _abandoned(kmqd: Kmqd) -> list[str]:
    """Large bodies whose receiver is dead, and which no message names: the queue is empty."""
    names = (path.name for path in (kmqd.spool / incoming.FOLDER).iterdir())
    return [name for name in names if incoming.maker(name) and not incoming.lives(name)]
