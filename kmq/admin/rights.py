"""Who may ask what of kmqd: the kernel says who asks, two groups say what he may.

What:     the user at the other end (SO_PEERCRED) and his groups (SO_PEERGROUPS), as they were when he connected.
          Root, kmqd's own user and the operators' group may do everything; the viewers' group may look (verbs marked
          `looks`); everybody else nothing.
Promise:  names of groups are looked up once, so that a name service that hangs stops no loop. A group that is not there
          has no members.
On crash: nothing is kept.
Callers:  admin.control, admin.looks; the wiring in cli.kmqd.
"""

import grp
import os
import pwd
import socket
import struct
import time
from enum import IntEnum
from typing import NamedTuple

from kmq import log
from kmq.config import KmqSection

_CREDENTIALS = struct.Struct("3i")
_SO_PEERGROUPS = 59  # of the kernel since 4.13; Python has no name for it
#: Bytes of groups that Python asks the kernel for at most: 256 groups. Of who has more the name service knows them.
_GROUPS = 1024

#: Seconds between two lines about the same user who was refused, and users of whom that is known.
_QUIET = 60.0
_KNOWN = 1000


class Right(IntEnum):
    """What somebody may do; each may what is below it, too."""

    NOTHING = 0
    LOOK = 1
    OPERATE = 2


class Caller(NamedTuple):
    """Who asks. groups: numbers of all of his, the first one too."""

    uid: int
    groups: frozenset[int]


class Rights:
    """The two groups and the user that kmqd runs as; None: there is no such group."""

    def __init__(self, operators: int | None, viewers: int | None, own: int) -> None:
        self._operators = operators
        self._viewers = viewers
        self._masters = {0, own}

    def of(self, caller: Caller) -> Right:
        """What a user may."""
        if caller.uid in self._masters or self._operators in caller.groups:
            return Right.OPERATE
        return Right.LOOK if self._viewers in caller.groups else Right.NOTHING


class Refusals:
    """What they hear who may not; the log hears of each of them once a minute."""

    def __init__(self, rights: Rights) -> None:
        self._rights = rights
        self._told: dict[int, float] = {}

    def refuse(self, caller: Caller, what: str) -> str:
        """A sentence for somebody who wanted to do `what`."""
        now = time.monotonic()
        if self._told.get(caller.uid, -_QUIET) <= now - _QUIET:
            if len(self._told) >= _KNOWN:
                self._told.clear()
            self._told[caller.uid] = now
            log.warning("somebody asked over the control socket who may not", by=f"uid {caller.uid}", what=what)
        if self._rights.of(caller) is Right.LOOK:
            return f"uid {caller.uid} may look, not {what}: that is for root, kmqd's user, and [kmq] operators_group"
        return f"uid {caller.uid} may not ask kmqd: [kmq] operators_group and viewers_group say who may"


def rights_of(section: KmqSection) -> Rights:
    """The rights that a configuration gives."""
    return Rights(group_number(section.operators_group), group_number(section.viewers_group), os.geteuid())


def group_number(name: str) -> int | None:
    """The number of a group; None when there is none of this name, or none is named."""
    if not name:
        return None
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def caller_of(descriptor: int) -> Caller:
    """Who is at the other end of a connection. A descriptor: the loop's socket object may be a stand-in (uvloop)."""
    with socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        _, uid, gid = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        try:
            text = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS)
        except OSError:
            return Caller(uid, frozenset(_told_groups(uid, gid)))
    return Caller(uid, frozenset((gid, *struct.unpack(f"{len(text) // 4}I", text))))


def _told_groups(uid: int, gid: int) -> list[int]:
    """The groups of a user by the name service, for who has more than the kernel's answer has room for."""
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except (KeyError, OSError, OverflowError):
        return [gid]
