"""The connections of one process to one server, whatever domain their mail is for.

Domains share servers: a provider's few hosts are the MX of thousands of them. So an idle connection is handed to
whichever queue wants one to this address, and all queues together have no more of them than one queue may.
Promise:  never more than `limit` connections to a server; who waits for one gets it in the order of asking, and a queue
          that keeps one busy hands it over between two messages.
On crash: nothing is kept.
Callers:  phases.outlet, phases.smtp_hop.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

#: A server: its address and port, and its name where certificates tell servers apart.
Server = tuple[tuple[str, int], str]


class Idle(Protocol):
    """A connection, as far as it matters here."""

    @property
    def usable(self) -> bool: ...

    def quit(self) -> None: ...


class Berth:
    """One server. open: connections and openings; limit: as many as there may be."""

    __slots__ = ("_idle", "_waiting", "limit", "open")

    def __init__(self, limit: int) -> None:
        self.open = 0
        self.limit = limit
        self._idle: list[Idle] = []
        self._waiting: deque[asyncio.Future[Idle | None]] = deque()

    @property
    def unused(self) -> bool:
        return not self.open and not self.wanted

    @property
    def wanted(self) -> bool:
        """Somebody waits for a connection."""
        return any(not one.done() for one in self._waiting)

    async def take(self, fresh: bool = False) -> Idle | None:
        """A usable connection, or None: then one may be opened, and `leave` is told when it is gone, or failed.

        fresh: no kept one will do; one that is idle goes for it when there is no room.
        """
        while True:
            kept = self._kept(fresh)
            if kept is not None:
                return kept
            if self.open < self.limit:
                self.open += 1
                return None
            given = await self._turn()
            if given is None or (given.usable and not fresh):
                return given
            if given.usable:
                given.quit()

    def _kept(self, fresh: bool) -> Idle | None:
        while self._idle and not (fresh and self.open < self.limit):
            connection = self._idle.pop()
            if connection.usable and not fresh:
                return connection
            if connection.usable:
                connection.quit()
                return None
        return None

    async def _turn(self) -> Idle | None:
        turn: asyncio.Future[Idle | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(turn.result())
            raise

    def leave(self) -> None:
        """A connection is gone, or was not opened."""
        if not self._give(None):
            self.open -= 1

    def rest(self, connection: Idle) -> None:
        """A connection has nothing to do."""
        if not self._give(connection):
            self._idle.append(connection)

    def busy(self, connection: Idle) -> None:
        """It has again."""
        if connection in self._idle:
            self._idle.remove(connection)

    def give_back(self, what: Idle | None) -> None:
        """What `take` gave is not needed."""
        if what is None:
            self.leave()
        else:
            self.rest(what)

    def _give(self, what: Idle | None) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(what)
                return True
        return False


class Berths:
    """All servers that connections are open to."""

    def __init__(self, limit_of: Callable[[Server], int]) -> None:
        """limit_of: how many connections to a server there may be."""
        self._limit_of = limit_of
        self._known: dict[Server, Berth] = {}

    def at(self, server: Server) -> Berth:
        """The place of a server; only what is used is kept."""
        found = self._known.get(server)
        if found is None:
            found = self._known[server] = Berth(self._limit_of(server))
        return found

    def measure(self) -> None:
        """The limits are others now; what is more ends by itself."""
        for server, berth in self._known.items():
            berth.limit = self._limit_of(server)

    def tidy(self) -> None:
        """Forgets servers without connections; called now and then."""
        for server in [server for server, berth in self._known.items() if berth.unused]:
            del self._known[server]
