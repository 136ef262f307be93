"""What each process does now, and what the dead died on: Kerio's `message queue processing`, grouped by process.

Callers:  kmq.cli.
"""

import time
from collections.abc import Iterable, Iterator
from enum import Enum

from kmq.model import moment
from kmq.spool.processes import Condition, ProcessStatus
from kmq.spool.status import InHand
from kmq.view.table import BOLD, PLAIN, Column, Page, Row, table
from kmq.view.words import counted, duration, harmless, local_time, volume, width

COLUMNS = (
    Column("ID"),
    Column("Size", right=True),
    Column("From", elastic=True),
    Column("To", elastic=True),
    Column("Status"),
    Column("Server", elastic=True),
    Column("Time", right=True),
    Column("Percent", right=True),
)


class Since(Enum):
    """How it is told since when a process is as it is."""

    DURATION = "for 3 min 5 s"
    MOMENT = "since 2026-11-22 06:50:11 +0100"


#: A terminal with fewer columns has no room for servers beside the rest: each stands on a line of its own.
NARROW = 110


def processes(statuses: Iterable[ProcessStatus], page: Page, since: Since = Since.DURATION) -> Iterator[str]:
    """One paragraph per process."""
    first = True
    for status in statuses:
        if not first:
            yield ""
        first = False
        for line in _fitted(harmless(_title(status, since)), page):
            yield f"{BOLD}{line}{PLAIN}" if page.colours else line
        if status.trouble:
            yield f"  {harmless(status.trouble)}"
        if status.lost:
            yield f"  {counted(status.lost, 'write')} of its status file failed: what stands here may be old"
        yield from (f"  {line}" for line in _in_hand(status, page))


def _title(status: ProcessStatus, since: Since) -> str:
    name = status.name
    pid = f"  pid {status.pid}" if status.pid else ""
    match status.condition:
        case Condition.RUNNING:
            said = f"running {_since(status.started, since)}"
        case Condition.SILENT:
            said = f"stands still {_since(time.time() - status.silence, since)}"
        case Condition.DEAD:
            boot = "" if status.same_boot else ", before the machine was started anew"
            said = f"dead; last seen {local_time(status.beat)}{boot}"
        case Condition.UNKNOWN:
            said = "unknown"
    counted_up = [(key.replace("_", " "), count) for key, count in status.counters.items() if count]
    counters = "".join(f"  {key} {count:,}" for key, count in counted_up)
    return f"{name}{pid}  {said}{counters}"


def _since(at: float, since: Since) -> str:
    return f"for {duration(time.time() - at)}" if since is Since.DURATION else f"since {local_time(at)}"


def _in_hand(status: ProcessStatus, page: Page) -> Iterator[str]:
    if not status.in_hand:
        if status.condition is not Condition.UNKNOWN:
            dead = status.condition is Condition.DEAD
            yield "died with nothing in hand for longer than a moment" if dead else "nothing in hand"
        return
    if status.condition is Condition.DEAD:
        yield f"died with {counted(len(status.in_hand), 'message')} in hand:"
    narrow = Page(max(1, page.columns - 2) if page.columns else 0, page.lines, page.colours)
    rows = (_row(hand, status) for hand in status.in_hand)
    if 0 < page.columns < NARROW:
        yield from table(_FOLDED, map(_folded, rows), narrow)
    else:
        yield from table(COLUMNS, rows, narrow)


def _fitted(title: str, page: Page) -> list[str]:
    """A title on as many lines as it needs; counters that go together stay together."""
    if not page.columns or width(title) <= page.columns:
        return [title]
    lines = [""]
    for part in title.split("  "):
        if lines[-1] and width(lines[-1]) + 2 + width(part) > page.columns:
            lines.append(f"  {part}")
        else:
            lines[-1] += f"  {part}" if lines[-1] else part
    return lines


def _row(hand: InHand, status: ProcessStatus) -> Row:
    until = status.beat if status.condition is Condition.DEAD else time.time()
    took = duration(until - _unix(hand.since)) if hand.since else ""
    percent = f"{hand.percent} %" if hand.server else ""
    return Row((hand.id, volume(hand.size), hand.sender, hand.to, hand.status, hand.server, took, percent))


#: Without Server and Percent, which stand below then.
_FOLDED = (*COLUMNS[:5], COLUMNS[6])


def _folded(row: Row) -> Row:
    *first, server, took, percent = row.cells
    return Row((*first, took), below=f"to {server}, {percent}" if server else "")


def _unix(text: str) -> float:
    try:
        return moment.from_text(text)
    except ValueError:
        return time.time()


def properties(status: ProcessStatus) -> Iterator[dict[str, object]]:
    """One object per message in hand (Kerio's MessageInProcess), or one for a process without any."""
    process: dict[str, object] = {
        "Process": status.name,
        "ProcessId": status.pid or None,
        "ProcessStatus": status.condition.value,
        "Trouble": status.trouble or None,
        "Started": moment.as_text(status.started) if status.started else None,
        "LastBeat": moment.as_text(status.beat) if status.beat else None,
        "Counters": status.counters,
    }
    if not status.in_hand:
        yield process
    for hand in status.in_hand:
        yield process | _message(hand)


def _message(hand: InHand) -> dict[str, object]:
    return {
        "ID": hand.id,
        "Size": hand.size,
        "FromAddress": hand.sender,
        "Recipients": hand.to,
        "Status": hand.status,
        "Server": hand.server or None,
        "Since": hand.since,
        "Percent": hand.percent,
    }
