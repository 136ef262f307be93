"""Back pressure: of what is kmq running short, how short, and what is not done therefore (Exchange's resources).

Law:      THRESHOLDS of a resource say when its level rises and when it falls again; MEASURES say what each level stops.
          What is stopped is the intake alone: what is queued goes on, since delivering it is what makes room.
          Other servers are stopped first, users of this server last. A tarpit that does not help for `patience`
          seconds is followed by refusals.
Promise:  pure; time is an argument. A figure that is not known changes nothing. A figure with a history counts only
          when it was as bad all the time: a burst is no shortage.
On crash: nothing is kept: a new scheduler process looks again, and at once says what it finds.
Callers:  run/metering.
"""

from collections.abc import Mapping
from enum import Enum, Flag, IntEnum, auto
from typing import Final, NamedTuple

from kmq.config import BackPressureSection, QueueSection
from kmq.config.back_pressure import OF_THE_LEAST, Thresholds
from kmq.model.reply import Reply

#: What whoever is refused hears.
SHORT: Final = Reply(452, "4.3.1", "Insufficient system resources")


class Level(IntEnum):
    """How short, as in Exchange Server."""

    NORMAL = 0
    MEDIUM = 1
    HIGH = 2

    @property
    def text(self) -> str:
        return self.name.capitalize()


class Resource(Enum):
    """What may run short; the value is the option of [back_pressure] with its thresholds."""

    SPOOL_SPACE = "spool_space"  #: bytes free
    SPOOL_INODES = "spool_inodes"  #: inodes free
    LOG_SPACE = "log_space"
    LOG_INODES = "log_inodes"
    OWN_MEMORY = "own_memory"  #: percent of the machine's memory that all our processes have
    SYSTEM_MEMORY = "system_memory"  #: percent of the machine's memory that is not available
    SUBMISSION = "submission_queue"  #: messages
    JOURNAL = "journal_backlog"  #: records


class Measure(Flag):
    """What is done about it. Servers: whoever is no user of this server; drops: pickup/ and replay/."""

    NONE = 0
    TARPIT_SERVERS = auto()
    TARPIT_USERS = auto()
    REFUSE_SERVERS = auto()
    REFUSE_USERS = auto()
    PAUSE_DROPS = auto()
    GIVE_BACK = auto()  #: memory that is kept for later


_STOP = Measure.REFUSE_SERVERS | Measure.PAUSE_DROPS
_CLOSE = _STOP | Measure.REFUSE_USERS
_TARPIT = Measure.TARPIT_SERVERS
_SLOW = Measure.TARPIT_SERVERS | Measure.TARPIT_USERS

#: What is done at Medium, at High, and when the pressure has lasted beyond `patience`.
MEASURES: Final[dict[Resource, tuple[Measure, Measure, Measure]]] = {
    Resource.SPOOL_SPACE: (_STOP, _CLOSE, Measure.NONE),
    Resource.SPOOL_INODES: (_STOP, _CLOSE, Measure.NONE),
    Resource.LOG_SPACE: (_STOP, _CLOSE, Measure.NONE),
    Resource.LOG_INODES: (_STOP, _CLOSE, Measure.NONE),
    Resource.OWN_MEMORY: (_STOP | Measure.GIVE_BACK, _CLOSE | Measure.GIVE_BACK, Measure.NONE),
    Resource.SYSTEM_MEMORY: (Measure.GIVE_BACK, _STOP | Measure.GIVE_BACK, Measure.NONE),
    Resource.SUBMISSION: (_TARPIT, _SLOW | _STOP, _STOP),
    Resource.JOURNAL: (_TARPIT, _SLOW | _STOP, _STOP),
}

#: Seconds for which a figure must have been as bad before it counts; 0 where it is not in the table.
HISTORY: Final = {Resource.OWN_MEMORY: 60.0, Resource.JOURNAL: 20.0}

#: A disk of which a fifth is free is not full, however small it is. (The spool has absolute figures: J13.)
_ROOMY: Final = 0.2
_SMALL_DISKS: Final = frozenset({Resource.LOG_SPACE, Resource.LOG_INODES})


def after(level: Level, figure: float, four: Thresholds) -> Level:
    """The level that follows from a figure: it rises beyond one threshold and falls on this side of another."""
    if four.beyond(figure, four.high):
        return Level.HIGH
    if level is Level.HIGH and four.beyond(figure, four.medium_again):
        return Level.HIGH
    if four.beyond(figure, four.medium):
        return Level.MEDIUM
    if level is not Level.NORMAL and four.beyond(figure, four.normal_again):
        return Level.MEDIUM
    return Level.NORMAL


class Change(NamedTuple):
    """A level that rose or fell. threshold: the one that was passed."""

    resource: Resource
    was: Level
    level: Level
    figure: float
    threshold: float


class Gauged(NamedTuple):
    """A resource for tables. figure: None when it is not known; since: when the level was reached (monotonic)."""

    resource: Resource
    level: Level
    figure: float | None
    thresholds: Thresholds
    since: float


class Pressure:
    """All resources. What stands in no entry of `thresholds` is not looked at."""

    def __init__(self, section: BackPressureSection, thresholds: Mapping[Resource, Thresholds], now: float) -> None:
        self._gauges: dict[Resource, _Gauge] = {}
        self._tarpit = 0.0
        self.configure(section, thresholds, now)

    def configure(self, section: BackPressureSection, thresholds: Mapping[Resource, Thresholds], now: float) -> None:
        """A new configuration; levels stay until the next look."""
        self._section = section
        before = self._gauges
        self._gauges = {one: before.get(one) or _Gauge(four, now) for one, four in thresholds.items()}
        for resource, four in thresholds.items():
            self._gauges[resource].thresholds = four

    def meter(self, figures: Mapping[Resource, float], now: float) -> list[Change]:
        """A look at everything; what changed. A figure that is missing is not known."""
        changes = [
            change
            for resource, gauge in self._gauges.items()
            if (change := gauge.look(resource, figures.get(resource), now)) is not None
        ]
        self._grow_tarpit()
        self.measures = self._measures(now)
        return changes

    def _measures(self, now: float) -> Measure:
        found = Measure.NONE
        for resource, gauge in self._gauges.items():
            if gauge.level is not Level.NORMAL:
                at_medium, at_high, at_last = MEASURES[resource]
                found |= at_high if gauge.level is Level.HIGH else at_medium
                if now - gauge.pressed_since >= self._section.patience:
                    found |= at_last
        return found

    def _grow_tarpit(self) -> None:
        section = self._section
        slowing = [
            one for one, gauge in self._gauges.items() if gauge.level and _TARPIT in MEASURES[one][gauge.level - 1]
        ]
        if not slowing or not section.tarpit:
            self._tarpit = 0.0
        elif not self._tarpit:
            self._tarpit = section.tarpit
        else:
            self._tarpit = max(section.tarpit, min(self._tarpit + section.tarpit_step, section.tarpit_longest))

    # --- what it means for those who bring mail ---

    measures = Measure.NONE

    def refusal(self, user: bool) -> Reply | None:
        """What MAIL hears, from a user of this server or from another server."""
        return SHORT if (Measure.REFUSE_USERS if user else Measure.REFUSE_SERVERS) in self.measures else None

    def tarpit(self, user: bool) -> float:
        """Seconds for which MAIL waits."""
        return self._tarpit if (Measure.TARPIT_USERS if user else Measure.TARPIT_SERVERS) in self.measures else 0.0

    # --- for tables ---

    @property
    def level(self) -> Level:
        """The worst of all."""
        return max((gauge.level for gauge in self._gauges.values()), default=Level.NORMAL)

    def gauged(self) -> list[Gauged]:
        """All resources that are looked at."""
        return [Gauged(one, it.level, it.figure, it.thresholds, it.since) for one, it in self._gauges.items()]


class _Gauge:
    """One resource. since: when it came to this level; pressed_since: when it left Normal; bad_since: when the figure
    went beyond the first threshold, if it is there still."""

    __slots__ = ("bad_since", "figure", "level", "pressed_since", "since", "thresholds")

    def __init__(self, thresholds: Thresholds, now: float) -> None:
        self.thresholds = thresholds
        self.level = Level.NORMAL
        self.figure: float | None = None
        self.since = self.pressed_since = now
        self.bad_since: float | None = None

    def look(self, resource: Resource, figure: float | None, now: float) -> Change | None:
        """The next figure."""
        self.figure = figure
        if figure is None:
            return None
        was, four = self.level, self.thresholds
        if not four.beyond(figure, four.medium):
            self.bad_since = None
        elif self.bad_since is None:
            self.bad_since = now
        level = after(was, figure, four)
        lasted = 0.0 if self.bad_since is None else now - self.bad_since
        if was is Level.NORMAL and level and lasted < HISTORY.get(resource, 0.0):
            return None
        if level is was:
            return None
        self.level, self.since = level, now
        if was is Level.NORMAL:
            self.pressed_since = now
        return Change(resource, was, level, figure, _passed(was, level, four))


def _passed(was: Level, level: Level, four: Thresholds) -> float:
    """The threshold that a change passed last."""
    if level > was:
        return four.high if level is Level.HIGH else four.medium
    return four.medium_again if level is Level.MEDIUM else four.normal_again


def fitted(resource: Resource, four: Thresholds, size: float) -> Thresholds:
    """Thresholds for a disk of this size: smaller ones where the disk is small."""
    if resource not in _SMALL_DISKS or not four.normal_again:
        return four
    return four.times(min(1.0, _ROOMY * size / four.normal_again))


def thresholds_of(section: BackPressureSection, queue: QueueSection) -> dict[Resource, Thresholds]:
    """What is looked at, and its thresholds. Without figures of their own those of the spool follow J13's."""
    found: dict[Resource, Thresholds] = {}
    for resource in Resource:
        four: Thresholds | None = getattr(section, resource.value)
        if four == OF_THE_LEAST:
            least = queue.minimum_free if resource is Resource.SPOOL_SPACE else queue.minimum_free_inodes
            four = four.times(least) if least else None
        if four is not None:
            found[resource] = four
    return found
