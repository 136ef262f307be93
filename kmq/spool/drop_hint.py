"""The kernel's word that a file came into a drop directory: closed after writing, or renamed in. A hint, no more.

Promise:  a hint costs no look at the directory and comes within milliseconds, in the loop's thread. Whatever goes wrong
          (no inotify, its queue full, the directory gone) only means fewer hints; the looks at the directory find all.
On crash: nothing; the kernel forgets the watch with the process.
Callers:  run.drop_taking. Nobody else knows watchdog, of which the part below its events is used: those cannot tell a
          file that was renamed in from one that is just being written.
"""

import asyncio
import logging
import os
from collections.abc import Callable

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

_WANTED = Mask(
    InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
)


class Hints(WatchCallback):
    """Of one directory. OSError when the kernel has no watch to give (fs.inotify.max_user_watches, _instances).

    on_name: hears the name of each file. on_lost: hears, as a sentence, that hints were lost or that no more will come.
    """

    def __init__(self, path: str, on_name: Callable[[str], None], on_lost: Callable[[str], None]) -> None:
        self._on_name = on_name
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._closed = False
        logging.getLogger("watchdog").setLevel(logging.ERROR)  # what it warns of, we say ourselves
        self._kernel = InotifyFD()
        try:
            self._kernel.add_callback(os.fsencode(path), _WANTED, self, CallbackId(1))
        except OSError:
            self._kernel.start()  # it closes what it holds in its thread
            self._kernel.stop()
            raise
        self._kernel.start()

    @property
    def alive(self) -> bool:
        """Whether more hints can come."""
        return self._kernel.is_alive()

    def close(self) -> None:
        """No more hints."""
        self._closed = True
        self._kernel.stop()

    # --- in watchdog's thread ----------------------------------------------------------------------------------------

    def on_event(self, event: InotifyEvent) -> None:
        if not event.is_directory and (event.is_close_write or event.is_moved_to):
            self._say(self._on_name, os.fsdecode(event.name))

    def on_queue_overflow(self) -> None:
        self._say(self._on_lost, "so many files came at once that the kernel lost count of them")

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        self._say(self._on_lost, "the directory is gone, or not mounted any more")

    def _say(self, hears: Callable[[str], None], text: str) -> None:
        if not self._closed:
            try:
                self._loop.call_soon_threadsafe(hears, text)
            except RuntimeError:
                pass  # the loop is closed: the process ends
