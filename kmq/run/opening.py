"""The spool as it is at the start of the scheduler process: recovered, with the store that the configuration names.

Promise:  J5. What was set aside, and how much had to be repaired, stands in the log.
On crash: the next start recovers again; every step may be cut (spool.recovery).
Callers:  run.queue, once, before it serves anybody.
"""

import time

from kmq import log
from kmq.config import Settings
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.effects import Effects
from kmq.spool.incoming import lives
from kmq.spool.recovery import Recovered, Recovery
from kmq.spool.store import FileStore, JournalStore, Store


def open_spool(disk: Disk, settings: Settings) -> tuple[Store, Recovered]:
    """OSError when the disk does not do what it should."""
    began = time.monotonic()
    queue = settings.queue
    note = Note(str(settings.kmq.run_directory / "syncfs"))
    recovered, journal = Recovery(disk, note, queue.queue_database_logging_file_size, lives).recover()
    effects = Effects(disk, recovered.poison)
    size = queue.queue_database_batch_size
    store: Store
    if queue.durability == "journal":
        store = JournalStore(disk, journal, effects, note, last_id=recovered.last_id, batch_size=size)
    else:
        store = FileStore(disk, effects, note, last_id=recovered.last_id, batch_size=size)
    _tell(recovered, time.monotonic() - began)
    return store, recovered


def _tell(recovered: Recovered, seconds: float) -> None:
    for sentence in recovered.set_aside:
        log.warning("set aside in poison/", what=sentence)
    log.event(
        "recovered",
        generation=recovered.generation,
        traced=len(recovered.traced),
        repaired=recovered.repaired,
        rewritten=int(recovered.rewritten),
        ms=int(seconds * 1000),
    )
