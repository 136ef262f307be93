"""A child of kmqd as small as can be: says in a ledger what happens to it, and does what a test wants of it.

It reads FOLDER/<role>-<n>.<life> (else FOLDER/<role>-<n>), words of: exit:N and signal:NAME at once; deaf (hears no
TERM until FOLDER/release is there); late (is not ready until then); stuck (hears no ABRT).
It does what lies in FOLDER/<role>-<n>.now when it comes there. As the scheduler process it notes every frame, and says
to the supervisor what lies in FOLDER/say.
"""

import asyncio
import faulthandler
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from kmq.errors import ConfigError
from kmq.model.frame import AnyFrame, End
from kmq.run import family
from kmq.run.cord import Gift, Ward
from kmq.run.inheritance import Inheritance, inherit
from kmq.run.link import Link


class StandIn:
    def __init__(self, folder: Path, role: str, number: int) -> None:
        self.folder = folder
        self.name = f"{role}-{number}"
        self.role = role
        self.links: list[Link] = []
        self.leaving = False
        self.servers: list[asyncio.Server] = []

    def note(self, what: str, **more: object) -> None:
        line = json.dumps({"what": what, "name": self.name, "pid": os.getpid(), **more}) + "\n"
        with open(self.folder / "ledger", "a") as ledger:
            ledger.write(line)

    def orders(self) -> list[str]:
        life = sum(1 for line in self.ledger() if line["what"] == "born" and line["name"] == self.name)
        for path in (self.folder / f"{self.name}.{life}", self.folder / self.name):
            if path.exists():
                return path.read_text().split()
        return []

    def ledger(self) -> list[dict[str, object]]:
        path = self.folder / "ledger"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]  # the last one may be half written

    def live(self) -> int:
        given = inherit()
        self.note(
            "born",
            sockets=sorted(given.sockets),
            log_level=given.settings.kmq.log_level,
            workers=given.settings.kmq.workers,
            descriptors=len(descriptors()),
            surroundings=sorted(os.environ),
            title=Path("/proc/self/cmdline").read_text().rstrip("\0"),
            inheritable=[fd for fd in descriptors() if os.get_inheritable(fd)],
        )
        orders = self.orders()
        faulthandler.enable()
        group = family.belong(given.settings.kmq.run_directory, self.role)
        if not family.follow(given.life, given.settings.kmq.run_directory, self.role):
            self.note("orphan")
            return 0
        for order in orders:
            obey(order)
        asyncio.run(self.serve(given, "deaf" in orders, "late" in orders))
        group.close()
        return 0

    def make(self, gift: Gift) -> Callable[[], Awaitable[None]]:
        """A configuration is prepared, or not: `refuse` or `exit:N` in FOLDER/<role>-<n>.make."""
        order = self.folder / f"{self.name}.make"
        word = order.read_text() if order.exists() else ""
        self.note("make", word=word, sockets=sorted(gift.sockets), tallies=sorted(gift.tallies))
        if word == "refuse":
            raise ConfigError(f"{self.name} does not like it")
        if word.startswith("exit"):
            obey(word)

        async def count() -> None:
            await self.listen(gift.sockets)
            self.note("count", log_level=gift.settings.kmq.log_level)

        return count

    async def listen(self, sockets: dict[str, socket.socket]) -> None:
        """On these, and no others any more."""
        former, self.servers = self.servers, []
        for name in list(sockets):
            if name == "queue":
                server: asyncio.Server = await asyncio.get_running_loop().create_unix_server(
                    lambda: Link(self.frame, lambda link: None), sock=sockets.pop(name)
                )
                self.servers.append(server)
            elif name != "control":
                self.servers.append(await asyncio.start_server(self.greet, sock=sockets.pop(name)))
        if self.role != "scheduler":
            for server in former:
                server.close()

    async def serve(self, given: Inheritance, deaf: bool, late: bool) -> None:
        loop = asyncio.get_running_loop()
        for name in ("TERM", "HUP", "INT"):
            loop.add_signal_handler(signal.Signals[f"SIG{name}"], self.hears, name)
        ward = Ward(given.cord, given.number, self.make, lambda: 7 if self.role == "scheduler" else -1)
        ward.begin()
        await self.listen(given.sockets)
        while late and not (self.folder / "release").exists():
            await asyncio.sleep(0.01)
        ward.serves()
        self.note("ready")
        while not (self.leaving and not (deaf and not (self.folder / "release").exists())):
            now = self.folder / f"{self.name}.now"
            if now.exists():
                order = now.read_text()
                now.unlink()
                obey(order)
            self.say()
            await asyncio.sleep(0.01)
        self.note("left")

    def hears(self, name: str) -> None:
        self.note(name)
        self.leaving = self.leaving or name == "TERM"

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"220 {os.getpid()}\r\n".encode())
        await writer.drain()

    def frame(self, link: Link, frame: AnyFrame, raw: bytes) -> None:
        self.links.append(link)
        self.note("heard", frame=json.loads(msgspec.json.encode(frame)))

    def say(self) -> None:
        if self.role == "scheduler" and self.links and (self.folder / "say").exists():
            text = (self.folder / "say").read_bytes()
            (self.folder / "say").unlink()
            self.links[-1].send(msgspec.json.decode(text, type=End))


def obey(order: str) -> None:
    word, _, value = order.partition(":")
    if word == "exit":
        os._exit(int(value))
    if word == "signal":
        os.kill(os.getpid(), signal.Signals[value])
    if word == "stuck":
        faulthandler.disable()
        signal.signal(signal.SIGABRT, signal.SIG_IGN)


def descriptors() -> list[int]:
    """All that are open, but the three of everybody and the one that reads this list."""
    found = (int(fd) for fd in os.listdir("/proc/self/fd"))
    return [fd for fd in found if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}")]
