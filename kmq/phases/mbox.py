"""Messages appended to an mbox. Everything here blocks; it is run in threads.

Promise:  a copy that counts as delivered stands in the file, synced, whole, and once as far as can be seen: a second
          run looks for the first one's copy by its name in the last TAIL bytes; what was delivered after it, or what a
          mail reader has taken away, may hide it, and then it comes again. What fails half-way is cut off again. No
          link is followed, and the file is nobody else's (one name, an ordinary file).
On crash: the `.lock` tells the next of ours how long the file was; the copies behind that say how long they are, and
          the one that is cut short goes (phases.mbox_lock, mbox_text). Where another program took the `.lock` away and
          wrote behind it, the piece stays, and the whole copy follows.
Callers:  phases.mboxes; whoever delivers as a user opens the folder himself (`append`).
"""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import time
from typing import Protocol

from kmq.model.reply import Reply
from kmq.phases.body import BodyDamaged
from kmq.phases.mbox_lock import Busy, Held, hold_file, hold_name, let_go
from kmq.phases.mbox_text import FIELD, Found, found_in, quoted, top
from kmq.phases.storing import Refused, opened_below, trouble, write_all

TAIL = 1 << 20  #: bytes at the end of the file in which an earlier copy is looked for
SMALL = 1 << 20  #: copies up to so many bytes are put together in memory, larger ones are read twice

_OPEN = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_COARSE = 2  # seconds: as in phases.maildir

_TOP_LIMIT = 2000  # bytes: the first two lines of a copy are less

NO_USER = Reply(550, "5.1.1", "no mailbox of that name here")


class Text(Protocol):
    """The bytes of a copy."""

    def pieces(self) -> Iterator[bytes]: ...


@dataclass(slots=True)
class Letter:
    """A recipient's copy.

    name:  of the copy; host: of this machine; sender: for the From_ line; created: Unix time of the message's ID.
    limit: bytes that the mbox may have, 0 for no limit; final: what does not fit goes back at once.
    reply, damaged: what became of it: one of them is set by `append`, unless somebody else has the file.
    """

    name: str
    host: str
    sender: str
    text: Text
    created: int
    limit: int = 0
    final: bool = False
    reply: Reply | None = None
    damaged: str = ""


def deliver(root: str, below: tuple[str, ...], create: bool, letters: Sequence[Letter]) -> str:
    """Appends to the mbox root/below; "" when each has its reply, else who has locked it: then nothing was done.

    create: make it when it is not there, and the folders on the way; otherwise nobody is there.
    """
    *folders, name = below
    try:
        folder = opened_below(root, tuple(folders), create)
    except FileNotFoundError as error:
        _judge(letters, trouble(error, "/".join(below)) if create or not os.path.isdir(root) else NO_USER)
        return ""
    except OSError as error:
        _judge(letters, trouble(error, "/".join(below)))
        return ""
    try:
        return append(folder, name, create, letters)
    finally:
        os.close(folder)


def append(folder: int, name: str, create: bool, letters: Sequence[Letter]) -> str:
    """The same for a file in a folder that is open."""
    try:
        fd = os.open(name, _OPEN | (os.O_CREAT if create else 0), 0o600, dir_fd=folder)
    except FileNotFoundError:
        _judge(letters, NO_USER)
        return ""
    except OSError as error:
        _judge(letters, trouble(error, name))
        return ""
    try:
        return _Mbox(folder, name, fd).append(letters)
    except OSError as error:
        _judge(letters, trouble(error, name))
        return ""
    finally:
        os.close(fd)


def _judge(letters: Sequence[Letter], reply: Reply) -> None:
    for letter in letters:
        letter.reply = letter.reply or (None if letter.damaged else reply)


class _Mbox:
    """One that is open."""

    def __init__(self, folder: int, name: str, fd: int) -> None:
        self._folder = folder
        self._name = name
        self._fd = fd
        self._length = 0
        self._begin = 0  # how long it was before anything of ours that is not synced

    def append(self, letters: Sequence[Letter]) -> str:
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            _judge(letters, Reply(451, "4.3.5", f"{self._name} is no file of its own"))
            return ""
        if not hold_file(self._fd):
            return "another program has locked it"
        if not self._is_still(found):
            return "another program has just put a new one in its place"
        held = hold_name(self._folder, self._name, letters[0].host, found.st_size)
        if isinstance(held, Busy):
            return held.by
        try:
            self._write(held, letters)
        finally:
            let_go(self._folder, held)
        return ""

    def _is_still(self, found: os.stat_result) -> bool:
        """Whether the name leads to the file that is locked: some readers write a new one and rename it."""
        try:
            now = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (now.st_ino, now.st_dev) == (found.st_ino, found.st_dev)

    def _write(self, held: Held, letters: Sequence[Letter]) -> None:
        now = os.fstat(self._fd)  # once more: now nobody else changes it
        self._length = self._begin = now.st_size
        if held.before is not None and held.before < now.st_size:
            self._mend(held.before)
        written = [letter for letter in letters if self._earlier(letter, now.st_mtime) or self._tried(letter)]
        try:
            os.fsync(self._fd)
            if not now.st_size:
                os.fsync(self._folder)  # it may have been made just now
        except OSError as error:
            self._cut(self._begin)
            for letter in written:
                letter.reply = trouble(error, self._name)

    def _tried(self, letter: Letter) -> bool:
        """Appends one copy; what comes of a failure is taken away at once."""
        begin = self._length
        try:
            self._one(letter)
        except BodyDamaged as damage:
            letter.damaged = str(damage)
        except Refused as refusal:
            letter.reply = refusal.reply
        except OSError as error:
            letter.reply = trouble(error, self._name)
        else:
            letter.reply = Reply(250, "2.0.0", f"delivered to {self._name}")
            return True
        self._cut(begin)
        return False

    def _one(self, letter: Letter) -> None:
        small: list[bytes] | None = []
        length = 0
        for piece in quoted(letter.text.pieces()):
            length += len(piece)
            if small is not None:
                small.append(piece)
            if length > SMALL:
                small = None
        head = self._gap() + top(letter.sender, letter.created, letter.name, length)
        self._room(letter, len(head) + length)
        if small is not None:
            self._put(b"".join([head, *small]))
            return
        self._put(head)
        for piece in quoted(letter.text.pieces()):
            self._put(piece)

    def _gap(self) -> bytes:
        """What is missing to the empty line that stands ahead of a From_ line."""
        last = os.pread(self._fd, 2, max(0, self._length - 2))
        if not last or last == b"\n\n":
            return b""
        return b"\n" if last[-1:] == b"\n" else b"\n\n"

    def _room(self, letter: Letter, size: int) -> None:
        if not letter.limit or self._length + size <= letter.limit:
            return
        if size > letter.limit:
            text = f"the message alone is more than the quota, {letter.limit} bytes ({self._name})"
            raise Refused(Reply(552, "5.2.3", text))
        text = f"the mailbox is full: {self._length} bytes, the quota is {letter.limit} bytes ({self._name})"
        raise Refused(Reply(552, "5.2.2", text) if letter.final else Reply(452, "4.2.2", text))

    def _put(self, text: bytes) -> None:
        write_all(self._fd, text)
        self._length += len(text)

    def _cut(self, length: int) -> None:
        try:
            if length < os.fstat(self._fd).st_size:
                os.ftruncate(self._fd, length)
        except OSError:
            pass  # the piece stays; the next copy begins behind it
        self._length = os.fstat(self._fd).st_size
        self._begin = min(self._begin, length)

    # --- what earlier runs left ---------------------------------------------------------------------------------------

    def _earlier(self, letter: Letter, changed: float) -> bool:
        """Whether the copy of an earlier run is there, whole; one that is cut short, and the last, is cut off."""
        if changed < letter.created - _COARSE and letter.created <= time():
            return False
        for found in self._copies(max(0, self._length - TAIL)):
            if found.name != letter.name.encode():
                continue
            if self._whole(found):
                letter.reply = Reply(250, "2.0.0", f"delivered to {self._name} (by an earlier attempt)")
                return True
            self._cut_short(found)
        return False

    def _mend(self, before: int) -> None:
        """Cuts off the copy that one of ours was writing when it died. What it had finished stays."""
        whole = before
        for found in self._copies(before):
            if not self._whole(found):
                return self._cut_short(found)
            whole = found.end
        if whole == before and self._unsaid(before):
            self._cut(before)
        return None

    def _unsaid(self, before: int) -> bool:
        """Whether what lies behind is the beginning of a copy that came not even to its name."""
        rest = os.pread(self._fd, _TOP_LIMIT, before).lstrip(b"\n")
        first, _, second = rest.partition(b"\n")
        if len(rest) == _TOP_LIMIT or b"\n" in second or not (second.startswith(FIELD) or FIELD.startswith(second)):
            return False
        return first[:5] == b"From "[: len(first)]

    def _whole(self, found: Found) -> bool:
        """Whether a copy is as long as it says, and no other message begins within."""
        return found.end <= self._length and not self._begins_another(found.begin + 2, found.end)

    def _cut_short(self, found: Found) -> None:
        """Cuts off a copy that is not whole, unless something was written behind it."""
        if not self._begins_another(found.begin + 2, self._length):
            self._cut(found.begin)

    def _begins_another(self, begin: int, end: int) -> bool:
        return any(b"\nFrom " in piece[: end - at] for piece, at in self._pieces(begin) if at < end)

    def _copies(self, begin: int) -> Iterator[Found]:
        """Copies of ours that begin at a place in the file or behind it; perhaps twice."""
        for piece, at in self._pieces(begin):
            yield from found_in(piece, at)

    def _pieces(self, begin: int) -> Iterator[tuple[bytes, int]]:
        """The file from the byte ahead of a place, in pieces that overlap; with the place of each."""
        at = max(0, begin - 1)
        while at < self._length:
            piece = os.pread(self._fd, TAIL + _TOP_LIMIT, at)
            yield piece, at
            if len(piece) <= _TOP_LIMIT:
                return
            at += len(piece) - _TOP_LIMIT
