"""A receiver's memory, as the kernel counts it: at most 2 MiB a session, whatever ten clients at once send."""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.intake.serving import certificate

SESSIONS = 10
ALLOWED = SESSIONS * (2 << 20)

#: Arguments: certificate and key, or two empty ones.
SERVER = """
import asyncio, socket, sys
import uvloop
from kmq.intake.door import FREE
from kmq.intake.smtpd import Smtpd
from tests.intake.doors import Routes, receiver

class Nowhere:
    name = ""
    refusal = None
    def pressed(self, user): return FREE
    def put(self, raw, tail, count, stamp, answer): answer("69212ad0-00000001", None)
    def reserve(self, answer): answer("69212ad0-00000001", None)
    def open_large(self, on_room): return self
    def write(self, piece): return True
    def discard(self): pass
    def put_large(self, queue_id, tail, count, sha256, large, answer): answer(queue_id, None)

async def serve():
    listener = socket.create_server(("127.0.0.1", 0))
    section = receiver(relay_from=(), tls_certificate=sys.argv[1], tls_key=sys.argv[2])
    await Smtpd(section, "mx.us.test", Routes(), Nowhere()).serve([listener])
    print(listener.getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)

uvloop.run(serve())
"""

BEGIN = b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@us.test>\r\nDATA\r\n"

#: Name -> (a piece, how often, the code that ends it).
LOADS = {
    "25 MB of ordinary lines": (b"x" * 76 + b"\r\n", 26_000_000, 250),
    "lines of two bytes": (b"ab\r\n", 6_000_000, 250),
    "empty lines": (b"\r\n", 6_000_000, 250),
    "no line end at all": (b"x", 60_000_000, 552),
    "a header without end": (b"A: b\r\n", 6_000_000, 552),
}


class Receiver:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        self.port = int(process.stdout.readline())

    @property
    def peak(self) -> int:
        """The most memory that the process ever had, in bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")


@contextmanager
def receiving(tree: Path, made: str = "", key: str = "") -> Iterator[Receiver]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, made, key], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tree
    ) as process:
        yield Receiver(process)
        process.stdin.close()


@pytest.fixture
def receiver(tree) -> Iterator[Receiver]:
    with receiving(tree) as process:
        yield process


def deliver(port: int, piece: bytes, size: int) -> int:
    """Sends one message of that size; the last code that is heard."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client, client.makefile("rb") as heard:
        heard.readline()
        client.sendall(BEGIN)
        while not heard.readline().startswith(b"354"):
            pass
        block = piece * (65536 // len(piece))
        try:
            for _ in range(size // len(block)):
                client.sendall(block)
            client.sendall(b"\r\n.\r\n")
        except ConnectionError:
            pass
        try:
            return int(heard.readline()[:3])
        except ConnectionError:
            return 552  # it went on sending for so long that the connection was reset


@pytest.mark.parametrize("name", LOADS)
def test_ten_at_once_need_two_mebibytes_each(receiver, name):
    piece, size, code = LOADS[name]
    assert deliver(receiver.port, b"x" * 76 + b"\r\n", 300_000) == 250
    before = receiver.peak
    heard: list[int] = []
    clients = [
        threading.Thread(target=lambda: heard.append(deliver(receiver.port, piece, size))) for _ in range(SESSIONS)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert heard == [code] * SESSIONS
    grown = receiver.peak - before
    assert grown <= ALLOWED, f"{grown / 1048576:.1f} MiB"


def test_a_thousand_idle_sessions_are_cheap(receiver):
    before = receiver.peak
    idle = [greeted(receiver.port, number) for number in range(1000)]
    assert (receiver.peak - before) / 1000 < 30 << 10
    for client in idle:
        client.close()


def test_idle_sessions_behind_tls_are_not_dear(tree, tmp_path):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def secured(port: int, number: int) -> ssl.SSLSocket:
        client = greeted(port, number)
        client.sendall(b"STARTTLS\r\n")
        assert client.recv(100).startswith(b"220")
        found = context.wrap_socket(client)
        found.sendall(b"NOOP\r\n")
        assert found.recv(100).startswith(b"250")
        return found

    with receiving(tree, *certificate(tmp_path)) as process:
        idle = [secured(process.port, number) for number in range(10)]
        before = process.peak
        idle += [secured(process.port, number) for number in range(10, 110)]
        assert (process.peak - before) / 100 < 120 << 10
        for client in idle:
            client.close()


def greeted(port: int, number: int) -> socket.socket:
    """A client that has said EHLO; forty come from one address."""
    client = socket.create_connection(("127.0.0.1", port), 20, (f"127.0.1.{1 + number // 40}", 0))
    with client.makefile("rb") as heard:
        assert heard.readline().startswith(b"220")
        client.sendall(b"EHLO c\r\n")
        while not heard.readline().startswith(b"250 "):
            pass
    return client
