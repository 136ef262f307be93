"""What operators say of queues, carried out: suspend, resume, retry, and how they stand.

Promise:  a queue that is suspended stays so through restarts: the answer follows the file (run.holds). What is in hand
          when the word comes ends as it ends. Looks cost the loop a moment, and nothing is read from disk for them.
On crash: what was not answered may have happened or not; asking again does no harm.
Callers:  run.operators.
"""

import time
from collections.abc import AsyncIterator, Iterator

from kmq.log import mail
from kmq.model import hop as hops
from kmq.model import moment
from kmq.model.frame import Answer
from kmq.model.outcome import DONE, REFUSED
from kmq.run import tried
from kmq.run.holds import Holds
from kmq.run.hopqueue import QueueFacts
from kmq.run.identities import Identities
from kmq.run.lines import UNREACHABLE
from kmq.run.operators_messages import Deed
from kmq.run.scheduler import Scheduler


class QueueVerbs:
    """The verbs of whole queues, by the texts of their next hops."""

    def __init__(self, core: Scheduler, holds: Holds, identities: Identities) -> None:
        self._core = core
        self._holds = holds
        self._identities = identities

    def find(self, name: str) -> list[str]:
        """The next hops of a queue's name, whichever way it is written."""
        found = self._core.verbs.hops()
        return [name] if name in found else [hop for hop in found if hops.parse(hop).name == name]

    async def hold(self, deed: Deed, name: str) -> AsyncIterator[dict[str, object] | Answer]:
        """Suspends a queue, or lets it go on."""
        now = time.monotonic()
        verbs = self._core.verbs
        found = self.find(name)
        if deed.verb == "suspend":
            done = [hop for hop in found if verbs.suspend_queue(hop, now, held_by(deed))]
        else:
            done = [hop for hop in found if verbs.resume_queue(hop, now)]
        if not done:
            yield Answer(status=REFUSED, text=_nothing(deed, found))
            return
        try:
            await self._holds.keep()
        except OSError as error:
            yield Answer(
                status=REFUSED, text=f"until kmqd starts anew only, since state/queues cannot be written: {error}"
            )
            return
        mail.tell(f"{deed.verb}-queue", by=deed.by, queue=name, reason=deed.reason or None)
        word = "suspended" if deed.verb == "suspend" else "resumed"
        yield Answer(status=DONE, text=f"{len(done)} {'queue' if len(done) == 1 else 'queues'} {word}")

    def retry(self, deed: Deed, name: str) -> Answer:
        """Only a queue that goes somewhere, and that nobody holds, is tried."""
        now = time.monotonic()
        found = self.find(name)
        closed = tried.closed_queues(self._core, now)
        mail.tell("retry", by=deed.by, queue=name)
        count = 0
        for one in found:
            self._core.verbs.retry_queue(one, now)
            count += one not in closed and one != UNREACHABLE
        if UNREACHABLE in found and not count:
            return Answer(
                status=REFUSED,
                text="nothing is tried: what is in this queue waits for a connector; kmq resubmit routes it anew",
            )
        if closed.intersection(found) and not count:
            name = hops.parse(found[0]).name
            return Answer(status=REFUSED, text=f"the queue is suspended, not tried: kmq resume --queue {name}")
        text = f"{count} {'queue is' if count == 1 else 'queues are'} tried now"
        return Answer(status=DONE if count else REFUSED, text=text)

    def lines(self) -> Iterator[dict[str, object]]:
        """Every queue as it stands at the first, by the names of Exchange's Get-Queue; times as RFC 3339."""
        now = time.monotonic()
        offset = time.time() - now
        return (self._line(facts, offset) for facts in self._core.queues(now))

    def _line(self, facts: QueueFacts, offset: float) -> dict[str, object]:
        target = hops.parse(facts.hop)
        return {
            "Identity": target.name,
            "NextHopDomain": target.domain,
            "NextHopConnector": target.connector,
            "NextHopConnectorId": self._identities.of(target.connector),
            "NextHopCategory": target.delivery_type.category,
            "NextHop": facts.hop,
            "DeliveryType": target.delivery_type.value,
            "Status": facts.status.value,
            "MessageCount": facts.messages,
            "MessageCountsPerPriority": list(facts.priorities),
            "DeferredMessageCount": facts.deferred,
            "IncomingRate": round(facts.incoming, 2),
            "OutgoingRate": round(facts.outgoing, 2),
            "Velocity": round(facts.outgoing - facts.incoming, 2),
            "FirstRetryTime": _time(facts.first_retry, offset),
            "LastRetryTime": _time(facts.last_retry, offset),
            "NextRetryTime": _time(_next(facts), offset),
            "LastError": facts.last_error or None,
            "RetryCount": facts.failures,
            "HeldBy": facts.held_by or None,
            "Why": facts.why or None,
            "Throttled": facts.throttled or None,
            "Timetable": facts.timetable or None,
        }


def held_by(deed: Deed) -> str:
    """Who holds a queue, and why: `uid 0: reason`."""
    return f"{deed.by}: {deed.reason}" if deed.reason else deed.by


def _nothing(deed: Deed, found: list[str]) -> str:
    if not found:
        return "no queue has this name; kmq queues shows them"
    return "it is suspended already" if deed.verb == "suspend" else "it is not suspended"


def _next(facts: QueueFacts) -> float | None:
    """When something is tried, or may go, at the earliest."""
    if facts.timetable:
        return facts.opens
    return facts.throttled_until if facts.next_retry is None else facts.next_retry


def _time(at: float | None, offset: float) -> str | None:
    return None if at is None else moment.as_text(at + offset)
