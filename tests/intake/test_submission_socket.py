"""The socket of this machine's programs: who it is, what he may, and what stands in the message."""

import asyncio
import os
import pwd
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kmq.config.sections import SendmailSection
from kmq.intake import local, pace
from kmq.intake.local import LocalSmtpd, as_receiver
from kmq.intake.pace import Pace
from kmq.model.envelope import Source
from tests.asuser import connected_as
from tests.intake.doors import MemoryDoor, Routes
from tests.intake.serving import LOOPS, run

ME = os.geteuid()
MY_NAME = pwd.getpwuid(ME).pw_name
NOBODY = 65534
GREETED = "EHLO localhost\r\n"


@asynccontextmanager
async def serving(folder: Path, door: MemoryDoor | None = None, **options: Any) -> AsyncIterator[LocalSmtpd]:
    """A server behind `folder`/submit.sock; us.test is ours."""
    options.setdefault("trusted_users", ())
    section = SendmailSection(socket="", **options)
    smtpd = LocalSmtpd(as_receiver(section), "mx.us.test", Routes(), door or MemoryDoor())
    smtpd.settle(section, Pace(1))
    smtpd.path = folder / "submit.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(smtpd.path))
    smtpd.path.chmod(0o666)
    for parent in (folder, *folder.parents):
        if parent.owner() == MY_NAME and parent.name.startswith(("pytest-", "popen-", "test_")):
            parent.chmod(0o755)
    listener.listen()
    await smtpd.serve([listener])
    try:
        yield smtpd
    finally:
        await smtpd.close(0)
        assert smtpd.sessions == 0


class Program:
    """A program of some user, which says lines and hears replies."""

    def __init__(self, smtpd: LocalSmtpd, uid: int = ME) -> None:
        self._path = smtpd.path
        self._uid = uid

    async def __aenter__(self) -> "Program":
        connection = connected_as(self._uid, self._path)
        self.reader, self.writer = await asyncio.open_unix_connection(sock=connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def hear(self) -> str:
        while True:
            line = (await self.reader.readline()).decode()
            if line[3:4] != "-":
                return line.rstrip("\r\n")

    async def say(self, text: str, replies: int = 1) -> list[str]:
        self.writer.write(text.encode())
        return [await self.hear() for _ in range(replies)]

    async def begin(self) -> None:
        assert (await self.hear()).startswith("220 mx.us.test")
        assert (await self.say(GREETED))[0].startswith("250")

    async def mail(self, text: str, mail: str = "<alice>", to: str = "<bob@elsewhere.test>") -> str:
        """A whole transaction -> the last reply."""
        content = text.encode()
        lines = f"MAIL FROM:{mail}\r\nRCPT TO:{to}\r\nBDAT {len(content)} LAST\r\n{text}"
        return (await self.say(lines, 3))[-1]


def header_of(body: bytes) -> dict[str, str]:
    header = body.partition(b"\r\n\r\n")[0].replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ").decode()
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in header.splitlines()}


# --- who it is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_the_kernel_says_who_it_is_and_everybody_may_send_anywhere(tmp_path: Path, loop: str) -> None:
    async def story() -> None:
        door = MemoryDoor()
        async with serving(tmp_path, door) as smtpd, Program(smtpd, NOBODY) as program:
            await program.begin()
            assert (await program.mail("Subject: hello\r\n\r\nhello\r\n", "<nobody>")).startswith("250 2.0.0 6921")
            message = door.messages[0]
            assert message.head.source == Source(how="sendmail", user="nobody", receiver="sendmail")
            assert message.head.sender == "nobody@us.test"
            fields = header_of(message.body)
            assert fields["Received"].startswith("from nobody (uid 65534) by mx.us.test (kmq) with ESMTP id 6921")
            assert "X-Authenticated-Sender" not in fields
            assert fields["From"] == "nobody@us.test"
            assert {"Date", "Message-ID"} <= fields.keys()

    run(loop, story)


def test_a_name_that_is_not_ones_own_is_told_to_the_reader(tmp_path: Path) -> None:
    async def story() -> None:
        door = MemoryDoor()
        async with serving(tmp_path, door) as smtpd, Program(smtpd, NOBODY) as program:
            await program.begin()
            forged = "X-Authenticated-Sender: root@mx.us.test (uid 0)\r\n\r\n"
            for sender in ("<root>", "<boss@elsewhere.test>", "<>", "<nobody@elsewhere.test>"):
                assert (await program.mail(forged, sender)).startswith("250")
            for message in door.messages:
                lines = message.body.split(b"\r\n")
                first = next(line for line in lines if line.startswith(b"X-Authenticated"))
                assert first == b"X-Authenticated-Sender: nobody@mx.us.test (uid 65534)"
                assert lines.index(first) == 3, "right below our Received"
                assert message.head.longest == max(map(len, lines))
            for sender in ("<nobody>", "<Nobody+lists@us.test>", "<nobody@mx.us.test>"):
                assert (await program.mail("Subject: mine\r\n\r\n", sender)).startswith("250")
            assert not any(b"X-Authenticated" in one.body for one in door.messages[4:])

    run("asyncio", story)


@pytest.mark.parametrize("trusted", [MY_NAME, str(ME), "*"])
def test_trusted_users_send_in_any_name(tmp_path: Path, trusted: str) -> None:
    async def story() -> None:
        door = MemoryDoor()
        async with serving(tmp_path, door, trusted_users=(trusted,)) as smtpd, Program(smtpd) as program:
            await program.begin()
            assert (await program.mail("Subject: x\r\n\r\n", "<boss@elsewhere.test>")).startswith("250")
            assert b"X-Authenticated" not in door.messages[0].body

    run("asyncio", story)


def test_a_user_whom_nobody_knows_is_a_number(tmp_path: Path) -> None:
    async def story() -> None:
        door = MemoryDoor()
        async with serving(tmp_path, door) as smtpd, Program(smtpd, 54321) as program:
            await program.begin()
            assert (await program.mail("\r\n", "<54321>")).startswith("250")
            assert door.messages[0].head.source.user == "54321"
            assert b"Received: from 54321 (uid 54321)\r\n" in door.messages[0].body

    run("asyncio", story)


def test_a_slow_directory_of_users_keeps_nobody_else_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of one is looked up beside the loop; the other, whose name is known, is served meanwhile."""
    let_go = threading.Event()

    def slowly(uid: int) -> str:
        if uid == NOBODY:
            assert let_go.wait(20)
        return f"user{uid}"

    monkeypatch.setattr(local, "user_name", slowly)

    async def story() -> None:
        async with serving(tmp_path) as smtpd, Program(smtpd, NOBODY) as slow, Program(smtpd) as quick:
            await quick.begin()
            assert smtpd.sessions == 1
            let_go.set()
            await slow.begin()
            async with Program(smtpd, NOBODY) as known:
                await known.begin()

    run("asyncio", story)


def test_one_who_goes_while_his_name_is_looked_up_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    asked, let_go = threading.Event(), threading.Event()

    def slowly(uid: int) -> str:
        asked.set()
        assert let_go.wait(20)
        return "late"

    monkeypatch.setattr(local, "user_name", slowly)

    async def story() -> None:
        async with serving(tmp_path) as smtpd:
            async with Program(smtpd):
                await asyncio.to_thread(asked.wait, 20)
            let_go.set()
            async with Program(smtpd) as next_one:
                await next_one.begin()
                assert smtpd.sessions == 1

    run("asyncio", story)


# --- what may be said -------------------------------------------------------------------------------------------------


def test_bare_addresses_are_of_this_machine(tmp_path: Path) -> None:
    async def story() -> None:
        door = MemoryDoor()
        async with serving(tmp_path, door) as smtpd, Program(smtpd) as program:
            await program.begin()
            await program.say("MAIL FROM:<alice> RET=HDRS\r\n")
            text = 'RCPT TO:<bob>\r\nRCPT TO:<"b b"> NOTIFY=NEVER\r\nRCPT TO:<postmaster>\r\nRCPT TO:<nobody>\r\n'
            said = await program.say(text, 4)
            assert [one[:3] for one in said] == ["250", "250", "250", "550"]
            assert (await program.say("BDAT 2 LAST\r\n\r\n"))[0].startswith("250")
            head = door.messages[0].head
            assert head.sender == "alice@us.test"
            assert [one.address for one in head.recipients] == ["bob@us.test", '"b b"@us.test', "postmaster"]
            assert head.recipients[1].notify == "NEVER"

    run("asyncio", story)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_program_may_say_all_at_once(tmp_path: Path, loop: str) -> None:
    """As `printf ... | sendmail -bs` does; from the net it would be an attack. Its user is looked up meanwhile."""

    async def story() -> None:
        door = MemoryDoor()
        async with serving(tmp_path, door) as smtpd, Program(smtpd) as program:
            much = 2000 * f"{'y' * 70}\r\n"
            text = f"{GREETED}MAIL FROM:<a>\r\nRCPT TO:<b@us.test>\r\nDATA\r\nSubject: x\r\n\r\n{much}.\r\nQUIT\r\n"
            said = await program.say(text, 7)
            assert [one[:3] for one in said] == ["220", "250", "250", "250", "354", "250", "221"]
            assert door.messages[0].head.size > len(much)

    run(loop, story)


def test_the_full_name_and_bcc_are_said_beside_smtp(tmp_path: Path) -> None:
    async def story() -> None:
        door = MemoryDoor()
        async with serving(tmp_path, door) as smtpd, Program(smtpd) as program:
            await program.begin()
            text = "Subject: x\r\nBcc: secret@us.test\r\n\r\ny\r\n"
            assert (await program.mail(text, "<alice> XNAME=J+C3+B6rg+20B. XBCC=REMOVE RET=FULL")).startswith("250")
            assert (await program.mail(text, "<alice> SIZE=10")).startswith("250")
            assert (await program.mail(text, "<alice> XNAME=Alice+0D+0ATo:+20x@y")).startswith("250")
            first, second, third = (header_of(one.body) for one in door.messages[:3])
            assert first["From"] == "=?utf-8?b?SsO2cmcgQi4=?= <alice@us.test>"
            assert "Bcc" not in first and door.messages[0].head.ret == "FULL"
            assert second["From"] == "alice@us.test" and "Bcc" in second
            assert third["From"] == '"Alice To: x@y" <alice@us.test>', "a name is no way to write headers"
            odd = '<"a XNAME=b>"@far.test> XNAME=<x> SIZE=3 XBCC=no'
            assert (await program.mail(text, odd)).startswith("250")
            assert door.messages[3].head.sender == '"a XNAME=b>"@far.test'
            assert (await program.say("MAIL FROM:<alice> XOTHER=1\r\n"))[0].startswith("555")

    run("asyncio", story)


def test_vrfy_says_what_rcpt_would(tmp_path: Path) -> None:
    """What becomes of those whom it would take is told in tests/cli/test_sendmail.py, by -bv."""

    async def story() -> None:
        async with serving(tmp_path) as smtpd, Program(smtpd) as program:
            await program.begin()
            said = await program.say("VRFY <nobody>\r\nVRFY nobody@us.test\r\nVRFY <a b>\r\nVRFY\r\n", 4)
            assert [one[:9] for one in said] == ["550 5.1.1", "550 5.1.1", "501 5.1.3", "501 5.1.3"]

    run("asyncio", story)


def test_there_is_no_starttls_and_no_message_from_half_a_chunk(tmp_path: Path) -> None:
    async def story() -> None:
        door = MemoryDoor()
        async with serving(tmp_path, door) as smtpd:
            async with Program(smtpd) as program:
                await program.begin()
                assert (await program.say("STARTTLS\r\n"))[0].startswith("502")
                await program.say("MAIL FROM:<alice>\r\nRCPT TO:<bob>\r\n", 2)
                program.writer.write(b"BDAT 100 LAST\r\nSubject: half")
                await program.writer.drain()
            while smtpd.sessions:
                await asyncio.sleep(0.002)
            assert door.messages == []

    run("asyncio", story)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_sessions_are_counted_by_user(tmp_path: Path) -> None:
    async def story() -> None:
        async with serving(tmp_path, sessions_per_user=2) as smtpd, Program(smtpd) as one, Program(smtpd) as two:
            await one.begin()
            await two.begin()
            async with Program(smtpd) as three:
                assert (await three.hear()).startswith("421 4.3.2")
            async with Program(smtpd, NOBODY) as other:
                await other.begin()

    run("asyncio", story)


def test_messages_are_counted_by_user_and_minute(tmp_path: Path) -> None:
    async def story() -> None:
        now = 1000 * 60.0
        door = MemoryDoor()
        async with serving(tmp_path, door, messages_per_minute=3) as smtpd:
            smtpd.clock = lambda: now
            smtpd.reload(smtpd.rules.section, "mx.us.test", Routes())
            async with Program(smtpd) as program, Program(smtpd, NOBODY) as other:
                await program.begin()
                await other.begin()
                for _ in range(3):
                    assert (await program.mail("\r\n")).startswith("250")
                assert (await program.say("MAIL FROM:<alice>\r\n"))[0].startswith("450 4.7.1")
                assert (await other.mail("\r\n")).startswith("250")
                now += 60 + 40
                assert (await program.mail("\r\n")).startswith("250"), "most of that minute is over"
                assert (await program.mail("\r\n")).startswith("250")
                assert (await program.say("MAIL FROM:<alice>\r\n"))[0].startswith("450 4.7.1")

    run("asyncio", story)


def test_the_pace_is_one_over_all_processes() -> None:
    memory = bytearray(3 * 8192 * 4 * 2)
    first, second = Pace(4, memory, 0, 2), Pace(4, memory, 1, 2)
    assert [one.take(1000, 60.0) for one in (first, second, first, second, first, second)] == [True] * 4 + [False] * 2
    assert second.take(1001, 60.0)
    again = Pace(4, memory, 0, 2)  # the first process died, and its successor knows nothing of what it let in
    assert [again.take(1000, 61.0) for _ in range(3)] == [True, True, False]


def test_fewer_processes_leave_the_memory_of_those_that_end() -> None:
    """Whoever counts beyond the end of shared memory is ended by SIGBUS, and his sessions with him."""
    fd = os.memfd_create("pace")
    second = Pace(2, pace.shared(fd, 2), 1, 2)
    first = Pace(2, pace.shared(fd, 1), 0, 1)
    size = os.fstat(fd).st_size
    os.close(fd)
    assert size >= 2 * 3 * 8192 * 4
    assert [one.take(1000, 60.0) for one in (second, second, second, first)] == [True, True, False, True]


def test_a_burst_at_the_turn_of_a_minute_is_seen() -> None:
    pace = Pace(10)
    assert sum(pace.take(7, 119.9) for _ in range(20)) == 10
    assert sum(pace.take(7, 120.1) for _ in range(20)) == 0
    assert sum(pace.take(7, 150.0) for _ in range(20)) == 5
    assert sum(pace.take(7, 400.0) for _ in range(20)) == 10
