"""A milter that does what a test says, over the real protocol: each command is answered as the script has it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from struct import pack, unpack
from threading import Thread

OPTIONS = b"O"
CONTINUE = (b"c", b"")


def change(kind: bytes, *words: str, place: int | None = None) -> tuple[bytes, bytes]:
    """A packet of a change: place (for headers) and words, each with its NUL."""
    return kind, (b"" if place is None else pack("!I", place)) + b"".join(one.encode() + b"\0" for one in words)


@dataclass
class FakeMilter:
    """script: command -> packets that answer it; what is not there is answered by `continue`.

    steps: bits of the protocol that it asks for. heard: (command, rest) of all, macros included. moody: called with
    each command and the writer, ahead of the answer; may answer in a way of its own, and says so by True.
    """

    script: dict[bytes, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    steps: int = 0
    version: int = 6
    moody: Callable[[bytes, asyncio.StreamWriter], bool] = lambda command, writer: False
    heard: list[tuple[bytes, bytes]] = field(default_factory=list)
    silent: frozenset[bytes] = frozenset({b"D", b"A", b"Q"})
    address: str = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = unpack("!I", await reader.readexactly(4))
                text = await reader.readexactly(length)
                command, rest = text[:1], text[1:]
                self.heard.append((command, rest))
                if self.moody(command, writer) or command in self.silent:
                    continue
                if command == OPTIONS:
                    self._say(writer, OPTIONS, pack("!III", self.version, 0x1FF, self.steps))
                    continue
                for kind, body in self.script.get(command, [CONTINUE]):
                    self._say(writer, kind, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @staticmethod
    def _say(writer: asyncio.StreamWriter, kind: bytes, text: bytes) -> None:
        writer.write(pack("!I", len(text) + 1) + kind + text)

    def of(self, command: bytes) -> list[bytes]:
        """What came with a command."""
        return [rest for one, rest in self.heard if one == command]

    @contextmanager
    def listening(self, path: str) -> Iterator["FakeMilter"]:
        """On a Unix socket, in a thread of its own."""
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_unix_server(self._serve, path))
        thread = Thread(target=loop.run_forever, daemon=True)
        thread.start()
        self.address = path
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(server.close)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
