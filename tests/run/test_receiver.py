"""The receiver process, between clients and a scheduler process that comes and goes. The test plays all others."""

import asyncio
import hashlib
import os
import re
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from kmq.config import load
from kmq.model.envelope import read_head
from kmq.model.envelope import seal as sealed
from kmq.model.frame import (
    AnyFrame,
    Ask,
    Beat,
    Cancel,
    Commit,
    Frame,
    Hello,
    Intake,
    Prepared,
    Put,
    Refused,
    Reserve,
    Reserved,
    Stored,
)
from kmq.run import ground, listeners
from kmq.run.cord import Cord
from kmq.run.inheritance import Estate
from kmq.run.link import Link
from kmq.run.receiver import GRACE
from kmq.spool import incoming
from kmq.spool.processes import read as read_status
from tests.waiting import free_port, listening, until

F = TypeVar("F", bound=Frame)

ID = "69212ad0-0000a1f3"
DEADLINE = 30

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = {folder}/spool
local_domains = example.org
receivers = {receivers}
[queue]
small_body = 1K
[smtp : receiver]
listen = 127.0.0.1:{port}
{more}
[mailboxes : connector]
type = mailbox
maildir = {folder}/mail/{{user}}
users = alice
"""


class Client:
    """An SMTP client that says what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def hear(self) -> str:
        """One whole reply, lines joined; "" at the end of the connection."""
        lines = []
        while line := (await self.reader.readline()).decode():
            lines.append(line.rstrip())
            if line[3:4] == " ":
                break
        return "\n".join(lines)

    async def say(self, text: str) -> str:
        self.writer.write(text.encode() + b"\r\n")
        return await self.hear()

    async def begin(self) -> str:
        """Up to the body; -> the last reply."""
        await self.say("EHLO client.example")
        await self.say("MAIL FROM:<bob@example.net>")
        assert (await self.say("RCPT TO:<alice@example.org>")).startswith("250")
        return await self.say("DATA")

    async def send(self, body: bytes) -> str:
        assert (await self.begin()).startswith("354")
        self.writer.write(body + b"\r\n.\r\n")
        return await self.hear()


class Place:
    """A spool with its listeners, receiver processes, and the scheduler process that the test plays.

    heard: frames of receivers, in order. answer: what the played scheduler process says to a frame, None for nothing.
    """

    def __init__(self, folder: Path, receivers: int = 1, more: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.receivers = receivers
        self.configure(more)
        self.settings = load(str(folder / "kmq.conf"))
        (folder / "spool").mkdir()
        ground.enter(self.settings)
        ground.build(self.settings.kmq.spool)
        self.sockets = listeners.bind(self.settings)
        self.estate = Estate(self.settings, self.sockets)
        self.heard: list[tuple[Frame, bytes]] = []
        self.links: list[Link] = []
        self.answer: Callable[[Frame], Frame | None] = stored
        self.processes: list[subprocess.Popen[bytes]] = []
        self.clients: list[Client] = []

    def configure(self, more: str) -> None:
        text = CONFIGURATION.format(folder=self.folder, receivers=self.receivers, port=self.port, more=more)
        (self.folder / "kmq.conf").write_text(text)

    # --- processes ---------------------------------------------------------------------------------------------------

    def start(self, number: int = 1) -> subprocess.Popen[bytes]:
        self.cord, theirs = Cord.pair()
        environment, descriptors = self.estate.share("receiver", theirs.fileno())
        command = [sys.executable, "-m", "tests.run.alone", "--role", "receiver", "--number", str(number)]
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen(
                command, env={**os.environ, **environment}, pass_fds=descriptors, stderr=log, stdin=subprocess.DEVNULL
            )
        theirs.close()
        self.processes.append(process)
        return process

    # --- the supervisor's word ---------------------------------------------------------------------------------------

    async def says(self, kind: type[F]) -> F:
        """The next frame of a kind that the receiver says over its cord."""
        while True:
            try:
                received = self.cord.receive()
            except BlockingIOError:
                await asyncio.sleep(0.005)
                continue
            assert received is not None, "the receiver has ended"
            if isinstance(received[0], kind):
                return received[0]

    async def offer(self) -> Prepared:
        """What the receiver says to the configuration that is in the file now."""
        settings = load(str(self.folder / "kmq.conf"))
        sockets = listeners.bind(settings, (), self.estate.sockets.values())
        self.heir = Estate(settings, sockets, self.estate)
        offered, descriptors = self.heir.offer("receiver")
        assert self.cord.send(offered, descriptors)
        return await self.says(Prepared)

    async def commit(self) -> None:
        """It counts, and what nobody needs any more is closed."""
        self.cord.send(Commit(self.heir.number))
        while (await self.says(Beat)).configuration != self.heir.number:
            pass
        self.estate.close(self.heir)
        for one in set(self.estate.sockets.values()) - set(self.heir.sockets.values()):
            one.close()
        self.estate = self.heir

    async def ends(self, process: subprocess.Popen[bytes], seconds: float = DEADLINE) -> int:
        return await asyncio.to_thread(process.wait, seconds)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    async def until(self, true: Callable[[], object], what: str) -> None:
        await asyncio.to_thread(until, true, what)

    # --- the scheduler process ---------------------------------------------------------------------------------------

    async def scheduler_comes(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_unix_server(
            lambda: Link(self._frame, lambda link: None), sock=self.sockets["queue"].dup()
        )

    async def scheduler_dies(self) -> None:
        """Its socket ends; the supervisor's listener stays."""
        self.server.close()
        for link in self.links:
            link.abort()
        self.links.clear()

    def _frame(self, link: Link, frame: AnyFrame, raw: bytes) -> None:
        if isinstance(frame, Hello):
            self.links.append(link)
        self.heard.append((frame, raw))
        said = self.answer(frame)
        if said is not None:
            link.send(said)

    def say(self, frame: Frame) -> None:
        self.links[-1].send(frame)

    def of(self, kind: type[Frame]) -> list[Frame]:
        return [frame for frame, _ in self.heard if isinstance(frame, kind)]

    # --- clients -----------------------------------------------------------------------------------------------------

    async def client(self) -> Client:
        """Connected, not yet greeted."""
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def greeted(self) -> Client:
        client = await self.client()
        assert (await client.hear()).startswith("220 mx.example.org")
        return client

    async def end(self) -> None:
        for client in self.clients:
            client.writer.close()
        for process in self.processes:
            process.kill()
            process.wait()
        if hasattr(self, "server"):
            await self.scheduler_dies()
        listeners.close(self.sockets)


def stored(frame: Frame) -> Frame | None:
    """The scheduler process on a good day."""
    if isinstance(frame, Put):
        return Stored([(frame.token, frame.m or ID)])
    return Reserved(frame.token, ID) if isinstance(frame, Reserve) else None


def silent(frame: Frame) -> Frame | None:
    return None


@asynccontextmanager
async def place(folder: Path, **given: object) -> AsyncIterator[Place]:
    one = Place(folder, **given)  # type: ignore[arg-type]
    try:
        yield one
    finally:
        await one.end()


def run(story: Awaitable[None]) -> None:
    asyncio.run(asyncio.wait_for(story, DEADLINE))


# --- mail -------------------------------------------------------------------------------------------------------------


def test_a_message_is_put_whole_and_its_id_is_what_the_client_hears(tmp_path: Path) -> None:
    async def story() -> None:
        async with place(tmp_path) as here:
            await here.scheduler_comes()
            process = here.start()
            client = await here.greeted()
            assert await client.send(b"Subject: hello\r\n\r\nworld") == f"250 2.0.0 {ID} accepted"
            hello, put = here.heard[0][0], here.of(Put)[0]
            assert isinstance(hello, Hello) and isinstance(put, Put)
            assert (hello.role, hello.n, hello.pid) == ("receiver", 1, process.pid)
            raw = here.heard[-1][1]
            body = raw[put.tail :]
            assert body.endswith(b"Subject: hello\r\n\r\nworld\r\n")
            assert body.startswith(
                b"Received: from client.example ([127.0.0.1])\r\n\tby mx.example.org (kmq) with ESMTP id "
            )
            assert put.stamp == body.index(b" id ") + len(" id ")
            head = read_head(sealed(b'{"id":"x","sha256":"y","created"' + raw[: put.tail]))
            assert head is not None and head.sender == "bob@example.net"
            assert [one.address for one in head.recipients] == ["alice@example.org"]
            await here.until(lambda: counters(here).get("accepted") == 1, "the status file says so")
            assert counters(here)["sessions"] == 1
            assert re.search(rf"receiver-1\[{process.pid}\]: accepted {ID} ", here.log)

    run(story())


def counters(here: Place) -> dict[str, int]:
    return read_status(here.settings.kmq.spool / "status" / "receiver-1.status").counters


def test_a_large_message_goes_by_a_file_that_is_whole(tmp_path: Path) -> None:
    async def story() -> None:
        async with place(tmp_path) as here:
            await here.scheduler_comes()
            process = here.start()
            text = b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 60_000
            client = await here.greeted()
            assert await client.send(text) == f"250 2.0.0 {ID} accepted"
            put = here.of(Put)[0]
            assert isinstance(put, Put) and put.m == ID
            body = (here.settings.kmq.spool / "incoming" / put.incoming).read_bytes()
            assert body.endswith(text + b"\r\n") and b"id " + ID.encode() in body[:300]
            assert hashlib.sha256(body).hexdigest() == put.sha256
            made = incoming.maker(put.incoming)
            assert made is not None and made.pid == process.pid and incoming.lives(put.incoming)
            half = await here.greeted()
            await half.begin()
            half.writer.write(text[:500_000])
            await here.until(lambda: len(os.listdir(here.settings.kmq.spool / "incoming")) == 2, "it is being written")
            half.writer.close()
            await here.until(
                lambda: len(os.listdir(here.settings.kmq.spool / "incoming")) == 1, "half of it is dropped"
            )

    run(story())


def test_nothing_comes_in_while_the_scheduler_process_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        async with place(tmp_path) as here:
            await here.scheduler_comes()
            here.start()
            client = await here.greeted()
            await client.say("EHLO client.example")
            assert (await client.say("MAIL FROM:<>")).startswith("250")
            await client.say("RSET")
            await here.until(lambda: here.links, "the receiver has found the scheduler process")
            here.say(Intake("452 4.3.1 Insufficient system storage"))
            while (said := await client.say("MAIL FROM:<>")).startswith("250"):
                await client.say("RSET")
                await asyncio.sleep(0.01)
            assert said == "452 4.3.1 Insufficient system storage"
            here.say(Intake(""))
            while not (await client.say("MAIL FROM:<>")).startswith("250"):
                await asyncio.sleep(0.05)

    run(story())


# --- a scheduler process that comes and goes --------------------------------------------------------------------------


def test_mail_waits_for_a_scheduler_process_that_is_not_there_yet(tmp_path: Path) -> None:
    async def story() -> None:
        async with place(tmp_path) as here:
            here.start()
            client = await here.greeted()
            reply = asyncio.ensure_future(client.send(b"Subject: early\r\n\r\n"))
            other = await here.greeted()
            assert (await other.say("NOOP")).startswith("250"), "others are served"
            assert not reply.done()
            await here.scheduler_comes()
            assert await reply == f"250 2.0.0 {ID} accepted"
            assert here.of(Ask) == [], "what was never sent is not asked for"

    run(story())


@pytest.mark.parametrize("durable", [True, False])
def test_after_its_death_a_message_that_it_had_is_asked_for(tmp_path: Path, durable: bool) -> None:
    """J10: 250 for what it made durable, 451 for what it did not; the client never sees a broken connection."""

    def successor(frame: Frame) -> Frame | None:
        if isinstance(frame, Ask):
            (token,) = frame.tokens
            return (
                Stored([(token, ID)]) if durable else Refused(token, "451 4.3.0 Local storage error, try again later")
            )
        return stored(frame)

    async def story() -> None:
        async with place(tmp_path) as here:
            here.answer = silent
            await here.scheduler_comes()
            here.start()
            client = await here.greeted()
            reply = asyncio.ensure_future(client.send(b"Subject: doubtful\r\n\r\n"))
            await here.until(lambda: here.of(Put), "it has the message")
            await here.scheduler_dies()
            assert not reply.done()
            here.answer = successor
            await here.scheduler_comes()
            assert await reply == (
                f"250 2.0.0 {ID} accepted" if durable else "451 4.3.0 Local storage error, try again later"
            )
            assert len(here.of(Put)) == 1 and len(here.of(Ask)) == 1
            assert await client.send(b"Subject: next\r\n\r\n") == f"250 2.0.0 {ID} accepted"

    run(story())


# --- the end ----------------------------------------------------------------------------------------------------------


def test_asked_to_stop_it_finishes_what_is_under_way_and_takes_nobody_in(tmp_path: Path) -> None:
    """Row 4."""

    async def story() -> None:
        async with place(tmp_path) as here:
            await here.scheduler_comes()
            process = here.start()
            busy, idle = await here.greeted(), await here.greeted()
            await busy.begin()
            busy.writer.write(b"Subject: under way\r\n\r\n")
            await here.until(lambda: counters(here).get("sessions") == 2, "both are counted")
            process.terminate()
            assert (await idle.hear()).startswith("421 4.3.2")
            assert await idle.hear() == ""
            assert process.poll() is None
            await here.until(lambda: counters(here)["sessions"] == 1, "one is left, and waited for")
            late = await here.client()  # waits in the backlog for the next receiver
            busy.writer.write(b"the rest\r\n.\r\n")
            assert await busy.hear() == f"250 2.0.0 {ID} accepted"
            assert await here.ends(process) == 0
            here.start()
            assert (await late.hear()).startswith("220")

    run(story())


def test_asked_twice_it_waits_for_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        async with place(tmp_path) as here:
            await here.scheduler_comes()
            process = here.start()
            busy, idle = await here.greeted(), await here.greeted()
            await busy.begin()
            process.terminate()
            assert (await idle.hear()).startswith("421")
            process.terminate()
            assert await here.ends(process, GRACE - 2) == 0
            assert here.of(Put) == []

    run(story())


def test_without_a_supervisor_it_stops(tmp_path: Path) -> None:
    async def story() -> None:
        async with place(tmp_path) as here:
            process = here.start()
            await here.greeted()
            os.close(here.estate._held)
            assert await here.ends(process) == 0
            assert "kmqd is gone, so this process stops" in here.log

    run(story())


def test_without_descriptors_it_lives_on_and_serves_again(tmp_path: Path) -> None:
    """Row 11: EMFILE in accept, and for the file of a large body."""

    async def story() -> None:
        async with place(tmp_path, more="sessions = 500\nsessions_per_client = 500") as here:
            await here.scheduler_comes()
            process = here.start()
            busy = await here.greeted()
            await busy.begin()
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (64, 64))
            crowd = [await here.client() for _ in range(100)]
            answers = [asyncio.ensure_future(one.hear()) for one in crowd]
            await here.until(lambda: sum(one.done() for one in answers) > 30, "as many as can be are greeted")
            busy.writer.write(b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 6000 + b".\r\n")
            assert (await busy.hear())[:9] in ("250 2.0.0", "451 4.3.0"), "an answer, with or without room for a file"
            greeted = [one for one in answers if one.done() and one.result().startswith("220")]
            assert len(greeted) < 60, "there is no room for more"
            for one, answer in zip(crowd, answers, strict=True):
                answer.cancel()
                one.writer.close()
            while not (await (await here.client()).hear()).startswith("220"):
                await asyncio.sleep(0.05)
            assert process.poll() is None

    run(story())


# --- configuration and limits -----------------------------------------------------------------------------------------


def test_a_new_configuration_counts_for_new_sessions_when_the_supervisor_says_so(tmp_path: Path) -> None:
    """Row 41: also during a transaction."""

    async def story() -> None:
        async with place(tmp_path) as here:
            await here.scheduler_comes()
            here.start()
            busy = await here.greeted()
            assert "SIZE 26214400" in await busy.say("EHLO client.example")
            await busy.begin()
            here.configure("size_limit = 1M")
            assert (await here.offer()).problem == ""
            assert "SIZE 26214400" in await (await here.greeted()).say("EHLO client.example"), "it does not count yet"
            await here.commit()
            assert "SIZE 1048576" in await (await here.greeted()).say("EHLO client.example")
            busy.writer.write(b"Subject: begun under the old one\r\n\r\n.\r\n")
            assert (await busy.hear()).startswith("250")

    run(story())


def test_a_certificate_that_cannot_be_used_is_refused_and_all_sections_stay_as_they_were(tmp_path: Path) -> None:
    other = f"[other : receiver]\nlisten = 127.0.0.1:{free_port()}\n"
    (tmp_path / "nothing.pem").touch()

    async def story() -> None:
        async with place(tmp_path, more=other) as here:
            here.start()
            await here.greeted()
            tls = f"tls_certificate = {tmp_path}/nothing.pem\ntls_key = {tmp_path}/nothing.pem"
            here.configure(f"size_limit = 1M\n{other}{tls}")
            told = await here.offer()
            assert re.search(r"kmq\.conf:13: \[other : receiver\] tls_certificate = ", told.problem)
            assert "SIZE 26214400" in await (await here.greeted()).say("EHLO client.example")

    run(story())


def test_receivers_and_addresses_come_and_go_and_sessions_stay(tmp_path: Path) -> None:
    """New ones are there before old ones are closed; who talks on an old one talks on."""
    moved, added = free_port(), free_port()

    async def story() -> None:
        async with place(tmp_path, more=f"[other : receiver]\nlisten = 127.0.0.1:{added}\nsize_limit = 2M\n") as here:
            await here.scheduler_comes()
            here.start()
            old, port = await here.greeted(), here.port
            here.port = added
            gone = await here.greeted()
            here.port = moved
            here.configure("")
            assert (await here.offer()).problem == ""
            waiting = await here.client()  # bound already, and nobody serves it yet
            here.port = port
            await here.greeted()
            await here.commit()
            assert (await waiting.hear()).startswith("220")
            assert not listening(port) and not listening(added) and listening(moved)
            assert (await old.send(b"Subject: old address")).startswith("250")
            assert "SIZE 2097152" in await gone.say("EHLO client.example")
            assert (await gone.send(b"Subject: old receiver")).startswith("250")

    run(story())


def test_what_was_offered_and_cancelled_leaves_no_port_bound(tmp_path: Path) -> None:
    async def story() -> None:
        async with place(tmp_path) as here:
            here.start()
            await here.greeted()
            before, here.port = here.port, free_port()
            here.configure("")
            assert (await here.offer()).problem == ""
            here.cord.send(Cancel(here.heir.number))
            for one in set(here.heir.sockets.values()) - set(here.estate.sockets.values()):
                one.close()
            await here.until(lambda: not listening(here.port), "nobody holds the new port")
            assert listening(before)

    run(story())


def test_limits_hold_while_receivers_become_more(tmp_path: Path) -> None:
    """Sessions of before are counted by all, whatever number of processes there is."""
    few = "sessions = 3\nsessions_per_client = 3"

    async def story() -> None:
        async with place(tmp_path, more=few) as here:
            here.start()
            first = [await here.greeted() for _ in range(2)]
            here.receivers = 2
            here.configure(few)
            assert (await here.offer()).problem == ""
            await here.commit()
            here.start(2)
            await here.says(Beat)
            await here.until(lambda: both_live(here), "both receivers are there")
            answers = [(await (await here.client()).hear())[:9] for _ in range(3)]
            assert sorted(answers)[1:] == ["421 4.3.2", "421 4.3.2"]
            assert len(first) == 2

    run(story())


def test_a_certificate_that_broke_before_the_birth_is_one_sentence_and_78(tmp_path: Path) -> None:
    """The supervisor has seen it whole: what ends a child with 78 begins no loop."""
    (tmp_path / "nothing.pem").touch()
    tls = f"tls_certificate = {tmp_path}/nothing.pem\ntls_key = {tmp_path}/nothing.pem"

    async def story() -> None:
        async with place(tmp_path, more=tls) as here:
            process = here.start()
            await here.until(lambda: process.poll() is not None, "it ends")
            assert process.returncode == 78
            assert re.fullmatch(r"[^\n]*kmq\.conf:10: \[smtp : receiver\] tls_certificate = [^\n]*\n", here.log)

    run(story())


def test_limits_hold_over_all_receivers_together(tmp_path: Path) -> None:
    async def story() -> None:
        async with place(tmp_path, receivers=2, more="sessions = 12\nsessions_per_client = 12") as here:
            here.start(1)
            here.start(2)
            await here.until(lambda: both_live(here), "both receivers are there")
            answers = [await (await here.client()).hear() for _ in range(20)]
            assert [answer[:9] for answer in answers].count("421 4.3.2") == 8
            assert answers[12:] == ["421 4.3.2 Too many connections"] * 8
            counts = [
                read_status(here.settings.kmq.spool / "status" / f"receiver-{number}.status") for number in (1, 2)
            ]
            assert len({one.pid for one in counts}) == 2

    run(story())


def both_live(here: Place) -> bool:
    return all((here.settings.kmq.spool / "status" / f"receiver-{number}.status").exists() for number in (1, 2))
