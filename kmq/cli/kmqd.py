"""kmqd: the daemon. In a terminal it says where it listens and how to watch it; kmqd(8).

What:     reads the configuration and becomes the supervisor; with `--role`, which only the supervisor uses, becomes one
          of its children.
Promise:  what is wrong is one text on standard error and an exit status: 78 wrong configuration or spool, 75 not now
          (another kmqd is running), 2 wrong options.
On crash: see run.supervisor.
Callers:  people, systemd, run.supervisor.
"""

import argparse
import faulthandler
import gc
import os
import signal
import sys
import time
from collections.abc import Callable

from kmq import __version__, log
from kmq.config import Settings, embedded, load
from kmq.config.embedded import PATH as EMBEDDED_PATH
from kmq.config.kinds import write_endpoint
from kmq.errors import ConfigError, KmqError
from kmq.run import family, memory
from kmq.run.inheritance import Inheritance, inherit

#: What a child does from its birth to its end; -> its exit status.
Life = Callable[[], int]

#: Threads wait for the interpreter no longer than this, so that a sync which is done is heard of at once.
_SWITCH = 0.0005

#: What mail leaves behind is freed by counting; the collector's looks for cycles may be rare.
_COLLECT = (20_000, 50, 50)


def main() -> int:
    """The program."""
    arguments = _parser().parse_args()
    if arguments.role:
        return _child(arguments.role, arguments.number)
    try:
        settings = embedded() if arguments.trial else load(arguments.config)
        log.begin("kmqd", settings.kmq)
        if sys.stdout.isatty():
            print(welcome(settings), flush=True)
        from kmq.run import supervisor  # none of its children has to hold that

        return supervisor.main(settings)
    except ConfigError as error:
        hint = "" if arguments.config or arguments.trial else "\nkmqd --try needs no configuration: man kmqd"
        print(f"kmqd: {error}{hint}", file=sys.stderr)
        return error.exit_status
    except KmqError as error:
        print(f"kmqd: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    finally:
        log.flush()


def welcome(settings: Settings) -> str:
    """What a person who started kmqd by hand wants to know."""
    where = [write_endpoint(host, port) for section in settings.receivers for host, port in section.listen]
    given = "" if settings.path == EMBEDDED_PATH else f" -c {settings.path}"
    return "\n".join(
        [
            f"kmqd {__version__}",
            f"  SMTP on   {', '.join(where)}",
            f"  spool     {settings.kmq.spool}",
            f"  watch     kmq{given} mailq --watch    kmq{given} processes --watch    kmq{given} queues",
            "  stop      Ctrl-C",
            "",
        ]
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("kmqd", description="The kmq mail transfer agent; see kmqd(8).")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "-c", dest="config", metavar="FILE", help="the configuration (else $KMQ_CONF, then /etc/kmq/kmq.conf)"
    )
    which.add_argument(
        "--try", dest="trial", action="store_true", help="no file: listen on 127.0.0.1:2525, keep all in ./spool"
    )
    parser.add_argument("--version", action="version", version=f"kmqd {__version__}")
    parser.add_argument("--role", choices=sorted(_ROLES), help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=1, help=argparse.SUPPRESS)
    return parser


# --- a child ----------------------------------------------------------------------------------------------------------


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


def _child(role: str, number: int) -> int:
    """A process that the supervisor began."""
    started = time.time()
    given = inherit()
    if given is None:
        print("kmqd: --role is for kmqd itself, which begins its own children", file=sys.stderr)
        return 2
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


if __name__ == "__main__":
    sys.exit(main())
