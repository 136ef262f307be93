"""What was routed by an earlier configuration, and has nowhere to go by this one: back to the categorizer.

Promise:  what waits for a next hop that is no more, or for any connector at all, is routed anew when a configuration
          counts, and when a start has read the queue; so is what comes back there by and by out of the hands of
          workers, and what was routed by an earlier configuration just before.
On crash: nothing is kept: the next start looks at all of it.
Callers:  run.queue.
"""

import time

from kmq import log
from kmq.config import Settings
from kmq.model import hop as hops
from kmq.routing.standing import stands
from kmq.run.results import Result
from kmq.run.scheduler import Scheduler
from kmq.run.storage import Storage


class Rerouting:
    """outdated: messages whose routing by an earlier configuration is being recorded."""

    def __init__(self, core: Scheduler, storage: Storage) -> None:
        self.outdated: set[int] = set()
        self._core = core
        self._storage = storage
        self._fallen: list[str] = []  #: next hops that the configuration has no more

    def configure(self, settings: Settings) -> int:
        """A configuration counts, from here on or for all that was read; how many shares are routed anew."""
        queues = self._core.queues(time.monotonic())
        self._fallen = [one.hop for one in queues if not stands(hops.parse(one.hop), settings)]
        # Said by the old one, and in their queues only when durable: to route them anew now would come too early.
        self.outdated |= {one.id for one in self._storage.tickets() if isinstance(one, Result)}
        return self.again()

    def recorded(self, results: list[Result]) -> int:
        """These are durable; how many shares are routed anew."""
        if not self.outdated:
            return 0
        self.outdated.difference_update(result.id for result in results)
        return self.again()

    def again(self) -> int:
        """What waits for a next hop that no configuration has any more, or never had."""
        again = self._core.verbs.reroute(time.monotonic()) + self.look()
        if again:
            log.event("rerouted", shares=again)
        return again

    def look(self) -> int:
        """What has come back meanwhile to a next hop that is no more."""
        now = time.monotonic()
        return sum(self._core.verbs.reroute(now, hop) for hop in self._fallen)
