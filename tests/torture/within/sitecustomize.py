"""What a test changes within kmqd's own processes; Python reads this first where PYTHONPATH names this folder.

Nothing of kmq is changed on disk. Each change is asked for by a variable of the environment, and made in kmqd before it
begins, or in the child that it is for when it is born. A worker whose connector names `whose.ANY` as its source address
comes from one that is its process's own.

KMQ_IMPATIENT  the supervisor begins dead children again at once, however many died before.
KMQ_EVIL       workers meet accidents: a recipient whose address says so kills its worker (abort), makes it raise
               (raise), stand still (hang), or be killed as if from outside (killed).
KMQ_GATE       a file: while it is there, no fdatasync of the scheduler process ends.
KMQ_CLOCK      a file with seconds by which the wall clock of all processes is off; it may change at any time.
KMQ_TRAP       a file `syscall number`: the next scheduler process takes it away, and dies at the number-th such call of
               its recovery or of the time after it.
"""

import os
import sys
from collections.abc import Callable
from functools import partial

#: Role -> what is changed when such a child is born.
AT_BIRTH: dict[str, list[Callable[[], None]]] = {}


def births() -> None:
    from kmq.cli import child

    good = child.live

    def live(role: str, number: int) -> int:
        for change in AT_BIRTH.get(role, ()):
            change()
        return good(role, number)

    child.live = live


def own_address() -> None:
    from whose import ANY, address_of

    from kmq.phases import smtp_opening

    good, mine = smtp_opening.bind, (address_of(os.getpid()),)
    smtp_opening.bind = lambda sock, named: good(sock, mine if named == (ANY,) else named)


def impatient() -> None:
    from kmq.run.children import Patience

    Patience.WAITS = (0.0, 0.05)


def evil() -> None:
    import signal
    import time

    from kmq.run import walk

    good = walk.categorize

    def categorize(head, rcpt, decide, attempt=1):
        for index in rcpt:
            match head.recipients[index].address.split("@")[0].split("-")[0]:
                case "abort":
                    os.abort()
                case "raise":
                    raise RuntimeError("a mistake in a phase")
                case "hang":
                    time.sleep(600)
                case "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
        return good(head, rcpt, decide, attempt)

    walk.categorize = categorize


def gate(path: str) -> None:
    import time

    good = os.fdatasync

    def fdatasync(fd):
        while os.path.exists(path):
            time.sleep(0.002)
        good(fd)

    os.fdatasync = fdatasync


def clock(path: str) -> None:
    import time

    good, good_ns = time.time, time.time_ns

    def off() -> int:
        with open(path) as file:
            return int(file.read() or 0)

    time.time = lambda: good() + off()
    time.time_ns = lambda: good_ns() + off() * 1_000_000_000


def trap(path: str) -> None:
    """strace is on us before the first step of recovery, and kills us at the step that the file names."""
    try:
        with open(path) as file:
            call, number = file.read().split()
        os.unlink(path)
    except OSError:
        return
    from kmq.spool.recovery import Recovery

    good = Recovery.recover

    def recover(self):
        attach(call, number)
        return good(self)

    Recovery.recover = recover


def attach(call: str, number: str) -> None:
    import subprocess
    import time

    inject = f"inject={call}:signal=SIGKILL:when={number}"
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject, "-p", str(os.getpid())]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 10
    while not traced() and time.monotonic() < deadline:
        time.sleep(0.002)


def traced() -> bool:
    with open("/proc/self/status") as file:
        return "TracerPid:\t0\n" not in file.read()


if "KMQ_CLOCK" in os.environ:
    clock(os.environ["KMQ_CLOCK"])
if any(word.endswith(("kmq.cli.kmqd", "/kmqd")) for word in sys.orig_argv):
    births()
    if "KMQ_IMPATIENT" in os.environ:
        impatient()
    AT_BIRTH["worker"] = [own_address, *([evil] if "KMQ_EVIL" in os.environ else ())]
    AT_BIRTH["scheduler"] = [
        partial(change, os.environ[name])
        for name, change in (("KMQ_GATE", gate), ("KMQ_TRAP", trap))
        if name in os.environ
    ]
