"""What a Maildir holds, and whether more fits: the file `maildirsize` of Maildir++.

File:     a line with the quota (`1073741824S,10000C`), then lines of bytes and messages that were added; whoever adds
          appends one. It is made anew by a look at all names when it is missing, speaks of another quota, has grown
          long, or says that there is no room and is not of this minute.
Promise:  sizes in names (`,S=`) save a look at the file. What others take away at the same time may be counted a
          while longer: a quota is kept to within some messages, as the format has it.
On crash: a message that was not noted counts from the next look on.
Source:   http://www.courier-mta.org/imap/README.maildirquota.html
Callers:  phases.maildir, maildir_folders.
"""

import os
import re
from collections.abc import Iterator
from time import time
from typing import NamedTuple

from kmq.model.reply import Reply
from kmq.phases.storing import FOLDER, unlink, write_all

NAME = "maildirsize"
LONGEST = 5120  #: bytes of the file, above which it is made anew
OLD = 900.0  #: seconds after which it is made anew before anybody is refused

_SIZE = re.compile(r",S=(\d{1,18})(?:[,:]|$)").search
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Usage(NamedTuple):
    """What is there."""

    bytes: int
    messages: int


class Limits(NamedTuple):
    """What there may be, 0: no limit. final: what does not fit goes back at once."""

    bytes: int
    messages: int
    final: bool

    def __str__(self) -> str:
        parts = ((self.bytes, "S"), (self.messages, "C"))
        return ",".join(f"{limit}{unit}" for limit, unit in parts if limit)


def refusal(used: Usage, limits: Limits, size: int, where: str) -> Reply | None:
    """Why a message of so many bytes does not fit; None when it does."""
    if 0 < limits.bytes < size:
        return Reply(552, "5.2.3", f"the message alone is more than the quota, {limits.bytes} bytes ({where})")
    over = 0 < limits.bytes < used.bytes + max(size, 1)
    if not over and not 0 < limits.messages <= used.messages:
        return None
    held, quota = f"{used.bytes} bytes, {used.messages} messages", _in_words(limits)
    text = f"the mailbox is full: {held}, the quota is {quota} ({where})"
    return Reply(552, "5.2.2", text) if limits.final else Reply(452, "4.2.2", text)


def _in_words(limits: Limits) -> str:
    """For senders, who do not know what 10S and 1C are."""
    parts = ((limits.bytes, "bytes"), (limits.messages, "messages"))
    return ", ".join(f"{limit} {unit}" for limit, unit in parts if limit)


def usage(base: int, limits: Limits) -> Usage:
    """What the Maildir whose folder is open as `base` holds."""
    known = _read(base, limits)
    return known if known is not None else _count(base, limits)


def note(base: int, size: int) -> None:
    """A message of so many bytes came."""
    try:
        fd = os.open(NAME, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=base)
    except OSError:
        return  # the next look counts anew
    try:
        write_all(fd, b"%d 1\n" % size)
    except OSError:
        unlink(NAME, base)
    finally:
        os.close(fd)


# --- the file ---------------------------------------------------------------------------------------------------------


def _read(base: int, limits: Limits) -> Usage | None:
    """What the file says; None when it has to be made anew."""
    try:
        fd = os.open(NAME, _READ, dir_fd=base)
    except FileNotFoundError:
        return None
    try:
        text = os.read(fd, LONGEST + 1)
        age = time() - os.fstat(fd).st_mtime
    finally:
        os.close(fd)
    found = _understood(text, limits)
    if found is None:
        return None
    # Who is about to be refused is counted anew, unless that was just done.
    again = text.count(b"\n") > 2 or age > OLD
    return None if again and refusal(found, limits, 0, "") is not None else found


def _understood(text: bytes, limits: Limits) -> Usage | None:
    first, *lines = text.split(b"\n")
    if len(text) > LONGEST or first != str(limits).encode() or lines[-1:] != [b""]:
        return None
    size = messages = 0
    for line in lines[:-1]:
        words = line.split()
        try:
            more, number = map(int, words)
        except ValueError:
            return None
        size, messages = size + more, messages + number
    return Usage(max(size, 0), max(messages, 0))


def _count(base: int, limits: Limits) -> Usage:
    """A look at all names; it is kept when nothing changed meanwhile."""
    times = _times(base)
    size = messages = 0
    for fd in _folders(base):
        with os.scandir(fd) as entries:
            for entry in entries:
                if "T" not in entry.name.partition(":2,")[2]:  # thrown away (http://cr.yp.to/proto/maildir.html)
                    size += _size(entry)
                    messages += 1
    if _times(base) == times:
        _keep(base, limits, Usage(size, messages))
    return Usage(size, messages)


def _size(entry: "os.DirEntry[str]") -> int:
    told = _SIZE(entry.name)
    if told is not None:
        return int(told[1])
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0  # its name changed meanwhile: so the count is not kept


def _times(base: int) -> list[int]:
    return [os.fstat(fd).st_mtime_ns for fd in _folders(base)]


def _folders(base: int) -> Iterator[int]:
    """new and cur of the Maildir and its folders, each open for its turn. Trash does not count."""
    with os.scandir(base) as entries:
        inner = [one.name for one in entries if one.name[0] == "." and one.is_dir(follow_symlinks=False)]
    counted = ["", *(f"{name}/" for name in sorted(inner) if name != ".Trash")]
    for path in counted:
        for kind in ("new", "cur"):
            try:
                fd = os.open(path + kind, FOLDER, dir_fd=base)
            except OSError:
                continue
            try:
                yield fd
            finally:
                os.close(fd)


def _keep(base: int, limits: Limits, found: Usage) -> None:
    """Renamed into place, so that nobody reads half of it. What cannot be kept is counted again next time."""
    name = f"tmp/{time():.6f}.{os.getpid()}.{NAME}"
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=base)
        try:
            write_all(fd, b"%b\n%d %d\n" % (str(limits).encode(), *found))
        finally:
            os.close(fd)
        os.rename(name, NAME, src_dir_fd=base, dst_dir_fd=base)
    except OSError:
        unlink(name, base)
