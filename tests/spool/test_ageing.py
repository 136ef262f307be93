"""Folders of archived mail grow old: compressed, read back, added to, removed; and what stops or damages that."""

import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kmq.spool import ageing
from kmq.spool.ageing import Aged, Stopped

PERIOD = "2026-11-20"
IDS = [f"69212ad0-{number:08x}" for number in range(1, 6)]


def goes_on() -> bool:
    return False


def lay(root: Path, *ids: str, period: str = PERIOD, text: bytes = b"Subject: x\r\n\r\n") -> dict[str, bytes]:
    """Archived messages; -> what a compressed file must hold of them."""
    folder = root / period
    folder.mkdir(exist_ok=True)
    made = {}
    for name in ids:
        for ending, content in ((".eml", text + name.encode() * 300), (".env", b'{"sum":"00000000"}' + name.encode())):
            (folder / (name + ending)).write_bytes(content)
            os.utime(folder / (name + ending), (1_000_000_000, 1_000_000_000))
            made[f"{period}/{name}{ending}"] = content
    return made


def held(root: Path, period: str = PERIOD) -> dict[str, bytes]:
    with tarfile.open(root / f"{period}.tar.gz") as tar:
        return {one.name: tar.extractfile(one).read() for one in tar.getmembers()}  # type: ignore[union-attr]


def test_a_folder_becomes_one_file_that_tar_reads(tmp_path: Path) -> None:
    made = lay(tmp_path, *IDS)
    assert ageing.compress(tmp_path.as_posix(), PERIOD, goes_on) == Aged(f"{PERIOD}.tar.gz", True, 5, 0)
    assert held(tmp_path) == made
    assert os.listdir(tmp_path) == [f"{PERIOD}.tar.gz"], "the folder is gone, and nothing else lies about"
    file = tmp_path / f"{PERIOD}.tar.gz"
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as tar:
        assert {(one.mtime, one.mode) for one in tar.getmembers()} == {(1_000_000_000, 0o600)}


def test_what_comes_later_is_added(tmp_path: Path) -> None:
    made = lay(tmp_path, *IDS[:3])
    ageing.compress(str(tmp_path), PERIOD, goes_on)
    made |= lay(tmp_path, *IDS[3:])
    assert ageing.compress(str(tmp_path), PERIOD, goes_on) == Aged(f"{PERIOD}.tar.gz", True, 2, 0)
    assert held(tmp_path) == made and not (tmp_path / PERIOD).exists()


def test_a_run_that_was_cut_before_the_files_went_adds_nothing_twice(tmp_path: Path) -> None:
    made = lay(tmp_path, *IDS)
    ageing.compress(str(tmp_path), PERIOD, goes_on)
    before = (tmp_path / f"{PERIOD}.tar.gz").stat().st_ino
    lay(tmp_path, *IDS[:2])
    assert ageing.compress(str(tmp_path), PERIOD, goes_on) == Aged(f"{PERIOD}.tar.gz", True, 0, 0)
    assert held(tmp_path) == made and not (tmp_path / PERIOD).exists()
    assert (tmp_path / f"{PERIOD}.tar.gz").stat().st_ino == before, "it need not be written anew"


def test_one_half_of_a_message_waits_for_the_other(tmp_path: Path) -> None:
    """The body is there before its envelope."""
    made = lay(tmp_path, *IDS[:2])
    envelope = tmp_path / PERIOD / f"{IDS[1]}.env"
    text = envelope.read_bytes()
    envelope.unlink()
    ageing.compress(str(tmp_path), PERIOD, goes_on)
    (tmp_path / PERIOD).mkdir()
    envelope.write_bytes(text)
    ageing.compress(str(tmp_path), PERIOD, goes_on)
    assert held(tmp_path) == made


def test_whoever_stops_it_leaves_all_as_it_was(tmp_path: Path) -> None:
    lay(tmp_path, *IDS)
    whole = sum(1 for _ in iter(counting(tmp_path), None))
    assert whole > 10
    for count in range(whole):
        lay(tmp_path, *IDS)
        with pytest.raises(Stopped):
            ageing.compress(str(tmp_path), PERIOD, after(count))
        assert os.listdir(tmp_path) == [PERIOD] and len(os.listdir(tmp_path / PERIOD)) == 10


def counting(root: Path) -> Callable[[], object]:
    """Asked as often as a whole run asks whether to stop; then None."""
    asked = []
    lay(root, *IDS)
    ageing.compress(str(root), PERIOD, lambda: bool(asked.append(1)))  # type: ignore[func-returns-value]
    (root / f"{PERIOD}.tar.gz").unlink()
    return lambda: asked.pop() if asked else None


def after(count: int) -> Callable[[], bool]:
    left = [count]

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    return stop


def test_what_archiving_did_not_make_stays_and_so_does_what_cannot_be_read(tmp_path: Path) -> None:
    made = lay(tmp_path, *IDS[:2])
    folder = tmp_path / PERIOD
    (folder / "note.txt").write_text("mine")
    (folder / f"{IDS[2]}.eml").symlink_to("/etc/passwd")
    os.mkfifo(folder / f"{IDS[3]}.eml")
    aged = ageing.compress(str(tmp_path), PERIOD, goes_on)
    assert aged == Aged(f"{PERIOD}.tar.gz", True, 2, 2)
    assert held(tmp_path) == made
    assert sorted(os.listdir(folder)) == sorted(["note.txt", f"{IDS[2]}.eml", f"{IDS[3]}.eml"])


def test_a_damaged_compressed_file_is_never_written_over(tmp_path: Path) -> None:
    lay(tmp_path, *IDS)
    ageing.compress(str(tmp_path), PERIOD, goes_on)
    file = tmp_path / f"{PERIOD}.tar.gz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    lay(tmp_path, "69212ad0-0000000f")
    with pytest.raises(OSError):
        ageing.compress(str(tmp_path), PERIOD, goes_on)
    assert file.read_bytes() == content and len(os.listdir(tmp_path / PERIOD)) == 2
    assert sorted(os.listdir(tmp_path)) == [PERIOD, f"{PERIOD}.tar.gz"]


def test_what_is_read_back_and_differs_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that keeps something else than it was given."""
    lay(tmp_path, *IDS)
    sync = os.fsync

    def spoils(fd: int) -> None:
        sync(fd)
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".new"):
            os.pwrite(fd, b"\0" * 40, 100)

    monkeypatch.setattr(os, "fsync", spoils)
    with pytest.raises(OSError):
        ageing.compress(str(tmp_path), PERIOD, goes_on)
    assert os.listdir(tmp_path) == [PERIOD] and len(os.listdir(tmp_path / PERIOD)) == 10


def test_leavings_of_runs_that_were_cut_go_when_nobody_can_be_at_them(tmp_path: Path) -> None:
    lay(tmp_path, IDS[0])
    old, young = (tmp_path / PERIOD / f"{name}.eml.new" for name in IDS[1:3])
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (time.time() - 100_000,) * 2)
    ageing.compress(str(tmp_path), PERIOD, goes_on)
    assert os.listdir(tmp_path / PERIOD) == [young.name]


@pytest.mark.parametrize(
    ("period", "end"),
    [
        ("2026-11-22", "2026-11-23"),
        ("2026-12-31", "2027-01-01"),
        ("2024-02-28", "2024-02-29"),
        ("2026-W47", "2026-11-23"),
        ("2026-W53", "2027-01-04"),
        ("2026-11", "2026-12-01"),
        ("2026-12", "2027-01-01"),
    ],
)
def test_a_period_ends_where_the_next_one_begins(period: str, end: str) -> None:
    assert time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ageing.end_of(period))) == f"{end} 00:00:00"


def test_only_what_is_over_is_old_and_the_oldest_comes_first(tmp_path: Path) -> None:
    for name in ("2026-11-22", "2026-11-20", "2026-10", "2026-W46", "2026-11-21.tar.gz", "2026-99", "lost+found", "x"):
        (tmp_path / name).mkdir()
    now = ageing.end_of("2026-11-21")
    assert ageing.over(str(tmp_path), now) == ["2026-10", "2026-W46", "2026-11-20", "2026-11-21.tar.gz"]


def test_what_is_too_old_goes_and_strange_files_stay(tmp_path: Path) -> None:
    lay(tmp_path, *IDS)
    lay(tmp_path, *IDS, period="2026-11-19")
    ageing.compress(str(tmp_path), "2026-11-19", goes_on)
    (tmp_path / PERIOD / "note.txt").write_text("mine")
    assert ageing.remove(str(tmp_path), "2026-11-19.tar.gz", goes_on) == Aged("2026-11-19.tar.gz", True)
    assert ageing.remove(str(tmp_path), PERIOD, goes_on) == Aged(PERIOD, False, 5, 1)
    assert os.listdir(tmp_path) == [PERIOD] and os.listdir(tmp_path / PERIOD) == ["note.txt"]
