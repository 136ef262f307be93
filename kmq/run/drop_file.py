"""What becomes of one dropped file: a message, a bad file with its reason, or a file that waits again.

Promise:  every way ends in one `Fate`, told in the log where it is final; nothing raises but the end of the process. An
          error of our own program on a file makes it bad, so that it is not tried for ever.
On crash: see spool.drop.
Callers:  run.drop_taking.
"""

import asyncio
import pwd
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, TypeVar

from kmq import log
from kmq.intake.door import ANOTHER_FILE, Door
from kmq.intake.dropped import BadFile, NotYet, Reader
from kmq.intake.identity import identify
from kmq.intake.priority import NOT_ASKED
from kmq.log import mail
from kmq.run.drop_carrying import Carried, Carrying, File, Limits
from kmq.spool.disk import Disk
from kmq.spool.drop import Claim, DropFolder, Look, Unfit

T = TypeVar("T")


class End(Enum):
    """How a file ended, for now."""

    STORED = auto()  #: its message is durable; the scheduler process unlinks it
    BAD = auto()  #: set aside
    WAITS = auto()  #: under its old name again
    UNFIT = auto()  #: left alone
    GONE = auto()  #: somebody else took it away, or will: nothing is to be done


class Fate(NamedTuple):
    """What became of a file. name: as it is called now; look: of a file that is to go; why: of one that was left."""

    end: End
    name: str
    look: Look | None = None
    why: str = ""


@dataclass(slots=True)
class Ground:
    """What all directories share. ready: whether messages can be handed over now; urgent_size: as intake.priority has
    it, by the configuration that counts."""

    spool: Disk
    door: Door
    threads: ThreadPoolExecutor
    ready: Callable[[], bool]
    small_body: int
    urgent_size: Callable[[], int] = lambda: NOT_ASKED

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)


@dataclass(slots=True)
class Way:
    """How the files of one directory are read. name: pickup or replay."""

    name: str
    reader: Reader
    size_limit: int
    line_limit: int


class Taker:
    """Takes files of one directory, one in each call."""

    def __init__(self, ground: Ground, folder: DropFolder, way: Way) -> None:
        self._ground = ground
        self._folder = folder
        self._way = way

    async def take(self, name: str) -> Fate:
        """From its name to its fate."""
        try:
            look = await self._ground.in_thread(lambda: self._folder.look(name))
            if isinstance(look, Look) and look.size > self._way.size_limit:
                return await self._bad(name, None, f"{look.size} bytes are more than {self._way.size_limit}")
            claim = await self._ground.in_thread(lambda: self._folder.claim(name))
        except OSError as error:
            return Fate(End.UNFIT, name, why=f"it cannot be taken: {error.strerror}")
        if claim is None:
            return Fate(End.GONE, name)
        if isinstance(claim, Unfit):
            return Fate(End.UNFIT, name, why="" if claim.passing else claim.why)
        try:
            return await self._carry(claim)
        finally:
            self._folder.release(claim)

    async def _carry(self, claim: Claim) -> Fate:
        ground = self._ground
        limits = Limits(self._way.size_limit, self._way.line_limit, ground.small_body, ground.urgent_size())
        carrying = Carrying(self._ground.door, self._way.reader, limits, self._ground.threads)
        dropped = self._folder.dropped(claim)
        file = File(
            self._folder.pieces(claim),
            lambda: self._folder.same(claim),
            (dropped.name, dropped.inode, dropped.mtime_ns),
            user_of(claim.user),
        )
        try:
            carried = await carrying.carry(file)
        except BadFile as bad:
            return await self._bad(claim.old or claim.name, claim, str(bad))
        except NotYet as wait:
            return await self._give_back(claim, str(wait))
        except OSError as error:
            return await self._give_back(claim, f"it cannot be read: {error.strerror}")
        except Exception as error:
            log.error("our program failed on a dropped file", file=claim.name, trace=log.traced(error))
            why = f"kmq failed on this file: {type(error).__name__}"
            return await self._bad(claim.old or claim.name, claim, why)
        if carried.refused is None:
            self._tell(carried, claim, file.user)
            return Fate(End.STORED, claim.name, claim.look)
        if carried.refused == ANOTHER_FILE and await self._ground.in_thread(lambda: self._folder.same(claim)):
            return Fate(End.STORED, claim.name, claim.look)  # it is a message already, and about to go (J12)
        if carried.refused.permanent:
            return await self._bad(claim.old or claim.name, claim, carried.refused.text)
        return await self._give_back(claim, "")

    async def _give_back(self, claim: Claim, why: str) -> Fate:
        name = await self._ground.in_thread(lambda: self._folder.give_back(claim))
        return Fate(End.WAITS if name else End.GONE, name, why=why)

    async def _bad(self, old: str, claim: Claim | None, why: str) -> Fate:
        """The reason goes beside the file and into the log. old: its name before; claim: if it was claimed."""
        try:
            bad = await self._ground.in_thread(lambda: self._folder.set_aside(claim.name if claim else old, why))
        except OSError as error:
            why = f"{why}; and it cannot be set aside: {error.strerror}"
            return await self._give_back(claim, why) if claim else Fate(End.UNFIT, old, why=why)
        if not bad:
            return Fate(End.GONE, old)
        user = user_of(claim.user) if claim else None
        mail.tell("bad-file", proto=self._way.name, user=user, file=old, reason=why)
        return Fate(End.BAD, bad)

    def _tell(self, carried: Carried, claim: Claim, user: str) -> None:
        letter = carried.letter
        to = letter.recipients[0].address if len(letter.recipients) == 1 else None
        header = b"\r\n%b" % letter.header
        message_id, subject = identify(header, header.lower())
        mail.tell(
            "accepted",
            carried.id,
            keys={"from": letter.sender.address},
            besides=mail.Besides([one.address for one in letter.recipients], subject),
            msgid=message_id or None,
            to=to,
            proto=self._way.name,
            user=user,
            size=carried.size,
            nrcpt=len(letter.recipients),
            file=claim.old or claim.name,
        )


def user_of(uid: int) -> str:
    """The name of a user of this machine, or his number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
