"""What `kmq check` says of scanners: who is there, who is not, and one that finds nothing."""

import asyncio
import os
import pwd
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.admin import check
from kmq.admin.verdict import Grade, Verdict
from kmq.config import read
from tests.debian_clamd import ground
from tests.fake_clamd import FakeClamd


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeClamd]:
    with FakeClamd(tmp_path / "clamd").running() as made:
        yield made


def verdicts(tmp_path: Path, more: str) -> list[Verdict]:
    text = f"[kmq]\nspool = {tmp_path}\n[scanner]\n{more}"
    return [*check.scanners(read(text, "kmq.conf", "/etc/kmq", "mx"))]


def clamd(path: Path, more: str = "") -> str:
    return f"[virus : scanner]\ntype = clamd\naddress = {path}\n{more}"


def test_without_scanners_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert verdicts(tmp_path, "") == []


def test_a_clamd_that_finds_what_it_has_to(tmp_path: Path, fake: FakeClamd) -> None:
    fake.mood = "found Eicar-Test"
    (found,) = verdicts(tmp_path, clamd(fake.path))
    assert found.grade is Grade.GOOD
    assert found.what == f"scanner [virus] (clamd at {fake.path}): {fake.version}"
    assert len(fake.shown[0]) == 68, "EICAR's test file"


@pytest.mark.parametrize(
    ("mood", "why"),
    [("ok", "clean"), ("error no signatures", "it says no signatures ERROR"), ("mute", "it closed the")],
)
def test_a_clamd_that_does_not(tmp_path: Path, fake: FakeClamd, mood: str, why: str) -> None:
    fake.mood = mood
    good, wrong = verdicts(tmp_path, clamd(fake.path))
    assert (good.grade, wrong.grade) == (Grade.GOOD, Grade.WRONG)
    assert f"does not find EICAR's test file: {why}" in wrong.what
    assert "freshclam" in wrong.remedy


def test_nobody_there_is_wrong_unless_mail_goes_on_without(tmp_path: Path) -> None:
    (wrong,) = verdicts(tmp_path, clamd(tmp_path / "none"))
    assert wrong.grade is Grade.WRONG
    assert "cannot be asked, and mail waits until it can: no such file or directory" in wrong.what
    assert "is it running" in wrong.remedy
    (note,) = verdicts(tmp_path, clamd(tmp_path / "none", "failure = open\n"))
    assert note.grade is Grade.NOTE
    (closed,) = verdicts(tmp_path, f"[a : milter]\naddress = {tmp_path / 'none'}\n")
    assert closed.what.startswith(f"milter [a] (at {tmp_path / 'none'}) cannot be asked")


@pytest.mark.parametrize(
    ("answer", "grade", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: rspamd/3.4\r\nContent-Length: 4\r\n\r\npong", Grade.GOOD, ": rspamd/3.4"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhiya", Grade.WRONG, "it is no rspamd: it says 'hiya'"),
        (b"220 mx ESMTP\r\n", Grade.WRONG, "it speaks no HTTP"),
    ],
)
def test_an_rspamd_and_what_is_none(tmp_path: Path, answer: bytes, grade: Grade, told: str) -> None:
    path = tmp_path / "rspamd"
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(answer)
            writer.close()

        async with await asyncio.start_unix_server(one, str(path)):
            ready.set()
            await asyncio.to_thread(over.wait, 60)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(60)
        (found,) = verdicts(tmp_path, f"[junk : scanner]\ntype = rspamd\naddress = {path}\n")
    finally:
        over.set()
        thread.join()
    assert found.grade is grade
    assert told in found.what


def test_what_root_may_ask_and_kmqd_may_not() -> None:
    """Whoever looks is root; kmqd's user was not made a member of the scanner's group."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to see what another user may")
    with ground() as folder, FakeClamd(folder / "clamd").running() as fake:
        fake.mood = "found Eicar-Test"
        os.chown(folder, 65534, 65534)  # it is the spool
        fake.path.chmod(0o600)
        for said, more, grade in (("waits", "", Grade.WRONG), ("is delivered", "failure = open\n", Grade.NOTE)):
            good, shut = verdicts(folder, clamd(fake.path, more))
            assert (good.grade, shut.grade) == (Grade.GOOD, grade)
            assert f"kmqd's user may not write to {fake.path}, and mail {said}" in shut.what
            assert shut.remedy.startswith("have its program let its group write there")
        user = pwd.getpwuid(65534)
        fake.path.chmod(0o660)
        assert verdicts(folder, clamd(fake.path))[1].remedy.startswith(f"adduser {user.pw_name} root, then")
        os.chown(fake.path, 0, user.pw_gid)
        assert len(verdicts(folder, clamd(fake.path))) == 1, "the group is his"
        folder.chmod(0o700)
        (folder / "spool").mkdir()
        os.chown(folder / "spool", 65534, 65534)
        os.chown(folder, 0, 0)
        assert len(verdicts(folder / "spool", clamd(fake.path))) == 2, "he does not get there"
