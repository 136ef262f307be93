"""A head start for a message that comes alone: a worker is shown it while its record is being synced.

Promise:  J1a: what is shown is not assigned, and each showing ends: with the assignment of that message to that worker,
          which comes without its text, or with an `Unshow`. Where more is under way nothing is shown.
On crash: the worker drops what it was shown as soon as the connection ends.
Callers:  run.queue; `Storage` tells it of syncs.
"""

from collections.abc import Callable

from kmq.model import recipients
from kmq.model.frame import Show, Unshow
from kmq.run.arrivals import Arrival
from kmq.run.cord import Ward
from kmq.run.link import Link
from kmq.run.scheduler import Scheduler
from kmq.run.share import all_recipients
from kmq.run.storage import Storage
from kmq.spool.record import Put
from kmq.spool.store import Pending


class HeadStart:
    """link: to the worker of a number; ward: knows the number of the configuration."""

    def __init__(self, core: Scheduler, storage: Storage, link: Callable[[int], Link | None], ward: Ward) -> None:
        self._core = core
        self._link = link
        self._ward = ward
        self._shown: tuple[int, Link] | None = None
        storage.on_alone, storage.on_told = self._show, self._over

    def _show(self, pending: Pending) -> None:
        put, arrival = pending.operations[0], pending.ticket
        if not isinstance(arrival, Arrival) or not isinstance(put, Put) or not isinstance(put.body, bytes):
            return
        link = self._link(self._core.likely)
        if link is None:
            return
        rcpt = recipients.as_text(all_recipients(arrival.recipients))
        seen = Show(arrival.name, rcpt, len(put.line), len(put.body), self._ward.number)
        if link.send(seen, put.line, put.body):
            self._shown = put.id, link

    def has(self, mid: int, link: Link) -> bool:
        """Whether the worker to which this message is assigned now was shown it: then it has the text."""
        if self._shown != (mid, link):
            return False
        self._shown = None
        return True

    def _over(self) -> None:
        """What is durable is assigned: what is still only shown is not for that worker."""
        if self._shown is not None:
            self._shown[1].send(Unshow())
            self._shown = None
