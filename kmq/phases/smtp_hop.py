"""The connections to one next hop, and the messages that wait for one of them.

Promise:  never more than `width` connections, and never one more than messages want. While the hop fails, one
          connection at a time is tried. A hop that refuses a further connection while others live is not down: the
          living ones carry what waits. Only when none is left and none can be opened, all that wait are told.
          A message whose kept connection turned out to be dead is tried once more at once, over a new one.
On crash: see phases.work.
Callers:  phases.smtp.
"""

import asyncio
from collections import deque
from concurrent.futures import Executor

from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.phases.connection import Connection, State
from kmq.phases.delivery import Delivery
from kmq.phases.hosts import Hosts
from kmq.phases.smtp_opening import Opened, open_connection

WIDEN_AFTER = 10.0  #: seconds before a hop that refused a further connection is asked for one again

NO_HOSTS = Reply(451, "4.3.5", "the connector names no host; write one into `hosts` of its section")


class SmtpHop:
    """See above."""

    def __init__(self, section: ConnectorSection, hostname: str, width: int, threads: Executor) -> None:
        self._section = section
        self._hostname = hostname
        self._width = width
        self._threads = threads
        self._hosts = Hosts(section)
        self._waiting: deque[Delivery] = deque()
        self._orphans: deque[Delivery] = deque()  # a kept connection died under them: they wait for a new one
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._openings: set[asyncio.Task[None]] = set()
        self._failed = False  # the last opening did
        self._widen_at = 0.0

    @property
    def ready(self) -> bool:
        """A message could be begun now without waiting for others, and the hop did not just fail."""
        if self._failed:
            return False
        return bool(self._idle) or len(self._connections) + len(self._openings) < self._width

    @property
    def busy(self) -> bool:
        """Some message is on its way or waits."""
        if self._waiting or self._orphans or self._openings:
            return True
        return any(connection.state is State.BUSY for connection in self._connections)

    @property
    def leaving(self) -> bool:
        """Some server has not answered QUIT yet."""
        return any(connection.state is State.LEAVING for connection in self._connections)

    def take(self, delivery: Delivery) -> None:
        """Carries a message as soon as a connection is free."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection.begin(delivery)
        self._waiting.append(delivery)
        return self._open_more()

    def expire(self, now: float) -> None:
        """Looks at the deadlines; called about once a second with the loop's time."""
        for connection in tuple(self._connections):
            connection.expire(now)
        self._idle = [connection for connection in self._idle if connection.usable]
        self._open_more()

    def replace(self, section: ConnectorSection) -> None:
        """The configuration changed: what is opened from now on is opened by it; what is busy goes on."""
        self._section = section
        self._hosts = Hosts(section)
        self.rest()

    def rest(self) -> None:
        """Closes what is idle."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.quit()

    async def stop(self, why: Reply) -> None:
        """Ends everything now; who has no verdict gets this one. Nothing is taken any more."""
        self._width = 0
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
        if self._orphans and not connection.carried:
            return self._orphans.popleft()
        if self._waiting:
            return self._waiting.popleft()
        self._idle.append(connection)
        return None

    def gone(self, connection: Connection, orphan: Delivery | None) -> None:
        """A connection ended. An orphan waits for a new one: the others that were kept may be as dead."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if orphan is not None:
            self._orphans.append(orphan)
        self._open_more()

    # --- opening -----------------------------------------------------------------------------------------------------

    def _open_more(self) -> None:
        while len(self._openings) < len(self._waiting) + len(self._orphans) and self._may_open():
            opening = asyncio.create_task(self._open())
            self._openings.add(opening)
            opening.add_done_callback(self._ended)

    def _may_open(self) -> bool:
        if len(self._connections) + len(self._openings) >= self._width:
            return False
        if not self._failed:
            return True
        if self._openings:
            return False
        return not self._connections or asyncio.get_running_loop().time() >= self._widen_at

    async def _open(self) -> None:
        clock = asyncio.get_running_loop().time
        hosts, section = self._hosts, self._section
        reply = NO_HOSTS
        for host in hosts.order(clock()):
            outcome = await open_connection(section, host, section.helo or self._hostname, hosts.tls(host, clock()))
            if isinstance(outcome, Opened):
                hosts.succeeded(host)
                return self._opened(outcome, section)
            hosts.failed(host, clock(), outcome.tls)
            reply = outcome.reply
        return self._not_opened(reply)

    def _opened(self, opened: Opened, section: ConnectorSection) -> None:
        self._settle()
        if not self._width:
            return opened.transport.abort()
        self._failed = False
        connection = Connection(opened, section, self, self._threads)
        self._connections.add(connection)
        delivery = self.next(connection)
        if delivery is not None:
            connection.begin(delivery)
        return None

    def _not_opened(self, reply: Reply) -> None:
        self._settle()
        self._failed = True
        self._widen_at = asyncio.get_running_loop().time() + WIDEN_AFTER
        self._waiting.extendleft(reversed(self._orphans))
        self._orphans.clear()
        if not self._connections and not self._openings:
            self._refuse(reply)

    def _ended(self, opening: asyncio.Task[None]) -> None:
        """An opening that died of a mistake of ours must not leave its messages waiting for ever."""
        self._openings.discard(opening)
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
