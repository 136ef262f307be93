"""The verb `reload`: an operator wants the configuration to be read again, and hears what became of it.

Promise:  the answer is the supervisor's: the new configuration counts for all processes, or for none and it says why,
          with file and line. While it takes long, a line says so, so that nobody takes us for dead.
On crash: asking again does no harm.
Callers:  run.operators.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from kmq import log
from kmq.model.frame import Answer, Reloaded

#: Seconds of silence before a line says that it goes on.
_PAUSE = 5.0

#: Asks the supervisor.
AskForReload = Callable[[], Awaitable[Reloaded]]


async def reload(ask: AskForReload, by: str) -> AsyncIterator[Mapping[str, object] | Answer]:
    """Lines: Option and Counts (`now`, or `after a restart`) of each that changed; Warning; Problem; Waiting."""
    log.event("reload", by=by)
    asked = asyncio.ensure_future(ask())
    try:
        waited = 0.0
        while not (await asyncio.wait((asked,), timeout=_PAUSE))[0]:
            waited += _PAUSE
            yield {"Waiting": waited}
        found = asked.result()
    finally:
        asked.cancel()
    for problem in found.problem.splitlines():
        yield {"Problem": problem}
    if found.problem:
        yield Answer(status=found.status or 1, text="the old configuration stays")
        return
    for option in found.changed:
        yield {"Option": option, "Counts": "now"}
    for option in found.waiting:
        yield {"Option": option, "Counts": "after a restart"}
    for warning in found.warnings:
        yield {"Warning": warning}
    yield Answer(status=0, text=_sentence(found))


def _sentence(found: Reloaded) -> str:
    """`configuration 3 counts for all processes; 2 changes, 1 more when kmqd is started anew`."""
    count, later = len(found.changed), len(found.waiting)
    text = f"configuration {found.n} counts for all processes; "
    text += f"{count} change{'s' * (count != 1)}" if count else "nothing changed"
    return f"{text}, {later} more when kmqd is started anew" if later else text
