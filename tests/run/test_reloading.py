"""What a configuration that is read again may change in a kmqd that runs."""

import dataclasses
from pathlib import Path

import pytest

from kmq.config import Settings, load
from kmq.config.sections import KINDS, OPTIONS, SINGLE
from kmq.errors import ConfigError
from kmq.run.reloading import accepted, applied

OLD = """\
[kmq]
hostname = mx.example.org
spool = /var/spool/kmq
local_domains = example.org
workers = 2
[queue]
per_hop = 5
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
per_hop = 7
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
    return old, accepted(old, load(str(file)))


def test_what_needs_a_restart_stays(again: tuple[Settings, Settings]) -> None:
    _, now = again
    assert (now.kmq.hostname, now.kmq.spool, now.kmq.run_directory) == (
        "mx.example.org",
        Path("/var/spool/kmq"),
        Path("/var/spool/kmq/run"),
    )
    assert now.queue.durability == "journal"


def test_everything_else_counts(again: tuple[Settings, Settings]) -> None:
    _, now = again
    assert now.kmq.local_domains == ("example.org", "example.com")
    assert now.kmq.workers == 8
    assert now.queue.per_hop == 7
    assert [(one.name, one.listen, one.size_limit >> 20) for one in now.receivers] == [
        ("mx", (("127.0.0.1", 25),), 50),
        ("coming", (("127.0.0.1", 2527),), 25),
    ]
    assert [one.name for one in now.connectors] == ["other"]


def test_after_a_second_reading_the_old_values_stay_too(again: tuple[Settings, Settings], file: Path) -> None:
    _, now = again
    assert accepted(now, load(str(file))) == now == applied(now, now)


def test_a_certificate_that_cannot_be_used_is_refused(file: Path) -> None:
    old = load(str(file))
    file.write_text(NEW.replace("size_limit = 50M", "tls_certificate = nothing.pem\ntls_key = nothing.pem"))
    with pytest.raises(ConfigError, match=r"kmq\.conf:11: \[mx : receiver\] tls_certificate = "):
        accepted(old, load(str(file)))


def test_every_option_of_every_kind_either_counts_or_needs_a_restart(file: Path) -> None:
    """A kind of section that this program does not know yet is not forgotten here."""
    old = load(str(file))
    assert {kind for kind in SINGLE if hasattr(old, kind)} == set(SINGLE), "each has its place in the settings"
    for kind in SINGLE:
        before = getattr(old, kind)
        fixed = {name for name, option in OPTIONS[kind].items() if option.restart}
        marks = {name: object() for name in OPTIONS[kind]}
        after = dataclasses.replace(before, **marks)
        now = getattr(applied(old, dataclasses.replace(old, **{kind: after})), kind)
        for name in OPTIONS[kind]:
            expected = getattr(before, name) if name in fixed else marks[name]
            assert getattr(now, name) is expected, f"[{kind}] {name}"
    named = set(KINDS) - set(SINGLE)
    assert all(not option.restart for kind in named for option in OPTIONS[kind].values()), "they come and go"
