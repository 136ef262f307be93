"""One clamd, as the messages of this worker see it: its connections, and what it said of the same bytes before.

Promise:  an answer is that of clamd about these bytes, at most `remember` old, and by the signatures that it has, of
          which it is asked again every few seconds while mail comes.
On crash: nothing is kept.
Callers:  phases.antivirus.
"""

import asyncio
from concurrent.futures import Executor
from time import monotonic

from kmq.config.scanner import ScannerSection, write_peer
from kmq.phases import clamd
from kmq.phases.clamd import Result, Verdict
from kmq.phases.clamd_session import Sessions
from kmq.phases.desk import Desk
from kmq.phases.inspection import Pieces
from kmq.phases.peers import Unanswered
from kmq.phases.scanned import beside
from kmq.phases.verdicts import Verdicts, key_of, key_of_whole

#: Seconds after which clamd is asked again which signatures it has.
_VERSION = 5.0
_NEVER = float("-inf")

TOO_LARGE = "larger than size_limit"


class Scanner:
    """section: of the configuration. places: messages of this worker that clamd may have in hand at once."""

    def __init__(self, section: ScannerSection, places: int, threads: Executor) -> None:
        self.section = section
        self.name = f"{section.name} (clamd at {write_peer(section.address)})"
        self._desk = Desk(places, section.time_limit, monotonic)
        self._verdicts = Verdicts(section.remember)
        self._threads = threads
        self._sessions = Sessions(section.address)
        self._asked = _NEVER

    async def look(self, text: bytes | Pieces, size: int) -> Verdict | Unanswered:
        """What it says of a text of that size. BodyDamaged; OSError when the text cannot be read."""
        if size > self.section.size_limit:
            return Verdict(Result.UNSCANNABLE, TOO_LARGE)
        if self.section.remember <= 0:
            return await self._scan(text)
        await self._learn_version()
        version = self._verdicts.version
        key = await self._key(text)
        known = self._verdicts.of(key, monotonic())
        if known is not None:
            return known
        verdict = await self._scan(text)
        if isinstance(verdict, Verdict):
            self._verdicts.keep(key, verdict, version, monotonic())
        return verdict

    def close(self) -> None:
        """The process ends."""
        self._sessions.close()

    async def _key(self, text: bytes | Pieces) -> bytes:
        if isinstance(text, bytes):
            return key_of_whole(text)
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: key_of(text()))

    async def _scan(self, text: bytes | Pieces) -> Verdict | Unanswered:
        if isinstance(text, bytes):
            return await self._desk.ask(lambda: self._sessions.scan(text))
        return await self._desk.ask(lambda: clamd.scan(self.section.address, beside(text, self._threads)))

    async def _learn_version(self) -> None:
        """Other signatures make old verdicts void. What cannot be learnt, the scan will say."""
        now = monotonic()
        if now < self._asked + _VERSION:
            return
        self._asked = now  # others go on by what is known meanwhile
        version = await self._desk.ask(lambda: clamd.version(self.section.address))
        if isinstance(version, str):
            self._verdicts.signed(version)
        else:
            self._asked = _NEVER
            self._verdicts.signed("")
