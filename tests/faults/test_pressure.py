"""Something runs short below a real kmqd: servers are refused before users, the queue goes on, mail comes in again."""

import json
import os
import signal
import smtplib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.world import SENDER, World, world
from tests.torture.image import tmpfs
from tests.waiting import free_port, until

SHORT = "452 4.3.1 Insufficient system resources"
#: A receiver for users, beside the one for servers; and a drop directory.
WAYS = """\
[pickup]
directory = {pickup}
scan_interval = 100ms

[replay]
directory =

[users : receiver]
listen = 127.0.0.1:{port}
submission = yes
relay_from = 127.0.0.0/8
"""


def ways(folder: Path) -> tuple[str, int, Path]:
    """Sections, the users' port, and the drop directory."""
    port, pickup = free_port(), folder / "pickup"
    pickup.mkdir()
    return WAYS.format(port=port, pickup=pickup), port, pickup


def mail_from(port: int) -> str:
    """What MAIL hears."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.ehlo()
        code, words = client.mail(SENDER)
    return f"{code} {words.decode()}"


def asked(here: World, *verb: str) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "kmq.cli.kmq", "-c", str(here.kmqd.folder / "kmq.conf"), "--json", *verb]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


def level(here: World, resource: str) -> object:
    return next(one["Level"] for one in asked(here, "pressure") if one["Resource"] == resource)


def filled(disk: Path, free: int) -> None:
    """So many bytes are free, more or less."""
    filler = disk / "filler"
    room = os.statvfs(disk)
    there = filler.stat().st_size if filler.exists() else 0
    with filler.open("ab") as file:
        size = max(0, there + room.f_bavail * room.f_frsize - free)
        file.truncate(min(size, there))
        file.seek(0, os.SEEK_END)
        file.write(bytes(max(0, size - there)))


@pytest.mark.root
def test_a_disk_that_fills_refuses_servers_then_users_and_takes_mail_again(tmp_path: Path) -> None:
    sections, users, pickup = ways(tmp_path)
    options = "spool_space = 12M, 8M, 9M, 14M\nspool_inodes = 100, 10, 20, 150"
    with (
        tmpfs(tmp_path, 24 << 10, inodes=1000) as disk,
        world(tmp_path / "k", spool=disk / "spool", drops=sections, pressure=options) as here,
    ):
        servers = here.kmqd.port
        here.hop.banner = "421 4.3.2 not now"
        assert [here.send()[:3] for _ in range(5)] == ["250"] * 5
        here.hop.banner = "220 evil.test"
        filled(disk, 11 << 20)
        until(lambda: mail_from(servers) == SHORT, "servers are refused")
        assert mail_from(users).startswith("250"), "users are not"
        (pickup / "one.eml").write_bytes(b"From: a@local.test\r\nTo: bob@far.test\r\nSubject: x\r\n\r\nx\r\n")
        filled(disk, 7 << 20)
        until(lambda: mail_from(users) == SHORT, "users are refused")
        until(lambda: len(here.copies()) == 5, "what was queued is delivered meanwhile")
        assert (pickup / "one.eml").exists(), "pickup/ waits"
        assert level(here, "spool_space") == "High"
        filled(disk, 10 << 20)
        until(lambda: mail_from(users).startswith("250"), "users are welcome again")
        assert mail_from(servers) == SHORT, "servers not yet: hysteresis"
        (disk / "filler").unlink()
        until(lambda: mail_from(servers).startswith("250"), "all are welcome again")
        until(lambda: not (pickup / "one.eml").exists(), "and pickup/ goes on")
        names = [disk / f"name-{number}" for number in range(os.statvfs(disk).f_favail - 60)]
        for name in names:
            name.touch()
        until(lambda: mail_from(servers) == SHORT, "hardly any more files can be made there")
        assert level(here, "spool_inodes") == "Medium" and mail_from(users).startswith("250")
        for name in names:
            name.unlink()
        until(lambda: mail_from(servers).startswith("250"), "all are welcome again")
        log = "\n".join(line for line in here.kmqd.log.splitlines() if "resource=spool_space" in line)
        assert log.count("event=15004") == 2 and log.count("event=15005") == 2, log
        assert "level=High before=Medium" in log and "level=Normal before=Medium" in log


@pytest.mark.root
def test_a_full_log_disk_and_one_without_inodes(tmp_path: Path) -> None:
    with tmpfs(tmp_path, 8 << 10, inodes=100) as disk:
        options = "spool_space = off\nspool_inodes = off\nlog_space = 4M, 1M, 2M, 5M\nlog_inodes = 15, 5, 8, 18"
        kmq = f"mail_log = {disk}/mail.log"
        with world(tmp_path / "k", kmq=kmq, pressure=options) as here:
            assert here.send().startswith("250"), "an eighth of a small disk is no shortage"
            filled(disk, 64 << 10)
            until(lambda: here.send() == SHORT, "the log's disk is full")
            assert level(here, "log_space") == "High"
            (disk / "filler").unlink()
            until(lambda: here.send().startswith("250"), "mail is taken again")
            names = [disk / f"name-{number}" for number in range(os.statvfs(disk).f_favail - 2)]
            for name in names:
                name.touch()
            until(lambda: here.send() == SHORT, "no more files can be made there")
            for name in names:
                name.unlink()
            until(lambda: here.send().startswith("250"), "mail is taken again")
            here.each_once()


def test_too_many_messages_that_nobody_looked_at_slow_servers_down(tmp_path: Path) -> None:
    options = (
        "spool_space = off\nspool_inodes = off\nsubmission_queue = 9, 100, 20, 2\ntarpit = 300ms\n"
        "tarpit_step = 100ms\ntarpit_longest = 500ms\npatience = 1500ms"
    )
    with world(tmp_path / "k", pressure=options) as here:
        worker = here.kmqd.children()["worker-1"]
        os.kill(worker, signal.SIGSTOP)
        try:
            assert [here.send()[:3] for _ in range(12)] == ["250"] * 12
            until(lambda: level(here, "submission_queue") == "Medium", "messages wait for the worker")
            began = time.monotonic()
            assert here.send().startswith("250"), "MAIL waits, and is answered"
            assert time.monotonic() - began >= 0.3
            until(lambda: here.send() == SHORT, "after a while servers are refused")
        finally:
            os.kill(worker, signal.SIGCONT)
        until(lambda: here.send().startswith("250"), "mail is taken again")
        here.each_once()
