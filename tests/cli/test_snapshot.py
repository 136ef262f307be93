"""`kmq snapshot` and `kmq restore`: what was there comes back, and nobody gets anything twice."""

import json
import os
import shutil
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from kmq.model import queue_id
from kmq.model.envelope import fold
from kmq.model.event import Deferred, Delivered, Moved
from kmq.spool import kept, snapshot
from kmq.spool.disk import Disk
from kmq.spool.layout import prepare
from kmq.spool.look import Found, find
from tests.cli.conftest import Place
from tests.fakes import EvilHop
from tests.torture.kmqd import Kmqd
from tests.waiting import until


@pytest.fixture
def site(place: Place) -> Place:
    prepare(Disk(place.spool))
    return place


def files_of(folder: Path) -> dict[str, bytes]:
    """Path -> content, of messages."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for home in ("queue", "poison")
        for path in (folder / home).rglob("*")
        if path.suffix in (".eml", ".env", ".reason")
    }


def empty(spool: Path) -> None:
    """The disk is lost, and a new one has the folders alone."""
    for home in ("queue", "poison"):
        shutil.rmtree(spool / home)
        (spool / home).mkdir(0o700)


def found(site: Place, name: str) -> Found:
    one = find(site.spool, queue_id.parse(name))
    assert isinstance(one, Found), name
    return one


# --- snapshot ---------------------------------------------------------------------------------------------------------


def test_a_copy_of_all_that_is_there(site: Place, tmp_path: Path) -> None:
    one, two = site.bag.lay(), site.bag.lay(Deferred(rcpt="0", attempt=1, reply="451 later"))
    bad = site.bag.lay(Moved(home="poison", reason="two crashes"), home="poison")
    status, out, err = site.run("snapshot", str(tmp_path / "copy"))
    assert (status, err) == (0, "")
    assert "2 messages of the queue, 1 message in poison/" in out
    assert files_of(tmp_path / "copy") == files_of(site.spool)
    for name, home in ((one, "queue"), (two, "queue"), (bad, "poison")):
        body, envelope = site.bag.envelope(name, home).with_suffix(".eml"), site.bag.envelope(name, home)
        copy = tmp_path / "copy" / body.relative_to(site.spool)
        assert os.path.samefile(body, copy), "bodies never change, so they are linked"
        assert not os.path.samefile(envelope, copy.with_suffix(".env")), "envelopes grow"
    manifest = json.loads((tmp_path / "copy" / snapshot.MANIFEST).read_bytes())
    assert (manifest["kmq"], manifest["queue"], manifest["poison"]) == ("snapshot", 2, 1)
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700


def test_another_file_system_gets_copies(site: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    name = site.bag.lay(body=b"x" * 3_000_000 + b"\r\n")
    monkeypatch.setattr(os, "link", refused)
    assert site.run("snapshot", str(tmp_path / "copy"))[0] == 0
    body = site.bag.envelope(name).with_suffix(".eml")
    copy = tmp_path / "copy" / body.relative_to(site.spool)
    assert copy.read_bytes() == body.read_bytes() and not os.path.samefile(body, copy)


def test_damage_is_told_and_copied_as_it_is(site: Place, tmp_path: Path) -> None:
    site.bag.lay()
    short, torn = site.bag.lay(), site.bag.lay()
    site.bag.envelope(short).with_suffix(".eml").write_bytes(b"short")
    site.bag.envelope(torn).write_bytes(b"rubbish")
    status, _, err = site.run("snapshot", str(tmp_path / "copy"))
    assert status == 1
    assert f"{short}: its body is not as long as its envelope says" in err and f"{torn}: its envelope is damaged" in err
    assert files_of(tmp_path / "copy") == files_of(site.spool)


@pytest.mark.parametrize("what", ["file", "full", "inside", "nowhere"])
def test_a_folder_that_cannot_be_used(what: str, site: Place, tmp_path: Path) -> None:
    site.bag.lay()
    folder = {"inside": site.spool / "copy", "nowhere": tmp_path / "a" / "b"}.get(what, tmp_path / "copy")
    if what == "file":
        folder.touch()
    elif what == "full":
        folder.mkdir()
        (folder / "mine").touch()
    status, out, err = site.run("snapshot", str(folder))
    assert status == 78 and out == "" and str(folder) in err
    assert what != "full" or list(folder.iterdir()) == [folder / "mine"]


def test_a_message_that_leaves_while_it_is_copied(site: Place, tmp_path: Path) -> None:
    """Delivered between two looks: left out whole. Moved to poison/, or out of it: found where it is."""
    names = [site.bag.lay() for _ in range(3)]
    back = site.bag.lay(Moved(home="poison", reason="x"), home="poison")
    taking = snapshot.take(site.spool, tmp_path / "copy", "mx")
    assert next(taking).id == names[0]
    for ending in (".eml", ".env"):
        site.bag.envelope(names[1]).with_suffix(ending).unlink()
        old = site.bag.envelope(names[2]).with_suffix(ending)
        old.rename(site.spool / "poison" / old.name)
        poisoned = site.bag.envelope(back, "poison").with_suffix(ending)
        poisoned.rename(site.bag.folder(back) / poisoned.name)
    rest = {saved.id: saved.home for saved in taking}
    assert rest == {names[2]: "poison", back: "queue"}
    assert {path.rpartition("/")[2] for path in files_of(tmp_path / "copy")} == {
        f"{name}{ending}" for name in (names[0], names[2], back) for ending in (".eml", ".env")
    }


def test_a_journal_that_says_more_than_the_files(site: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kmq.cli import snapshot as verb

    monkeypatch.setattr(verb, "read_log", lambda _: SimpleNamespace(traced={1: "something"}))
    status, _, err = site.run("snapshot", str(tmp_path / "copy"))
    assert status == 78 and "start it once" in err and not (tmp_path / "copy").exists()


# --- restore ----------------------------------------------------------------------------------------------------------


def test_what_was_lost_comes_back_as_it_was(site: Place, tmp_path: Path) -> None:
    one = site.bag.lay(Deferred(rcpt="0", attempt=1, reply="451 later"))
    bad = site.bag.lay(Moved(home="poison", reason="two crashes"), home="poison")
    assert site.run("snapshot", str(tmp_path / "copy"))[0] == 0
    before = files_of(site.spool)
    empty(site.spool)
    status, out, err = site.run("restore", str(tmp_path / "copy"), "--no-log")
    assert (status, err) == (0, "")
    assert f"{one}  1 recipient\n{bad}  1 recipient\n2 messages brought back; 0 still there, 0 done since" in out
    assert files_of(site.spool) == before
    assert not list(site.spool.rglob("*.new"))
    status, out, _ = site.run("restore", str(tmp_path / "copy"), "--no-log")
    assert (status, out) == (0, "0 messages brought back; 2 still there, 0 done since\n")


def test_queues_that_were_suspended_are_again_unless_the_spool_knows_better(site: Place, tmp_path: Path) -> None:
    folder, disk = tmp_path / "copy", Disk(site.spool)
    line, other = b'{"hop":"a;b;c","by":"uid 0"}', b'{"hop":"d;e;f","by":"uid 0"}'
    site.bag.lay()
    kept.replace(disk, kept.QUEUES, [line])
    kept.replace(disk, kept.CONNECTORS, [other])
    assert site.run("snapshot", str(folder))[0] == 0
    (site.spool / "state" / "queues").unlink()
    kept.replace(disk, kept.CONNECTORS, [line])
    empty(site.spool)
    assert site.run("restore", str(folder))[0] == 0
    assert kept.read(disk, kept.QUEUES) == ([line], 0)
    assert kept.read(disk, kept.CONNECTORS) == ([line], 0)
    disk.close()


def test_what_the_log_says_is_not_done_again(site: Place, tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    part = site.bag.lay(Delivered(rcpt="0", attempt=1), to=tuple(f"{name}@x.test" for name in "abcde"))
    whole, gone, dead = site.bag.lay(to=("a@x.test",)), site.bag.lay(), site.bag.lay(to=("a@x.test", "b@x.test"))
    assert site.run("snapshot", str(tmp_path / "copy"))[0] == 0
    at = "2096-11-22T05:50:11.000Z"
    log.write_text(
        f'{at} worker-1[1]: delivered {part} from=<> to=<b@x.test> relay=mx[1]:25 reply="250 ok" attempt=1\n'
        f'{at} worker-1[1]: failed {part} from=<> to=<c@x.test> reply="550 no" notice=69212ad0-00000099\n'
        f'{at} worker-1[1]: deferred {part} from=<> to=<d@x.test> reply="451 later"\n'
        f"{at} worker-1[1]: delivered {whole} from=<> to=<a@x.test>\n"
        f"{at} scheduler-1[1]: removed {part} rcpt=4 by=root reason=spam\n"
        f"{at} scheduler-1[1]: removed {gone} by=root\n"
        f"{at} scheduler-1[1]: delivered {dead} status=sent rcpt=0-1\n"
    )
    empty(site.spool)
    status, out, _ = site.run("restore", str(tmp_path / "copy"), "--log", str(log), "--what-if")
    assert "1 message would be brought back" in out and files_of(site.spool) == {}
    status, out, err = site.run("restore", str(tmp_path / "copy"), "--log", str(log))
    assert (status, err) == (0, "")
    assert out == f"{part}  1 recipient\n1 message brought back; 0 still there, 3 done since\n"
    back = found(site, part)
    assert back.state.open == [3]
    assert [type(event).__name__ for event in back.events] == ["Delivered", "Delivered", "Failed", "Removed"]
    assert [event.seq for event in back.events] == [1, 2, 3, 4]
    assert back.events[1].host == "mx[1]:25" and back.events[2].notice == "69212ad0-00000099"  # type: ignore[union-attr]


def test_without_a_word_about_the_log_the_configured_one_is_read(site: Place, tmp_path: Path) -> None:
    site.bag.lay()
    site.run("snapshot", str(tmp_path / "copy"))
    empty(site.spool)
    text = site.path.read_text()
    site.path.write_text(text.replace("[kmq]\n", f"[kmq]\nmail_log = {tmp_path}/mail.log\n"))
    status, _, err = site.run("restore", str(tmp_path / "copy"))
    assert status == 1 and "the mail log is needed" in err and "--no-log" in err
    assert files_of(site.spool) == {}
    (tmp_path / "mail.log").touch()
    assert site.run("restore", str(tmp_path / "copy"))[0] == 0
    assert site.run("restore", str(tmp_path / "copy"), "--log", "x", "--no-log")[0] == 2


def test_a_body_that_is_not_what_was_accepted_stays_where_it_is(site: Place, tmp_path: Path) -> None:
    good, bad = site.bag.lay(), site.bag.lay()
    site.run("snapshot", str(tmp_path / "copy"))
    empty(site.spool)
    body = next((tmp_path / "copy").rglob(f"{bad}.eml"))
    text = body.read_bytes()
    body.unlink()
    body.write_bytes(text.replace(b"Good", b"Evil"))
    status, _, err = site.run("restore", str(tmp_path / "copy"), "--no-log")
    assert status == 1 and f"{bad} is not brought back: its body is not what was accepted" in err
    assert isinstance(find(site.spool, queue_id.parse(good)), Found)
    assert find(site.spool, queue_id.parse(bad)) is None


@pytest.mark.parametrize("harm", ["none", "unfinished", "later", "rubbish"])
def test_what_is_no_snapshot(harm: str, site: Place, tmp_path: Path) -> None:
    site.run("snapshot", str(tmp_path / "copy"))
    manifest = tmp_path / "copy" / snapshot.MANIFEST
    if harm == "later":
        manifest.write_text('{"kmq": "snapshot", "version": 99, "created": "2026-11-22T05:50:11.000Z"}')
    elif harm == "rubbish":
        manifest.write_text("[]")
    else:
        manifest.unlink()
    folder = tmp_path / "copy" if harm != "none" else tmp_path / "nowhere"
    status, _, err = site.run("restore", str(folder), "--no-log")
    assert status == 78 and str(folder) in err


# --- a real kmqd ------------------------------------------------------------------------------------------------------


class Operator:
    def __init__(self, kmqd: Kmqd) -> None:
        self.kmqd = kmqd

    def run(self, *words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "kmq.cli.kmq", "-c", str(self.kmqd.folder / "kmq.conf"), *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        return done.returncode, done.stdout

    def send(self, *to: str) -> None:
        with smtplib.SMTP("127.0.0.1", self.kmqd.port, "client.test") as client:
            client.sendmail("a@elsewhere.test", to, "Subject: hello\r\n\r\nhello\r\n")


@pytest.fixture
def hop() -> Iterator[EvilHop]:
    with EvilHop().threaded() as one:
        yield one


@pytest.fixture
def operator(tmp_path: Path, hop: EvilHop) -> Iterator[Operator]:
    kmqd = Kmqd(tmp_path / "k", {"far.test": hop.port}, workers=1, kmq=f"mail_log = {tmp_path}/mail.log")
    try:
        kmqd.start()
        yield Operator(kmqd)
        assert kmqd.accidents() == []
    finally:
        kmqd.close()


def test_a_spool_that_is_lost_is_brought_back_and_nobody_gets_mail_twice(
    operator: Operator, hop: EvilHop, tmp_path: Path
) -> None:
    kmqd = operator.kmqd
    hop.banner = "421 4.3.2 not now"
    for number in range(10):
        operator.send(f"u{number}@far.test")
    status, out = operator.run("restore", str(tmp_path / "copy"), "--no-log")
    assert status == 78, "there is none yet"
    status, out = operator.run("snapshot", str(tmp_path / "copy"))
    assert status == 0 and "10 messages of the queue" in out, out
    status, out = operator.run("restore", str(tmp_path / "copy"), "--no-log")
    assert status == 75 and "Stop kmqd first" in out, out
    hop.banner = "220 here"
    assert operator.run("flush")[0] == 0
    kmqd.drain()
    hop.banner = "421 4.3.2 not now"
    assert kmqd.stop() == 0
    before = hop.copies.copy()
    status, out = operator.run("restore", str(tmp_path / "copy"))
    assert (status, out) == (0, "0 messages brought back; 0 still there, 10 done since\n")
    mail_log = tmp_path / "mail.log"
    lines = mail_log.read_text().splitlines(keepends=True)
    lost = [line for line in lines if " delivered " in line and ("to=<u3@" in line or "to=<u7@" in line)]
    mail_log.write_text("".join(line for line in lines if line not in lost))
    status, out = operator.run("restore", str(tmp_path / "copy"))
    assert status == 0 and "2 messages brought back; 0 still there, 8 done since" in out, out
    hop.banner = "220 here"
    kmqd.start()
    kmqd.drain()
    again = {address for (address, _), count in (hop.copies - before).items() if count}
    assert again == {"u3@far.test", "u7@far.test"}


def test_what_was_acknowledged_is_in_the_copy_at_once(operator: Operator, hop: EvilHop, tmp_path: Path) -> None:
    """The files follow the journal; who asks for a copy right behind a 250 gets it all the same."""
    hop.banner = "421 4.3.2 not now"
    for number in range(5):
        operator.send(f"u{number}@far.test")
        status, out = operator.run("snapshot", str(tmp_path / f"copy-{number}"))
        assert status == 0 and f"{number + 1} message{'s' * (number > 0)} of the queue" in out, out
    for path in (tmp_path / "copy-4").rglob("*.env"):
        assert fold(path.read_bytes()) is not None
        assert path.with_suffix(".eml").exists()
    until(lambda: len(operator.kmqd.queued()) == 5, "the queue is as it was")
