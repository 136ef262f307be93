"""What an operator may say about messages and queues, and what it means for their shares.

Promise:  from the word's arrival nothing new of a suspended or removed message is handed out. What is out ends as it
          ends. A removal is granted only when no worker holds any of the message and no result about it waits for its
          sync (J14); until then it is pending. Whoever asks writes the record, then says `removed` (or `spared`).
On crash: suspensions come back from the envelopes (Suspended); a removal that was not written was not answered.
Callers:  the scheduler process, for the verbs of the control socket and to move a message to poison/.
"""

from kmq.run.hopqueue import HopQueue, QueueFacts
from kmq.run.lines import UNREACHABLE, Lines
from kmq.run.share import ALONE, HELD, IN_HAND, READY, WAITING, chain


class Verbs:
    """The verbs. Each says whether it knows what it is asked about."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def facts(self, hop: str) -> QueueFacts | None:
        """How a queue is; None when there is none of this next hop."""
        queue = self._lines.queues.get(hop)
        return queue.facts() if queue is not None else None

    # --- messages ------------------------------------------------------------------------------------------------

    def suspend(self, mid: int, now: float) -> bool:
        """The message is held until `resume`."""
        if mid not in self._lines.messages:
            return False
        self._lines.suspended.add(mid)
        self._hold(mid, now)
        return True

    def resume(self, mid: int, now: float) -> bool:
        """The message goes on; what waits for its next attempt still waits. Unreachable recipients are routed anew."""
        lines = self._lines
        if mid not in lines.messages:
            return False
        lines.suspended.discard(mid)
        for share in chain(lines.messages[mid]):
            if share.state is HELD and share.queue.hop == UNREACHABLE:
                lines.move(share, lines.submission, now)
        self._let_go(mid, now)
        return True

    def retry(self, mid: int, now: float) -> bool:
        """What waits of the message is tried now, and so is the hop that it waits for. A held message stays held."""
        lines = self._lines
        if mid not in lines.messages:
            return False
        for share in chain(lines.messages[mid]):
            if share.state is WAITING:
                share.due = 0
                lines.line_up(share, now, front=True)
            if share.state is READY or share.state is ALONE:
                self._reach(share.queue, now)
        return True

    def _hold(self, mid: int, now: float) -> None:
        """The message is stopped: those of its shares that nobody works on leave their lines."""
        for share in chain(self._lines.messages[mid]):
            if share.state not in IN_HAND:
                self._lines.line_up(share, now)

    def _let_go(self, mid: int, now: float) -> None:
        """The message is not stopped any more, or not for this reason: what was held is lined up again."""
        for share in chain(self._lines.messages[mid]):
            if share.state is HELD:
                self._lines.line_up(share, now)

    # --- queues --------------------------------------------------------------------------------------------------

    def suspend_queue(self, hop: str, now: float) -> bool:
        """Nothing leaves the queue until `resume_queue`; what comes in stays in it."""
        queue = self._lines.queues.get(hop)
        if queue is None:
            return False
        queue.suspended = True
        self._lines.mark(queue)
        return True

    def resume_queue(self, hop: str, now: float) -> bool:
        """The queue goes on; suspended messages in it stay so."""
        queue = self._lines.queues.get(hop)
        if queue is None:
            return False
        queue.suspended = False
        self._lines.mark(queue)
        self._lines.resumed(queue, now)
        return True

    def retry_queue(self, hop: str, now: float) -> bool:
        """The hop is tried now, and so is what waits in its queue."""
        queue = self._lines.queues.get(hop)
        if queue is None:
            return False
        queue.waits.call()
        self._lines.alarm(queue, now)
        self._reach(queue, now)
        return True

    def flush(self, now: float) -> None:
        """Everything is tried now."""
        for hop in self._lines.queues:
            self.retry_queue(hop, now)

    def _reach(self, queue: HopQueue, now: float) -> None:
        """A queue in Retry may try its hop at once; the failure, if it is one, sets its time anew."""
        if queue.failures:
            queue.next_retry = now
            self._lines.rota.list(queue, now)

    def reroute(self, now: float, hop: str = UNREACHABLE) -> int:
        """What stands or waits in the queue goes back to the categorizer, with its attempts; how many shares did.

        Suspended messages stay where they are; a suspended queue stays as it is.
        """
        lines = self._lines
        queue = lines.queues.get(hop)
        if queue is None or queue.suspended or queue is lines.submission:
            return 0
        moved = queue.empty()
        for share in moved:
            share.due = 0
            lines.move(share, lines.submission, now)
            lines.line_up(share, now)
        return len(moved)

    # --- out of circulation --------------------------------------------------------------------------------------

    def remove(self, mid: int, now: float) -> bool:
        """The message is to be removed, or moved to poison/. True: do it now. False: when `released` names it.

        A message that is not here is in nobody's hands: True.
        """
        lines = self._lines
        if mid not in lines.messages:
            return True
        lines.pending.add(mid)
        self._hold(mid, now)
        return bool(lines.freed([mid]))

    def released(self) -> list[int]:
        """The pending ones that may be removed now; each is named once."""
        return self._lines.released()

    def removed(self, mid: int, now: float) -> None:
        """The message is gone from the queue; its record is durable."""
        lines = self._lines
        for share in list(chain(lines.messages.get(mid))):
            lines.leave(share, now)

    def spared(self, mid: int, now: float) -> None:
        """The removal did not come about; the message goes on."""
        lines = self._lines
        lines.pending.discard(mid)
        lines.granted.discard(mid)
        if mid in lines.messages:
            self._let_go(mid, now)
