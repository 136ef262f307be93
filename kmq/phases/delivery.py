"""A Work on its way to another server: which recipients are left, what was said about the others.

Promise:  the report is made once, when every recipient has a result, or nothing was tried at all.
On crash: see phases.work.
Callers:  phases.smtp, phases.connection.
"""

from collections.abc import Iterable

from kmq.model import recipients
from kmq.model.envelope import Head
from kmq.model.event import Event
from kmq.model.reply import Reply
from kmq.phases.rendering import Rendering, note_rewritten, render
from kmq.phases.rewriting import Rewriter
from kmq.phases.work import Outcome, Report, Show, Work, result

TRANSACTION_LIMIT = 100  #: recipients that every server must take in one transaction, RFC 5321 4.5.3.1.8


class Delivery:
    """One Work and what has become of it so far.

    left:      recipients that have no verdict.
    limit:     recipients to try in one transaction; what a server took when it said `too many`.
    uncertain: a final dot may have been sent and no reply came.
    relayed:   recipients who were handed to a server that knows nothing of notices.
    begun:     the loop's time at which a connection first had it; 0.0 before.
    rendering: how it is written differently from how it lies in the queue; None when it is not. rewriter: of the
               connector's addresses.
    """

    __slots__ = (
        "_replies", "begun", "left", "limit", "relayed", "rendering", "report", "rewriter", "show", "uncertain",
        "work",
    )  # fmt: skip

    def __init__(self, work: Work, report: Report, show: Show, rewriter: Rewriter | None = None) -> None:
        """rewriter: of the connector's addresses."""
        self.work = work
        self.rewriter = rewriter
        self.rendering: Rendering | None = None
        self.report = report
        self.show = show
        self.left = list(work.rcpt)
        self.limit = TRANSACTION_LIMIT
        self.uncertain = False
        self.begun = 0.0
        self.relayed: list[int] = []
        self._replies: dict[tuple[Reply, str, str], list[int]] = {}

    # --- how it is written -------------------------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """As the server is to see it."""
        return self.work.head if self.rendering is None else self.rendering.head

    def unrendered(self, eight_bit: bool) -> bool:
        """Whether it has to be written differently for a server that offers 8BITMIME, or does not, and is not yet."""
        wide = self.work.head.eight_bit and not eight_bit
        if self.rewriter is None and not wide and not self.work.edits:
            self.rendering = None
            return False
        return self.rendering is None or self.rendering.seven_bit is not self._seven_bit(eight_bit)

    def rendered(self, eight_bit: bool) -> Rendering | Reply:
        """How it is written for such a server, or why it cannot be. Blocks on a large body."""
        return render(self.work, self.rewriter, self._seven_bit(eight_bit))

    def take(self, rendering: Rendering | Reply) -> None:
        """What came of `rendered`."""
        if isinstance(rendering, Reply):
            self.judge_left(rendering, "")
            return
        self.rendering = rendering
        note_rewritten(self.work, self.rewriter)

    def _seven_bit(self, eight_bit: bool) -> bool:
        """A message with a UTF-8 header has no other form (RFC 6531 3.2): it is refused in `phases.commands`."""
        head = self.work.head
        return head.eight_bit and not eight_bit and not head.smtputf8

    # --- what is said about it ---------------------------------------------------------------------------------------

    def judge(self, verdicts: Iterable[tuple[int, Reply]], host: str, tls: str = "") -> None:
        """What a server said about some recipients, and how that was protected; they are not left any more."""
        for index, reply in verdicts:
            self._replies.setdefault((reply, host, tls), []).append(index)
            self.left.remove(index)

    def judge_left(self, reply: Reply, host: str, tls: str = "") -> None:
        """The same about all that are left."""
        self.judge([(index, reply) for index in self.left], host, tls)

    def finish(self) -> None:
        """Every recipient has its verdict: the report."""
        attempt = self.work.attempt
        events: list[Event] = []
        for (reply, host, tls), indices in self._replies.items():
            rcpt = recipients.as_text(indices) if len(indices) > 1 else str(indices[0])
            events.append(result(rcpt, attempt, reply, host, tls))
        self.report(Outcome(events, None, self.uncertain, begun=self.begun, relayed=self.relayed))

    def damaged(self, why: str) -> None:
        """The body is not what was accepted. When some recipients are done already, it is a result of the others."""
        if self._replies:
            self.judge_left(Reply(451, "4.3.0", f"the message is damaged: {why}"), "")
            self.finish()
        else:
            self.report(Outcome(damaged=why))

    def unreachable(self, reply: Reply) -> None:
        """No server could be talked to, or for good there is none.

        It is a result of the recipients that are left when it is final, or when others are done already.
        """
        if self._replies or reply.permanent:
            self.judge_left(reply, "")
            self.finish()
        else:
            self.report(Outcome(unavailable=reply))
