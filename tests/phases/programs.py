"""What the tests of agents and gateways share: programs, messages, and a run of Ways in a spool of its own."""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from kmq.config.sections import ConnectorSection
from kmq.model.hop import DeliveryType, NextHop
from kmq.phases.allotment import Allotment
from kmq.phases.rewriting import NOTHING, Rewriting
from kmq.phases.ways import Ways
from kmq.phases.work import Outcome, Work
from tests.phases.sending import LOOPS
from tests.phases.sending import work as smtp_work

#: Seconds that no test needs, however busy the machine is.
LONG = 60.0

AGENT = NextHop(DeliveryType.DELIVERY_AGENT, "fax", "fax")
GATE = NextHop(DeliveryType.NON_SMTP, "x400", "x400")

#: The beginning of each program: `tell` says a sentence, `messages` gives those that come.
BEGINNING = """\
#!/usr/bin/python3
import json, os, signal, sys, time

def tell(**said):
    print(json.dumps(said), flush=True)

def messages():
    for line in sys.stdin:
        said = json.loads(line)
        if said["type"] == "message":
            yield said

def note(*words):
    with open(os.path.join(os.path.dirname(sys.argv[0]), "notes"), "a") as file:
        print(*words, file=file, flush=True)

note("born", os.getpid())
"""
HELLO = 'tell(type="hello", version=1)\n'
#: An agent without a fault.
GOOD = HELLO + 'for said in messages():\n    tell(n=said["n"], reply="250 2.0.0 faxed")\n'


def program(folder: Path, text: str, name: str = "agent") -> Path:
    """A program in a folder; what it notes stands in `notes` there."""
    path = folder / name
    path.write_text(BEGINNING + text)
    path.chmod(0o755)
    return path


def notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def born(folder: Path) -> list[int]:
    """The programs that were begun, by their numbers."""
    return [int(note.split()[1]) for note in notes(folder) if note.startswith("born")]


def lives(pid: int) -> bool:
    """Whether a process is there that does more than wait for its parent."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def agent(folder: Path, text: str = GOOD, **more: Any) -> ConnectorSection:
    """A connector with a program of this text."""
    options = {"answer_timeout": LONG} | more
    return ConnectorSection(
        name="fax", type="agent", helo="", address_spaces=("fax",), command=(str(program(folder, text)),), **options
    )


def foreign(**more: Any) -> ConnectorSection:
    return ConnectorSection(name="x400", type="foreign", helo="", address_spaces=("x400",), **more)


def work(*to: str, hop: NextHop = AGENT, number: int = 1, **more: Any) -> Work:
    """A message for these recipients."""
    made = smtp_work(*(to or ("49@fax",)), **more)
    renamed = msgspec.structs.replace(made.head, id=f"69212ad0-{number:08x}")
    return Work(renamed, made.body, made.rcpt, hop, made.attempt, made.edits)


class World:
    """Ways in a spool."""

    def __init__(
        self,
        spool: Path,
        *sections: ConnectorSection,
        allotment: Allotment | None = None,
        rewriting: Rewriting = NOTHING,
    ) -> None:
        for name in ("agents", "drop"):
            with suppress(FileExistsError):
                (spool / name).mkdir()
        self.spool = spool
        self.allotment = allotment or Allotment(20)
        self.ways = Ways({one.name: one for one in sections}, str(spool), self.allotment, rewriting)
        self.shown: list[tuple[str, int]] = []

    def configure(self, *sections: ConnectorSection) -> None:
        self.ways.configure({one.name: one for one in sections}, self.allotment)

    def send(self, one: Work) -> "asyncio.Future[Outcome]":
        """Hands a message over; the future fails when it is reported twice."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.ways.deliver(one, future.set_result, lambda server, percent: self.shown.append((server, percent)))
        return future

    async def outcome(self, one: Work) -> Outcome:
        async with asyncio.timeout(LONG):
            return await self.send(one)

    @property
    def files(self) -> list[str]:
        """What lies in agents/."""
        return sorted(os.listdir(self.spool / "agents"))


#: What happens in a world.
Story = Callable[[World], Awaitable[None]]


def play(spool: Path, story: Story, *sections: ConnectorSection, loop: str = "uvloop", **more: Any) -> None:
    """Plays a story; afterwards all is ended, nothing is left over, and no mistake came to the loop."""

    async def whole() -> None:
        trouble: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))
        world = World(spool, *sections, **more)
        try:
            async with asyncio.timeout(2 * LONG):
                await story(world)
        finally:
            await world.ways.close(2.0)
        assert world.files == []
        assert not trouble, trouble

    LOOPS[loop](whole())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def only(found: Iterator[Path]) -> Path:
    """The only file."""
    (path,) = found
    return path
