"""Runs a program with no more than a unit of systemd allows it, as far as that can be had without systemd.

python jail.py UNIT WRITABLE PROGRAM ...: ProtectSystem=strict with WRITABLE (a path) for all of ReadWritePaths=; the
unit's filter of system calls (by libseccomp, with the sets of systemd-analyze), MemoryDenyWriteExecute=,
RestrictAddressFamilies=, NoNewPrivileges=, UMask= and LimitNOFILE=, and a user who is not root. He has no capability
either, so he binds no port below 1024: that is the unit with kmq.socket.
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

#: prctl(2), mman.h
PR_SET_NO_NEW_PRIVS = 38
PROT_WRITE, PROT_EXEC = 2, 4

#: mount_setattr(2)
CLONE_NEWNS, CLONE_NEWUSER, MS_REC_PRIVATE, MS_BIND = 0x20000, 0x10000000, 0x44000, 0x1000
AT_RECURSIVE, MOUNT_ATTR_RDONLY, SYS_MOUNT_SETATTR = 0x8000, 1, 442

#: The number that the user has.
USER = 997

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

    assert libc.mount(None, b"/", None, MS_REC_PRIVATE, None) == 0
    assert libc.mount(writable.encode(), writable.encode(), None, MS_BIND, None) == 0
    set_read_only("/", AT_RECURSIVE, on=True)
    set_read_only(writable, 0, on=False)


def become_a_user() -> None:
    """Who owns these files, and is not root: in a namespace where he has another number, and no capability after an
    exec."""
    uid, gid = os.getuid(), os.getgid()
    assert libc.unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/gid_map").write_text(f"{USER} {gid} 1")
    Path("/proc/self/uid_map").write_text(f"{USER} {uid} 1")


def main(unit: str, writable: str, *program: str) -> None:
    said = settings(Path(unit))
    calls = allowed(said["SystemCallFilter"])
    os.umask(int(said["UMask"][-1], 8))
    limit = min(int(said["LimitNOFILE"][-1]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    become_a_user()
    protect(writable)
    os.chdir(writable)
    confine(calls, said["RestrictAddressFamilies"][-1].split())
    os.execv(program[0], program)


if __name__ == "__main__":
    main(*sys.argv[1:])
