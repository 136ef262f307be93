"""One kmqd, messages that go through it one after the other, and what each of them costs by counts.

Counts are the same on a slow machine and on a fast one, so they can be held by a bound where times cannot. What kmqd
does each second whether mail comes or not is allowed for by the seconds that the messages took.
"""

import re
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes import EvilHop
from tests.torture.kmqd import Kmqd
from tests.waiting import until

WITHIN = Path(__file__).with_name("within")

BODY = b"Subject: counted\r\nFrom: <she@near.test>\r\n\r\n" + 63 * (62 * b"x" + b"\r\n")

#: A row of the table that `strace -c` prints: calls, perhaps errors, name.
_ROW = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", re.MULTILINE)


@dataclass
class Counts:
    """What `messages` messages cost a role, over all of its processes. calls: of the system, by name; wakes: of its
    event loops; python, c: functions called; written: bytes handed to files and sockets by write calls."""

    messages: int
    seconds: float
    calls: Counter[str] = field(default_factory=Counter)
    python: int = 0
    c: int = 0
    written: int = 0

    @property
    def wakes(self) -> int:
        return self.calls["epoll_wait"] + self.calls["epoll_pwait"]

    @property
    def syncs(self) -> int:
        return self.calls["fdatasync"] + self.calls["fsync"] + self.calls["syncfs"]


class Counted:
    """A kmqd whose functions are counted, and a next hop that takes everything."""

    def __init__(self, folder: Path, hop: EvilHop) -> None:
        self._hop = hop
        self._counts = folder / "counts"
        self._counts.mkdir()
        within = {"PYTHONPATH": str(WITHIN), "KMQ_COUNTS": str(self._counts)}
        self.kmqd = Kmqd(folder / "kmq", {"far.test": hop.port}, within=within, effects="1s")
        self._folder = folder

    def send(self, messages: int) -> None:
        """One after the other, each over a connection of its own, and each at the hop before the next begins."""
        for _ in range(messages):
            there = len(self._hop.messages)
            send(self.kmqd.port)
            until(lambda there=there: len(self._hop.messages) > there, "the message is at the hop")

    def costs(self, messages: int, traced: bool) -> dict[str, Counts]:
        """role -> what these messages cost it. traced: system calls are counted, and nothing else."""
        with ExitStack() as stack:
            children = self.kmqd.children()
            traces = {name: stack.enter_context(self._traced(name, pid)) for name, pid in children.items() if traced}
            before, begin = self._read(children), time.monotonic()
            self.send(messages)
            seconds, after = time.monotonic() - begin, self._read(children)
        found: dict[str, Counts] = {}
        for name in children:
            one = found.setdefault(name.split("-")[0], Counts(messages, seconds))
            python, c, written = (now - then for now, then in zip(after[name], before[name], strict=True))
            one.python, one.c, one.written = one.python + python, one.c + c, one.written + written
            if traced:
                one.calls += calls(traces[name].read_text())
        return found

    def _read(self, children: dict[str, int]) -> dict[str, tuple[int, int, int]]:
        """name -> calls of Python and of C, bytes written, since its start."""
        found = {}
        for name, pid in children.items():
            python, c = struct.unpack("QQ", (self._counts / name).read_bytes()[:16])
            written = re.search(r"^wchar: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
            assert written is not None
            found[name] = (python, c, int(written[1]))
        return found

    @contextmanager
    def _traced(self, name: str, pid: int) -> Iterator[Path]:
        """strace is on it while the block runs; its table is in the file afterwards."""
        table = self._folder / f"strace.{name}"
        command = ["strace", "-c", "-f", "-qq", "-o", str(table), "-p", str(pid)]
        tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(lambda: _is_traced(pid), f"strace is on {name}")
            yield table
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(30)


def calls(table: str) -> Counter[str]:
    """name -> number of system calls, of what `strace -c` prints."""
    return Counter({name: int(number) for number, name in _ROW.findall(table) if name != "total"})


def _is_traced(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)


def send(port: int) -> None:
    """One message, one command at a time."""
    with socket.create_connection(("127.0.0.1", port), 60) as client, client.makefile("rb") as replies:
        assert replies.readline().startswith(b"220")
        for said in (b"EHLO client.test", b"MAIL FROM:<she@near.test>", b"RCPT TO:<he@far.test>", b"DATA"):
            client.sendall(said + b"\r\n")
            while (reply := replies.readline())[3:4] == b"-":
                pass
            assert reply[:1] in b"23", reply
        client.sendall(BODY + b".\r\n")
        assert replies.readline().startswith(b"250")
        client.sendall(b"QUIT\r\n")
        assert replies.readline().startswith(b"221")


@contextmanager
def counted(folder: Path) -> Iterator[Counted]:
    """Started, with its first messages behind it: what is loaded and opened once is there."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    with EvilHop().threaded() as hop:
        one = Counted(folder, hop)
        with one.kmqd.running():
            one.send(8)
            # The first turn of the journal fills a segment; later ones find one that was used before.
            until(lambda: ": checkpoint " in one.kmqd.log, "the first checkpoint")
            yield one
