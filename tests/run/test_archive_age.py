"""When archived mail is compressed and removed: the hour by local clocks, what was missed, and what goes wrong."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.config import Settings, read
from kmq.run.archive_age import ArchiveAge, times_around
from kmq.spool.ageing import end_of

ID = "69212ad0-0000a1f3"
HOUR = 3600.0


@pytest.fixture
def berlin() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def utc(text: str) -> float:
    import calendar

    return float(calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M")))


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("now", "minute", "last", "following"),
    [
        ("2026-11-22 10:00", 180, "2026-11-22 02:00", "2026-11-23 02:00"),
        ("2026-11-22 01:00", 180, "2026-11-21 02:00", "2026-11-22 02:00"),
        ("2026-11-22 02:00", 180, "2026-11-22 02:00", "2026-11-23 02:00"),
        # 29 March 2026: 02:00 to 03:00 is left out; half past two is half past three
        ("2026-03-29 00:00", 150, "2026-03-28 01:30", "2026-03-29 01:30"),
        ("2026-03-29 02:00", 150, "2026-03-29 01:30", "2026-03-30 00:30"),
        # 31 December
        ("2026-12-31 23:30", 15, "2026-12-31 23:15", "2027-01-01 23:15"),
    ],
)
def test_the_hour_is_that_of_local_clocks(now: str, minute: int, last: str, following: str) -> None:
    assert times_around(utc(now), minute) == (utc(last), utc(following))


@pytest.mark.usefixtures("berlin")
def test_an_hour_that_comes_twice_counts_once() -> None:
    """25 October 2026: 02:30 is at 00:30 and at 01:30 UTC."""
    seen = {times_around(utc("2026-10-24 12:00") + step * HOUR / 4, 150)[0] for step in range(4 * 36)}
    assert len([at for at in seen if utc("2026-10-24 23:00") < at < utc("2026-10-25 03:00")]) == 1


def settings(root: Path, more: str = "") -> Settings:
    text = f"[kmq]\nhostname = mx.example.org\nspool = {root}\n[backup]\nincoming = yes\n{more}"
    return read(text, "kmq.conf", "/etc", "mx")


def lay(root: Path, period: str) -> Path:
    folder = root / "backup" / period
    folder.mkdir(parents=True)
    (folder / f"{ID}.eml").write_bytes(b"Subject: x\r\n\r\n")
    (folder / f"{ID}.env").write_bytes(b"{}")
    return folder


def look(found: Settings, now: float) -> None:
    """One look, as it is done in the thread."""

    async def once() -> None:
        age = ArchiveAge(found)
        age.look(now)
        age.close()

    asyncio.run(once())


@pytest.mark.usefixtures("berlin")
def test_a_folder_is_compressed_at_the_hour_after_its_period_and_not_before(tmp_path: Path) -> None:
    lay(tmp_path, "2026-11-21")
    today = lay(tmp_path, "2026-11-22")
    look(settings(tmp_path), utc("2026-11-22 01:59"))
    assert sorted(os.listdir(tmp_path / "backup")) == ["2026-11-21", "2026-11-22"]
    look(settings(tmp_path), utc("2026-11-22 02:01"))
    assert sorted(os.listdir(tmp_path / "backup")) == ["2026-11-21.tar.gz", "2026-11-22"]
    assert len(os.listdir(today)) == 2


def test_an_hour_that_was_missed_is_made_up_for(tmp_path: Path) -> None:
    for day in ("2026-11-01", "2026-11-02", "2026-W44", "2026-10"):
        lay(tmp_path, day)
    look(settings(tmp_path), utc("2026-11-22 12:00"))
    assert sorted(os.listdir(tmp_path / "backup")) == [
        f"{name}.tar.gz" for name in ("2026-10", "2026-11-01", "2026-11-02", "2026-W44")
    ]


def test_what_is_kept_long_enough_goes_compressed_or_not(tmp_path: Path) -> None:
    found = settings(tmp_path, "keep = 10d\ncompress_at =\n")
    lay(tmp_path, "2026-11-01")
    (tmp_path / "backup" / "2026-11-02.tar.gz").write_bytes(b"whatever is in it")
    young = lay(tmp_path, "2026-11-03")
    now = end_of("2026-11-02") + 10 * 86400
    look(found, now - 1)
    assert sorted(os.listdir(tmp_path / "backup")) == ["2026-11-02.tar.gz", "2026-11-03"]
    look(found, now)
    assert os.listdir(tmp_path / "backup") == ["2026-11-03"] and len(os.listdir(young)) == 2, "never compressed"


def test_one_folder_that_cannot_be_compressed_hinders_no_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lay(tmp_path, "2026-11-01")
    (tmp_path / "backup" / "2026-11-01.tar.gz").write_bytes(b"no such thing")
    lay(tmp_path, "2026-11-02")
    look(settings(tmp_path), utc("2026-11-22 12:00"))
    assert sorted(os.listdir(tmp_path / "backup")) == ["2026-11-01", "2026-11-01.tar.gz", "2026-11-02.tar.gz"]
    told = capfd.readouterr().err
    assert "archived mail cannot be compressed, it is tried again folder=2026-11-01" in told, told
    assert "backup-compressed folder=2026-11-02 messages=1" in told, told


def test_a_folder_that_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    look(settings(tmp_path, "folder = /nonexistent/archive\n"), utc("2026-11-22 12:00"))
