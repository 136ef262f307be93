"""Asks the examiner about mail: its parts, its attachments, and one of them decoded.

What:     `Examiners` keeps the processes of this worker, begun when they are first needed and ended when nobody asks
          for a while. Small messages that wait for one are asked about together, so that many cost few changes between
          processes.
Promise:  facts or a Trouble, never an exception of the world's: an examiner that dies of a message, or takes more
          memory or time than it may, is the crash of that message, and of no other: those that were asked about with it
          are asked about again, each by itself. What hinders it otherwise is temporary. Of a message that several ask
          about the facts are kept for a moment.
On crash: examiners end with us: their socket ends.
Callers:  phases.content_attachments, server rules, scanners. In the worker's loop.
"""

import asyncio
import os
import stat
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from kmq.config.content import ContentSection
from kmq.model import recipients
from kmq.model.envelope import Head
from kmq.model.event import Deferred
from kmq.model.reply import Reply
from kmq.phases.body import BodyDamaged
from kmq.phases.examiner_child import Child, NotBegun
from kmq.phases.examiner_frames import (
    SMALL,
    TOGETHER,
    Answer,
    Broken,
    Damaged,
    Examine,
    Examined,
    Extract,
    Hindered,
    Question,
)
from kmq.phases.facts import Cause, Facts, Part, Trouble
from kmq.phases.inspection import Finding, Matter
from kmq.phases.work import Body
from kmq.spool.incoming import FOLDER

#: Messages whose facts are kept, and seconds after which an examiner that nobody asks is ended.
_KEPT = 16
_IDLE = 60.0
#: The clock may go so much longer than the processor (see `time_limit`).
_CLOCK = 6
#: Bytes that are kept in memory for who wants a part decoded; more is a file without a name.
_SMALL = 1 << 20

_shared: "WeakValueDictionary[tuple[ContentSection, str], Examiners]" = WeakValueDictionary()


def examiners_of(section: ContentSection, spool: str) -> "Examiners":
    """Those of this worker under a configuration: the same ones for all who ask, and for the next configuration if it
    says the same.
    """
    found = _shared.get((section, spool))
    if found is None:
        found = _shared[section, spool] = Examiners(section, spool)
    return found


@dataclass(slots=True, eq=False)
class _Asked:
    """A question of somebody who waits. by, among: who is at work on it, and on what together with it; alone: it has to
    be asked by itself."""

    question: Question
    body: bytes | Callable[[], int]
    out: tuple[int, ...]
    answer: asyncio.Future[Answer | Trouble]
    by: Child | None = None
    among: list["_Asked"] = field(default_factory=list)
    alone: bool = False

    @property
    def size(self) -> int:
        """Of what it takes to be asked with others; more than there is for what is asked alone."""
        return SMALL + 1 if self.alone or not isinstance(self.body, bytes) else len(self.body)


class Examiners:
    """The examiners of this worker."""

    def __init__(self, section: ContentSection, spool: str) -> None:
        self._section = section
        self._folder = f"{spool}/{FOLDER}"
        self._waiting: deque[_Asked] = deque()
        self._rounds: set[asyncio.Task[None]] = set()  # of examiners that are at work; as many as may be
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._facts: OrderedDict[tuple[str, str], Facts] = OrderedDict()
        self._resting: asyncio.TimerHandle | None = None
        self._asked = 0.0  # when the last answer came, by the loop's clock

    async def facts(self, head: Head, body: Body) -> Facts | Trouble:
        """What is in a message."""
        key = head.id, head.sha256
        if (known := self._facts.get(key)) is not None:
            return known
        question = question_of(self._section, head)
        small = body.text is not None and len(body.text) <= SMALL
        answer = await self._ask(question, body.text if small and body.text else lambda: _opened(head, body))
        if isinstance(answer, Trouble):
            return answer
        assert isinstance(answer, Examined), "an examiner answers what it is asked"
        self._facts[key] = answer.facts
        if len(self._facts) > _KEPT:
            self._facts.popitem(last=False)
        return answer.facts

    async def extract(self, head: Head, body: Body, part: Part) -> int | Trouble:
        """A part decoded: a descriptor of a file without a name, at its beginning, for the caller to close. Of a part
        within one that is encoded, all of that.
        """
        if part.end < part.text:
            return Trouble(Cause.UNAVAILABLE, "the end of the part could not be found")
        try:
            out = self._nameless() if part.end - part.text > _SMALL else os.memfd_create("kmq-part")
        except OSError as error:
            return _hindered(error)
        question = Extract(part.text, part.end, part.encoding, self._section.time_limit)
        try:
            answer = await self._ask(question, lambda: _opened(head, body), out)
        except BaseException:
            os.close(out)
            raise
        if isinstance(answer, Trouble):
            os.close(out)
            return answer
        return out

    async def close(self) -> None:
        """The process ends, or nobody asks any more. Whoever asks later begins another examiner."""
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        children, self._all, self._idle = list(self._all), set(), []
        for task in list(self._rounds):
            task.cancel()
        self._rounds.clear()  # they end later; who asks now needs another one
        while self._waiting:
            self._waiting.popleft().answer.cancel()
        await asyncio.gather(*(child.end() for child in children))

    # --- questions ----------------------------------------------------------------------------------------------------

    async def _ask(self, question: Question, body: bytes | Callable[[], int], *out: int) -> Answer | Trouble:
        """body: a small one, or what opens it. out: where the answer is to be written."""
        loop = asyncio.get_running_loop()
        one = _Asked(question, body, out, loop.create_future())
        self._waiting.append(one)
        if len(self._rounds) < self._section.examiners:
            self._rounds.add(loop.create_task(self._round()))
        try:
            return await one.answer
        except asyncio.CancelledError:
            if one.by is not None and all(other.answer.done() for other in one.among):
                await self._over(one.by)  # it is at work on what nobody waits for
            raise

    async def _round(self) -> None:
        """One examiner at work, until nobody waits: all that has come meanwhile it is asked together."""
        try:
            while self._waiting:
                try:
                    child = await self._ready()
                except Exception as error:
                    _fail(self._next(), error)
                    continue
                batch = self._next()
                if batch:
                    await self._asked_together(child, batch)
                else:
                    self._rest(child)
        finally:
            task = asyncio.current_task()
            assert task is not None, "this is one"
            self._rounds.discard(task)

    def _next(self) -> list["_Asked"]:
        """What is asked together, as far as somebody still waits for it."""
        batch: list[_Asked] = []
        room = SMALL
        while self._waiting and len(batch) < TOGETHER and not (batch and self._waiting[0].size > room):
            one = self._waiting.popleft()
            if not one.answer.done():
                batch.append(one)
                room -= one.size
        return batch

    async def _asked_together(self, child: Child, batch: list["_Asked"]) -> None:
        """Each is answered, but where the examiner came to an end: then the others are asked again, one by one, so that
        what it died of is sure."""
        for one in batch:
            one.by, one.among = child, batch
        try:
            answers = await self._answers(child, batch)
        except Exception as error:
            _fail(batch, error)
            await self._over(child)
            return
        except BaseException:  # we are closed
            for one in batch:
                one.answer.cancel()
            raise
        finally:
            for one in batch:
                one.by = None  # it is at work on something else at once
        for one, answer in zip(batch, answers, strict=False):
            if not one.answer.done():
                one.answer.set_result(answer)
        for one in reversed(batch[len(answers) :]):
            one.alone = True
            self._waiting.appendleft(one)

    async def _answers(self, child: Child, batch: list["_Asked"]) -> list[Answer | Trouble]:
        """To the first of them, mostly to all. The examiner has nothing to do then, or is over."""
        first = batch[0]
        fds: tuple[int, ...] = first.out
        if not isinstance(first.body, bytes):
            try:
                fds = first.body(), *first.out
            except (BodyDamaged, OSError) as error:
                self._rest(child)
                return [_unopened(error)]
        limit = _CLOCK * self._section.time_limit
        asked = [(one.question, one.body if isinstance(one.body, bytes) else b"") for one in batch]
        try:
            answers = await child.ask(asked, fds, limit)
        except OSError as error:
            await self._over(child)
            return [_hindered(error)] * len(batch)
        finally:
            for fd in fds[: len(fds) - len(first.out)]:
                os.close(fd)
        if isinstance(answers, Trouble):
            await self._over(child)
            return [answers] if len(batch) == 1 else []
        if len(answers) < len(batch) or isinstance(answers[-1], Broken):
            await self._over(child)
        else:
            self._rest(child, scratch=any(isinstance(one, Examined) and one.scratch for one in answers))
        return [_understood(one) for one in answers]

    async def _ready(self) -> Child:
        """One that has nothing to do, or a new one."""
        while self._idle:
            child = self._idle.pop()
            if child.lives:
                return child
            await self._over(child)
        child = await Child.begin(self._folder, self._section.memory)
        self._all.add(child)
        return child

    def _rest(self, child: Child, scratch: bool = False) -> None:
        """It has nothing to do. scratch: its file has been written to."""
        if scratch:
            child.clear()
        if child not in self._all:  # closed meanwhile
            child.kill()
            return
        self._idle.append(child)
        loop = asyncio.get_running_loop()
        self._asked = loop.time()
        if self._resting is None:
            self._resting = loop.call_later(_IDLE, self._look_who_asks, loop)

    def _look_who_asks(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends those whom nobody asks; somebody who asked meanwhile only moves the next look."""
        left = self._asked + _IDLE - loop.time()
        if left > 0:
            self._resting = loop.call_later(left, self._look_who_asks, loop)
            return
        self._resting = None
        children, self._idle = self._idle, []
        for child in children:
            self._all.discard(child)
            child.kill()

    async def _over(self, child: Child) -> None:
        self._all.discard(child)
        await child.end()

    def _nameless(self) -> int:
        return os.open(self._folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


def question_of(section: ContentSection, head: Head) -> Examine:
    """What an examiner is asked about a message."""
    return Examine(
        size=head.size,
        sha256=head.sha256,
        depth=section.depth,
        parts=section.parts,
        archive_depth=section.archive_depth,
        archive_files=section.archive_files,
        archive_size=section.archive_size,
        archive_ratio=section.archive_ratio,
        seconds=section.time_limit,
    )


def _opened(head: Head, body: Body) -> int:
    """A descriptor of the body, to be read at places."""
    if body.text is not None:
        fd = os.memfd_create("kmq-body")
        view = memoryview(body.text)
        while view:
            view = view[os.write(fd, view) :]
        return fd
    fd = os.open(body.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_size != head.size:
        os.close(fd)
        raise BodyDamaged(f"{os.path.basename(body.path)} has {found.st_size} bytes instead of {head.size}")
    return fd


def _fail(batch: Sequence[_Asked], error: Exception) -> None:
    """There is no examiner for these; what is a mistake of ours their phase hears as one."""
    for one in batch:
        if one.answer.done():
            continue
        if isinstance(error, NotBegun):
            one.answer.set_result(Trouble(Cause.UNAVAILABLE, f"no examiner can be begun: {error}"))
        else:
            one.answer.set_exception(error)


def _unopened(error: BodyDamaged | OSError) -> Trouble:
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return _hindered(error)
    return Trouble(Cause.DAMAGED, str(error) if isinstance(error, BodyDamaged) else "the body is missing")


def _understood(answer: Answer) -> Answer | Trouble:
    match answer:
        case Broken():
            return Trouble(Cause.CRASHED, answer.why, answer.trace)
        case Damaged():
            return Trouble(Cause.DAMAGED, answer.why)
        case Hindered():
            return Trouble(Cause.UNAVAILABLE, answer.why)
        case _:
            return answer


def _hindered(error: OSError) -> Trouble:
    return Trouble(Cause.UNAVAILABLE, error.strerror or str(error))


def without_facts(trouble: Trouble, matter: Matter) -> Finding:
    """What a phase says that cannot do without. Raises BodyDamaged."""
    if trouble.cause is Cause.DAMAGED:
        raise BodyDamaged(trouble.why)
    if trouble.cause is Cause.CRASHED:
        return Finding(None, crashed=f"the examiner: {trouble.why}\n{trouble.trace}".rstrip())
    reply = Reply(451, "4.3.0", f"The message cannot be examined now: {trouble.why}")
    rcpt = recipients.as_text(matter.rcpt)
    return Finding(None, events=[Deferred(rcpt=rcpt, attempt=matter.attempt, reply=str(reply))])
