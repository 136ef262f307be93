"""What a result tells of its next hops: that one is there, that it refused, or that it was not reached.

Promise:  pure. A hop that spoke is open again; one that was not reached waits by its schedule, and those whose
          lifetime is over have had their last attempt. The submission queue cannot be out of reach.
On crash: nothing is kept.
Callers:  kmq/run/scheduler, with each result, before what is left of its share goes on (`sequel`).
"""

from kmq.run.backoff import Jitter
from kmq.run.expiry import Expiry
from kmq.run.fates import Fates
from kmq.run.hopqueue import HopQueue
from kmq.run.lines import Lines


class Reach:
    """jitter: as the configuration says now."""

    def __init__(self, lines: Lines, expiry: Expiry, jitter: Jitter) -> None:
        self.jitter = jitter
        self._lines = lines
        self._expiry = expiry

    def spoke(self, own: HopQueue, fates: Fates, probing: bool, now: float) -> None:
        """The hops that gave results are there; a hop that a fresh message went to in one go may be one of them."""
        for hop in fates.spoke:
            queue = self._lines.queue(hop, now) if hop else own
            refusal = ""
            if fates.parts:
                refusal = fates.refusal(hop)
            elif queue is not own:
                queue.arrived += 1
                queue.departed += 1
            throttle = queue.throttle
            heeds = throttle is not None and throttle.slow is not None  # it counts whatever the hop says
            if queue.failures or queue.doubtful or queue.width < queue.limit or refusal or heeds:
                queue.spoke(probing and queue is own, not refusal)
                if refusal:
                    self._lines.throttles.refused(queue, refusal, now)
                self._lines.rota.judge(queue, False)
                self._lines.mark(queue)
                self._lines.rota.list(queue, now)

    def silent(self, hop: str, why: str, probed: HopQueue | None, now: float) -> HopQueue | None:
        """The hop was not reached: its queue waits, and those whose lifetime is over have had their last attempt.

        why: a reply; probed: the queue whose probe this was. -> the queue; None for submission, which cannot be out
        of reach, whatever a worker says: that would stop all mail.
        """
        lines = self._lines
        queue = lines.queue(hop, now)
        if queue is lines.submission or not queue.limit:
            return None
        if queue.failed(why, queue is probed):
            queue.next_retry = now + self.jitter.spread(queue.schedule.connection.after(queue.failures))
            queue.silent(now, self._expiry.lifetime.wall(now))
            lines.rota.judge(queue, True)
            lines.mark(queue)
            lines.alarm(queue, now)
            self._expiry.begin(queue, why, now)
        return queue
