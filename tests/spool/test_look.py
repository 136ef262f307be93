"""Looking at a spool: everything that is there, nothing that is not, whatever lies about."""

import os
import shutil
from pathlib import Path

import pytest

from kmq.errors import SpoolError
from kmq.model import queue_id
from kmq.model.envelope import seal
from kmq.model.event import Deferred, Moved, Routed, Suspended
from kmq.spool import look
from kmq.spool.look import Damaged, Found, find, header_of, walk
from tests.mailbag import BODY, Mailbag

HOP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"


@pytest.fixture
def bag(tmp_path: Path) -> Mailbag:
    return Mailbag(tmp_path)


def ids(spool: Path) -> list[str]:
    return [found.head.id for found in walk(spool) if isinstance(found, Found)]


def damage(spool: Path) -> dict[str, str]:
    return {found.id: found.reason for found in walk(spool) if isinstance(found, Damaged)}


def test_messages_come_by_id_first_the_queue_then_poison(bag: Mailbag) -> None:
    poison = bag.lay(Moved(home="poison", reason="two workers died of it"), home="poison")
    names = [bag.lay() for _ in range(20)]
    assert ids(bag.spool) == [*names, poison]


def test_a_message_is_its_head_and_what_happened(bag: Mailbag) -> None:
    name = bag.lay(
        Routed(rcpt="0", hop=HOP, rule="etc/kmq.conf:31"),
        Deferred(rcpt="0", attempt=1, reply="451 4.4.1 not now", host="mx", until="2026-11-22T05:55:11.000Z"),
        Suspended(by="root", reason="looks odd"),
    )
    (found,) = walk(bag.spool)
    assert isinstance(found, Found)
    assert (found.head.id, found.home) == (name, "queue")
    assert (found.state.hop, found.state.until) == ([HOP], ["2026-11-22T05:55:11.000Z"])
    assert found.state.suspended
    assert [type(event).__name__ for event in found.events] == ["Routed", "Deferred", "Suspended"]
    assert found.path.is_file()
    assert found.body.read_bytes() == BODY
    again = find(bag.spool, queue_id.parse(name))
    assert isinstance(again, Found)
    assert (again.head, again.events) == (found.head, found.events)


def test_one_is_found_in_either_home_or_not_at_all(bag: Mailbag) -> None:
    name = bag.lay(home="poison")
    found = find(bag.spool, queue_id.parse(name))
    assert isinstance(found, Found)
    assert found.home == "poison"
    assert find(bag.spool, queue_id.parse("69212ad0-ffffffff")) is None
    assert find(bag.spool / "nowhere", queue_id.parse(name)) is None


def test_what_vanishes_meanwhile_was_delivered(bag: Mailbag) -> None:
    first, second, third = bag.lay(), bag.lay(), bag.lay()
    listing = walk(bag.spool)
    assert isinstance(found := next(listing), Found)
    assert found.head.id == first
    bag.envelope(second).unlink()
    assert [found.head.id for found in listing if isinstance(found, Found)] == [third]
    listing = walk(bag.spool)
    assert next(listing)
    shutil.rmtree(bag.folder(first))
    assert list(listing) == []


def test_damage_is_told_with_its_reason_and_hides_nothing_else(bag: Mailbag) -> None:
    empty, torn, other, good = bag.lay(), bag.lay(), bag.lay(), bag.lay()
    bag.envelope(empty).write_bytes(b"")
    bag.envelope(torn).write_bytes(bag.envelope(good).read_bytes()[:100])
    bag.envelope(other).write_bytes(bag.envelope(good).read_bytes())
    assert ids(bag.spool) == [good]
    told = damage(bag.spool)
    assert told[empty] == "the envelope is empty"
    assert told[torn] == "the envelope's first line is damaged"
    assert told[other] == f"the envelope says that it is {good}"
    assert isinstance(find(bag.spool, queue_id.parse(torn)), Damaged)


def test_an_event_that_names_nobody_hides_nothing(bag: Mailbag) -> None:
    name = bag.lay()
    with bag.envelope(name).open("ab") as file:
        file.write(b"\n" + seal(b'{"event":"routed","seq":1,"rcpt":"7-1","hop":"x"}'))
    assert ids(bag.spool) == [name]


def test_every_cut_of_an_envelope_is_a_reading(bag: Mailbag) -> None:
    name = bag.lay(Routed(rcpt="0", hop=HOP))
    whole = bag.envelope(name).read_bytes()
    for n in range(len(whole)):
        bag.envelope(name).write_bytes(whole[:n])
        (found,) = walk(bag.spool)
        assert isinstance(found, Found if n >= whole.index(b"\n") else Damaged)


def test_what_was_set_aside_is_shown_with_the_reason_beside_it(bag: Mailbag) -> None:
    moved = bag.lay(Moved(home="poison", reason="two workers died of it"), home="poison")
    whole, bare, torn = (bag.lay(home="poison") for _ in range(3))
    for name, reason in ((whole, "its body is another's"), (bare, "no envelope"), (torn, "the head is damaged")):
        (bag.spool / "poison" / f"{name}.reason").write_text(reason + "\n")
    bag.envelope(bare, "poison").unlink()
    bag.envelope(torn, "poison").write_bytes(b"{")
    (bag.spool / "poison" / "69212ad0-0000ffff.reason").write_text("of a message that an operator took away")
    assert {found.head.id: found.reason for found in walk(bag.spool) if isinstance(found, Found)} == {
        moved: "two workers died of it",
        whole: "its body is another's",
    }
    assert damage(bag.spool) == {bare: "no envelope", torn: "the head is damaged"}


def test_what_is_no_file_of_ours_is_passed_by_or_told(bag: Mailbag) -> None:
    good = bag.lay()
    folder = bag.folder(good)
    shutil.copy(bag.envelope(good), folder / f"{good}.env~")
    shutil.copy(bag.envelope(good), folder / ".#backup.env")
    shutil.copy(bag.envelope(good), folder / "name\nwith line.env")
    (bag.spool / "queue" / "stray").write_bytes(b"")
    (bag.spool / "queue" / "link").symlink_to("/etc")
    (folder / "69212ad0-00000010.env").symlink_to("/etc/passwd")
    (folder / "69212ad0-00000011.env").mkdir()
    os.mkfifo(folder / "69212ad0-00000012.env")
    assert ids(bag.spool) == [good]
    told = damage(bag.spool)
    assert sorted(told) == ["69212ad0-00000010", "69212ad0-00000011", "69212ad0-00000012"]
    assert told["69212ad0-00000011"] == told["69212ad0-00000012"] == "cannot be read: not a regular file"


def test_an_envelope_beyond_reason_is_not_read(bag: Mailbag, monkeypatch: pytest.MonkeyPatch) -> None:
    name = bag.lay()
    monkeypatch.setattr(look, "_LONGEST", 50)
    assert damage(bag.spool) == {name: "cannot be read: longer than any envelope"}


def test_no_spool_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match=r"queue is not there: kmqd makes the spool when it starts"):
        list(walk(tmp_path))
    (tmp_path / "queue").write_text("")
    with pytest.raises(SpoolError, match="not a folder"):
        list(walk(tmp_path))


def test_the_header_ends_where_the_body_begins(bag: Mailbag, tmp_path: Path) -> None:
    found = find(bag.spool, queue_id.parse(bag.lay()))
    assert isinstance(found, Found)
    assert header_of(found.body) == BODY[: BODY.index(b"\r\n\r\n")]
    assert header_of(tmp_path / "gone.eml") is None
    os.mkfifo(tmp_path / "pipe.eml")
    assert header_of(tmp_path / "pipe.eml") is None
    (tmp_path / "long.eml").write_bytes(b"X: y\r\n" * 100_000)
    header = header_of(tmp_path / "long.eml")
    assert header and len(header) == look.HEADER_LIMIT
