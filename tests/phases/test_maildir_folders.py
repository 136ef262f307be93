"""Maildir++: folders by the detail of an address, sizes in names, and what a mailbox may hold."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from kmq.config.local_connector import Quota
from kmq.phases import maildir_folders, maildir_quota
from kmq.phases.maildir_folders import folder_names
from kmq.phases.maildir_quota import Limits, Usage
from tests.phases.mailboxes import ID, NAME, TEXT, TRACE, deliver, files, section, work
from tests.phases.sending import kinds, results

SIZE = len(TRACE % ((b"alice@here.test",) * 2)) + len(TEXT.replace(b"\r\n", b"\n"))


def maildir(root: Path, *folders: str) -> Path:
    for folder in folders:
        for part in ("tmp", "new", "cur"):
            (root / "alice" / folder / part).mkdir(parents=True)
    return root / "alice"


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_there_gets_what_is_for_it(tmp_path: Path) -> None:
    maildir(tmp_path, "", ".lists", ".lists.python", ".Big")
    to = ("alice+lists", "alice+lists.python", "alice+LISTS", "alice+Big", "alice+big", "alice+none", "alice")
    (found,) = deliver(section(tmp_path), work(*(f"{one}@here.test" for one in to)))
    assert kinds(found) == "DDDDDDD"
    host = "mx.here.test"
    assert files(tmp_path / "alice") == sorted(
        [
            f".lists/new/{ID}.0.{host}",
            f".lists.python/new/{ID}.1.{host}",
            f".lists/new/{ID}.2.{host}",
            f".Big/new/{ID}.3.{host}",
            *(f"new/{ID}.{index}.{host}" for index in (4, 5, 6)),
        ]
    )
    assert results(found)[0][1] == f"250 2.0.0 delivered to alice/.lists/new/{ID}.0.{host}"


def test_a_folder_is_made_only_where_that_is_wanted(tmp_path: Path) -> None:
    deliver(section(tmp_path), work("alice+Lists@here.test"))
    assert not (tmp_path / "alice/.lists").exists()
    deliver(section(tmp_path, create_folders=True), work("alice+Lists@here.test", id="69212ad0-0000a1f4"))
    assert (tmp_path / "alice/.lists/maildirfolder").is_file()
    assert files(tmp_path / "alice/.lists/new") == ["69212ad0-0000a1f4.0.mx.here.test"]


def test_strangers_make_no_more_folders_than_there_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maildir_folders, "FOLDERS", 5)
    one = work(*(f"alice+f{n}@here.test" for n in range(20)))
    assert kinds(deliver(section(tmp_path, create_folders=True), one)[0]) == "D" * 20
    assert len([path for path in (tmp_path / "alice").iterdir() if path.name[0] == "."]) == 5
    assert len(list((tmp_path / "alice/new").iterdir())) == 15


@pytest.mark.parametrize(
    "extension",
    ["", ".", "..", "a..b", ".a", "a.", "a/b", "../../etc", "a b", "a\nb", "a\0b", "ä", "x" * 200, "&AOQ-", "Sent",
     "trash", "Drafts.old", "INBOX", "inbox.a"],
)  # fmt: skip
def test_what_is_no_name_of_a_folder_names_none(extension: str) -> None:
    assert folder_names(extension) == ()


def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (maildir(tmp_path / "mail", "") / ".lists").symlink_to(elsewhere)
    (found,) = deliver(section(tmp_path / "mail"), work("alice+lists@here.test"))
    assert results(found)[0][1].startswith("451 4.3.5")
    assert list(elsewhere.iterdir()) == []


def test_a_second_run_finds_the_first_also_when_the_folder_was_made_in_between(tmp_path: Path) -> None:
    one = work("alice+lists@here.test")
    deliver(section(tmp_path), one)
    maildir(tmp_path, ".lists")
    (found,) = deliver(section(tmp_path), one)
    assert results(found)[0][1].endswith("(by an earlier attempt)")
    assert files(tmp_path) == [f"alice/new/{NAME}"]


# --- sizes in names ---------------------------------------------------------------------------------------------------


def test_the_name_tells_the_size_on_disk_and_on_the_wire(tmp_path: Path) -> None:
    (found,) = deliver(section(tmp_path, sizes_in_names=True), work("alice@here.test"))
    (path,) = (tmp_path / "alice/new").iterdir()
    text = path.read_bytes()
    wire = len(text.replace(b"\n", b"\r\n"))
    assert path.name == f"{NAME},S={len(text)},W={wire}"
    assert results(found)[0][1].endswith(path.name)


@pytest.mark.parametrize("moved", ["new/{}", "cur/{}:2,S"])
def test_a_second_run_finds_the_first_whatever_size_it_had(tmp_path: Path, moved: str) -> None:
    connector, one = section(tmp_path, sizes_in_names=True), work("alice@here.test")
    deliver(connector, one)
    (path,) = (tmp_path / "alice/new").iterdir()
    os.rename(path, tmp_path / "alice" / moved.format(f"{NAME},S=7,W=9"))
    (found,) = deliver(connector, one)
    assert results(found)[0][1].endswith("(by an earlier attempt)")
    assert len(files(tmp_path)) == 1


# --- quota ------------------------------------------------------------------------------------------------------------


def limited(root: Path, room: int = 0, messages: int = 0, **more: Any) -> Any:
    return section(root, quota=Quota(room, messages), **more)


def test_what_does_not_fit_waits_or_goes_back(tmp_path: Path) -> None:
    assert _in_turn(limited(tmp_path, 2 * SIZE), 3) == "DDd"
    (found,) = deliver(limited(tmp_path, 2 * SIZE), work("alice@here.test", id="69212ad0-0000b000"))
    full = f"{2 * SIZE} bytes, 2 messages, the quota is {2 * SIZE} bytes (alice)"
    assert results(found)[0][1] == f"452 4.2.2 the mailbox is full: {full}"
    (found,) = deliver(
        limited(tmp_path, 2 * SIZE, over_quota="return"), work("alice@here.test", id="69212ad0-0000b000")
    )
    assert results(found)[0][1].startswith("552 5.2.2 the mailbox is full")
    large = work("alice@here.test", id="69212ad0-0000b000", text=TEXT + b"x" * 5 * SIZE)
    (found,) = deliver(limited(tmp_path, 2 * SIZE), large)
    assert results(found)[0][1] == f"552 5.2.3 the message alone is more than the quota, {2 * SIZE} bytes (alice)"
    assert len(list((tmp_path / "alice/new").iterdir())) == 2
    assert list((tmp_path / "alice/tmp").iterdir()) == []


def _in_turn(connector: Any, count: int) -> str:
    """So many messages for alice, one when the other is done."""
    return "".join(kinds(deliver(connector, work("alice@here.test", id=f"69212ad0-{n:08x}"))[0]) for n in range(count))


def test_messages_are_counted_too(tmp_path: Path) -> None:
    assert _in_turn(limited(tmp_path, messages=5), 7) == "DDDDDdd"


def test_recipients_of_one_message_share_the_room(tmp_path: Path) -> None:
    (found,) = deliver(limited(tmp_path, messages=2), work(*["alice@here.test"] * 4))
    assert sorted(kinds(found)) == ["D", "D", "d", "d"]


def test_an_earlier_copy_counts_as_delivered_though_it_filled_the_mailbox(tmp_path: Path) -> None:
    one = work("alice@here.test")
    deliver(limited(tmp_path, messages=1), one)
    (found,) = deliver(limited(tmp_path, messages=1), one)
    assert results(found)[0][1].endswith("(by an earlier attempt)")


def test_what_is_there_is_counted_once_and_then_kept_account_of(tmp_path: Path) -> None:
    place = maildir(tmp_path, "", ".lists", ".Trash")
    (place / "cur/1:2,S").write_bytes(b"x" * 100)
    (place / "cur/2,S=50:2,").write_bytes(b"x" * 7)
    (place / "cur/3:2,ST").write_bytes(b"x" * 1000)
    (place / ".lists/new/4").write_bytes(b"x" * 10)
    (place / ".Trash/cur/5:2,S").write_bytes(b"x" * 1000)
    _in_turn(limited(tmp_path, 1 << 20), 2)
    assert (place / "maildirsize").read_text() == f"{1 << 20}S\n160 3\n{SIZE} 1\n{SIZE} 1\n"
    (place / "maildirsize").write_text(f"{1 << 20}S,9C\n160 3\n")
    deliver(limited(tmp_path, 1 << 20), work("alice@here.test"))
    said = (place / "maildirsize").read_text()
    assert said == f"{1 << 20}S\n{160 + 2 * SIZE} 5\n{SIZE} 1\n", "that of another quota is made anew"


@pytest.mark.parametrize(
    "said", [b"", b"garbage", b"1048576S\n1 2 3\n", b"1048576S\n1 x\n", b"1048576S\n12", b"x" * 6000, b"\xff\0\n"]
)
def test_an_account_that_cannot_be_read_is_made_anew(tmp_path: Path, said: bytes) -> None:
    place = maildir(tmp_path, "")
    (place / "maildirsize").write_bytes(said)
    assert kinds(deliver(limited(tmp_path, 1 << 20), work("alice@here.test"))[0]) == "D"
    assert (place / "maildirsize").read_text() == f"1048576S\n0 0\n{SIZE} 1\n"


def test_an_account_behind_a_link_is_not_touched(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (maildir(tmp_path / "mail", "") / "maildirsize").symlink_to(victim)
    (found,) = deliver(limited(tmp_path / "mail", 1 << 20), work("alice@here.test"))
    assert results(found)[0][1].startswith("451 4.3.5")
    assert victim.read_bytes() == b"precious"


def test_who_made_room_is_not_refused_for_long(tmp_path: Path) -> None:
    """Some program has deleted mail without a word in the account: it is counted anew before anybody is refused."""
    limits = Limits(0, 2, False)
    place = maildir(tmp_path, "")
    base = os.open(place, os.O_RDONLY)
    try:
        (place / "maildirsize").write_text("2C\n10 2\n")
        assert maildir_quota.usage(base, limits) == Usage(10, 2), "it was just counted"
        os.utime(place / "maildirsize", (time.time() - 1000,) * 2)
        assert maildir_quota.usage(base, limits) == Usage(0, 0)
        (place / "maildirsize").write_text("2C\n5 1\n5 1\n")
        assert maildir_quota.usage(base, limits) == Usage(0, 0)
    finally:
        os.close(base)
