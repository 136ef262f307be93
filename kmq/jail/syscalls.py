"""System calls that a process gives up for good: those that change files, or do something to other processes (seccomp).

What:     `give_up` loads a filter into the kernel. From then on the calls below fail with EPERM, whoever makes them,
          Python or a library beneath it; opening a file to read it, and a signal to itself, remain.
Promise:  False where the kernel, or this table, does not know how; nothing is given up then. It cannot be undone.
          The calling thread alone is bound, and those that it begins.
On crash: the filter ends with the process.
Callers:  admin.confinement, in its child; phases.examiner.
"""

import ctypes
import errno
import os
import struct
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM

#: Classic BPF: load a word, compare (equal, greater or equal, any bit), return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
#: Places in the kernel's word on a call (struct seccomp_data): its number, the machine, the low half of an argument.
_NUMBER, _MACHINE = 0, 4

#: Calls of the same number on another machine; x86-64 has a second numbering from here on.
_SECOND = 0x40000000

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class _Machine(NamedTuple):
    """The numbers of one kind of machine. audit: its number; refused: calls that fail always; own: a signal to this
    process alone; ours: limits of this process (0) alone; opening: a call and which argument has the flags."""

    audit: int
    refused: tuple[int, ...]
    own: tuple[int, ...]
    ours: int
    opening: tuple[tuple[int, int], ...]


#: In the order: names that are made, removed, changed; truncate; mode, owner, times, attributes; others' signals,
#: memory and threads; sockets; programs; mounts; openat2, io_uring.
_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        (
            *(82, 83, 84, 85, 86, 87, 88, 133, 258, 259, 263, 264, 265, 266, 316),
            *(76, 77, 90, 91, 268, 452, 92, 93, 94, 260, 132, 235, 261, 280, 188, 189, 190, 197, 198, 199),
            *(200, 129, 297, 424, 101, 311, 41, 42, 53, 59, 322, 165, 437, 425),
        ),
        (62, 234),
        302,
        ((2, 1), (257, 2)),
    ),
    "aarch64": _Machine(
        0xC00000B7,
        (
            *(33, 34, 35, 36, 37, 38, 276),
            *(45, 46, 52, 53, 452, 54, 55, 88, 5, 6, 7, 14, 15, 16),
            *(130, 138, 240, 424, 117, 271, 198, 203, 199, 221, 281, 40, 437, 425),
        ),
        (129, 131),
        261,
        ((56, 2),),
    ),
}


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def give_up() -> bool:
    """From now on; whether it could be done."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None or struct.calcsize("P") != 8:
        return False
    text = _filter(machine, os.getpid())
    program = _Program(len(text) // 8, text)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return bool(_libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filter(machine: _Machine, pid: int) -> bytes:
    """The program, as the kernel reads it."""
    steps = [
        _step(_LOAD, _MACHINE),
        _step(_EQUAL, machine.audit, 1, 0),
        _step(_RETURN, _REFUSE),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _SECOND, 0, 1),
        _step(_RETURN, _REFUSE),
    ]
    for number in machine.refused:
        steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _REFUSE)]
    for number in machine.own:
        steps += _if(number, 0, _step(_EQUAL, pid, 0, 1))
    steps += _if(machine.ours, 0, _step(_EQUAL, 0, 0, 1))
    for number, flags in machine.opening:
        steps += _if(number, flags, _step(_ANY_BIT, _WRITING, 1, 0))
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _if(number: int, argument: int, allowed: bytes) -> list[bytes]:
    """A call that is allowed when the comparison with one of its arguments goes on, refused when it jumps."""
    place = 16 + 8 * argument
    return [
        _step(_EQUAL, number, 0, 4),
        _step(_LOAD, place),
        allowed,
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _REFUSE),
    ]


def _step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    """struct sock_filter; true, false: how many steps are passed over."""
    return struct.pack("<HBBI", code, true, false, value)
