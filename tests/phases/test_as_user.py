"""Delivery as the user, kmqd's side: what kmq-deliver is asked, and what becomes of mail whatever it answers."""

import asyncio
import fcntl
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kmq.config.sections import ConnectorSection
from kmq.phases import as_user
from kmq.phases.as_user import AsUser
from kmq.phases.work import Outcome
from tests.phases.mailboxes import ID, NAME, TEXT, TRACE, local, locally, work
from tests.phases.sending import LOOPS, kinds, results

#: What a program that stands for kmq-deliver does with a request: its line, its words, its file.
Answering = Callable[[str, dict[str, Any], int], bytes]


@contextmanager
def standing_in(path: Path, answering: Answering) -> Iterator[list[str]]:
    """One that listens, and gathers the first lines of what it is asked."""
    asked: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(100)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        def one(connection: socket.socket) -> None:
            with connection:
                text, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, 4)
                line, _, words = text.partition(b"\n")
                asked.append(line.decode())
                (body,) = descriptors
                said = answering(line.decode(), json.loads(words), body)
                os.close(body)
                try:
                    connection.send(said) if said else None
                except OSError:
                    pass  # nobody listens any more

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def home(folder: Path, kind: str = "maildir", **options: Any) -> ConnectorSection:
    of = "pipe" if kind == "command" else "mailbox"
    return local(of, as_user=kind, deliver_socket=str(folder / "s"), **options)


def saying(line: bytes) -> Answering:
    return lambda *_: line


def reply_to(folder: Path, answering: Answering, **options: Any) -> tuple[str, str]:
    with standing_in(folder / "s", answering):
        (found,) = locally(home(folder, **options), work("alice@here.test"))
    (result,) = results(found).values()
    return result


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_a_mailbox_is_asked_for_by_the_user_s_name(tmp_path: Path) -> None:
    told: list[tuple[dict[str, Any], bytes, int, int]] = []

    def answering(line: str, words: dict[str, Any], body: int) -> bytes:
        mode = fcntl.fcntl(body, fcntl.F_GETFL) & os.O_ACCMODE
        told.append((words, os.pread(body, 1000, 0), mode, os.fstat(body).st_nlink))
        assert stat.S_ISREG(os.fstat(body).st_mode)
        return b"250 2.0.0 delivered to alice/Maildir/new/x"

    options = {"create_folders": True, "sizes_in_names": True, "quota": (1000, 5), "lock_timeout": 7.0}
    with standing_in(tmp_path / "s", answering) as asked:
        (found,) = locally(home(tmp_path, **options), work("Alice+Lists@here.test"))
    assert results(found) == {0: ("Delivered", "250 2.0.0 delivered to alice/Maildir/new/x")}
    assert asked == ["1 alice maildir 7"]
    ((words, text, mode, links),) = told
    assert text == TRACE % ((b"Alice+Lists@here.test",) * 2) + TEXT.replace(b"\r\n", b"\n")
    assert (mode, links) == (os.O_RDONLY, 0), "nobody else can reach it, and who has it cannot change it"
    assert (words["name"], words["extension"], words["limits"]) == (NAME, "Lists", [1000, 5, False])
    assert words["create_folder"] and words["sized"]
    assert not [word for word in words if "path" in word or "home" in word]


def test_a_command_is_asked_for_by_its_name(tmp_path: Path) -> None:
    told: list[tuple[dict[str, Any], bytes]] = []

    def answering(line: str, words: dict[str, Any], body: int) -> bytes:
        told.append((words, os.pread(body, 1000, 0)))
        return b"550 5.1.1 procmail: user unknown"

    connector = home(tmp_path, "command", deliver_command="procmail", from_line=True, time_limit=90.0)
    with standing_in(tmp_path / "s", answering) as asked:
        (found,) = locally(connector, work("alice+x@here.test"))
    assert results(found) == {0: ("Failed", "550 5.1.1 procmail: user unknown")}
    assert asked == ["1 alice command 90"]
    ((words, text),) = told
    assert text.startswith(b"From sender@kmq.test ")
    expected = {"command": "procmail", "recipient": "alice+x@here.test", "sender": "sender@kmq.test", "id": ID}
    assert {name: words[name] for name in expected} == expected


def test_each_recipient_is_asked_for_and_a_user_once_at_a_time(tmp_path: Path) -> None:
    lock = threading.Lock()
    now: dict[str, int] = {}
    most: dict[str, int] = {}

    def answering(line: str, words: dict[str, Any], body: int) -> bytes:
        user = line.split()[1]
        with lock:
            now[user] = now.get(user, 0) + 1
            most[user] = max(most.get(user, 0), now[user])
        time.sleep(0.01)
        with lock:
            now[user] -= 1
        return b"450 4.2.0 later" if user == "bob" else b"250 2.0.0 ok"

    to = [f"{user}+{number}@here.test" for number in range(5) for user in ("alice", "bob")]
    with standing_in(tmp_path / "s", answering) as asked:
        (found,) = locally(home(tmp_path), work(*to))
    assert kinds(found) == "Dd" * 5
    assert len(asked) == 10
    assert most == {"alice": 1, "bob": 1}


def test_who_is_nobody_is_not_asked_for(tmp_path: Path) -> None:
    with standing_in(tmp_path / "s", saying(b"250 2.0.0 ok")) as asked:
        (found,) = locally(
            home(tmp_path, users=("alice",)), work("alice@here.test", "eve@here.test", '"a b"@here.test')
        )
    assert asked == ["1 alice maildir 30"]
    assert results(found)[1][0] == results(found)[2][0] == "Failed"


# --- what is answered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        (b"", "Deferred", "451 4.3.0 kmq-deliver gave no answer"),
        (b"nonsense", "Deferred", "451 4.5.0 not an SMTP reply: 'nonsense'"),
        (b"250", "Delivered", "250 "),
        (b"\xff\x00\r\n", "Deferred", "451 4.5.0 not an SMTP reply"),
        (
            b"451 4.3.5 kmq-deliver: uid 5 is not heard here",
            "Deferred",
            "451 4.3.5 kmq-deliver: uid 5 is not heard here",
        ),
        (b"552 5.2.2 full\r\nX: y", "Failed", "552 5.2.2 full\\r\\nX: y"),
        (b"250 2.0.0 " + b"x" * 100_000, "Delivered", "250 2.0.0 xxx"),
    ],
)
def test_what_is_no_answer_is_temporary(tmp_path: Path, said: bytes, kind: str, told: str) -> None:
    found, text = reply_to(tmp_path, saying(said))
    assert found == kind
    assert text.startswith(told) and len(text) < 5000 and text.isprintable()


def test_where_nobody_listens_mail_waits(tmp_path: Path) -> None:
    (found,) = locally(home(tmp_path), work("alice@here.test"))
    path = tmp_path / "s"
    assert results(found) == {
        0: ("Deferred", f"451 4.3.0 kmq-deliver cannot be reached at {path}: No such file or directory")
    }
    path.write_text("no socket")
    assert "cannot be reached" in results(locally(home(tmp_path), work("alice@here.test"))[0])[0][1]


def test_one_that_closes_on_us_is_read_to_the_end(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(5)

        def refuse() -> None:
            connection, _ = listener.accept()
            connection.send(b"451 4.3.5 kmq-deliver: uid 997 is not heard here")
            connection.close()

        thread = threading.Thread(target=refuse)
        thread.start()
        (found,) = locally(home(tmp_path), work("alice@here.test"))
        thread.join()
    assert results(found) == {0: ("Deferred", "451 4.3.5 kmq-deliver: uid 997 is not heard here")}


def test_one_that_never_answers_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_user, "GRACE", 0.0)
    monkeypatch.setattr(as_user, "_LOOK", 0.05)
    gone = threading.Event()

    def silent(*_: object) -> bytes:
        gone.wait(60)
        return b""

    found = reply_to(tmp_path, silent, lock_timeout=1.0)
    gone.set()
    assert found == ("Deferred", "451 4.4.2 kmq-deliver has not answered for 1 s")


def test_a_body_that_is_damaged_is_not_handed_over(tmp_path: Path) -> None:
    one = work("alice@here.test", file=tmp_path / "x.eml")
    (tmp_path / "x.eml").write_bytes(TEXT[:-1] + b"?")
    with standing_in(tmp_path / "s", saying(b"250 2.0.0 ok")) as asked:
        (found,) = locally(home(tmp_path), one)
    assert "checksum" in found.damaged
    assert asked == []


def test_a_stop_leaves_what_has_no_answer_to_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_user, "_LOOK", 0.05)
    gone, begun = threading.Event(), threading.Event()

    def silent(*_: object) -> bytes:
        begun.set()
        gone.wait(60)
        return b""

    async def play() -> Outcome:
        phase = AsUser({"local": home(tmp_path)}, "mx.here.test")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        phase.deliver(work("alice@here.test", "alice+2@here.test"), future.set_result, lambda *_: None)
        while not begun.is_set():
            await asyncio.sleep(0.01)
        await phase.close(0.1)
        async with asyncio.timeout(30):
            return await future

    with standing_in(tmp_path / "s", silent):
        found = LOOPS["uvloop"](play())
        gone.set()
    assert {text for _, text in results(found).values()} == {"421 4.3.2 kmq is stopping"}
