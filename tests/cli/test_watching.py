"""`--watch` beside a real kmqd: nothing runs while nothing changes, and whatever changes is seen, whoever did it."""

import re
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.torture.kmqd import Kmqd
from tests.view.screens import Viewer, viewer
from tests.waiting import free_port, until

#: Seconds of an idle queue in which a viewer must not run.
IDLE = 10.0
#: Nobody listens there.
DEAD = free_port()
VERBS = ("mailq", "queues", "processes")


@pytest.fixture(scope="module")
def kmqd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kmqd]:
    one = Kmqd(tmp_path_factory.mktemp("watched") / "k", {"dead.test": DEAD}, workers=1)
    one.start()
    yield one
    one.close()


@pytest.fixture(scope="module")
def seen(kmqd: Kmqd) -> Iterator[dict[str, Viewer]]:
    """A viewer of each kind, all day long."""
    path = str(kmqd.folder / "kmq.conf")
    with ExitStack() as stack:
        screens = {
            verb: stack.enter_context(viewer(["-m", "kmq.cli.kmq", "-c", path, verb, "--watch"], columns=120))
            for verb in VERBS
        }
        for verb, screen in screens.items():
            until(lambda screen=screen: "q ends" in screen.text, f"the first picture of {verb}")
        yield screens


def last(screen: Viewer) -> str:
    """The last picture that is whole."""
    pictures = screen.text.split("\x1b[H")
    whole = [one for one in pictures if one.endswith("\x1b[J")]
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", whole[-1]) if whole else ""


def runs(screen: Viewer) -> int:
    """How often it was given the processor: a process that was not has made no system call."""
    text = Path(f"/proc/{screen.pid}/status").read_text()
    return sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", text))


def test_an_idle_queue_costs_a_viewer_nothing(kmqd: Kmqd, seen: dict[str, Viewer]) -> None:
    for _ in range(5):  # what the start of kmqd still had to say
        before = {verb: runs(screen) for verb, screen in seen.items()}
        time.sleep(1)
        if before == {verb: runs(screen) for verb, screen in seen.items()}:
            break
    beats = kmqd.status("scheduler-1")
    time.sleep(IDLE)
    assert {verb: runs(screen) for verb, screen in seen.items()} == before
    after = kmqd.status("scheduler-1")
    assert beats and after and after.beat >= beats.beat + IDLE - 2, "kmqd beat all the time"


def test_a_message_that_comes_is_seen_and_one_that_goes(kmqd: Kmqd, seen: dict[str, Viewer]) -> None:
    assert "Mail queue is empty" in last(seen["mailq"])
    with smtplib.SMTP("127.0.0.1", kmqd.port, timeout=20) as client:
        client.sendmail("alice@local.test", ["bob@nowhere.test"], b"Subject: x\r\n\r\nhello\r\n")
    until(lambda: "bob@nowhere.test" in last(seen["mailq"]), "the message in the queue")
    until(lambda: "Unreachable" in last(seen["queues"]), "its queue")
    kmqd_counts = re.compile(r"scheduler-1 .*\bqueued 1\b")
    until(lambda: kmqd_counts.search(last(seen["processes"])), "the scheduler process counts it")


def test_a_queue_that_is_held_and_let_go_is_seen_also_one_that_waits(kmqd: Kmqd, seen: dict[str, Viewer]) -> None:
    with smtplib.SMTP("127.0.0.1", kmqd.port, timeout=20) as client:
        client.sendmail("alice@local.test", ["bob@dead.test"], b"Subject: x\r\n\r\nhello\r\n")
    name = f"127.0.0.1:{DEAD}"
    until(lambda: re.search(rf"{name} .*Retry", last(seen["queues"])), "nobody listens there")
    for verb, status in (("suspend", "Suspended"), ("resume", "Retry|Connecting")):
        command = [sys.executable, "-m", "kmq.cli.kmq", "-c", str(kmqd.folder / "kmq.conf"), verb]
        subprocess.run([*command, "--queue", name], check=True, capture_output=True)
        until(lambda status=status: re.search(rf"{name} .*({status})", last(seen["queues"])), status)


def test_a_worker_that_dies_is_seen_and_so_is_the_next(kmqd: Kmqd, seen: dict[str, Viewer]) -> None:
    pid = kmqd.kill("worker-1")
    until(lambda: re.search(rf"worker-1  pid {pid}  dead", last(seen["processes"])), "the dead")
    until(lambda: re.search(rf"worker-1  pid (?!{pid}\b)\d+  running", last(seen["processes"])), "the one in its place")


def test_kmqd_that_stops_and_starts_is_seen(kmqd: Kmqd, seen: dict[str, Viewer]) -> None:
    kmqd.stop()
    until(lambda: "kmqd does not run" in last(seen["queues"]), "the queues are without kmqd")
    until(lambda: "no process lives" in last(seen["processes"]), "no process")
    kmqd.start()
    until(lambda: "kmqd does not run" not in last(seen["queues"]), "kmqd has them again")
    until(lambda: "receiver-1" in last(seen["processes"]), "its processes")


def test_all_of_kmqd_that_dies_at_once_is_seen(kmqd: Kmqd, seen: dict[str, Viewer]) -> None:
    kmqd.kill_all()
    until(lambda: "kmqd does not run" in last(seen["queues"]), "the queues are without kmqd")
    until(lambda: "no process lives" in last(seen["processes"]), "no process")


def test_q_ends_each(seen: dict[str, Viewer]) -> None:
    for screen in seen.values():
        screen.press(b"q")
    assert [screen.ended() for screen in seen.values()] == [0, 0, 0]
