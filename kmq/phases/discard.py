"""Connectors that have their answer at once: `discard` says that it is delivered, `error` refuses.

Promise:  what is discarded stands in the envelope, the mail log and the safety net as any delivered message does; a
          sender who asked to be told of success is not told, since nobody has the mail.
On crash: the same answer is given again.
Callers:  phases.ways.
"""

from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.phases.allotment import Allotment
from kmq.phases.delivery import Delivery


def answer(section: ConnectorSection) -> Reply:
    """What every recipient gets."""
    if section.type == "error":
        return section.reply
    return Reply(250, "2.0.0", f"discarded (by connector {section.name})")


class Discard:
    """One connector of either type."""

    busy = False

    def __init__(self, section: ConnectorSection) -> None:
        self._answer = answer(section)

    def take(self, delivery: Delivery) -> None:
        """Answers for all its recipients."""
        delivery.judge_left(self._answer, "")
        delivery.finish()

    def replace(self, section: ConnectorSection) -> None:
        """The configuration changed."""
        self._answer = answer(section)

    def allot(self, allotment: Allotment) -> None:
        """What workers share does not concern it."""

    def retire(self) -> None:
        """The connector is no more."""

    async def close(self, grace: float, why: Reply) -> None:
        """Nothing is under way."""
