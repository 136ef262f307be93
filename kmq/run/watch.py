"""Who stands still, whether all is well, and the sentence about it: the supervisor's look at its children.

Promise:  pure. A process whose loop has not turned for longer than its limit stands still, which is known when it
          has not been heard of for so long since its next word was due. Before it is ready it may take longer, since
          recovery reads a whole spool in one go. Workers are ended by the scheduler process, which knows what they have
          in hand; the others by the supervisor. When a child stands still and nobody has been able to end it, all is
          not well, and systemd hears no sign of life any more.
Callers:  the supervisor.
"""

from collections.abc import Iterable

from kmq.config import Settings
from kmq.run.children import Child
from kmq.spool.rhythm import REST

#: Seconds until a process says that it is ready: a scheduler process that recovers, any other.
RECOVERY, BIRTH = 3600.0, 300.0

#: Seconds beyond its limit within which a process that stands still should have been ended.
MARGIN = 30.0


def limit(child: Child, settings: Settings) -> float:
    """Seconds of silence that a child is allowed."""
    if not child.ready:
        return RECOVERY if child.role == "scheduler" else BIRTH
    return REST + (settings.queue.phase_limit if child.role == "worker" else settings.kmq.loop_limit)


def standing_still(children: Iterable[Child], settings: Settings, now: float) -> list[Child]:
    """Who is to be ended for it."""
    return [
        one
        for one in children
        if one.pid and one.role != "worker" and not one.hung and now - one.heard > limit(one, settings)
    ]


def well(children: Iterable[Child], settings: Settings, now: float) -> bool:
    """Whether everybody who lives has been heard of in time, or has been ended for it in time."""
    return all(not one.pid or now - one.heard <= limit(one, settings) + MARGIN for one in children)


def beginning(children: Iterable[Child]) -> bool:
    """Whether somebody takes his time for the first time; who dies and is begun again does not."""
    return any(one.pid and not one.ready and one.lives == 1 for one in children)


def sentence(children: Iterable[Child]) -> str:
    """For `systemctl status`."""
    living = list(children)
    waiting = [one.name for one in living if not one.ready]
    queued = max((one.queued for one in living), default=-1)
    if any(name.startswith("scheduler") for name in waiting):
        return "recovers the queue; receivers let clients wait"
    if waiting:
        return f"starts {', '.join(waiting)}"
    intake = next((one.closed for one in living if one.closed), "takes mail in")
    return f"{intake}; {queued} message{'' if queued == 1 else 's'} queued"
