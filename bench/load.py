"""The load: smtp-source pours into an MTA, smtp-sink is the next hop and counts.

Both are Postfix's own, so kmq is measured by a stranger's tools. smtp-sink (-c) tells its running count whenever it
changes; the last one read counts. smtp-source has no end of its own here: it is stopped when the time is up, in the
midst of its sessions; what was accepted until then arrives at the sink, and that is what counts.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from bench import cpu
from tests.postfix import Postfix as Programs
from tests.waiting import listening, until

CONNECTIONS = 20
MESSAGE_SIZE = 4096
SENDER, RECIPIENT = "source@bench.test", "sink@elsewhere.test"
#: Whom probes go to; their domain has a next hop of its own.
PROBE_DOMAIN = "probe.test"
PROBED = f"probe@{PROBE_DOMAIN}"

_COUNT = re.compile(rb"mesg=(\d+)")


@dataclass(frozen=True, slots=True)
class Load:
    """What is poured in. size: bytes of a body; kept: connections stay open for further messages."""

    size: int = MESSAGE_SIZE
    connections: int = CONNECTIONS
    recipients: int = 1
    kept: bool = False

    def options(self) -> list[str]:
        """As smtp-source takes them."""
        found = ["-s", str(self.connections), "-l", str(self.size), "-r", str(self.recipients)]
        return [*found, "-d"] if self.kept else found


#: The load that most is measured with.
ORDINARY = Load()


class Hop:
    """A running smtp-sink: its port, and how many messages have arrived whole."""

    def __init__(self, programs: Programs, port: int) -> None:
        self.port = port
        self.arrived = 0
        self.last = time.monotonic()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            [programs.program("smtp-sink"), *user, "-c", f"127.0.0.1:{port}", "1024"],
            env=programs.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        while text := self._process.stdout.read(1 << 16):
            # It also speaks when a connection ends, which may be long after its last message.
            if (counts := _COUNT.findall(text)) and int(counts[-1]) > self.arrived:
                self.last, self.arrived = time.monotonic(), int(counts[-1])

    def listens(self) -> None:
        """Returns when it does."""
        until(lambda: listening(self.port), f"smtp-sink listens on port {self.port}")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()


@contextmanager
def source(
    programs: Programs, port: int, messages: int = 1 << 30, load: Load = ORDINARY
) -> Iterator[subprocess.Popen[bytes]]:
    """smtp-source while the block runs."""
    command = [programs.program("smtp-source"), *load.options(), "-m", str(messages)]
    command += ["-f", SENDER, "-t", RECIPIENT, f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, env=programs.environment(), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


class Bare(NamedTuple):
    """What source and sink do without anybody between them: no MTA beside them on this machine can be faster.

    rate: messages/s; cost: processor milliseconds of both per message.
    """

    rate: float
    cost: float


def bare(programs: Programs, load: Load, port: int, seconds: float = 3.0) -> Bare:
    """The source pours straight into the sink."""
    hop = Hop(programs, port)
    try:
        hop.listens()
        with source(programs, port, load=load) as process:
            begun = time.monotonic()
            time.sleep(seconds)
            messages, taken = hop.arrived, time.monotonic() - begun
            used = sum(sum(cpu.seconds(pid).values()) for pid in (process.pid, hop.pid))
    finally:
        hop.stop()
    return Bare(messages / taken, 1000 * used / messages if messages else float("nan"))
