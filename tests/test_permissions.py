"""Who may do what with the files of a running kmqd: as the table of kmq-spool(5) says, whoever started it."""

import errno
import fnmatch
import os
import re
import smtplib
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.waiting import free_port, listening, until

#: Names that are there only for a moment, or only after something happened.
PASSING = ("poison/*", "incoming/*", "agents/*", "run/syncfs")

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = {folder}/spool
workers = 1
local_domains = example.org
[queue]
minimum_free = 1M
safety_net_hold_time = 1d
[smtp : receiver]
listen = 127.0.0.1:{port}
relay_from = 127.0.0.1
[boxes : connector]
type = mailbox
maildir = {folder}/mail/{{user}}
users = *
[gate : connector]
type = foreign
address_spaces = gate.example
[isp : connector]
type = smarthost
address_spaces = *
hosts = 127.0.0.1:{closed}
[backup]
local = yes
"""


def table(tree: Path) -> dict[str, int]:
    """Path below the spool -> mode, as the manual has it."""
    page = (tree / "man" / "kmq-spool.5").read_text()
    lines = re.findall(r"^\.It Pa (\S+) Ta (\d{4}) Ta", page, re.MULTILINE)
    assert len(lines) > 20
    return {path: int(mode, 8) for path, mode in lines}


def found_below(spool: Path) -> dict[str, int]:
    """Path -> mode of everything that lies there."""
    paths = [path for path in spool.rglob("*") if os.path.lexists(path)]
    return {str(path.relative_to(spool)): stat.S_IMODE(path.lstat().st_mode) for path in paths}


def start(folder: Path, port: int, umask: int = 0o022) -> subprocess.Popen[bytes]:
    path = folder / "kmq.conf"
    path.write_text(CONFIGURATION.format(folder=folder, port=port, closed=free_port()))
    command = [sys.executable, "-P", "-m", "kmq.cli.kmqd", "-c", str(path)]
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(command, stderr=log, start_new_session=True, umask=umask)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_what_lies_there_has_the_modes_of_the_manual(tree: Path, tmp_path: Path, umask: int) -> None:
    (tmp_path / "spool").mkdir(0o750)
    port = free_port()
    process = start(tmp_path, port, umask)
    try:
        until(lambda: listening(port), "it listens")
        with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
            for body in ("short", "long line\r\n" * 20_000):
                client.sendmail("a@example.org", ["b@example.net"], f"Subject: x\r\n\r\n{body}\r\n")
            client.sendmail("a@example.org", ["b@example.org"], "Subject: x\r\n\r\nLocal.\r\n")
        until(lambda: len(list((tmp_path / "spool" / "queue").rglob("*.env"))) == 2, "both wait in the queue")
        until(lambda: len(list((tmp_path / "spool" / "sent").glob("*/*"))) == 2, "the third one is kept")
        modes, seen = table(tree), set()
        for name, mode in found_below(tmp_path / "spool").items():
            if any(fnmatch.fnmatch(name, one) for one in PASSING):
                continue
            rules = [one for one in modes if fnmatch.fnmatch(name, one) and one.count("/") == name.count("/")]
            assert len(rules) == 1, f"{name} stands in the manual once"
            [rule] = rules
            assert f"{mode:04o}" == f"{modes[rule]:04o}", name
            seen.add(rule)
        assert set(modes) - seen <= {"incoming/*", "agents/*", *(one for one in modes if one.startswith("backup/"))}, (
            "the manual names nothing that is not there"
        )
        assert os.stat(tmp_path / "spool").st_mode & 0o777 == 0o750, "the administrator's"
    finally:
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.root
def test_who_may_speak_over_which_socket(tree: Path) -> None:
    """Another user of this machine hands mail in, and does nothing else."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "spool").mkdir()
        (folder / "spool").chmod(0o751)
        process = start(folder, free_port())
        try:
            until(lambda: " ready pid=" in (folder / "log").read_text(), "it is ready")
            run = folder / "spool" / "run"
            assert as_nobody(lambda: knock(run / "submit.sock")) == "reached"
            assert as_nobody(lambda: knock(run / "control.sock")) == "EACCES"
            assert as_nobody(lambda: knock(run / "look.sock")) == "EACCES"
            assert as_nobody(lambda: knock(run / "queue.sock")) == "EACCES"
            assert as_nobody(lambda: str(os.listdir(folder / "spool"))) == "EACCES"
        finally:
            process.terminate()
            assert process.wait(60) == 0


def knock(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(path))
    return "reached"


def as_nobody(deed: Callable[[], str]) -> str:
    """What a process of another user makes of it: a word, or the error."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(writing, deed().encode())
        except OSError as error:
            os.write(writing, errno.errorcode[error.errno or 0].encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        word = answer.read().decode()
    os.waitpid(pid, 0)
    return word


def test_a_folder_of_sockets_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """The administrator may have closed it; only one that everybody may write in is refused."""
    from kmq.config import read
    from kmq.run import ground

    (tmp_path / "spool" / "run").mkdir(0o700, parents=True)
    text = f"[kmq]\nhostname = mx.example.org\nspool = {tmp_path}/spool\n[s : receiver]\nlisten = 127.0.0.1:2525\n"
    ground.enter(read(text, "kmq.conf", str(tmp_path)))
    assert stat.S_IMODE((tmp_path / "spool" / "run").stat().st_mode) == 0o700
