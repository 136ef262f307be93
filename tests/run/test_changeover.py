"""A new configuration counts for all processes or for nobody, whatever they do while it is offered to them."""

import os
import re
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.run.kmqd import Kmqd, is_standin
from tests.waiting import free_port, listening, until


@pytest.fixture
def kmqd(tmp_path: Path) -> Iterator[Kmqd]:
    one = Kmqd(tmp_path, workers=2)
    yield one
    one.clean()


def make(kmqd: Kmqd, name: str, word: str) -> None:
    """What the stand-in of this name does when it is offered a configuration."""
    (kmqd.folder / f"{name}.make").write_text(word)


def reloads(kmqd: Kmqd, more: str = "log_level = debug\n") -> None:
    kmqd.configure(more)
    kmqd.signal(signal.SIGHUP)


def test_it_counts_for_nobody_before_everybody_is_ready(kmqd: Kmqd) -> None:
    kmqd.start()
    reloads(kmqd)
    until(lambda: len(kmqd.noted("count")) == 5, "it counts for all")
    steps = [one["what"] for one in kmqd.ledger if one["what"] in ("make", "count")]
    assert steps == ["make"] * 5 + ["count"] * 5
    until(lambda: kmqd.logged(r'reloaded path=\S+ configuration=2 changed="?\[kmq\] log_level"?'), "it is said")
    reloads(kmqd, "log_level = warning\n")
    until(lambda: kmqd.counting().count("warning") == 5, "the next one counts too")
    asked = {one["name"]: (one["sockets"], one["tallies"]) for one in kmqd.noted("make")}
    assert asked["receiver-1"][0] == ["sendmail#0", "smtp#0"] and "smtp" in asked["receiver-1"][1]  # type: ignore[operator]
    assert asked["worker-1"] == ([], [])


def test_one_that_refuses_keeps_the_old_one_for_all(kmqd: Kmqd) -> None:
    kmqd.start()
    make(kmqd, "worker-2", "refuse")
    moved, old, kmqd.port = free_port(), kmqd.port, free_port()
    kmqd.port = moved
    reloads(kmqd)
    until(lambda: kmqd.logged('the old one stays why="worker-2 does not like it"'), "it is said")
    until(lambda: not listening(moved), "what was bound for it is closed")
    assert listening(old)
    assert kmqd.counting() == []
    make(kmqd, "worker-2", "")
    kmqd.signal(signal.SIGHUP)
    until(lambda: len(kmqd.counting()) == 5, "the next one counts")
    until(lambda: listening(moved) and not listening(old), "and its addresses with it")
    until(lambda: kmqd.logged("configuration=3"), "nobody takes a late word about the one that was refused for it")


def test_one_that_dies_of_it_keeps_the_old_one_for_all(kmqd: Kmqd) -> None:
    kmqd.start()
    make(kmqd, "worker-1", "exit:1")
    reloads(kmqd)
    until(lambda: kmqd.logged('the old one stays why="worker-1 ended before it was ready for it'), "it is said")
    make(kmqd, "worker-1", "")
    until(lambda: len(kmqd.noted("ready", "worker-1")) == 2, "another one is born")
    assert kmqd.noted("born", "worker-1")[1]["log_level"] == "info"
    kmqd.signal(signal.SIGHUP)
    until(lambda: len(kmqd.counting()) == 5, "the next one counts for all")


def test_one_that_is_born_meanwhile_is_asked_too(kmqd: Kmqd) -> None:
    kmqd.start()
    os.kill(kmqd.pid("worker-1"), signal.SIGKILL)
    until(lambda: kmqd.logged("ended child=worker-1"), "a place is empty")
    os.kill(kmqd.pid("receiver-1"), signal.SIGSTOP)
    reloads(kmqd)
    until(lambda: kmqd.noted("make", "worker-2"), "the others are asked")
    until(lambda: len(kmqd.noted("ready", "worker-1")) == 2, "another one is there")
    assert kmqd.counting() == []
    os.kill(kmqd.pid("receiver-1"), signal.SIGCONT)
    until(lambda: len(kmqd.counting()) == 5, "it counts for all, also for the new one")
    assert len(kmqd.noted("make", "worker-1")) == 1


def test_one_that_does_not_answer_refuses_by_that(kmqd: Kmqd) -> None:
    kmqd.start(PATIENCE_in_changeover=0.5)
    os.kill(kmqd.pid("receiver-1"), signal.SIGSTOP)
    reloads(kmqd)
    until(lambda: kmqd.logged(r"the old one stays why=\"no answer within 0.5 s from receiver-1; try again\""), "said")
    os.kill(kmqd.pid("receiver-1"), signal.SIGCONT)
    until(lambda: kmqd.noted("make", "receiver-1"), "it wakes")
    kmqd.signal(signal.SIGHUP)
    until(lambda: len(kmqd.counting()) == 5, "the next one counts for all")
    assert kmqd.counting() == ["debug"] * 5, "and that which was cancelled for nobody"


def test_as_many_children_as_it_says(kmqd: Kmqd) -> None:
    kmqd.start()
    gone = kmqd.pid("worker-2")
    kmqd.counts = {"workers": 1, "receivers": 3}
    reloads(kmqd)
    until(lambda: kmqd.noted("ready", "receiver-3") and kmqd.noted("left", "worker-2"), "they come and go")
    until(lambda: not is_standin(gone, kmqd.folder), "in order")
    until(lambda: kmqd.noted("ready", "receiver-2"), "all of them")
    assert kmqd.noted("born", "receiver-2")[0]["log_level"] == "debug"
    until(lambda: [one for one in kmqd.heard("reaped") if one["pid"] == gone], "its end is told")
    assert not kmqd.logged("warning: ended child=worker-2"), "that was in order"
    os.kill(kmqd.pid("worker-1"), signal.SIGKILL)
    until(lambda: len(kmqd.noted("ready", "worker-1")) == 2, "whoever belongs here is begun again")
    kmqd.counts["workers"] = 2
    reloads(kmqd, "log_level = info\n")
    until(lambda: len(kmqd.noted("ready", "worker-2")) == 2, "and whoever belongs here again")
    assert len(kmqd.noted("born", "worker-2")) == 2
    kmqd.signal(signal.SIGTERM)
    assert kmqd.ends() == 0


def test_one_that_was_sent_away_and_is_wanted_again_is_there_again(kmqd: Kmqd) -> None:
    """It takes its time to go; by then the next configuration has a place for it."""
    kmqd.order("worker-2.1", "deaf")
    kmqd.start()
    kmqd.counts["workers"] = 1
    reloads(kmqd)
    until(lambda: kmqd.noted("TERM", "worker-2"), "it is told to go")
    kmqd.counts["workers"] = 2
    reloads(kmqd, "log_level = info\n")
    until(lambda: kmqd.logged("configuration=3"), "it counts")
    kmqd.release()
    until(lambda: len(kmqd.noted("ready", "worker-2")) == 2, "another one has its place")


def test_an_address_that_cannot_be_bound_keeps_the_old_ones(kmqd: Kmqd) -> None:
    kmqd.start()
    old = kmqd.port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        kmqd.port = taken.getsockname()[1]
        reloads(kmqd)
        until(lambda: kmqd.logged(rf"listen = 127.0.0.1:{kmqd.port}: something else listens there"), "it is said")
    assert listening(old)
    assert kmqd.noted("make") == [], "nobody was bothered"


def test_from_all_addresses_to_one_without_a_pause(kmqd: Kmqd) -> None:
    """The new listener is there before the old one is closed, on the same port."""
    text = kmqd.path.read_text()
    kmqd.path.write_text(text.replace("listen = 127.0.0.1", "listen = 0.0.0.0"))
    kmqd.start()
    kmqd.path.write_text(text)
    kmqd.signal(signal.SIGHUP)
    until(lambda: kmqd.logged("configuration=2"), "it counts")
    bound = Path("/proc/net/tcp").read_text()
    assert re.findall(rf"(\w+):{kmqd.port:04X} \w+:0000 0A", bound) == ["0100007F"]
    assert socket.create_connection(("127.0.0.1", kmqd.port), 20).recv(100).startswith(b"220")


def test_without_room_for_it_the_old_one_stays(kmqd: Kmqd) -> None:
    """EMFILE: nothing of it is left open, and the next one counts."""
    process = kmqd.start()
    _, most = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    for free in range(4):
        taken = len(os.listdir(f"/proc/{process.pid}/fd"))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (taken + free, most))
        kmqd.port = free_port()
        lines = len(re.findall("the old one stays", kmqd.log))
        reloads(kmqd, f"log_level = {('debug', 'info')[free % 2]}\n")
        until(lambda: kmqd.log.count("the old one stays") > lines or kmqd.counting(), "it is said")  # noqa: B023
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))
        if kmqd.counting():
            break
        assert len(os.listdir(f"/proc/{process.pid}/fd")) == taken
    assert kmqd.logged("Too many open files")
    kmqd.signal(signal.SIGHUP)
    until(lambda: kmqd.logged(r"configuration=\d+"), "it counts")
    assert listening(kmqd.port)


def test_many_signals_are_one_or_two_readings(kmqd: Kmqd) -> None:
    kmqd.start()
    for level in ("debug", "warning", "info") * 30:
        reloads(kmqd, f"log_level = {level}\n")
    reloads(kmqd, "log_level = error\n")
    until(lambda: kmqd.counting().count("error") == 5, "the last one counts")
    assert len(kmqd.counting()) < 5 * 40


def test_a_signal_before_everybody_is_there_waits_until_they_are(kmqd: Kmqd) -> None:
    kmqd.order("scheduler-1.1", "exit:1")
    kmqd.start(ready=False)
    until(lambda: kmqd.noted("born", "scheduler-1"), "it begins")
    reloads(kmqd)
    until(lambda: len(kmqd.counting()) == 5, "it counts for all in the end")
    assert kmqd.noted("make")[0]["pid"] in [one["pid"] for one in kmqd.noted("ready")]


def test_an_end_is_not_held_up_by_a_change(kmqd: Kmqd) -> None:
    kmqd.start()
    os.kill(kmqd.pid("receiver-1"), signal.SIGSTOP)
    reloads(kmqd)
    until(lambda: kmqd.noted("make", "worker-1"), "it is offered")
    kmqd.signal(signal.SIGTERM)
    os.kill(kmqd.pid("receiver-1"), signal.SIGCONT)
    assert kmqd.ends() == 0
