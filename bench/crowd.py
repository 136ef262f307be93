"""A kmqd whose queue is crowded with mail for others: 100,000 messages wait for domains of which one is dead.

The world is a resolver on loopback that knows every domain, and addresses at which nobody listens: whoever is tried
refuses the connection. Mail to elsewhere.test has a way of its own, to the sink that counts.
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import cpu
from bench.filling import Waiting, fill
from bench.kmq import CONFIGURATION, Kmq
from bench.mta import stopping
from kmq.spool import as_of
from tests.fake_dns import FakeDNS
from tests.waiting import free_port, until

WORLD = """
[world : connector]
type = dns
port = {dead_port}
forbidden_addresses = 192.0.2.0/24
address_spaces = *
"""

#: Nobody listens there.
NOBODY = "127.0.0.9"
#: Seconds until mail that is not for the dead domain is due: beyond the longest run.
LATER = 7200
LOADED = 120.0
#: Seconds over which kmqd must have used no more than this part of a processor to be at rest.
REST, QUIET = 1.0, 0.1

_LOADED = re.compile(r": loaded count=(?P<count>\d+)")


def domains(count: int) -> list[str]:
    """The domains that mail waits for; the first is dead."""
    return ["dead.test", *(f"d{n}.test" for n in range(1, count))]


def waiting(messages: int, count: int) -> Waiting:
    """Mail evenly over the domains; what is for the dead one is due at once, again and again."""
    names = domains(count)
    return Waiting(messages, lambda n: names[n % count], lambda n: LATER + n % 600 if n % count else 0)


class Call(NamedTuple):
    """seconds: by the clock on the wall; processor: of kmq itself, not of kmqd."""

    seconds: float
    processor: float


class Crowd(Kmq):
    """One kmqd on such a queue."""

    def __init__(self, folder: Path, hop_port: int, dns_port: int, crowd: Waiting) -> None:
        super().__init__(folder, free_port(), hop_port)
        self._crowd = crowd
        text = CONFIGURATION.replace("address_spaces = *", "address_spaces = elsewhere.test")
        text = text.replace("[bench", f"dns_servers = 127.0.0.1:{dns_port}\n\n[bench", 1)
        self.configuration = text + WORLD.format(dead_port=free_port())
        self.ids: list[str] = []
        self.loading = 0.0

    def start(self) -> None:
        """Returns when the whole queue is known; loading: seconds from the start until then."""
        super().start()
        self.stop()
        self.ids = fill(self._folder / "spool", self._crowd)
        begun = time.monotonic()
        self.begin()
        until(lambda: self._loaded() >= len(self.ids), f"kmqd knows its {len(self.ids)} messages", LOADED)
        self.loading = time.monotonic() - begun

    def _loaded(self) -> int:
        found = _LOADED.search((self._folder / "log").read_text())
        return int(found["count"]) if found else -1

    @property
    def resident(self) -> int:
        """Bytes of the scheduler process's memory, shared libraries included."""
        (pid,) = (one.pid for one in cpu.tree(self.pid) if one.name == "scheduler")
        text = Path(f"/proc/{pid}/status").read_text()
        return 1024 * int(text.partition("VmRSS:")[2].split()[0])

    def rest(self) -> None:
        """Returns when kmqd has done what it still owed: files are made, the index knows all."""
        spent = sum(cpu.seconds(self.pid).values())
        deadline = time.monotonic() + LOADED
        while time.monotonic() < deadline:
            time.sleep(REST)
            now = sum(cpu.seconds(self.pid).values())
            if now - spent < REST * QUIET and as_of.read(self._folder / "spool"):
                return
            spent = now
        raise RuntimeError(f"kmqd is busy {LOADED:.0f} s after the last word")

    def command(self, *words: str) -> list[str]:
        """kmq, as an operator calls it."""
        return [str(Path(sys.executable).with_name("kmq")), "-c", str(self._folder / "kmq.conf"), *words]

    def kmq(self, *words: str) -> Call:
        """One call, its start included. RuntimeError when it failed."""
        with tempfile.TemporaryFile("w+") as said:
            begun = time.monotonic()
            pid = os.posix_spawn(
                self.command()[0],
                self.command(*words),
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, said.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, said.fileno(), 2),
                ],
            )
            _, status, used = os.wait4(pid, 0)
            took = time.monotonic() - begun
            if status:
                said.seek(0)
                raise RuntimeError(f"kmq {' '.join(words)}: {said.read()[-300:].strip()}")
        return Call(took, used.ru_utime + used.ru_stime)


@contextmanager
def crowded(folder: Path, crowd: Waiting, count: int) -> Iterator[Crowd]:
    """Such a kmqd while the block runs."""
    zone = {name: [f"A {NOBODY}"] for name in domains(count)}
    with FakeDNS(zone).threaded() as dns, stopping(Crowd(folder, free_port(), dns.port, crowd)) as kmqd:
        kmqd.start()
        yield kmqd
