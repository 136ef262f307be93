"""A Work whose recipients are done one by one, in threads: its report when the last of them is.

Promise:  each recipient gets one result; what no thread has come to, or died of, is temporary.
On crash: see phases.work.
Callers:  phases.mboxes, phases.pipe.
"""

from kmq.model.reply import Reply
from kmq.phases.delivery import Delivery

STOPPING = Reply(421, "4.3.2", "kmq is stopping")


class Settling:
    """One Work on its way."""

    __slots__ = ("_damage", "_open", "delivery")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self._open = len(delivery.left)
        self._damage = ""

    def end(self, index: int, reply: Reply | None, damage: str, error: BaseException | None) -> None:
        """What became of a recipient: his reply; or his message is damaged; or our program failed."""
        if damage:
            self._damage = self._damage or damage
            self._count()
        else:
            why = f": {error!r}" if error is not None else ""
            self.judge(index, reply or Reply(451, "4.3.0", f"local storage error{why}"))

    def judge(self, index: int, reply: Reply) -> None:
        """The result of a recipient."""
        self.delivery.judge([(index, reply)], "")
        self._count()

    def _count(self) -> None:
        self._open -= 1
        if self._open:
            return
        if self._damage:
            self.delivery.damaged(self._damage)
        else:
            self.delivery.finish()
