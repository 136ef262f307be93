"""The phase Backup: whose mail is archived, what lies in the folder, and what a folder may do to mail."""

import asyncio
import hashlib
import itertools
import os
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kmq.config import Settings, read
from kmq.model.envelope import Head, Recipient, Source, event_line, fold, head_line, head_tail, read_head
from kmq.model.event import Deferred, Passed
from kmq.phases.backup import Backup, Depot, period_of
from kmq.phases.body import BodyDamaged
from kmq.phases.deposit import Deposit, store
from kmq.phases.inspection import Finding, Matter
from kmq.phases.work import Body

ID = "69212ad0-0000a1f3"
TEXT = b"Subject: x\r\n\r\nhello\r\n"
CREATED = "2026-11-22T23:59:59.999Z"
DAY = "2026-11-22"
T = TypeVar("T")


def settings(more: str, spool: Path = Path("/srv/kmq")) -> Settings:
    return read(f"[kmq]\nhostname = mx.here.test\nspool = {spool}\n[backup]\n{more}", "kmq.conf", "/etc", "mx")


def phase(more: str, spool: Path = Path("/srv/kmq")) -> Backup:
    found = settings(more, spool)
    return Backup(found.backup, found.kmq.spool)


def matter(
    *to: str | Recipient, sender: str = "me@here.test", how: str = "smtp", body: Body | None = None, text: bytes = TEXT
) -> Matter:
    people = [one if isinstance(one, Recipient) else Recipient(one) for one in to] or [Recipient("you@here.test")]
    head = Head(ID, hashlib.sha256(text).hexdigest(), CREATED, sender, people, len(text), Source(how=how))
    body = body or Body(text, f"/nonexistent/{ID}.eml", len(text))
    return Matter(head, body, tuple(range(len(people))), (), 1, lambda address: address.endswith("here.test"))


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 60))


def inspect(one: Backup, *matters: Matter) -> list[Finding]:
    async def play() -> list[Finding]:
        found = await asyncio.gather(*(one.inspect(matter) for matter in matters))
        await one.close()
        return list(found)

    return run(play())


# --- whose mail -------------------------------------------------------------------------------------------------------

MAIL = {
    "local": matter("you@here.test"),
    "incoming": matter("you@here.test", sender="she@far.test"),
    "outgoing": matter("she@far.test"),
    "relayed": matter("he@near.test", sender="she@far.test"),
}


@pytest.mark.parametrize(("wanted", "mail"), list(itertools.product(MAIL, MAIL)))
def test_each_class_is_archived_when_it_is_on_and_alone(wanted: str, mail: str) -> None:
    assert phase(f"{wanted} = yes").concerns(MAIL[mail]) == (wanted == mail)


def test_who_writes_to_both_is_in_both_classes_and_archived_once() -> None:
    both = matter("you@here.test", "she@far.test")
    assert phase("local = yes").concerns(both) and phase("outgoing = yes").concerns(both)
    assert not phase("incoming = yes\nrelayed = yes").concerns(both)


def test_a_null_sender_is_elsewhere() -> None:
    notice = matter("you@here.test", sender="")
    assert phase("incoming = yes").concerns(notice) and not phase("local = yes\noutgoing = yes").concerns(notice)


@pytest.mark.parametrize(
    ("sender", "to", "wanted"),
    [
        ("she@far.test", "you@Sales.HERE.test", True),
        ("she@far.test", "you@here.test", False),
        ("me@sales.here.test", "she@far.test", True),
        ("me@here.test", "you@sales.here.test", True),
        ("me@here.test", "you@other.here.test", False),
    ],
)
def test_only_some_domains(sender: str, to: str, wanted: bool) -> None:
    every = phase("local = yes\nincoming = yes\noutgoing = yes\nrelayed = yes\ndomains = sales.here.test")
    mail = matter(to, sender=sender)
    ours = Matter(mail.head, mail.body, mail.rcpt, (), 1, lambda address: address.lower().endswith("here.test"))
    assert every.concerns(ours) == wanted


def test_what_an_alias_makes_of_archived_mail_is_archived_only_when_it_becomes_of_another_class() -> None:
    inside = matter(Recipient("you@here.test", original="all@here.test"), sender="she@far.test", how="alias")
    outside = matter(Recipient("he@near.test", original="all@here.test"), sender="she@far.test", how="alias")
    assert not phase("incoming = yes").concerns(inside), "the mail to all@ has been archived"
    assert not phase("incoming = yes\nrelayed = yes").concerns(outside)
    assert phase("relayed = yes").concerns(outside), "the mail to all@ was incoming, which is not archived"


@pytest.mark.parametrize(
    ("created", "period", "name"),
    [
        (CREATED, "day", "2026-11-22"),
        (CREATED, "week", "2026-W47"),
        (CREATED, "month", "2026-11"),
        ("2027-01-01T00:00:00.000Z", "week", "2026-W53"),
    ],
)
def test_the_folder_follows_from_the_time_at_which_it_came(created: str, period: str, name: str) -> None:
    assert period_of(created, period) == name


# --- into the spool, and to an address --------------------------------------------------------------------------------


def test_in_the_spool_s_folder_it_asks_for_a_name_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    [found] = inspect(phase("local = yes", tmp_path), matter())
    assert found.passed is not None and found.passed.archive == f"backup/{DAY}"
    assert (found.passed.by, found.passed.verdict) == (f"{tmp_path}/backup/{DAY}", "archived")
    assert os.listdir(tmp_path / "backup") == [] and not found.letters


def test_a_copy_goes_to_the_address_from_nobody() -> None:
    [found] = inspect(phase("local = yes\nfolder =\naddress = archive@far.test"), matter())
    [letter] = found.letters
    assert (letter.sender, [one.address for one in letter.recipients]) == ("", ["archive@far.test"])
    assert letter.text is None and letter.pieces is None and letter.how == "archive"
    assert {one.value for one in letter.passed} >= {"Backup", "Content filtering", "Antivirus control"}
    assert found.passed is not None and found.passed.by == "archive@far.test" and not found.passed.archive


# --- into another folder ----------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive"


def elsewhere(root: Path, more: str = "") -> Backup:
    return phase(f"local = yes\nfolder = {root}\n{more}")


def test_message_and_envelope_lie_there_durably_before_it_has_passed(root: Path) -> None:
    one = matter()
    [found] = inspect(elsewhere(root), one)
    assert found.passed is not None and found.passed.by == f"{root}/{DAY}" and not found.passed.archive
    assert sorted(os.listdir(root / DAY)) == [f"{ID}.eml", f"{ID}.env"]
    assert (root / DAY / f"{ID}.eml").read_bytes() == TEXT
    assert read_head((root / DAY / f"{ID}.env").read_bytes()) == one.head
    assert {(root / DAY / name).stat().st_mode & 0o777 for name in os.listdir(root / DAY)} == {0o600}
    assert (root / DAY).stat().st_mode & 0o777 == 0o700


def test_the_envelope_tells_what_had_happened_until_then(root: Path, tmp_path: Path) -> None:
    one = matter(body=Body(TEXT, str(tmp_path / f"{ID}.eml"), len(TEXT)))
    line = head_line(ID, one.head.sha256, head_tail(one.head))
    waited = event_line(Deferred(seq=1, at=CREATED, rcpt="0", attempt=1, reply="451 4.3.0 later"))
    (tmp_path / f"{ID}.env").write_bytes(b"\n".join([line, waited, b'{"sum":"0000']))
    inspect(elsewhere(root), one)
    folded = fold((root / DAY / f"{ID}.env").read_bytes())
    assert folded is not None and [type(event) for event in folded[2]] == [Deferred]
    assert b'"0000' not in (root / DAY / f"{ID}.env").read_bytes(), "a line that is being written is none yet"


LARGE = b"Subject: large\r\n\r\n" + b"x" * 300_000 + b"\r\n"


def large(folder: Path) -> Matter:
    file = folder / f"{ID}.eml"
    file.write_bytes(LARGE)
    return matter(body=Body(None, str(file), len(LARGE)), text=LARGE)


def test_a_large_body_gets_a_name_where_that_can_be_had(root: Path, tmp_path: Path) -> None:
    inspect(elsewhere(root), large(tmp_path))
    assert (root / DAY / f"{ID}.eml").stat().st_ino == (tmp_path / f"{ID}.eml").stat().st_ino


@pytest.mark.root
def test_and_is_copied_to_another_file_system(root: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", root], check=True)
    try:
        inspect(elsewhere(root), large(tmp_path))
        assert (root / DAY / f"{ID}.eml").read_bytes() == LARGE
    finally:
        subprocess.run(["umount", root], check=True)


def test_a_body_that_is_not_what_was_accepted_is_damage_and_is_not_archived(tmp_path: Path, root: Path) -> None:
    file = tmp_path / f"{ID}.eml"
    file.write_bytes(b"y" * len(TEXT))
    deposit = Deposit(DAY, ID, len(TEXT), "", lambda: damaged(file), lambda: b"{}")
    store(str(root), [deposit])
    assert isinstance(deposit.trouble, BodyDamaged) and os.listdir(root / DAY) == []


def damaged(file: Path) -> Iterator[bytes]:
    yield file.read_bytes()
    raise BodyDamaged("the checksum is not that of the accepted message")


def test_a_second_run_finds_what_the_first_one_made(root: Path) -> None:
    inspect(elsewhere(root), matter())
    before = {name: (root / DAY / name).stat().st_ino for name in os.listdir(root / DAY)}
    [found] = inspect(elsewhere(root), matter())
    assert found.passed is not None
    assert {name: (root / DAY / name).stat().st_ino for name in os.listdir(root / DAY)} == before


@pytest.mark.parametrize("left", [[".eml.new"], [".eml"], [".eml", ".env.new"], [".eml.new", ".env.new"]])
def test_a_run_that_was_cut_is_carried_on(root: Path, left: list[str]) -> None:
    (root / DAY).mkdir()
    for ending in left:
        (root / DAY / (ID + ending)).write_bytes(TEXT if ending == ".eml" else b"half")
    [found] = inspect(elsewhere(root), matter())
    assert found.passed is not None and sorted(os.listdir(root / DAY)) == [f"{ID}.eml", f"{ID}.env"]
    assert (root / DAY / f"{ID}.eml").read_bytes() == TEXT


def test_no_link_is_followed_below_the_folder(root: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (root / DAY).symlink_to(tmp_path / "victim")
    [found] = inspect(elsewhere(root), matter())
    assert found.passed is None and os.listdir(tmp_path / "victim") == []


# --- what a folder may do to mail -------------------------------------------------------------------------------------


def deferred(found: Finding) -> str:
    assert found.passed is None and not found.letters
    [event] = found.events
    assert isinstance(event, Deferred) and event.rcpt == "0" and event.attempt == 1
    return event.reply


def test_a_folder_that_is_away_makes_mail_wait_and_says_which(tmp_path: Path) -> None:
    away = tmp_path / "not mounted"
    [found] = inspect(elsewhere(away, "address = archive@far.test"), matter())
    assert deferred(found) == f"451 4.3.0 it cannot be archived in {away}: No such file or directory"
    assert not away.exists(), "whoever makes it here fills the disk below the mount point"


def test_or_mail_goes_on_with_an_alarm_once_a_minute(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one = elsewhere(tmp_path / "away", "backup_failure = go_on\naddress = archive@far.test")
    found = inspect(one, *(matter() for _ in range(5)))
    verdicts = [each.passed.verdict for each in found if each.passed is not None]
    assert verdicts == ["not archived: No such file or directory"] * 5
    assert all(len(each.letters) == 1 for each in found), "the address has its copy all the same"
    assert capfd.readouterr().err.count("error: mail goes on without being archived") == 1


@pytest.mark.root
def test_a_folder_that_is_full_takes_what_fits_and_the_rest_later(root: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", root], check=True)
    try:
        (root / "filler").write_bytes(b"x" * 40_000)
        large = b"Subject: x\r\n\r\n" + b"x" * 50_000 + b"\r\n"
        [found] = inspect(elsewhere(root), matter(text=large))
        assert deferred(found) == f"452 4.3.1 it cannot be archived in {root}: No space left on device"
        assert os.listdir(root / DAY) == [], "nothing half made is left to fill it"
        (root / "filler").unlink()
        [found] = inspect(elsewhere(root), matter(text=large))
        assert found.passed is not None and (root / DAY / f"{ID}.eml").read_bytes() == large
    finally:
        subprocess.run(["umount", root], check=True)


@pytest.mark.root
def test_a_folder_that_cannot_be_written_and_one_below_the_spool_that_is_mounted(tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", backup], check=True)
    try:
        [found] = inspect(phase("local = yes", tmp_path), matter())
        assert found.passed is not None and not found.passed.archive, "no name can be had there: it is copied"
        assert len(os.listdir(backup / DAY)) == 2
        subprocess.run(["mount", "-o", "remount,ro", backup], check=True)
        again = matter()
        other = Head("69212ad0-0000a1f4", *(getattr(again.head, name) for name in Head.__struct_fields__[1:]))
        [found] = inspect(phase("local = yes", tmp_path), Matter(other, again.body, (0,), (), 1, again.local))
        assert deferred(found).endswith("Read-only file system")
    finally:
        subprocess.run(["umount", backup], check=True)


def test_many_share_the_sync_and_trouble_with_one_is_no_other_s(root: Path) -> None:
    names = [f"69212ad0-{number:08x}" for number in range(100)]
    (root / DAY).mkdir()
    (root / DAY / f"{names[7]}.eml").mkdir()

    async def play() -> list[Exception | None]:
        depot = Depot(str(root), 60)
        found = await asyncio.gather(*(depot.take(deposit(name)) for name in names))
        depot.close()
        return found

    found = run(play())
    assert [place for place, trouble in enumerate(found) if trouble is not None] == [7]
    assert len(list((root / DAY).glob("*.env"))) == 99


def deposit(name: str, pieces: Callable[[], Iterator[bytes]] = lambda: iter((TEXT,))) -> Deposit:
    return Deposit(DAY, name, len(TEXT), "", pieces, lambda: b"{}")


def test_a_folder_that_does_not_answer_holds_nobody_for_long(root: Path) -> None:
    answers = threading.Event()

    def stuck() -> Iterator[bytes]:
        assert answers.wait(60)
        yield TEXT

    async def play() -> None:
        depot = Depot(str(root), 0.3)
        first = await depot.take(deposit(ID, stuck))
        assert isinstance(first, OSError) and "has not answered for" in str(first.strerror)
        began = asyncio.get_running_loop().time()
        second = await depot.take(deposit("69212ad0-0000a1f4"))
        assert isinstance(second, OSError) and asyncio.get_running_loop().time() - began < 30, "it is known by now"
        answers.set()
        while await depot.take(deposit("69212ad0-0000a1f5")) is not None:
            await asyncio.sleep(0.01)
        depot.close()

    run(play())
    assert {f"{ID}.eml", "69212ad0-0000a1f5.eml"} <= set(os.listdir(root / DAY)), "what was begun came to its end"


def test_a_mistake_of_ours_is_not_the_folder_s(root: Path) -> None:
    def broken() -> Iterator[bytes]:
        raise ZeroDivisionError
        yield b""

    [trouble] = [one.trouble for one in [deposit(ID, broken)] if store(str(root), [one]) is None]
    assert isinstance(trouble, ZeroDivisionError) and os.listdir(root / DAY) == []
    assert Passed().archive == ""
