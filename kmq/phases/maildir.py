"""Files of messages in Maildirs: tmp/, sync, new/, sync. Everything here blocks; it is run in threads.

Promise:  a copy that counts as delivered is durable under its name in new/ (or where a mail reader has moved it), whole
          and once: the name follows from the message's ID and the recipient's index, so a second run finds the first.
          No step below the root of the Maildirs follows a link. What cannot be done is a temporary reply.
On crash: before the link into new/ nobody has seen the copy, and the next run replaces what lies in tmp/. After it the
          next run finds it. What a mail reader has deleted or moved elsewhere in between comes again.
Callers:  phases.mailbox; whoever delivers as a user opens the Maildir's folder himself (`put`).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import time
from typing import Protocol

from kmq.model.reply import Reply
from kmq.phases import maildir_quota
from kmq.phases.body import BodyDamaged
from kmq.phases.maildir_folders import Box, Maildir
from kmq.phases.maildir_quota import Limits
from kmq.phases.storing import Refused, opened_below, trouble, unlink, write_all

GROUP = 16  #: copies whose syncs share the file system's commits; each has a file open meanwhile

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COARSE = 2  # seconds: the kernel's clock for mtimes is behind the one that IDs are made of

NO_USER = Reply(550, "5.1.1", "no mailbox of that name here")


class Text(Protocol):
    """The bytes of a copy."""

    def pieces(self) -> Iterator[bytes]: ...


@dataclass(slots=True)
class Copy:
    """One recipient's file of a message.

    root:    the folder of all Maildirs; below: the path from there to the recipient's.
    create:  make the Maildir when it is not there; otherwise the recipient is unknown.
    name:    of the file; sized: with its sizes behind; created: Unix time of the message's ID.
    folder:  what stands behind the `+` of the address; create_folder: make it when it is not there.
    limits:  what the Maildir may hold; least: bytes that the copy has at least.
    reply, damaged: what became of it: one of them is set by `deliver`.
    """

    root: str
    below: tuple[str, ...]
    create: bool
    name: str
    text: Text
    created: int
    folder: str = ""
    create_folder: bool = False
    sized: bool = False
    limits: Limits | None = None
    least: int = 0
    reply: Reply | None = None
    damaged: str = ""
    maildir: Maildir | None = None
    box: Box | None = None
    fd: int = -1
    final: str = ""
    size: int = 0

    def where(self, found: str) -> str:
        box = self.box.path if self.box is not None else ""
        return "/".join(part for part in (*self.below, box, found) if part)


def deliver(copies: Sequence[Copy]) -> None:
    """Delivers all of them; each has its reply, or `damaged`, afterwards."""
    for start in range(0, len(copies), GROUP):
        _Group(copies[start : start + GROUP]).deliver()


def put(base: int, copy: Copy) -> Reply:
    """Delivers one copy into the Maildir whose folder is open as `base`, which is closed."""
    _Group([copy], Maildir(base)).deliver()
    return copy.reply or Reply(451, "4.3.0", copy.damaged)


class _Group:
    """Some copies, each step for all of them before the next one. maildir: that of all, else each is opened."""

    def __init__(self, copies: Sequence[Copy], maildir: Maildir | None = None) -> None:
        self._copies = copies
        self._maildirs: dict[tuple[str, tuple[str, ...]], Maildir] = {}
        if maildir is not None:
            self._maildirs = {(copy.root, copy.below): maildir for copy in copies}

    def deliver(self) -> None:
        try:
            for copy in self._copies:
                self._step(copy, self._write)
            for copy in self._copies:
                self._step(copy, self._sync)
            for copy in self._copies:
                self._step(copy, self._link)
            self._sync_new()
        finally:
            for maildir in self._maildirs.values():
                maildir.close()

    def _step(self, copy: Copy, step: Callable[[Copy], None]) -> None:
        if copy.reply is not None or copy.damaged:
            return
        try:
            step(copy)
        except BodyDamaged as damage:
            copy.damaged = str(damage)
        except Refused as refusal:
            copy.reply = refusal.reply
        except OSError as error:
            copy.reply = trouble(error, "/".join(copy.below))
        if copy.reply is not None or copy.damaged:
            self._clear(copy)

    def _clear(self, copy: Copy) -> None:
        """What was begun and does not count is taken away; what remains of it is replaced by the next run."""
        if copy.fd >= 0:
            os.close(copy.fd)
            copy.fd = -1
            unlink(copy.name, copy.box.tmp if copy.box else -1)

    def _write(self, copy: Copy) -> None:
        maildir = copy.maildir = self._open(copy)
        if maildir is None:
            copy.reply = NO_USER
            return
        copy.box = box = maildir.box(copy.folder, copy.create_folder)
        unlink(copy.name, box.tmp)  # of a run that died
        if self._earlier(copy, maildir):
            return
        if copy.limits is not None:
            maildir.look(copy.limits, copy.least, copy.where(""))
        copy.fd = os.open(copy.name, _NEW, 0o600, dir_fd=box.tmp)
        if os.geteuid() == 0:
            os.fchown(copy.fd, *maildir.owner)
        lines = 0
        for piece in copy.text.pieces():
            write_all(copy.fd, piece)
            copy.size += len(piece)
            lines += piece.count(b"\n") if copy.sized else 0
        copy.final = f"{copy.name},S={copy.size},W={copy.size + lines}" if copy.sized else copy.name
        if copy.limits is not None:
            maildir.take(copy.limits, copy.size, copy.where(""))

    def _earlier(self, copy: Copy, maildir: Maildir) -> bool:
        """Whether an earlier run's copy is there, in the folder that is meant now, or where it goes without that."""
        inbox = maildir.box("", make=False)
        for box in dict.fromkeys((copy.box or inbox, inbox)):
            found = earlier(box, copy.name, copy.created, copy.sized)
            if found:
                # The first run may not have come to it.
                os.fsync(box.new if found.startswith("new/") else box.cur)
                copy.box = box
                copy.reply = Reply(250, "2.0.0", f"delivered to {copy.where(found)} (by an earlier attempt)")
                return True
        return False

    def _open(self, copy: Copy) -> Maildir | None:
        key = copy.root, copy.below
        maildir = self._maildirs.get(key)
        if maildir is None:
            try:
                maildir = self._maildirs[key] = Maildir(opened_below(copy.root, copy.below, copy.create))
            except FileNotFoundError:
                if copy.create or not os.path.isdir(copy.root):
                    raise  # the whole root is away: not mounted, perhaps
                return None
        return maildir

    def _sync(self, copy: Copy) -> None:
        # A sync that failed is not tried again (the kernel calls the lost pages clean); the next run writes a new file.
        os.fsync(copy.fd)

    def _link(self, copy: Copy) -> None:
        box = copy.box
        assert box is not None, "a copy is written before it is linked"
        try:
            os.link(copy.name, copy.final, src_dir_fd=box.tmp, dst_dir_fd=box.new, follow_symlinks=False)
        finally:
            unlink(copy.name, box.tmp)
            os.close(copy.fd)
            copy.fd = -1

    def _sync_new(self) -> None:
        """One sync for each folder makes the names durable."""
        linked = [copy for copy in self._copies if copy.reply is None and not copy.damaged]
        troubles: dict[Box | None, OSError] = {}
        for box in {copy.box for copy in linked if copy.box is not None}:
            try:
                os.fsync(box.new)
            except OSError as error:
                troubles[box] = error
        for copy in linked:
            failed = troubles.get(copy.box)
            if failed is None:
                copy.reply = Reply(250, "2.0.0", f"delivered to {copy.where('new/' + copy.final)}")
                if copy.limits is not None and copy.maildir is not None:
                    maildir_quota.note(copy.maildir.base, copy.size)
            elif copy.box is not None:
                unlink(copy.final, copy.box.new)
                copy.reply = trouble(failed, "/".join(copy.below))


def earlier(box: Box, name: str, created: int, sized: bool = False) -> str | None:
    """Where an earlier run's copy lies, as new/<name> or cur/<name with flags>; None when there is none.

    cur/ may hold a hundred thousand files, and nearly always needs no look: only if something was moved into it since
    the message came (or the clock is behind the message's ID, so that this cannot be known). The same holds for new/
    where the name has a size behind it, which another run may have found to be another.
    """
    try:
        os.stat(name, dir_fd=box.new, follow_symlinks=False)
        return f"new/{name}"
    except FileNotFoundError:
        pass
    for folder, fd in (("new", box.new), ("cur", box.cur))[not sized :]:
        if os.fstat(fd).st_mtime < created - _COARSE and created <= time():
            continue
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.name.startswith(name) and entry.name[len(name) : len(name) + 1] in ("", ":", ","):
                    return f"{folder}/{entry.name}"
    return None
