"""Where everything lies below the spool folder.

FORMAT                    version of the tree
queue/<gen>/<id>.env|.eml the mail queue; <gen> follows from the ID
poison/                   set aside, with the reason in the envelope
incoming/                 large bodies on their way in
journal/                  log segments, checkpoint, spare segments
index/                    what listings read, a cache
state/                    suspended queues, GUIDs of connectors
status/  run/             status files; sockets and locks
pickup/ replay/ shadow/ sent/ backup/ drop/   for what comes and goes by folder
agents/                   messages that programs of connectors are reading
log/                      the tracking log
"""

import json

from kmq.errors import SpoolError
from kmq.model import queue_id
from kmq.spool.disk import Disk

VERSION = 1
#: folder -> mode, as kmq-spool(5) says; pickup is open to a group of programs, and who may pass through the spool finds
#: the sockets, and a folder in drop whose name he knows. Everything else is kmq's own. A start takes away what others
#: may do beyond that, as after a `git clone`.
FOLDERS = {
    "queue": 0o700,
    "poison": 0o700,
    "incoming": 0o700,
    "journal": 0o700,
    "index": 0o700,
    "state": 0o700,
    "status": 0o750,
    "run": 0o755,
    "pickup": 0o770,
    "replay": 0o700,
    "shadow": 0o700,
    "sent": 0o700,
    "backup": 0o700,
    "drop": 0o711,
    "agents": 0o700,
    "log": 0o750,
}
HOMES = ("queue", "poison")
#: Below it the safety net keeps delivered mail, a folder for each UTC day.
SENT = "sent"
#: What programs of connectors are reading.
AGENTS = "agents"
#: Below it the phase Backup archives mail, a folder for each day, week or month.
BACKUP = "backup"


def folder(number: int, home: str = "queue") -> str:
    """The folder of a message."""
    return f"queue/{queue_id.generation(number)}" if home == "queue" else home


def kept_on(day: str) -> str:
    """The home of what was delivered on a day (`2026-11-22`)."""
    return f"{SENT}/{day}"


def stem(number: int, home: str = "queue") -> str:
    """The name of a message's files without their ending."""
    return f"{folder(number, home)}/{queue_id.text(number)}"


def stem_of(name: str, home: str = "queue") -> str:
    """The same for an ID as text, which its folder can be read from; ValueError for anything else."""
    if not queue_id.PATTERN.fullmatch(name):
        raise ValueError(f"{name[:32]!r} is not a queue ID (like 69212ad0-0000a1f3)")
    return f"queue/{name[:5]}-{name[9:13]}/{name}" if home == "queue" else f"{home}/{name}"


def envelope(number: int, home: str = "queue") -> str:
    return stem(number, home) + ".env"


def unborn(number: int) -> str:
    """The name of an envelope that is written and does not count yet (store.FileStore)."""
    return stem(number) + ".put"


def body(number: int, home: str = "queue") -> str:
    return stem(number, home) + ".eml"


def reason(number: int) -> str:
    """Why a message lies in poison/, where its envelope does not say it (aside)."""
    return stem(number, "poison") + ".reason"


def prepare(disk: Disk) -> None:
    """Makes what a spool needs, in a folder that is one already or empty; SpoolError when it is of a later program.

    Every step may be cut: FORMAT is written last and durably, and making what is there already is no error.
    """
    _check_format(disk)
    made = False
    for name, mode in FOLDERS.items():
        found = disk.status(name)
        if found is None:
            disk.make_folder(name, mode)
            made = True
            disk.set_mode(name, mode)  # whatever the umask
        elif (found.st_mode & 0o170000) != 0o040000:
            raise SpoolError(f"{disk.root}/{name} is not a folder: move it away, kmqd makes the folder itself")
        elif found.st_mode & 0o777 & ~mode:
            disk.set_mode(name, found.st_mode & 0o7000 | found.st_mode & mode)
    if made:
        disk.sync_folder(".")  # what is made durable in them later would be lost with their names
    if disk.status("FORMAT") is None:
        _write_format(disk)


def _check_format(disk: Disk) -> None:
    try:
        text = disk.read("FORMAT", 4096)
    except FileNotFoundError:
        return
    try:
        version = int(json.loads(text)["version"])
    except (ValueError, KeyError, TypeError):
        raise SpoolError(f"{disk.root}/FORMAT is damaged: it should read {format_text().decode().strip()}") from None
    if version > VERSION:
        raise SpoolError(
            f"{disk.root} has format {version}, this kmq knows formats up to {VERSION}: install the kmq that made it"
        )


def format_text() -> bytes:
    """What FORMAT holds."""
    return b'{"kmq":"spool","version":%d}\n' % VERSION


def _write_format(disk: Disk) -> None:
    if disk.status("FORMAT.new"):
        disk.unlink("FORMAT.new")
    fd = disk.create("FORMAT.new")
    try:
        disk.write(fd, format_text())
        disk.sync(fd)
    finally:
        disk.close_file(fd)
    disk.rename("FORMAT.new", "FORMAT")
    disk.sync_folder(".")
