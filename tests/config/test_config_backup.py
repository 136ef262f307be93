"""[backup] in the configuration: off unless somebody wants it, and its mistakes with line and remedy."""

import pytest

from kmq.config import Settings, read, show
from kmq.errors import ConfigError

BASE = """\
[kmq]
hostname = mx.example.org
spool = /srv/kmq
"""


def settings(text: str) -> Settings:
    return read(BASE + text, "kmq.conf", "/etc/kmq", "mx")


def test_nothing_is_archived_unless_somebody_says_which_mail() -> None:
    assert not settings("").backup.on
    assert not settings("[backup]\nperiod = month\naddress = archive@example.org\n").backup.on


def test_classes_are_switched_on_one_by_one_into_the_folder_of_the_spool() -> None:
    found = settings("[backup]\nincoming = yes\ncompress_at = 4:30\nkeep = 90d\n").backup
    assert (found.local, found.incoming, found.outgoing, found.relayed) == (False, True, False, False)
    assert found.on and found.folder == "/srv/kmq/backup" and found.is_in(settings("").kmq.spool)
    assert (found.period, found.order, found.backup_failure) == ("day", "before", "wait")
    assert (found.compress_at, found.keep, found.address) == (270, 90 * 86400.0, "")


def test_a_folder_elsewhere_an_address_alone_and_never_compressed() -> None:
    found = settings("[backup]\nlocal = yes\nfolder = /mnt/archive\ncompress_at =\n").backup
    assert not found.is_in(settings("").kmq.spool) and found.compress_at is None
    assert settings("[backup]\nlocal = yes\nfolder =\naddress = Archive@Example.ORG\n").backup.folder == ""


def test_what_is_shown_gives_the_same_settings() -> None:
    before = settings("[backup]\noutgoing = yes\nperiod = week\norder = after\nbackup_failure = go_on\ncompress_at =\n")
    again = read(show(before), "kmq.conf", "/etc/kmq", "mx")
    assert again.backup == before.backup and again.backup.period == "week"


@pytest.mark.parametrize(
    ("lines", "line", "told"),
    [
        ("local = yes\nfolder =", 6, "nowhere: name a folder, an address, or both"),
        ("folder = /srv", 5, "/srv has the spool in it: name a folder beside it"),
        ("folder = /srv/kmq/queue", 5, "is in the spool, where only /srv/kmq/backup is for archived mail"),
        ("period = year", 5, "day, week, month"),
        ("order = between", 5, "before, after"),
        ("backup_failure = ignore", 5, "wait, go_on"),
        ("compress_at = 25:00", 5, "'25:00' is no time of the day: 00:00 to 23:59"),
        ("compress_at = 01:00, 02:00", 5, "one time of the day is needed, such as 03:00"),
        ("keep = long", 5, "is no duration"),
        ("address = archive", 5, "write admin@example.org"),
        ("incoming = maybe", 5, "yes"),
        ("inward = yes", 5, "incoming"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_would_be_right(lines: str, line: int, told: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        settings(f"[backup]\n{lines}\n")
    assert f"kmq.conf:{line}:" in str(wrong.value), str(wrong.value)
    assert told in str(wrong.value), str(wrong.value)
