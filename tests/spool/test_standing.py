"""What a start recalls from the index instead of reading envelopes: the same, or nothing."""

import itertools
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.model import queue_id
from kmq.model.event import (
    Crashed,
    Deferred,
    Delayed,
    Delivered,
    Event,
    HeaderEdit,
    Passed,
    Redirected,
    Removing,
    Routed,
    Suspended,
)
from kmq.run.share import Part, open_parts, waiting_parts
from kmq.spool import index, loading
from kmq.spool.disk import Disk
from kmq.spool.index import Index
from kmq.spool.loading import Damaged, Loaded, Recalled
from tests.mailbag import BODY, Mailbag

ISP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"
WORLD = "DnsConnectorDelivery;far.test;world"
LATER = "2026-11-22T09:00:00.000Z"


@pytest.fixture
def bag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mailbag:
    """The index is asked from the first message on."""
    monkeypatch.setattr(loading, "FEW", 0)
    (tmp_path / "spool" / "index").mkdir(parents=True)
    return Mailbag(tmp_path / "spool")


def indexed(bag: Mailbag) -> None:
    one = Index.to_write(bag.spool)
    for numbers in one.stale():
        one.look_again(numbers)
    one.close()


def start(bag: Mailbag) -> dict[str, Loaded | Recalled | Damaged]:
    """What a start finds."""
    disk = Disk(bag.spool)
    try:
        found = list(itertools.chain.from_iterable(loading.whole_queue(disk)))
    finally:
        disk.close()
    assert [one.id for one in found] == sorted({one.id for one in found}), "each once, the oldest first"
    return {queue_id.text(one.id): one for one in found}


def recalled(bag: Mailbag) -> set[str]:
    return {name for name, one in start(bag).items() if isinstance(one, Recalled)}


def alter(bag: Mailbag, statement: str, *values: object) -> None:
    connection = sqlite3.connect(index.path_of(bag.spool), isolation_level=None)
    connection.execute(statement, values)
    connection.close()


def deferred(rcpt: str = "0", attempt: int = 1) -> Deferred:
    return Deferred(rcpt=rcpt, attempt=attempt, reply="451 4.7.1 later", until=LATER)


# --- the same ---------------------------------------------------------------------------------------------------------

#: Histories of mail for three, all of whom still wait.
ORDINARY: dict[str, list[Event]] = {
    "just accepted": [],
    "routed": [Routed(rcpt="0-2", hop=ISP)],
    "deferred": [Routed(rcpt="0-2", hop=ISP), deferred("0-2")],
    "each its own way": [Routed(rcpt="0,2", hop=ISP), Routed(rcpt="1", hop=WORLD), deferred("2"), deferred("2", 2)],
    "by a way that is no more": [Routed(rcpt="0", hop="Unreachable;Unreachable Domain;"), Routed(rcpt="1", hop="odd")],
    "its sender was told": [Routed(rcpt="0-2", hop=ISP), deferred("0-2"), Delayed(rcpt="0-1")],
    "it has passed a phase": [Passed(step="Antivirus control/virus"), Routed(rcpt="0-2", hop=ISP)],
}

#: Of these the envelope is read.
OTHERWISE: dict[str, list[Event]] = {
    "one has it": [Routed(rcpt="0-2", hop=ISP), Delivered(rcpt="1")],
    "held": [Routed(rcpt="0-2", hop=ISP), Suspended(rcpt="0", by="root")],
    "to be removed": [Routed(rcpt="0-2", hop=ISP), Removing(rcpt="0", by="root")],
    "sent another way": [Routed(rcpt="0-2", hop=ISP), Redirected(rcpt="0", connector="isp", by="root")],
    "a worker died of it": [Crashed(count=1, n=7)],
    "its header is changed": [Passed(step="rules", headers=(HeaderEdit("add", "X-Spam", "yes"),))],
}


def ways(parts: list[Part]) -> dict[int, Part]:
    """Of each recipient what is to be done."""
    return {index: part._replace(rcpt=()) for part in parts for index in part.rcpt}


@pytest.mark.parametrize("priority", ["", "high"])
@pytest.mark.parametrize("history", ORDINARY.values(), ids=ORDINARY.keys())
def test_what_is_recalled_is_what_the_envelope_says(bag: Mailbag, history: list[Event], priority: str) -> None:
    name = bag.lay(*history, to=("a@x.test", "b@x.test", "c@x.test"), priority=priority)
    read = start(bag)[name]
    indexed(bag)
    one = start(bag)[name]
    assert isinstance(read, Loaded) and isinstance(one, Recalled)
    assert one.standing.next_seq == read.state.next_seq
    assert one.standing.priority == read.head.priority
    former = {"world": "globe"}
    assert ways(waiting_parts(one.standing.groups, former=former)) == ways(open_parts(read.state, former=former))


@pytest.mark.parametrize("history", OTHERWISE.values(), ids=OTHERWISE.keys())
def test_of_mail_with_a_story_the_envelope_is_read(bag: Mailbag, history: list[Event]) -> None:
    name = bag.lay(*history, to=("a@x.test", "b@x.test", "c@x.test"))
    indexed(bag)
    assert isinstance(start(bag)[name], Loaded)


def test_a_message_for_very_many_is_read(bag: Mailbag) -> None:
    name = bag.lay(to=tuple(f"a{n}@x.test" for n in range(101)))
    indexed(bag)
    assert isinstance(start(bag)[name], Loaded)


# --- the envelope is the truth ----------------------------------------------------------------------------------------


def test_what_changed_since_is_read(bag: Mailbag) -> None:
    """The index is older than the queue: kmqd was killed, and recovery went on from the journal."""
    grown, touched, same, gone = (bag.lay(Routed(rcpt="0", hop=ISP)) for _ in range(4))
    indexed(bag)
    assert recalled(bag) == {grown, touched, same, gone}
    with bag.envelope(grown).open("ab") as envelope:
        envelope.write(b"\n")
    os.utime(bag.envelope(touched), ns=(0, 0))
    for ending in (".env", ".eml"):
        bag.envelope(gone).with_suffix(ending).unlink()
    new = bag.lay(Routed(rcpt="0", hop=WORLD))
    found = start(bag)
    assert set(found) == {grown, touched, same, new}
    assert {name for name, one in found.items() if isinstance(one, Recalled)} == {same}


def test_a_body_that_is_not_what_it_should_be_is_noticed(bag: Mailbag) -> None:
    short, missing, whole = (bag.lay(Routed(rcpt="0", hop=ISP)) for _ in range(3))
    indexed(bag)
    bag.envelope(short).with_suffix(".eml").write_bytes(BODY[:-1])
    bag.envelope(missing).with_suffix(".eml").unlink()
    found = start(bag)
    assert isinstance(found[short], Damaged) and isinstance(found[missing], Damaged)
    assert isinstance(found[whole], Recalled)


def test_an_index_that_lies_is_not_believed(bag: Mailbag) -> None:
    """A line that stands in another's place, was altered or cut, or has no sense, is sealed for none of these files."""
    names = [bag.lay(Routed(rcpt="0", hop=hop)) for hop in (ISP, WORLD, ISP, ISP, ISP)]
    indexed(bag)
    first, second, third, fourth, fifth = (index.mid_of(queue_id.parse(name)) for name in names)
    alter(
        bag,
        "UPDATE message SET standing = (SELECT standing FROM message WHERE mid = ?) WHERE mid = ?",
        second,
        first,
    )
    alter(bag, "UPDATE message SET standing = replace(standing, 'far', 'foo') WHERE mid = ?", second)
    alter(bag, "UPDATE message SET standing = substr(standing, 1, 20) WHERE mid = ?", third)
    alter(bag, "UPDATE message SET standing = x'00ff', bytes = 'many' WHERE mid = ?", fourth)
    found = start(bag)
    assert {name for name, one in found.items() if isinstance(one, Recalled)} == {names[4]}
    hops = {name: one.state.hop[0] for name, one in found.items() if isinstance(one, Loaded)}
    assert hops == {names[0]: ISP, names[1]: WORLD, names[2]: ISP, names[3]: ISP}
    assert fifth


def spoil(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8192)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def another(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 1")
    connection.close()


def earlier(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE fact SET value = 'another' WHERE name = 'boot'")
    connection.close()


@pytest.mark.parametrize("harm", [spoil, cut, another, earlier, os.unlink], ids=lambda harm: harm.__name__)
def test_without_a_believable_index_all_is_read(bag: Mailbag, harm: object) -> None:
    """Damaged, of another kmq, left by a power cut, or not there."""
    names = [bag.lay(Routed(rcpt="0", hop=ISP), deferred()) for _ in range(300)]
    indexed(bag)
    assert recalled(bag) == set(names)
    harm(index.path_of(bag.spool))  # type: ignore[operator]
    found = start(bag)
    assert set(found) == set(names)
    assert all(isinstance(one, Loaded | Recalled) for one in found.values())
    if harm is not cut:  # of that, what can be read and is sealed for these files is true
        assert recalled(bag) == set()


def test_an_index_that_breaks_on_the_way_is_asked_no_more(bag: Mailbag) -> None:
    names = [bag.lay(Routed(rcpt="0", hop=ISP)) for _ in range(300)]
    indexed(bag)
    disk = Disk(bag.spool)
    going = loading.whole_queue(disk)
    first = next(going)
    alter(bag, "DROP TABLE message")
    rest: Iterator[Loaded | Recalled | Damaged] = itertools.chain.from_iterable(going)
    read = [queue_id.text(one.id) for one in rest if isinstance(one, Loaded)]
    disk.close()
    assert len(first) + len(read) == len(names) and read == names[len(first) :]


def test_a_short_queue_is_read_without_a_look_at_the_index(bag: Mailbag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "FEW", 2)
    names = [bag.lay(Routed(rcpt="0", hop=ISP)) for _ in range(3)]
    indexed(bag)
    assert recalled(bag) == {names[2]}
