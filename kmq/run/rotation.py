"""SIGUSR1: the log's file was renamed, and the next line goes to the one that has its name now.

Promise:  every process heeds it and none dies of it: the supervisor ignores it until its loop hears it, and a child is
          born deaf to it, until it heeds it; whoever is born after the renaming opens the new file anyway.
On crash: see kmq.log.
Callers:  the supervisor, which passes it on to its children, and each child in its loop.
"""

import asyncio
import signal
from collections.abc import Callable

from kmq import log

ROTATED = signal.SIGUSR1


def heed(loop: asyncio.AbstractEventLoop, rotated: Callable[[], object] = log.reopen) -> None:
    """From now on this process opens its log anew; call it in the loop's thread."""
    loop.add_signal_handler(ROTATED, rotated)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {ROTATED})
