"""The verb `settle`: the plain files of the queue are brought up to the journal, for whoever wants to copy them.

Promise:  when it is answered with 0, everything that was accepted, recorded or removed before the word arrived is in
          the files (J1: they follow the journal), though perhaps not synced. Nothing is held up for it.
On crash: nothing is kept.
Callers:  run.operators.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

from kmq.model.frame import Answer
from kmq.model.outcome import NOT_NOW, REFUSED
from kmq.run.storage import Storage

#: Seconds between two looks; of silence before a line says that it goes on; and in all.
_LOOK, _PAUSE, _LONGEST = 0.02, 5.0, 60.0


async def settle(storage: Storage) -> AsyncIterator[Mapping[str, object] | Answer]:
    """Lines: Waiting, while it takes long."""
    asked = time.monotonic()
    said = asked
    effects = storage.store.effects
    while _behind(storage.undurable_since, asked) or _behind(effects.next_at(), asked):
        now = time.monotonic()
        if now - asked > _LONGEST:
            yield Answer(status=NOT_NOW, text="the files are far behind the journal; try again later")
            return
        if now - said > _PAUSE:
            said = now
            yield {"Waiting": round(now - asked, 1)}
        await asyncio.sleep(_LOOK)
    if effects.owed:
        why = f"some files cannot be written: {effects.trouble or effects.stuck}"
        yield Answer(status=REFUSED, text=f"{why}; they are in the journal alone")
    else:
        yield Answer(status=0, text="the files are as the journal says")


def _behind(since: float | None, asked: float) -> bool:
    return since is not None and since <= asked
