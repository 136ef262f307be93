"""What a configuration that is read again may change in a kmqd that runs."""

from pathlib import Path

import pytest

from kmq.config import Settings, load
from kmq.errors import ConfigError
from kmq.run.reloading import applied, reread

OLD = """\
[kmq]
hostname = mx.example.org
spool = /var/spool/kmq
local_domains = example.org
workers = 2
[queue]
retry_interval = 5m
[mx : receiver]
listen = 127.0.0.1:2525
size_limit = 25M
[going : receiver]
listen = 127.0.0.1:2526
[isp : connector]
type = smarthost
address_spaces = *
hosts = smtp.example.net
"""

NEW = """\
[kmq]
hostname = mail.example.org
spool = /srv/kmq
local_domains = example.org, example.com
workers = 8
[queue]
retry_interval = 10m
durability = files
[mx : receiver]
listen = 127.0.0.1:25
size_limit = 50M
[coming : receiver]
listen = 127.0.0.1:2527
[other : connector]
type = smarthost
address_spaces = *
hosts = smtp.example.com
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kmq.conf"
    path.write_text(OLD)
    return path


@pytest.fixture
def again(file: Path) -> tuple[Settings, Settings]:
    """(old, what counts when NEW is in the file)."""
    old = load(str(file))
    file.write_text(NEW)
    return old, reread(old)


def test_what_needs_a_restart_stays(again: tuple[Settings, Settings]) -> None:
    old, now = again
    assert (now.kmq.hostname, now.kmq.spool, now.kmq.run_directory) == (
        "mx.example.org",
        Path("/var/spool/kmq"),
        Path("/var/spool/kmq/run"),
    )
    assert (now.kmq.workers, now.queue.durability) == (2, "journal")
    assert [(one.name, one.listen) for one in now.receivers] == [(one.name, one.listen) for one in old.receivers]


def test_everything_else_counts(again: tuple[Settings, Settings]) -> None:
    _, now = again
    assert now.kmq.local_domains == ("example.org", "example.com")
    assert now.queue.retry_interval == 600
    assert [one.size_limit >> 20 for one in now.receivers] == [50, 25]
    assert [one.name for one in now.connectors] == ["other"]


def test_after_a_second_reading_the_old_values_stay_too(again: tuple[Settings, Settings]) -> None:
    _, now = again
    assert reread(now) == now == applied(now, now)


def test_a_wrong_one_is_refused_whole(file: Path) -> None:
    old = load(str(file))
    file.write_text(NEW.replace("50M", "much"))
    with pytest.raises(ConfigError, match=r"kmq\.conf:11: "):
        reread(old)
