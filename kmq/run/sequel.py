"""What is left of a share when its attempt is over: in which queue it goes on, as which attempt, and when.

Promise:  pure. All that one result defers for a hop stays together, whatever the replies, so that it goes in one
          transaction again; only what is owed a notice is told apart by reply, since each notice bears its own.
On crash: nothing is kept.
Callers:  kmq/run/scheduler.
"""

from math import ceil
from typing import NamedTuple

from kmq.model import moment
from kmq.run.assignment import Assignment
from kmq.run.backoff import UNCERTAIN, UNTRIED, Jitter
from kmq.run.expiry import Expiry
from kmq.run.fates import Fates, Part
from kmq.run.hopqueue import HopQueue
from kmq.run.lines import Lines
from kmq.run.share import RECORDING, SUSPENDED, Share, shared


class Ended(NamedTuple):
    """An attempt that is over. uncertain: it may have succeeded; unreached: the queue whose hop was out of reach."""

    out: Assignment
    uncertain: bool
    unreached: HopQueue | None


class Sequel:
    """jitter: as the configuration says now."""

    def __init__(self, lines: Lines, expiry: Expiry, jitter: Jitter) -> None:
        self.jitter = jitter
        self._lines = lines
        self._expiry = expiry

    def of(self, ended: Ended, fates: Fates, now: float) -> tuple[tuple[Share, ...], str]:
        """The shares that are left, each in its queue and not yet in line, and when what was deferred is tried again.

        The share that was out has no recipients when this is called.
        """
        out = ended.out
        if fates.warned:
            self._lines.warn(out.mid, fates.warned)
        if out.delay and fates.parts == (Part(out.rcpt, "", ""),):
            out.share.rcpt = out.rcpt
            return (out.share,), ""  # it waits on, until when it did before
        groups: dict[tuple[HopQueue, bool, str, bool], list[int]] = {}
        priority, word = out.share.priority, out.share.word
        for rcpt, hop, reply, held in fates.parts:
            queue = self._lines.queue(hop, now) if hop else out.share.queue
            over = reply != "" and not out.expire and self._expiry.over(queue, out.mid, out.attempt, now, priority)
            groups.setdefault((queue, reply != "", reply if over else "", held), []).extend(rcpt)
        going = []
        until = ""
        for (queue, deferred, last, held), found in groups.items():
            part = self._part(out, queue, found, now)
            part.due = 0
            part.word = word | SUSPENDED if held else word
            if deferred:
                part.attempt = out.attempt + 1
                part.owed = self._expiry.given_up(part, last, now) if last else None
                if part.owed is None:
                    part.due = ceil(now + self._wait(queue, out.attempt, ended.uncertain, now))
                    until = moment.as_text(self._expiry.lifetime.wall(part.due))
            elif queue is out.share.queue and queue is not ended.unreached and not held:
                part.due = ceil(now + UNTRIED)
            going.append(part)
        return tuple(going), until

    def _wait(self, queue: HopQueue, failures: int, uncertain: bool, now: float) -> float:
        wait = self.jitter.spread(queue.schedule.deferral.after(failures))
        if queue.hours is not None:
            wait = queue.hours.wait(wait, now)
        return max(wait, UNCERTAIN) if uncertain else wait

    def _part(self, out: Assignment, queue: HopQueue, rcpt: list[int], now: float) -> Share:
        """A share for recipients that go on: the one that was out, when it stays in its queue and is not taken yet."""
        left = shared(tuple(sorted(rcpt)))
        if queue is out.share.queue and not out.share.rcpt:
            out.share.rcpt = left
            return out.share
        share = out.share
        part = Share(
            out.mid, queue, left, out.attempt, RECORDING, 0, None, None, share.word, share.forced, share.priority
        )
        self._lines.enter(part, now)
        return part
