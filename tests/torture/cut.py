"""python -m tests.torture.cut: the power goes while the real kmqd has mail in every hand; exit status 1 on violations.

The spool lies on an ext4 image; hops, mailboxes and the ledger lie outside. At a seeded random moment the image's file
system is shut down as a power cut would do it, all processes are killed, the image is mounted again (which replays the
file system's own log), what a reboot clears is cleared, and kmqd starts anew.
Promise: as tests/torture/__main__, and no mount outlives this process.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.postfix import Postfix, find
from tests.spool.powercut import Image, own_namespace, shut_down
from tests.torture.__main__ import judged
from tests.torture.hops import world
from tests.torture.kmqd import Kmqd
from tests.torture.ledger import Death, Ledger
from tests.torture.run import Outcome, leftovers, strangers_push
from tests.torture.senders import Mix, Senders
from tests.waiting import until

SIZE = 192 << 20
#: What FS_IOC_SHUTDOWN leaves: nothing that was not logged, names without data, everything.
FLAGS = (2, 2, 1, 0)


class Outage:
    """Cuts the power of one kmqd whose spool lies on an image."""

    def __init__(self, image: Image, kmqd: Kmqd, ledger: Ledger, chance: Random) -> None:
        self.blows: Counter[str] = Counter()
        self._image, self._kmqd, self._ledger, self._chance = image, kmqd, ledger, chance

    def cut(self) -> None:
        """The power goes and comes back; returns when mail is taken in again."""
        flag, at = self._chance.choice(FLAGS), time.time()
        fd = os.open(self._image.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        shut_down(fd, flag)
        os.close(fd)
        self._kmqd.kill_all()
        until(self.unmounted, "nobody uses the image")
        self._image.mount()
        shutil.rmtree(self._kmqd.run, ignore_errors=True)
        self._kmqd.begin()
        self._kmqd.ready(60)
        self._ledger.deaths.append(Death("power", at, time.time()))
        self.blows[f"cut with flag {flag}"] += 1

    def unmounted(self) -> bool:
        """Whether the image is, by now."""
        with contextlib.suppress(OSError):
            self._image.unmount()
            return True
        return False


def run(letters: int, cuts: int, seed: int, folder: Path, postfix: Postfix) -> Outcome:
    """In this process, which must have mounts of its own."""
    began, ledger, chance = time.monotonic(), Ledger(), Random(seed)
    image = Image(folder, "ext4", SIZE)
    image.mount()
    with world(postfix) as around:
        kmqd = Kmqd(folder / "kmq", around.hops, spool=image.spool)
        outage = Outage(image, kmqd, ledger, chance)
        try:
            kmqd.start()
            asyncio.run(_mail_and_cuts(letters, cuts, outage, kmqd, ledger, postfix, chance))
            kmqd.drain(120)
            around.gather(kmqd, ledger)
            verdict = ledger.judge()
            wrong = [*verdict.wrong, *leftovers(kmqd)]
            if kmqd.stop() != 0:
                wrong.append("EXIT kmqd did not end in order")
        finally:
            kmqd.close()
            until(outage.unmounted, "nobody uses the image")
    return Outcome(wrong, verdict, outage.blows, time.monotonic() - began)


async def _mail_and_cuts(
    letters: int, cuts: int, outage: Outage, kmqd: Kmqd, ledger: Ledger, postfix: Postfix, chance: Random
) -> None:
    senders = Senders(kmqd.port, ledger, Mix(Random(chance.random())))
    strangers = asyncio.create_task(strangers_push(kmqd, postfix))
    share = max(1, letters // (cuts + 1))
    try:
        senders.go(share)
        for _ in range(cuts):
            await asyncio.sleep(chance.uniform(0.05, 1.5))
            await asyncio.to_thread(outage.cut)
            senders.go(share)
        await senders.done()
    finally:
        await senders.stop()
        strangers.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await strangers


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.cut", description="The power goes while mail flows.")
    parser.add_argument("--messages", type=int, default=20_000, help="letters of the ledger (20000)")
    parser.add_argument("--cuts", type=int, default=200, help="power cuts (200)")
    parser.add_argument("--seed", type=int, default=1, help="of every choice (1)")
    options = parser.parse_args()
    postfix = find()
    if postfix is None:
        print("smtp-source and smtp-sink are not here: `make postfix` fetches them", file=sys.stderr)
        return 2
    own_namespace()
    folder = Path(tempfile.mkdtemp(prefix="kmq-cut."))
    return judged(
        run(options.messages, options.cuts, options.seed, folder, postfix), f"cuts, seed {options.seed}", folder
    )


if __name__ == "__main__":
    sys.exit(main())
