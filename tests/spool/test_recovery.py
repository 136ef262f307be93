"""Damage of every kind on a real disk: nothing accepted is deleted, nothing is guessed, nothing stops the start.

What the journal still holds is made whole again; what nobody can restore is told with its reason, or lies in poison/.
"""

import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kmq.errors import SpoolError, StorageFailed
from kmq.model import queue_id
from kmq.model.envelope import fold, lines_of, read_event, seal
from kmq.spool import checkpoint, journal, layout, loading
from kmq.spool.checkpoint import Note
from kmq.spool.disk import Disk
from kmq.spool.record import Dropped
from kmq.spool.recovery import Recovery
from tests.spool.explore import empty_spool
from tests.spool.ghost import GhostDisk, GhostNote
from tests.spool.ledger import Ledger
from tests.spool.life import Life, recover
from tests.spool.stories import Failing, before
from tests.spool.world import SEGMENT, World, tree

BODY = b"Subject: damage\r\n\r\n" + b"something that must not be lost\r\n" * 20


class Spool:
    """A spool at rest with one message, of three events; `covered`: no record names it any more."""

    def __init__(self, root: Path, covered: bool) -> None:
        root.mkdir()
        self.root = root
        world = World(root)
        self.number = world.put(BODY)
        world.settle()
        for seq in (1, 2, 3):
            world.append(self.number, seq, "deferred", rcpt="0", attempt=seq, reply="451 4.3.0 later")
        world.settle()
        if covered:
            world.checkpoint()
        self.envelope, self.body = root / layout.envelope(self.number), root / layout.body(self.number)
        self.text = self.envelope.read_bytes()

    def start(self) -> World:
        return World(self.root)

    def loaded(self) -> loading.Loaded | loading.Damaged:
        disk = Disk(self.root)
        try:
            found = loading.one(disk, self.number)
            assert found is not None, "the message is gone"
            return found
        finally:
            disk.close()


@pytest.fixture
def covered(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", covered=True)


@pytest.fixture
def traced(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", covered=False)


def damages(text: bytes) -> Iterator[bytes]:
    """Truncated at every byte, one bit flipped at every seventh, zeros behind and throughout, no text at all."""
    yield from (text[:length] for length in range(len(text)))
    for place in range(0, len(text), 7):
        yield text[:place] + bytes([text[place] ^ 1 << place % 8]) + text[place + 1 :]
    yield from (text + bytes(600), bytes(len(text)), b"\xff\xfe" + text, b"\n" + bytes(range(256)))


# --- envelopes -------------------------------------------------------------------------------------------------------


def test_a_damaged_envelope_says_less_or_nothing_and_never_something_else(covered: Spool) -> None:
    whole = fold(covered.text)
    assert whole is not None
    spoiled = 0
    for text in damages(covered.text):
        covered.envelope.write_bytes(text)
        found = covered.loaded()
        if isinstance(found, loading.Damaged):
            spoiled += 1
            continue
        assert found.head == whole[0], "other recipients, another body"
        folded = fold(text)
        assert folded is not None and all(one in whole[2] for one in folded[2]), "an event from nowhere"
    assert spoiled > 200


def test_a_start_leaves_a_damaged_envelope_as_it_is(covered: Spool) -> None:
    for text in (b"", covered.text[:100], bytes(len(covered.text)), covered.text[:40] + b"x" + covered.text[41:]):
        covered.envelope.write_bytes(text)
        world = covered.start()
        assert covered.envelope.read_bytes() == text and covered.body.read_bytes() == BODY
        assert isinstance(world.found()[covered.number], loading.Damaged)


def test_what_the_journal_holds_is_made_whole_again(traced: Spool, tmp_path: Path) -> None:
    for text in list(damages(traced.text))[::13]:
        traced.envelope.write_bytes(text)
        copy = tmp_path / "copy"
        shutil.copytree(traced.root, copy)
        World(copy)
        assert lines_of((copy / layout.envelope(traced.number)).read_bytes()) == lines_of(traced.text)
        shutil.rmtree(copy)


def test_an_event_of_a_later_kmq_outlives_a_repair(traced: Spool) -> None:
    later = seal(b'{"event":"levitated","seq":9,"at":"2031-01-01T00:00:00.000Z"}')
    lines = lines_of(traced.text)
    traced.envelope.write_bytes(b"\n".join([*lines[:2], later, b'{"sum":"00000000","torn']))
    traced.start()
    found = lines_of(traced.envelope.read_bytes())
    assert later in found and set(lines) <= set(found)


def test_events_of_a_message_whose_head_is_damaged_are_kept(covered: Spool) -> None:
    world = covered.start()
    world.append(covered.number, 4, "delivered", rcpt="0", attempt=4, reply="250 ok")
    world.sync()  # and the process is killed before its effects
    covered.envelope.write_bytes(b"{broken" + covered.text[7:])
    again = covered.start()
    events = [read_event(line) for line in lines_of(covered.envelope.read_bytes())]
    assert [one.seq for one in events if one is not None] == [1, 2, 3, 4]
    assert isinstance(again.found()[covered.number], loading.Damaged)


def test_an_envelope_that_is_another_messages_is_damage(covered: Spool) -> None:
    world = covered.start()
    other = world.put(b"Subject: other\r\n\r\n")
    world.settle()
    world.checkpoint()
    covered.envelope.write_bytes((covered.root / layout.envelope(other)).read_bytes())
    found = covered.start().found()
    assert isinstance(found[covered.number], loading.Damaged) and isinstance(found[other], loading.Loaded)


def test_an_envelope_that_is_another_messages_is_made_anew_from_the_journal(traced: Spool) -> None:
    head, _, rest = traced.text.partition(b"\n")
    stranger = seal(b"{" + head[18:].replace(queue_id.text(traced.number).encode(), b"69212ad0-00000099"))
    traced.envelope.write_bytes(stranger + b"\n" + rest)
    traced.start()
    assert lines_of(traced.envelope.read_bytes()) == lines_of(traced.text)


# --- bodies ----------------------------------------------------------------------------------------------------------


BODIES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda body: body.write_bytes(BODY[:-1]),
    "longer": lambda body: body.write_bytes(BODY + b"x"),
    "empty": lambda body: body.write_bytes(b""),
    "missing": lambda body: body.unlink(),
    "a folder": lambda body: (body.unlink(), body.mkdir()),
}


@pytest.mark.parametrize("damage", BODIES)
def test_a_damaged_body_is_told_and_nothing_is_deleted(covered: Spool, damage: str) -> None:
    BODIES[damage](covered.body)
    found = covered.start().found()[covered.number]
    assert isinstance(found, loading.Damaged) and "body" in found.reason
    assert covered.envelope.read_bytes() == covered.text


@pytest.mark.parametrize("damage", [name for name in BODIES if name != "a folder"])
def test_a_body_that_the_journal_holds_is_made_again(traced: Spool, damage: str) -> None:
    BODIES[damage](traced.body)
    world = traced.start()
    assert traced.body.read_bytes() == BODY
    assert isinstance(world.found()[traced.number], loading.Loaded) and world.recovered.damaged == {}


def test_a_body_with_another_content_is_told_where_a_record_names_the_message(covered: Spool) -> None:
    world = covered.start()
    world.append(covered.number, 4, "deferred", rcpt="0", attempt=4, reply="451 x")
    world.settle()
    covered.body.write_bytes(BODY.replace(b"must", b"dust"))
    again = covered.start()
    assert list(again.recovered.damaged) == [covered.number]
    assert covered.body.read_bytes() == BODY.replace(b"must", b"dust"), "set aside by whoever loads it, not deleted"


def test_a_body_without_envelope_is_set_aside_with_the_reason(covered: Spool) -> None:
    covered.envelope.unlink()
    world = covered.start()
    name = queue_id.text(covered.number)
    assert tree(covered.root) == [f"poison/{name}.eml", f"poison/{name}.reason"]
    assert (covered.root / f"poison/{name}.eml").read_bytes() == BODY
    assert len(world.recovered.set_aside) == 1 and name in world.recovered.set_aside[0]


def test_what_lies_in_poison_already_is_not_written_over(covered: Spool) -> None:
    covered.envelope.unlink()
    name = queue_id.text(covered.number)
    (covered.root / f"poison/{name}.eml").write_bytes(b"an earlier one")
    (covered.root / f"poison/{name}.reason").write_bytes(b"somebody put it here")
    covered.start()
    kept = {path.read_bytes() for path in (covered.root / "poison").glob("*.eml")}
    assert kept == {BODY, b"an earlier one"}


# --- the journal and its checkpoint ----------------------------------------------------------------------------------


def newest(root: Path) -> Path:
    disk = Disk(root)
    found = [segment.file for segment in journal.read(disk)]
    disk.close()
    return root / found[-1]


def test_a_journal_cut_at_any_byte_is_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    world = World(tmp_path / "spool")
    numbers = [world.put(b"Subject: %d\r\n\r\n" % place) for place in range(4)]
    world.sync_all()
    segment = newest(tmp_path / "spool")
    text = segment.read_bytes()
    end = len(text.rstrip(b"\0"))
    segment.write_bytes(text[: end + 2 * journal.BLOCK])  # the rest is zeros: a smaller file is copied faster
    seen = set()
    for length in (*range(0, end, 37), end):
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "spool", copy)
        os.truncate(copy / "journal" / segment.name, length)
        again = World(copy)
        found = again.found()
        assert list(found) == numbers[: len(found)] and all(isinstance(one, loading.Loaded) for one in found.values())
        assert again.recovered.journal == []
        seen.add(len(found))
        shutil.rmtree(copy)
    assert seen == {0, 1, 2, 3, 4}


def test_damage_inside_the_journal_is_told_and_the_segment_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path)
    numbers = [world.put(b"Subject: %d\r\n\r\n" % place) for place in range(3)]
    for _ in numbers:  # three batches
        batch = world.store.take()
        assert batch
        world.store.pending.extendleft(reversed(batch[1:]))
        world.store.settle(batch[:1], world.store.sync(batch[:1]))
    segment = newest(tmp_path)
    text = bytearray(segment.read_bytes())
    text[2 * journal.BLOCK + 40] ^= 4  # in the second batch; the third stands behind it
    segment.write_bytes(text)
    again = World(tmp_path)
    assert list(again.found()) == numbers[:1]
    assert len(again.recovered.journal) == 1 and segment.name in again.recovered.journal[0]
    assert (segment.parent / f"damaged.{segment.name}").read_bytes() == bytes(text)
    once_more = World(tmp_path)
    assert once_more.recovered.journal == [] and list(once_more.found()) == numbers[:1]


def test_a_damaged_header_hides_no_records(tmp_path: Path) -> None:
    world = World(tmp_path)
    number = world.put()
    world.sync()
    segment = newest(tmp_path)
    with segment.open("r+b") as file:
        file.write(b"XXXX")
    assert list(World(tmp_path).found()) == [number]


def test_a_generation_that_is_missing_is_told(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.put()
    world.sync()
    segment = newest(tmp_path)
    world.store.turn()
    world.put()
    world.sync()
    segment.unlink()
    assert "is missing" in World(tmp_path).recovered.journal[0]


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_checkpoint_loses_nothing_and_brings_nothing_back(tmp_path: Path, damage: str) -> None:
    world = World(tmp_path)
    kept, removed = world.put(), world.put()
    world.settle()
    old = newest(tmp_path)
    put_again = old.read_bytes()
    world.remove(removed)
    world.settle()
    world.checkpoint()
    late = world.put()
    world.sync()
    file = tmp_path / checkpoint.FILE
    text = file.read_bytes()
    old.write_bytes(put_again)  # a segment whose recycling the power cut has undone: the put, and not the remove
    file.write_bytes({"flipped": text.replace(b"checkpoint", b"chockpoint"), "cut": text[:30], "gone": b""}[damage])
    if damage == "gone":
        file.unlink()
    again = World(tmp_path)
    assert set(again.found()) >= {kept, late}
    assert again.recovered.last_id >= late
    world.log.close()


def test_segments_before_a_gap_are_not_read_without_a_checkpoint(tmp_path: Path) -> None:
    world = World(tmp_path)
    removed = world.put()
    world.settle()
    old = newest(tmp_path)
    text = old.read_bytes()
    world.remove(removed)
    world.settle()
    for _ in range(3):  # three generations later
        world.put()
        world.settle()
        world.checkpoint()
    old.write_bytes(text)
    (tmp_path / checkpoint.FILE).write_bytes(b"garbage")
    assert removed not in World(tmp_path).found()


def test_a_spool_of_a_later_kmq_is_left_alone(tmp_path: Path) -> None:
    World(tmp_path).put()
    (tmp_path / "FORMAT").write_text('{"kmq":"spool","version":2}\n')
    files = tree(tmp_path)
    with pytest.raises(SpoolError, match="format 2"):
        World(tmp_path)
    assert tree(tmp_path) == files


@pytest.mark.parametrize("text", ["", "{", '{"kmq":"spool"}', "2"])
def test_a_damaged_format_stops_the_start_in_words(tmp_path: Path, text: str) -> None:
    World(tmp_path)
    (tmp_path / "FORMAT").write_text(text)
    with pytest.raises(SpoolError, match="FORMAT is damaged: it should read"):
        World(tmp_path)


# --- what kmq did not make -------------------------------------------------------------------------------------------


def strew(folder: Path, name: str) -> list[Path]:
    """Names of every kind, one of them like a message's."""
    made = [
        folder / one for one in ("fifo", "link", "folder", "notes~", ".nfs0001", "a\nb", "x" * 250, f"{name} copy.eml")
    ]
    os.mkfifo(made[0])
    made[1].symlink_to("/etc/shadow")
    made[2].mkdir()
    for path in made[3:]:
        path.write_bytes(b"somebody's")
    odd = os.fsencode(folder) + b"/\xff\xfe"
    with open(odd, "wb") as file:
        file.write(b"somebody's")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "socket"))
    server.close()
    return [*made, folder / "socket", Path(os.fsdecode(odd))]


@pytest.mark.timeout(30)
def test_foreign_files_are_left_alone_and_stop_nothing(covered: Spool) -> None:
    before = os.stat("/etc/shadow")
    name = queue_id.text(covered.number + 1)
    places = [covered.envelope.parent, *(covered.root / one for one in ("queue", "poison", "journal", "pickup"))]
    made = [path for place in places for path in strew(place, name)]
    for odd in ("env.new", "eml.new", "eml", "put"):
        (covered.envelope.parent / f"{name}.{odd}").mkdir()
        made.append(covered.envelope.parent / f"{name}.{odd}")
    world = covered.start()
    assert [path for path in made if not os.path.lexists(path)] == []
    assert isinstance(world.found()[covered.number], loading.Loaded)
    assert world.put() > covered.number
    world.settle()
    world.checkpoint()
    after = os.stat("/etc/shadow")
    assert (before.st_mtime_ns, stat.S_IMODE(before.st_mode)) == (after.st_mtime_ns, stat.S_IMODE(after.st_mode))


def test_folders_and_links_in_incoming_do_not_stop_the_start(covered: Spool) -> None:
    (covered.root / "incoming/folder").mkdir()
    (covered.root / "incoming/link").symlink_to("/etc/shadow")
    (covered.root / "incoming/1-99999999-5-1").write_bytes(b"half a body")
    covered.start()
    assert sorted(os.listdir(covered.root / "incoming")) == ["folder", "link"]
    assert os.path.exists("/etc/shadow")


def test_a_folder_that_is_no_folder_is_told_before_anything_is_changed(tmp_path: Path) -> None:
    (tmp_path / "poison").symlink_to("/tmp")
    with pytest.raises(SpoolError, match="poison is not a folder"):
        World(tmp_path)


# --- what a start leaves, and needs ----------------------------------------------------------------------------------


def test_bodies_of_living_receivers_stay(covered: Spool) -> None:
    for name in ("alive", "dead"):
        (covered.root / "incoming" / name).write_bytes(b"a large body")
    disk = Disk(covered.root)
    Recovery(disk, Note(str(covered.root / "run/syncfs")), SEGMENT, lambda name: name == "alive").recover()
    assert os.listdir(covered.root / "incoming") == ["alive"]


def test_empty_folders_of_the_queue_go(covered: Spool) -> None:
    world = covered.start()
    world.remove(covered.number)
    world.sync()  # its effect is left to recovery
    covered.start()
    assert not covered.envelope.parent.exists()


def test_recovery_takes_no_new_segment_however_often_it_is_stopped() -> None:
    """The reserve lasts: each try gives back the segment that the one before it had copied (J13)."""
    kernel = empty_spool()
    ledger = Ledger()
    before(Life(kernel, ledger))
    sizes = set()
    for _ in range(8):
        disk = GhostDisk(kernel)
        disk.fault = Failing("sync_all")
        with pytest.raises(StorageFailed):
            recover(disk, GhostNote(kernel), ledger)
        kernel.noted = False
        sizes.add(len(disk.names("journal")))
        kernel = kernel.after_cut("kept")
    assert max(sizes) <= min(sizes) + 1


def test_a_segment_with_two_names_is_used_once(tmp_path: Path) -> None:
    """A rename that a power cut has split, or that a failed sync has."""
    world = World(tmp_path)
    world.put()
    world.settle()
    segment = newest(tmp_path)
    os.link(segment, segment.with_name("00000077.0000.log"))
    os.link(segment, segment.with_name("spare.00000099"))
    again = World(tmp_path)
    files = [path.stat() for path in (tmp_path / "journal").iterdir()]
    assert len({file.st_ino for file in files}) == len(files)
    assert again.recovered.generation == 0x78 and len(again.found()) == 1


def test_a_full_disk_stops_recovery_in_words_and_loses_nothing() -> None:
    for kind in ("create", "write", "link", "make_folder"):
        for place in range(40):
            kernel, ledger = empty_spool(), Ledger()
            before(Life(kernel, ledger))
            disk = GhostDisk(kernel)
            disk.fault = Failing(kind, 28, place)
            try:
                recover(disk, GhostNote(kernel), ledger)
            except StorageFailed as error:
                assert "Nothing is lost; make room" in str(error)
            else:
                assert place > 0 or kind == "make_folder"
                break
            recovered, _ = recover(GhostDisk(kernel), GhostNote(kernel), ledger)
            assert ledger.judge(GhostDisk(kernel), recovered) == []


def test_the_note_survives_the_process_and_not_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, path = Disk(tmp_path), str(tmp_path / "note")
    with pytest.raises(StorageFailed, match="may not be on the disk"), Note(path).around(disk):
        raise OSError(5, "Input/output error")
    assert Note(path).found()
    monkeypatch.setattr(checkpoint, "boot_id", lambda: "another run of the kernel")
    assert not Note(path).found()
    with Note(path).around(disk):
        assert Note(path).found()
    assert not Note(path).found()


def test_a_note_that_stands_is_not_written_again(tmp_path: Path) -> None:
    """While it is truncated a kill would lose it."""
    note = Note(str(tmp_path / "note"))
    note.make()
    inode = os.stat(note.path)
    note.make()
    assert (os.stat(note.path).st_ino, os.stat(note.path).st_mtime_ns) == (inode.st_ino, inode.st_mtime_ns)


def test_after_a_failed_syncfs_every_file_is_written_anew(traced: Spool) -> None:
    note = Note(str(traced.root / "run/syncfs"))
    old = traced.envelope.stat().st_ino, traced.body.stat().st_ino
    note.make()
    world = traced.start()
    assert world.recovered.rewritten and not note.found()
    assert not {traced.envelope.stat().st_ino, traced.body.stat().st_ino} & set(old)
    assert traced.body.read_bytes() == BODY and lines_of(traced.envelope.read_bytes()) == lines_of(traced.text)


def test_a_dropped_file_that_was_replaced_is_another(tmp_path: Path) -> None:
    world = World(tmp_path)
    file = tmp_path / "pickup/a.tmp"
    file.write_bytes(b"Subject: first\r\n\r\n")
    status = file.stat()
    dropped = Dropped("pickup/a.tmp", status.st_ino, status.st_mtime_ns)
    assert world.effects.claim(dropped)
    world.put(b"Subject: first\r\n\r\n", dropped=dropped)
    world.sync()  # and killed
    (tmp_path / "pickup/b").write_bytes(b"Subject: second\r\n\r\n")
    os.rename(tmp_path / "pickup/b", file)
    World(tmp_path)
    assert file.read_bytes() == b"Subject: second\r\n\r\n"
