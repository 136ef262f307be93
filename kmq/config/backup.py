"""The options of [backup]: which mail the phase Backup archives, where to, and what becomes of what is old.

Promise:  as `sections`; `mistakes` is pure, and looks at the texts of paths alone. Whether the folder is there and can
          be written is seen by `kmq check` and at each message.
Callers:  `sections` and `reading`; phases.backup and run.ageing are handed the section.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from kmq.config import kinds, scanner, timetable
from kmq.config.kinds import Kind
from kmq.config.options import option, section

#: The one folder of the spool that may be the target.
IN_SPOOL = "backup"
BEFORE, AFTER = "before", "after"
CLASSES = ("local", "incoming", "outgoing", "relayed")


def _time(text: str) -> int | None:
    if not text:
        return None
    found = timetable.times().parse(text)
    if len(found) != 1:
        raise ValueError(f"{text!r}: one time of the day is needed, such as 03:00")
    return found[0]


def time_of_day() -> Kind[int | None]:
    """Minutes from midnight, None for never."""
    return Kind("time as 03:00, local time, or nothing", _time)


@section
class BackupSection:
    """Archiving: the phase Backup gives mail a further name, or sends a copy of it, before anything else happens to it.

    Off while none of the four classes is on. A message belongs to a class by its envelope: its sender is of this
    server or not, each recipient is or is not; what goes to both kinds is of two classes. A null sender is not of this
    server; notices that kmq makes itself are not archived. A message is archived once, whatever classes it has; what
    an alias makes of it is archived only where it comes into a class that is archived by that.
    """

    local: bool = option(kinds.yes_or_no(), default="no", doc="Archive mail from this server's users to each other.")
    incoming: bool = option(kinds.yes_or_no(), default="no", doc="Archive mail from elsewhere to this server's users.")
    outgoing: bool = option(kinds.yes_or_no(), default="no", doc="Archive mail from this server's users to elsewhere.")
    relayed: bool = option(kinds.yes_or_no(), default="no", doc="Archive mail from elsewhere to elsewhere.")
    domains: tuple[str, ...] = option(
        kinds.domains(),
        default="",
        doc="Archive only mail from or to these domains of this server (for relayed mail: of anybody). Nothing: all.",
    )
    folder: str = option(
        kinds.file(),
        derived="${kmq:spool}/backup",
        doc="Where mail is archived: `<folder>/<period>/<id>.eml`, the message as it was accepted, and `<id>.env`, its"
        " envelope as it was then (kmq-spool(5)). `${kmq:spool}/backup` costs a name and no copy, and is in one record"
        " of the journal with what is said of it. Any other folder has to be there, outside the spool, writable for"
        " kmqd's user (under systemd: `ReadWritePaths=`); then the message goes on when its copy is on that disk."
        " Empty: no folder.",
    )
    period: str = option(
        kinds.choice("day", "week", "month"),
        default="day",
        doc="A new folder for each day (`2026-11-22`), week (`2026-W47`, ISO 8601) or month (`2026-11`), by the UTC"
        " time at which the message was accepted.",
    )
    address: str = option(
        scanner.mailbox(),
        default="",
        doc="Send a copy of each message here, as it came, with a null sender: what cannot be delivered of that goes to"
        " the postmaster, and never to whoever wrote the message. A copy is never archived again.",
    )
    order: str = option(
        kinds.choice(BEFORE, AFTER),
        default=BEFORE,
        doc="`before`: what comes is archived, with its viruses. `after`: what is left by content filter and antivirus,"
        " with removed attachments removed; what they hold, reject or discard is not archived.",
    )
    backup_failure: str = option(
        kinds.choice("wait", "go_on"),
        default="wait",
        doc="When mail cannot be archived, since the disk is full, read-only or away: `wait`: it stays in the"
        " Submission queue (4.3.1) until it can be. `go_on`: it is delivered without, which its history, the log (once"
        " a minute) and `kmq doctor` say.",
    )
    compress_at: int | None = option(
        time_of_day(),
        default="03:00",
        doc="When folders whose period is over are compressed: each becomes `<folder>.tar.gz` beside it, which is read"
        " back before the folder goes. Nothing: never. On a day without that time it is an hour later.",
    )
    keep: float = option(
        kinds.duration("0"),
        default="0",
        doc="How long after the end of its period a folder, compressed or not, is kept; then it is removed for good."
        " 0: for ever.",
    )

    @property
    def on(self) -> bool:
        """Whether anything is archived."""
        return any(getattr(self, name) for name in CLASSES)

    def is_in(self, spool: Path) -> bool:
        """Whether the folder is the spool's own."""
        return bool(self.folder) and os.path.normpath(self.folder) == os.path.join(os.path.normpath(spool), IN_SPOOL)


def mistakes(backup: BackupSection, spool: Path) -> Iterator[tuple[str, str]]:
    """(option, sentence) of what does not go together."""
    if backup.on and not backup.folder and not backup.address:
        yield "folder", "mail is to be archived, but nowhere: name a folder, an address, or both"
    if not backup.folder:
        return
    root, path = os.path.normpath(spool), os.path.normpath(backup.folder)
    if path == root or root.startswith(path.rstrip("/") + "/"):
        yield "folder", f"{backup.folder} has the spool in it: name a folder beside it"
    elif path.startswith(root + "/") and not backup.is_in(spool):
        yield "folder", f"{backup.folder} is in the spool, where only {root}/{IN_SPOOL} is for archived mail"
