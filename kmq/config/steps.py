"""How long is waited after each failed attempt, as a table: so many waits of one length, then of another.

Promise:  values only; what is written as `4 x 1m, 6 x 5m, 10m` is read here.
Callers:  `sections` (options of this kind), `retries` (the built-in profiles), kmq/run/schedule.
"""

from typing import NamedTuple

from kmq.config.kinds import Kind, duration, parts, whole

#: The shortest and the longest wait that can be meant.
LEAST, MOST = "10ms", "30d"

_wait = duration(LEAST, MOST).parse
_count = whole(1, 1000).parse


class Steps(NamedTuple):
    """counted: (how often, seconds) one after the other; last: seconds of all further waits."""

    counted: tuple[tuple[int, float], ...]
    last: float

    def after(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (1 or more)."""
        for count, seconds in self.counted:
            failures -= count
            if failures <= 0:
                return seconds
        return self.last

    @property
    def longest(self) -> float:
        return max(self.last, *(seconds for _, seconds in self.counted)) if self.counted else self.last


def doubling(first: float, longest: float) -> Steps:
    """Each wait is twice the one before, until it would be longer than the longest."""
    counted = []
    while first < longest:
        counted.append((1, first))
        first *= 2.0
    return Steps(tuple(counted), longest)


def _step(text: str) -> tuple[int, float]:
    number, times, length = text.partition("x")
    return (_count(number.strip()), _wait(length.strip())) if times else (1, _wait(text))


def _steps(text: str) -> Steps:
    entries = parts(text)
    if not entries:
        raise ValueError("there is no wait: write them as 4 x 1m, 6 x 5m, 10m")
    *counted, last = entries
    if "x" in last:
        raise ValueError(f"{last!r} stands last: what all further waits are has no number, such as 4 x 1m, 6 x 5m, 10m")
    return Steps(tuple(map(_step, counted)), _wait(last))


def steps() -> Kind[Steps]:
    """A table of waits."""
    return Kind(
        f"list of NUMBER x DURATION, then the duration of all further waits; each from {LEAST} to {MOST}", _steps
    )


def own_duration(least: str, most: str) -> Kind[float | None]:
    """Seconds, or None when it is left to the profile."""
    inner = duration(least, most)
    return Kind(f"{inner.shape}, or nothing: the profile's", lambda text: inner.parse(text) if text else None)


def _profile(text: str) -> str:
    if text and not text.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"{text!r} is no name of a profile: write rfc, exchange, kerio or that of a [NAME : retry]")
    return text


def profile() -> Kind[str]:
    """The name of a profile; whether there is one, `retries` looks."""
    return Kind("rfc, exchange, kerio, or the name of a section [NAME : retry]", _profile)
