"""A child of kmqd: what it is given, what it belongs to, and then what its role does until the end.

Promise:  what is wrong is in the log, and an exit status: 78 configuration or spool, 75 not now, 70 our own mistake. It
          begins nothing when its supervisor is dead already.
On crash: see run.supervisor; faulthandler tells where.
Callers:  cli.kmqd, by way of run.birth.
"""

import faulthandler
import gc
import os
import signal
import sys
import time
from collections.abc import Callable

from kmq import log
from kmq.errors import KmqError
from kmq.run import family, memory
from kmq.run.inheritance import Inheritance, inherit

#: What a role does from here to its end; -> its exit status.
Life = Callable[[], int]

#: Threads wait for the interpreter no longer than this, so that a sync which is done is heard of at once.
_SWITCH = 0.0005


def _scheduler(given: Inheritance, number: int, started: float) -> Life:
    from kmq.admin.control import Control
    from kmq.admin.rights import rights_of
    from kmq.run import queue

    rights = rights_of(given.settings.kmq)
    return lambda: queue.main(given, number, started, lambda ask: Control(ask, rights))


def _receiver(given: Inheritance, number: int, started: float) -> Life:
    from kmq.run import receiver

    return lambda: receiver.main(given, number, started)


def _worker(given: Inheritance, number: int, started: float) -> Life:
    from kmq.run import worker

    return lambda: worker.main(given, number, started)


def _pickup(given: Inheritance, number: int, started: float) -> Life:
    from kmq.run import pickup

    return lambda: pickup.main(given, number, started)


def _index(given: Inheritance, number: int, started: float) -> Life:
    from kmq.admin.looks import Looks
    from kmq.admin.rights import rights_of
    from kmq.run import indexer

    rights = rights_of(given.settings.kmq)
    return lambda: indexer.main(given, number, started, Looks(rights, given.settings))


_ROLES: dict[str, Callable[[Inheritance, int, float], Life]] = {
    "scheduler": _scheduler,
    "receiver": _receiver,
    "pickup": _pickup,
    "worker": _worker,
    "index": _index,
}


def read_modules() -> None:
    """Those that children need, in the process that they will be forked from."""
    import uvloop  # noqa: F401

    from kmq.admin import control, looks, rights  # noqa: F401
    from kmq.run import indexer, pickup, queue, receiver, worker  # noqa: F401


def live(role: str, number: int) -> int:
    """The whole life of a child; -> its exit status."""
    started = time.time()
    given = inherit()
    log.begin(f"{role}-{number}", given.settings.kmq)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor reads the configuration, for all of us
    faulthandler.enable()  # a crash, and the SIGABRT that ends a process which stands still, tell where
    sys.setswitchinterval(_SWITCH)
    run_directory = given.settings.kmq.run_directory
    membership = family.belong(run_directory, role)
    try:
        if not family.follow(given.life, run_directory, role):
            return 0
        life = _ROLES[role](given, number, started)
        gc.freeze()  # what is imported stays for ever: no collection needs to look at it
        memory.give_back()
        return life()
    except KmqError as error:
        for line in str(error).splitlines():
            log.error(line)
        return error.exit_status
    except Exception as error:
        log.error("our program failed, and this process ends", trace=log.traced(error))
        return os.EX_SOFTWARE
    finally:
        membership.close()
        log.flush()
