"""What an operator may say about messages and queues, and what it means for their shares.

Promise:  from the word's arrival nothing new of a suspended or removed message is handed out. What is out ends as it
          ends. A removal is granted only when no worker holds any of the message and no result about it waits for its
          sync (J14); until then it is pending. Whoever asks writes the record, then says `removed`.
On crash: suspensions come back from the envelopes (Suspended); a removal that was not written was not answered.
Callers:  the scheduler process, for the verbs of the control socket and to move a message to poison/.
"""

from typing import NamedTuple

from kmq.model.hop import NextHop, parse
from kmq.run.hopqueue import HopQueue, QueueFacts
from kmq.run.lines import UNREACHABLE, Lines
from kmq.run.share import (
    ALONE,
    HELD,
    IN_HAND,
    NDR,
    READY,
    RECORDING,
    REMOVING,
    REROUTE,
    SUSPENDED,
    WAITING,
    Share,
    chain,
    turn,
)

#: Shares that are removed before the loop has its turn.
PORTION = 500


class TakenOut(NamedTuple):
    """Recipients that may be removed now. last: nothing else is left of the message; shares: what they were in."""

    mid: int
    rcpt: tuple[int, ...]
    last: bool
    shares: list[Share]


class Verbs:
    """The verbs. Each says whether it knows what it is asked about."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def facts(self, hop: str) -> QueueFacts | None:
        """How a queue is; None when there is none of this next hop."""
        queue = self._lines.queues.get(hop)
        return queue.facts() if queue is not None else None

    def slowed(self) -> list[tuple[NextHop, float, str]]:
        """Next hops that asked for less since this was asked last: seconds of the pause, and what they said."""
        throttles = self._lines.throttles
        slowed, throttles.slowed = throttles.slowed, []
        return [(parse(hop), pause, reply) for hop, pause, reply in slowed]

    # --- messages ------------------------------------------------------------------------------------------------

    def scope(self, mid: int, hop: str = "") -> list[Share]:
        """The shares that an operator means: of the message, in the queue of this next hop, "" for all queues."""
        shares = [share for share in chain(self._lines.messages.get(mid)) if share.rcpt]
        return [share for share in shares if share.queue.hop == hop] if hop else shares

    def suspend(self, mid: int, now: float, hop: str = "") -> list[Share]:
        """They are held until `resume`; what is in hand, when it comes back. The shares, [] when nobody knows them."""
        shares = self.scope(mid, hop)
        for share in shares:
            share.word |= SUSPENDED
            self._stop(share, now)
        return shares

    def resume(self, mid: int, now: float, hop: str = "") -> list[Share]:
        """They go on; what waits for its next attempt still waits. Unreachable recipients are routed anew.

        The shares that were suspended.
        """
        lines = self._lines
        shares = [share for share in self.scope(mid, hop) if share.word & SUSPENDED]
        for share in shares:
            share.word &= ~SUSPENDED
            if share.state is HELD:
                if share.queue.hop == UNREACHABLE:
                    lines.move(share, lines.submission, now)
                lines.line_up(share, now)
        return shares

    def retry(self, mid: int, now: float, hop: str = "") -> list[Share]:
        """What waits is tried now, and so is the hop that it waits for. What is held stays held."""
        lines = self._lines
        shares = self.scope(mid, hop)
        for share in shares:
            if share.state is WAITING:
                share.due = 0
                lines.line_up(share, now, front=True)
            if share.state is READY or share.state is ALONE:
                self._reach(share.queue, now)
        return shares

    def resubmit(self, mid: int, now: float, hop: str = "") -> list[Share]:
        """They go back to the categorizer with their attempts; what is in hand, when it comes back.

        Suspended ones stay as they are. The shares that go.
        """
        lines = self._lines
        stay = SUSPENDED | REMOVING
        shares = [one for one in self.scope(mid, hop) if not one.word & stay and one.queue is not lines.submission]
        for share in shares:
            self._send_back(share, now)
        return shares

    def redirect(self, mid: int, connector: str, now: float, hop: str = "") -> list[Share]:
        """They go by this connector from now on, whatever routing says; what is in hand, when it comes back."""
        shares = [one for one in self.scope(mid, hop) if not one.word & REMOVING]
        for share in shares:
            share.forced = connector
            self._send_back(share, now)
        return shares

    def _send_back(self, share: Share, now: float) -> None:
        share.word |= REROUTE
        self._stop(share, now)

    def _stop(self, share: Share, now: float) -> None:
        """Something was said of the share: unless somebody works on it, it takes the place that this gives it."""
        if share.state not in IN_HAND:
            self._lines.line_up(share, now)

    def _hold(self, mid: int, now: float) -> None:
        """The message is stopped: those of its shares that nobody works on leave their lines."""
        for share in chain(self._lines.messages[mid]):
            self._stop(share, now)

    # --- some recipients of a message, out of the queue ----------------------------------------------------------

    def take_out(self, mid: int, now: float, hop: str = "", ndr: bool = False) -> list[Share]:
        """Their recipients are to be removed when nobody has them in hand: `taken_out` names them then.

        ndr: a worker tells their sender, as of any failure, instead. The shares, [] when nobody knows them.
        """
        shares = self.scope(mid, hop)
        for share in shares:
            share.word |= REMOVING | (NDR if ndr else 0)
            share.due = 0 if share.state not in IN_HAND else share.due
            self._stop(share, now)
        return shares

    def taken_out(self) -> list[TakenOut]:
        """What may be removed now (J10, J14), some of it; each is named once, and its record is to be written.

        Ask again when it is durable.
        """
        lines = self._lines
        if lines.unreported or not lines.taken_out:
            return []
        found: dict[int, list[Share]] = {}
        for _ in range(min(PORTION, len(lines.taken_out))):
            share = lines.taken_out.popleft()
            leaving = share.mid in lines.pending or share.mid in lines.granted
            if share.state is HELD and share.word & REMOVING and not leaving:
                turn(share, RECORDING)
                found.setdefault(share.mid, []).append(share)
        return [self._taken_out(mid, parts) for mid, parts in found.items()]

    def _taken_out(self, mid: int, shares: list[Share]) -> TakenOut:
        rcpt = tuple(sorted(index for share in shares for index in share.rcpt))
        for share in shares:
            share.rcpt = ()
        return TakenOut(mid, rcpt, not self.scope(mid), shares)

    def leaves(self, share: Share) -> bool:
        """Whether it is being removed, or its message is on its way to poison/."""
        lines = self._lines
        return bool(share.word & REMOVING) or share.mid in lines.pending or share.mid in lines.granted

    def out(self, one: TakenOut, now: float) -> None:
        """The record about these recipients is durable."""
        for share in one.shares:
            self._lines.leave(share, now)
        self._lines.at_rest(one.mid)

    # --- queues --------------------------------------------------------------------------------------------------

    def hops(self) -> list[str]:
        """The next hops of all queues."""
        return list(self._lines.queues)

    def formerly(self, names: dict[str, str]) -> None:
        """Former name of a connector -> the name that it bears now: a next hop that names the former is the same."""
        self._lines.former = names

    @property
    def former(self) -> dict[str, str]:
        """What `formerly` said last."""
        return self._lines.former

    def rename_connector(self, old: str, new: str, now: float) -> list[str]:
        """Its queues go on under the new name, with all that they hold; their next hops."""
        return [queue.hop for queue in self._lines.rename(old, new, now)]

    @property
    def marks(self) -> int:
        """Grows when a queue is held or let go, closed or opened, or forgotten."""
        return self._lines.marks

    def held_queues(self) -> dict[str, str]:
        """Next hop -> who holds its queue and why, of all that are suspended."""
        return {queue.hop: queue.held_by for queue in self._lines.queues.values() if queue.held_by}

    def suspend_queue(self, hop: str, now: float, by: str = "an operator", make: bool = False) -> bool:
        """Nothing leaves the queue until `resume_queue`; what comes in stays in it.

        by: who holds it and why, `uid 0: reason` or `grace hold: cause`. make: also when there is no such queue yet.
        False when there is none.
        """
        queue = self._lines.queue(hop, now) if make else self._lines.queues.get(hop)
        if queue is None or (queue.hop == UNREACHABLE != hop):  # no next hop at all
            return False
        queue.held_by = by
        self._lines.mark(queue)
        return True

    def resume_queue(self, hop: str, now: float) -> bool:
        """The queue goes on; suspended messages in it stay so. False when there is none, or nobody holds it."""
        queue = self._lines.queues.get(hop)
        if queue is None or not queue.held_by:
            return False
        queue.held_by = ""
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
        """A queue in Retry may try its hop at once; the failure, if it is one, sets its time anew. One that its
        connector's hours keep shut is sent."""
        if queue.shut and queue.hours is not None and queue.hours.send(queue):
            self._lines.rota.list(queue, now)
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

    @property
    def letting_go(self) -> bool:
        """Whether anything may leave now on an operator's word (`released`, `taken_out`)."""
        return self._lines.letting_go

    def released(self) -> list[int]:
        """The pending ones that may be removed now; each is named once."""
        return self._lines.released()

    def removed(self, mid: int, now: float) -> None:
        """The message is gone from the queue; its record is durable."""
        lines = self._lines
        for share in list(chain(lines.messages.get(mid))):
            lines.leave(share, now)
