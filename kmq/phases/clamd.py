"""clamd's language (clamd(8), COMMANDS): a message is streamed to it, one line comes back.

Shape:    here a connection of its own for each question: `zINSTREAM`, chunks with their length ahead (32 bits,
          big-endian), an empty one, then the reply up to a zero byte. phases.clamd_session keeps connections.
Promise:  never more of the text in memory than a piece. What clamd answers is a value, also that it does not answer;
          only BodyDamaged, from who reads the text, is an exception. A reply that came although clamd closed the line
          in mid-stream is read: that is how it says that a message is too large.
Limits:   of time are the caller's.
Callers:  phases.antivirus_scanner, phases.clamd_session; admin.check_scanners asks for the version.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from enum import Enum
from struct import Struct
from typing import NamedTuple

from kmq.config.scanner import Peer
from kmq.phases.peers import Unanswered, connect, send

#: Bytes of a reply; clamd says a line.
REPLY_LIMIT = 16 << 10
_LENGTH = Struct(">I")
_COMMAND = b"zINSTREAM\0"
_END = _LENGTH.pack(0)
_OK = b"stream: OK"


class Result(Enum):
    """What a scan comes to; the value is the word in events and for people."""

    CLEAN = "clean"
    INFECTED = "infected"
    ENCRYPTED = "encrypted"
    UNSCANNABLE = "unscannable"


class Verdict(NamedTuple):
    """name: of the virus, or of clamd's reason; "" when it is clean."""

    result: Result
    name: str = ""

    def __str__(self) -> str:
        return f"{self.result.value}: {self.name}" if self.name else self.result.value


CLEAN = Verdict(Result.CLEAN)

#: Names that clamd finds instead of a virus, by their beginning (clamd.conf(5), AlertEncrypted and AlertExceedsMax).
_HEURISTICS = {
    "Heuristics.Encrypted.": Result.ENCRYPTED,
    "Heuristics.Limits.Exceeded": Result.UNSCANNABLE,
}


def verdict_of(reply: bytes) -> Verdict | Unanswered:
    """The verdict of a reply without its zero byte; what is none of clamd's is no answer."""
    if reply == _OK:
        return CLEAN
    text = "".join(chr(sign) if 32 <= sign < 127 else "?" for sign in reply.strip())
    if text.startswith("stream: ") and text.endswith(" FOUND") and len(text) > len("stream: FOUND"):
        name = text[len("stream: ") : -len(" FOUND")].strip()[:200]
        return Verdict(next((one for word, one in _HEURISTICS.items() if name.startswith(word)), Result.INFECTED), name)
    if text.startswith("INSTREAM size limit exceeded"):
        return Verdict(Result.UNSCANNABLE, "larger than clamd's StreamMaxLength")
    if text.endswith("ERROR"):
        return Unanswered(f"it says {text.removeprefix('stream: ')[:200]}")
    return Unanswered(f"it says nonsense: {text[:100]}" if text else "it closed the connection without an answer")


def instream(text: bytes) -> bytes:
    """The question about a text that is whole."""
    return b"".join((_COMMAND, _LENGTH.pack(len(text)), text, _END)) if text else _COMMAND + _END


async def scan(peer: Peer, pieces: AsyncIterator[bytes]) -> Verdict | Unanswered:
    """What clamd says of a text, in pieces of less than 4 GiB each."""
    said = await _asked(peer, _COMMAND, pieces)
    return said if isinstance(said, Unanswered) else verdict_of(said)


async def version(peer: Peer) -> str | Unanswered:
    """`ClamAV 1.4.6/27500/Fri Nov 20 ...`: of the program and of its signatures."""
    said = await _asked(peer, b"zVERSION\0")
    if isinstance(said, Unanswered):
        return said
    text = said.decode("ascii", "backslashreplace").strip()
    return text if text.startswith("ClamAV") else Unanswered(f"it is no clamd: it says {text[:100]!r}")


async def _asked(peer: Peer, question: bytes, pieces: AsyncIterator[bytes] | None = None) -> bytes | Unanswered:
    """The answer to a question; pieces: a text that follows it in chunks."""
    loop = asyncio.get_running_loop()
    line = await connect(loop, peer)
    if isinstance(line, Unanswered):
        return line
    with line:
        try:
            await send(loop, line, question)
            if pieces is not None:
                await _stream(loop, line, pieces)
        except ConnectionError:
            pass  # it may have said why
        return await _reply(loop, line)


async def _stream(loop: asyncio.AbstractEventLoop, line: socket.socket, pieces: AsyncIterator[bytes]) -> None:
    async for piece in pieces:
        if piece:
            await send(loop, line, _LENGTH.pack(len(piece)) + piece)
    await send(loop, line, _END)


async def _reply(loop: asyncio.AbstractEventLoop, line: socket.socket) -> bytes:
    """What it says up to a zero byte, or its last word."""
    found = b""
    while b"\0" not in found and len(found) < REPLY_LIMIT:
        try:
            piece = await loop.sock_recv(line, 4096)
        except ConnectionError:
            break
        if not piece:
            break
        found += piece
    return found.partition(b"\0")[0][:REPLY_LIMIT]
