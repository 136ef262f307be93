"""Can mail be archived where the configuration says?

Promise:  only looks.
Callers:  admin.check.
"""

import os
import time
from collections.abc import Iterator
from pwd import getpwuid

from kmq.admin.modes import kmqd_s_uid, may_write
from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.config.backup import CLASSES, BackupSection
from kmq.phases.deposit import writable
from kmq.run.archive_age import times_around
from kmq.spool.strays import PERIOD

#: Seconds after its hour at which a folder should have been compressed.
_PATIENCE = 2 * 86400.0


def backup(settings: Settings) -> Iterator[Verdict]:
    """Nothing is said where nothing is archived, and nobody seems to want it."""
    section = settings.backup
    if not section.on:
        if section.address:
            place = settings.origin("backup", "address").place
            text = f"{place}: [backup] address = {section.address}, but no mail is archived"
            yield Verdict(Grade.NOTE, text, "say which: local, incoming, outgoing or relayed = yes")
        return
    what = ", ".join(name for name in CLASSES if getattr(section, name))
    where = " and ".join(one for one in (section.folder, section.address) if one)
    yield Verdict(Grade.GOOD, f"[backup] {what} mail is archived in {where}")
    if section.folder:
        yield from _folder(settings, section)


def _folder(settings: Settings, section: BackupSection) -> Iterator[Verdict]:
    place = f"{settings.origin('backup', 'folder').place}: [backup] folder = {section.folder}"
    inside = section.is_in(settings.kmq.spool)
    if inside and not os.path.lexists(section.folder):
        return  # kmqd makes it
    wrong = writable(section.folder)
    if wrong is not None:
        waits = "mail goes on unarchived" if section.backup_failure == "go_on" else "mail waits"
        remedy = "make it, or mount it" if isinstance(wrong, FileNotFoundError) else "give it to kmqd's user"
        yield Verdict(Grade.WRONG, f"{place}: {wrong.strerror}: {waits}", remedy)
        return
    yield from _disk(settings, section, place)
    yield from _rights(settings, section, place, inside)
    yield from _old(section, place)


def _disk(settings: Settings, section: BackupSection, place: str) -> Iterator[Verdict]:
    room = os.statvfs(section.folder)
    if room.f_flag & os.ST_RDONLY:
        yield Verdict(Grade.WRONG, f"{place}: its file system is read-only", "mount it rw")
        return
    free = room.f_bavail * room.f_frsize
    if free < settings.queue.minimum_free:
        text = f"{place}: only {free >> 20:,} MiB are free there"
        yield Verdict(Grade.WRONG, text, "make room: when it is full, mail waits, or is not archived ([backup] keep)")


def _rights(settings: Settings, section: BackupSection, place: str, inside: bool) -> Iterator[Verdict]:
    found, user = os.stat(section.folder), kmqd_s_uid(settings)
    if found.st_mode & 0o007:
        yield Verdict(Grade.NOTE, f"{place}: everybody may look into it", f"chmod o= {section.folder}")
    if not inside and not may_write(user, found):
        name = getpwuid(user).pw_name
        text = f"{place}: {name}, who kmqd runs as, may not write there"
        yield Verdict(Grade.WRONG, text, f"chown {name} {section.folder}")


def _old(section: BackupSection, place: str) -> Iterator[Verdict]:
    """What should have been compressed by now."""
    if section.compress_at is None or not any(PERIOD.fullmatch(name) for name in os.listdir(section.folder)):
        return
    from kmq.spool import ageing

    due, _ = times_around(time.time() - _PATIENCE, section.compress_at)
    late = [name for name in ageing.over(section.folder, due) if PERIOD.fullmatch(name)]
    if late:
        text = f"{place}: {', '.join(late[:3])}{' ...' if len(late) > 3 else ''} should be compressed by now"
        yield Verdict(Grade.NOTE, text, "see the log of the index process; a file that kmq did not make stays there")
