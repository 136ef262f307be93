"""A message in a queue, as a selection tells it.

Promise:  what is not asked for is not made: of a hundred thousand rows most are counted, named, or cut off.
Callers:  selection makes rows; kmq.cli and kmq.admin read them.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from kmq.admin.filter_names import MESSAGE
from kmq.admin.filter_values import Kind
from kmq.admin.listing import utc
from kmq.model import queue_id
from kmq.model.hop import DeliveryType
from kmq.spool.index_rows import number_of

#: Columns of the view `messages` that a row is made of.
COLUMNS: Final = ("mid", "NextHop", "QueueStatus", "RecipientList", *(one.name for one in MESSAGE.properties))
_OWN: Final = 4

_TIMES: Final = frozenset(one.name for one in MESSAGE.properties if one.kind is Kind.TIME)
#: Texts for which "" is a value, not none.
_MAY_BE_EMPTY: Final = frozenset({"FromAddress", "OriginalFromAddress"})
_NOT_BY_ITSELF: Final = frozenset({"Suspended", "PendingSuspend", "PendingRemove", "Damaged"})


class Row:
    """id: of the message; hop: the text of the next hop of the queue."""

    def __init__(self, columns: Sequence[Any]) -> None:
        """columns: the values of COLUMNS."""
        self.id = queue_id.text(number_of(columns[0]))
        self.hop: str = columns[1]
        #: Of the whole queue, "" when nobody knows.
        self.queue_status: str = columns[2]
        self._recipients: str = columns[3]
        #: As they are compared: times in Unix time, spans in seconds, addresses on a line each.
        self.plain: Mapping[str, Any] = dict(zip(COLUMNS[_OWN:], columns[_OWN:], strict=True))

    @property
    def to(self) -> list[str]:
        """Addresses that wait there."""
        text: str = self.plain["Recipients"]
        return text.split("\n") if text else []

    @property
    def next_try(self) -> float | None:
        """Unix time, 0.0 for as soon as possible, None for not before somebody does something."""
        status, kind = self.plain["Status"], self.plain["DeliveryType"]
        stands = self.queue_status in ("Suspended", "on-demand") or kind == DeliveryType.UNREACHABLE.value
        if status in _NOT_BY_ITSELF or (status == "Ready" and stands):
            return None
        return self.plain["NextRetryTime"] or 0.0

    @cached_property
    def properties(self) -> Mapping[str, object]:
        """By Exchange's names; times in RFC 3339."""
        told: dict[str, object] = {name: _shown(name, one) for name, one in self.plain.items()}
        told["MessageLatency"] = latency(self.plain["MessageLatency"])
        told["Recipients"] = [
            {
                "Address": address,
                "Status": own or _of_recipient(self.plain["Status"]),
                "LastError": error or None,
                "NextHop": self.hop,
            }
            for address, own, error in json.loads(self._recipients)
        ]
        return told


def _shown(name: str, one: Any) -> object:
    if name in _TIMES:
        return utc(one or 0.0)
    return None if one == "" and name not in _MAY_BE_EMPTY else one


def _of_recipient(status: str) -> str:
    """A recipient is Complete, Ready, Retry or Suspended, whatever happens to the message just now."""
    return status if status in ("Retry", "Suspended") else "Ready"


def latency(seconds: float) -> str:
    """A span as Exchange writes it: `hh:mm:ss.ff`, with days before it when there are any."""
    whole, hundredths = divmod(round(seconds * 100), 100)
    days, rest = divmod(whole, 86400)
    return f"{f'{days}.' * (days > 0)}{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.{hundredths:02d}"
