"""Status files: what stands in them when a process dies, and what a reader makes of any bytes at all."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kmq.errors import SpoolLocked
from kmq.model.phase import Phase
from kmq.spool import status as status_module
from kmq.spool.processes import Condition, ProcessStatus, last_words, read, read_all
from kmq.spool.status import KEPT_DEAD, LINE, StatusFile, addressees, cut, set_aside, status_path

ID = "69212ad0-0000a1f3"

#: A worker that takes two messages, brings one to SMTP and back to this machine's bytes, and waits to be killed.
WORKER = f"""
import sys
from pathlib import Path
from kmq.model.phase import Phase
from kmq.spool import status as module
from kmq.spool.status import StatusFile
module.BEAT = 0.0
status = StatusFile(Path(sys.argv[1]), "worker", 1)
status.counters["delivered"] = 7
first = status.begin("{ID}", 4711, "alice@example.org", "bob@example.net")
second = status.begin("69212ad0-0000a1f4", 12, "", "carol@example.net")
status.enter(first, Phase.SMTP)
status.show(first, "mx.example.net[192.0.2.1]:25", 40)
status.flush()
status.enter(first, Phase.TERMINATING)
status.end(second)
print("ready", flush=True)
sys.stdin.readline()
"""


def hands(status: ProcessStatus) -> list[tuple[str, str]]:
    return [(hand.id, hand.status) for hand in status.in_hand]


def dead_worker(folder: Path) -> int:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        child.send_signal(signal.SIGKILL)
    return child.pid


def test_a_message_in_hand_shows_kerios_columns(tmp_path: Path) -> None:
    own = StatusFile(tmp_path, "worker", 3)
    slot = own.begin(ID, 4711, "alice@example.org", "bob@example.net")
    own.enter(slot, Phase.SMTP)
    own.show(slot, "mx.example.net[192.0.2.1]:25", 40)
    own.flush()
    seen = read(tmp_path / "worker-3.status")
    assert (seen.condition, seen.role, seen.n, seen.pid) == (Condition.RUNNING, "worker", 3, os.getpid())
    (hand,) = seen.in_hand
    assert (hand.id, hand.size, hand.sender, hand.to) == (ID, 4711, "alice@example.org", "bob@example.net")
    assert (hand.status, hand.server, hand.percent) == ("SMTP delivery", "mx.example.net[192.0.2.1]:25", 40)
    own.close()


def test_the_lines_are_fixed_so_that_cat_shows_a_table(tmp_path: Path) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    for n in range(3):
        own.begin(f"69212ad0-0000000{n}", n, "x" * 300, "y" * 900)
    own.flush()
    text = (tmp_path / "worker-1.status").read_bytes()
    assert len(text) == 4 * LINE
    assert all(text[at + LINE - 1 : at + LINE] == b"\n" for at in range(0, len(text), LINE))
    assert text.count(b"\n") == 4
    own.close()


def test_a_slot_is_used_again_at_once_and_free_slots_are_blank_after_a_flush(tmp_path: Path) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    first = own.begin(ID, 1, "a@x", "b@x")
    second = own.begin("69212ad0-0000a1f4", 1, "a@x", "b@x")
    own.end(first)
    assert own.begin("69212ad0-0000a1f5", 1, "a@x", "b@x") == first
    own.end(second)
    own.flush()
    assert [hand.id for hand in read(tmp_path / "worker-1.status").in_hand] == ["69212ad0-0000a1f5"]
    own.close()


def test_what_kills_a_process_stands_in_its_file(tmp_path: Path) -> None:
    pid = dead_worker(tmp_path)
    seen = read(tmp_path / "worker-1.status")
    assert seen.condition is Condition.DEAD
    assert (seen.pid, seen.counters, seen.same_boot) == (pid, {"delivered": 7}, True)
    # Terminating is work on local bytes: it is on the file before it begins, without a flush. The message that was
    # over, but not flushed, is named too: it is in nobody's hands, so nobody suspects it.
    assert hands(seen) == [(ID, "Terminating"), ("69212ad0-0000a1f4", "Executing")]


def test_a_phase_that_only_waits_for_the_network_is_not_worth_a_write(tmp_path: Path) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    slot = own.begin(ID, 1, "a@x", "b@x")
    own.enter(slot, Phase.SMTP)
    assert hands(read(tmp_path / "worker-1.status")) == []
    own.flush()
    assert hands(read(tmp_path / "worker-1.status")) == [(ID, "SMTP delivery")]
    own.enter(slot, Phase.TERMINATING)
    assert hands(read(tmp_path / "worker-1.status")) == [(ID, "Terminating")]
    own.close()


def test_a_message_that_comes_and_goes_between_two_looks_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    own.end(own.begin(ID, 1, "a@x", "b@x"))
    own.flush()
    with monkeypatch.context() as counted:
        counted.setattr(os, "pwrite", _refuses(errno.EIO))
        for _ in range(3):
            slot = own.begin(ID, 1, "a@x", "b@x")
            own.enter(slot, Phase.SMTP)
            own.show(slot, "mx.example.net[192.0.2.1]:25", 0)
            own.end(slot)
            own.flush()
        assert own.lost == 0
        own.enter(own.begin(ID, 1, "a@x", "b@x"), Phase.LOCAL)
        assert own.lost == 1, "what may kill us is written, whatever stood in the slot before"
    own.close()


def test_a_local_phase_is_written_also_where_the_slot_showed_another_message_in_one(tmp_path: Path) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    slot = own.begin(ID, 1, "a@x", "b@x")
    own.enter(slot, Phase.LOCAL)
    own.end(slot)
    again = own.begin("69212ad0-0000a1f4", 1, "a@x", "b@x")
    assert again == slot
    own.enter(again, Phase.LOCAL)
    assert hands(read(tmp_path / "worker-1.status")) == [("69212ad0-0000a1f4", "Local delivery")]
    own.close()


def test_whoever_flushes_hears_once_that_there_is_something_to_show(tmp_path: Path) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    heard: list[None] = []
    own.on_change = lambda: heard.append(None)
    own.flush()
    for change in (
        lambda: own.begin(ID, 1, "a@x", "b@x"),
        lambda: own.enter(0, Phase.SMTP),
        lambda: own.show(0, "mx.example.net[192.0.2.1]:25", 40),
        lambda: own.end(0),
    ):
        heard.clear()
        change()
        assert len(heard) == 1
        own.begin("69212ad0-0000a1f4", 1, "a@x", "b@x")
        assert len(heard) == 1, "it is told until the flush"
        own.flush()
    own.close()


def test_the_next_process_sets_the_dead_ones_file_aside_and_its_last_words_are_found(tmp_path: Path) -> None:
    pid = dead_worker(tmp_path)
    before = last_words(tmp_path, "worker", 1, pid)
    own = StatusFile(tmp_path, "worker", 1)
    after = last_words(tmp_path, "worker", 1, pid)
    assert before and after
    assert (before.path.suffix, after.path.suffix) == (".status", ".dead")
    assert hands(before) == hands(after) == [(ID, "Terminating"), ("69212ad0-0000a1f4", "Executing")]
    assert after.condition is Condition.DEAD
    assert last_words(tmp_path, "worker", 1, 999_999_999) is None
    assert [status.condition for status in read_all(tmp_path)] == [Condition.RUNNING, Condition.DEAD]
    own.close()


def test_of_the_dead_ten_are_kept(tmp_path: Path) -> None:
    StatusFile(tmp_path, "worker", 1).close()
    assert set_aside(tmp_path, "worker-1") is None, "it ended in order and left nothing"
    for n in range(KEPT_DEAD + 3):
        path = status_path(tmp_path, "worker-1")
        path.write_bytes(b"%d" % n)
        os.utime(path, (1_700_000_000 + n, 1_700_000_000 + n))
        assert set_aside(tmp_path, "worker-1")
    kept = sorted(tmp_path.glob("*.dead"))
    assert [path.read_bytes() for path in kept] == [b"%d" % n for n in range(3, KEPT_DEAD + 3)]
    assert set_aside(tmp_path, "worker-2") is None


def test_a_second_process_of_the_same_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    monkeypatch.setattr(status_module, "PATIENCE", 0.05)
    with pytest.raises(SpoolLocked, match=rf"already running \(pid {os.getpid()}\)"):
        StatusFile(tmp_path, "worker", 1)
    own.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_hinders_nobody_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", _refuses(code))
        slot = own.begin(ID, 1, "a@x", "b@x")
        own.enter(slot, Phase.SMTP)
        own.flush()
        assert own.lost == 2
    own.show(slot, "mx", 50)
    own.flush()
    assert hands(read(tmp_path / "worker-1.status")) == [(ID, "SMTP delivery")]
    own.close()


def _refuses(code: int) -> object:
    def pwrite(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return pwrite


def test_a_folder_that_cannot_be_used_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "status"
    folder.write_text("in the way")
    own = StatusFile(folder, "worker", 1)
    slot = own.begin(ID, 1, "a@x", "b@x")
    assert own.lost >= 2
    folder.unlink()
    monkeypatch.setattr(status_module, "BEAT", 0.0)
    own.flush()
    assert hands(read(folder / "worker-1.status")) == [(ID, "Executing")]
    own.end(slot)
    own.close()


def test_a_loop_that_stands_still_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    now = status_module.time.monotonic()
    monkeypatch.setattr("kmq.spool.processes.time.monotonic", lambda: now + 60)
    seen = read(tmp_path / "worker-1.status")
    assert seen.condition is Condition.SILENT
    assert 59 < seen.silence < 61
    own.close()


def test_any_damage_is_a_reading_and_never_an_exception(tmp_path: Path) -> None:
    dead_worker(tmp_path)
    path = tmp_path / "worker-1.status"
    whole = path.read_bytes()
    cases = [whole[:n] for n in range(0, len(whole), 37)]
    cases += [whole[:n] + bytes([whole[n] ^ 4]) + whole[n + 1 :] for n in range(0, len(whole), 13)]
    cases += [b"\0" * len(whole), random.Random(1).randbytes(3 * LINE), b"{}\n", b"\xff" * LINE]
    for case in cases:
        path.write_bytes(case)
        seen = read(path)
        assert seen.condition in (Condition.DEAD, Condition.UNKNOWN)
        assert seen.trouble or {pair[0] for pair in hands(seen)} <= {ID, "69212ad0-0000a1f4"}
        if seen.condition is Condition.UNKNOWN:
            assert "damaged" in seen.trouble
    flipped = bytearray(whole)
    flipped[LINE + 30] ^= 1
    path.write_bytes(flipped)
    seen = read(path)
    assert hands(seen) == [("69212ad0-0000a1f4", "Executing")]
    assert "1 lines are damaged" in seen.trouble


@pytest.mark.parametrize("kind", ["gone", "folder", "pipe", "link"])
def test_what_is_no_status_file_is_unknown(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "worker-1.status"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    seen = read(path)
    assert seen.condition is Condition.UNKNOWN
    assert seen.trouble


def test_a_lock_that_is_gone_means_that_nobody_knows(tmp_path: Path) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    (tmp_path / "worker-1.lock").unlink()
    seen = read(tmp_path / "worker-1.status")
    assert seen.condition is Condition.UNKNOWN
    assert "lock" in seen.trouble
    own.close()


def test_a_reader_beside_a_fast_writer_never_sees_half_a_line(tmp_path: Path) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    over = threading.Event()

    def write() -> None:
        n = 0
        while not over.is_set():
            n += 1
            own.end(own.begin(f"69212ad0-{n:08x}", n, "a" * (n % 90), f"{n}@example.net"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            seen = read(tmp_path / "worker-1.status")
            assert not seen.trouble
            for hand in seen.in_hand:
                assert hand.to == f"{hand.size}@example.net"
                assert hand.id == f"69212ad0-{hand.size:08x}"
    finally:
        over.set()
        writer.join()
    own.close()


def test_a_line_that_is_half_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    own.begin(ID, 4711, "alice@example.org", "bob@example.net")
    own.flush()
    path = tmp_path / "worker-1.status"
    whole = path.read_bytes()
    path.write_bytes(whole[: LINE + 100] + b"x" * (LINE - 101) + b"\n")
    # The writer goes on while the reader waits.
    monkeypatch.setattr("kmq.spool.processes.time.sleep", lambda _: path.write_bytes(whole))
    seen = read(path)
    assert (seen.trouble, hands(seen)) == ("", [(ID, "Executing")])
    own.close()


def test_long_and_foreign_text_is_cut_at_a_character(tmp_path: Path) -> None:
    own = StatusFile(tmp_path, "worker", 1)
    own.counters.update({f"counter_{n}": n for n in range(60)})
    own.begin(ID, 10**12, "ж" * 200 + "@example.org", '"\x1b[2J\n"' * 60 + "@example.net")
    own.flush()
    (hand,) = read(tmp_path / "worker-1.status").in_hand
    assert hand.sender.startswith("жжж")
    assert hand.sender.endswith("...")
    assert hand.to.endswith("...")
    assert "\n" not in (tmp_path / "worker-1.status").read_text("utf-8").split("\n")[1]
    own.close()


@pytest.mark.parametrize(
    ("text", "room", "expected"),
    [
        ("short", 7, "short"),
        ("ж" * 10, 15, "жжжжж..."),
        ("\x01\x02\x03", 12, "\x01..."),
        ("", 5, ""),
    ],
)
def test_cut(text: str, room: int, expected: str) -> None:
    assert cut(text, room) == expected


def test_many_recipients_are_cut_at_an_address() -> None:
    assert addressees(["bob@example.net"]) == "bob@example.net"
    assert addressees(["bob@example.net", "carol@example.net"]) == "bob@example.net, carol@example.net"
    many = addressees(f"user{n}@example.net" for n in range(1000))
    assert many.endswith("@example.net, ...")
    assert len(many) < 150
    assert addressees(["x" * 300]) == "x" * 300
