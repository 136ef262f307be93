"""kmqd: starts the scheduler process, the workers and the receivers, and keeps them alive until it is told to stop.

What:     binds every listener once and hands them down; begins a dead child again, at once, then after a growing wait;
          ends one that stands still; tells the scheduler process who lives and who was reaped (J9, J10), and ends a
          process when it asks; tells systemd how it is.
Stop:     TERM or INT: receivers finish transactions, then workers what they have in hand, then the scheduler process
          comes to rest; each in bounded time, or it is killed. A second signal hastens.
Reload:   HUP, or an operator's word: the configuration again, for all or for nobody (changeover). New listeners are
          opened before old ones are closed; children are begun and ended until there are as many as it says.
Promise:  no crash loop: exit 78 of a child (configuration or spool wrong) ends all with 78. A wrong configuration is
          reported with file and line, and the old one stays, for children born later too.
On crash: children notice by a pipe that ends, and stop in the same order; the next kmqd waits for them.
Callers:  cli.kmqd. It runs on asyncio's own loop: it has next to nothing to do.
"""

import asyncio
import faulthandler
import gc
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from kmq import log
from kmq.config import Settings
from kmq.config.certificates import require
from kmq.model.frame import AnyFrame, Beat, End, Hello, Living, Prepared, Reaped, Reload, Reloaded
from kmq.run import activation, drop_ground, family, ground, listeners, memory, rotation, watch
from kmq.run.activation import Given
from kmq.run.birth import Live
from kmq.run.children import TEMPORARY, WRONG, Child, places
from kmq.run.inheritance import Estate
from kmq.run.link import Link
from kmq.run.notify import Notify
from kmq.run.renewal import Renewal
from kmq.spool.rhythm import REST, until_next

#: The order of stopping, and seconds until a child that does not end is killed.
STAGES = {"receiver": 12.0, "pickup": 12.0, "worker": 35.0, "index": 5.0, "scheduler": 30.0}
#: The same after a second signal.
HASTY = {"receiver": 2.0, "pickup": 2.0, "worker": 3.0, "index": 2.0, "scheduler": 10.0}

#: Seconds until a killed process is given up: it waits for a disk that does not answer.
UNKILLABLE = 10.0

#: Seconds that a process which stands still is given to tell where (SIGABRT, faulthandler) before it is killed.
LAST_WORDS = 2.0

#: Seconds between two looks at the children, and what systemd is asked for at each look while a start or a stop lasts.
LOOK, MORE_TIME = REST, 20.0

#: A scheduler process that ends with 75 in its first seconds has found the spool locked: we are not wanted here.
FIRST_LOOK = 10.0

_NOFILE = 65536

#: What others may do with files is the same whoever starts kmqd (kmq-spool(5), PERMISSIONS).
_UMASK = 0o027


class Supervisor:
    """All children of one kmqd. live: what each of them does. exit_status: what kmqd ends with. given: what systemd
    bound for us."""

    def __init__(
        self,
        settings: Settings,
        sockets: dict[str, socket.socket],
        live: Live,
        given: Sequence[Given] = (),
        notify: Notify | None = None,
    ) -> None:
        self.exit_status = 0
        self._notify = notify or Notify({})
        self._renewal = Renewal(Estate(settings, sockets), given, self._living, self._fit)
        self._live = live
        self._children = [Child(role, number) for role, number in places(settings)]
        self._loop = asyncio.get_running_loop()
        self._stages: set[str] = set()
        self._stopping = asyncio.Event()
        self._hasty = asyncio.Event()
        self._gone = asyncio.Event()
        self._started_up = asyncio.Event()
        self._link: Link | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._started = time.time()
        self._changing = asyncio.Lock()
        self._reloads: set[asyncio.Task[None]] = set()
        self._looked = time.monotonic()

    # --- the whole life ----------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Until told to stop; -> the exit status."""
        self._loop.add_signal_handler(signal.SIGTERM, self.stop)
        self._loop.add_signal_handler(signal.SIGINT, self.stop)
        self._loop.add_signal_handler(signal.SIGHUP, self.reload)
        rotation.heed(self._loop, self.reopen)
        for child in self._children:
            self._loop.call_soon(self._begin, child)
        self._connect()
        self._look()
        await self._stopping.wait()
        self._notify.stopping()
        for reload in self._reloads:
            reload.cancel()
        # Clients that come now are told at once that nobody is here, and go to another server.
        for name, one in self._renewal.estate.sockets.items():
            if listeners.section_of(name):
                one.close()
        for role in STAGES:
            await self._end_stage(role)
        if self._connecting is not None:
            self._connecting.cancel()
        log.event("stopped", status=self.exit_status)
        return self.exit_status

    def close(self) -> None:
        """Nobody listens any more."""
        listeners.close(self._renewal.estate.sockets)

    def stop(self) -> None:
        """Begins to stop; said again, stops in haste."""
        if self._stopping.is_set() and not self._hasty.is_set():
            log.event("hastened")
            self._hasty.set()
        elif not self._stopping.is_set():
            log.event("stopping")
            self._stopping.set()

    def reopen(self) -> None:
        """The log's file was renamed: everybody opens it anew."""
        log.reopen()
        for child in self._living():
            child.send(rotation.ROTATED)

    # --- the look ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Now and then: who stands still, and what systemd is to know."""
        now = time.monotonic()
        self._loop.call_later(until_next(LOOK, now), self._look)
        if now - self._looked > 3 * LOOK:  # we stood still ourselves, and have heard nobody
            for child in self._children:
                child.heard = now
        self._looked = now
        if watch.well(self._children, self._renewal.settings, now):
            self._notify.alive()
        if self._stopping.is_set():
            self._notify.more_time(MORE_TIME)
            return
        for child in watch.standing_still(self._children, self._renewal.settings, now):
            self._end_child(child, hung=True)
        if not self._started_up.is_set() and watch.beginning(self._children):
            self._notify.more_time(MORE_TIME)
        self._tell_status()

    def _tell_status(self) -> None:
        if not (self._changing.locked() or self._stopping.is_set()):
            self._notify.status(watch.sentence(self._children))

    def _everybody_ready(self) -> None:
        """Once: the scheduler process has recovered, and receivers take connections."""
        if not self._started_up.is_set() and all(child.ready for child in self._children):
            self._started_up.set()
            log.event("ready", pid=os.getpid())
            self._notify.ready(watch.sentence(self._children))

    def _said(self, child: Child) -> None:
        """A child says something over its cord."""
        while child.cord is not None:
            try:
                received = child.cord.receive()
            except BlockingIOError:
                return
            if received is None:  # it has closed the cord, so it is about to end
                self._loop.remove_reader(child.cord.fileno())
                return
            child.heard = time.monotonic()
            self._heard_of(child, received[0])

    def _heard_of(self, child: Child, frame: AnyFrame) -> None:
        match frame:
            case Beat():
                child.said(frame)
                if self._renewal.changeover is not None:
                    self._renewal.changeover.beaten()
                self._everybody_ready()
                self._tell_status()
            case Prepared():
                if self._renewal.changeover is not None:
                    self._renewal.changeover.said(child, frame)
            case Reload():
                self._reload_soon(lambda result: child.tell(result), frame.token)
            case _:
                log.warning("a frame that the supervisor does not understand", frame=type(frame).__name__)

    # --- a new configuration -----------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Reads the configuration again; one that is about to do so will read what is there now."""
        if len(self._reloads) <= self._changing.locked():
            self._reload_soon(lambda result: None, 0)

    def _reload_soon(self, answer: Callable[[Reloaded], object], token: int) -> None:
        async def reload() -> None:
            await self._started_up.wait()
            async with self._changing:
                self._notify.reloading()
                try:
                    answer(await self._renewal.renew(token))
                finally:
                    self._notify.ready(watch.sentence(self._children))

        task = self._loop.create_task(reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    def _fit(self) -> None:
        """As many children as the configuration says: more are begun, those beyond end in order."""
        wanted = places(self._renewal.settings)
        there = {(child.role, child.number): child for child in self._children}
        for place, child in there.items():
            if place not in wanted:
                child.leaving = True
                child.send(signal.SIGTERM)
                if not child.pid:
                    self._children.remove(child)
        for place in wanted:
            if place not in there:
                child = Child(*place)
                self._children.append(child)
                self._loop.call_soon(self._begin, child)
            elif there[place].leaving:  # it was about to go, and another one comes
                there[place].leaving = False

    # --- children ----------------------------------------------------------------------------------------------------

    def _begin(self, child: Child) -> None:
        """Called by the loop: a child is forked here, and is not to find itself within a task of ours."""
        if child not in self._children or child.pid:
            return
        if self._stopping.is_set() and (child.role != "scheduler" or "scheduler" in self._stages):
            return
        try:
            child.begin(self._live, self._renewal.estate)
        except OSError as error:
            wait = child.patience.after(0)
            log.error("a process could not be started", child=child.name, why=error.strerror, wait=wait)
            self._loop.call_later(max(wait, 0.1), self._begin, child)
            return
        log.event("started", child=child.name, pid=child.pid)
        self._loop.add_reader(child.pidfd, self._dead, child)
        if child.cord is not None:
            self._loop.add_reader(child.cord.fileno(), self._said, child)
        if self._renewal.changeover is not None:
            self._renewal.changeover.born(child)

    def _dead(self, child: Child) -> None:
        """A child's descriptor says that it ended."""
        pid, pidfd, cord = child.pid, child.pidfd, child.cord.fileno() if child.cord else -1
        ended = child.reap()
        if ended is None:
            return
        self._loop.remove_reader(pidfd)
        self._loop.remove_reader(cord)
        if self._renewal.changeover is not None:
            self._renewal.changeover.gone(child)
        self._gone.set()
        lived = child.lived
        in_order = ended.status == 0 or child.leaving or child.role in self._stages
        (log.event if in_order else log.warning)("ended", child=child.name, pid=pid, cause=ended.cause, seconds=lived)
        if child.role != "scheduler":
            self._say(Reaped(child.role, child.number, pid, ended.itself, child.hung, ended.cause))
        if child.leaving:
            self._children.remove(child)
        elif ended.status == WRONG or (ended.status == TEMPORARY and child.role == "scheduler" and self._first(child)):
            self._give_up(ended.status)
        else:
            self._loop.call_later(child.patience.after(lived), self._begin, child)

    def _first(self, child: Child) -> bool:
        return child.lives == 1 and child.lived < FIRST_LOOK

    def _give_up(self, status: int) -> None:
        """What a child found wrong, another start would find again: no crash loop."""
        if not self._stopping.is_set():
            log.error("a new start would not help, so kmqd stops", status=status)
            self.exit_status = status
            self._stopping.set()

    def _living(self, role: str = "") -> Iterator[Child]:
        return (child for child in self._children if child.pid and role in ("", child.role))

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _end_stage(self, role: str) -> None:
        """Ends the children of one role; a scheduler process that dies meanwhile is begun again: the last results of
        the workers want to be recorded."""
        self._stages.add(role)
        for child in self._living(role):
            child.send(signal.SIGTERM)
        if not await self._wait_for(role, STAGES[role], self._hasty):
            for child in self._living(role):
                child.send(signal.SIGTERM)  # in haste it needs to be told so too
            await self._wait_for(role, HASTY[role] if self._hasty.is_set() else 0, None)
        for child in self._living(role):
            log.warning("a process does not end, so it is killed", child=child.name, pid=child.pid)
            child.send(signal.SIGKILL)
        await self._wait_for(role, UNKILLABLE, None)

    async def _wait_for(self, role: str, seconds: float, hasty: asyncio.Event | None) -> bool:
        """True when all of a role are gone; False when the time is up, or haste is asked for."""
        deadline = self._loop.time() + seconds
        while any(self._living(role)):
            if self._loop.time() >= deadline or (hasty is not None and hasty.is_set()):
                return False
            self._gone.clear()
            waits = [asyncio.ensure_future(one.wait()) for one in (self._gone, hasty) if one is not None]
            await asyncio.wait(waits, timeout=deadline - self._loop.time(), return_when=asyncio.FIRST_COMPLETED)
            for one in waits:
                one.cancel()
        return True

    # --- the scheduler process's ear ---------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._link = None
        self._connecting = self._loop.create_task(self._introduce())

    async def _introduce(self) -> None:
        """The first word over each connection is who lives (J10); deaths follow it, in order."""
        link = Link(self._heard, self._link_ended)
        await link.connect(self._renewal.settings.kmq.run_directory / "queue.sock")
        link.send(Hello("supervisor", 1, os.getpid(), self._started))
        children = [(one.role, one.number, one.pid) for one in self._living() if one.role != "scheduler"]
        link.send(Living(children))
        self._link = link

    def _link_ended(self, link: Link) -> None:
        """The scheduler process died; what it was not told is in the next `Living`: who is not named is dead."""
        if "scheduler" not in self._stages:
            self._connect()

    def _say(self, reaped: Reaped) -> None:
        if self._link is not None:
            self._link.send(reaped)

    def _heard(self, link: Link, frame: AnyFrame, raw: bytes) -> None:
        if isinstance(frame, End):
            self._end(frame)
        else:
            log.warning("a frame that the supervisor does not understand", frame=type(frame).__name__)

    def _end(self, asked: End) -> None:
        """The scheduler process wants a process ended; `Reaped` answers, also when it was dead before."""
        for child in self._living(asked.role):
            if child.number == asked.n and child.pid == asked.pid and child.role != "scheduler":
                self._end_child(child, asked.hung)
                return
        self._say(Reaped(asked.role, asked.n, asked.pid, False, False, "was gone before"))

    def _end_child(self, child: Child, hung: bool) -> None:
        log.warning("a process is ended", child=child.name, pid=child.pid, why="hangs" if hung else "socket gone")
        if not hung:
            child.send(signal.SIGKILL)
        elif not child.hung:
            child.hung = True
            child.send(signal.SIGABRT)
            self._loop.call_later(LAST_WORDS, self._kill, child, child.pid)

    def _kill(self, child: Child, pid: int) -> None:
        if child.pid == pid:
            child.send(signal.SIGKILL)


def main(settings: Settings, live: Live) -> int:
    """kmqd's whole life in this process; -> its exit status. live: that of a child, whose modules have been read.
    KmqError when it cannot begin."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # who begins us may ignore it: nobody could be waited for then
    os.umask(_UMASK)
    faulthandler.enable()  # systemd's watchdog ends us with SIGABRT
    notify, given = Notify(), activation.received()
    require(settings)
    for text in settings.warnings:
        log.warning(text)
    if os.geteuid() == 0:
        log.warning("kmqd runs as root; it needs no more than its spool and its ports (see kmq.service)")
    _raise_descriptor_limit()
    gc.collect()
    gc.freeze()  # children share what lies here as long as nobody writes to it, and a collection does
    memory.give_back()
    signal.signal(rotation.ROTATED, signal.SIG_IGN)  # until the loop heeds it; no file was opened before
    ground.enter(settings)
    lock = family.lock_kmqd(settings.kmq.run_directory)
    ground.build(settings.kmq.spool)
    drop_ground.require(settings)
    notify.more_time(family.PATIENCE + MORE_TIME)
    family.outlive_orphans(settings.kmq.run_directory)
    sockets = listeners.bind(settings, given)

    async def supervise() -> int:
        supervisor = Supervisor(settings, sockets, live, given, notify)
        try:
            return await supervisor.run()
        finally:
            supervisor.close()

    try:
        return asyncio.run(supervise())
    finally:
        lock.release()


def _raise_descriptor_limit() -> None:
    """Each session and connection is a descriptor; children inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _NOFILE if hard == resource.RLIM_INFINITY else min(_NOFILE, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            log.warning("the limit of open files stays as it is", limit=soft, why=str(error))
