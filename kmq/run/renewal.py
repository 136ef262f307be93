"""The configuration that counts, and how the next one takes its place.

Does:     reads it, looks at it, opens its listeners, offers it to all processes, and then it counts; or everything
          stays as it is, and it is said why.
Promise:  nothing is half new: a mistake in the file (with its line), a certificate that cannot be used, an address that
          cannot be bound, a process that is not ready, each keeps the old configuration for all. New listeners are open
          before old ones are closed, and an address that both have is never closed.
On crash: of the supervisor: the next kmqd reads the file.
Callers:  the supervisor; one after the other.
"""

import os
import socket
from collections.abc import Callable, Iterable, Sequence

from kmq import log
from kmq.config import Settings, changes, load, restart_needed
from kmq.errors import KmqError
from kmq.model.frame import Reloaded
from kmq.run import listeners
from kmq.run.activation import Given
from kmq.run.changeover import Changeover, Refusal
from kmq.run.children import TEMPORARY, WRONG, Child
from kmq.run.inheritance import Estate
from kmq.run.reloading import accepted

#: Characters of a text, and options by name, that an operator is told about a new configuration.
_LONGEST, _NAMED = 20_000, 100


class Renewal:
    """estate: what children are given now. changeover: the one under way. given: what systemd bound for us.

    children: those of now, whoever they are by then; fit: makes them as many as the configuration says.
    """

    def __init__(
        self, estate: Estate, given: Sequence[Given], children: Callable[[], Iterable[Child]], fit: Callable[[], None]
    ) -> None:
        self.estate = estate
        self.changeover: Changeover | None = None
        self._given = given
        self._children = children
        self._fit = fit

    @property
    def settings(self) -> Settings:
        """Those that count."""
        return self.estate.settings

    async def renew(self, token: int) -> Reloaded:
        """Reads the file again; -> what became of it, in answer to the question of this token."""
        old = self.estate
        opened: set[socket.socket] = set()
        heir: Estate | None = None
        try:
            new = load(self.settings.path)
            now = accepted(self.settings, new)
            sockets = listeners.bind(now, self._given, old.sockets.values())
            opened = set(sockets.values()) - set(old.sockets.values())
            heir = Estate(now, sockets, old)
            refusal = await self._change(heir)
        except KmqError as error:
            refusal = Refusal(str(error), error.exit_status)
        except OSError as error:  # no descriptor or memory is left for it
            refusal = Refusal(f"no room for it: {error.strerror}", TEMPORARY)
        except Exception as error:  # whoever asked waits for an answer
            log.error("our program failed on a configuration", trace=log.traced(error))
            refusal = Refusal(f"our program failed on it: {type(error).__name__}", os.EX_SOFTWARE)
        if refusal is not None:
            if heir is not None:
                heir.close(old)
            self._close(opened)
            return self._refused(token, refusal)
        assert heir is not None
        old.close(heir)
        self._close(set(old.sockets.values()) - set(heir.sockets.values()))
        return self._done(token, old.settings, new)

    async def _change(self, heir: Estate) -> Refusal | None:
        """Everybody takes it, or nobody."""
        self.changeover = change = Changeover(heir)
        try:
            for child in self._children():
                change.offer(child)
            refusal = await change.ready()
            if refusal is not None:
                change.cancel()
                return refusal
            try:
                log.begin("kmqd", heir.settings.kmq)
            except OSError:  # while nobody works by it yet
                change.cancel()
                raise
            self.estate = heir
            change.commit()
            self._fit()
            for name in await change.done():
                log.error("a process does not work by the new configuration yet", child=name)
        finally:
            self.changeover = None
        return None

    def _close(self, sockets: Iterable[socket.socket]) -> None:
        """But those that systemd gave: it listens there all the same, and we may need them again."""
        given = {one.socket for one in self._given}
        for one in sockets:
            if one not in given:
                one.close()

    def _refused(self, token: int, refusal: Refusal) -> Reloaded:
        why = "is wrong" if refusal.status == WRONG else "cannot be used now"
        for line in refusal.problem.splitlines():
            log.error(f"the new configuration {why}, the old one stays", why=line)
        return Reloaded(token, self.estate.number, refusal.problem[:_LONGEST], refusal.status)

    def _done(self, token: int, old: Settings, new: Settings) -> Reloaded:
        for text in new.warnings:
            log.warning(text)
        waiting = restart_needed(self.settings, new)
        if waiting:
            log.warning("these options count only when kmqd is started anew", options=", ".join(waiting))
        changed = changes(old, self.settings)[:_NAMED]
        log.event("reloaded", path=new.path, configuration=self.estate.number, changed=", ".join(changed))
        warnings = [text[:_LONGEST] for text in new.warnings[:_NAMED]]
        return Reloaded(token, self.estate.number, "", 0, changed, waiting[:_NAMED], warnings)
