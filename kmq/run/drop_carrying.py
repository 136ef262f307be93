"""One dropped file on its way into the queue: read, made a message of, and handed to the door.

Does:     the bytes go the way of those that SMTP brings (intake.arrival): small ones in one put, large ones streamed to
          incoming/. What the file's header says is the envelope.
Promise:  the put is sent only when the file is still what it was at the beginning. Memory: the header, and one piece.
          What was opened ends in the door's hands or is discarded, also when the taking is cancelled.
On crash: the file lies there as `.tmp`, and is taken up again, or finished when a record names it.
Callers:  run.drop_file.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import msgspec

from kmq.intake import deeds, dropped
from kmq.intake.arrival import Arrival
from kmq.intake.content import PIECE, Content
from kmq.intake.door import Answer, Door, DroppedFile, LargeBody
from kmq.intake.dropped import BadFile, Letter, Lines, Reader
from kmq.intake.priority import NOT_ASKED
from kmq.intake.transaction import Transaction
from kmq.model.reply import Reply

T = TypeVar("T")

CHANGED = Reply(450, "4.2.0", "The file was changed while it was read")


class File(NamedTuple):
    """What is to be read. pieces, unchanged: for a thread; user: its owner's name."""

    pieces: Iterator[bytes]
    unchanged: Callable[[], bool]
    dropped: DroppedFile
    user: str


class Limits(NamedTuple):
    """Of a message, in bytes. small_body: above this it is streamed; urgent: up to this it may be of high priority."""

    size: int
    line: int
    small_body: int
    urgent: int = NOT_ASKED


class Carried(NamedTuple):
    """What became of a file. id: of its durable message, "" when it was refused."""

    id: str
    letter: Letter
    size: int
    refused: Reply | None


class Carrying:
    """One file. door: where messages go; threads: in which files are read."""

    def __init__(self, door: Door, reader: Reader, limits: Limits, threads: ThreadPoolExecutor) -> None:
        self._door = door
        self._reader = reader
        self._limits = limits
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._large: LargeBody | None = None
        self._room = asyncio.Event()
        self._room.set()

    async def carry(self, file: File) -> Carried:
        """The message is durable, or refused for now; BadFile when it can never be one. OSError: the file cannot be
        read."""
        now = time.time()
        lines = Lines()
        header, rest, whole = await self._header(file, lines)
        letter = self._reader.read(header, file.user, now)
        name, inode, mtime_ns = file.dropped  # by which it is known again (J12)
        source = msgspec.structs.replace(letter.source, file=name, inode=inode, mtime_ns=mtime_ns)
        content = Content(self._limits.size, self._limits.line, self._reader.hop_limit, self._limits.urgent)
        transaction = Transaction(letter.sender, letter.recipients, source, letter.origin, now)
        arrival = Arrival(transaction, content, self._limits.small_body)
        try:
            refused = await self._feed(arrival, letter.header + b"\r\n" + rest, file)
            while refused is None and not whole:
                piece = await self._in_thread(next, file.pieces, b"")
                whole = not piece
                refused = await self._feed(arrival, lines.take(piece), file)
            if refused is None:
                lines.end()
                content.end_counted()
                refused = await self._feed(arrival, b"", file)
            return await self._hand_over(arrival, letter, file, refused)
        finally:
            self._discard()

    async def _header(self, file: File, lines: Lines) -> tuple[bytes, bytes, bool]:
        """The header, what was read behind it, and whether that is all."""
        text = b""
        while True:
            piece = await self._in_thread(next, file.pieces, b"")
            text += lines.take(piece)
            parts = dropped.cut(text, not piece, self._reader.header_limit)
            if parts is not None:
                return *parts, not piece

    async def _feed(self, arrival: Arrival, text: bytes, file: File) -> Reply | None:
        """More of the message; -> why the door gives it no place."""
        for at in range(0, len(text) or 1, PIECE):
            if text:
                arrival.content.counted(text[at : at + PIECE])
            for deed in arrival.go_on():
                refused = await self._do(deed, arrival, file)
                if refused is not None:
                    return refused
        fault = arrival.fault()
        if fault:
            raise BadFile(fault.decode().strip().split(" ", 2)[-1])
        return None

    async def _do(self, deed: deeds.AnyDeed, arrival: Arrival, file: File) -> Reply | None:
        match deed:
            case deeds.Reserve():
                name, refused = await self._answer(self._door.reserve)
                if refused is not None:
                    return refused
                for one in arrival.reserved(name, time.time()):
                    await self._do(one, arrival, file)
            case deeds.Open():
                self._large = self._door.open_large(self._room.set, file.dropped)
            case deeds.Write():
                assert self._large is not None, "Open comes before Write"
                if not self._large.write(deed.piece):
                    self._room.clear()
                await self._room.wait()
            case deeds.Discard():
                self._discard()
        return None

    async def _hand_over(self, arrival: Arrival, letter: Letter, file: File, refused: Reply | None) -> Carried:
        size = arrival.content.size
        if refused is None and not await self._in_thread(file.unchanged):
            refused = CHANGED
        if refused is not None:
            return Carried("", letter, size, refused)
        deed = arrival.hand_over(time.time())
        if isinstance(deed, deeds.Put):
            name, refused = await self._answer(
                lambda answer: self._door.put(deed.raw, deed.tail, deed.count, deed.stamp, answer, file.dropped)
            )
            return Carried(name, letter, size, refused)
        large, self._large = self._large, None
        assert large is not None, "Write comes before PutLarge"
        name, refused = await self._answer(
            lambda answer: self._door.put_large(deed.queue_id, deed.tail, deed.count, deed.sha256, large, answer)
        )
        return Carried(name, letter, size, refused)

    async def _answer(self, ask: Callable[[Answer], None]) -> tuple[str, Reply | None]:
        future: asyncio.Future[tuple[str, Reply | None]] = self._loop.create_future()

        def answered(queue_id: str, refused: Reply | None) -> None:
            if not future.done():
                future.set_result((queue_id, refused))

        ask(answered)
        return await future

    async def _in_thread(self, work: Callable[..., T], *given: object) -> T:
        return await self._loop.run_in_executor(self._threads, work, *given)

    def _discard(self) -> None:
        large, self._large = self._large, None
        if large is not None:
            large.discard()
