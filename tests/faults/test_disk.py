"""The disk below a real kmqd is full, sick, slow or read-only: what was acknowledged is kept and comes once."""

import contextlib
import os
import select
import socket
import time
from pathlib import Path

import pytest

from tests.faults.injection import CHANGES, injected
from tests.faults.world import SENDER, World, world
from tests.torture.image import tmpfs
from tests.torture.kmqd import NO_DROPS
from tests.waiting import until

#: Clients may be silent for a second.
IMPATIENT = NO_DROPS + "\n\n[receiver]\ncommand_timeout = 1s\n"
FULL, FAULTY = "452 4.3.1 Insufficient system storage", "451 4.3.0 Local storage error, try again later"


def fill(disk: Path, spare: int = 0) -> Path:
    """A file that takes all room that is left, but `spare` bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while (room := os.statvfs(disk)).f_bavail * room.f_frsize > spare:
            file.write(bytes(4096))
    return filler


def names(disk: Path) -> list[Path]:
    """Files of nothing but a name, until hardly any more can be made."""
    made = [disk / f"name-{number}" for number in range(os.statvfs(disk).f_favail - 5)]
    with contextlib.suppress(OSError):  # others make files there, too
        for one in made:
            one.touch()
    return made


@pytest.mark.root
@pytest.mark.parametrize("what", ["bytes", "inodes"])
def test_a_full_disk_is_told_before_a_byte_is_sent_and_the_queue_goes_on(tmp_path: Path, what: str) -> None:
    """Rows 5 and 6."""
    inodes = 200 if what == "inodes" else 0
    with tmpfs(tmp_path, 16 << 10, inodes) as disk, world(tmp_path / "k", spool=disk / "spool") as here:
        here.hop.banner = "421 4.3.2 not now"
        assert [here.send()[:3] for _ in range(5)] == ["250"] * 5
        scheduler = here.kmqd.children()["scheduler-1"]
        made = [fill(disk)] if what == "bytes" else names(disk)
        until(lambda: here.send() == FULL, "who sends is told")
        here.hop.banner = "220 evil.test"
        until(lambda: len(here.copies()) == len(here.tokens), "what was queued is delivered meanwhile")
        for one in made:
            one.unlink(missing_ok=True)
        until(lambda: here.send().startswith("250"), "mail is taken again")
        here.each_once()
        assert here.kmqd.children()["scheduler-1"] == scheduler


@pytest.mark.root
def test_the_room_ends_in_the_middle_of_a_large_message(tmp_path: Path) -> None:
    """Rows 5 and 9: more is free than is wanted at MAIL, and less than the message needs."""
    with tmpfs(tmp_path, 16 << 10) as disk, world(tmp_path / "k", spool=disk / "spool") as here:
        filler = fill(disk, spare=(1 << 20) + (512 << 10))
        assert here.send(size=4 << 20) == FULL
        until(lambda: not list((disk / "spool/incoming").iterdir()), "nothing of it is left")
        filler.unlink()
        assert here.send(size=4 << 20).startswith("250")
        here.each_once()


def test_a_sync_that_fails_refuses_its_mail_and_is_never_repeated(here: World, tmp_path: Path) -> None:
    """Rows 7 and 8: what a failed fdatasync left in memory looks written, so its segment is left alone for good."""
    assert here.send().startswith("250")
    here.kmqd.drain()
    with injected(here.kmqd.children()["scheduler-1"], "fdatasync", "error=EIO:when=1", tmp_path / "trace") as trace:
        assert here.send() == FAULTY
        assert here.send().startswith("250")
        until(lambda: len(trace.files("fdatasync")) > 2, "more is synced")
        bad, *good = trace.files("fdatasync")
        assert bad not in good
    here.each_once()


def test_a_result_that_could_not_be_written_down_is_written_later(here: World, tmp_path: Path) -> None:
    """Row 57: the hop has said 250, the sync of that fails."""
    here.hop.banner = "421 4.3.2 not now"
    here.hang_up()
    tries = here.hop.connections
    assert here.send().startswith("250")
    until(lambda: here.hop.connections >= tries + 2, "the hop was tried")
    with injected(here.kmqd.children()["scheduler-1"], "fdatasync", "error=EIO:when=1", tmp_path / "trace") as trace:
        here.hop.banner = "220 evil.test"
        until(lambda: trace.injected, "a sync fails")
        here.kmqd.drain()
    here.kmqd.kill_all()
    here.kmqd.start()
    here.each_once()


def test_a_folder_whose_sync_fails_has_taken_nothing(here: World, tmp_path: Path) -> None:
    """Row 8: the name of a large body is not durable, so the message is not accepted."""
    receiver = here.kmqd.children()["receiver-1"]
    with injected(receiver, "fsync,fdatasync", "error=EIO:when=1+1", tmp_path / "trace") as trace:
        assert here.send(size=1 << 20) == FAULTY
        assert trace.injected
    until(lambda: not list((here.kmqd.spool / "incoming").iterdir()), "nothing of it is left")
    assert here.send(size=1 << 20).startswith("250")
    here.each_once()


def begun(here: World) -> socket.socket:
    """A message of which all is sent, and no answer is read."""
    client = here.client()
    client.ehlo()
    client.mail(SENDER)
    client.rcpt("bob@far.test")
    client.docmd("DATA")
    client.send(b"Message-ID: <begun>\r\n\r\nx\r\n.\r\n")
    assert client.sock is not None
    return client.sock


def test_a_disk_that_takes_nothing_stops_deliveries_too(here: World, tmp_path: Path) -> None:
    """Rows 10 and 57: what cannot be written down must not be done; and waiting for the disk costs next to nothing."""
    here.hop.banner = "421 4.3.2 not now"
    here.hang_up()
    tries = here.hop.connections
    assert [here.send()[:3] for _ in range(3)] == ["250"] * 3
    until(lambda: here.hop.connections >= tries + 2, "the hop was tried")
    scheduler = here.kmqd.children()["scheduler-1"]
    with injected(scheduler, CHANGES, "error=EROFS", tmp_path / "trace") as trace:
        asked = begun(here)  # hears nothing before the journal can say for certain that it has not got it
        until(lambda: "no mail is taken in" in here.log, "the door is closed")
        assert here.send() == FAULTY
        here.hop.banner = "220 evil.test"
        tries = here.hop.connections
        before, at = len(trace.injected), time.monotonic()
        until(lambda: time.monotonic() > at + 2.5, "a while passes")
        assert len(trace.injected) - before < 60, "it is not tried without pause"
        assert here.copies() == {} and here.hop.connections <= tries + 1
        assert select.select([asked], [], [], 0)[0] == []
    assert asked.recv(100).decode().strip() == FAULTY
    until(lambda: here.send().startswith("250"), "the disk is back")
    here.each_once()
    assert here.kmqd.children()["scheduler-1"] == scheduler


def test_a_slow_disk_keeps_nobody_else_waiting(tmp_path: Path) -> None:
    """Rows 13 and 16: a sync takes longer than a client may be silent; others are greeted meanwhile."""
    gate = tmp_path / "gate"
    with world(tmp_path / "k", within={"KMQ_GATE": str(gate)}, drops=IMPATIENT) as here:
        gate.touch()
        with here.client() as other:
            other.ehlo()
            slow = begun(here)
            assert other.getreply()[0] == 421, "one who says nothing for a second is sent away"
            for _ in range(20):
                with here.client() as third:
                    assert third.ehlo()[0] == 250, "the loop goes on"
            assert here.copies() == {}, "nothing is done before it is durable"
            gate.unlink()
            assert slow.recv(100).startswith(b"250"), "our slowness is not held against the client"
        here.tokens.append("<begun>")
        here.each_once()
