"""Why the messages of a queue are still here (`kmq explain QUEUE`).

Promise:  pure, as `explain`.
Callers:  kmq.cli.explain.
"""

from collections.abc import Iterator

from kmq.admin.circumstances import QueueState
from kmq.admin.explain import of_kmqd, queue_held, queue_waits, stopped
from kmq.admin.explain_evidence import called, state_of
from kmq.admin.explain_finding import Facts, Finding
from kmq.model import hop as hops
from kmq.model.hop import DeliveryType, NextHop


def explain_queue(
    hop: NextHop, count: int, domains: list[str], facts: Facts, next_try: float | None = 0.0
) -> list[Finding]:
    """The causes, what counts for everything first; never empty. count: messages in it; domains: of some of them;
    next_try: when the first of them is tried (Unix time), 0.0 for as soon as possible, None for not before somebody
    does something.
    """
    words = {
        "id": str(hop.name),
        "connector": hop.connector,
        "domain": ", ".join(domains[:3]) or "the domain",
        "path": facts.settings.path,
        "queue": called(hop, facts.around.queues),
    }
    found = stopped(list(of_kmqd(facts, {})), list(_causes(hop, count, facts, next_try)))
    for one in found:
        one.queue = hop.name
        one.words = words | one.words
    return found


def _causes(hop: NextHop, count: int, facts: Facts, next_try: float | None) -> Iterator[Finding]:
    queue = facts.around.queues.get(str(hop)) or QueueState()
    held = queue_held(hop, queue)
    if held is not None:
        yield held
    elif not count:
        yield Finding("empty", evidence=state_of(queue))
    elif hop == hops.POISON:
        yield Finding("poison-queue")
    elif hop.delivery_type is DeliveryType.UNREACHABLE:
        yield Finding("unreachable-queue", evidence=state_of(queue))
    else:
        yield queue_waits(queue) or _open(queue, next_try)


def _open(queue: QueueState, next_try: float | None) -> Finding:
    """Nothing holds the whole of it."""
    if queue.status == "Connecting" and queue.failures:
        return Finding("probe-running", until=0.0, evidence=state_of(queue))
    if next_try is None:
        return Finding("held-each", evidence=state_of(queue))
    code = "deferred-each" if queue.status == "Ready" else "flowing"
    return Finding(code, until=0.0 if code == "flowing" else next_try, evidence=state_of(queue))
