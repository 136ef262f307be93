"""Messages in poison/: which there are and why, and one of their phases run again for trial.

Promise:  looks only. A trial works on a copy in a folder of its own, in a confined child (admin.confinement), and
          changes nothing of the spool, whatever the message does to it.
On crash: the copy may be left in the folder for temporary files.
Callers:  kmq.cli.poison.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from kmq.admin.confinement import NOBODY, Ending, Limits, confined
from kmq.admin.poison_trial import Sample, run, warm
from kmq.config import Settings
from kmq.errors import KmqError, SpoolError
from kmq.model import queue_id
from kmq.model.envelope import fold
from kmq.model.event import AnyEvent, Crashed, Moved
from kmq.model.phase import Phase
from kmq.routing.table import Routes
from kmq.spool import layout, loading
from kmq.spool.disk import Disk


class NoSuchMessage(KmqError):
    """It is neither in poison/ nor in the queue, or cannot be read."""

    exit_status = 1


class Case(NamedTuple):
    """One message in poison/. phase: that crashed last, "" when none did; trace: of it; since: RFC 3339."""

    id: str
    size: int
    sender: str
    recipients: int
    since: str
    reason: str
    phase: str
    crashes: int
    trace: str


def cases(spool: Path) -> Iterator[Case]:
    """All of poison/, oldest first."""
    with _opened(spool) as disk:
        for number in loading.ids(disk, "poison"):
            try:
                yield _case(number, disk.read(layout.envelope(number, "poison")))
            except FileNotFoundError:
                continue  # resumed or removed meanwhile
            except OSError as error:
                yield _damaged(number, f"the envelope cannot be read: {error.strerror}")


@contextmanager
def _opened(spool: Path) -> Iterator[Disk]:
    """The spool; SpoolError when this user may not look into it, or there is none."""
    try:
        disk = Disk(spool)
        disk.names("poison")
    except OSError as error:
        text = "ask as root or as kmqd's user" if isinstance(error, PermissionError) else "kmqd makes it when it starts"
        raise SpoolError(f"{spool}: {error.strerror}: {text}") from None
    try:
        yield disk
    finally:
        disk.close()


def _case(number: int, envelope: bytes) -> Case:
    folded = fold(envelope)
    if folded is None:
        return _damaged(number, "the first line of the envelope is damaged")
    head, _, events = folded
    moved = next((one for one in reversed(events) if isinstance(one, Moved)), Moved())
    crash = _last_crash(events)
    return Case(
        queue_id.text(number),
        head.size,
        head.sender,
        len(head.recipients),
        moved.at,
        moved.reason,
        crash.phase,
        crash.count,
        crash.trace,
    )


def _last_crash(events: list[AnyEvent]) -> Crashed:
    return next((one for one in reversed(events) if isinstance(one, Crashed)), Crashed())


def _damaged(number: int, why: str) -> Case:
    return Case(queue_id.text(number), 0, "", 0, "", why, "", 0, "")


# --- the trial --------------------------------------------------------------------------------------------------------


def suspected(spool: Path, name: str) -> list[Phase]:
    """The phase in which a message crashed last; all of them when that is not known."""
    with _opened(spool) as disk:
        folded = fold(_envelope(disk, queue_id.parse(name))[0])
    phase = _last_crash(folded[2]).phase if folded is not None else ""
    return [one for one in Phase if one.value == phase] or list(Phase)


def is_set_aside(spool: Path, name: str) -> bool:
    """Whether it lies in poison/, and not in the queue."""
    with _opened(spool) as disk:
        return _envelope(disk, queue_id.parse(name))[1] == "poison"


def trial(settings: Settings, name: str, phase: Phase, limits: Limits) -> Ending:
    """Runs one phase of a message again; it may lie in poison/ or in the queue."""
    number = queue_id.parse(name)
    with _opened(settings.kmq.spool) as disk, tempfile.TemporaryDirectory(prefix="kmq-trial-") as folder:
        envelope, home = _envelope(disk, number)
        copy = os.path.join(folder, f"{name}.eml")
        _copy(disk, layout.body(number, home), copy)
        if os.geteuid() == 0:  # the child is nobody then: it may read this copy, and no list of others
            os.chown(copy, NOBODY, NOBODY)
            os.chmod(folder, 0o711)
        routes = Routes(settings)
        warm(routes, settings)
        with open("/dev/null", "wb", buffering=0) as nothing:
            sample = Sample(settings, envelope, copy, routes, nothing.fileno())
            return confined(lambda: run(sample, phase), limits)


def _envelope(disk: Disk, number: int) -> tuple[bytes, str]:
    for home in ("poison", "queue"):
        try:
            return disk.read(layout.envelope(number, home)), home
        except FileNotFoundError:
            continue
        except OSError as error:
            raise NoSuchMessage(f"{queue_id.text(number)}: its envelope cannot be read: {error.strerror}") from None
    raise NoSuchMessage(f"{queue_id.text(number)} is neither in poison/ nor in the queue")


def _copy(disk: Disk, body: str, copy: str) -> None:
    """The body, without following a link at either end."""
    try:
        pieces = disk.pieces(body)
        fd = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
        with open(fd, "wb") as file:
            file.writelines(pieces)
    except OSError as error:
        raise NoSuchMessage(f"its body cannot be read: {error.strerror}") from None
