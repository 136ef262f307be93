"""The connections for one queue, and the messages that wait for one of them.

Promise:  never more connections than are allotted, to the queue and to its connector, and never one more than messages
          want. While the hop
          fails, one connection at a time is tried. A hop that refuses a further connection while others live is not
          down: the living ones carry what waits. Only when none is left and none can be opened, all that wait are told.
          While the hop answers quickly, messages that come together share connections: the text of one and the
          announcement of the next are one write (phases.connection). A hop that does not take well to that is told one
          message at a time for a while.
          A message whose kept connection turned out to be dead is tried once more at once, over a new one.
          The servers are tried one after the other until one will talk. What the DNS says for good is a result of
          those that wait; all else is a trouble of the queue.
On crash: see phases.work.
Callers:  phases.smtp.
"""

import asyncio
from collections import deque
from contextlib import aclosing
from functools import partial

from kmq.model.reply import Reply
from kmq.phases.berths import Berth
from kmq.phases.connection import Connection, State
from kmq.phases.delivery import Delivery
from kmq.phases.outlet import NO_HOSTS, TARGETS, Outlet
from kmq.phases.places import Places
from kmq.phases.smtp_opening import NotOpened, open_connection
from kmq.phases.targets import Target
from kmq.phases.waiting import Waiting, priority_of

WIDEN_AFTER = 10.0  #: seconds before a hop that refused a further connection is asked for one again
FOLLOWERS = 4  #: messages that may wait for a connection although others are idle
QUICK = 0.01  #: seconds that a hop needs for a message when waiting is worth it
SLOW = 1.0  #: what a hop is thought to need that we know nothing of
OVERDUE = 2.0  #: seconds that a text waits for its reply before who was announced behind it goes another way
APART = 600.0  #: seconds for which a hop that minds it hears of one message at a time
OPENING_LIMIT = 600.0  #: seconds after which an opening tries no further target


class SmtpHop:
    """See above."""

    def __init__(self, outlet: Outlet, domain: str) -> None:
        self.outlet = outlet
        self._domain = domain
        self._closed = False
        self._waiting = Waiting(None, 0)
        self._orphans: deque[Delivery] = deque()  # a kept connection died under them: they wait for a new one
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._openings: set[asyncio.Task[None]] = set()
        self._held: dict[asyncio.Task[None], Places] = {}  # what openings took, and no connection has yet
        self._leader: Connection | None = None  # the last one that was idle, which further messages may wait for
        self._room = 0  # how many more
        self._pace = SLOW  # seconds for a message, a moving mean
        self._apart_until = 0.0
        self._failed = False  # the last opening did
        self._widen_at = 0.0
        self.measure()

    def measure(self) -> None:
        """How many connections it may have now; those beyond are not ended while mail flows over them.

        What is given to a worker that has none of its own is carried all the same, over one.
        """
        allotment = self.outlet.allotment
        self._own = allotment.queue(self.outlet.section, self._domain)
        self._width = 0 if self._closed else max(1, self._own)
        self._waiting.width = self._width
        if self._waiting.parts != allotment.parts:
            waiting, self._waiting = self._waiting, Waiting(allotment.parts, self._width)
            self._waiting.put_back(waiting)

    @property
    def ready(self) -> bool:
        """A message could be begun now without waiting for others, and the hop did not just fail."""
        if self._failed or not self._own:
            return False
        if self._waiting.parts is not None and self._waiting:
            return False
        return bool(self._idle) or len(self._connections) + len(self._openings) < self._width

    @property
    def busy(self) -> bool:
        """Some message is on its way or waits."""
        if self._waiting or self._orphans or self._openings:
            return True
        return any(connection.state is State.BUSY for connection in self._connections)

    @property
    def unused(self) -> bool:
        """Nothing is lost when it is forgotten."""
        return not self._connections and not self.busy

    @property
    def leaving(self) -> bool:
        """Some server has not answered QUIT yet."""
        return any(connection.state is State.LEAVING for connection in self._connections)

    def take(self, delivery: Delivery) -> None:
        """Carries a message as soon as a connection is free."""
        if self._waiting.parts is not None:
            self._waiting.append(delivery)
            return self.open_more()
        if self._has_leader():
            self._room -= 1
            return self._waiting.append(delivery)
        connection = self._usable()
        if connection is not None:
            self._leader, self._room = connection, FOLLOWERS
            return connection.begin(delivery)
        self._waiting.append(delivery)
        return self.open_more()

    def _has_leader(self) -> bool:
        """A message that comes now is sooner done behind another one that just began than over an idle connection."""
        if not self._room or self._pace > QUICK or self._apart_until:
            return False
        return self._leader is not None and self._leader.announcing

    def _usable(self) -> Connection | None:
        """A connection that was idle; whoever asks has something for it."""
        while self._idle:
            connection = self._idle.pop()
            if connection.berth is not None:
                connection.berth.busy(connection)
            if connection.usable:
                return connection
        return None

    def expire(self, now: float) -> None:
        """Looks at the deadlines; called about once a second with the loop's time."""
        for connection in tuple(self._connections):
            connection.expire(now)
        self._idle = [connection for connection in self._idle if connection.usable]
        self._take_back(now - OVERDUE)
        if now >= self._apart_until:
            self._apart_until = 0.0
        if self.outlet.places.wanted and not self._waiting:
            self.rest()
        self.open_more()

    def _take_back(self, since: float) -> None:
        """Whom a connection keeps waiting for another's reply is sent over one that is idle, if there is any."""
        overdue: list[Delivery] = []
        for connection in self._connections:
            if len(overdue) == len(self._idle):
                break
            delivery = connection.take_back(since)
            if delivery is not None:
                overdue.append(delivery)
        self._waiting.put_back(overdue)

    def replace(self, outlet: Outlet) -> None:
        """The configuration changed: each further message goes by it; what is on its way ends as it began."""
        self.outlet = outlet
        for connection in self._connections:
            connection.retire()
        self.rest()
        self.measure()

    def rest(self) -> None:
        """Closes what is idle."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.quit()

    async def stop(self, why: Reply) -> None:
        """Ends everything now; who has no verdict gets this one. Nothing is taken any more."""
        self._closed, self._width = True, 0
        while self._openings:  # asyncio.wait_for may lose a cancellation (Python 3.11), so until it is heard
            for opening in self._openings:
                opening.cancel()
            await asyncio.wait(self._openings, timeout=0.1)
        for connection in tuple(self._connections):
            connection.abandon(why)
        self._refuse(why)

    # --- what a connection asks --------------------------------------------------------------------------------------

    def next(self, connection: Connection) -> Delivery | None:
        """The next message that waits, or None: then the connection is idle."""
        berth = connection.berth
        if berth is None or connection.new or not berth.wanted:
            if self._orphans and not connection.carried:
                return self._orphans.popleft()
            if self._waiting:
                found = self._waiting.next(self._busy(connection))
                if found is not None:
                    return found
        self._idle.append(connection)
        if berth is not None:
            berth.rest(connection)
        if self.outlet.places.wanted:
            asyncio.get_running_loop().call_soon(self._yield, connection)
        return None

    def following(self, connection: Connection) -> Delivery | None:
        """A message that waits and may be announced while this connection sends another one."""
        if not self._waiting.count or self._apart_until or (connection.berth is not None and connection.berth.wanted):
            return None
        return self._waiting.next(self._busy(connection))

    def took(self, seconds: float) -> None:
        """A message with a small text took so long, from MAIL to the last reply."""
        self._pace += (seconds - self._pace) / 8

    def apart(self) -> None:
        """The hop did not take well to a message that was announced behind another's text."""
        self._apart_until = asyncio.get_running_loop().time() + APART

    def _busy(self, but: Connection | None = None) -> list[int]:
        """Connections by the priorities of what they carry, and carry next; asked only where that matters."""
        busy = [0, 0, 0]
        if self._waiting.parts is not None:
            for connection in self._connections:
                for priority in {priority_of(each) for each in connection.carries if connection is not but}:
                    busy[priority] += 1
        return busy

    def _yield(self, connection: Connection) -> None:
        """Another queue of the connector waits for a place, and this connection has nothing to do."""
        if connection in self._idle and connection.usable:
            self._idle.remove(connection)
            connection.quit()

    def gone(self, connection: Connection, orphan: Delivery | None) -> None:
        """A connection ended. An orphan waits for a new one: the others that were kept may be as dead."""
        if connection.berth is not None:
            connection.berth.busy(connection)
            connection.berth.leave()
        if connection.places is not None:
            connection.places.leave()
        if orphan is not None:
            self._orphans.append(orphan)
        self.part(connection)

    def part(self, connection: Connection) -> None:
        """A connection is another queue's, or nobody's."""
        self._connections.discard(connection)
        if connection is self._leader:
            self._leader = None  # what it announces from now on is another queue's
        if connection in self._idle:
            self._idle.remove(connection)
        self.open_more()

    # --- opening -----------------------------------------------------------------------------------------------------

    def open_more(self) -> None:
        """As many connections as messages want one and there may be."""
        self._use_idle()
        while len(self._openings) < self._wanting() and self._may_open() and self.outlet.places.take(self):
            opening = asyncio.create_task(self._open())
            self._openings.add(opening)
            self._held[opening] = self.outlet.places
            self.outlet.openings += 1
            opening.add_done_callback(partial(self._ended, self.outlet))

    def _use_idle(self) -> None:
        """One that is idle may be there for a priority that had no connection left a moment ago, or for a message whose
        leader did not get on."""
        while self._idle and self._waiting.wanting(busy := self._busy()):
            connection = self._usable()
            delivery = self._waiting.next(busy) if connection is not None else None
            if connection is None or delivery is None:
                return
            connection.begin(delivery)

    def _wanting(self) -> int:
        if not self._waiting:
            return len(self._orphans)
        return self._waiting.wanting(self._busy()) + len(self._orphans)

    def _may_open(self) -> bool:
        if len(self._connections) + len(self._openings) >= self._width:
            return False
        if not self._failed:
            return True
        if self._openings:
            return False
        return not self._connections or asyncio.get_running_loop().time() >= self._widen_at

    async def _open(self) -> None:
        """One connection, to the first target that will talk."""
        outlet = self.outlet
        deadline = asyncio.get_running_loop().time() + OPENING_LIMIT
        verdict: Reply | None = None
        tried = 0
        async with aclosing(outlet.targets(self._domain)) as targets:
            async for target in targets:
                found = target if isinstance(target, Reply) else await self._reach(outlet, target, deadline)
                if found is None:
                    return self._settle()
                if isinstance(found, Connection):
                    return self._opened(found)
                verdict = _weightier(verdict, found)
                tried += isinstance(target, Target)
                if tried == TARGETS or asyncio.get_running_loop().time() > deadline:
                    break
        return self._not_opened(verdict or NO_HOSTS)

    async def _reach(self, outlet: Outlet, target: Target, deadline: float) -> Connection | Reply | None:
        """A connection to this target, kept or new; None when nobody waits for it any more."""
        berth = outlet.berth(target)
        if berth is None:
            return await self._connect(outlet, target, None)
        try:
            async with asyncio.timeout_at(deadline):
                kept = await berth.take(fresh=bool(self._orphans))
        except TimeoutError:
            return Reply(451, "4.4.5", f"all connections to {target.label} are busy")
        if not self._waiting and not self._orphans:
            berth.give_back(kept)
            return None
        if isinstance(kept, Connection):
            kept.hand_over(self, target.label)
            return kept
        try:
            found = await self._connect(outlet, target, berth)
        except BaseException:
            berth.leave()
            raise
        if isinstance(found, Reply):
            berth.leave()
        return found

    async def _connect(self, outlet: Outlet, target: Target, berth: Berth | None) -> Connection | Reply:
        clock, hosts = asyncio.get_running_loop().time, outlet.hosts
        starttls = hosts.tls(target.known, clock())
        found = await open_connection(outlet.section, target, outlet.helo, starttls)
        if isinstance(found, NotOpened):
            hosts.failed(target.known, clock(), found.tls)
            return found.reply
        hosts.succeeded(target.known)
        return Connection(found, outlet.section, self, outlet.threads, berth)

    def _opened(self, connection: Connection) -> None:
        self._settle()
        if not self._width:
            if connection.berth is not None:
                connection.berth.leave()
            return connection.close()
        self._failed = False
        opening = asyncio.current_task()
        if connection.places is None and opening in self._held:
            connection.places = self._held.pop(opening)
        self._connections.add(connection)
        delivery = self.next(connection)
        if delivery is not None:
            connection.begin(delivery)
        return None

    def _not_opened(self, reply: Reply) -> None:
        self._settle()
        self._failed = not reply.permanent
        self._widen_at = asyncio.get_running_loop().time() + WIDEN_AFTER
        self._waiting.put_back(self._orphans)
        self._orphans.clear()
        if not self._connections and not self._openings:
            self._refuse(reply)

    def _ended(self, outlet: Outlet, opening: asyncio.Task[None]) -> None:
        """An opening that died of a mistake of ours must not leave its messages waiting for ever."""
        outlet.openings -= 1
        self._openings.discard(opening)
        held = self._held.pop(opening, None)
        if held is not None:
            held.leave()
        error = None if opening.cancelled() else opening.exception()
        if error is not None:
            opening.get_loop().call_exception_handler({"message": "opening a connection failed", "exception": error})
            self._not_opened(Reply(451, "4.3.0", f"cannot open a connection: {error!r}"))

    def _settle(self) -> None:
        """This opening is over, before its task is."""
        opening = asyncio.current_task()
        if opening is not None:
            self._openings.discard(opening)

    def _refuse(self, reply: Reply) -> None:
        waiting = [*self._orphans, *self._waiting]
        self._orphans.clear()
        self._waiting.clear()
        for delivery in waiting:
            delivery.unreachable(reply)


def _weightier(one: Reply | None, other: Reply) -> Reply:
    """The one of two refusals that counts: what is temporary at one target is not final; else the later."""
    return one if one is not None and other.permanent and not one.permanent else other
