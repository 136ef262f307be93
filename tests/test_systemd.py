"""The units of systemd: no more of the machine than a mail server needs, and no loop of starts over a wrong file."""

import os
import re
import shutil
import signal
import smtplib
import subprocess
import sys
from pathlib import Path

import pytest

from kmq.model.frame import Look, encode
from tests.cli.test_afar import asked
from tests.waiting import free_port, until

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (Debian: systemd)")

JAIL = Path(__file__).with_name("jail.py")


@pytest.fixture
def unit(tree: Path) -> Path:
    return tree / "systemd" / "kmq.service"


def exposure(folder: Path) -> float:
    """What `systemd-analyze security` makes of kmq.service in a folder, with what is beside it."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(folder / "kmq.service")]
    judged = subprocess.run(command, capture_output=True, text=True, env={"SYSTEMD_UNIT_PATH": f"{folder}:"})
    level = re.search(r"Overall exposure level for kmq.service: ([\d.]+)", judged.stdout)
    assert level, judged.stdout + judged.stderr
    return float(level[1])


def test_the_unit_gives_little_of_the_machine_away(unit: Path) -> None:
    assert exposure(unit.parent) <= 1.6


def test_with_the_socket_unit_it_gives_away_even_less(unit: Path, tmp_path: Path) -> None:
    shutil.copy(unit, tmp_path)
    (tmp_path / "kmq.service.d").mkdir()
    shutil.copy(unit.with_name("kmq-socket.conf"), tmp_path / "kmq.service.d" / "socket.conf")
    assert exposure(tmp_path) <= 1.3


def test_a_wrong_configuration_begins_no_loop(unit: Path) -> None:
    """RestartPreventExitStatus= counts for the main process alone: a command ahead of it would be repeated for ever."""
    lines = unit.read_text().splitlines()
    assert "RestartPreventExitStatus=78" in lines
    assert not [line for line in lines if line.startswith(("ExecStartPre=", "ExecCondition="))]


@pytest.mark.parametrize("name", ["kmq.service", "kmq.socket"])
def test_the_units_have_no_mistakes(unit: Path, tmp_path: Path, name: str) -> None:
    for one in unit.parent.glob("kmq.s[eo]*"):
        shutil.copy(one, tmp_path)
    (tmp_path / "kmq.service.d").mkdir()
    shutil.copy(unit.with_name("kmq-socket.conf"), tmp_path / "kmq.service.d" / "socket.conf")
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / name]
    complaints = subprocess.run(
        command, capture_output=True, text=True, env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    ).stderr.splitlines()
    assert [line for line in complaints if not line.endswith("No such file or directory")] == []


def test_user_groups_and_folders_are_made_as_the_unit_needs_them(unit: Path, tmp_path: Path) -> None:
    """In a root of its own, by systemd's own programs."""
    for name in ("sysusers", "tmpfiles"):
        (tmp_path / f"etc/{name}.d").mkdir(parents=True)
        shutil.copy(unit.with_name(f"kmq.{name}"), tmp_path / f"etc/{name}.d/kmq.conf")
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}"], check=True, capture_output=True)
    passwd, group = (tmp_path / "etc/passwd").read_text(), (tmp_path / "etc/group").read_text()
    assert re.search(r"^kmq:.*:/var/spool/kmq:/usr/sbin/nologin$", passwd, re.MULTILINE)
    assert re.search(r"^kmq-pickup:[^:]*:\d+:kmq$", group, re.MULTILINE), "kmqd may take what it drops"
    made = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}"], capture_output=True, text=True, check=False
    )
    modes = {name: f"{(tmp_path / name).stat().st_mode & 0o7777:o}" for name in ("var/spool/kmq", "run/kmq")}
    assert modes == {"var/spool/kmq": "751", "run/kmq": "755"}, made.stderr
    assert f"{(tmp_path / 'var/spool/kmq/pickup').stat().st_mode & 0o7777:o}" == "2770"


CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = {folder}/spool
local_domains = example.org
log_level = {level}
[queue]
minimum_free = 1M
[smtp : receiver]
listen = 127.0.0.1:{port}
[mailboxes : connector]
type = mailbox
maildir = {folder}/mail/{{user}}
users = alice

[exe : attachment]
names = *.exe
"""

PROGRAM = 'Content-Type: application/octet-stream; name="a.exe"\r\n\r\nMZ\r\n'


@pytest.mark.root
def test_kmqd_needs_no_more_than_the_unit_allows(unit: Path, tmp_path: Path) -> None:
    """Mail (small, large, examined), a reload, the death of a child, a stop: with what the unit leaves of it all."""
    (tmp_path / "spool").mkdir(0o750)
    port = free_port()
    path = tmp_path / "kmq.conf"
    path.write_text(CONFIGURATION.format(folder=tmp_path, port=port, level="info"))
    command = [sys.executable, str(JAIL), str(unit), str(tmp_path)]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [*command, sys.executable, "-P", "-m", "kmq.cli.kmqd", "-c", str(path)], stderr=log, start_new_session=True
        )
    logged = (tmp_path / "log").read_text
    try:
        until(lambda: " ready pid=" in logged() or process.poll() is not None, "it is ready")
        assert process.poll() is None, logged()
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            for body in ("small", "large\r\n" * 50_000):
                client.sendmail("bob@example.net", "alice@example.org", f"Subject: x\r\n\r\n{body}\r\n")
            client.sendmail("bob@example.net", "alice@example.org", PROGRAM)
        until(lambda: len(list((tmp_path / "mail").rglob("new/*"))) == 3, "all are delivered")
        assert any(b"removed an attachment" in one.read_bytes() for one in (tmp_path / "mail").rglob("new/*"))
        until(lambda: looked(tmp_path / "spool" / "run") == 0, "it is looked at by a program of kmqd's")
        path.write_text(CONFIGURATION.format(folder=tmp_path, port=port, level="debug"))
        process.send_signal(signal.SIGHUP)
        until(lambda: "reloaded" in logged(), "it is read again")
        [worker, *_] = re.findall(r"started child=worker-1 pid=(\d+)", logged())
        subprocess.run(["kill", "-KILL", worker], check=True)
        until(lambda: len(re.findall(r"started child=worker-1", logged())) == 2, "another worker is there")
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert not re.search("error|Traceback|not permitted", logged())
    assert (tmp_path / "spool/queue").stat().st_mode & 0o777 == 0o700


@pytest.mark.root
def looked(run: Path) -> int:
    """The exit status of `kmq mailq` as kmqd has it carried out."""
    reading, writing = os.pipe()
    try:
        return asked(run, encode(Look(["mailq"])), [writing] * 3).status
    finally:
        os.close(reading)
        os.close(writing)


def test_the_jail_is_one(unit: Path, tmp_path: Path) -> None:
    """What the test above rests on: the rules bite."""
    deeds = {
        "open('/var/kmq-was-here', 'w')": "Read-only file system",
        "open('inside', 'w')": "",
        "import ctypes; sys.exit('no' * -ctypes.CDLL(None).mount(b'/', b'/mnt', None, 4096, None))": "no",
        "import mmap; mmap.mmap(-1, 4096, prot=6)": "not permitted",
        "import socket; socket.socket(socket.AF_PACKET)": "not permitted",
        "import os; os.chown('.', 1, 1)": "not permitted",
        "import os; sys.exit(str(os.getuid()))": "997",
    }
    for deed, complaint in deeds.items():
        command = [sys.executable, str(JAIL), str(unit), str(tmp_path), sys.executable, "-c", f"import sys; {deed}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (complaint in done.stderr) if complaint else done.returncode == 0, (deed, done.stderr)
