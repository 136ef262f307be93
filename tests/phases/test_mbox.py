"""Copies in mbox files: locked as Debian has it, whole or not at all, once as far as that can be seen."""

import fcntl
import mailbox
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kmq.config.local_connector import Quota
from kmq.config.sections import ConnectorSection
from kmq.phases import mbox, mbox_lock, mbox_text
from kmq.phases.addressee import copy_text
from kmq.phases.mbox_text import FromQuoting, from_line, quoted
from kmq.phases.work import Work
from tests.phases.dying import dies_at
from tests.phases.mailboxes import ID, NAME, TEXT, TRACE, local, locally, work
from tests.phases.sending import kinds, results

HOST = "mx.here.test"
#: What changes something; to die before any other call is to die before one of these.
SYSTEM_CALLS = ("open", "write", "fsync", "link", "unlink")
FROM = b"From sender@kmq.test Sat Nov 22 03:15:28 2025\n"


def connector(root: Path, **options: Any) -> ConnectorSection:
    return local("mailbox", mbox=f"{root}/{{user}}", **options)


def copy_of(
    text: bytes = b"Subject: x\n\nhello\n.dot\nend\n", name: str = NAME, to: bytes = b"alice@here.test"
) -> bytes:
    """What one message becomes in the file."""
    rest = TRACE % (to, to) + text + b"\n"
    return FROM + b"X-kmq-Delivery: %b %d\n" % (name.encode(), len(rest)) + rest


# --- what goes well ---------------------------------------------------------------------------------------------------


def test_a_message_is_appended_with_its_from_line_and_an_empty_line(tmp_path: Path) -> None:
    (found,) = locally(connector(tmp_path), work("alice@here.test"))
    assert results(found) == {0: ("Delivered", "250 2.0.0 delivered to alice")}
    assert (tmp_path / "alice").read_bytes() == copy_of()
    assert os.listdir(tmp_path) == ["alice"], "no lock is left"
    locally(connector(tmp_path), work("alice@here.test", id="69212ad0-0000a1f4"))
    assert (tmp_path / "alice").read_bytes() == copy_of() + copy_of(name=f"69212ad0-0000a1f4.0.{HOST}")


def test_an_mbox_is_read_back_as_it_was_sent(tmp_path: Path) -> None:
    """By a reader that is not ours."""
    bodies = [b"one\n", b"From here\n>From there\n>>From\nfrom x\n From y\n", b"", b"no end", b"\n\n\n", b"From "]
    for n, body in enumerate(bodies):
        text = b"Received: x\r\nSubject: %d\r\n\r\n" % n + body.replace(b"\n", b"\r\n")
        locally(connector(tmp_path), work("alice@here.test", id=f"69212ad0-{n:08x}", text=text))
    box = mailbox.mbox(tmp_path / "alice")
    assert [message["Subject"] for message in box] == [str(n) for n in range(len(bodies))]
    raw = [box.get_bytes(key).partition(b"\n\n")[2] for key in range(len(bodies))]
    read = [
        b"\n".join(line[1:] if line.lstrip(b">")[:5] == b"From " else line for line in one.split(b"\n")) for one in raw
    ]
    assert read == [body if body[-1:] in (b"\n", b"") else body + b"\n" for body in bodies]


def test_a_large_message_is_read_twice_and_never_whole_in_memory(tmp_path: Path) -> None:
    text = b"Subject: x\r\n\r\n" + b"From a line of text\r\n" * 100_000
    (found,) = locally(connector(tmp_path / "mail"), work("alice@here.test", text=text, file=tmp_path / "x.eml"))
    assert kinds(found) == "D"
    expected = b"Subject: x\n\n" + b">From a line of text\n" * 100_000
    assert (tmp_path / "mail/alice").read_bytes() == copy_of(expected)


def test_messages_for_one_mailbox_share_its_lock(tmp_path: Path) -> None:
    works = [work("alice@here.test", f"u{n % 3}@here.test", id=f"69212ad0-{n:08x}") for n in range(100)]
    found = locally(connector(tmp_path), *works)
    assert {kinds(one) for one in found} == {"DD"}
    assert len(mailbox.mbox(tmp_path / "alice")) == 100
    assert sorted(len(mailbox.mbox(tmp_path / f"u{n}")) for n in range(3)) == [33, 33, 34]


def test_who_has_no_mbox_is_nobody_where_it_has_to_exist(tmp_path: Path) -> None:
    (tmp_path / "alice").write_bytes(b"")
    (found,) = locally(connector(tmp_path, users="existing"), work("alice@here.test", "bob@here.test", "postmaster@x"))
    assert kinds(found) == "DFD"
    (found,) = locally(connector(tmp_path / "away", users="existing"), work("alice@here.test"))
    assert kinds(found) == "d", "a file system that is not mounted must not bounce everybody's mail"


def test_an_mbox_has_a_quota(tmp_path: Path) -> None:
    room = connector(tmp_path, quota=Quota(len(copy_of()), 0))
    assert kinds(locally(room, work("alice@here.test"))[0]) == "D"
    (found,) = locally(room, work("alice@here.test", id="69212ad0-0000a1f4"))
    assert results(found)[0][1].startswith("452 4.2.2 the mailbox is full")
    large = work("alice@here.test", id="69212ad0-0000a1f4", text=TEXT + b"x" * 2000)
    (found,) = locally(connector(tmp_path, quota=Quota(1000, 0)), large)
    assert results(found)[0][1].startswith("552 5.2.3")
    assert (tmp_path / "alice").read_bytes() == copy_of()


# --- From_ lines ------------------------------------------------------------------------------------------------------


def test_the_from_line_is_one_line_whatever_the_sender_is() -> None:
    assert from_line("", 1763788563) == b"From MAILER-DAEMON Sat Nov 22 05:16:03 2025\n"
    assert from_line('"a b"@x.test', 0) == b'From "a-b"@x.test Thu Jan  1 00:00:00 1970\n'
    assert from_line("a\nFrom b\0@x", 0).count(b"\n") == 1
    assert len(from_line("x" * 5000, 0)) < 600


def test_lines_are_quoted_wherever_the_pieces_are_cut() -> None:
    text = b"From a\n>From b\nxFrom c\n>>>From d\nFrom\nFr\n>\n>F\nFrom e\n"
    expected = b">From a\n>>From b\nxFrom c\n>>>>From d\nFrom\nFr\n>\n>F\n>From e\n\n"
    for size in range(1, len(text) + 1):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        assert b"".join(quoted(iter(pieces))) == expected, size


def test_a_line_without_end_costs_no_memory() -> None:
    quoting = FromQuoting()
    for _ in range(200):
        assert len(quoting.feed(b">" * 131072)) == 131072
    assert quoting.feed(b"From x\n") == b">From x\n"


# --- the second run ---------------------------------------------------------------------------------------------------


def test_a_second_run_finds_the_first(tmp_path: Path) -> None:
    one, other = work("alice@here.test"), work("alice@here.test", id="69212ad0-0000a1f4")
    locally(connector(tmp_path), one)
    locally(connector(tmp_path), other)
    before = (tmp_path / "alice").read_bytes()
    for again in (one, other):
        (found,) = locally(connector(tmp_path), again)
        assert results(found)[0][1] == "250 2.0.0 delivered to alice (by an earlier attempt)"
    assert (tmp_path / "alice").read_bytes() == before


def test_nobody_can_write_that_a_message_was_delivered(tmp_path: Path) -> None:
    """IDs can be guessed: the text of another message must not be taken for a copy of this one."""
    forged = copy_of().replace(b"\n", b"\r\n")
    text = b"Received: x\r\nSubject: x\r\n\r\n\r\n" + forged + b"\r\n" + forged
    locally(connector(tmp_path), work("alice@here.test", id="69212ad0-00000001", text=text))
    (found,) = locally(connector(tmp_path), work("alice@here.test"))
    assert "earlier" not in results(found)[0][1]
    assert len(mailbox.mbox(tmp_path / "alice")) == 2


def test_what_lies_too_far_ahead_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mbox, "TAIL", 4096)
    one = work("alice@here.test")
    locally(connector(tmp_path), one, work("alice@here.test", id="69212ad0-00000001", text=TEXT + b"x" * 9000))
    (found,) = locally(connector(tmp_path), one)
    assert "earlier" not in results(found)[0][1], "the man page says so"


@pytest.mark.parametrize("large", [False, True])
def test_killed_at_any_call_there_is_one_whole_copy_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """The process dies before its n-th system call, for every n; then this message comes again, or another first."""
    monkeypatch.setattr(mbox, "SMALL", 2000)
    text = b"Subject: x\r\n\r\n" + b"From line\r\n" * (15_000 if large else 10)
    ours = copy_of(text.replace(b"\r\n", b"\n").replace(b"From ", b">From "))
    later = work("alice@here.test", id="69212ad0-0000a1f4")
    calls, died = 0, True
    while died:
        for first in (None, later):
            root = tmp_path / f"{calls}-{first is later}"
            root.mkdir()
            (root / "alice").write_bytes(b"From old\nSubject: old\n\nold\n\n")
            one = work("alice@here.test", text=text, file=tmp_path / "x.eml")
            died = dies_at(calls, SYSTEM_CALLS, partial(_deliver, root, one))
            for again in (first, one):
                assert again is None or kinds(locally(connector(root), again)[0]) == "D"
            found = (root / "alice").read_bytes()
            assert found.count(ours) == 1, calls
            rest = found.replace(ours, b"").removeprefix(b"From old\nSubject: old\n\nold\n\n")
            assert rest.strip(b"\n") == (copy_of(name=f"69212ad0-0000a1f4.0.{HOST}").strip(b"\n") if first else b"")
            assert os.listdir(root) == ["alice"]
        calls += 1
    assert calls > 10, "the calls were not counted"


def _deliver(root: Path, one: Work) -> None:
    letter = mbox.Letter(NAME, HOST, "sender@kmq.test", copy_text(one, 0), 0x69212AD0)
    mbox.deliver(str(root), ("alice",), True, [letter])


def test_what_another_program_wrote_behind_a_piece_stays(tmp_path: Path) -> None:
    piece = copy_of()[:-20]
    (tmp_path / "alice").write_bytes(piece + b"\n\nFrom other\nSubject: other\n\nother\n\n")
    (tmp_path / "alice.lock").write_text(f"{_dead()}\nkmq 0 {HOST}\n")
    (found,) = locally(connector(tmp_path), work("alice@here.test"))
    assert kinds(found) == "D"
    assert (tmp_path / "alice").read_bytes() == piece + b"\n\nFrom other\nSubject: other\n\nother\n\n" + copy_of()


def test_mail_that_a_reader_made_shorter_is_not_cut_off(tmp_path: Path) -> None:
    """It says that it is longer than it is, and stands last: for another message that means nothing."""
    shorter = copy_of()[:-20]
    (tmp_path / "alice").write_bytes(shorter)
    locally(connector(tmp_path), work("alice@here.test", id="69212ad0-0000a1f4"))
    assert (tmp_path / "alice").read_bytes().startswith(shorter + b"\n")


def _dead() -> int:
    """The number of a process that is no more."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


# --- locks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmq.phases.turns.PAUSE", 0.02)


def _held_by_another(path: Path) -> Iterator[None]:
    """A process of its own that has locked a file as other programs do; it lets go when the generator goes on."""
    code = "import fcntl, sys; fcntl.lockf(f := open(sys.argv[1], 'r+'), fcntl.LOCK_EX); print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None and process.stdin is not None
    process.stdout.readline()
    yield
    process.stdin.close()
    process.wait()
    process.stdout.close()


def test_a_file_that_another_program_has_locked_is_waited_for_and_then_the_mail_waits(
    tmp_path: Path, quick: None
) -> None:
    (tmp_path / "alice").write_bytes(b"")
    holder = _held_by_another(tmp_path / "alice")
    next(holder)
    found = locally(connector(tmp_path, lock_timeout=0.3), work("alice@here.test"), work("bob@here.test"))
    assert [kinds(one) for one in found] == ["d", "D"], "it holds up nobody else"
    assert results(found[0])[0][1] == "451 4.2.0 the mailbox is locked: another program has locked it (alice)"
    threading.Timer(0.3, lambda: next(holder, None)).start()
    (late,) = locally(connector(tmp_path, lock_timeout=30), work("alice@here.test"))
    assert kinds(late) == "D"


def test_a_lock_file_is_waited_for(tmp_path: Path, quick: None) -> None:
    lock = tmp_path / "alice.lock"
    lock.write_text("0\n")
    (found,) = locally(connector(tmp_path, lock_timeout=0.2), work("alice@here.test"))
    assert results(found)[0][1] == "451 4.2.0 the mailbox is locked: alice.lock is there (alice)"
    assert lock.read_text() == "0\n", "it is not ours to take away"
    threading.Timer(0.3, lock.unlink).start()
    assert kinds(locally(connector(tmp_path, lock_timeout=30), work("alice@here.test"))[0]) == "D"


@pytest.mark.parametrize("whose", ["other", "ours alive", "link"])
def test_a_lock_file_is_nobody_s_after_five_minutes(tmp_path: Path, quick: None, whose: str) -> None:
    lock = tmp_path / "alice.lock"
    said = {"other": "0\n", "ours alive": f"{os.getppid()}\nkmq 0 {HOST}\n", "link": ""}[whose]
    if whose == "link":
        lock.symlink_to(tmp_path / "nowhere")
    else:
        lock.write_text(said)
        os.utime(lock, (time.time() - mbox_lock.STALE - 5,) * 2)
    (found,) = locally(connector(tmp_path, lock_timeout=0.2), work("alice@here.test"))
    assert kinds(found) == ("d" if whose == "link" else "D")


def test_a_lock_of_ours_whose_process_lives_is_heeded(tmp_path: Path, quick: None) -> None:
    (tmp_path / "alice.lock").write_text(f"{os.getppid()}\nkmq 0 {HOST}\n")
    assert kinds(locally(connector(tmp_path, lock_timeout=0.2), work("alice@here.test"))[0]) == "d"
    (tmp_path / "alice.lock").write_text(f"{os.getppid()}\nkmq 0 elsewhere\n")
    assert kinds(locally(connector(tmp_path, lock_timeout=0.2), work("alice@here.test"))[0]) == "d"


def test_both_locks_are_held_while_something_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, str]] = []
    real = mbox.write_all

    def look(fd: int, text: bytes) -> None:
        code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        locked = subprocess.run([sys.executable, "-c", code, str(tmp_path / "alice")], stderr=subprocess.DEVNULL)
        seen.append((locked.returncode != 0, (tmp_path / "alice.lock").read_text()))
        real(fd, text)

    monkeypatch.setattr(mbox, "write_all", look)
    (tmp_path / "alice").write_bytes(b"From x\n\nold\n\n")
    locally(connector(tmp_path), work("alice@here.test"))
    assert seen == [(True, f"{os.getpid()}\nkmq 13 {HOST}\n")]


def test_our_lock_lets_other_programs_of_this_process_alone(tmp_path: Path) -> None:
    """fcntl locks of a process go with the first descriptor that it closes; ours belong to the open file."""
    path = tmp_path / "alice"
    path.write_bytes(b"")
    one, other = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    assert mbox_lock.hold_file(one)
    assert not mbox_lock.hold_file(other)
    os.close(other)
    with pytest.raises(BlockingIOError), path.open("r+") as third:
        fcntl.lockf(third, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(one)


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "hard link", "folder", "pipe"])
def test_what_is_no_file_of_its_own_is_not_written_to(tmp_path: Path, kind: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "mail" / "alice"
    victim.write_bytes(b"precious")
    path.parent.mkdir()
    {
        "link": lambda: path.symlink_to(victim),
        "hard link": lambda: path.hardlink_to(victim),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
    }[kind]()
    (found,) = locally(connector(tmp_path / "mail"), work("alice@here.test"))
    assert results(found)[0][1].startswith("451 4.3.")
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("call", ["write", "fsync", "link"])
def test_what_fails_half_way_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    before = copy_of(name="69212ad0-00000000.0.mx.here.test")
    (tmp_path / "alice").write_bytes(before)
    real, write = getattr(os, call), os.write

    def fails(fd: Any, *arguments: Any, **more: Any) -> Any:
        if call == "link" or not os.readlink(f"/proc/self/fd/{fd}").endswith("/alice"):
            if call != "link":
                return real(fd, *arguments, **more)
        elif call == "write":
            write(fd, arguments[0][:17])
        raise OSError(28, "No space left on device")

    one = work("alice@here.test")
    with monkeypatch.context() as patched:
        patched.setattr(os, call, fails)
        (found,) = locally(connector(tmp_path), one)
    assert results(found)[0][1] == "452 4.3.1 the mail system is full: No space left on device (alice)"
    assert (tmp_path / "alice").read_bytes() == before
    assert os.listdir(tmp_path) == ["alice"]
    assert kinds(locally(connector(tmp_path), one)[0]) == "D"


@pytest.mark.root
def test_a_full_file_system(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", small], check=True)
    try:
        locally(connector(small), work("alice@here.test"))
        large = work("alice@here.test", id="69212ad0-0000a1f4", text=b"x" * 200_000 + b"\r\n")
        (found,) = locally(connector(small), large)
        assert results(found)[0][1].startswith("452 4.3.1")
        assert (small / "alice").read_bytes() == copy_of()
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_damaged_body_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mbox, "SMALL", 2000)
    text = b"x" * 300_000 + b"\r\n"
    one = work("alice@here.test", text=text, file=tmp_path / "x.eml")
    (tmp_path / "x.eml").write_bytes(text.replace(b"xx", b"xy", 1))
    (found,) = locally(connector(tmp_path / "mail"), one)
    assert "checksum" in found.damaged
    assert (tmp_path / "mail/alice").read_bytes() == b""


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    (tmp_path / "bob").mkdir()
    one = work("alice@here.test", "bob@here.test", '"../x"@here.test')
    assert kinds(locally(connector(tmp_path), one)[0]) == "DdF"
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        locally(connector(tmp_path), one)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_copy_says_how_long_it_is(tmp_path: Path) -> None:
    locally(connector(tmp_path), work("alice@here.test"))
    text = (tmp_path / "alice").read_bytes()
    (found,) = mbox_text.found_in(text, 0)
    assert found == (NAME.encode(), 0, len(text))
    assert ID in NAME
