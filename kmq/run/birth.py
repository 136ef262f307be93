"""How a child begins: it is forked from the supervisor, which has read all modules by then.

What:     `bear` gives a process of its own to what a child does from its birth to its end. It shares with its parent
          and brothers the memory in which the modules lie. So all of them run the very program that kmqd was started
          with, whatever an upgrade has done to the files meanwhile; not so examiners, which workers begin from the
          files (phases/examiner_child).
Promise:  a child has standard output and error, the descriptors that are its share, and no other of its parent's. It
          has a process group of its own, since Ctrl-C in a terminal is the supervisor's; it ignores SIGINT, and hears
          other signals as a program does that was just begun. It never comes back into what its parent was about to
          do: `os._exit` ends it, so that no object of its parent's is taken apart in it (a lock that is released here
          would be released there).
On crash: of a child: its parent reaps it. The parent has one thread, so nobody's lock stays locked in a child.
Callers:  run/children, below a callback of the supervisor's loop.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

from kmq import log
from kmq.run import rotation, title

#: What a child does from its birth to its end, by role and number; -> its exit status.
Live = Callable[[str, int], int]

#: Those that the supervisor listens for.
_HEARD = (signal.SIGTERM, signal.SIGHUP, rotation.ROTATED)


def bear(
    role: str, number: int, live: Live, surroundings: Mapping[str, str], share: Collection[int]
) -> tuple[int, int]:
    """Begins a child; -> its pid, and a descriptor that tells of its end. share: its descriptors; surroundings: what
    its environment has beside ours. OSError when there is no room for another process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _be_born(role, number, live, surroundings, share, before | {rotation.ROTATED})
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        return pid, os.pidfd_open(pid)
    except OSError:  # nobody would hear of its end
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _be_born(
    role: str, number: int, live: Live, surroundings: Mapping[str, str], share: Collection[int], mask: set[int]
) -> NoReturn:
    status = os.EX_SOFTWARE
    try:
        gc.freeze()  # what is our parent's is never looked at, nor taken apart
        os.setpgid(0, 0)
        _hear_as_new(mask)
        _close_others({*share, *log.anew()})
        os.environ.update(surroundings)
        title.call(role, number)
        status = live(role, number)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else os.EX_SOFTWARE
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing does: what threads do is done
            log.flush()
        finally:
            os._exit(status)


def _hear_as_new(mask: set[int]) -> None:
    """Our parent's loop is not ours, and neither is what it listens for."""
    signal.set_wakeup_fd(-1)
    for number in _HEARD:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for kmqd, but we were in its process group until now
    asyncio._set_running_loop(None)
    asyncio.set_event_loop(None)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _close_others(share: Collection[int]) -> None:
    """Standard input says nothing; output and error stay, and what is our share."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    below = 3
    for fd in sorted(share):
        os.closerange(below, fd)
        below = fd + 1
    os.closerange(below, os.sysconf("SC_OPEN_MAX"))
