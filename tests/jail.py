"""Runs a program with no more than a unit of systemd allows it, as far as that can be had without systemd.

python jail.py UNIT WRITABLE PROGRAM ...: ProtectSystem=strict with WRITABLE (a path) for all of ReadWritePaths=; the
unit's filter of system calls (by libseccomp, with the sets of systemd-analyze), MemoryDenyWriteExecute=,
RestrictAddressFamilies=, NoNewPrivileges=, capabilities, UMask= and LimitNOFILE=. The user stays: root without root's
capabilities is a user like others, who has these files.
"""

import ctypes
import errno
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

#: seccomp.h
ALLOW, EPERM = 0x7FFF0000, 0x00050000 | errno.EPERM
MASKED_EQ, EQ, NE = 7, 4, 1

#: prctl(2), capability numbers
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 24, 38, 47, 2
CAPABILITIES = {"CAP_NET_BIND_SERVICE": 10}
PROT_WRITE, PROT_EXEC = 2, 4

#: mount_setattr(2)
CLONE_NEWNS, MS_REC_PRIVATE, AT_RECURSIVE, MOUNT_ATTR_RDONLY, SYS_MOUNT_SETATTR = 0x20000, 0x44000, 0x8000, 1, 442
MS_BIND = 0x1000

libc = ctypes.CDLL(None, use_errno=True)


class Comparison(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def settings(unit: Path) -> dict[str, list[str]]:
    """Name -> its values, in order; an empty one takes back what was said before."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name] = [*found.get(name, []), value] if value else []
    return found


def names_of(group: str) -> set[str]:
    """The system calls of a set, or the one of that name."""
    if not group.startswith("@"):
        return {group}
    told = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    found: set[str] = set()
    for line in told.stdout.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            found |= names_of(word)
    return found


def allowed(filters: list[str]) -> set[str]:
    """Of SystemCallFilter= lines that begin with one that allows; @default is always allowed."""
    found = names_of("@default")
    for line in filters:
        named = set().union(*(names_of(group) for group in line.lstrip("~").split()))
        found = found - named if line.startswith("~") else found | named
    return found


def confine(calls: set[str], families: list[str]) -> None:
    """From here on nothing else; also for whatever this process becomes."""
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(EPERM))
    guarded = {"socket", "mmap", "mprotect", "pkey_mprotect", "shmat"}
    for name in calls - guarded:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert seccomp.seccomp_rule_add_array(context, ALLOW, number, 0, None) == 0, name

    def allow(name: str, *comparisons: Comparison) -> None:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        rules = (Comparison * len(comparisons))(*comparisons)
        assert seccomp.seccomp_rule_add_array(context, ALLOW, number, len(comparisons), rules) == 0, name

    for family in families:
        allow("socket", Comparison(0, EQ, getattr(socket, family), 0))
    allow("mmap", Comparison(2, MASKED_EQ, PROT_EXEC, 0))
    allow("mmap", Comparison(2, MASKED_EQ, PROT_EXEC | PROT_WRITE, PROT_EXEC))
    allow("mprotect", Comparison(2, MASKED_EQ, PROT_EXEC, 0))
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert seccomp.seccomp_load(context) == 0


def protect(writable: str) -> None:
    """All that is mounted becomes read-only, for this process and its children, but what lies below one folder."""

    def set_read_only(path: str, flags: int, on: bool) -> None:
        attributes = (ctypes.c_uint64 * 4)(int(on), int(not on), 0, 0)
        done = libc.syscall(SYS_MOUNT_SETATTR, -100, path.encode(), flags, attributes, ctypes.sizeof(attributes))
        assert done == 0, os.strerror(ctypes.get_errno())

    assert libc.unshare(CLONE_NEWNS) == 0
    assert libc.mount(None, b"/", None, MS_REC_PRIVATE, None) == 0
    assert libc.mount(writable.encode(), writable.encode(), None, MS_BIND, None) == 0
    set_read_only("/", AT_RECURSIVE, on=True)
    set_read_only(writable, 0, on=False)


def keep(kept: set[int]) -> None:
    """These capabilities and no other, also after an exec."""
    for number in range(64):
        if number not in kept:
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    bits = sum(1 << number for number in kept)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)
    assert libc.capset(header, data) == 0
    for number in kept:
        assert libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) == 0


def main(unit: str, writable: str, *program: str) -> None:
    said = settings(Path(unit))
    calls = allowed(said["SystemCallFilter"])
    os.umask(int(said["UMask"][-1], 8))
    limit = min(int(said["LimitNOFILE"][-1]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    protect(writable)
    os.chdir(writable)
    keep({CAPABILITIES[name] for name in said.get("AmbientCapabilities", [])})
    confine(calls, said["RestrictAddressFamilies"][-1].split())
    os.execv(program[0], program)


if __name__ == "__main__":
    main(*sys.argv[1:])
