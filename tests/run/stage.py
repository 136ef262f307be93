"""A stage for the scheduler process: real processes, real sockets, a real spool; the test is the supervisor.

What:     the test begins and kills the scheduler process (and real workers, when a story wants them) as the supervisor
          would, and says what a supervisor says. `Actor` is a worker played by the test, with a process of its own to
          be dead or alive; `Receiver` brings mail; `Hop` is a smart host that answers when the test wants.
Promise:  nobody waits for time to pass: `until` waits for what must come, and what must not come is looked for behind
          something that must have come later.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from kmq.admin import client
from kmq.admin.client import Response
from kmq.admin.verbs import Argument
from kmq.config import load
from kmq.model import moment
from kmq.model.envelope import Head, Recipient, head_tail
from kmq.model.event import Deferred, Delivered, Event, Routed
from kmq.model.frame import (
    AnyFrame,
    Ask,
    Assign,
    Child,
    Done,
    Frame,
    Hello,
    Holding,
    Known,
    Living,
    Put,
    Reaped,
    Refused,
    Stored,
)
from kmq.run import listeners
from kmq.run.inheritance import Estate
from kmq.run.link import Link
from kmq.spool import layout
from kmq.spool.disk import Disk
from tests.waiting import free_port

ROOT = Path(__file__).resolve().parents[2]
WITHIN = Path(__file__).with_name("within")
DEADLINE = 15.0

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = {spool}
workers = {workers}

[queue]
retry_interval = {retry}
retry_interval_max = 1h
retry_jitter = 0
effects_delay = 1ms
per_hop = {per_hop}
minimum_free = 0
minimum_free_inodes = 0

[in : receiver]
listen = 127.0.0.1:{port}

[far : connector]
type = smarthost
address_spaces = *
hosts = 127.0.0.1:{hop}
tls = never

[near : connector]
type = smarthost
address_spaces = near.test
hosts = 127.0.0.1:{hop}
tls = never
"""

FAR = "SmartHostConnectorDelivery;127.0.0.1:9;far"  #: of the configuration, where no story says another port
F = TypeVar("F", bound=Frame)


class Broken(AssertionError):
    """A rule was broken."""


def holds(true: object, sentence: str) -> None:
    """What a rule says."""
    if not true:
        raise Broken(sentence)


async def until(true: Callable[[], object], what: str) -> None:
    """Returns as soon as `true()` is."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.002)


class Peer:
    """One connection to the scheduler process, and all that came over it."""

    def __init__(self, path: Path) -> None:
        self.frames: list[AnyFrame] = []
        self.ended = asyncio.Event()
        self._path = path
        self.link = Link(lambda link, frame, raw: self.frames.append(frame), lambda link: self.ended.set())

    async def connect(self) -> None:
        await self.link.connect(self._path)

    def heard(self, kind: type[F]) -> list[F]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    def say(self, frame: Frame, raw: bytes = b"") -> None:
        self.link.send(frame, raw)


class Actor:
    """A worker played by the test. pid: of a real process, which sleeps until it is killed."""

    def __init__(self, stage: "Stage", number: int) -> None:
        self.number = number
        self.body = subprocess.Popen(["sleep", "600"])
        self.pid = self.body.pid
        self._stage = stage

    async def come(self, *held: Assign) -> None:
        """Says hello over a new connection, and what it holds."""
        self.peer = Peer(self._stage.socket)
        await self.peer.connect()
        self.peer.say(Hello("worker", self.number, self.pid, time.time()))
        self.peer.say(Holding([(one.n, one.m, one.hop, one.rcpt, one.attempt) for one in held]))

    def given(self, mail: str) -> list[Assign]:
        """Assignments of this message, over this connection."""
        return [one for one in self.peer.heard(Assign) if one.m == mail]

    async def gets(self, mail: str) -> Assign:
        await until(lambda: self.given(mail), f"worker {self.number} gets {mail}")
        return self.given(mail)[-1]

    def says(self, assign: Assign, *events: Event, letter: tuple[bytes, bytes] | None = None) -> Callable[[], None]:
        """A result; letter: head and body of a message that a phase made. -> what says the same once more."""
        at = moment.as_text(time.time())
        for event in events:
            event.at = at
        encoded = [msgspec.Raw(msgspec.json.encode(event)) for event in events]
        done = Done(assign.n, assign.m, assign.hop, assign.rcpt, assign.attempt, encoded)
        tail, body = letter or (b"", b"")
        if letter is not None:
            done.children = [Child(1, len(tail), len(body), kind="letter")]

        def say() -> None:
            self.peer.say(done, tail + body)

        say()
        return say

    def delivers(self, assign: Assign) -> None:
        routed = Routed(rcpt=assign.rcpt, hop=FAR, rule="far")
        self.says(assign, routed, Delivered(rcpt=assign.rcpt, attempt=assign.attempt, reply="250 Ok", host="far"))

    def defers(self, assign: Assign) -> None:
        routed = Routed(rcpt=assign.rcpt, hop=FAR, rule="far")
        self.says(assign, routed, Deferred(rcpt=assign.rcpt, attempt=assign.attempt, reply="450 no", host="far"))

    def known(self, n: int) -> bool:
        return any(n in one.numbers for one in self.peer.heard(Known))

    def hang_up(self) -> None:
        """Its socket ends; it lives."""
        self.peer.link.close()

    def die(self, hang_up: bool = True) -> None:
        """As when it is killed: its socket ends and it is reaped. Nobody is told."""
        if hang_up:
            self.peer.link.close()
        self.body.kill()
        self.body.wait()

    @property
    def death(self) -> Reaped:
        return Reaped("worker", self.number, self.pid, itself=False, cause="killed by the test")


class Receiver:
    """Brings mail."""

    def __init__(self, stage: "Stage") -> None:
        self._stage = stage
        self._count = 0

    async def come(self) -> None:
        self.peer = Peer(self._stage.socket)
        await self.peer.connect()
        self.peer.say(Hello("receiver", 1, os.getpid(), time.time()))

    def put(self, *to: str, text: str = "hello") -> str:
        """Sends a message on its way; its token."""
        body = b"Received: from here\r\nSubject: %b\r\n\r\n%b\r\n" % (text.encode(), text.encode())
        at = moment.as_text(time.time())
        head = Head("", "", at, "sender@example.org", [Recipient(one) for one in to], len(body), longest=70)
        tail = head_tail(head)
        self._count += 1
        token = f"{os.getpid():016x}{self._count:016x}"
        self.peer.say(Put(token, len(tail), len(to)), tail + body)
        return token

    def stored(self, token: str) -> str:
        """The ID, once it is durable."""
        return next((name for one in self.peer.heard(Stored) for of, name in one.puts if of == token), "")

    async def mail(self, *to: str, text: str = "hello") -> str:
        """A message that is durable; its ID."""
        token = self.put(*(to or ("bob@far.test",)), text=text)
        await until(lambda: self.stored(token), "a put is durable")
        return self.stored(token)

    async def asks(self, token: str) -> str:
        """After a new scheduler process came: the ID, or "" when it is refused."""
        self.peer.say(Ask([token]))
        refused = lambda: any(one.token == token for one in self.peer.heard(Refused))  # noqa: E731
        await until(lambda: self.stored(token) or refused(), "an answer about a token")
        return self.stored(token)


class Hop:
    """A smart host. It takes every message, and answers the final dot when `answering` is set."""

    def __init__(self) -> None:
        self.copies: Counter[str] = Counter()  #: by subject
        self.answering = asyncio.Event()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hop\r\n")
        try:
            while line := await reader.readline():
                match line[:4].upper():
                    case b"DATA":
                        writer.write(b"354 go on\r\n")
                        text = await reader.readuntil(b"\r\n.\r\n")
                        self.copies[text.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()] += 1
                        await self.answering.wait()
                    case b"QUIT":
                        break
                writer.write(b"250 ok\r\n")
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


class Stage:
    """One spool, and whoever plays on it."""

    def __init__(self, folder: Path, mutant: str = "", retry: str = "1h", hop: int = 9, per_hop: int = 1) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        self.spool.mkdir(0o750)
        self.gate = folder / "gate"
        self.mutant = mutant
        path = folder / "kmq.conf"
        text = CONFIGURATION.format(
            spool=self.spool, workers=2, retry=retry, port=free_port(), hop=hop, per_hop=per_hop
        )
        path.write_text(text)
        self.settings = load(str(path))
        disk = Disk(self.spool)
        layout.prepare(disk)
        disk.close()
        self.run_directory = self.settings.kmq.run_directory
        self.socket = self.run_directory / "queue.sock"
        self.sockets = {
            listeners.QUEUE: _listening(self.socket),
            listeners.CONTROL: _listening(self.run_directory / "control.sock"),
        }
        self.receiver = Receiver(self)
        self.supervisor: Peer | None = None
        self._estate = Estate(self.settings, self.sockets)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._actors: list[Actor] = []

    async def __aenter__(self) -> "Stage":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gate.unlink(missing_ok=True)
        for process in [*self._processes, *(one.body for one in self._actors)]:
            process.kill()
            process.wait()
        for one in self.sockets.values():
            one.close()

    # --- processes ---------------------------------------------------------------------------------------------------

    def begin(self, role: str, number: int = 1) -> "subprocess.Popen[bytes]":
        """A real process of kmqd, with its mutation."""
        environment, descriptors = self._estate.share(role)
        more = {"PYTHONPATH": f"{WITHIN}:{ROOT}", "KMQ_GATE": str(self.gate)}
        if self.mutant:
            more["KMQ_MUTANT"] = self.mutant
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.run.alone", "--role", role, "--number", str(number)],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **environment, **more},
                pass_fds=descriptors,
            )
        self._processes.append(process)
        return process

    async def first_worker(self) -> Actor:
        """How most stories begin: a scheduler process, and a worker that has come to it."""
        await self.scheduler()
        worker = self.actor(1)
        await worker.come()
        return worker

    async def begun(self) -> tuple[Actor, str, Assign]:
        """And a message that it has in hand: the worker, the message's ID, its assignment."""
        worker = await self.first_worker()
        mail = await self.receiver.mail()
        return worker, mail, await worker.gets(mail)

    async def scheduler(self, *living: Actor, worker: int = 0) -> None:
        """A (new) scheduler process, told who lives; worker: pid of a real worker 1. The receiver comes (again)."""
        self.process = self.begin("scheduler")
        self.supervisor = Peer(self.socket)
        await self.supervisor.connect()
        self.supervisor.say(Hello("supervisor", 1, os.getpid(), time.time()))
        alive = [("worker", one.number, one.pid) for one in living]
        self.supervisor.say(Living(alive + ([("worker", 1, worker)] if worker else [])))
        await self.receiver.come()

    def actor(self, number: int) -> Actor:
        one = Actor(self, number)
        self._actors.append(one)
        return one

    async def crew(self) -> tuple[Actor, Actor]:
        """Two workers that have nothing."""
        one, two = self.actor(1), self.actor(2)
        await one.come()
        await two.come()
        return one, two

    async def kill_scheduler(self) -> None:
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    def stop(self) -> None:
        """Nothing is read or decided until `go`; what is said meanwhile lies in the sockets."""
        self.process.send_signal(signal.SIGSTOP)

    def go(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def reap(self, actor: Actor) -> None:
        assert self.supervisor is not None
        self.supervisor.say(actor.death)

    # --- looks -------------------------------------------------------------------------------------------------------

    async def holder(self, mail: str, actors: Sequence[Actor]) -> Actor:
        """Who has the message."""
        await until(lambda: any(one.given(mail) for one in actors), f"somebody gets {mail}")
        return next(one for one in actors if one.given(mail))

    async def rounds(self, actor: Actor) -> None:
        """Two messages come and go by way of this worker: what was said before is heard by now, and acted upon."""
        for _ in range(2):
            assign = await actor.gets(await self.receiver.mail())
            actor.delivers(assign)
            await until(lambda n=assign.n: actor.known(n), "a result is known")

    async def operator(self, verb: str, *mail: str, **more: str | bool) -> Response:
        arguments: dict[str, Argument] = {**({"ids": list(mail)} if mail else {}), **more}
        return await asyncio.to_thread(client.ask, self.run_directory, verb, arguments)

    async def all_loaded(self) -> None:
        """Returns when the scheduler process knows all that is on disk."""
        log, line = self.folder / "log", f"scheduler-1[{self.process.pid}]: loaded"
        await until(lambda: line in log.read_text("utf-8", "replace"), "the queue is loaded")

    async def nothing_queued(self) -> None:
        """Returns when the queue is empty."""
        deadline = time.monotonic() + DEADLINE
        while await self._messages():
            assert time.monotonic() < deadline, "mail stays in the queue"
            await asyncio.sleep(0.01)

    async def _messages(self) -> int:
        queues = await asyncio.to_thread(client.ask, self.run_directory, "queues")
        return sum(int(str(line["MessageCount"])) for line in queues.lines)

    def envelope(self, mail: str) -> str:
        """The lines of a message's envelope; "" when there is none (any more)."""
        for place in (f"*/{mail}.env", f"queue/*/{mail}.env"):
            for path in self.spool.glob(place):
                with suppress(FileNotFoundError):  # it may go while we look
                    return path.read_text()
        return ""


def _listening(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(path))
    one.listen(64)
    one.setblocking(False)
    return one
