"""Can the programs be reached that look at mail: scanners and milters? And does clamd find what it has to?

Promise:  looks only: clamd is asked for its version and shown EICAR's test file, rspamd is pinged, to a milter a
          connection is opened and closed. Each within PATIENCE, all at once.
          Whoever asks may be root: what kmqd's user may is told by the modes of the socket.
Callers:  admin.check.
"""

import asyncio
import os
import stat
from collections.abc import Awaitable, Iterator
from pwd import getpwuid

from kmq.admin.modes import group_name, kmqd_s_uid, may_connect
from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.config.milter import MilterSection
from kmq.config.scanner import Peer, ScannerSection, write_peer
from kmq.phases import clamd
from kmq.phases.clamd_session import Sessions
from kmq.phases.peers import Unanswered, connect
from kmq.phases.rspamd import Call

PATIENCE = 8.0  #: seconds for one program

#: EICAR's test file, put together here so that no scanner takes this program for it.
_TEST = b"".join((rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EI", b"CAR-STANDARD-ANTIVIRUS-", b"TEST-FILE!$H+H*"))

#: What becomes of mail meanwhile, by the option `failure`.
_MEANWHILE = {"wait": (Grade.WRONG, "waits until it can"), "open": (Grade.NOTE, "is delivered without it")}

#: What to do about one that is away, by whether it listens on a socket of this machine.
_AWAY = {
    True: "is it running, and may kmqd's user write to its socket (for clamd: adduser USER clamav)?",
    False: "is it running, and does it listen on this address?",
}


def scanners(settings: Settings) -> Iterator[Verdict]:
    """All of a configuration."""
    yield from asyncio.run(_all(settings))
    user = kmqd_s_uid(settings)
    for one in settings.scanners:
        yield from _shut(user, f"scanner [{one.name}] ({one.type})", one)
    for milter in settings.milters:
        yield from _shut(user, f"milter [{milter.name}]", milter)


def _shut(user: int, name: str, one: ScannerSection | MilterSection) -> Iterator[Verdict]:
    """A socket that this user may have asked, and kmqd's may not."""
    try:
        if not isinstance(one.address, str) or may_connect(user, one.address):
            return
    except OSError:
        return  # it is away, which has been told
    grade, meanwhile = _MEANWHILE[one.failure]
    remedy = _membership(getpwuid(user).pw_name, os.stat(one.address))
    yield Verdict(grade, f"{name}: kmqd's user may not write to {one.address}, and mail {meanwhile}", remedy)


def _membership(user: str, found: os.stat_result) -> str:
    joins = f"adduser {user} {group_name(found.st_gid)}, then start kmqd anew"
    return joins if found.st_mode & stat.S_IWGRP else f"have its program let its group write there, and {joins}"


async def _all(settings: Settings) -> list[Verdict]:
    asked = [*map(_scanner, settings.scanners), *map(_milter, settings.milters)]
    return [verdict for found in await asyncio.gather(*asked) for verdict in found]


async def _scanner(one: ScannerSection) -> list[Verdict]:
    name = f"scanner [{one.name}] ({one.type} at {write_peer(one.address)})"
    if one.type == "rspamd":
        return [_reached(name, await _within(asyncio.to_thread(Call(one.address, PATIENCE).ping)), one)]
    found = [_reached(name, await _within(clamd.version(one.address)), one)]
    if found[0].grade is Grade.GOOD:
        sessions = Sessions(one.address)  # as workers ask it
        found += _finds(name, await _within(sessions.scan(_TEST)))
        sessions.close()
    return found


async def _milter(one: MilterSection) -> list[Verdict]:
    name = f"milter [{one.name}] (at {write_peer(one.address)})"
    return [_reached(name, await _within(_open(one.address)), one)]


async def _open(peer: Peer) -> str | Unanswered:
    line = await connect(asyncio.get_running_loop(), peer)
    if isinstance(line, Unanswered):
        return line
    line.close()
    return "it listens"


async def _within(answer: "Awaitable[str | clamd.Verdict | Unanswered]") -> "str | clamd.Verdict | Unanswered":
    try:
        async with asyncio.timeout(PATIENCE):
            return await answer
    except TimeoutError:
        return Unanswered(f"no answer within {PATIENCE:g} s")
    except OSError as error:
        return Unanswered(error.strerror or str(error))


def _reached(name: str, said: "str | clamd.Verdict | Unanswered", one: ScannerSection | MilterSection) -> Verdict:
    if isinstance(said, Unanswered):
        grade, meanwhile = _MEANWHILE[one.failure]
        remedy = _AWAY[isinstance(one.address, str)]
        return Verdict(grade, f"{name} cannot be asked, and mail {meanwhile}: {said.why}", remedy)
    return Verdict(Grade.GOOD, f"{name}: {said}")


def _finds(name: str, said: "str | clamd.Verdict | Unanswered") -> Iterator[Verdict]:
    if isinstance(said, clamd.Verdict) and said.result is clamd.Result.INFECTED:
        return
    text = f"{name} does not find EICAR's test file: {said.why if isinstance(said, Unanswered) else said}"
    yield Verdict(Grade.WRONG, text, "has it signatures? see freshclam, and DatabaseDirectory in clamd.conf")
