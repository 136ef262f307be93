"""A child of kmqd: what it is given, what it belongs to, and then what its role does until the end.

What:     reading this module reads all that children need. cli.kmqd does so ahead of the first fork, and they share it.
Promise:  what is wrong is in the log, and an exit status: 78 configuration or spool, 75 not now, 70 our own mistake. It
          begins nothing when its supervisor is dead already.
On crash: see run.supervisor; faulthandler tells where.
Callers:  cli.kmqd, by way of run.birth.
"""

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable

import uvloop  # noqa: F401  # each role imports it where it begins its loop: read here, it is shared, too

from kmq import log
from kmq.admin.control import Control
from kmq.admin.looks import Looks
from kmq.admin.rights import rights_of
from kmq.errors import KmqError
from kmq.run import family, indexer, pickup, queue, receiver, worker
from kmq.run.inheritance import Inheritance, inherit

#: Threads wait for the interpreter no longer than this, so that a sync which is done is heard of at once.
_SWITCH = 0.0005


def _scheduler(given: Inheritance, number: int, started: float) -> int:
    rights = rights_of(given.settings.kmq)
    return queue.main(given, number, started, lambda ask: Control(ask, rights))


def _index(given: Inheritance, number: int, started: float) -> int:
    looks = Looks(rights_of(given.settings.kmq), given.settings)
    return indexer.main(given, number, started, looks)


#: What a role does to its end; -> its exit status.
_ROLES: dict[str, Callable[[Inheritance, int, float], int]] = {
    "scheduler": _scheduler,
    "receiver": receiver.main,
    "pickup": pickup.main,
    "worker": worker.main,
    "index": _index,
}


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
        return _ROLES[role](given, number, started)
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
