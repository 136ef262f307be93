"""The options of [back_pressure]: how short of what kmq may run before it takes in less, and nothing.

Shapes:   four figures in one option (`Thresholds`). For what must not become little (free space) they fall from normal
          to high; for what must not become much (messages) they rise.
Promise:  pure; a text that is in no order is refused with the order that is meant.
Callers:  `sections`; run/pressure works by the values.
"""

from collections.abc import Callable
from typing import NamedTuple

from kmq.config import kinds
from kmq.config.kinds import Kind
from kmq.config.options import option, section


class Thresholds(NamedTuple):
    """Beyond which figure the pressure becomes medium, and high; on this side of which it is medium again, and normal.

    falling: little is bad. Equal figures do not go beyond.
    """

    medium: float
    high: float
    medium_again: float
    normal_again: float
    falling: bool = False

    def beyond(self, figure: float, threshold: float) -> bool:
        """Whether a figure is worse than a threshold."""
        return figure < threshold if self.falling else figure > threshold

    def times(self, factor: float) -> "Thresholds":
        """All four, smaller or larger."""
        medium, high, medium_again, normal_again, falling = self
        return Thresholds(medium * factor, high * factor, medium_again * factor, normal_again * factor, falling)


#: The word for a resource that is not looked at.
OFF = "off"
#: Of the least that is free (minimum_free), when nothing else is said.
OF_THE_LEAST = Thresholds(2.0, 1.2, 1.5, 2.5, falling=True)


def _ordered(four: Thresholds) -> bool:
    medium, high, medium_again, normal_again, _ = four.times(-1) if four.falling else four
    return normal_again <= medium_again <= high and normal_again <= medium < high


def _four(one: Callable[[str], float], falling: bool, text: str) -> Thresholds:
    found = kinds.parts(text)
    if len(found) != 4:
        raise ValueError(f"{text!r}: four figures are needed (medium, high, medium again, normal again), or {OFF}")
    four = Thresholds(one(found[0]), one(found[1]), one(found[2]), one(found[3]), falling)
    if not _ordered(four):
        order = "normal again, medium, high, from much to little" if falling else "normal again, medium, high, rising"
        raise ValueError(f"{text!r} is in no order: {order}; medium again lies between normal again and high")
    return four


def _thresholds(one: Callable[[str], float], shape: str, falling: bool) -> Kind[Thresholds | None]:
    def parse(text: str) -> Thresholds | None:
        return None if text == OFF else _four(one, falling, text)

    return Kind(f"four {shape} (medium, high, medium again, normal again), or {OFF}", parse)


def _or_derived(kind: Kind[Thresholds | None]) -> Kind[Thresholds | None]:
    """Nothing stands for OF_THE_LEAST, as a value too."""
    return Kind(f"{kind.shape}, or nothing", lambda text: kind.parse(text) if text else OF_THE_LEAST)


def _percent(text: str) -> float:
    number = text.removesuffix("%").strip()
    if not number.isascii() or not number.replace(".", "", 1).isdecimal() or float(number) > 100:
        raise ValueError(f"{text!r} is no percentage: write 72%")
    return float(number)


_whole = kinds.whole(0).parse
_size = kinds.size().parse
_FREE = (
    "As `spool_space`, on the disk of `mail_log` where that is a file. On a small disk the figures count as parts of"
    " it, so that pressure never begins while a fifth is free."
)


@section
class BackPressureSection:
    """Back pressure: what happens before something runs out. Four figures of a resource say when the pressure is medium
    and high, and when it is medium and normal again. `kmq pressure` shows them.

    Space, inodes and memory: from medium on other servers hear 452 at MAIL, and `pickup/` and `replay/` wait; at high
    users (`sendmail`, receivers with `submission = yes`) hear it too. Messages that wait for the categorizer, and
    records that wait for their files: other servers wait at MAIL (tarpit), and after a while, or at high, hear 452.
    What is queued is delivered in any case. Below `minimum_free` nothing is taken in.
    """

    metering_interval: float = option(
        kinds.duration("50ms", "1m"), default="2s", doc="How often everything is looked at."
    )
    spool_space: Thresholds | None = option(
        _or_derived(_thresholds(_size, "sizes", True)),
        default="",
        doc="Free space on the spool's disk. Nothing: 2, 1.2, 1.5 and 2.5 times `minimum_free` of [queue].",
    )
    spool_inodes: Thresholds | None = option(
        _or_derived(_thresholds(_whole, "whole numbers", True)),
        default="",
        doc="Free inodes on the spool's disk. Nothing: the same of `minimum_free_inodes`.",
    )
    log_space: Thresholds | None = option(_thresholds(_size, "sizes", True), default="100M, 20M, 50M, 150M", doc=_FREE)
    log_inodes: Thresholds | None = option(
        _thresholds(_whole, "whole numbers", True), default="500, 100, 200, 1000", doc="Free inodes there."
    )
    own_memory: Thresholds | None = option(
        _thresholds(_percent, "percentages", False),
        default="72%, 75%, 73%, 71%",
        doc="Memory of all processes of kmqd, as part of the machine's, or of what the service manager allows"
        " (MemoryMax=), for a minute on end.",
    )
    system_memory: Thresholds | None = option(
        _thresholds(_percent, "percentages", False),
        default="90%, 96%, 92%, 86%",
        doc="The machine's memory that is not available. At medium kmqd gives back what it can spare, and refuses"
        " nobody; at high other servers hear 452.",
    )
    submission_queue: Thresholds | None = option(
        _thresholds(_whole, "whole numbers", False),
        default="9999, 15000, 10000, 2000",
        doc="Messages that were accepted and that no worker has looked at yet.",
    )
    journal_backlog: Thresholds | None = option(
        _thresholds(_whole, "whole numbers", False),
        default="4000, 7000, 5000, 1000",
        doc="Records of the journal whose files are not made yet, for 20 seconds on end; at 8192 the journal waits.",
    )
    tarpit: float = option(kinds.duration("0", "5m"), default="10s", doc="How long MAIL waits at first; 0: no tarpit.")
    tarpit_step: float = option(
        kinds.duration("0", "5m"), default="5s", doc="It grows by so much with each look that finds the pressure on."
    )
    tarpit_longest: float = option(kinds.duration("0", "5m"), default="55s", doc="It grows no further than this.")
    patience: float = option(
        kinds.duration("0", "1d"),
        default="10m",
        doc="A tarpit that did not help for so long is followed by refusals (452).",
    )
