"""System calls of a living process fail, are late, or are its last: strace is on it while a block runs.

The process is the real one, and so is all that it does about the fault; only the kernel's answer is another one.
"""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.torture.traced import traced
from tests.waiting import until

#: What changes a file of the spool; `write` is left out, since sockets use it too.
CHANGES = (
    "pwrite64,pwritev,pwritev2,fdatasync,fsync,syncfs,fallocate,linkat,unlinkat,renameat,renameat2,mkdirat,ftruncate"
)


@dataclass
class Trace:
    """What strace wrote down: a line for each call of the kinds that were named."""

    path: Path

    @property
    def injected(self) -> list[str]:
        """Calls that got our answer."""
        return [line for line in self.lines if "(INJECTED)" in line or "SIGKILL" in line]

    @property
    def lines(self) -> list[str]:
        return self.path.read_text("utf-8", "replace").splitlines()

    def files(self, call: str) -> list[str]:
        """The files that such calls were about, in order."""
        return [found[1] for line in self.lines if (found := re.search(rf"{call}\(\d+<([^>]*)>", line))]


@contextmanager
def injected(pid: int, calls: str, fault: str, log: Path, of: str | Path = "") -> Iterator[Trace]:
    """calls: comma list; fault: as strace has it (`error=EIO:when=1`, `signal=SIGKILL:when=2`, `delay_enter=...`).
    strace counts for each thread by itself, so which call it is of a process with several is better said by `of`: only
    calls that bear this name, or a descriptor of it, are meant."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    command = ["strace", "-f", "-y", "-qq", "-s", "0", "-o", str(log), "-e", f"trace={calls}"]
    command += ["-e", f"inject={calls}:{fault}", *(("-P", str(of)) if of else ()), "-p", str(pid)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: traced(pid), "strace is there")
        yield Trace(log)
    finally:
        tracer.send_signal(signal.SIGINT)  # it lets go of whoever lives
        try:
            tracer.wait(5)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()
