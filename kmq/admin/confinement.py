"""A piece of our own work done in a child that can harm nobody: what it says, or what became of it.

Promise:  the child has no network, may change no file, begin no process, and has limits of memory, processor time and
          time; it runs as nobody when we are root. What holds on this kernel is told (`Ending.lacking`). However it
          ends, it is an Ending, with the place where it stood when that can be known. Nothing of it is left.
On crash: of ours: the child ends by its own clock.
Callers:  admin.poison. Not from a process with threads.
"""

import faulthandler
import json
import os
import resource
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple, NoReturn

from kmq.jail import leaving, syscalls
from kmq.jail.leaving import NOBODY as NOBODY

#: Bytes that a child may say; the rest is thrown away.
_SAID_LIMIT = 256 << 10
#: Seconds that it has to end after its time is over.
_GRACE = 2.0


class Fate(Enum):
    """How a child ended; the value is the word for people."""

    PASSED = "passed"
    FAILED = "failed"  #: an exception of our own program
    CRASHED = "crashed"  #: a signal
    HUNG = "hangs"
    MEMORY = "needs too much memory"


class Limits(NamedTuple):
    """seconds: of time, and of processor time; memory: bytes beyond what the child begins with."""

    seconds: float = 30.0
    memory: int = 512 << 20


class Ending(NamedTuple):
    """said: what the work returned; cause: `SIGSEGV`, the exception; trace: where it stood; lacking: what of the
    confinement this kernel did not grant."""

    fate: Fate
    said: list[str]
    cause: str = ""
    trace: str = ""
    lacking: tuple[str, ...] = ()
    took: float = 0.0


def confined(work: Callable[[], list[str]], limits: Limits) -> Ending:
    """Does the work in a child of its own, and waits for it."""
    began = time.monotonic()
    result, result_in = os.pipe2(os.O_CLOEXEC)
    trace, trace_in = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(work, limits, result_in, trace_in)
    os.close(result_in)
    os.close(trace_in)
    try:
        said, traced = _read(pid, {result: b"", trace: b""}, began + limits.seconds + _GRACE)
    except BaseException:  # Ctrl-C, which the child does not hear
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    _, status = os.waitpid(pid, 0)
    return _ending(status, said, traced.decode("utf-8", "replace"), time.monotonic() - began)


def _read(pid: int, pipes: dict[int, bytes], deadline: float) -> tuple[bytes, bytes]:
    """All that comes out of the pipes until both end; the child is killed when its time is over."""
    with selectors.DefaultSelector() as selector:
        for fd in pipes:
            selector.register(fd, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                os.kill(pid, signal.SIGKILL)
                deadline = time.monotonic() + _GRACE
            for key, _ in ready:
                fd = key.fd
                piece = os.read(fd, 1 << 16)
                if piece:
                    pipes[fd] = (pipes[fd] + piece)[:_SAID_LIMIT]
                else:
                    selector.unregister(fd)
                    os.close(fd)
    first, second = pipes.values()
    return first, second


def _ending(status: int, said: bytes, trace: str, took: float) -> Ending:
    try:
        told: dict[str, Any] = json.loads(said or b"{}")
    except ValueError:
        told = {}
    lacking = tuple(told.get("lacking", ()))
    if told.get("fate") in (Fate.PASSED.name, Fate.FAILED.name, Fate.MEMORY.name):
        fate = Fate[told["fate"]]
        return Ending(fate, told.get("said", []), told.get("cause", ""), told.get("trace", ""), lacking, took)
    if "Timeout (" in trace or (os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)):
        return Ending(Fate.HUNG, [], "it does not come to its end", trace, lacking, took)
    if os.WIFSIGNALED(status):
        return Ending(Fate.CRASHED, [], signal.Signals(os.WTERMSIG(status)).name, trace, lacking, took)
    return Ending(Fate.CRASHED, [], f"exit status {os.waitstatus_to_exitcode(status)}", trace, lacking, took)


# --- in the child -----------------------------------------------------------------------------------------------------


def _child(work: Callable[[], list[str]], limits: Limits, result: int, trace: int) -> NoReturn:
    """Everything ends in `_exit`: nothing of the parent's is flushed or cleaned up twice."""
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        faulthandler.enable(trace)
        lacking = (
            [] if leaving.leave_network() else ["a network of its own"]
        )  # while there is one thread: the next line has one
        faulthandler.dump_traceback_later(limits.seconds, exit=True, file=trace)
        kept = leaving.forbid_changes()
        _limit(limits)
        bound = syscalls.give_up()
        lacking += [] if kept or bound else ["files that cannot be changed"]
        lacking += [] if bound else ["other processes that hear no signal"]
        told = _done(work) | {"lacking": lacking}
        faulthandler.cancel_dump_traceback_later()
        os.write(result, json.dumps(told).encode()[:_SAID_LIMIT])
        os._exit(0)
    except BaseException:
        os.write(trace, traceback.format_exc().encode())
        os._exit(70)


def _done(work: Callable[[], list[str]]) -> dict[str, object]:
    try:
        return {"fate": Fate.PASSED.name, "said": work()}
    except MemoryError:
        return {"fate": Fate.MEMORY.name, "cause": "MemoryError", "trace": traceback.format_exc(-20)}
    except BaseException as error:
        cause = f"{type(error).__name__}: {error}"[:1000]
        return {"fate": Fate.FAILED.name, "cause": cause, "trace": traceback.format_exc(-40)[-20_000:]}


def _limit(limits: Limits) -> None:
    """Takes away what the work does not need, and no kernel refuses."""
    seconds = int(limits.seconds) + 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    leaving.limit_memory(limits.memory)
    leaving.begin_nothing()
