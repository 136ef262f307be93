"""Is everything in order for kmqd to start, or to go on? Configuration, certificates, spool, ports.

Promise:  only looks: makes nothing, and a port that is tried is free again at once. Each verdict says what was looked
          at, and, when it is wrong, what to do.
On crash: nothing is left.
Callers:  `kmq check`, before kmqd starts and while it runs.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from kmq.admin.check_as_user import as_users
from kmq.admin.check_backup import backup
from kmq.admin.check_content import attachments
from kmq.admin.check_dns import dns
from kmq.admin.check_drops import drops
from kmq.admin.check_files import files
from kmq.admin.check_groups import groups
from kmq.admin.check_languages import languages
from kmq.admin.check_lines import lines
from kmq.admin.check_mailboxes import mailboxes
from kmq.admin.check_rewriting import rewriting
from kmq.admin.check_routing import routing
from kmq.admin.check_rules import rules
from kmq.admin.check_sendmail import programs
from kmq.admin.check_ways import ways
from kmq.admin.circumstances import hidden
from kmq.admin.verdict import Grade, Verdict
from kmq.config import KmqSection, ReceiverSection, Settings, checks
from kmq.config.certificates import unusable
from kmq.config.embedded import PATH as EMBEDDED_PATH
from kmq.config.kinds import write_endpoint
from kmq.run.family import LOCK
from kmq.spool.lock import holder, spool_held
from kmq.spool.processes import Condition, read_all

#: Folders that messages are moved and linked between, so that they must be on one file system.
ONE_DISK = ("queue", "poison", "incoming", "journal")

#: File systems whose locks, syncs or renames cannot be relied on.
DOUBTFUL = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "overlay", "vfat", "exfat", "fuse"})


def examine(settings: Settings) -> Iterator[Verdict]:
    """Everything, in the order in which kmqd would stumble over it."""
    yield Verdict(Grade.GOOD, f"configuration {settings.path}")
    yield from warnings(settings)
    yield from certificates(settings)
    yield from files(settings)
    yield from routing(settings)
    yield from rewriting(settings)
    yield from scanners(settings)
    yield from languages(settings)
    yield from rules(settings)
    yield from attachments(settings)
    yield from dns(settings)
    yield from lines(settings)
    yield from spool(settings)
    yield from drops(settings)
    yield from mailboxes(settings)
    yield from as_users(settings)
    yield from ways(settings)
    yield from backup(settings)
    yield from programs(settings)
    yield from groups(settings)
    yield from ports(settings)


def scanners(settings: Settings) -> Iterator[Verdict]:
    """The programs that look at mail, where there are any."""
    if settings.scanners or settings.milters:
        from kmq.admin import check_scanners  # speaks HTTP, which costs every other check some milliseconds

        yield from check_scanners.scanners(settings)


def warnings(settings: Settings) -> Iterator[Verdict]:
    """What is probably not meant; mail that would go round surely is not."""
    loops = tuple(one.text for one in checks.loops(settings.kmq, settings.receivers, settings.connectors))
    for warning in settings.warnings:
        if loops and warning.endswith(loops):
            yield Verdict(Grade.WRONG, warning, "name the server that is to get the mail; see `kmq route`")
        else:
            yield Verdict(Grade.NOTE, warning)


def certificates(settings: Settings) -> Iterator[Verdict]:
    """Whether receivers can load what they are to show in STARTTLS, and connectors what they need."""
    wrong = [Verdict(Grade.WRONG, f"{place} {found.text}", found.remedy) for place, found in unusable(settings)]
    yield from wrong
    if not wrong and any(receiver.tls_certificate for receiver in settings.receivers):
        yield Verdict(Grade.GOOD, "certificates of the receivers")
    secrets = [(one, getattr(way, one)) for way in settings.connectors for one in ("password_file", "token_file")]
    for option, path in dict.fromkeys(secrets):  # connectors that inherit have one file
        if path and _readable_by_all(path):
            yield Verdict(Grade.NOTE, f"{option} {path} can be read by everybody", f"chmod o-r {path}")


def _readable_by_all(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & stat.S_IROTH)
    except OSError:
        return False


# --- the spool -------------------------------------------------------------------------------------------------------


def spool(settings: Settings) -> Iterator[Verdict]:
    """The spool folder: there, ours, on one local disk, with room."""
    root = settings.kmq.spool
    try:
        found = os.lstat(root)
    except FileNotFoundError:
        yield _missing(settings)
        return
    except OSError as error:
        yield Verdict(Grade.WRONG, f"spool {root}: {error.strerror}", "run this as root or as the user of kmqd")
        return
    wrong = list(_shape(root, found))
    yield from wrong or [Verdict(Grade.GOOD, f"spool {root}")]
    if stat.S_ISDIR(found.st_mode):
        yield from _disk(root, found)
        yield from _room(settings)
    running = spool_held(root)
    if running is not None:
        yield Verdict(Grade.GOOD, "kmqd runs on this spool" if running else "no kmqd runs on this spool")


def _missing(settings: Settings) -> Verdict:
    """As kmqd sees it (run/ground): a spool that is not there may be a disk that is not mounted."""
    root = settings.kmq.spool
    if settings.path == EMBEDDED_PATH:
        return Verdict(Grade.GOOD, f"spool {root} is not there yet; kmqd --try makes it")
    return Verdict(Grade.WRONG, f"spool {root} is missing", f"make it: install -d -m 750 {root}")


def _shape(root: Path, found: os.stat_result) -> Iterator[Verdict]:
    if stat.S_ISLNK(found.st_mode):
        yield Verdict(
            Grade.WRONG, f"spool {root} is a symbolic link", f"write {root.resolve()} as spool into the configuration"
        )
    elif not stat.S_ISDIR(found.st_mode):
        yield Verdict(Grade.WRONG, f"spool {root} is not a folder", "move it away; kmqd makes the folder")
    elif found.st_mode & 0o002:
        yield Verdict(Grade.WRONG, f"spool {root} can be written by everybody", f"chmod o-w {root}")
    elif not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield Verdict(Grade.WRONG, f"spool {root} cannot be written by this user", "run kmqd as the spool's owner")


def _disk(root: Path, found: os.stat_result) -> Iterator[Verdict]:
    for name in ONE_DISK:
        try:
            folder = os.lstat(root / name)
        except OSError:
            continue
        if not stat.S_ISDIR(folder.st_mode):
            yield Verdict(Grade.WRONG, f"{root / name} is not a folder", "move it away; kmqd makes the folder")
        elif folder.st_dev != found.st_dev:
            yield Verdict(Grade.WRONG, f"{root / name} is on another file system than {root}", "keep them on one")
    kind = _file_system(found.st_dev)
    if kind == "tmpfs":
        yield Verdict(Grade.NOTE, f"spool {root} is in memory (tmpfs): mail does not survive a restart of the machine")
    elif kind.partition(".")[0] in DOUBTFUL:
        yield Verdict(
            Grade.NOTE, f"spool {root} is on {kind}: kmq's promises need a local file system (ext4, xfs, btrfs)"
        )


def _file_system(device: int) -> str:
    """The type of the file system of a device number, "" when unknown."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        mount, _, source = line.partition(" - ")
        if mount.split(" ")[2] == wanted:
            return source.split(" ")[0]
    return ""


def _room(settings: Settings) -> Iterator[Verdict]:
    free = os.statvfs(settings.kmq.spool)
    size, inodes, queue = free.f_bavail * free.f_frsize, free.f_favail, settings.queue
    if size < queue.minimum_free:
        text = (
            f"only {size >> 20:,} MiB are free; below minimum_free ({queue.minimum_free >> 20:,} MiB) mail is refused"
        )
        yield Verdict(Grade.WRONG, text, "make room, or lower minimum_free")
    elif free.f_files and inodes < queue.minimum_free_inodes:
        least = queue.minimum_free_inodes
        text = f"only {inodes:,} inodes are free; below minimum_free_inodes ({least:,}) mail is refused"
        yield Verdict(Grade.WRONG, text, "remove files, or use a file system with more inodes")
    else:
        yield Verdict(Grade.GOOD, f"{size >> 20:,} MiB are free")


# --- ports -----------------------------------------------------------------------------------------------------------


def ports(settings: Settings) -> Iterator[Verdict]:
    """Whether each receiver can listen: free, or held by the kmqd that runs."""
    ours = _processes(settings.kmq)
    for receiver in settings.receivers:
        for host, port in receiver.listen:
            yield _port(receiver, host, port, ours)


def _processes(section: KmqSection) -> set[int] | None:
    """The processes of the kmqd that runs on this spool; None when this user may not look."""
    if hidden(section.spool):
        return None
    living = read_all(section.spool / "status", dead=False)
    supervisor = holder(section.run_directory / LOCK)  # it listens before the others tell of themselves
    found = {status.pid for status in living if status.condition is not Condition.DEAD}
    return found if supervisor is None else found | {supervisor}


def _port(receiver: ReceiverSection, host: str, port: int, ours: set[int] | None) -> Verdict:
    name = f"[{receiver.name}] listen = {write_endpoint(host, port)}"
    try:
        _try(host, port)
    except PermissionError:
        remedy = "ports below 1024 need root or CAP_NET_BIND_SERVICE (kmq.service has it)"
        return Verdict(Grade.WRONG, f"{name}: this user may not listen there", remedy)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _in_use(name, port, ours)
        return Verdict(Grade.WRONG, f"{name}: {error.strerror}", "choose an address of this machine")
    return Verdict(Grade.GOOD, f"{name}: free")


def _in_use(name: str, port: int, ours: set[int] | None) -> Verdict:
    holders = _holders(port)
    if ours is None:
        return Verdict(Grade.NOTE, f"{name}: in use; whether by kmqd, this user may not see (root could tell)")
    if holders & ours:
        return Verdict(Grade.GOOD, f"{name}: held by the kmqd that runs")
    if ours and not holders:
        return Verdict(Grade.NOTE, f"{name}: in use, as it seems by the kmqd that runs (root could tell)")
    by = f" by {', '.join(sorted(map(_program, holders)))}" if holders else ""
    return Verdict(Grade.WRONG, f"{name}: in use{by}", "stop that program, or choose another port")


def _try(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((host, port))


def _holders(port: int) -> set[int]:
    """The processes that listen on a port, as far as this user may see them."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") in sockets for fd in os.listdir(f"/proc/{pid}/fd")):
                found.add(int(pid))
        except OSError:
            continue  # gone, or another user's
    return found


def _listening(port: int) -> Iterator[str]:
    """Inodes of the sockets that listen on a port (proc(5): column 2 address, 4 state, 10 inode)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:
                yield columns[9]


def _program(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        name = "a program"
    return f"{name} (pid {pid})"
