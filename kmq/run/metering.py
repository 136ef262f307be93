"""Back pressure at work: what is left is looked at, its level decided (run/pressure), told, and heard by the intake.

Does:     each `metering_interval`, from the scheduler process's tick: figures from threads (run/gauges) and of the
          queue itself, levels, a line of the log for each that rose (15004, as in Exchange) or fell (15005).
Promise:  costs the loop microseconds; nothing here waits for a disk. Receivers and the pickup process hear what changed
          in the same turn (`arrivals.press`).
On crash: nothing is kept; the next scheduler process looks at once.
Callers:  run.queue.
"""

import os
import time
from collections.abc import AsyncIterator, Mapping

from kmq import log
from kmq.config import KmqSection, Settings
from kmq.config.back_pressure import Thresholds
from kmq.intake.door import Pressed
from kmq.model import moment
from kmq.model.frame import Answer
from kmq.model.reply import Reply
from kmq.run import memory
from kmq.run.arrivals import Arrivals
from kmq.run.gauges import Disk, Figures, Memory, Probe
from kmq.run.lines import SUBMISSION
from kmq.run.pressure import Change, Gauged, Level, Measure, Pressure, Resource, fitted, thresholds_of
from kmq.run.scheduler import Scheduler
from kmq.run.storage import Storage

#: Numbers of these events in Exchange Server, for those who look for them.
_ROSE, _FELL = 15004, 15005

#: What those who bring mail feel.
_ON_INTAKE = ~Measure.GIVE_BACK
_OF_THE_LOG = frozenset({Resource.LOG_SPACE, Resource.LOG_INODES})

#: What people call the resources, and what their figures are.
WORDS: Mapping[Resource, tuple[str, str]] = {
    Resource.SPOOL_SPACE: ("free space of the spool", "B"),
    Resource.SPOOL_INODES: ("free inodes of the spool", ""),
    Resource.LOG_SPACE: ("free space of the log", "B"),
    Resource.LOG_INODES: ("free inodes of the log", ""),
    Resource.OWN_MEMORY: ("memory of kmqd", "%"),
    Resource.SYSTEM_MEMORY: ("memory in use", "%"),
    Resource.SUBMISSION: ("messages not categorized", ""),
    Resource.JOURNAL: ("records whose files are not made", ""),
}


class Metering:
    """One scheduler process's. counters: of its status file."""

    def __init__(
        self, settings: Settings, core: Scheduler, storage: Storage, arrivals: Arrivals, counters: dict[str, int]
    ) -> None:
        self._core = core
        self._counters = counters
        self._storage = storage
        self._arrivals = arrivals
        self._probes: list[Probe] = []
        self._log_disk: Disk | None = None
        self._silent: set[str] = set()
        self._looked = 0.0
        now = time.monotonic()
        self._settings = settings
        self.pressure = Pressure(settings.back_pressure, self._thresholds(), now)
        self._begin()

    def configure(self, settings: Settings) -> None:
        """A new configuration; looks begin anew."""
        self.end()
        self._settings = settings
        self._log_disk = None
        self._begin()
        self.pressure.configure(settings.back_pressure, self._thresholds(), time.monotonic())
        self._looked = 0.0

    def _begin(self) -> None:
        every = self._settings.back_pressure.metering_interval
        kmq = self._settings.kmq
        spool = Disk(str(kmq.spool), Resource.SPOOL_SPACE, Resource.SPOOL_INODES)
        self._probes = [Probe(f"the disk of {kmq.spool}", spool.look, every), Probe("the memory", Memory().look, every)]
        folder = _log_folder(kmq)
        if folder:
            self._log_disk = Disk(folder, Resource.LOG_SPACE, Resource.LOG_INODES)
            self._probes.append(Probe(f"the disk of {folder}", self._log_disk.look, every))

    def end(self) -> None:
        """No more looks."""
        for probe in self._probes:
            probe.end()

    def _thresholds(self) -> dict[Resource, Thresholds]:
        found = thresholds_of(self._settings.back_pressure, self._settings.queue)
        if self._log_disk is None:
            found = {one: four for one, four in found.items() if one not in _OF_THE_LOG}
        sizes: Figures = self._log_disk.sizes if self._log_disk is not None else {}
        return {one: fitted(one, four, sizes[one]) if one in sizes else four for one, four in found.items()}

    # --- each second, or each five at rest ---------------------------------------------------------------------------

    def tick(self, now: float, stopped: Reply | None) -> None:
        """Looks when it is time, and says what changed. stopped: no mail is taken in, on an operator's word."""
        self._arrivals.check(stopped)
        if now - self._looked < self._settings.back_pressure.metering_interval:
            return
        self._looked = now
        self.pressure.configure(self._settings.back_pressure, self._thresholds(), now)
        for change in self.pressure.meter(self._figures(now), now):
            _tell(change)
        self._tell_silent(now)
        if Measure.GIVE_BACK in self.pressure.measures:
            memory.give_back()
        self._counters["back_pressure"] = int(self.pressure.level)
        self._arrivals.press(self._pressed(user=False), self._pressed(user=True))

    def _figures(self, now: float) -> Figures:
        submission = self._core.verbs.facts(SUBMISSION)
        found: Figures = {
            Resource.SUBMISSION: submission.messages if submission is not None else 0,
            Resource.JOURNAL: self._storage.store.effects.behind,
        }
        for probe in self._probes:
            found |= probe.figures(now)
        return found

    def _pressed(self, user: bool) -> Pressed:
        return Pressed(self.pressure.refusal(user), self.pressure.tarpit(user))

    def _tell_silent(self, now: float) -> None:
        silent = {probe.name for probe in self._probes if probe.silent(now)}
        for name in silent - self._silent:
            log.warning(f"{name} does not answer; what is free there is not known")
        self._silent = silent

    # --- for people --------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> str:
        """What of mail is not taken in, in a clause for `systemctl status`; "" when all is."""
        refusal = self._arrivals.refusal
        if refusal is not None:
            return f"takes no mail in ({refusal})"
        return f"back pressure: {effect(self.pressure)}" if self.pressure.measures & _ON_INTAKE else ""

    @property
    def news(self) -> str:
        """One sentence for tables; "" when nothing is short."""
        pressed = [one for one in self.pressure.gauged() if one.level]
        if not pressed:
            return ""
        short = ", ".join(f"{WORDS[one.resource][0]} {shown(one.resource, one.figure)}" for one in pressed)
        return f"back pressure ({short}): {effect(self.pressure)}. kmq pressure shows all of it"

    async def answer(self) -> AsyncIterator[Mapping[str, object] | Answer]:
        """A line for each resource, then the sentence."""
        now, wall = time.monotonic(), time.time()
        for one in self.pressure.gauged():
            yield _line(one, wall - now)
        yield Answer(status=0, text=effect(self.pressure))


def _log_folder(kmq: KmqSection) -> str:
    """A folder of ours that logs go to and that is not in the spool; "" when there is none: others see to theirs."""
    if kmq.mail_log.startswith("/"):
        return os.path.dirname(kmq.mail_log)
    return kmq.tracking_log if kmq.tracking_log.startswith("/") else ""


def _line(one: Gauged, offset: float) -> Mapping[str, object]:
    four = one.thresholds
    return {
        "Resource": one.resource.value,
        "Description": WORDS[one.resource][0],
        "Level": one.level.text,
        "Figure": one.figure,
        "Unit": WORDS[one.resource][1] or None,
        "Medium": four.medium,
        "High": four.high,
        "MediumAgain": four.medium_again,
        "NormalAgain": four.normal_again,
        "Since": moment.as_text(one.since + offset),
    }


def effect(pressure: Pressure) -> str:
    """What is done about it, for people."""
    found = pressure.measures
    said = []
    if Measure.REFUSE_USERS in found:
        said.append("nobody can hand in new mail (452)")
    elif Measure.REFUSE_SERVERS in found:
        said.append("other servers hear 452")
    if Measure.PAUSE_DROPS in found:
        said.append("pickup/ and replay/ wait")
    for user, who in ((False, "other servers wait"), (True, "users wait")):
        if pressure.tarpit(user) and pressure.refusal(user) is None:
            said.append(f"{who} {pressure.tarpit(user):g} s at MAIL")
    return "; ".join(said) + "; what is queued goes on" if said else "mail is taken in"


def shown(resource: Resource, figure: float | None) -> str:
    """A figure with its unit: `512 MiB`, `72.1 %`, `10,000`."""
    if figure is None:
        return "unknown"
    unit = WORDS[resource][1]
    if unit == "B":
        return f"{int(figure) >> 20:,} MiB"
    return f"{figure:.1f} %" if unit else f"{int(figure):,}"


def _tell(change: Change) -> None:
    resource = change.resource
    keys = {
        "resource": resource.value,
        "level": change.level.text,
        "before": change.was.text,
        "figure": shown(resource, change.figure),
        "threshold": shown(resource, change.threshold),
    }
    if change.level > change.was:
        text, number = f"back pressure rises: {WORDS[resource][0]}", _ROSE
    else:
        text, number = f"back pressure falls: {WORDS[resource][0]}", _FELL
    tell = log.error if change.level is Level.HIGH else log.warning
    tell(text, event=number, **keys)
