"""Files dropped into a real kmqd: each becomes one message, whoever dies and when."""

import itertools
import os
import random
import re
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.torture.image import mounted
from tests.torture.kmqd import Kmqd
from tests.waiting import until

EAGER = """\
[pickup]
messages_per_minute = 20000
scan_interval = 300ms

[replay]
messages_per_minute = 20000
scan_interval = 300ms"""

LETTER = b"From: alice@local.test\nTo: bob@local.test\nMessage-ID: <%b@test>\nSubject: dropped\n\nHello.\n"
AGAIN = b"X-Sender: <>\nX-Receiver: <carl@local.test>\nFrom: x@y.test\nMessage-ID: <%b@test>\n\nHello again.\n"


@pytest.fixture
def kmqd(tmp_path: Path) -> Iterator[Kmqd]:
    one = Kmqd(tmp_path / "k", drops=EAGER, workers=1)
    yield one
    one.close()


def drop(kmqd: Kmqd, token: str, folder: str = "pickup", text: bytes = LETTER) -> None:
    """As a careful program does it: written beside, synced, renamed."""
    part = kmqd.spool / folder / f"{token}.part"
    with open(part, "wb") as file:
        file.write(text % token.encode())
        file.flush()
        os.fsync(file.fileno())
    part.rename(kmqd.spool / folder / f"{token}.eml")
    fd = os.open(kmqd.spool / folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def files(kmqd: Kmqd, ending: str = "", folder: str = "pickup") -> list[str]:
    return sorted(name for name in os.listdir(kmqd.spool / folder) if name.endswith(ending))


def delivered(kmqd: Kmqd) -> Counter[str]:
    """Message-ID -> how often it lies in a mailbox."""
    found = (re.search(rb"^Message-ID: <(.*)@test>", path.read_bytes(), re.M) for path in kmqd.mail.glob("*/new/*"))
    return Counter(one[1].decode() for one in found if one)


def accepted(kmqd: Kmqd) -> int:
    return len(re.findall(r" accepted \S+ .*proto=(?:pickup|replay)", kmqd.log))


def each_once(kmqd: Kmqd, tokens: list[str]) -> None:
    """All that was dropped is delivered, once, and nothing is left of it."""
    until(lambda: not files(kmqd, ".eml") + files(kmqd, ".tmp"), "every file is taken", 30)
    kmqd.drain()
    assert delivered(kmqd) == Counter(tokens)
    assert files(kmqd) == [] and kmqd.accidents() == []


def test_the_way_of_dropped_mail(kmqd: Kmqd) -> None:
    kmqd.start()
    modes = {name: stat.S_IMODE((kmqd.spool / name).stat().st_mode) for name in ("pickup", "replay")}
    assert modes == {"pickup": 0o770, "replay": 0o700}
    drop(kmqd, "one")
    drop(kmqd, "two", "replay", AGAIN)
    until(lambda: len(delivered(kmqd)) == 2, "both are delivered")
    until(lambda: not files(kmqd) + files(kmqd, folder="replay"), "both files are gone")
    [first] = (path.read_bytes() for path in kmqd.mail.glob("bob/new/*"))
    assert re.search(rb"^Received: from localhost\n\tby mx.local.test \(kmq Pickup\) with local id \S+\n", first, re.M)
    assert b"\nDate: " in first and first.endswith(b"\n\nHello.\n")
    [again] = (path.read_bytes() for path in kmqd.mail.glob("carl/new/*"))
    assert b"X-Receiver" not in again and b"(kmq Replay)" in again and again.startswith(b"Return-Path: <>\n")
    drop(kmqd, "far", text=LETTER.replace(b"bob@local.test", b"bob@[IPv6:::1]"))  # no connector goes there
    until(kmqd.queued, "what is well formed is mail like other mail, whoever its recipients are")
    (kmqd.spool / "pickup/nobody.eml").write_bytes(b"From: alice@local.test\n\n")
    until(lambda: files(kmqd) == ["nobody.bad", "nobody.bad.reason"], "a bad one is set aside")
    until(lambda: _counters(kmqd).get("pickup_bad") == 1 and _counters(kmqd)["replay_taken"] == 1, "it is shown")
    shown = subprocess.run(
        [sys.executable, "-m", "kmq.cli.kmq", "-c", str(kmqd.folder / "kmq.conf"), "processes"],
        capture_output=True,
        text=True,
    )
    assert re.search(r"pickup-1 .*pickup taken 2  pickup bad 1 .*replay taken 1", shown.stdout), shown
    assert kmqd.stop() == 0 and kmqd.accidents() == []


def _counters(kmqd: Kmqd) -> dict[str, int]:
    found = kmqd.status("pickup-1")
    return found.counters if found else {}


@pytest.mark.parametrize("who", ["all", "scheduler-1", "pickup-1"])
def test_a_death_between_queueing_and_unlinking_makes_no_second_message(kmqd: Kmqd, who: str) -> None:
    """Row 45: the put is durable, the file is still there."""
    kmqd.effects = "1s"
    kmqd.start()
    tokens = [f"{number}" for number in range(20)]
    for token in tokens:
        drop(kmqd, token)
    until(lambda: accepted(kmqd) == len(tokens), "all are queued")
    left = files(kmqd, ".tmp")
    if who == "all":
        kmqd.kill_all()
    else:
        kmqd.kill(who)
    assert left, "their files are still there"
    kmqd.effects = "20ms"
    if who == "all":
        kmqd.start()
    each_once(kmqd, tokens)


@pytest.mark.parametrize("durability", ["journal", "files"])
def test_whoever_dies_each_file_becomes_one_message(kmqd: Kmqd, durability: str) -> None:
    kmqd.queue = f"durability = {durability}"
    kmqd.start()
    choice = random.Random(7)
    tokens = []
    for number in range(150):
        tokens.append(f"{number}")
        drop(kmqd, tokens[-1], text=LETTER if number % 10 else LETTER + b"large\n" * 40_000)
        if number % 25 == 24:
            blow = choice.choice(["scheduler-1", "pickup-1", "pickup-1", "worker-1", "all"])
            if blow == "all":
                kmqd.kill_all()
                kmqd.begin()
            else:
                kmqd.kill(blow)
    kmqd.ready()
    each_once(kmqd, tokens)
    assert kmqd.stop() == 0


@pytest.mark.root
def test_the_power_fails_between_queueing_and_unlinking(tmp_path: Path) -> None:
    """Row 45: the rename to `.tmp` is on disk before the put is, or the journal would not know the file again."""
    with mounted(tmp_path) as image:
        kmqd = Kmqd(tmp_path / "k", drops=EAGER, workers=1, effects="1s", spool=image.at / "spool")
        try:
            kmqd.start()
            tokens = [f"{number}" for number in range(12)]
            for token in tokens:
                drop(kmqd, token)
            until(lambda: accepted(kmqd) == len(tokens), "all are queued")
            assert files(kmqd, ".tmp")
            image.cut()
            kmqd.kill_all()
            image.unmount()
            image.mount()
            kmqd.effects = "20ms"
            kmqd.start()
            each_once(kmqd, tokens)
        finally:
            kmqd.close()


def test_a_reload_changes_limits_and_directories(kmqd: Kmqd) -> None:
    kmqd.drops = "[pickup]\nmessages_per_minute = 2\nscan_interval = 200ms\n\n[replay]\ndirectory ="
    kmqd.start()
    tokens = [f"{number}" for number in range(6)]
    for token in tokens:
        drop(kmqd, token)
    until(lambda: _counters(kmqd).get("pickup_waiting") == 4, "four are above the limit, and shown so")
    assert len(files(kmqd, ".eml")) == 4
    reload(kmqd, "messages_per_minute = 2\n", "messages_per_minute = 20000\n")
    until(lambda: not files(kmqd), "all are taken")
    elsewhere = kmqd.folder / "elsewhere"
    elsewhere.mkdir(0o770)
    reload(kmqd, "[pickup]\n", f"[pickup]\ndirectory = {elsewhere}\n")
    until(lambda: (elsewhere / ".kmq").exists(), "the new directory is taken over")
    (elsewhere / "x.eml").write_bytes(LETTER % b"x")
    until(lambda: os.listdir(elsewhere) == [".kmq"], "its files are taken")
    kmqd.drain()
    assert delivered(kmqd) == Counter([*tokens, "x"])
    reload(kmqd, f"directory = {elsewhere}\n", f"directory = {elsewhere}/missing\n")
    until(lambda: "No such file or directory; make it: install -d -m 770" in kmqd.log, "a wrong one is refused")
    (elsewhere / "y.eml").write_bytes(LETTER % b"y")
    until(lambda: os.listdir(elsewhere) == [".kmq"], "and the old one stays")
    reload(kmqd, f"directory = {elsewhere}/missing\n", "directory =\n")
    until(lambda: "ended child=pickup-1" in kmqd.log, "without a directory there is no process")
    reload(kmqd, "directory =\n", f"directory = {elsewhere}/missing\n")
    until(lambda: kmqd.log.count("make it: install -d -m 770") == 2, "a wrong one is refused then, too")
    reload(kmqd, f"directory = {elsewhere}/missing\n", f"directory = {elsewhere}\n")
    (elsewhere / "z.eml").write_bytes(LETTER % b"z")
    until(lambda: os.listdir(elsewhere) == [".kmq"], "with one there is a process again")
    kmqd.drain()
    assert kmqd.stop() == 0 and kmqd.accidents() == []


def reload(kmqd: Kmqd, old: str, new: str) -> None:
    path = kmqd.folder / "kmq.conf"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    os.kill(kmqd.pid, signal.SIGHUP)


WRONG = [
    (lambda place: None, "No such file or directory; make it: install -d -m 770"),
    (lambda place: place.symlink_to("/tmp"), "it is a symbolic link"),
    (lambda place: place.write_text(""), "it is no directory"),
    (lambda place: (place.mkdir(), place.chmod(0o777)), "everybody may write there"),
]


@pytest.mark.parametrize(("make", "why"), WRONG, ids=["missing", "link", "file", "open"])
def test_a_directory_that_cannot_be_used_is_told_at_the_start(tmp_path: Path, make, why: str) -> None:
    place = tmp_path / "drops"
    make(place)
    (tmp_path / "spool").mkdir(0o750)
    text = f"[kmq]\nhostname = mx.local.test\nspool = {tmp_path}/spool\n[pickup]\n\ndirectory = {place}\n"
    (tmp_path / "kmq.conf").write_text(text)
    command = [sys.executable, "-m", "kmq.cli.kmqd", "-c", str(tmp_path / "kmq.conf")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 78
    assert f"{tmp_path}/kmq.conf:6: [pickup] directory = {place}" in ended.stderr and why in ended.stderr
    check = [sys.executable, "-m", "kmq.cli.kmq", "-c", str(tmp_path / "kmq.conf"), "check"]
    assert why.partition(";")[0] in subprocess.run(check, capture_output=True, text=True).stdout


def test_a_stop_in_the_middle_loses_nothing(kmqd: Kmqd) -> None:
    kmqd.start()
    tokens = [f"{number}" for number in itertools.islice(itertools.count(), 80)]
    for token in tokens:
        drop(kmqd, token)
    assert kmqd.stop() == 0
    kmqd.start()
    each_once(kmqd, tokens)
