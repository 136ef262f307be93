"""`make bench-phases`: what backup, content filtering and antivirus cost, beside clamd alone and kmq without them.

The same bodies go, one after the other on this machine: to clamd over its socket; through a kmqd without phases;
through one with an archive in the spool, an attachment rule, a server rule and clamd. Once every body is another one,
once all are the same, so that clamd's cache and kmq's answer. Messages are multipart with a small attachment, since
plain text needs no look at its parts. Exit status 1 when the goal is missed: half the rate of clamd or of kmq without
phases, whichever is lower.

clamd has the signatures of the tests, two of them, and no others: a real database makes it slower, and the goal easier.
"""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.flow import Source
from bench.kmq import CONFIGURATION, Kmq
from bench.load import Hop
from bench.mta import stopping
from kmq.phases.clamd import CLEAN
from kmq.phases.clamd_session import Sessions
from tests.debian_clamd import clamd
from tests.postfix import Postfix, find
from tests.waiting import free_port, until

TREE = Path(__file__).resolve().parents[1]
CONNECTIONS = 10

PHASES = """
[backup]
incoming = yes
outgoing = yes
relayed = yes
local = yes

[programs : attachment]
names = *.exe, *.scr
action = block

[marked : rule]
condition = header subject contain "invoice"
action = add header X-Invoice: yes

[virus : scanner]
type = clamd
address = {clamd}
"""

_TEXT = """\
From: source@bench.test\r
To: sink@elsewhere.test\r
Subject: a message of the benchmark\r
Date: Sun, 22 Nov 2026 10:00:00 +0000\r
Message-ID: <{name}@bench.test>\r
MIME-Version: 1.0\r
Content-Type: multipart/mixed; boundary="-- cut --"\r
\r
---- cut --\r
Content-Type: text/plain; charset=us-ascii\r
\r
{lines}\r
---- cut --\r
Content-Type: text/csv; name="table.csv"\r
Content-Disposition: attachment; filename="table.csv"\r
\r
a;b\r
1;2\r
---- cut ----\r
"""


def text(number: int, size: int) -> bytes:
    """A message of about so many bytes; another one for each number."""
    line = f"line of message {number:08d}, with words that nobody reads and no virus either"
    count = max(1, (size - len(_TEXT)) // (len(line) + 2))
    return _TEXT.format(name=number, lines="\r\n".join([line] * count)).encode()


async def _pour(port: int, numbers: range, same: bool, size: int) -> None:
    """The messages over a few connections that stay open."""
    coming = iter(numbers)

    async def one() -> None:
        source = await Source.open(port)
        for number in coming:
            await source.send(text(0 if same else number, size) + b".\r\n")
        source.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


async def _scanned(path: str, numbers: range, same: bool, size: int) -> None:
    """As workers ask clamd, over a few connections that are kept."""
    coming, sessions = iter(numbers), Sessions(path)

    async def one() -> None:
        for number in coming:
            found = await sessions.scan(text(0 if same else number, size))
            assert found == CLEAN, found

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    sessions.close()


#: Messages that go ahead of those that count: programs that kmq begins when they are first asked for are there then.
WARM_UP = 200


class Bench:
    """rates: what was measured -> messages a second."""

    def __init__(self, programs: Postfix, folder: Path, count: int, size: int) -> None:
        self._programs = programs
        self._folder = folder
        self._count = count
        self._size = size
        self._next = 1
        self.rates: dict[str, float] = {}

    def _numbers(self) -> range:
        """Of bodies that nobody has seen."""
        self._next += self._count
        return range(self._next - self._count, self._next)

    def clamd(self, name: str, path: Path, same: bool) -> None:
        begin = time.monotonic()
        asyncio.run(_scanned(str(path), self._numbers(), same, self._size))
        self._tell(name, time.monotonic() - begin)

    def kmq(self, name: str, more: str, same: bool) -> None:
        """End to end: from the first byte to the last message at the next hop."""
        folder = self._place()
        hop = Hop(self._programs, free_port())
        with stopping(hop), stopping(_Kmq(folder, free_port(), hop.port, more)) as mta:
            mta.start()
            self._pour(mta, hop, WARM_UP, same)
            begin = time.monotonic()
            self._pour(mta, hop, self._count, same)
            self._tell(name, hop.last - begin)

    def _pour(self, mta: "_Kmq", hop: Hop, count: int, same: bool) -> None:
        """So many messages, the last of which is at the next hop when this returns."""
        there = hop.arrived
        command = [sys.executable, "-m", "bench.phases", "--pour", str(mta.port), "--messages", str(count)]
        command += ["--first", str(self._numbers()[0]), "--size", str(self._size), *(["--same"] if same else [])]
        subprocess.run(command, check=True, cwd=TREE)
        until(lambda: hop.arrived >= there + count, "all arrive", 300)

    def _tell(self, name: str, seconds: float) -> None:
        self.rates[name] = self._count / seconds
        print(f"{name:44} {self.rates[name]:8,.0f} messages/s", flush=True)

    def _place(self) -> Path:
        """A spool's folder. It stays until all is measured: what was unlinked a moment ago ext4 passes over to make
        another file, one by one where it has no journal, so the next kmqd would pay for it."""
        folder = Path(tempfile.mkdtemp(prefix="phases.", dir=self._folder))
        os.sync()
        return folder


class _Kmq(Kmq):
    def __init__(self, folder: Path, port: int, hop_port: int, more: str) -> None:
        super().__init__(folder, port, hop_port)
        self.configuration = CONFIGURATION + more


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """In memory, as /tmp often is: ext4 remembers each file for a minute, and passes over it to make another."""
    made = Path(tempfile.mkdtemp(prefix="kmq-clamd.", dir="/dev/shm" if os.path.isdir("/dev/shm") else folder))
    made.chmod(0o755)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _measured(bench: Bench, folder: Path) -> bool:
    """All of it; whether the goal is met."""
    met = True
    with _scratch(folder) as scratch, clamd(scratch / "clamd") as path:
        phases = PHASES.format(clamd=path)
        for same, kind in ((False, "distinct bodies"), (True, "one body")):
            alone, plain, all_on = (f"{what}, {kind}" for what in ("clamd alone", "kmq, no phases", "kmq, all phases"))
            bench.clamd(alone, path, same)
            bench.kmq(plain, "", same)
            bench.kmq(all_on, phases, same)
            share = bench.rates[all_on] / min(bench.rates[alone], bench.rates[plain])
            good = share >= 0.5
            met = met and good
            print(
                f"{'of the slower one of the first two':44} {share:8.2f}{'' if good else '   MISSED: 0.50'}", flush=True
            )
    return met


def main() -> int:
    """The program; -> its exit status."""
    reading = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reading.add_argument("--messages", type=int, default=5000)
    reading.add_argument("--size", type=int, default=4096)
    reading.add_argument("--folder", type=Path, default=TREE / "build", help="on the disk to be measured (build/)")
    reading.add_argument("--pour", type=int, default=0, help=argparse.SUPPRESS)
    reading.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    reading.add_argument("--same", action="store_true", help=argparse.SUPPRESS)
    options = reading.parse_args()
    if options.pour:
        numbers = range(options.first, options.first + options.messages)
        asyncio.run(_pour(options.pour, numbers, options.same, options.size))
        return 0
    programs = find()
    if programs is None:
        print("smtp-sink is not here: make postfix", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="phases.", dir=options.folder))
    folder.chmod(0o755)
    # Each spool in a block group of its own, away from what earlier runs have unlinked; other file systems know it not.
    subprocess.run(["chattr", "+T", folder], check=False, stderr=subprocess.DEVNULL)
    try:
        return 0 if _measured(Bench(programs, folder, options.messages, options.size), folder) else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
