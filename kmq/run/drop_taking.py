"""One drop directory at work: which files are taken, and when.

Which:    a hint (closed after writing, renamed in) is taken at once; what a look at the directory finds, when it is the
          same as at the look before. What was being taken when kmqd ended is found at the start, likewise.
Promise:  each file becomes one message, or is set aside with the reason, or waits: none is lost, and none taken again
          while its message is on the way (J12). No more than `messages_per_minute`; what is above waits. A file that
          nobody can take is told of once an hour. A file that is written to after it was taken is set aside, too.
On crash: `.tmp` files; see spool.drop.
Callers:  run.pickup, in its loop. Disks are looked at in threads: one that does not answer stops nobody else.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine
from functools import partial
from itertools import islice
from pathlib import Path

from kmq import log
from kmq.config.drop import PickupSection, ReplaySection
from kmq.intake.dropped import Reader
from kmq.log import mail
from kmq.run.drop_file import End, Fate, Ground, Taker, Way, user_of
from kmq.run.drop_pace import Pace
from kmq.spool import drop_mark, drop_names
from kmq.spool.drop import DropFolder, Look, Survey
from kmq.spool.drop_hint import Hints
from kmq.spool.rhythm import until_next

#: Files of one directory on their way at once, so that one sync serves many.
AT_ONCE = 32
#: Names that are known at once; what is beyond is found when these are gone.
KNOWN = 20_000
#: Seconds between two looks for what must be looked at even where there are to be none.
LOOK_AGAIN = 5.0
#: Seconds between two lines about the same file.
HOUR = 3600.0

WRITTEN_TO = "it was written to after it had been taken: its message has what was there before"


class Taking:
    """The directory of [pickup] or [replay]; `name` says which. counts: files taken, bad, unfit, waiting."""

    def __init__(self, name: str, section: PickupSection | ReplaySection, reader: Reader, ground: Ground) -> None:
        self.name = name
        self.directory = section.directory
        self.counts = {"taken": 0, "bad": 0, "unfit": 0, "waiting": 0}
        self._ground = ground
        self._pace = Pace(section.messages_per_minute)
        self._loop = asyncio.get_running_loop()
        self._folder: DropFolder | None = None
        self._former: list[DropFolder] = []
        self._hints: Hints | None = None
        self._seen: dict[str, Look] = {}
        self._left: set[str] = set()  # `.tmp` files of an earlier life
        self._waiting: dict[str, None] = {}  # names that may be taken now, the oldest first
        self._found = 0  # files that the last look found waiting
        self._leaving: dict[str, Look] = {}  # durable messages, whose files the scheduler process is to unlink
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._told: dict[str, float] = {}
        self._again: asyncio.TimerHandle | None = None
        self._stopping = False
        self._changed = asyncio.Event()
        self.configure(section, reader)

    def configure(self, section: PickupSection | ReplaySection, reader: Reader) -> None:
        """For files that are taken from now on."""
        self._section = section
        self._way = Way(self.name, reader, section.size_limit, section.line_limit)
        self._pace.per_minute = section.messages_per_minute
        self._changed.set()

    # --- the whole life ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Takes files until `stop`."""
        while not self._stopping:
            try:
                if self._folder is None:
                    await self._open()
                if self._folder is not None:
                    await self._look_through(self._folder)
            except OSError as error:
                self._tell("a drop directory cannot be looked at", error.strerror or str(error))
                self._close()
            await self._pause()

    async def _pause(self) -> None:
        """Until the next look; a new configuration may want it sooner."""
        self._changed.clear()
        every = self._section.scan_interval or LOOK_AGAIN
        left = until_next(every, time.monotonic())  # with all that is due from time to time, but not too early
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left if left > every / 2 else left + every):
                await self._changed.wait()

    async def stop(self, grace: float) -> None:
        """Begins nothing new; what is on its way comes to its end, or is left as `.tmp` for the next start."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        self._close()
        self._ground.threads.shutdown(wait=False)

    async def _open(self) -> None:
        """The directory as it is now; not while another kmqd has it."""
        folder = await self._ground.in_thread(self._opened)
        if isinstance(folder, str):
            self._tell("a drop directory belongs to the kmqd of another spool, so nothing is taken out of it", folder)
            return
        self._listen()  # ahead of the first look, which finds what came before
        self._folder = folder
        self._left |= set(await self._ground.in_thread(lambda: list(islice(folder.left_behind(), KNOWN))))

    def _opened(self) -> DropFolder | str:
        path, root = os.path.normpath(self.directory), f"{self._ground.spool.root}/"
        inside = path.removeprefix(root) if path.startswith(root) else ""
        folder = DropFolder(Path(path), inside, self._may)
        try:
            occupant = "" if inside else drop_mark.occupant(folder.disk, self._ground.spool)
        except OSError:
            folder.close()
            raise
        if occupant:
            folder.close()
            return occupant
        return folder

    def _listen(self) -> None:
        """Hints, if the kernel has any to give."""
        try:
            self._hints = Hints(self.directory, self._hint, self._lost)
        except OSError as error:
            every = self._section.scan_interval or LOOK_AGAIN
            self._tell(f"files are not taken at once, but found by a look each {every:g} s", error.strerror or "")

    def _close(self) -> None:
        """Forgets the directory; files on their way out of it end as they end."""
        if self._folder is not None:
            self._former.append(self._folder)
        self._folder = None
        self._close_former()
        if self._hints is not None:
            self._hints.close()
            self._hints = None

    def _close_former(self) -> None:
        """Directories that nobody works in any more."""
        while self._former and not self._tasks:
            self._former.pop().close()

    def _may(self, uid: int) -> bool:
        """Whether a user's files are taken."""
        owners = self._section.owners
        if "*" in owners or uid in (0, os.geteuid()) or str(uid) in owners:
            return True
        return bool(owners) and user_of(uid) in owners

    # --- which files -------------------------------------------------------------------------------------------------

    def _hint(self, name: str) -> None:
        if not drop_names.waits(name) or drop_names.hidden(name):
            return
        if self._folder is not None and name in self._folder.given_back:
            self._folder.given_back.discard(name)
        elif len(self._waiting) < KNOWN:
            self._waiting[name] = None
            self._pump()

    def _lost(self, why: str) -> None:
        self._tell("a look at a drop directory finds what the kernel does not tell", why)

    async def _look_through(self, folder: DropFolder) -> None:
        """What is as it was at the look before may be taken."""
        if self._hints is not None and not self._hints.alive:
            self._hints = None
            self._listen()
        left = set(self._left)
        all_of_it = self._section.scan_interval > 0 or self._hints is None
        survey = await self._ground.in_thread(
            lambda: folder.survey(left, all_of_it, KNOWN) if folder.stands() else None
        )
        if survey is None:
            self._tell("a drop directory was exchanged for another", "it is opened anew")
            self._close()
            return
        self._compare(survey)
        if self._hints is None:
            folder.given_back.clear()
        self._pump()

    def _compare(self, survey: Survey) -> None:
        for name, look in survey.files.items():
            if self._seen.get(name) == look:
                self._left.discard(name)
                self._waiting.setdefault(name)
        self._left &= survey.files.keys()
        self._seen = survey.files
        for name, why in survey.unfit.items():
            self._tell_file(name, why)
        self.counts["unfit"] = len(survey.unfit)
        self._found = survey.waiting

    # --- when --------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Each second, or each five at rest."""
        self._pump()
        if self._leaving and self._folder is not None and (self._watching is None or self._watching.done()):
            self._watching = self._spawn(self._watch_leaving(self._folder))
        self.counts["waiting"] = max(self._found, len(self._waiting))

    def _pump(self) -> None:
        """Begins as many as may be begun."""
        while self._waiting and len(self._tasks) < AT_ONCE and self._folder is not None and self._may_begin():
            now = self._loop.time()
            wait = self._pace.wait(now)
            if wait > 0:
                if self._again is None:
                    self._again = self._loop.call_later(wait, self._pump_again)
                return
            name = next(iter(self._waiting))
            del self._waiting[name]
            self._pace.count(now)
            self._spawn(self._take(Taker(self._ground, self._folder, self._way), name))

    def _pump_again(self) -> None:
        self._again = None
        self._pump()

    def _may_begin(self) -> bool:
        door = self._ground.door
        return not self._stopping and self._ground.ready() and not (door.refusal or door.pressed(user=False).refusal)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._close_former()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._tell("something went wrong in a drop directory; the next look goes on", log.traced(error))
        self._pump()

    # --- what became of them -----------------------------------------------------------------------------------------

    async def _take(self, taker: Taker, name: str) -> None:
        fate = await taker.take(name)
        self._found = max(0, self._found - 1)
        match fate.end:
            case End.STORED if fate.look is not None:
                self.counts["taken"] += 1
                self._leaving[fate.name] = fate.look
            case End.BAD:
                self.counts["bad"] += 1
            case End.WAITS:
                self._waits_again(fate)
            case _:
                self._pace.uncount()
                if fate.why:
                    self._tell_file(name, fate.why)

    def _waits_again(self, fate: Fate) -> None:
        """A look finds it; where there are none, it is tried again all the same."""
        if fate.why:
            self._tell_file(fate.name, fate.why)
        if not self._section.scan_interval:
            self._loop.call_later(LOOK_AGAIN, self._hint, fate.name)

    async def _watch_leaving(self, folder: DropFolder) -> None:
        """A file whose message is durable goes within moments. One that somebody still writes to is another by now, and
        stays: what came later is in no message, so it is set aside for a person."""
        leaving = dict(self._leaving)
        now = await self._ground.in_thread(lambda: {name: folder.look(name) for name in leaving})
        for name, look in leaving.items():
            there = now[name]
            if there == look:
                continue
            self._leaving.pop(name, None)
            if isinstance(there, Look) and there.inode == look.inode:
                bad = await self._ground.in_thread(partial(folder.set_aside, name, WRITTEN_TO))
                mail.tell("bad-file", proto=self.name, file=bad or name, reason=WRITTEN_TO)
                self.counts["bad"] += 1

    # --- the log -----------------------------------------------------------------------------------------------------

    def _tell(self, text: str, why: str) -> None:
        """Once an hour."""
        if self._is_news(text):
            log.warning(text, directory=self.directory, why=why)

    def _tell_file(self, name: str, why: str) -> None:
        if self._is_news(name):
            log.warning("a dropped file is left alone", directory=self.directory, file=name, why=why)

    def _is_news(self, what: str) -> bool:
        now = self._loop.time()
        if len(self._told) > KNOWN:
            self._told.clear()
        if self._told.get(what, -HOUR) > now - HOUR:
            return False
        self._told[what] = now
        return True
