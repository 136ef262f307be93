"""`make bench-million`: a kmqd with 1,000,000 messages that wait, begun on them three times: without an index, after
SIGKILL, and at rest.

One table with the goals beside; the numbers stay in bench/results/<time>-million.json. Exit status 1 when a goal is
missed. Each message is two files of its own, 8 GB and 2,000,000 inodes in all; they lie below build/ and are removed at
the end. Their pages are in the kernel's cache, as they are after SIGKILL; after a power cut the disk is asked for each.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import cpu, idle, memory
from bench.crowd import NOBODY, WORLD, domains, waiting
from bench.filling import fill
from bench.fresh import Fresh
from bench.kmq import CONFIGURATION, Kmq
from bench.machine import TREE, keep, machine, mention_others, told, workplace
from bench.million_report import Known, Run, Start, goals, table
from bench.mta import stopping
from bench.report import verdict
from kmq.spool import as_of
from tests.fake_dns import FakeDNS
from tests.waiting import free_port, until

#: Domains that the mail waits for.
DOMAINS = 1000
#: Seconds that a start, or an index that is made anew, may take before the run is given up.
PATIENCE = 1800.0
#: Seconds between two single messages, and those that do not count.
PAUSE, WARM_UP = 0.05, 10
#: Turns of both kmqds.
ROUNDS = 4

_LOADED = re.compile(r": loaded count=(?P<count>\d+) recalled=(?P<recalled>\d+)")


class Million(Kmq):
    """One kmqd with such a queue, or with an empty one."""

    def __init__(self, folder: Path, port: int, hop_port: int, dns_port: int) -> None:
        super().__init__(folder, port, hop_port)
        text = CONFIGURATION.replace("address_spaces = *", "address_spaces = elsewhere.test")
        text = text.replace("[bench", f"dns_servers = 127.0.0.1:{dns_port}\n\n[bench", 1)
        self.configuration = text + WORLD.format(dead_port=free_port())

    @property
    def spool(self) -> Path:
        return self._folder / "spool"

    @property
    def control(self) -> Path:
        """The socket of whoever asks kmqd."""
        return self.spool / "run/control.sock"

    @property
    def resident(self) -> int:
        """Bytes of the scheduler process's own memory."""
        (pid,) = (one.pid for one in cpu.tree(self.pid) if one.name == "scheduler")
        return memory.own(pid)

    def kill(self) -> None:
        """SIGKILL, to all of it at once."""
        assert self._daemon is not None
        os.killpg(self._daemon.pid, signal.SIGKILL)
        self._daemon.wait()
        self._daemon = None

    def known(self) -> Known | None:
        """What the log says of the queue's being known; None as long as it is not."""
        found = _LOADED.search((self._folder / "log").read_text())
        return Known(int(found["count"]), int(found["recalled"])) if found else None

    def rest(self) -> None:
        """Returns when the index knows all, and nothing is done any more."""
        until(lambda: as_of.read(self.spool), "the index is whole", PATIENCE)
        spent = -1.0
        while (now := sum(cpu.seconds(self.pid).values())) - spent > 0.05:
            spent = now
            time.sleep(1)


class Bench:
    """One folder on the disk that is measured, and what is found there."""

    def __init__(self, options: argparse.Namespace, folder: Path, dns_port: int) -> None:
        self._options = options
        self._empty, self._kmqd = (_made(folder / name, dns_port) for name in ("empty", "full"))

    def run(self) -> Run:
        """A kmqd with an empty queue runs beside, so that both are compared in the same moments."""
        empty, kmqd, messages = self._empty, self._kmqd, self._options.messages
        with stopping(empty), stopping(kmqd):
            empty.start()
            kmqd.start()
            kmqd.stop()
            begun = time.monotonic()
            fill(kmqd.spool, waiting(messages, DOMAINS))
            say(f"{messages:,} messages are written in {time.monotonic() - begun:.0f} s")
            starts = [self._start("first start, no index"), self._killed("after SIGKILL")]
            alone, crowded = self._fresh()
            with self._pulse() as stalls:
                self._fresh()
            return Run(
                *(messages, starts, alone, crowded),
                *(empty.resident, kmqd.resident, memory.pss(kmqd.pid), dict(stalls)),
            )

    def _killed(self, name: str) -> Start:
        self._kmqd.kill()
        return self._start(name)

    def _start(self, name: str) -> Start:
        """From the start of kmqd until all is known and the index is whole; mail flows from its first second on."""
        kmqd = self._kmqd
        begun = time.monotonic()
        with self._pulse() as stalls:
            kmqd.begin()
            greeted = _greeted(kmqd.port) - begun
            taken = asyncio.run(idle.measure(kmqd.port, kmqd.hop_port, 1)) and time.monotonic() - begun
            until(lambda: kmqd.known(), "all is known", PATIENCE)
            seconds, most = time.monotonic() - begun, memory.pss(kmqd.pid)
            known = kmqd.known()
        assert known is not None
        kmqd.rest()
        found = Start(name, greeted, taken, seconds, time.monotonic() - begun, known, most, dict(stalls))
        say(
            f"{name}: 220 after {found.greeted:.1f} s, the first message delivered after {taken:.1f} s, "
            f"{known.count:,} known after {seconds:.1f} s, {known.recalled:,} of them from the index"
        )
        return found

    def _fresh(self) -> tuple[Fresh, Fresh]:
        """Single messages through the empty kmqd and through the full one, by turns."""
        found: dict[Million, list[float]] = {self._empty: [], self._kmqd: []}
        for _ in range(ROUNDS):
            for kmqd, waits in found.items():
                count = WARM_UP + self._options.fresh // ROUNDS
                waits += asyncio.run(idle.measure(kmqd.port, kmqd.hop_port, count, PAUSE))[WARM_UP:]
        alone, crowded = (Fresh([1000 * wait for wait in waits]) for waits in found.values())
        return alone, crowded

    @contextmanager
    def _pulse(self) -> Iterator[dict[str, float]]:
        """The longest wait for each process while the block runs, in ms; filled when it ends."""
        words = [sys.executable, "-m", "bench.pulse", str(self._kmqd.port), str(self._kmqd.control)]
        pulse = subprocess.Popen(words, cwd=TREE, stdout=subprocess.PIPE)
        longest: dict[str, float] = {}
        try:
            yield longest
        finally:
            pulse.terminate()
            said, _ = pulse.communicate()
        answers: dict[str, list[float]] = json.loads(said)
        longest.update({name: 1000 * max(waits, default=float("nan")) for name, waits in answers.items()})


def _made(folder: Path, dns_port: int) -> Million:
    folder.mkdir()
    return Million(folder, free_port(), free_port(), dns_port)


def _greeted(port: int) -> float:
    """The moment at which the receiver said 220."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as client:
            if client.recv(100).startswith(b"220"):
                return time.monotonic()
        time.sleep(0.01)


def say(line: str) -> None:
    print(line, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-million", description="A kmqd with a very long queue.")
    parser.add_argument("--messages", type=int, default=1_000_000, help="that wait (1,000,000)")
    parser.add_argument("--fresh", type=int, default=200, help="single fresh messages (200)")
    parser.add_argument("--folder", type=Path, default=TREE / "build", help="on the disk to be measured (build/)")
    return parser.parse_args()


def measured(options: argparse.Namespace) -> Run:
    """One run in a folder of its own, which stays when it fails."""
    folder = Path(tempfile.mkdtemp(prefix="million.", dir=options.folder))
    zone = {name: [f"A {NOBODY}"] for name in domains(DOMAINS)}
    try:
        with FakeDNS(zone).threaded() as dns:
            run = Bench(options, folder, dns.port).run()
    except BaseException:
        print(f"this run failed; what it left lies in {folder}", file=sys.stderr)
        raise
    shutil.rmtree(folder)
    return run


def main() -> int:
    options = arguments()
    options.folder = workplace(options.folder)
    facts = machine(options.folder)
    mention_others("times will be too long")
    run = measured(options)
    print(f"\n{told(facts)}\n\n{table(run)}\n")
    status = verdict(goals(run))
    keep(facts, {"run": run.figures()}, "-million")
    return status


if __name__ == "__main__":
    sys.exit(main())
