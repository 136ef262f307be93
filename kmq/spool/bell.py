"""Hears that something has changed in kmqd: the kernel's word, so that who watches need not look in vain.

What:     a process sets its status file's times when more than its beat has changed (spool/status); the kernel tells
          who watches the folder (IN_ATTRIB), also of status files that come and go, and that the last writer of one is
          gone, however it died (IN_CLOSE_WRITE). Beats are writes without any of these, so an idle kmqd is silent.
Promise:  a change is heard also when it came while nobody listened. Needs no more than the right to read the folder.
          Reading status files rings nothing.
On crash: the kernel forgets the watch with the process.
Callers:  kmq.view.watch.
"""

import ctypes
import os
import struct
from pathlib import Path
from typing import Final

from kmq.errors import SpoolError

_ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x4, 0x8, 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _ONLYDIR = 0x4000, 0x8000, 0x01000000
_WANTED: Final = _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLYDIR

#: struct inotify_event without its name: watch, mask, cookie, length of the name.
_EVENT: Final = struct.Struct("iIII")

#: Files beside the status files change for other reasons: locks are opened by who only looks.
_NAMES: Final = (b".status", b".dead")


class Bell:
    """Listens to one status folder. SpoolError, with the reason, when the kernel has no watch to give."""

    def __init__(self, folder: Path) -> None:
        self._fd = -1
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            watch = libc.inotify_add_watch(self._fd, os.fsencode(folder), _WANTED) if self._fd >= 0 else -1
        except AttributeError:
            raise SpoolError("this system has no inotify") from None
        if watch < 0:
            why = os.strerror(ctypes.get_errno())
            self.close()
            raise SpoolError(f"{folder}: the kernel tells nothing of it: {why}")

    def fileno(self) -> int:
        """For poll: readable when there may be something to hear."""
        return self._fd

    def rang(self) -> bool:
        """Whether something has changed since the last call; SpoolError when the folder is gone."""
        found = False
        while events := self._read():
            found = _tells(events) or found
        return found

    def close(self) -> None:
        """Listens no longer."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> bytes:
        try:
            return os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return b""


def _tells(events: bytes) -> bool:
    """Whether one of these events is of a status file, or of any that the kernel lost count of."""
    at, found = 0, False
    while at < len(events):
        _, mask, _, length = _EVENT.unpack_from(events, at)
        at += _EVENT.size
        if mask & _IGNORED:
            raise SpoolError("the status folder is gone")
        found = found or bool(mask & _OVERFLOW) or events[at : at + length].rstrip(b"\0").endswith(_NAMES)
        at += length
    return found
