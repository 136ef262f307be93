"""Frames over a Unix stream socket: how the processes of kmq speak to each other.

What:     `Link` is one connection, from either side; `connect` finds the other side and waits for it for ever.
Promise:  all frames sent within one turn of the loop leave in one write. Whatever the other side wrote is handed over
          before `on_end` is called, also when it is dead and the end was noticed by a write that failed (J9). `on_end`
          is called once, and no frame comes after it.
Bounds:   `full` says when to stop sending for a while; a side that lets 64 MiB wait for it is cut off.
On crash: what was sent and not read is lost; who needs an answer asks again over the next connection (J10).
Callers:  the scheduler process, workers, receivers and the supervisor, each in its own loop's thread.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from kmq import log
from kmq.model.frame import HEAD_LIMIT, RAW_LIMIT, AnyFrame, BrokenFrame, Frame, Reader, head

HIGH = 4 << 20
LOW = 1 << 20
HARD = 64 << 20
_READ = 1 << 18
_LARGE = 4096  #: bytes of a part above which it is not worth a copy
_FIRST_WAIT, _LONGEST_WAIT = 0.010, 1.0
_CREDENTIALS = struct.Struct("3i")
_PATH_LIMIT = 107  #: sun_path without its final NUL


class Link(asyncio.Protocol):
    """One connection. on_room: called when a link that was `full` takes frames again."""

    def __init__(
        self,
        on_frame: Callable[["Link", AnyFrame, bytes], None],
        on_end: Callable[["Link"], None],
        on_room: Callable[["Link"], None] | None = None,
    ) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._on_room = on_room
        self._reader = Reader()
        self._parts: list[bytes] = []
        self._pending = 0
        self._paused = False
        self._transport: asyncio.Transport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: socket.socket | None = None

    # --- what its owner does -----------------------------------------------------------------------------------------

    def send(self, frame: Frame, raw: bytes = b"", more: bytes = b"") -> bool:
        """Sends the frame with what else is sent in this turn of the loop; False when there is no connection.

        raw, more: its raw bytes, in two parts where whoever has them has them so.
        """
        if self._loop is None:
            return False
        size = len(raw) + len(more)
        text = head(frame, size)
        length = len(text)
        assert length <= HEAD_LIMIT + 8 and size <= RAW_LIMIT, "the other side would cut us off"
        parts = self._parts
        if not parts:
            self._loop.call_soon(self._write)
        parts.append(text)
        if size:
            parts += (raw, more) if more else (raw,)
        self._pending += length + size
        return True

    @property
    def open(self) -> bool:
        """There is a connection, and `send` will take a frame."""
        return self._loop is not None

    @property
    def full(self) -> bool:
        """So much waits for the other side that nothing more should be sent until `on_room` is called."""
        return self._paused or self._pending > HIGH

    async def connect(self, path: str | os.PathLike[str]) -> None:
        """Connects to the listening socket at `path`; tries for ever, with a pause of 10 ms that grows to 1 s.

        The supervisor holds the listening socket, so this succeeds also while no scheduler process lives: the
        connection waits in the backlog for the next one.
        """
        wait = _FIRST_WAIT
        while (ready := _connected(Path(path))) is None:
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ready)

    def close(self) -> None:
        """Sends what waits, then ends the connection; frames that the other side still sends are not read."""
        if self._transport is not None:
            self._write()
            self._loop = None
            self._forget_socket()
            self._transport.close()

    def abort(self) -> None:
        """Ends the connection at once, whatever waits."""
        if self._transport is not None:
            self._loop = None
            self._forget_socket()
            self._transport.abort()

    @property
    def peer(self) -> int:
        """The process number of the other side, as the kernel says it; 0 when the connection has ended."""
        if self._socket is None:
            return 0
        text = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(text)[0])

    # --- what the loop does ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(HIGH, LOW)
        self._loop = asyncio.get_running_loop()
        # A descriptor of our own: transports close theirs unread when a write fails, and J9 wants the rest.
        self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
        except BrokenFrame as error:
            log.warning("a connection between processes is cut off", peer=self.peer, why=str(error))
            self.abort()
            return
        on_frame = self._on_frame
        try:
            for frame, raw in frames:
                on_frame(self, frame, raw)
        except BaseException:
            self._forget_socket()  # the frames behind this one are gone with it: later ones would come out of order
            raise

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._on_room is not None and self._loop is not None:
            self._on_room(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._loop = None
        self._parts.clear()
        self._pending = 0
        try:
            self._read_the_rest()
        finally:
            self._forget_socket()
            self._transport = None
            self._on_end(self)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        """One write for all that was sent since the last one."""
        if not self._parts or self._transport is None or self._loop is None:
            return
        parts, pending, was_full = self._parts, self._pending, self._pending > HIGH
        self._parts, self._pending = [], 0
        if pending > _LARGE * len(parts):
            self._transport.writelines(parts)  # the kernel gathers them: that costs more than a copy of small ones
        else:
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
        if not self._paused:
            if was_full and self._on_room is not None:
                self._on_room(self)
        elif self._transport.get_write_buffer_size() > HARD:
            log.warning("a process does not read what it is sent, its connection is cut off", peer=self.peer)
            self._transport.abort()

    def _read_the_rest(self) -> None:
        """Hands over what lies unread in the socket; nothing when we ended the connection ourselves."""
        while self._socket is not None:
            try:
                data = self._socket.recv(_READ, socket.MSG_DONTWAIT)
            except OSError:  # nothing more now (the other side lives), or reset after the last byte was read
                return
            if not data:
                return
            self.data_received(data)

    def _forget_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connected(path: Path) -> socket.socket | None:
    """A connected socket, or None when nobody listens or the backlog is full (which EAGAIN means here)."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        with unix_name(path) as name:
            one.connect(name)
    except OSError:
        one.close()
        return None
    return one


@contextmanager
def unix_name(path: Path) -> Iterator[str]:
    """A name by which `path` can be bound or connected to; the kernel's limit of 107 bytes does not count."""
    text = str(path)
    if len(os.fsencode(text)) <= _PATH_LIMIT:
        yield text
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
