"""LMTP (RFC 2033) where it differs from SMTP: the server greets LHLO, and answers for each recipient behind the dot.

Promise:  the n-th reply behind the dot is that of the n-th recipient who was accepted. When the connection ends between
          them, those without one are uncertain (Transaction.uncertain); the others have theirs.
On crash: see phases.transaction.
Callers:  phases.connection.
"""

from collections.abc import Sequence

from kmq.model.reply import Reply
from kmq.phases.replies import as_reply
from kmq.phases.transaction import Deed, Stage, Transaction

_NOBODY = Reply(451, "4.5.0", "the server wants a message that is for nobody (RFC 2033 4.2)")


class LmtpTransaction(Transaction):
    """See phases.transaction."""

    __slots__ = ("_answers",)

    def __init__(self, mail: bytes, rcpt: list[tuple[int, bytes]], pipelining: bool, reset: bool = False) -> None:
        super().__init__(mail, rcpt, pipelining, reset)
        self._answers = 0

    def final(self, left: Sequence[int]) -> bool:
        """Of several replies one may be missing; what came next would be taken for it, and a recipient for served."""
        return len(self.accepted) == 1 and super().final(left)

    def replied(self, code: int, text: bytes) -> Deed:
        """The next reply; what to do now."""
        if self.stage is Stage.DOT and code != 421 and code // 100 in (2, 4, 5):
            return self._answered_for_one(code, text)
        if self.stage is Stage.DATA and code // 100 == 3 and not self.accepted:
            return self._close(_NOBODY)  # there would be no reply to the dot
        return super().replied(code, text)

    def _answered_for_one(self, code: int, text: bytes) -> Deed:
        self.verdicts.append((self.accepted[self._answers], as_reply(code, text)))
        self._answers += 1
        if self._answers < len(self.accepted):
            return Deed.WAIT
        self.unclean = not all(reply.done for _, reply in self.verdicts[-self._answers :])
        return self._end(Deed.END)
