"""What proves a cause: events of the envelope and states of queues, told in one line each.

Promise:  pure.
Callers:  kmq.admin.explain, kmq.admin.explain_queue, kmq.view.explain.
"""

from collections.abc import Iterable, Sequence

from kmq.admin.circumstances import QueueState
from kmq.admin.explain_finding import Facts
from kmq.admin.listing import Share, person
from kmq.config.scanner import SCANNERS
from kmq.model import hop as hops
from kmq.model.event import Crashed, Deferred, Routed, Suspended
from kmq.model.hop import NextHop
from kmq.model.recipients import from_text
from kmq.spool.look import Found

#: How a queue's last error is told.
LAST_ERROR = "its last error: "


def waiting_in(found: Found, share: Share) -> list[int]:
    """The recipients of a share, by index."""
    state, wanted = found.state, set(share.to)
    text = "" if share.hop == hops.SUBMISSION else str(share.hop)
    return [
        index
        for index in state.open
        if (state.hop[index] == text or (not text and state.hop[index] == str(hops.SUBMISSION)))
        and found.head.recipients[index].address in wanted
    ]


def called(hop: NextHop, queues: Iterable[str]) -> str:
    """What a command calls a queue: its name, or its whole text where another one has that name too."""
    others = sum(_name(text) == hop.name.casefold() for text in queues if text != str(hop))
    return str(hop) if others else hop.name


def _name(text: str) -> str:
    return text.partition(";")[2].rpartition(";")[0].casefold()


def state_of(queue: QueueState) -> list[str]:
    """How a queue is; [] when nobody said."""
    if not queue.status:
        return []
    text = f"the queue is {queue.status}"
    if queue.failures:
        text += f"; attempts in vain: {queue.failures}"
    if queue.held_by:
        text += f"; held by {queue.held_by}"
    return [text, *([LAST_ERROR + queue.last_error] if queue.last_error else [])]


def in_hand(name: str, facts: Facts) -> tuple[str, list[str]]:
    """What is being done with a message now, and since when; ("", []) when no process says that it is at it."""
    hand = facts.around.in_hand.get(name)
    if hand is None:
        return "", []
    doing = f"{hand.status} to {hand.server}, {hand.percent} % sent" if hand.server else hand.status
    proof = [f"{hand.since} {doing}".strip()]
    still = facts.around.still.get(name)
    if still is not None:
        limit = facts.settings.queue.phase_limit
        proof.append(f"its worker stands still for {still:.0f} s; kmqd ends it after phase_limit = {limit:g}s")
    return doing, proof


def holding(found: Found) -> list[str]:
    """Who suspended it, and when."""
    event = _suspension(found)
    return [f"{event.at} suspended {by(event.by, event.reason)}"] if event else []


def holder(found: Found) -> str:
    """`by root: why`, of whoever suspended it."""
    event = _suspension(found)
    return by(event.by, event.reason) if event else "by an operator"


def held_by_scanner(found: Found) -> bool:
    """Whether it was no operator, but a scanner of viruses."""
    event = _suspension(found)
    return event is not None and event.by == SCANNERS


def _suspension(found: Found) -> Suspended | None:
    return next((event for event in reversed(found.events) if isinstance(event, Suspended)), None)


def by(who: str, reason: str) -> str:
    """`by root: the bill is wrong`."""
    return f"{person(who)}: {reason}" if reason else person(who)


def attempt_told(event: Deferred) -> str:
    """One attempt: when, which, where, how protected, what was said."""
    where = ", ".join(filter(None, (event.host, event.tls)))
    return f"{event.at} attempt {event.attempt}{f' at {where}' if where else ''}: {event.reply}"


def crash_told(event: Crashed) -> str:
    """One death of a worker that the message alone made."""
    return f"{event.at} crashed in {event.phase}, time {event.count}: {last_line(event.trace)}"


def last_routing(found: Found, indices: Sequence[int]) -> Routed | None:
    """The event that routed some of these recipients last."""
    return next((one for one in reversed(found.events) if isinstance(one, Routed) and _about(one.rcpt, indices)), None)


def last_deferral(found: Found, indices: Sequence[int]) -> Deferred | None:
    """The last attempt of these recipients that was put off; None when they were not tried since they were routed."""
    return next(
        (one for one in reversed(found.events) if isinstance(one, Deferred) and _about(one.rcpt, indices)), None
    )


def _about(rcpt: str, indices: Sequence[int]) -> bool:
    try:
        return not set(from_text(rcpt)).isdisjoint(indices)
    except ValueError:
        return False


def addresses(found: Found, indices: Sequence[int]) -> list[str]:
    """Of these recipients."""
    return [found.head.recipients[index].address for index in indices]


def last_line(text: str) -> str:
    """Of a traceback."""
    return text.strip().rpartition("\n")[2]
