"""check, config, fsck: what is wrong is found, said with its remedy, and told by the exit status."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.admin import check
from kmq.cli.parser import VERBS
from kmq.config import load
from kmq.errors import SpoolError
from kmq.run import ground
from kmq.run.family import lock_kmqd
from kmq.spool.disk import Disk
from kmq.spool.layout import prepare
from kmq.spool.lock import SpoolLock
from kmq.spool.status import StatusFile
from tests.cli.conftest import Place
from tests.mailbag import Mailbag
from tests.waiting import free_port


@pytest.fixture
def whole(place: Place) -> Place:
    """A spool as kmqd makes it, and a port that is free."""
    prepare(Disk(place.spool))
    place.configure(port=free_port())
    return place


def test_all_is_well(whole: Place) -> None:
    status, out, err = whole.run("check")
    assert (status, err) == (0, "")
    assert "WRONG" not in out
    assert f"OK     configuration {whole.path}" in out
    assert f"OK     spool {whole.spool}" in out
    assert "MiB are free" in out
    assert ": free" in out
    assert "no kmqd runs on this spool" in out


def test_a_spool_that_is_missing_is_made_with_the_command_that_kmqd_names(place: Place) -> None:
    place.path.write_text(place.path.read_text().replace("spool = spool", "spool = a/spool"))
    place.path.write_text(place.path.read_text().replace("2525", str(free_port())))
    status, out, _ = place.run("check")
    assert status == 78
    root = load(str(place.path)).kmq.spool
    with pytest.raises(SpoolError) as refused:
        ground.enter(load(str(place.path)))
    what, remedy = str(refused.value).split("; ")
    assert what == f"{root} is missing"
    assert f"WRONG  spool {what}\n       {remedy}\n" in out


def test_a_wrong_configuration_is_all_that_is_said(whole: Place) -> None:
    whole.path.write_text(whole.path.read_text().replace("hostname", "hostnam"))
    status, out, err = whole.run("check")
    assert (status, out) == (78, "")
    assert f"{whole.path}:2" in err


def test_a_certificate_that_cannot_be_used_is_wrong(whole: Place) -> None:
    tls = "tls_certificate = chain.pem\ntls_key = key.pem\n\n[isp"
    whole.path.write_text(whole.path.read_text().replace("\n[isp", tls))
    status, out, _ = whole.run("check")
    assert status == 78
    assert f"WRONG  {whole.path}:8: [mx : receiver] tls_certificate = {whole.path.parent}/chain.pem is not there" in out
    assert "leave both TLS options out" in out


def test_doubts_of_the_configuration_are_notes(whole: Place) -> None:
    whole.path.write_text(whole.path.read_text().replace("hosts = smtp.isp.example:587", "hosts ="))
    status, out, _ = whole.run("check")
    assert status == 0
    assert "note " in out
    assert "hosts is not filled in yet" in out


@pytest.mark.parametrize(
    ("break_it", "says", "remedy"),
    [
        (lambda spool: os.chmod(spool, 0o777), "can be written by everybody", "chmod o-w"),
        (
            lambda spool: (spool.rename(spool.with_name("real")), spool.symlink_to(spool.with_name("real"))),
            "is a symbolic link",
            "as spool into the configuration",
        ),
        (
            lambda spool: (spool.rename(spool.with_name("real")), spool.write_text("")),
            "is not a folder",
            "move it away",
        ),
        (
            lambda spool: ((spool / "journal").rmdir(), (spool / "journal").symlink_to("/tmp")),
            "journal is not a folder",
            "move it away",
        ),
    ],
    ids=["mode", "link", "file", "journal"],
)
def test_a_spool_that_cannot_be_used(whole: Place, break_it: object, says: str, remedy: str) -> None:
    break_it(whole.spool)  # type: ignore[operator]
    status, out, err = whole.run("check")
    assert status == 78
    assert "WRONG" in out
    assert says in out
    assert remedy in out
    assert err == "kmq: 1 wrong: kmqd would not start, or not work\n"


def test_folders_on_two_file_systems(whole: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.lstat

    def lstat(path: Path) -> os.stat_result:
        found = real(path)
        if Path(path).name != "incoming":
            return found
        return os.stat_result((*found[:2], found.st_dev + 1, *found[3:10]))

    monkeypatch.setattr(os, "lstat", lstat)
    status, out, _ = whole.run("check")
    assert status == 78
    assert "incoming is on another file system" in out


def test_no_room(whole: Place) -> None:
    whole.path.write_text(whole.path.read_text() + "[queue]\nminimum_free = 900T\n")
    status, out, _ = whole.run("check")
    assert status == 78
    assert "below minimum_free" in out
    whole.path.write_text(whole.path.read_text().replace("minimum_free = 900T", f"minimum_free_inodes = {10**15}"))
    assert "inodes are free" in whole.run("check")[1]


def test_a_port_that_another_program_has_is_told_with_its_name(whole: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        whole.configure(port=other.getsockname()[1])
        status, out, _ = whole.run("check")
        assert status == 78
        assert f"in use by {Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})" in out
        assert "stop that program, or choose another port" in out


def test_a_port_that_kmqd_has_is_in_order(whole: Place) -> None:
    lock = SpoolLock(whole.spool)
    own = StatusFile(whole.spool / "status", "receiver", 1)
    with socket.create_server(("127.0.0.1", 0)) as ours:
        whole.configure(port=ours.getsockname()[1])
        status, out, _ = whole.run("check")
    own.close()
    lock.release()
    assert status == 0
    assert "held by the kmqd that runs" in out
    assert "kmqd runs on this spool" in out


def test_a_port_of_a_kmqd_that_is_beginning_is_in_order(whole: Place) -> None:
    """Its supervisor listens already; no other process has told of itself."""
    with socket.create_server(("127.0.0.1", 0)) as ours:
        whole.configure(port=ours.getsockname()[1])
        folder = load(whole.path).kmq.run_directory
        folder.mkdir(exist_ok=True)
        lock = lock_kmqd(folder)
        begun = whole.run("check")
        lock.release()
        ended = whole.run("check")
    assert begun[0] == 0 and "held by the kmqd that runs" in begun[1]
    assert ended[0] == 78, "the lock's file says who it was, not who it is"


def test_a_port_that_another_program_has_beside_a_kmqd_that_runs(whole: Place) -> None:
    program = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    own = StatusFile(whole.spool / "status", "receiver", 1)
    with subprocess.Popen(
        [sys.executable, "-c", program + "; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout
        whole.configure(port=int(other.stdout.readline()))
        status, out, _ = whole.run("check")
        other.communicate()
    own.close()
    assert status == 78
    assert f"(pid {other.pid})" in out


def test_an_address_of_another_machine(whole: Place) -> None:
    whole.path.write_text(whole.path.read_text().replace("127.0.0.1:", "192.0.2.1:"))
    status, out, _ = whole.run("check")
    assert status == 78
    assert "choose an address of this machine" in out


def test_a_port_that_this_user_may_not_have(whole: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(check, "_try", refuse)
    status, out, _ = whole.run("check")
    assert status == 78
    assert "ports below 1024 need root or CAP_NET_BIND_SERVICE" in out


def test_the_check_as_objects(whole: Place) -> None:
    lines = [json.loads(line) for line in whole.run("check", "--json")[1].splitlines()]
    assert {line["Grade"] for line in lines} == {"OK"}


def test_the_configuration_as_it_counts(whole: Place) -> None:
    status, out, _ = whole.run("config")
    assert status == 0
    assert "hostname = mx.example.org" in out
    assert f"{whole.path}:2" in out
    lines = [json.loads(line) for line in whole.run("config", "--json")[1].splitlines()]
    assert {"Section": "kmq", "Option": "hostname", "Value": "mx.example.org", "Place": f"{whole.path}:2"} in lines
    assert ".TH KMQ.CONF 5" in whole.run("config", "--man")[1].upper()


def test_fsck_of_a_spool_in_order(whole: Place) -> None:
    whole.bag.lay()
    assert whole.run("fsck") == (0, "All files are in order\n", "")
    lock = SpoolLock(whole.spool)
    assert whole.run("fsck") == (0, "All files are in order, kmqd runs\n", "")
    lock.release()


def test_fsck_tells_damage_and_repairs_it(whole: Place) -> None:
    name = whole.bag.lay()
    body = whole.bag.folder(name) / f"{name}.eml"
    body.write_bytes(body.read_bytes().replace(b"Good", b"Bad!"))
    assert whole.run("fsck", "--quick")[0] == 0
    status, out, _ = whole.run("fsck")
    assert status == 1
    assert f"{name}.eml: a body that is not what was accepted (its checksum is wrong)" in out
    assert "-- 1 damage" in out
    (line,) = [json.loads(line) for line in whole.run("fsck", "--json")[1].splitlines()]
    assert (line["State"], line["Damage"]) == ("D4", True)
    status, out, _ = whole.run("fsck", "--repair")
    assert f"set aside {name} in poison/" in out
    assert (whole.spool / "poison" / f"{name}.eml").is_file()
    _, out, _ = whole.run("mailq")
    assert "Suspended: poison, a body that is not what was accepted: its checksum is wrong" in out


def test_fsck_repairs_nothing_under_a_kmqd_that_runs(whole: Place) -> None:
    lock = SpoolLock(whole.spool)
    status, out, err = whole.run("fsck", "--repair")
    lock.release()
    assert (status, out) == (75, "")
    assert f"already running (pid {os.getpid()})" in err


def test_fsck_of_nothing(place: Place) -> None:
    place.path.write_text(place.path.read_text().replace("spool = spool", "spool = nowhere"))
    status, _, err = place.run("fsck")
    assert status == 78
    assert "is not there" in err


def test_every_verb_has_its_module() -> None:
    for name, verb in VERBS.items():
        module = __import__(f"kmq.cli.{verb.module}", fromlist=["run"])
        assert callable(module.run), name


# --- without rights ---------------------------------------------------------------------------------------------------


@pytest.fixture
def forbidden(capsys: pytest.CaptureFixture[str]) -> Iterator[Place]:
    """A configuration that every user may read, and a spool that is for its owner alone."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to other users
        os.chmod(folder, 0o755)
        place = Place(Path(folder) / "kmq.conf", Mailbag(Path(folder) / "spool"), capsys)
        place.configure()
        os.chmod(place.spool, 0o700 if os.geteuid() == 0 else 0)
        yield place
        os.chmod(place.spool, 0o700)


@contextlib.contextmanager
def _nobody() -> Iterator[None]:
    """As a user without rights, when the tests have those of root."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("words", [["fsck"], ["fsck", "--quick"], ["processes"], ["processes", "--json"], ["mailq"]])
def test_who_may_not_look_is_told_so(forbidden: Place, words: list[str]) -> None:
    with _nobody():
        status, out, err = forbidden.run(*words)
    assert (status, out) == (78, "")
    assert err.startswith(f"kmq: {forbidden.spool}")
    assert "this user may not read it; ask as root" in err


def test_who_may_not_look_is_not_sent_to_stop_kmqd(forbidden: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        forbidden.configure(port=listening.getsockname()[1])
        with _nobody():
            _, out, _ = forbidden.run("check")
    assert "in use; whether by kmqd, this user may not see" in out
    assert "stop that program" not in out


def test_whether_programs_of_other_users_can_send(whole: Place) -> None:
    whole.spool.chmod(0o755)
    whole.path.write_text(whole.path.read_text() + "[sendmail]\ntrusted_users = root, no-such-user\n")
    status, out, _ = whole.run("check")
    assert status == 0 and "closed to other users" not in out
    assert "note   [sendmail] trusted_users: there is no user no-such-user on this machine" in out
    whole.spool.chmod(0o750)
    _, out, _ = whole.run("check")
    assert f"{whole.spool} is closed to other users: they cannot send mail\n" in out
    assert f"chmod o+x {whole.spool}, or say run_directory = /run/kmq" in out
    whole.path.write_text(whole.path.read_text() + "socket =\n")
    assert "closed to other users" not in whole.run("check")[1]
