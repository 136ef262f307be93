"""A real kmqd that archives: once whoever is killed, in the folder that is meant, and what a folder that is full or
away does to mail."""

import hashlib
import signal
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.model.envelope import Head, fold
from kmq.model.event import AnyEvent, Deferred, Passed
from tests.fakes import EvilHop
from tests.torture.image import tmpfs
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import until

COUNT = 60


def archived(root: Path) -> dict[str, tuple[Head, list[AnyEvent], bytes]]:
    """What lies in an archive, by ID; each message once, and whole."""
    found: dict[str, tuple[Head, list[AnyEvent], bytes]] = {}
    for path in sorted(root.glob("*/*.env")):
        folded = fold(path.read_bytes())
        assert folded is not None, path
        head, _, events = folded
        body = path.with_suffix(".eml").read_bytes()
        assert head.id == path.stem and head.id not in found
        assert hashlib.sha256(body).hexdigest() == head.sha256, path
        found[head.id] = head, events, body
    assert len(list(root.glob("*/*"))) == 2 * len(found), "nothing else lies there"
    return found


def kmqd(folder: Path, backup: str, kmq: str = "", workers: int = 1) -> Kmqd:
    return Kmqd(folder, drops=f"{NO_DROPS}\n\n[backup]\n{backup}\n", kmq=kmq, workers=workers)


def send(place: Kmqd, sender: str, *to: str, text: str = "Subject: x\r\n\r\nhello\r\n") -> None:
    with smtplib.SMTP("127.0.0.1", place.port, timeout=60) as client:
        client.sendmail(sender, to, text)


@pytest.fixture
def started() -> Iterator[list[Kmqd]]:
    places: list[Kmqd] = []
    yield places
    for place in places:
        place.close()


def begin(started: list[Kmqd], place: Kmqd) -> Kmqd:
    started.append(place)
    place.start()
    return place


def mailbox(place: Kmqd, user: str) -> list[Path]:
    return sorted((place.mail / user / "new").glob("*"))


def test_mail_is_archived_by_its_class_as_it_came_and_before_it_is_delivered(
    tmp_path: Path, started: list[Kmqd]
) -> None:
    place = begin(started, kmqd(tmp_path, "incoming = yes\noutgoing = yes"))
    send(place, "she@far.test", "bob@local.test", text="Subject: in\r\n\r\nhello\r\n")
    send(place, "ann@local.test", "bob@local.test", text="Subject: local\r\n\r\nhello\r\n")
    send(place, "ann@local.test", "postmaster", text="Subject: local\r\n\r\nhello\r\n")
    until(lambda: len(mailbox(place, "bob")) == 2, "both are delivered")
    place.drain()
    [(head, events, body)] = archived(place.spool / "backup").values()
    assert head.sender == "she@far.test" and b"Subject: in" in body
    assert [type(event) for event in events] == [Passed], "as it was then: nothing had been delivered"
    assert place.accidents() == []


def test_whoever_is_killed_each_message_is_archived_once(tmp_path: Path, started: list[Kmqd]) -> None:
    place = begin(started, kmqd(tmp_path, "incoming = yes\naddress = archive@local.test", workers=2))
    killed = 0
    for number in range(COUNT):
        while True:
            try:
                text = f"Subject: {number}\r\n\r\n" + "x\r\n" * (40_000 if number % 20 == 0 else 10)
                send(place, "she@far.test", "bob@local.test", text=text)
                break
            except (OSError, smtplib.SMTPException):
                assert place.alive, place.log[-2000:]
        if number % 12 == 6:
            killed += place.kill(("worker-1", "scheduler-1", "worker-2")[killed % 3], signal.SIGKILL) != 0
            place.ready()
    place.drain()
    assert killed > 3
    found = archived(place.spool / "backup")
    subjects = {body.partition(b"Subject: ")[2].partition(b"\r")[0] for _, _, body in found.values()}
    assert subjects == {str(number).encode() for number in range(COUNT)}
    delivered = {path.name[:17] for path in mailbox(place, "bob")}
    assert delivered == found.keys(), "what is delivered is archived, and what is archived is delivered"
    assert len(mailbox(place, "archive")) >= COUNT


def test_after_a_kill_of_everything_the_archive_is_whole(tmp_path: Path, started: list[Kmqd]) -> None:
    place = begin(started, kmqd(tmp_path, "incoming = yes"))
    for number in range(12):
        send(place, "she@far.test", "bob@local.test", text=f"Subject: {number}\r\n\r\nhello\r\n")
    until(lambda: len(mailbox(place, "bob")) >= 3, "some are delivered")
    place.kill_all()
    place.start()
    place.drain()
    assert len(archived(place.spool / "backup")) == 12 and len(mailbox(place, "bob")) == 12


@pytest.mark.root
def test_a_full_folder_makes_mail_wait_and_kmq_says_so(tmp_path: Path, started: list[Kmqd]) -> None:
    with tmpfs(tmp_path, 64) as disk:
        (disk / "archive").mkdir()
        (disk / "filler").write_bytes(b"x" * 56 * 1024)
        place = begin(started, kmqd(tmp_path / "k", f"incoming = yes\nfolder = {disk}/archive"))
        send(place, "she@far.test", "bob@local.test", text="Subject: x\r\n\r\n" + "x\r\n" * 5000)
        until(place.queued, "it waits in the queue")
        until(lambda: any(type(event) is Deferred for event in events_of(place)), "it was deferred")
        reply = next(event.reply for event in events_of(place) if isinstance(event, Deferred))
        assert reply == f"452 4.3.1 it cannot be archived in {disk}/archive: No space left on device"
        told = kmq(place, "explain", place.queued()[0].stem)
        assert f"it cannot be archived in {disk}/archive" in told and "No space left" in told, told
        (disk / "filler").unlink()
        place.drain()
        assert len(archived(disk / "archive")) == len(mailbox(place, "bob")) == 1


def test_a_folder_that_is_away_lets_mail_go_on_where_that_is_wanted(tmp_path: Path, started: list[Kmqd]) -> None:
    away = tmp_path / "away"
    place = begin(started, kmqd(tmp_path / "k", f"incoming = yes\nbackup_failure = go_on\nfolder = {away}"))
    send(place, "she@far.test", "bob@local.test")
    until(lambda: mailbox(place, "bob"), "it is delivered")
    place.drain()
    assert "mail goes on without being archived" in place.log and not away.exists()
    assert 'reason="not archived: No such file or directory"' in place.log
    told = kmq(place, "history", mailbox(place, "bob")[0].name[:17])
    assert "not archived: No such file or directory" in told, told


def test_what_an_alias_makes_of_it_is_not_archived_again(tmp_path: Path, started: list[Kmqd]) -> None:
    (tmp_path / "aliases").write_text("all: bob, ann, eve\n")
    place = begin(started, kmqd(tmp_path / "k", "incoming = yes", kmq=f"alias_files = {tmp_path}/aliases"))
    send(place, "she@far.test", "all@local.test")
    until(lambda: all(mailbox(place, user) for user in ("bob", "ann", "eve")), "each has it")
    place.drain()
    [(head, _, _)] = archived(place.spool / "backup").values()
    assert [one.address for one in head.recipients] == ["all@local.test"]


def test_what_an_alias_brings_into_another_class_is_archived(tmp_path: Path, started: list[Kmqd]) -> None:
    (tmp_path / "aliases").write_text("away: he@near.test, bob\n")
    with EvilHop().threaded() as hop:
        place = kmqd(tmp_path / "k", "relayed = yes", kmq=f"alias_files = {tmp_path}/aliases")
        place.hops = {"near.test": hop.port}
        begin(started, place)
        send(place, "she@far.test", "away@local.test")
        until(lambda: hop.messages and mailbox(place, "bob"), "both have it")
        place.drain()
    [(head, _, _)] = archived(place.spool / "backup").values()
    assert "he@near.test" in [one.address for one in head.recipients] and head.parent


WITH_PROGRAM = """\
Subject: look
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain

hello
--b
Content-Type: application/octet-stream
Content-Disposition: attachment; filename=virus.exe

MZ-program
--b--
""".replace("\n", "\r\n")


@pytest.mark.parametrize(("order", "whole"), [("before", True), ("after", False)])
def test_what_is_archived_is_what_came_or_what_the_filters_left(
    tmp_path: Path, started: list[Kmqd], order: str, whole: bool
) -> None:
    filters = "[programs : attachment]\nnames = *.exe"
    place = begin(started, kmqd(tmp_path, f"incoming = yes\norder = {order}\n\n{filters}"))
    send(place, "she@far.test", "bob@local.test", text=WITH_PROGRAM)
    until(lambda: mailbox(place, "bob"), "it is delivered")
    place.drain()
    [(head, _, body)] = archived(place.spool / "backup").values()
    assert b"MZ-program" not in mailbox(place, "bob")[0].read_bytes()
    assert (b"MZ-program" in body, bool(head.parent)) == (whole, not whole)
    assert place.accidents() == []


def test_a_copy_that_cannot_be_delivered_never_comes_back_to_the_sender(tmp_path: Path, started: list[Kmqd]) -> None:
    with EvilHop(refusals={"archive@far.test": "550 5.1.1 no archive here"}).threaded() as hop:
        place = kmqd(tmp_path, "local = yes\nfolder =\naddress = archive@far.test", "postmaster = carl@local.test")
        place.hops = {"far.test": hop.port}
        begin(started, place)
        send(place, "ann@local.test", "bob@local.test")
        until(lambda: mailbox(place, "carl"), "the postmaster hears of it")
        place.drain()
    assert b"no archive here" in mailbox(place, "carl")[0].read_bytes()
    assert len(mailbox(place, "bob")) == 1
    assert mailbox(place, "ann") == [], "whoever wrote the message hears nothing of its copy"


def events_of(place: Kmqd) -> list[AnyEvent]:
    found = [fold(path.read_bytes()) for path in place.queued()]
    return [event for one in found if one is not None for event in one[2]]


def kmq(place: Kmqd, *words: str) -> str:
    done = place.call(*words)
    return done.stdout + done.stderr
