"""`kmq snapshot DIR`: a copy of the queue and of poison/, from which `kmq restore` brings messages back.

Promise:  nothing of the spool is changed. While kmqd runs, it brings its files up to its journal first, and what it
          acknowledged before that is in the copy, unless it was delivered by then. When it does not run, its locks are
          held meanwhile. Exit status 1 when something in it is damaged, 75 when kmqd cannot be asked.
Callers:  kmq.cli.kmq.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kmq.admin import client
from kmq.cli.alone import alone_in
from kmq.cli.call import DONE, REFUSED, Call
from kmq.errors import KmqError, SpoolError
from kmq.spool import snapshot
from kmq.spool.disk import Disk
from kmq.spool.inspection import read_log
from kmq.spool.lock import spool_held
from kmq.view.words import counted, harmless, volume


class NotSettled(KmqError):
    """kmqd's files are not what its journal says, and it says why."""


def run(call: Call) -> int:
    """The verb."""
    spool, folder = call.settings.kmq.spool, Path(call.arguments.folder)
    counts, size, damaged = {"queue": 0, "poison": 0}, 0, 0
    with _at_rest(call):
        try:
            for saved in snapshot.take(spool, folder, call.settings.kmq.hostname):
                counts[saved.home] += 1
                size += saved.size
                damaged += bool(saved.why)
                _tell(call, saved)
        except OSError as error:
            raise SpoolError(f"{error.filename or folder}: {error.strerror}; {folder} is not whole") from None
    if not call.json:
        poison = f", {counted(counts['poison'], 'message')} in poison/" if counts["poison"] else ""
        call.tell([f"{folder}: {counted(counts['queue'], 'message')} of the queue{poison}, {volume(size)}"])
    if damaged:
        call.warn(f"{counted(damaged, 'message')} in it damaged: kmq fsck tells more")
    return REFUSED if damaged else DONE


@contextmanager
def _at_rest(call: Call) -> Iterator[None]:
    """The files say what the journal says: by kmqd's word, or because nobody works there."""
    section = call.settings.kmq
    if spool_held(section.spool) is not False:
        response = client.ask(section.run_directory, "settle")
        if response.status != DONE:
            raise NotSettled(response.text)
        yield
        return
    with alone_in(section, "Try again"):
        disk = Disk(section.spool)
        try:
            traced = read_log(disk).traced
        finally:
            disk.close()
        if traced:
            what = "kmqd was not stopped in order, and its journal says more than its files"
            raise SpoolError(f"{section.spool}: {what}: start it once, or kmq fsck --repair")
        yield


def _tell(call: Call, saved: snapshot.Saved) -> None:
    if call.json:
        call.tell_objects([{"ID": saved.id, "Home": saved.home, "Size": saved.size, "Trouble": saved.why or None}])
    elif saved.why:
        call.warn(harmless(f"{saved.id}: {saved.why}"))
