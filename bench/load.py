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

from tests.postfix import Postfix as Programs

CONNECTIONS = 20
MESSAGE_SIZE = 4096
SENDER, RECIPIENT = "source@bench.test", "sink@elsewhere.test"

_COUNT = re.compile(rb"mesg=(\d+)")


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

    def _read(self) -> None:
        assert self._process.stdout is not None
        while text := self._process.stdout.read(1 << 16):
            if counts := _COUNT.findall(text):
                self.last, self.arrived = time.monotonic(), int(counts[-1])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()


@contextmanager
def source(programs: Programs, port: int, messages: int = 1 << 30) -> Iterator[subprocess.Popen[bytes]]:
    """smtp-source while the block runs: one message per connection, 20 connections, 4 KiB each."""
    command = [programs.program("smtp-source"), "-s", str(CONNECTIONS), "-l", str(MESSAGE_SIZE), "-m", str(messages)]
    command += ["-f", SENDER, "-t", RECIPIENT, f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, env=programs.environment(), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
