"""Rights that a process gives up for good: its network, files, user, and what it may use of the machine.

Promise:  each call says whether the kernel granted it, and raises nothing for that; none can be undone.
On crash: all ends with the process.
Callers:  admin.confinement (a trial of a poisoned message), phases.examiner.
"""

import ctypes
import os
import resource
import sys
from pathlib import Path

#: The user that nothing belongs to.
NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
#: landlock(7), the same numbers on all machines: handled rights are those of writing, removing and making (ABI 1).
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_CHANGES = 1 << 1 | sum(1 << right for right in range(4, 13))
#: What Python itself is kept from, where the kernel might not do it (PEP 578).
_FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "ctypes.dlopen")


def leave_network() -> bool:
    """A network without any interface; without root only in a user namespace, which not every system allows.

    For a process of one thread.
    """
    flags = _CLONE_NEWNET if os.geteuid() == 0 else _CLONE_NEWNET | _CLONE_NEWUSER
    return bool(_libc.unshare(flags) == 0)


def forbid_changes() -> bool:
    """No file can be opened for writing, made or removed from now on, whoever we are (landlock(7), Linux 5.13)."""
    handled = ctypes.c_uint64(_CHANGES)
    rules = _libc.syscall(_LANDLOCK_CREATE, ctypes.byref(handled), ctypes.c_size_t(8), 0)
    if rules < 0:
        return False
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    done = _libc.syscall(_LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)
    return bool(done == 0)


def limit_memory(more: int) -> None:
    """So many bytes of address space beyond what this process has now."""
    most = mapped() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def mapped() -> int:
    """Bytes of address space that this process has (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def begin_nothing() -> None:
    """No other program or process; root becomes nobody, whom that binds."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith(_FORBIDDEN):
        raise PermissionError(f"{event} is not allowed here")
