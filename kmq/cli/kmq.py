"""`kmq`: everything an operator does. kmq(1)

Promise:  exit status 0 done, 1 nothing matched or refused, 2 usage, 75 kmqd not reachable, 78 configuration or spool
          wrong. Errors say what happened and what can be done. A verb's module is imported when the verb is used.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence

from kmq.cli import servers
from kmq.cli.call import Call
from kmq.cli.parser import VERBS, needed, parser, signed
from kmq.errors import KmqError
from kmq.view.words import harmless_lines

_INTERRUPTED = 130
_PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = parser(needed(words)).parse_args(signed(words))
    call = Call(arguments, arguments.json, sys.stdout)
    return _concluded(lambda: _look_or_act(call, words))


def carried_out(call: Call) -> int:
    """What is wanted, done by this process with its own rights; -> the exit status."""
    return _concluded(lambda: _carry_out(call))


def _look_or_act(call: Call, words: Sequence[str]) -> int:
    """Who may see the queue and cannot read it has kmqd look, while it runs."""
    if os.geteuid():
        from kmq.cli import afar

        if afar.is_needed(call) and (status := afar.look(call, words)) is not None:
            return status
    return _carry_out(call)


def _carry_out(call: Call) -> int:
    servers.check(call)
    verb = importlib.import_module(f"kmq.cli.{VERBS[call.arguments.verb].module}")
    status: int = verb.run(call)
    return status


def _concluded(deed: Callable[[], int]) -> int:
    """The exit status of a deed, also of one that goes wrong; then it has been said why."""
    try:
        status = deed()
        sys.stdout.flush()
    except KmqError as error:
        print(f"kmq: {harmless_lines(str(error))}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # The reader has seen enough; what Python would still flush at its end must go nowhere.
        os.dup2(os.open(os.devnull, os.O_RDWR), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


if __name__ == "__main__":
    sys.exit(main())
