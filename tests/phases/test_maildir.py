"""Copies in Maildirs: once and whole, durable before they count, whatever happens in between."""

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kmq.phases import maildir
from kmq.phases.mailbox import Mailbox, copy_for
from kmq.phases.work import Outcome, Work
from tests.phases.dying import dies_at
from tests.phases.mailboxes import HOP, ID, NAME, TRACE, deliver, files, section, work
from tests.phases.sending import kinds, results, until

# --- the second run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moved",
    [f"new/{NAME}", f"cur/{NAME}:2,S", f"cur/{NAME}", f"cur/{NAME},S=23:2,FS"],
    ids=["new", "seen", "bare", "size"],
)
def test_a_second_run_finds_the_first(tmp_path: Path, moved: str) -> None:
    one = work("alice@here.test")
    deliver(section(tmp_path), one)
    os.rename(tmp_path / "alice/new" / NAME, tmp_path / "alice" / moved)
    (found,) = deliver(section(tmp_path), one)
    assert results(found) == {0: ("Delivered", f"250 2.0.0 delivered to alice/{moved} (by an earlier attempt)")}
    assert files(tmp_path) == [f"alice/{moved}"]


def test_another_message_is_not_taken_for_it(tmp_path: Path) -> None:
    cur = tmp_path / "alice/cur"
    cur.mkdir(parents=True)
    for name in (f"{ID}.0.mx.here.test.org:2,S", f"{ID}.0.mx.here.tes:2,S", f"{ID}.1.mx.here.test:2,S", f"x{NAME}"):
        (cur / name).write_bytes(b"")
    (found,) = deliver(section(tmp_path), work("alice@here.test"))
    assert "earlier" not in results(found)[0][1]
    assert f"alice/new/{NAME}" in files(tmp_path)


def test_a_full_cur_is_not_read_for_fresh_mail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was moved into cur/ since the message came: a hundred thousand names need no look."""
    deliver(section(tmp_path), work("alice@here.test", id="69212acf-00000001"))
    os.utime(tmp_path / "alice/cur", (0x69212AD0 - 10,) * 2)
    looks: list[int] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looks.append(path) or scandir(path))
    deliver(section(tmp_path), work("alice@here.test"))
    assert not looks
    os.utime(tmp_path / "alice/cur", (0x69212AD0 + 10,) * 2)
    deliver(section(tmp_path), work("alice@here.test", id="69212ad0-0000a1f4"))
    assert looks
    looks.clear()
    os.utime(tmp_path / "alice/cur", (0x69212AD0,) * 2)
    deliver(section(tmp_path), work("alice@here.test", id="f9212ad0-0000a1f5"))
    assert looks, "an ID ahead of the clock says nothing about what came first"


#: What changes something; to die before any other call is to die before one of these.
SYSTEM_CALLS = ("open", "mkdir", "write", "fsync", "link", "unlink", "fchown")


def test_killed_at_any_call_there_is_one_copy_in_the_end(tmp_path: Path) -> None:
    """A process that dies before its n-th system call, for every n; the next run makes it good."""
    text = b"Subject: x\r\n\r\n" + b"line\r\n" * 40_000
    calls = 0
    died = True
    while died:
        root = tmp_path / str(calls)
        one = work("alice@here.test", "bob@here.test", text=text, file=tmp_path / "x.eml")
        died = dies_at(calls, SYSTEM_CALLS, partial(_deliver, root, one))
        seen = list(root.rglob("new/*"))
        assert all(path.read_bytes().endswith(b"line\n") for path in seen), "a reader sees whole messages only"
        if died:
            assert kinds(deliver(section(root), one)[0]) == "DD"
        assert files(root) == [f"alice/new/{ID}.0.mx.here.test", f"bob/new/{ID}.1.mx.here.test"]
        local = len(text) - text.count(b"\r")
        for path, address in zip(sorted(root.rglob("new/*")), (b"alice@here.test", b"bob@here.test"), strict=True):
            assert path.stat().st_size == local + len(TRACE % (address, address))
        calls += 1
    assert calls > 40, "the calls were not counted"


def _deliver(root: Path, one: Work) -> None:
    made = [copy_for(one, index, section(root), "mx.here.test") for index in one.rcpt]
    maildir.deliver([copy for copy in made if isinstance(copy, maildir.Copy)])


# --- durable before it counts -----------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The syncs and links in their order: `sync <file or folder>`, `link`."""
    seen: list[str] = []
    fsync, link = os.fsync, os.link

    def note_sync(fd: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{fd}"))
        seen.append(f"sync {target.name if target.is_dir() else target.parent.name + '/' + target.name}")
        fsync(fd)

    def note_link(*arguments: Any, **more: Any) -> None:
        seen.append("link")
        link(*arguments, **more)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "link", note_link)
    yield seen


def test_file_then_name_then_folder(tmp_path: Path, calls: list[str]) -> None:
    for folder in ("new", "cur", "tmp"):
        (tmp_path / "alice" / folder).mkdir(parents=True)
    deliver(section(tmp_path), work("alice@here.test"))
    assert calls == [f"sync tmp/{NAME}", "link", "sync new"]


def test_a_new_maildir_is_durable_too(tmp_path: Path, calls: list[str]) -> None:
    deliver(section(tmp_path / "a" / "b"), work("alice@here.test"))
    parents = [call for call in calls if call != "link" and "tmp/" not in call]
    assert parents[:6] == [f"sync {tmp_path.name}", "sync a", "sync b", "sync alice", "sync alice", "sync alice"]


def test_what_an_earlier_run_left_is_synced_before_it_counts(tmp_path: Path, calls: list[str]) -> None:
    deliver(section(tmp_path), work("alice@here.test"))
    calls.clear()
    deliver(section(tmp_path), work("alice@here.test"))
    assert calls == ["sync new"]


def test_copies_in_one_maildir_share_a_sync(tmp_path: Path, calls: list[str]) -> None:
    deliver(section(tmp_path), work("alice@here.test"))
    calls.clear()
    deliver(section(tmp_path), work(*["alice@here.test"] * 10, id="69212ad0-0000a1f4"))
    assert calls.count("sync new") == 1
    assert calls.index("link") == 10, "all files are synced before the first has its name"


# --- trouble ----------------------------------------------------------------------------------------------------------

TROUBLES = [
    (errno.ENOSPC, "452 4.3.1"),
    (errno.EDQUOT, "452 4.2.2"),
    (errno.EIO, "451 4.3.0"),
    (errno.EACCES, "451 4.3.0"),
    (errno.EROFS, "451 4.3.0"),
    (errno.EMFILE, "451 4.3.0"),
]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "link", "mkdir"])
@pytest.mark.parametrize(("number", "reply"), TROUBLES)
def test_trouble_is_temporary_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, reply: str
) -> None:
    real = getattr(os, call)

    def fails(*arguments: Any, **more: Any) -> Any:
        if call == "open" and arguments[0] != NAME:
            return real(*arguments, **more)
        raise OSError(number, os.strerror(number))

    one = work("alice@here.test")
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails)
        (found,) = deliver(section(tmp_path), one)
    ((kind, said),) = results(found).values()
    assert (kind, said[:9]) == ("Deferred", reply)
    assert files(tmp_path) == []
    assert kinds(deliver(section(tmp_path), one)[0]) == "D"


def test_the_sync_of_new_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the name is durable nobody knows, so it does not count, and is taken away again."""
    deliver(section(tmp_path), work("alice@here.test", id="69212acf-00000001"))
    before = files(tmp_path)
    fsync = os.fsync

    def fails(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/new"):
            raise OSError(errno.EIO, "Input/output error")
        fsync(fd)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        (found,) = deliver(section(tmp_path), work("alice@here.test"))
    assert kinds(found) == "d"
    assert files(tmp_path) == before


def test_short_writes_are_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, text: write(fd, text[:7]) if len(text) < 1000 else write(fd, text))
    (found,) = deliver(section(tmp_path), work("alice@here.test"))
    assert kinds(found) == "D"
    assert (tmp_path / "alice/new" / NAME).read_bytes().endswith(b"\n\nhello\n.dot\nend\n")


def test_one_bad_mailbox_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "bob").write_bytes(b"not a folder")
    (found,) = deliver(section(tmp_path), work("alice@here.test", "bob@here.test", "carol@here.test"))
    assert kinds(found) == "DdD"


def test_a_damaged_body_is_not_delivered(tmp_path: Path) -> None:
    text = b"x" * 300_000 + b"\r\n"
    one = work("alice@here.test", text=text, file=tmp_path / "x.eml")
    (tmp_path / "x.eml").write_bytes(text.replace(b"xx", b"xy", 1))
    (found,) = deliver(section(tmp_path / "mail"), one)
    assert "checksum" in found.damaged
    assert found.events == []
    assert files(tmp_path / "mail") == []


def test_a_body_that_is_gone_is_tried_again(tmp_path: Path) -> None:
    one = work("alice@here.test", text=b"x" * 300_000, file=tmp_path / "x.eml")
    os.unlink(tmp_path / "x.eml")
    (found,) = deliver(section(tmp_path / "mail"), one)
    assert kinds(found) == "d"
    assert files(tmp_path / "mail") == []


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    (tmp_path / "bob").write_bytes(b"not a folder")
    one = work("alice@here.test", "bob@here.test", '"../x"@here.test')
    deliver(section(tmp_path), one)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        deliver(section(tmp_path), one)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.root
def test_a_full_file_system(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", small], check=True)
    try:
        one = work("alice@here.test", text=b"x" * 200_000 + b"\r\n")
        (found,) = deliver(section(small), one)
        assert results(found)[0][1].startswith("452 4.3.1")
        assert files(small) == []
        assert kinds(deliver(section(small), work("alice@here.test"))[0]) == "D"
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_connector_that_is_gone(tmp_path: Path) -> None:
    async def play() -> None:
        phase = Mailbox({}, "x")
        assert not phase.ready(HOP)
        found: list[Outcome] = []
        phase.deliver(work("alice@here.test"), found.append, lambda *_: None)
        assert found[0].unavailable is not None
        assert "local" in found[0].unavailable.text
        await phase.close(0)

    asyncio.run(play())


def test_closing_waits_for_the_writers(tmp_path: Path) -> None:
    async def play() -> None:
        phase = Mailbox({"local": section(tmp_path)}, "mx.here.test")
        found: list[Outcome] = []
        for n in range(200):
            phase.deliver(work("alice@here.test", id=f"69212ad0-{n:08x}"), found.append, lambda *_: None)
        await phase.close(10)
        assert len(found) == 200
        assert {kinds(one) for one in found} == {"D"}

    asyncio.run(play())


def test_closing_without_patience_reports_everybody(tmp_path: Path) -> None:
    async def play() -> None:
        phase = Mailbox({"local": section(tmp_path)}, "mx.here.test")
        found: list[Outcome] = []
        for n in range(2000):
            phase.deliver(work("alice@here.test", id=f"69212ad0-{n:08x}"), found.append, lambda *_: None)
        await phase.close(0)
        await until(lambda: len(found) == 2000, "everybody is told")
        assert {kinds(one) for one in found} <= {"D", "d"}
        assert len(files(tmp_path)) == sum(kinds(one) == "D" for one in found)

    asyncio.run(play())
