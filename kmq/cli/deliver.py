"""kmq-deliver(8): delivers mail as the users whom it is for. The only program of kmq's that has a right of root's.

Does:     one delivery for each connection of a Unix socket (SOCK_SEQPACKET): a line `1 USER KIND SECONDS` with what
          follows it, and one descriptor, the text, come in; a child becomes that user, for good, and only then opens
          anything, or loads what opens anything (kmq.phases.own_hands); one line of reply goes out.
Promise:  nobody but the user `--from`, and root, is heard; the kernel says who it is. Nothing is done as root, as a
          user below `--least-uid`, or as a member of root's group. A child has no way back, and no more of the machine
          than its limits. Whatever goes wrong is a temporary reply, or none, which is understood as one.
Rights:   CAP_SETUID and CAP_SETGID. So it can end no child that has become somebody: each ends itself by a timer, and a
          user who stops his own process binds no more than `--per-user` of them.
Imports:  the standard library alone, and no part of kmq.
On crash: children go on, and answer for themselves; what got no answer is done again, and finds what was done.
Callers:  kmq-deliver.service; phases.as_user asks.
"""

import argparse
import fcntl
import hashlib  # noqa: F401  for the children, which load nothing later but kmq
import json  # noqa: F401
import os
import pwd
import resource
import select
import shlex  # noqa: F401
import signal
import socket
import stat
import struct
import subprocess  # noqa: F401
import sys
from dataclasses import dataclass
from typing import NoReturn

KINDS = ("maildir", "mbox", "command")
REQUEST = 32 << 10  #: bytes of a request
PATIENCE = 2.0  #: seconds for a request to follow its connection
MOST_UID = 60_000  #: as login.defs has it; nobody is above


@dataclass(frozen=True)
class Terms:
    """For whom, and how much. asking: the uid that is heard; spool: the folder of mboxes; commands: their file."""

    asking: int
    least_uid: int
    children: int
    per_user: int
    size_limit: int
    time_limit: int
    spool: str
    commands: str


class Refused(Exception):
    """It is not delivered; the text says why, to kmqd."""


class Deliveries:
    """The program. listener: its socket."""

    def __init__(self, listener: socket.socket, terms: Terms) -> None:
        self._listener = listener
        self._terms = terms
        self._children: dict[int, tuple[int, int]] = {}  #: pidfd -> pid, uid
        self._stopped, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def serve(self) -> None:
        """Until SIGTERM; what was begun then is waited for."""
        listening = True
        while listening or self._children:
            room = listening and len(self._children) < self._terms.children
            poll = select.poll()
            for fd in (*([self._listener.fileno()] if room else []), *([self._stopped] if listening else [])):
                poll.register(fd, select.POLLIN)
            for fd in self._children:
                poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll():
                if fd in self._children:
                    self._reap(fd)
                elif fd == self._stopped:
                    listening = False
                else:
                    self._take()

    def _reap(self, pidfd: int) -> None:
        pid, _ = self._children.pop(pidfd)
        os.close(pidfd)
        os.waitpid(pid, 0)

    def _take(self) -> None:
        connection, _ = self._listener.accept()
        descriptors: list[int] = []
        with connection:
            try:
                self._check_who_asks(connection)
                connection.settimeout(PATIENCE)
                text, descriptors, flags, _ = socket.recv_fds(connection, REQUEST, 4, socket.MSG_CMSG_CLOEXEC)
                if len(descriptors) != 1 or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                    raise Refused("a request is one packet with one descriptor")
                self._begin(connection, text, descriptors[0])
            except Refused as refusal:
                _answer(connection, f"451 4.3.5 kmq-deliver: {refusal}")
            except (OSError, ValueError) as error:
                _answer(connection, f"451 4.3.0 kmq-deliver: {error}")
            finally:
                for fd in descriptors:
                    os.close(fd)

    def _check_who_asks(self, connection: socket.socket) -> None:
        size = struct.calcsize("3i")
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        if uid not in (0, self._terms.asking):
            raise Refused(f"uid {uid} is not heard here")

    def _begin(self, connection: socket.socket, text: bytes, body: int) -> None:
        """Begins a child for a request whose every word is known to be good."""
        first, _, words = text.partition(b"\n")
        version, name, kind, seconds = [*first.decode("ascii").split(" "), "", "", ""][:4]
        if version != "1" or kind not in KINDS or not seconds.isdecimal():
            raise Refused(f"this is no request: {first[:100]!r}")
        found = os.fstat(body)
        if not stat.S_ISREG(found.st_mode) or fcntl.fcntl(body, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
            raise Refused("the text is no file that is open for reading alone")
        if found.st_size > self._terms.size_limit:
            raise Refused(f"the text has {found.st_size} bytes, --size-limit is {self._terms.size_limit}")
        user = self._user(name)
        if sum(uid == user.pw_uid for _, uid in self._children.values()) >= self._terms.per_user:
            raise Refused(f"{name} has {self._terms.per_user} deliveries in hand already")
        groups = self._groups(user, kind)
        pid = os.fork()
        if pid == 0:
            _child(
                connection, body, user, groups, (kind, words, min(int(seconds), self._terms.time_limit), self._terms)
            )
        self._children[os.pidfd_open(pid)] = pid, user.pw_uid

    def _user(self, name: str) -> pwd.struct_passwd:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            raise Refused(f"there is no user {name!r} on this machine") from None
        if not max(1, self._terms.least_uid) <= user.pw_uid <= MOST_UID or user.pw_name != name:
            bounds = f"{self._terms.least_uid} to {MOST_UID}"
            raise Refused(f"{name} is no person: uid {user.pw_uid} is not in {bounds} (--least-uid)")
        return user

    def _groups(self, user: pwd.struct_passwd, kind: str) -> list[int]:
        """All of the user's; and for an mbox that of the folder, in which a file has to be made for a lock."""
        groups = {user.pw_gid, *os.getgrouplist(user.pw_name, user.pw_gid)}
        if kind == "mbox":
            spool = os.stat(self._terms.spool)
            groups |= {spool.st_gid} if spool.st_mode & stat.S_IWGRP else set()
        if 0 in groups:
            raise Refused(f"{user.pw_name} would be a member of root's group")
        return sorted(groups)


# --- in the child -----------------------------------------------------------------------------------------------------


def _child(
    connection: socket.socket,
    body: int,
    user: pwd.struct_passwd,
    groups: list[int],
    task: tuple[str, bytes, int, Terms],
) -> NoReturn:
    """Never returns, whatever happens."""
    kind, words, seconds, terms = task
    try:
        _leave_all_but({0, 1, 2, connection.fileno(), body})
        _limit(seconds)
        become(user, groups)
        from kmq.phases.own_hands import Place, deliver  # nobody's code but ours, and as nobody but him

        _answer(connection, deliver(Place(user.pw_name, user.pw_dir, terms.spool, terms.commands), kind, words, body))
    except BaseException as error:
        _answer(connection, f"451 4.3.0 kmq-deliver as {user.pw_name}: {type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _leave_all_but(kept: set[int]) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                pass  # that of the listing itself


def _limit(seconds: int) -> None:
    """What the child and all that it begins may have, for longer than its own limits, which end a command in order."""
    signal.setitimer(signal.ITIMER_REAL, seconds + 10)
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_NPROC: 256,
        resource.RLIMIT_CPU: seconds + 10,
    }
    for name, most in limits.items():
        _, hard = resource.getrlimit(name)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (most, most))
    os.umask(0o077)
    os.chdir("/")
    os.setsid()


def become(user: pwd.struct_passwd, groups: list[int]) -> None:
    """This process is the user's from here on; it ends at once where that cannot be, or can be undone."""
    uid, gid = user.pw_uid, user.pw_gid
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3 or set(os.getgroups()) != set(groups) or uid < 1:
        os._exit(71)
    for way_back in (os.setuid, os.setgid, lambda gid: os.setgroups([gid])):
        try:
            way_back(0)
        except PermissionError:
            continue
        os._exit(71)


def _answer(connection: socket.socket, line: str) -> None:
    shown = "".join(sign if sign.isprintable() else "?" for sign in line)[:1000]
    try:
        connection.send(shown.encode("utf-8", "replace"))
    except OSError:
        pass  # kmqd has gone, and will ask again


# --- the program ------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 after SIGTERM; 71 when it cannot begin."""
    parser = argparse.ArgumentParser(prog="kmq-deliver", description="Delivers mail as the users whom it is for.")
    parser.add_argument("--from", dest="asking", default="kmq", metavar="USER", help="who is heard (kmq)")
    parser.add_argument("--socket", default="", help="where to listen, when systemd hands no socket over")
    parser.add_argument("--least-uid", type=int, default=1000, help="users below are not delivered to (1000)")
    parser.add_argument("--children", type=int, default=50, help="deliveries at once (50)")
    parser.add_argument("--per-user", type=int, default=3, help="deliveries at once as one user (3)")
    parser.add_argument("--size-limit", type=int, default=256 << 20, help="bytes of a message (256 MiB)")
    parser.add_argument("--time-limit", type=int, default=3600, help="seconds of a delivery (3600)")
    parser.add_argument("--mail", dest="spool", default="/var/mail", help="the folder of mboxes (/var/mail)")
    parser.add_argument("--commands", default="/etc/kmq/deliver.conf", help="the file of commands")
    found = vars(parser.parse_args(arguments))
    path, asking = found.pop("socket"), found.pop("asking")
    try:
        terms = Terms(asking=pwd.getpwnam(asking).pw_uid, **found)
        listener = _listener(path)
        _gain_nothing()
    except (KeyError, OSError) as error:
        print(f"kmq-deliver: cannot begin: {error}", file=sys.stderr)
        return 71
    sys.path[:] = [entry for entry in sys.path if entry]  # a child may be in a folder of the user's
    os.chdir("/")
    Deliveries(listener, terms).serve()
    return 0


def _gain_nothing() -> None:
    """No program that a user's command begins has more rights than it, whatever bits its file has (prctl(2))."""
    with open("/proc/self/status") as status:
        if "NoNewPrivs:\t1" in status.read():
            return  # the unit said so
    import ctypes

    if ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) != 0:
        raise OSError("no_new_privs cannot be set")


def _listener(path: str) -> socket.socket:
    """systemd's (sd_listen_fds(3)), or one of our own that everybody may reach, and only some are heard on."""
    if not path:
        if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
            raise OSError("there is no socket from systemd; name one with --socket PATH")
        os.set_inheritable(3, False)
        return socket.socket(fileno=3)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.path.lexists(path) and stat.S_ISSOCK(os.lstat(path).st_mode):
        os.unlink(path)
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen(64)
    return listener


if __name__ == "__main__":
    sys.exit(main())
