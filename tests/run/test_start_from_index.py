"""A start with a long queue, after SIGKILL: what the index recalls, what is read, and that nothing is missed."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.model.envelope import event_line
from kmq.model.event import Deferred, Event, Routed, Suspended
from kmq.model.moment import as_text
from kmq.spool import as_of, loading
from tests.mailbag import Mailbag
from tests.torture.kmqd import Kmqd
from tests.waiting import free_port, until

#: Messages that are looked up in the index.
BEYOND = 150
LOADED = re.compile(r": loaded count=(\d+) recalled=(\d+)")
DEAD = free_port()
HOP = f"SmartHostConnectorDelivery;127.0.0.1:{DEAD};to-0"


@pytest.fixture(scope="module")
def kmqd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kmqd]:
    """Whatever it has waits for dead.test for an hour."""
    one = Kmqd(tmp_path_factory.mktemp("k"), hops={"dead.test": DEAD}, workers=1)
    one.start()
    one.stop()
    yield one
    one.close()


@pytest.fixture(scope="module")
def names(kmqd: Kmqd) -> list[str]:
    bag = Mailbag(kmqd.spool)
    later = as_text(time.time() + 3600)
    return [bag.lay(*_deferred(later), to=("x@dead.test",)) for _ in range(loading.FEW + BEYOND)]


def _deferred(until_then: str) -> list[Event]:
    return [Routed(rcpt="0", hop=HOP), Deferred(rcpt="0", attempt=1, reply="451 4.7.1 later", until=until_then)]


def told(kmqd: Kmqd) -> list[tuple[int, int]]:
    """Of each start: messages that became known, and how many of them were recalled."""
    found = LOADED.findall(kmqd.log)
    return [(int(count), int(recalled)) for count, recalled in found]


def begun(kmqd: Kmqd) -> tuple[int, int]:
    """One more start, to its end."""
    before = len(told(kmqd))
    kmqd.start()
    until(lambda: len(told(kmqd)) > before, "all is known")
    return told(kmqd)[-1]


def ids(kmqd: Kmqd, wish: str) -> set[str]:
    return set(re.findall(r"[0-9a-f]{8}-[0-9a-f]{8}", kmqd.asked("mailq", "--filter", wish)))


def envelope(kmqd: Kmqd, name: str) -> Path:
    return Mailbag(kmqd.spool).envelope(name)


def test_a_start_after_sigkill_recalls_what_is_as_it_was(kmqd: Kmqd, names: list[str]) -> None:
    assert begun(kmqd)[0] == len(names)
    until(lambda: as_of.read(kmqd.spool), "the index is whole")
    kmqd.kill_all()
    assert begun(kmqd) == (len(names), BEYOND)


def test_an_index_that_is_older_than_the_queue_is_not_followed(kmqd: Kmqd, names: list[str]) -> None:
    until(lambda: as_of.read(kmqd.spool), "the index is whole")
    kmqd.kill_all()
    held, gone, cut = names[-3:]
    with envelope(kmqd, held).open("ab") as file:
        file.write(b"\n" + event_line(Suspended(3, as_text(time.time()), by="root", reason="look")))
    envelope(kmqd, gone).unlink()
    envelope(kmqd, gone).with_suffix(".eml").unlink()
    os.truncate(envelope(kmqd, cut).with_suffix(".eml"), 3)
    assert begun(kmqd) == (len(names) - 2, BEYOND - 3)
    assert ids(kmqd, "Status -eq Suspended") == {held, cut}, "what is set aside counts as held"
    assert (kmqd.spool / "poison" / f"{cut}.env").exists(), "it is set aside"


def test_kills_while_it_loads_leave_nothing_unknown(kmqd: Kmqd, names: list[str]) -> None:
    for _ in range(2):
        kmqd.kill_all()
        before = kmqd.log.count(": recovered ")
        kmqd.begin()
        until(lambda before=before: kmqd.log.count(": recovered ") > before, "it begins to load")
    kmqd.kill_all()
    assert begun(kmqd)[0] == len(names) - 2
