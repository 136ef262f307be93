"""kmq-sendmail and the real kmqd: what had its 0 is delivered, whatever is killed meanwhile."""

import os
import pwd
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture.kmqd import Kmqd
from tests.waiting import until

ME = pwd.getpwuid(os.geteuid()).pw_name
LINES = "".join(f"line {number}\n" for number in range(50))


@pytest.fixture
def kmqd(tmp_path: Path) -> Iterator[Kmqd]:
    made = Kmqd(tmp_path, workers=1, receivers=2)
    yield made
    made.close()


def start(kmqd: Kmqd, text: str, *words: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "KMQ_CONF": str(kmqd.folder / "kmq.conf")}
    program = subprocess.Popen(
        [sys.executable, "-m", "kmq.cli.sendmail", *words],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert program.stdin is not None
    program.stdin.write(text)
    program.stdin.close()
    return program


def run(kmqd: Kmqd, text: str, *words: str) -> str:
    """What it says on standard output."""
    environment = {**os.environ, "KMQ_CONF": str(kmqd.folder / "kmq.conf")}
    command = [sys.executable, "-m", "kmq.cli.sendmail", *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, env=environment, timeout=60).stdout


def sendmail(kmqd: Kmqd, text: str, *words: str) -> int:
    return start(kmqd, text, *words).wait(60)


def delivered(kmqd: Kmqd, user: str) -> dict[str, bytes]:
    """Subject -> message."""
    found = {}
    for path in (kmqd.mail / user / "new").glob("*"):
        text = path.read_bytes().replace(b"\r\n", b"\n")
        subject = re.search(rb"^Subject: (.*)$", text, re.MULTILINE)
        found[subject[1].decode() if subject else ""] = text
    return found


def test_what_had_its_zero_is_delivered_whatever_is_killed(kmqd: Kmqd) -> None:
    kmqd.start()
    ended: dict[str, int] = {}
    subjects = iter([f"message {number}" for number in range(40)])
    lock = threading.Lock()

    def send() -> None:
        while True:
            with lock:
                subject = next(subjects, "")
            if not subject:
                return
            status = sendmail(kmqd, f"Subject: {subject}\n\n{LINES}", "bob")
            with lock:
                ended[subject] = status

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for count, name in enumerate(("receiver-1", "receiver-2", "scheduler-1", "receiver-1"), 1):
        until(lambda count=count: len(ended) >= 6 * count, f"{6 * count} have ended")
        kmqd.kill(name)
    for thread in threads:
        thread.join()
    kmqd.drain()
    there = delivered(kmqd, "bob")
    taken = {subject for subject, status in ended.items() if status == 0}
    assert set(ended.values()) <= {0, os.EX_TEMPFAIL} and len(taken) > 25
    assert taken <= there.keys()
    assert all(text.endswith(f"\n\n{LINES}".encode()) for text in there.values())
    assert not kmqd.accidents()


def test_a_restart_of_kmqd_is_a_pause(kmqd: Kmqd) -> None:
    kmqd.start()
    assert sendmail(kmqd, "Subject: before\n\n", "bob") == 0
    assert kmqd.stop() == 0
    program = start(kmqd, "Subject: meanwhile\n\n", "bob")
    kmqd.start()
    assert program.wait(60) == 0
    kmqd.drain()
    assert {"before", "meanwhile"} <= delivered(kmqd, "bob").keys()


def test_a_new_configuration_counts_at_once(kmqd: Kmqd) -> None:
    """Who is trusted, how large a message may be, where the socket is: nothing of it needs a restart."""
    kmqd.queue = "[sendmail]\ntrusted_users = nobody\n"
    kmqd.start()
    assert sendmail(kmqd, "Subject: one\n\n", "-f", "boss@far.test", "bob") == 0
    text = (kmqd.folder / "kmq.conf").read_text()
    changed = f"trusted_users = {ME}\nsize_limit = 2K\nsocket = {kmqd.folder}/other.sock\n"
    (kmqd.folder / "kmq.conf").write_text(text.replace("trusted_users = nobody\n", changed))
    os.kill(kmqd.pid, signal.SIGHUP)
    until(lambda: " reloaded " in kmqd.log, "it has the new configuration")
    assert sendmail(kmqd, "Subject: two\n\n", "-f", "boss@far.test", "bob") == 0
    assert sendmail(kmqd, f"Subject: three\n\n{LINES * 10}", "bob") == os.EX_UNAVAILABLE
    kmqd.drain()
    there = delivered(kmqd, "bob")
    assert f"\nX-Authenticated-Sender: {ME}@mx.local.test".encode() in there["one"]
    assert b"X-Authenticated-Sender" not in there["two"]


def test_the_pace_is_kept_over_all_receivers(kmqd: Kmqd) -> None:
    kmqd.queue = "[sendmail]\nmessages_per_minute = 5\n"
    kmqd.start()
    text = "EHLO here\nMAIL FROM:<>\nRSET\nQUIT\n"
    said = [run(kmqd, text, "-bs") for _ in range(12)]
    assert sum("250 2.1.0 Sender ok" in one for one in said) == 5
    assert sum("450 4.7.1 Too many messages of this user in the last minute" in one for one in said) == 7
