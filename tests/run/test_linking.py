"""Bodies of child messages in incoming/: every name whole and durable, or none."""

import asyncio
import os
from pathlib import Path

import pytest

from kmq.phases.work import Body
from kmq.run.linking import BodyLost, Linking, Placed
from kmq.spool.disk import Disk
from kmq.spool.incoming import lives, maker

TEXT = b"Subject: x\r\n\r\n" + b"y" * 1000


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue" / "m.eml").write_bytes(TEXT)
    return tmp_path


def place(spool: Path, body: Body, count: int) -> Placed:
    async def run() -> Placed:
        told: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()
        Linking(str(spool)).place(body, count, told.set_result)
        return await asyncio.wait_for(told, 20)

    return asyncio.run(run())


def names(spool: Path) -> list[str]:
    return sorted(os.listdir(spool / "incoming"))


def test_a_large_body_is_linked_and_not_copied(spool: Path) -> None:
    path = spool / "queue" / "m.eml"
    made = place(spool, Body(None, str(path), len(TEXT)), 3)
    assert isinstance(made, list)
    assert names(spool) == sorted(made)
    assert len(made) == 3
    assert {(spool / "incoming" / name).stat().st_ino for name in made} == {path.stat().st_ino}
    assert all(lives(name) for name in made), "as long as this process is there recovery leaves them"
    assert maker(made[0]) is not None


def test_a_body_at_hand_is_written_once(spool: Path) -> None:
    made = place(spool, Body(TEXT, str(spool / "queue" / "not there yet.eml"), len(TEXT)), 2)
    assert isinstance(made, list)
    files = [spool / "incoming" / name for name in made]
    assert [file.read_bytes() for file in files] == [TEXT, TEXT]
    assert files[0].stat().st_nlink == 2


def test_everything_is_synced_before_anybody_is_told(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("link", "write", "sync", "sync_folder"):
        real = getattr(Disk, name)
        monkeypatch.setattr(
            Disk, name, lambda self, *given, real=real, name=name: (done.append(name), real(self, *given))[1]
        )
    place(spool, Body(None, str(spool / "queue" / "m.eml"), len(TEXT)), 2)
    assert done[:3] == ["link", "sync", "link"]
    assert "sync_folder" in done[3:]
    done.clear()
    for name in names(spool):
        (spool / "incoming" / name).unlink()
    place(spool, Body(TEXT, "", len(TEXT)), 2)
    assert done[:4] == ["write", "sync", "link", "sync_folder"]


@pytest.mark.parametrize("failing", ["link", "sync", "sync_folder"])
def test_where_it_fails_nothing_is_left(spool: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Disk, failing, fail)
    made = place(spool, Body(None, str(spool / "queue" / "m.eml"), len(TEXT)), 3)
    assert isinstance(made, OSError)
    assert names(spool) == []


def test_a_mistake_of_ours_is_told_too(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the message would stay in the worker's hands for ever."""
    monkeypatch.setattr(Disk, "sync_folder", lambda *_: 1 // 0)
    made = place(spool, Body(None, str(spool / "queue" / "m.eml"), len(TEXT)), 3)
    assert isinstance(made, ZeroDivisionError)
    assert names(spool) == []


def test_a_body_that_is_not_what_it_was_is_lost(spool: Path) -> None:
    shorter = place(spool, Body(None, str(spool / "queue" / "m.eml"), len(TEXT) + 1), 1)
    assert isinstance(shorter, BodyLost)
    missing = place(spool, Body(None, str(spool / "queue" / "gone.eml"), 1), 1)
    assert isinstance(missing, BodyLost)
    assert names(spool) == []


@pytest.mark.parametrize("text", [None, TEXT])
def test_a_folder_that_is_missing_is_no_damage_of_the_message(spool: Path, text: bytes | None) -> None:
    (spool / "incoming").rmdir()
    made = place(spool, Body(text, str(spool / "queue" / "m.eml"), len(TEXT)), 2)
    assert isinstance(made, FileNotFoundError)


def test_a_link_in_place_of_a_body_is_not_followed(spool: Path) -> None:
    (spool / "secret").write_bytes(TEXT)
    (spool / "queue" / "evil.eml").symlink_to("../secret")
    made = place(spool, Body(None, str(spool / "queue" / "evil.eml"), len(TEXT)), 1)
    assert isinstance(made, OSError)
    assert names(spool) == []


def test_a_name_that_is_taken_is_another_s_and_stays(spool: Path) -> None:
    (taken,) = place(spool, Body(TEXT, "", len(TEXT)), 1)
    again = place(spool, Body(None, str(spool / "queue" / "m.eml"), len(TEXT)), 1)  # a second Linking counts from 1
    assert isinstance(again, OSError)
    assert names(spool) == [taken]
