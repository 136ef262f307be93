"""The phases ahead of routing, in a worker's hands: each step looks at the message in its turn.

Order:    that of the steps; what has passed a step is not taken there again, whoever crashed meanwhile. A step that
          ends recipients leaves the rest to the next one; one that defers ends the walk, and the message is taken up
          again in the Submission queue.
Promise:  told once for each job, in the loop, with all that it comes to: events, and messages to be put in the same
          record. A step that fails on a message is that message's crash in that phase.
On crash: begun again with the steps that are not durable.
Callers:  run.walk.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from kmq import log
from kmq.model import recipients
from kmq.model.event import Deferred, Discarded, Event, Failed, Passed, Replaced, Suspended
from kmq.model.frame import Child
from kmq.model.phase import Phase
from kmq.model.reply import Reply
from kmq.phases.body import BodyDamaged
from kmq.phases.inspection import Finding, Inspector, Letter, Matter
from kmq.run import drafting
from kmq.run.drafting import Origin
from kmq.run.job import Job
from kmq.run.linking import BodyLost, Linking
from kmq.run.notice import COPY, NOTICE
from kmq.run.share import LARGEST

#: What kmq made itself out of mail that had been through the phases.
_OWN = frozenset({NOTICE, COPY})

NO_ROOM = "a message that a phase made cannot be kept: "


class Inspected(msgspec.Struct):
    """What the phases came to. left: recipients that go on to the categorizer; children, raw: messages that were made.

    crashed: the phase that failed on the message, "" when none did; trace: where. damaged: why the body is not what was
    accepted; then nothing else counts.
    """

    left: tuple[int, ...]
    events: list[Event] = []
    children: list[Child] = []
    raw: bytes = b""
    crashed: str = ""
    trace: str = ""
    damaged: str = ""


class Inspecting:
    """The steps that are configured. entered: told of the phase that a job is in."""

    def __init__(self, linking: Linking, entered: Callable[[Job, Phase], None]) -> None:
        self._steps: tuple[Inspector, ...] = ()
        self._linking = linking
        self._entered = entered
        self._local: Callable[[str], bool] = lambda address: False
        self._under_way: dict[asyncio.Task[None], None] = {}
        self._former: dict[asyncio.Task[None], list[Inspector]] = {}

    @property
    def on(self) -> bool:
        """Whether there is any step."""
        return bool(self._steps)

    def configure(self, steps: Sequence[Inspector], local: Callable[[str], bool]) -> None:
        """What comes from now on goes through these; what is under way ends as it began. A step that nobody is in any
        more is forgotten, and its threads with it; not closed, since what steps share is the new ones', too."""
        former = [one for one in self._steps if one not in steps]
        self._steps, self._local = tuple(steps), local
        if former and self._under_way:
            task = asyncio.get_running_loop().create_task(_ended(tuple(self._under_way)))
            self._former[task] = former
            task.add_done_callback(self._former.pop)

    def begin(self, job: Job, rcpt: tuple[int, ...], then: Callable[[Inspected], None]) -> None:
        """Leads the message through what it has not passed yet."""
        task = asyncio.get_running_loop().create_task(self._walk(job, rcpt, then))
        self._under_way[task] = None
        task.add_done_callback(lambda ended: self._under_way.pop(ended, None))

    async def close(self) -> None:
        """The process ends: what is under way is taken up again by another."""
        for task in list(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        former = [one for steps in self._former.values() for one in steps]
        for task in list(self._former):
            task.cancel()
        await asyncio.gather(*(one.close() for one in (*self._steps, *former)), return_exceptions=True)

    async def _walk(self, job: Job, rcpt: tuple[int, ...], then: Callable[[Inspected], None]) -> None:
        walk = _Steps(job, rcpt, self._linking, self._local)
        phase = Phase.EXECUTING
        try:
            for step in self._steps:
                phase = step.phase
                if walk.over or walk.passed(step):
                    continue
                matter = walk.matter()
                if step.concerns(matter):
                    self._entered(job, phase)
                    await walk.take(step, await step.inspect(matter))
            inspected = walk.inspected
        except (BodyLost, BodyDamaged) as damage:
            inspected = Inspected((), damaged=str(damage))
        except OSError as error:
            inspected = walk.not_now(f"{NO_ROOM}{error.strerror or error}")
        except Exception as error:
            log.error("our program failed on a message", id=job.assign.m, phase=phase.text, trace=log.traced(error))
            inspected = Inspected((), crashed=phase.text, trace=log.traced(error))
        then(inspected)


async def _ended(under_way: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(under_way)


class _Steps:
    """One message on its way. over: no further step looks at it."""

    def __init__(self, job: Job, rcpt: tuple[int, ...], linking: Linking, local: Callable[[str], bool]) -> None:
        self._job = job
        self._linking = linking
        self._local = local
        self._earlier = job.past
        self._before = tuple(job.head.passed.split(",")) if job.head.passed else ()
        self.inspected = Inspected(rcpt)
        self.over = job.head.source.how in _OWN

    def passed(self, step: Inspector) -> bool:
        """Before this walk, in which each step has its turn once: fresh mail has passed none."""
        if not self._job.past and not self._before:
            return False
        if step.phase.text in self._before or _token(step.phase.text, step.step) in self._before:
            return True
        through: set[int] = set()
        for one in self._of(step):
            if not one.rcpt:
                return True
            through.update(recipients.from_text(one.rcpt))
        return through.issuperset(self.inspected.left)

    def _of(self, step: Inspector) -> list[Passed]:
        """What it said before this walk."""
        return [one for one in self._job.past if one.step == step.step and one.phase == step.phase.text]

    def matter(self) -> Matter:
        job = self._job
        return Matter(job.head, job.body, self.inspected.left, self._earlier, job.assign.attempt, self._local)

    async def take(self, step: Inspector, finding: Finding) -> None:
        """What one step found."""
        found = self.inspected
        if finding.crashed:
            self.over = True
            found.crashed, found.trace = step.phase.text, finding.crashed
            return
        if finding.passed is not None:
            if finding.letters:
                finding.passed.child = await self._take_letters(step, finding.letters)
            self._take_passed(step, finding.passed)
        for event in finding.events:
            self._take_event(event)
        if finding.replacement is not None and finding.passed is not None:
            await self._take_replacement(step, finding)
        self.over = self.over or not found.left or finding.passed is None

    async def _take_letters(self, step: Inspector, made: Sequence[Letter]) -> str:
        """-> their places, as Passed bears them."""
        origin = self._origin()
        sent = self._sent(step)
        letters = [one for one in made if not (one.once and sent)]
        return " ".join([await self._add(drafting.letter(origin, one, self._linking)) for one in letters])

    def _take_passed(self, step: Inspector, passed: Passed) -> None:
        found = self.inspected
        passed.phase, passed.step = step.phase.text, step.step
        if len(found.left) != len(self._job.head.recipients):
            passed.rcpt = recipients.as_text(found.left)
        self._earlier = (*self._earlier, passed)
        found.events.append(passed)

    def _sent(self, step: Inspector) -> bool:
        """Letters that are made once for a message are those of the first of its shares that goes through the step."""
        job = self._job
        others = len(job.head.recipients) > LARGEST and recipients.from_text(job.assign.rcpt)[0] != 0
        return others or bool(self._of(step))

    def _take_event(self, event: Discarded | Failed | Deferred | Suspended) -> None:
        self.inspected.events.append(event)
        if isinstance(event, Deferred):
            self.over = True
            self.inspected.left = ()
        else:
            self._leave(recipients.from_text(event.rcpt))

    async def _take_replacement(self, step: Inspector, finding: Finding) -> None:
        made = finding.replacement
        assert made is not None and finding.passed is not None, "whoever calls has looked"
        through = dict.fromkeys((*self._before, *(phase.text for phase in made.passed)))
        through |= dict.fromkeys(_token(one.phase, one.step) for one in self._earlier if one.covers(made.rcpt[0]))
        place = await self._add(drafting.replacement(self._origin(), made, ",".join(through), self._linking))
        rcpt = recipients.as_text(made.rcpt)
        by = finding.passed.by or step.step
        self.inspected.events.append(Replaced(rcpt=rcpt, child=place, by=by, reason=made.why))
        self._leave(made.rcpt)

    def _origin(self) -> Origin:
        return Origin(self._job.head, self._job.body, self.matter().edits)

    async def _add(self, making: Awaitable[tuple[Child, bytes]]) -> str:
        """One more message of the result; -> its place among those of its kind."""
        child, raw = await making
        found = self.inspected
        place = sum(one.kind == child.kind for one in found.children)
        found.children.append(child)
        found.raw += raw
        return str(place)

    def _leave(self, rcpt: Sequence[int]) -> None:
        gone = set(rcpt)
        self.inspected.left = tuple(index for index in self.inspected.left if index not in gone)

    def not_now(self, why: str) -> Inspected:
        """Nothing of what was found counts; all of it is tried again."""
        job = self._job
        reply = str(Reply(451, "4.3.0", why))
        return Inspected((), [Deferred(rcpt=job.assign.rcpt, attempt=job.assign.attempt, reply=reply)])


def _token(phase: str, step: str) -> str:
    """A step that a message need not go through, in its head; a phase alone stands for all its steps."""
    return f"{phase}/{step}"
