"""Files of aliases and users: read again when they change, and what was good stays good."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq import log
from kmq.routing import users, watched
from kmq.routing.table import Routes
from kmq.routing.users import listed_users, machine_users
from kmq.routing.watched import Content, Watched
from tests.routing.serving import fate, routes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator["Clock"]:
    yield Clock(monkeypatch)


class Clock:
    """Time goes on when the test says so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.looks = 0
        patch.setattr(watched.time, "monotonic", lambda: self.now)
        real = os.stat

        def stat(*given: object, **more: object) -> os.stat_result:
            self.looks += 1
            return real(*given, **more)  # type: ignore[arg-type]

        patch.setattr(watched.os, "stat", stat)

    def later(self) -> None:
        self.now += 1.1


def write(path: Path, text: str, settled: bool = True) -> None:
    path.write_text(text)
    if settled:
        past = time.time() - 60 + write.count
        write.count += 1
        os.utime(path, (past, past))


write.count = 0  # type: ignore[attr-defined]


def code(made: Routes, address: str) -> str:
    reply = made.accepts(address)
    return str(reply)[:9] if reply else "250"


def test_a_change_counts_within_a_second_or_two(tmp_path: Path, clock: Clock) -> None:
    made = routes(tmp_path, "info: ada\n")
    assert code(made, "info@a.example") == "250"
    assert code(made, "sales@a.example") == "550 5.1.1"
    write(tmp_path / "aliases", "sales: bob\n")
    assert code(made, "sales@a.example") == "550 5.1.1"
    clock.later()
    assert code(made, "sales@a.example") == "250"
    assert code(made, "info@a.example") == "550 5.1.1"
    assert fate(made, "sales@b.example") == ["bob@b.example"]


def test_a_thousand_questions_are_one_look(tmp_path: Path, clock: Clock) -> None:
    made = routes(tmp_path, "info: ada\n", users="file:users")
    write(tmp_path / "users", "ada\n")
    for number in range(1000):
        code(made, f"x{number}@a.example")
    assert clock.looks == 2
    clock.later()
    code(made, "ada@a.example")
    assert clock.looks == 4


def test_half_a_file_is_not_taken(tmp_path: Path, clock: Clock) -> None:
    made = routes(tmp_path, "info: ada\nsales: bob\n")
    assert code(made, "sales@a.example") == "250"
    clock.later()
    write(tmp_path / "aliases", "info: ada\n", settled=False)  # its writer has not come further yet
    assert code(made, "sales@a.example") == "250"
    write(tmp_path / "aliases", "info: ada\n")
    clock.later()
    assert code(made, "sales@a.example") == "550 5.1.1"


BREAKS = {
    "gone": lambda path: path.unlink(),
    "no line": lambda path: write(path, "info: ada\nthis is none\n"),
    "not text": lambda path: (path.write_bytes(b"info: \xff\n"), os.utime(path, (1, 1))),
    "a folder": lambda path: (path.unlink(), path.mkdir(), os.utime(path, (1, 1))),
    "a fifo": lambda path: (path.unlink(), os.mkfifo(path), os.utime(path, (1, 1))),
    "too large": lambda path: write(path, "#" * 9_000_000),
}


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("name", ["aliases", "users"])
def test_what_was_good_stays_good(
    tmp_path: Path, clock: Clock, name: str, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log.start("test")
    write(tmp_path / "users", "ada\n")
    made = routes(tmp_path, "info: ada\n", users="file:users")
    assert [code(made, f"{who}@a.example") for who in ("info", "ada", "zoe")] == ["250", "250", "550 5.1.1"]
    log.flush()
    capfd.readouterr()
    BREAKS[how](tmp_path / name)
    for _ in range(3):
        clock.later()
        assert [code(made, f"{who}@a.example") for who in ("info", "ada", "zoe")] == ["250", "250", "550 5.1.1"]
        assert fate(made, "info@a.example") == ["ada@a.example"]
    log.flush()
    told = [line for line in capfd.readouterr().err.splitlines() if "not as it should be" in line]
    assert len(told) == 1, "one line, however often it is looked at"
    assert f"file={tmp_path}/{name}" in told[0]


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("name", ["aliases", "users"])
def test_a_file_that_was_never_good_refuses_nobody_for_good(tmp_path: Path, clock: Clock, name: str, how: str) -> None:
    write(tmp_path / "users", "ada\n")
    write(tmp_path / "aliases", "info: ada\n")
    BREAKS[how](tmp_path / name)
    made = routes(tmp_path, None, users="file:users")
    assert code(made, "zoe@a.example") == "451 4.3.0"
    assert str(fate(made, "zoe@a.example")).startswith("451 4.3.0")
    assert code(made, "postmaster@a.example") == "250"
    if name == "users":
        assert code(made, "info@a.example") == "250", "an alias is one, whoever has a mailbox"
        return
    assert code(made, "ada@a.example") == "250"
    path = tmp_path / name
    path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    write(path, "info: ada\n")
    clock.later()
    assert code(made, "zoe@a.example") == "550 5.1.1"
    assert code(made, "info@a.example") == "250"


def test_of_two_files_the_first_counts(tmp_path: Path) -> None:
    (tmp_path / "second").write_text("info: bob\nsales: bob\n")
    made = routes(tmp_path, "info: ada\n", kmq="")
    text = (tmp_path / "aliases").as_posix()
    from kmq.config import read

    whole = f"[kmq]\nlocal_domains = a.example\nalias_files = {text}, second\n"
    whole += "[m : connector]\ntype = mailbox\nmaildir = m/{user}\nusers = ada, bob\n"
    made = Routes(read(whole, "kmq.conf", str(tmp_path), "mx"))
    assert fate(made, "info@a.example") == ["ada@a.example"]
    assert fate(made, "sales@a.example") == ["bob@a.example"]


def test_a_name_with_a_domain_goes_before_a_name_and_catch_all_behind_mailboxes(tmp_path: Path) -> None:
    made = routes(tmp_path, "info: ada\ninfo@b.example: bob\n@b.example: carl\n")
    assert fate(made, "info@a.example") == ["ada@a.example"]
    assert fate(made, "info@b.example") == ["bob@b.example"]
    assert fate(made, "info+x@b.example") == ["bob@b.example"]
    assert fate(made, "zoe@b.example") == ["carl@b.example"]
    assert fate(made, "ada@b.example") == "boxes b.example"
    assert fate(made, "zoe@a.example") == "550 5.1.1 No such user here"


# --- users ------------------------------------------------------------------------------------------------------------

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
Ada:x:1000:1000:Ada,,,:/home/ada:/bin/bash
bob:x:1001:1001::/home/bob:
robot:x:1002:1002::/home/robot:/bin/false
service:x:999:999::/srv:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
../evil:x:1003:1003::/:/bin/sh
+@nis:::::
half:x:1004
"""


def test_the_machines_users_are_who_may_log_in_and_root() -> None:
    assert machine_users(PASSWD) == Content(frozenset({"root", "ada", "bob"}))
    assert machine_users("").broken


def test_a_file_of_users_has_names_and_addresses() -> None:
    text = "# who\nAda\n bob@B.example \n\nx@bücher.example\n"
    assert listed_users(text) == Content(frozenset({"ada", "bob@b.example", "x@xn--bcher-kva.example"}))
    assert listed_users("ada\n../evil\n").broken.startswith("line 2: '../evil' is no user")


def test_users_of_the_machine_and_of_a_file_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    (tmp_path / "passwd").write_text(PASSWD)
    monkeypatch.setattr("kmq.routing.mailboxes.PASSWD", str(tmp_path / "passwd"))
    made = routes(tmp_path, users="passwd")
    assert {who: code(made, f"{who}@b.example") for who in ("root", "ADA", "bob+x", "robot", "service", "evil")} == {
        "root": "250",
        "ADA": "250",
        "bob+x": "250",
        "robot": "550 5.1.1",
        "service": "550 5.1.1",
        "evil": "550 5.1.1",
    }
    assert fate(made, "root@a.example") == "boxes a.example"
    assert fate(made, "robot@a.example") == "550 5.1.1 No such user here"
    (tmp_path / "users").write_text("ada\nbob@b.example\n")
    made = routes(tmp_path, users="file:users")
    assert [code(made, who) for who in ("ada@a.example", "ada@b.example", "bob@b.example", "bob@a.example")] == [
        "250",
        "250",
        "250",
        "550 5.1.1",
    ]
    assert users.PASSWD == "/etc/passwd"


def test_a_watched_file_counts_its_changes(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "file"
    file = Watched(str(path), lambda text: Content(text), "")
    assert (file.current(), file.whole, file.changes) == ("", False, 0)
    write(path, "one")
    clock.later()
    assert (file.current(), file.whole, file.changes) == ("one", True, 1)
    clock.later()
    assert (file.current(), file.changes) == ("one", 1)
