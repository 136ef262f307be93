"""Which queues an operator asks for: by filter and kind, in an order, a page at a time.

Shapes:   a row is a queue; its properties bear Exchange's names (Get-Queue). Submission is always among them,
          Unreachable and Poison when they hold something.
Promise:  as kmqd tells them; while it does not run they are counted in the index or the files, and their states are
          None. FilterError as in selection.
On crash: nothing is held, nothing is written.
Callers:  kmq.cli.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Unpack

from kmq.admin.circumstances import Circumstances
from kmq.admin.filter_match import matcher
from kmq.admin.filter_names import QUEUE
from kmq.admin.filter_shorthand import narrowed
from kmq.admin.filter_tree import parse
from kmq.admin.listing import is_meant, utc
from kmq.admin.selection import MOST, PAGE, Selection, Wish
from kmq.admin.selection_order import Key, keys, place
from kmq.admin.selection_order import bookmark as bookmarked
from kmq.config import Settings
from kmq.errors import SpoolError
from kmq.model import hop as hops
from kmq.spool import look
from kmq.spool.index_rows import next_hop

_SUBMISSION, _UNREACHABLE, _POISON = str(hops.SUBMISSION), str(hops.UNREACHABLE), str(hops.POISON)


class QueueRow(NamedTuple):
    """hop: the text of its next hop; properties: by Exchange's names."""

    hop: str
    properties: Mapping[str, object]


@dataclass(slots=True)
class QueuePage:
    """As selection.Page."""

    rows: list[QueueRow] = field(default_factory=list)
    total: int = 0
    as_of: float = 0.0
    bookmark: str = ""


def select_queues(settings: Settings, around: Circumstances, **wish: Unpack[Wish]) -> QueuePage:
    """One page of queues."""
    node = narrowed(
        parse(wish.get("filter", ""), QUEUE, around.now), wish.get("include", ()), wish.get("exclude", ()), QUEUE
    )
    order = keys(wish.get("sort", ""), QUEUE)
    sort = wish.get("sort", "").replace(" ", "").lower()
    behind = place(wish["bookmark"], sort, len(order) + 1) if wish.get("bookmark") else None
    matches, queue = matcher(node), wish.get("queue", "")
    found = [row for row in _rows(settings, around) if matches(row.properties)]
    found = [row for row in found if not queue or is_meant(next_hop(row.hop), queue)]
    _sort(found, order)
    page = QueuePage(total=len(found), as_of=around.now)
    rest = [row for row in found if behind is None or _is_behind(row, order, behind)]
    limit = min(wish.get("limit", PAGE) or MOST, MOST)
    page.rows = rest[:limit]
    if len(rest) > limit:
        page.bookmark = bookmarked(_place_of(page.rows[-1], order), sort)
    return page


# --- the order -------------------------------------------------------------------------------------------------------


def _sort(rows: list[QueueRow], order: Sequence[Key]) -> None:
    rows.sort(key=lambda row: row.hop)
    for key in reversed(order):
        rows.sort(key=lambda row, key=key: key.of(row.properties), reverse=key.falling)  # type: ignore[misc]


def _place_of(row: QueueRow, order: Sequence[Key]) -> list[float | str]:
    return [*(key.of(row.properties) for key in order), row.hop]


def _is_behind(row: QueueRow, order: Sequence[Key], behind: Sequence[float | str]) -> bool:
    falling = [*(key.falling for key in order), False]
    for own, other, falls in zip(_place_of(row, order), behind, falling, strict=True):
        if own != other:
            return type(own) is not type(other) or (own > other) is not falls  # type: ignore[operator]
    return False


# --- the rows --------------------------------------------------------------------------------------------------------


def _rows(settings: Settings, around: Circumstances) -> list[QueueRow]:
    known = dict(_counted(settings, around) if around.silence and not around.queues else _told(around))
    known.setdefault(_SUBMISSION, {})
    if _POISON not in known:
        poisoned = _poisoned(settings)
        known[_POISON] = {"MessageCount": poisoned, "Status": "Suspended" if poisoned else None}
    return [
        QueueRow(hop, _properties(hop, told, around))
        for hop, told in known.items()
        if told.get("MessageCount") or told.get("HeldBy") or hop not in (_UNREACHABLE, _POISON)
    ]


def _poisoned(settings: Settings) -> int:
    """Messages in poison/; who may ask kmqd, and not read its files, sees none."""
    try:
        return len(look.stamps(settings.kmq.spool / "poison", look.POISONED))
    except SpoolError:
        return 0


def _told(around: Circumstances) -> Iterator[tuple[str, Mapping[str, object]]]:
    return ((hop, state.told) for hop, state in around.queues.items())


def _counted(settings: Settings, around: Circumstances) -> Iterator[tuple[str, Mapping[str, object]]]:
    with Selection(settings, around, {}) as found:
        for hop, count, soonest in found.by_queue():
            yield hop, {"MessageCount": count, "NextRetryTime": utc(soonest or 0.0)}


def _properties(hop: str, told: Mapping[str, object], around: Circumstances) -> Mapping[str, object]:
    """All that can be said, in the order in which people look for it."""
    where = next_hop(hop)
    out: dict[str, object] = {
        "Identity": "",
        "NextHop": hop,
        "NextHopDomain": where.domain,
        "NextHopConnector": where.connector or None,
        "NextHopCategory": where.delivery_type.category,
        "DeliveryType": where.delivery_type.value,
        "Status": "Ready" if not around.silence else None,
        "MessageCount": 0,
        "NextRetryTime": None,
        "LastError": None,
        **told,
        "PriorityDescriptions": ["High", "Normal", "Low"],
    }
    out["Identity"] = f"{around.server}\\{where.domain}"
    return out
