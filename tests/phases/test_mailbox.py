"""Local delivery: copies in Maildirs, once and whole, whatever happens in between."""

import asyncio
import errno
import os
import stat
import subprocess
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from kmq.config.sections import ConnectorSection
from kmq.model.envelope import Head, Recipient
from kmq.model.hop import DeliveryType, NextHop
from kmq.phases import maildir
from kmq.phases.mailbox import Mailbox, copy_for, header, place
from kmq.phases.work import Body, Outcome, Work
from tests.phases.sending import LOOPS, kinds, results, until

HOP = NextHop(DeliveryType.MAILBOX, "here.test", "local")
ID = "69212ad0-0000a1f3"
TEXT = b"Subject: x\r\n\r\nhello\r\n.dot\r\nend\r\n"
TRACE = b"Return-Path: <sender@kmq.test>\nDelivered-To: %b\nX-Original-To: %b\n"


def section(root: Path, users: str | tuple[str, ...] = "*", template: str = "{user}") -> ConnectorSection:
    return ConnectorSection(name="local", type="mailbox", helo="", maildir=f"{root}/{template}", users=users)


def work(*to: str, text: bytes = TEXT, file: Path | None = None, **more: Any) -> Work:
    head = Head(
        id=more.pop("id", ID),
        sha256=sha256(text).hexdigest(),
        created="2026-11-22T05:50:11.123Z",
        sender=more.pop("sender", "sender@kmq.test"),
        recipients=[Recipient(address) for address in to],
        size=len(text),
        **more,
    )
    if file is not None:
        file.write_bytes(text)
    return Work(head, Body(None if file else text, str(file or ""), len(text)), tuple(range(len(to))), HOP, 1)


def deliver(connector: ConnectorSection, *works: Work) -> list[Outcome]:
    """All of them at once, with a Mailbox of its own, as a worker that was started anew has one."""

    async def play() -> list[Outcome]:
        phase = Mailbox({"local": connector}, "mx.here.test")
        assert phase.ready(HOP)
        futures = []
        for one in works:
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            phase.deliver(one, future.set_result, lambda *_: None)
            futures.append(future)
        async with asyncio.timeout(20):
            found = await asyncio.gather(*futures)
        await phase.close(1)
        return list(found)

    return list(LOOPS["uvloop"](play()))


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() or path.is_symlink())


NAME = f"{ID}.0.mx.here.test"


# --- what goes well ---------------------------------------------------------------------------------------------------


def test_a_message_becomes_a_file(tmp_path: Path) -> None:
    (found,) = deliver(section(tmp_path), work("alice@here.test"))
    assert results(found) == {0: ("Delivered", f"250 2.0.0 delivered to alice/new/{NAME}")}
    assert files(tmp_path) == [f"alice/new/{NAME}"]
    path = tmp_path / "alice/new" / NAME
    trace = TRACE % (b"alice@here.test", b"alice@here.test")
    assert path.read_bytes() == trace + b"Subject: x\n\nhello\n.dot\nend\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_nlink == 1
    for folder in ("", "new", "cur", "tmp"):
        assert stat.S_IMODE((tmp_path / "alice" / folder).stat().st_mode) == 0o700


def test_every_recipient_has_a_copy(tmp_path: Path) -> None:
    (found,) = deliver(section(tmp_path), work("alice@here.test", "bob@here.test", "alice+lists@here.test"))
    assert kinds(found) == "DDD"
    host = "mx.here.test"
    assert files(tmp_path) == [f"alice/new/{ID}.0.{host}", f"alice/new/{ID}.2.{host}", f"bob/new/{ID}.1.{host}"]
    assert b"Delivered-To: alice+lists@here.test\n" in (tmp_path / f"alice/new/{ID}.2.{host}").read_bytes()


def test_only_the_recipients_of_the_work_are_served(tmp_path: Path) -> None:
    one = work("alice@here.test", "bob@here.test", "carol@here.test")
    (found,) = deliver(section(tmp_path), Work(one.head, one.body, (1,), HOP, 1))
    assert list(results(found)) == [1]
    assert files(tmp_path) == [f"bob/new/{ID}.1.mx.here.test"]


def test_a_large_message_comes_in_pieces(tmp_path: Path) -> None:
    text = b"Subject: x\r\n\r\n" + b"a line of text\r\n\r\n.\r\n" * 60_000
    (found,) = deliver(section(tmp_path / "mail"), work("alice@here.test", text=text, file=tmp_path / "x.eml"))
    assert kinds(found) == "D"
    written = (tmp_path / "mail/alice/new" / NAME).read_bytes()
    assert written == TRACE % ((b"alice@here.test",) * 2) + text.replace(b"\r\n", b"\n")


def test_many_messages_share_the_writers(tmp_path: Path) -> None:
    works = [work(f"u{n % 7}@here.test", id=f"69212ad0-{n:08x}") for n in range(300)]
    found = deliver(section(tmp_path), *works)
    assert Counter(map(kinds, found)) == {"D": 300}
    assert len(files(tmp_path)) == 300


def test_templates_have_a_root(tmp_path: Path) -> None:
    (found,) = deliver(section(tmp_path, template="{domain}/{user}/Maildir"), work("alice@here.test"))
    assert kinds(found) == "D"
    assert files(tmp_path) == [f"here.test/alice/Maildir/new/{NAME}"]
    assert place("/var/mail/{user}/Maildir", "alice", "x") == ("/var/mail", ("alice", "Maildir"))
    assert place("/var/mail/x-{domain}/{user}", "alice", "d") == ("/var/mail", ("x-d", "alice"))


def test_what_stands_on_top() -> None:
    head = work("alice@here.test", sender="").head
    original = Recipient("alice@here.test", orcpt="rfc822;Alice+2BX@elsewhere.test")
    assert header(head, original) == (
        b"Return-Path: <>\nDelivered-To: alice@here.test\nX-Original-To: Alice+X@elsewhere.test\n"
    )
    for evil in ("rfc822;a+0Ab@x.test", "rfc822;a+0D+0ASubject:+20x@y", "rfc822;+ZZ@x", "rfc822;+", "x;y", "rfc822"):
        lines = header(head, Recipient("alice@here.test", orcpt=evil)).split(b"\n")
        assert lines[2:] == [b"X-Original-To: alice@here.test", b""], evil
    edited = work("alice@here.test", sender="a\nX-Evil: 1@b").head
    assert header(edited, Recipient("a\nb@c")) == (
        b"Return-Path: <unknown>\nDelivered-To: unknown\nX-Original-To: unknown\n"
    )


# --- who has a mailbox ------------------------------------------------------------------------------------------------


def test_only_listed_users(tmp_path: Path) -> None:
    (found,) = deliver(section(tmp_path, ("alice",)), work("alice@here.test", "bob@here.test", "PostMaster@here.test"))
    assert kinds(found) == "DFD"
    assert results(found)[1][1].startswith("550 5.1.1")
    assert not (tmp_path / "bob").exists()


def test_only_existing_users(tmp_path: Path) -> None:
    (tmp_path / "alice").mkdir()
    (found,) = deliver(section(tmp_path, "existing"), work("alice@here.test", "bob@here.test", "postmaster"))
    assert kinds(found) == "DFD"
    assert not (tmp_path / "bob").exists()


def test_a_root_that_is_away_makes_nobody_unknown(tmp_path: Path) -> None:
    """A file system that is not mounted must not bounce everybody's mail."""
    (found,) = deliver(section(tmp_path / "mail", "existing"), work("alice@here.test"))
    assert kinds(found) == "d"


EVIL_USERS = [
    '"../alice"@here.test', '".."@here.test', '"."@here.test', '"a/b"@here.test', '"/etc"@here.test', '""@here.test',
    ".hidden@here.test", "a\0b@here.test", "%2e%2e@here.test", '"a\nb"@here.test', "x" * 300 + "@here.test",
    "+tag@here.test", '"..+x"@here.test', "{domain}@here.test", "\udcff@here.test",
]  # fmt: skip


@pytest.mark.parametrize("address", EVIL_USERS)
def test_no_user_leaves_the_root(tmp_path: Path, address: str) -> None:
    root = tmp_path / "deep" / "mail"
    root.mkdir(parents=True)
    (found,) = deliver(section(root), work(address))
    if kinds(found) == "D":
        assert len([path for path in root.iterdir() if path.name[0] != "."]) == 1
    else:
        assert results(found)[0][1].startswith("550 5.1.1")
        assert list(root.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["mail"]


@pytest.mark.parametrize("domain", ["..", ".", "", "a/b", "a\0b"])
def test_no_domain_leaves_the_root(tmp_path: Path, domain: str) -> None:
    one = work("alice@here.test")
    elsewhere = NextHop(DeliveryType.MAILBOX, domain, "local")
    (found,) = deliver(section(tmp_path, template="{domain}/{user}"), Work(one.head, one.body, (0,), elsewhere, 1))
    assert kinds(found) == "F"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", ["", "new", "cur", "tmp"])
def test_links_are_not_followed(tmp_path: Path, link: str) -> None:
    """Row 67: whoever can make a link in a mailbox must not choose where kmq writes."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    mailbox = tmp_path / "mail" / "alice"
    (tmp_path / "mail").mkdir()
    if link:
        mailbox.mkdir()
    (mailbox / link if link else mailbox).symlink_to(elsewhere)
    (found,) = deliver(section(tmp_path / "mail"), work("alice@here.test"))
    ((kind, reply),) = results(found).values()
    assert (kind, reply[:9]) == ("Deferred", "451 4.3.5")
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_place_of_the_file_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "mail/alice/tmp").mkdir(parents=True)
    (tmp_path / "mail/alice/tmp" / NAME).symlink_to(victim)
    (found,) = deliver(section(tmp_path / "mail"), work("alice@here.test"))
    assert kinds(found) == "D"
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "mail/alice/new" / NAME).is_symlink()


def test_a_host_name_is_one_component(tmp_path: Path) -> None:
    async def play() -> None:
        phase = Mailbox({"local": section(tmp_path)}, "a/b:c")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        phase.deliver(work("alice@here.test"), future.set_result, lambda *_: None)
        assert kinds(await future) == "D"
        await phase.close(1)

    asyncio.run(play())
    assert files(tmp_path) == [f"alice/new/{ID}.0.a\\057b\\072c"]


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
        died = _dies_at(calls, root, one)
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


def _dies_at(calls: int, root: Path, one: Work) -> bool:
    """Runs the delivery in a child that dies before a system call; False when it came to its end."""
    pid = os.fork()
    if pid == 0:
        left = calls

        def counted(name: str) -> Any:
            real = getattr(os, name)

            def call(*arguments: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return real(*arguments, **more)

            return call

        try:
            for name in SYSTEM_CALLS:
                setattr(os, name, counted(name))
            maildir.deliver(_copies(root, one))
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), "the child did something else"
    return code == 9


def _copies(root: Path, one: Work) -> list[maildir.Copy]:
    made = [copy_for(one, index, section(root), "mx.here.test") for index in one.rcpt]
    return [copy for copy in made if isinstance(copy, maildir.Copy)]


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
