"""kmqd as people start it: from a terminal, with a wrong configuration, twice; and a message through all of it."""

import os
import pty
import re
import select
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from kmq.cli import kmqd
from kmq.config import embedded
from kmq.spool.processes import read as read_status
from tests.waiting import free_port, listening, until

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = {folder}/spool
local_domains = example.org
workers = 1
[queue]
minimum_free = 1M
[smtp : receiver]
listen = 127.0.0.1:{port}
[mailboxes : connector]
type = mailbox
maildir = {folder}/mail/{{user}}
users = alice
"""

COMMAND = [sys.executable, "-P", "-m", "kmq.cli.kmqd"]


class Here:
    """A folder with a configuration, and the processes that are started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.path = folder / "kmq.conf"
        self.path.write_text(CONFIGURATION.format(folder=folder, port=self.port))
        (folder / "spool").mkdir()
        self.started: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "KMQ_CONF"}
        return subprocess.run(
            [*COMMAND, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60
        )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self, terminal: int | None = None) -> subprocess.Popen[bytes]:
        """A kmqd with this configuration; terminal: the side of a terminal that it is to have."""
        log = terminal if terminal is not None else os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT)
        process = subprocess.Popen(
            [*COMMAND, "-c", str(self.path)], stdin=log, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=(lambda: os.close(os.open(os.ttyname(log), os.O_RDWR))) if terminal is not None else None,
        )  # fmt: skip
        os.close(log)
        self.started.append(process)
        until(lambda: listening(self.port), "it listens")
        return process


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    one = Here(tmp_path)
    yield one
    for process in one.started:
        if process.poll() is None:
            process.terminate()
            process.wait(60)


def test_a_message_through_all_processes_and_an_orderly_end(here: Here) -> None:
    process = here.start()
    with smtplib.SMTP("127.0.0.1", here.port, timeout=60) as client:
        client.sendmail("bob@example.net", "alice@example.org", b"Subject: hello\r\n\r\nworld\r\n")
    mailbox = here.folder / "mail" / "alice" / "new"
    until(lambda: mailbox.is_dir() and list(mailbox.iterdir()), "the message is in the mailbox")
    assert next(mailbox.iterdir()).read_bytes().endswith(b"Subject: hello\n\nworld\n")
    second = here.run("-c", str(here.path))
    assert second.returncode == 75
    assert re.search(rf"already running \(pid {process.pid}\)", second.stderr)
    process.terminate()
    assert process.wait(60) == 0
    log = (here.folder / "log").read_text()
    assert all(re.search(rf" {what} [0-9a-f]{{8}}-[0-9a-f]{{8}} ", log) for what in ("accepted", "delivered"))
    assert "stopped status=0" in log
    assert not listening(here.port)


def test_mail_goes_on_without_a_log(here: Here) -> None:
    """Row 42: whoever read the log is gone."""
    reading, writing = os.pipe()
    process = subprocess.Popen([*COMMAND, "-c", str(here.path)], stdin=subprocess.DEVNULL, stderr=writing)
    here.started.append(process)
    os.close(writing)
    until(lambda: listening(here.port), "it listens")
    os.close(reading)
    with smtplib.SMTP("127.0.0.1", here.port, timeout=60) as client:
        client.sendmail("bob@example.net", "alice@example.org", b"Subject: unheard of\r\n\r\n")
    mailbox = here.folder / "mail" / "alice" / "new"
    until(lambda: mailbox.is_dir() and list(mailbox.iterdir()), "the message is in the mailbox")
    status = here.folder / "spool" / "status" / "receiver-1.status"
    until(lambda: read_status(status).counters.get("log_lines_lost"), "the lost lines are counted")
    process.terminate()
    assert process.wait(60) == 0


def test_in_a_terminal_it_says_where_it_is_and_ctrl_c_ends_it(here: Here) -> None:
    ours, theirs = pty.openpty()
    process = here.start(theirs)
    text = ""

    def says(what: str) -> bool:
        nonlocal text
        with suppress(OSError):  # EIO: everybody who had the terminal has ended
            while select.select([ours], [], [], 0)[0]:
                text += os.read(ours, 65536).decode()
        return what in text

    until(lambda: says("started child=receiver-1"), "it has begun")
    assert f"SMTP on   127.0.0.1:{here.port}" in text and f"spool     {here.folder}/spool" in text
    assert f"kmq -c {here.path} mailq --watch" in text
    os.write(ours, b"\x03")
    until(lambda: says("stopped status=0"), "it ends in order")
    assert process.wait(60) == 0
    assert "Traceback" not in text
    os.close(ours)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ((), 78, "kmqd --try needs no configuration"),
        (("-c", "nowhere.conf"), 78, "kmqd: nowhere.conf: there is no such file"),
        (("-c", "wrong.conf"), 78, "wrong.conf:2: "),
        (("-c", "wrong.conf", "--try"), 2, "not allowed with argument"),
    ],
)
def test_what_is_wrong_is_said_on_standard_error(
    here: Here, arguments: tuple[str, ...], status: int, text: str
) -> None:
    if not arguments and Path("/etc/kmq/kmq.conf").exists():
        arguments = ("-c", "/nowhere")
        text = "there is no such file"
    (here.folder / "wrong.conf").write_text("[kmq]\nspol = /var/spool/kmq\n")
    done = here.run(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert text in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("--version",), ("-c", "wrong.conf")])
def test_modules_of_children_are_not_read_for_nothing(here: Here, arguments: tuple[str, ...]) -> None:
    (here.folder / "wrong.conf").write_text("[kmq]\nspol = /var/spool/kmq\n")
    command = [sys.executable, "-X", "importtime", *COMMAND[1:], *arguments]
    done = subprocess.run(command, cwd=here.folder, capture_output=True, text=True, timeout=60)
    read = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "kmq.config" in read
    assert not read & {"kmq.cli.child", "kmq.run.worker", "uvloop"}


def test_a_spool_that_is_not_there_is_not_made_beside_the_right_one(here: Here) -> None:
    (here.folder / "spool").rmdir()
    done = here.run("-c", str(here.path))
    assert done.returncode == 78
    assert f"kmqd: {here.folder}/spool is missing; make it: install -d -m 750 {here.folder}/spool" in done.stderr


def test_what_a_trial_says(tmp_path: Path) -> None:
    text = kmqd.welcome(embedded(str(tmp_path)))
    assert "SMTP on   127.0.0.1:2525" in text
    assert f"spool     {tmp_path}/spool" in text
    assert "watch     kmq mailq --watch" in text


@pytest.fixture
def tls(here: Here) -> str:
    """Options of a certificate that is no certificate."""
    (here.folder / "chain.pem").write_text("garbage")
    (here.folder / "key.pem").write_text("garbage")
    return f"tls_certificate = {here.folder}/chain.pem\ntls_key = {here.folder}/key.pem\n"


def test_a_certificate_that_cannot_be_used_is_said_and_nothing_is_begun(here: Here, tls: str) -> None:
    here.path.write_text(here.path.read_text().replace("[mailboxes", f"{tls}[mailboxes"))
    ended = here.run("-c", str(here.path))
    assert ended.returncode == 78
    assert re.fullmatch(
        rf"kmqd: {here.path}:10: \[smtp : receiver\] tls_certificate = .* is no certificate.*\n",
        "".join(line for line in ended.stderr.splitlines(True) if "runs as root" not in line),
    )
    assert os.listdir(here.folder / "spool") == []


def test_a_reload_with_a_certificate_that_cannot_be_used_reaches_no_process(here: Here, tls: str) -> None:
    good = here.path.read_text()
    kmqd = here.start()
    here.path.write_text(good.replace("[mailboxes", f"{tls}size_limit = 1M\n[mailboxes"))
    os.kill(kmqd.pid, signal.SIGHUP)
    until(lambda: "the new configuration is wrong" in here.log, "it is said")
    here.path.write_text(good.replace("[mailboxes", "size_limit = 2M\n[mailboxes"))
    os.kill(kmqd.pid, signal.SIGHUP)
    until(lambda: size_offered(here.port) == "2097152", "the next good one counts")
    told = [line for line in here.log.splitlines() if "the new configuration is wrong" in line]
    assert len(told) == 1, "by the supervisor alone"
    assert f"{here.path}:10: " in told[0]


def size_offered(port: int) -> str:
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example") as client:
        client.ehlo()
        return client.esmtp_features["size"]
