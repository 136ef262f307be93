"""When a connector sends: times at which its queues are sent, and hours in which it works.

Law:      times are local time. A time that the clock skips counts in the moment of the jump, once for all that are
          skipped; one that comes twice counts the first time. `every` counts hours that pass, from the beginning of a
          range, or of the day. A range begins on one of the `days`, and may end on the next one; its end does not
          belong to it. One that is skipped altogether does not take place.
Promise:  pure: time and time zone are arguments; all results are Unix times.
Callers:  kmq/run/schedule makes the rules of a configuration; kmq/run/hours follows them.
"""

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import islice
from typing import NamedTuple

from kmq.config.line_checks import clock, offline, within
from kmq.config.local_connector import LOCAL
from kmq.config.sections import ConnectorSection, QueueSection, Settings
from kmq.config.timetable import DAY, DAYS, Range

#: Days that are looked through for the next time: a week, and another where one was skipped.
HORIZON = 15

_MACHINE_ZONE = "/etc/localtime"


class Rule(NamedTuple):
    """Of one connector. offline: mail waits for `every` (seconds, 0.0 for none) and `at` (minutes of the day), all
    within `between`, on `days` (none stands for all). on_high: mail of high priority does not.
    """

    offline: bool
    every: float = 0.0
    at: tuple[int, ...] = ()
    between: tuple[Range, ...] = ()
    days: tuple[int, ...] = ()
    on_high: bool = False

    def __str__(self) -> str:
        """`every 30m and at 12:30, between 07:00-19:00, on mon, tue`; "" when there is no time at all."""
        times = [f"every {self.every / 60:g}m"] if self.every else []
        times += ["at " + ", ".join(map(clock, self.at))] if self.at else []
        hours = "between " + ", ".join(f"{clock(begin)}-{clock(end)}" for begin, end in self.between)
        days = "on " + ", ".join(DAYS[day] for day in self.days)
        return ", ".join(filter(None, (" and ".join(times), hours if self.between else "", days if self.days else "")))


class Span(NamedTuple):
    """Hours in which a connector works: from, and until before."""

    begin: float
    end: float


def rule_of(connector: ConnectorSection, queue: QueueSection) -> Rule | None:
    """The rule of a connector; None for one that sends at any time, as most do."""
    if connector.type in LOCAL:
        return None
    waits = offline(connector, queue)
    if not waits and not connector.between and not connector.days:
        return None
    every, at = (connector.send_every, connector.send_at) if waits else (0.0, ())
    return Rule(waits, every, at, connector.between, connector.days, connector.dial_on_high)


def timed(settings: Settings) -> frozenset[str]:
    """The connectors that have a rule."""
    return frozenset(one.name for one in settings.connectors if rule_of(one, settings.queue) is not None)


# --- the clock --------------------------------------------------------------------------------------------------------


def machine_zone() -> tzinfo:
    """The time zone of TZ, else of this machine, else UTC, as they are now."""
    from zoneinfo import ZoneInfo  # 5 ms that nobody needs who has no timetable

    named = os.environ.get("TZ", "").removeprefix(":")
    try:
        if named and not named.startswith("/"):
            return ZoneInfo(named)
        with open(named or _MACHINE_ZONE, "rb") as file:
            return ZoneInfo.from_file(file, "local")
    except (OSError, ValueError, KeyError):  # no such zone, or no zone at all
        return UTC


def instant(day: date, minute: int, zone: tzinfo) -> float:
    """When the clock shows this minute of the day."""
    shown = datetime.combine(day, time()) + timedelta(minutes=minute)
    first = shown.replace(tzinfo=zone, fold=0).timestamp()
    second = shown.replace(tzinfo=zone, fold=1).timestamp()
    if second >= first:
        return first  # once, or the first time of two
    return _jump(second, first, zone)  # skipped: read by the clock before the jump it lies behind it, and the reverse


def _jump(before: float, after: float, zone: tzinfo) -> float:
    """The first second that has another offset than `before`."""
    low, high = int(before), int(after)
    offset = _offset(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, zone) == offset:
            low = middle
        else:
            high = middle
    return float(high)


def _offset(at: int, zone: tzinfo) -> timedelta | None:
    return datetime.fromtimestamp(at, zone).utcoffset()


# --- days -------------------------------------------------------------------------------------------------------------


def _spans(rule: Rule, day: date, zone: tzinfo) -> Iterator[tuple[Range, Span]]:
    """The ranges that begin on this day, each with what it comes to."""
    if rule.days and day.weekday() not in rule.days:
        return
    for begin, end in rule.between or ((0, DAY),):
        last = end if begin < end else end + DAY
        span = Span(instant(day, begin, zone), instant(day, last, zone))
        if span.begin < span.end:
            yield (begin, end), span


def _times(rule: Rule, day: date, zone: tzinfo) -> list[float]:
    """When is sent in the ranges that begin on this day, in order."""
    found: set[float] = set()
    for hours, span in _spans(rule, day, zone):
        at = span.begin
        while rule.every and at < span.end:
            found.add(at)
            at += rule.every
        for minute in rule.at:
            if within(minute, hours):
                at = instant(day, minute if minute >= hours[0] else minute + DAY, zone)
                found.update([at] if at < span.end else [])
    return sorted(found)


def _days(now: float, zone: tzinfo, step: int) -> Iterator[date]:
    """From the day before (a range may go on over midnight) or, backwards, from the day after."""
    today = datetime.fromtimestamp(now, zone).date()
    return (today + timedelta(days=step * distance) for distance in range(-1, HORIZON))


# --- what is asked ----------------------------------------------------------------------------------------------------


def next_time(rule: Rule, now: float, zone: tzinfo) -> float | None:
    """When is sent next, after `now`; None when never by itself."""
    if not rule.every and not rule.at:
        return None
    later = ([at for at in _times(rule, day, zone) if at > now] for day in _days(now, zone, 1))
    return min(_nearest(later), default=None)


def last_time(rule: Rule, now: float, zone: tzinfo) -> float | None:
    """When was to be sent last, `now` included; None when never."""
    if not rule.every and not rule.at:
        return None
    before = ([at for at in _times(rule, day, zone) if at <= now] for day in _days(now, zone, -1))
    return max(_nearest(before), default=None)


def next_opening(rule: Rule, now: float, zone: tzinfo) -> float | None:
    """When the next hours begin, after `now`."""
    later = ([span.begin for _, span in _spans(rule, day, zone) if span.begin > now] for day in _days(now, zone, 1))
    return min(_nearest(later), default=None)


def open_until(rule: Rule, now: float, zone: tzinfo) -> float:
    """When the hours end that `now` is within, 0.0 when it is in none."""
    around = (span for day in islice(_days(now, zone, 1), 3) for _, span in _spans(rule, day, zone))
    return max((span.end for span in around if span.begin <= now < span.end), default=0.0)


def _nearest(found: Iterator[list[float]]) -> list[float]:
    """Those of the first day that has any, and of the one behind it: a range over midnight reaches into that."""
    for times in found:
        if times:
            return times + next(found, [])
    return []
