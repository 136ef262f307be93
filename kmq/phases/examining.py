"""Asks the examiner about mail: its parts, its attachments, and one of them decoded.

What:     `Examiners` keeps the processes of this worker, begun when they are first needed and ended when nobody asks
          for a while. Who asks waits for a place; each process has one message at a time.
Promise:  facts or a Trouble, never an exception of the world's: an examiner that dies of a message, or takes more
          memory or time than it may, is the crash of that message; what hinders it otherwise is temporary. Of a message
          that several ask about the facts are kept for a moment.
On crash: examiners end with us: their socket ends.
Callers:  phases.content_attachments, server rules, scanners. In the worker's loop.
"""

import asyncio
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
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


class Examiners:
    """The examiners of this worker."""

    def __init__(self, section: ContentSection, spool: str) -> None:
        self._section = section
        self._folder = f"{spool}/{FOLDER}"
        self._places = asyncio.Semaphore(section.examiners)
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
        await asyncio.gather(*(child.end() for child in children))

    # --- one question -------------------------------------------------------------------------------------------------

    async def _ask(self, question: Question, body: bytes | Callable[[], int], *out: int) -> Answer | Trouble:
        """body: a small one, or what opens it. out: where the answer is to be written."""
        async with self._places:
            try:
                child = await self._ready()
            except NotBegun as why:
                return Trouble(Cause.UNAVAILABLE, f"no examiner can be begun: {why}")
            opened = -1
            try:
                limit = _CLOCK * self._section.time_limit
                if isinstance(body, bytes):
                    answer = await child.ask(question, body, out, limit)
                else:
                    opened = body()
                    answer = await child.ask(question, b"", (opened, *out), limit)
            except (BodyDamaged, FileNotFoundError) as error:
                answer = Damaged(str(error) if isinstance(error, BodyDamaged) else "the body is missing")
            except OSError as error:
                answer = Hindered(error.strerror or str(error))
            except BaseException:  # cancelled: it is still at work on what nobody waits for
                await self._over(child)
                raise
            finally:
                if opened >= 0:
                    os.close(opened)
            if isinstance(answer, (Trouble, Broken)):
                await self._over(child)
            else:
                self._rest(child, answer)
            return _understood(answer)

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

    def _rest(self, child: Child, answer: Answer) -> None:
        if isinstance(answer, Examined) and answer.scratch:
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


def _understood(answer: Answer | Trouble) -> Answer | Trouble:
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
