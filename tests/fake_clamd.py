"""A clamd that says and does what a test wants, in threads of its own; it writes down what it was shown."""

import os
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

#: Moods behind which a session is over.
_LAST_WORDS = ("limits", "close", "hang", "mute", "garbage", "endless")


@dataclass
class FakeClamd:
    """mood: `ok`; `found NAME`; `error TEXT`; `limits`: size limit exceeded, before the end; `close`: in mid-stream;
    `hang`; `late NAME`: found, when it is released; `slow`: the reply byte by byte; `garbage`; `endless`; `mute`: it
    closes instead of answering; or `by text`: a text with `kmq-virus` in it is found, all else is fine.

    version: what it says of itself. shown: texts that it was shown, whole. most: questions at one time.
    sessions: connections that were to be kept; brief: answers of each of them, 0 for any; at the next question it ends.
    """

    path: Path
    mood: str = "by text"
    version: str = "ClamAV 1.4.6/27000/Sun Nov 22 08:00:00 2026"
    shown: list[bytes] = field(default_factory=list)
    versions: int = 0
    most: int = 0
    sessions: int = 0
    brief: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: "_Server | None" = None

    def start(self) -> None:
        self._server = _Server(str(self.path), _Conversation)
        self._server.fake = self
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Nobody listens any more, and the socket is gone; it may be started again."""
        self.released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            os.unlink(self.path)
        self.released = threading.Event()

    def release(self) -> None:
        """Who hangs now is let go, unanswered."""
        self.released.set()
        self.released = threading.Event()

    @contextmanager
    def running(self) -> Iterator["FakeClamd"]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def enter(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def leave(self) -> None:
        with self._lock:
            self._now -= 1

    @property
    def busy(self) -> int:
        return self._now


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    fake: FakeClamd


class _Conversation(socketserver.StreamRequestHandler):
    released: threading.Event

    def handle(self) -> None:
        fake = cast(_Server, self.server).fake
        self.released = fake.released  # who is counted is let go by the next release
        fake.enter()
        try:
            command = self._command()
            if command == b"zIDSESSION":
                self._session(fake)
            elif command == b"zVERSION":
                fake.versions += 1
                self.wfile.write(fake.version.encode() + b"\0")
            elif command == b"zINSTREAM":
                self._scan(fake, fake.mood)
            elif command:
                self.wfile.write(b"UNKNOWN COMMAND\0")
        except OSError:
            pass
        finally:
            fake.leave()

    def _session(self, fake: FakeClamd) -> None:
        """Question after question, until one is not answered as it should be; between two nobody is busy."""
        fake.sessions += 1
        number = 0
        fake.leave()
        while self._command() == b"zINSTREAM":
            number += 1
            if number - 1 == fake.brief > 0:
                break
            mood, self.released = fake.mood, fake.released
            fake.enter()
            try:
                self._scan(fake, mood, b"%d: " % number)
            finally:
                fake.leave()
            if mood.partition(" ")[0] in _LAST_WORDS:
                break
        fake.enter()

    def _command(self) -> bytes:
        found = b""
        while (sign := self.rfile.read(1)) not in (b"", b"\0"):
            found += sign
        return found

    def _scan(self, fake: FakeClamd, mood: str, number: bytes = b"") -> None:
        word, _, rest = mood.partition(" ")
        if word == "limits":
            self.rfile.read1(100)
            self.wfile.write(number + b"INSTREAM size limit exceeded. ERROR\0")
            return
        if word == "close":
            self.rfile.read1(50)
            return
        text = self._text()
        fake.shown.append(text)
        match word:
            case "hang":
                self.released.wait(120)
            case "late":
                self.released.wait(120)
                self.wfile.write(number + f"stream: {rest} FOUND\0".encode())
            case "mute":
                pass
            case "garbage":
                self.wfile.write(b"\x1b[2JHTTP/1.1 400 Bad Request\r\n\r\n\0")
            case "endless":
                while True:
                    self.wfile.write(b"x" * 65536)
            case "slow":
                for sign in number + b"stream: OK\0":
                    self.wfile.write(bytes((sign,)))
            case "found":
                self.wfile.write(number + f"stream: {rest} FOUND\0".encode())
            case "error":
                self.wfile.write(number + f"stream: {rest} ERROR\0".encode())
            case "by" if b"kmq-virus" in text:
                self.wfile.write(number + b"stream: Kmq.Test FOUND\0")
            case _:
                self.wfile.write(number + b"stream: OK\0")

    def _text(self) -> bytes:
        found: list[bytes] = []
        while True:
            (length,) = struct.unpack(">I", self.rfile.read(4).ljust(4, b"\0"))
            if not length:
                return b"".join(found)
            found.append(self.rfile.read(length))
