"""The net lets go: of days that are over, of the oldest when it is too much, and of what a crash left half gone."""

from pathlib import Path

import pytest

from kmq.model.event import Delivered
from kmq.spool import net_clean, net_fsck, net_look
from kmq.spool.disk import Disk
from kmq.spool.net_clean import is_over
from tests.mailbag import BODY, Mailbag

DAY = 86400.0
NOW = 1795348800.0  #: 2026-11-22T12:00:00Z


@pytest.fixture
def bag(tmp_path: Path) -> Mailbag:
    return Mailbag(tmp_path)


def keep(bag: Mailbag, day: str) -> str:
    return bag.lay(Delivered(rcpt="0", attempt=1, reply="250 ok"), home=f"sent/{day}")


def kept(bag: Mailbag) -> list[str]:
    return [one.head.id for one in net_look.walk(bag.spool) if isinstance(one, net_look.Found)]


@pytest.mark.parametrize(
    ("day", "hold", "over"),
    [
        ("2026-11-22", 0.0, False),
        ("2026-11-21", 3600.0, True),
        ("2026-11-21", 12 * 3600.0, True),
        ("2026-11-21", 13 * 3600.0, False),
        ("2026-11-19", 2 * DAY, True),
        ("2026-11-20", 2 * DAY, False),
        ("2026-13-40", 0.0, False),
    ],
)
def test_a_day_is_over_when_its_last_second_has_been_kept_long_enough(day: str, hold: float, over: bool) -> None:
    assert is_over(day, hold, NOW) is over


def test_whole_days_go(bag: Mailbag) -> None:
    for day in ("2026-11-18", "2026-11-19"):
        keep(bag, day)
        keep(bag, day)
    young = keep(bag, "2026-11-20")
    disk = Disk(bag.spool)
    assert net_clean.let_go_of_days(disk, 2 * DAY, NOW) == 4
    assert kept(bag) == [young]
    assert net_clean.days(disk) == ["2026-11-20"]
    assert net_clean.let_go_of_days(disk, 0.0, NOW) == 1, "switched off: all of it"
    assert disk.names("sent") == []


def test_what_a_crash_left_of_a_day_is_nobody_s_mail_and_goes(bag: Mailbag) -> None:
    name = keep(bag, "2026-11-20.old")
    bag.envelope(name, "sent/2026-11-20.old").unlink()
    keep(bag, "2026-11-20.old")
    disk = Disk(bag.spool)
    assert kept(bag) == [] and list(net_fsck.look(disk, True)) == []
    assert net_clean.let_go_of_days(disk, 2 * DAY, NOW) == 1
    assert disk.names("sent") == []


def test_too_much_goes_from_the_oldest_on(bag: Mailbag) -> None:
    names = [keep(bag, "2026-11-20"), keep(bag, "2026-11-21"), keep(bag, "2026-11-21"), keep(bag, "2026-11-22")]
    disk = Disk(bag.spool)
    each = len(BODY) + bag.envelope(names[0], "sent/2026-11-20").stat().st_size
    assert net_clean.weigh(disk) == 4 * each
    assert net_clean.let_go_of_bytes(disk, each + 1) == (2, 2 * each)
    assert kept(bag) == names[2:]
    assert net_clean.days(disk) == ["2026-11-21", "2026-11-22"]
    assert net_clean.let_go_of_bytes(disk, 0) == (0, 0)
    assert net_clean.let_go_of_bytes(disk, 1 << 40) == (2, 2 * each)
    assert kept(bag) == []


@pytest.mark.parametrize(
    ("harm", "state", "says"),
    [
        ("none", "", ""),
        ("no body", "D11", "it has no body"),
        ("no envelope", "D11", "it has no envelope"),
        ("short body", "D11", "its body has 3 bytes, accepted were"),
        ("other body", "D11", "the checksum of its body is wrong"),
        ("damaged envelope", "D11", "its envelope is damaged"),
        ("another's envelope", "D11", "its envelope is that of"),
        ("half made", "S8", ""),
        ("strange file", "D7", ""),
        ("strange folder", "D7", ""),
    ],
)
def test_fsck_tells_what_is_wrong_there(bag: Mailbag, harm: str, state: str, says: str) -> None:
    name, other = keep(bag, "2026-11-20"), keep(bag, "2026-11-21")
    stem = bag.spool / "sent" / "2026-11-20" / name
    body, envelope = stem.with_suffix(".eml"), stem.with_suffix(".env")
    match harm:
        case "no body":
            body.unlink()
        case "no envelope":
            envelope.unlink()
        case "short body":
            body.write_bytes(b"cut")
        case "other body":
            body.write_bytes(BODY.swapcase())
        case "damaged envelope":
            envelope.write_bytes(b"{}")
        case "another's envelope":
            envelope.write_bytes(bag.envelope(other, "sent/2026-11-21").read_bytes())
        case "half made":
            stem.with_suffix(".env.new").write_bytes(b"")
        case "strange file":
            (stem.parent / "notes.txt").write_bytes(b"")
        case "strange folder":
            (stem.parent.parent / "archive").mkdir()
    found = list(net_fsck.look(Disk(bag.spool), deep=True))
    assert [one.state for one in found] == ([state] if state else [])
    assert all(one.detail.startswith(says) for one in found)
    quick = list(net_fsck.look(Disk(bag.spool), deep=False))
    assert len(quick) == len(found) - (harm == "other body")
