"""A message in a queue, as a selection tells it: a Row of all properties, or a Line of those that a list shows.

Promise:  what is not asked for is not made: of a hundred thousand rows most are counted, named, or cut off.
Callers:  selection makes both; kmq.cli and kmq.admin read them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from kmq.admin.filter_names import MESSAGE
from kmq.admin.filter_values import Kind
from kmq.admin.listing import utc
from kmq.model import queue_id
from kmq.model.hop import DeliveryType
from kmq.spool.index_rows import number_of

#: All properties.
_NAMES: Final = tuple(one.name for one in MESSAGE.properties)

_TIMES: Final = frozenset(one.name for one in MESSAGE.properties if one.kind is Kind.TIME)
#: Texts for which "" is a value, not none.
_MAY_BE_EMPTY: Final = frozenset({"FromAddress", "OriginalFromAddress"})
#: Queues in which nothing that is ready goes by itself.
_STANDS: Final = ("Suspended", "on-demand")
_NOT_BY_ITSELF: Final = frozenset({"Suspended", "PendingSuspend", "PendingRemove", "Damaged"})


class Row:
    """id: of the message; hop: the text of the next hop of the queue.

    plain: properties as they are compared: times in Unix time, spans in seconds, addresses on a line each.
    """

    __slots__ = ("_recipients", "hop", "id", "plain")

    def __init__(self, columns: Sequence[Any]) -> None:
        """columns: the values of those of ROW."""
        mid, self.hop, self._recipients, *values = columns
        self.id = queue_id.text(number_of(mid))
        self.plain: Mapping[str, Any] = dict(zip(_NAMES, values, strict=True))

    @property
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


class Line(NamedTuple):
    """queue_status: of the whole queue, "" when nobody knows; addresses: on a line each; next_retry: Unix time."""

    mid: int
    hop: str
    queue_status: str
    status: str
    sender: str
    addresses: str
    size: int
    created: float
    next_retry: float | None
    last_error: str
    retry_count: int
    delivery_type: str
    queue: str
    source: str
    source_ip: str
    held_by: str

    @property
    def id(self) -> str:
        """Of the message."""
        return queue_id.text(number_of(self.mid))

    @property
    def to(self) -> list[str]:
        """Addresses that wait there."""
        return self.addresses.split("\n") if self.addresses else []

    @property
    def next_try(self) -> float | None:
        """Unix time, 0.0 for as soon as possible, None for not before somebody does something."""
        stands = self.queue_status in _STANDS or self.delivery_type == DeliveryType.UNREACHABLE.value
        if self.status in _NOT_BY_ITSELF or (self.status == "Ready" and stands):
            return None
        return self.next_retry or 0.0


One = TypeVar("One", Row, Line)


class Shape(NamedTuple, Generic[One]):
    """columns: of the view `messages`; made: makes what is asked for of their values."""

    columns: tuple[str, ...]
    made: Callable[[Sequence[Any]], One]


ROW: Final = Shape(("mid", "NextHop", "RecipientList", *_NAMES), Row)

LINE: Final = Shape(
    (
        *("mid", "NextHop", "QueueStatus", "Status", "FromAddress", "Recipients", "Size", "Created", "NextRetryTime"),
        *("LastError", "RetryCount", "DeliveryType", "NextHopDomain", "MessageSourceName", "SourceIP", "HeldBy"),
    ),
    Line._make,
)


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
