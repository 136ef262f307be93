"""A drop directory: what is taken out of it, what is left alone, and what a stranger who can write there can do."""

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.spool import layout
from kmq.spool.disk import Disk
from kmq.spool.drop import Claim, DropFolder, Look, Unfit

LETTER = b"From: a@x\nTo: b@x\n\nHello\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "pickup").mkdir()
    return tmp_path / "pickup"


@pytest.fixture
def folder(place: Path) -> Iterator[DropFolder]:
    one = DropFolder(place, "pickup", lambda uid: uid == os.getuid())
    yield one
    one.close()


def drop(place: Path, name: str = "letter.eml", text: bytes = LETTER) -> Path:
    (place / "being-written").write_bytes(text)
    (place / "being-written").rename(place / name)
    return place / name


def claimed(folder: DropFolder, name: str = "letter.eml") -> Claim:
    claim = folder.claim(name)
    assert isinstance(claim, Claim), claim
    return claim


def names(place: Path) -> set[str]:
    return set(os.listdir(place))


# --- the way of a file -----------------------------------------------------------------------------------------------


def test_a_claimed_file_is_tmp_and_is_what_was_dropped(folder: DropFolder, place: Path) -> None:
    inode = drop(place).stat().st_ino
    claim = claimed(folder)
    assert names(place) == {"letter.tmp"}
    assert b"".join(folder.pieces(claim)) == LETTER and folder.same(claim)
    dropped = folder.dropped(claim)
    assert (dropped.name, dropped.inode) == ("pickup/letter.tmp", inode)
    assert dropped.lies((place / "letter.tmp").stat())
    folder.release(claim)


def test_outside_the_spool_the_journal_knows_a_file_by_its_whole_path(place: Path) -> None:
    folder = DropFolder(place, "", lambda _: True)
    drop(place)
    claim = claimed(folder)
    assert folder.dropped(claim).name == f"{place}/letter.tmp"
    folder.release(claim)
    folder.close()


def test_a_file_that_is_given_back_waits_again(folder: DropFolder, place: Path) -> None:
    drop(place)
    claim = claimed(folder)
    assert folder.give_back(claim) == "letter.eml"
    assert names(place) == folder.given_back == {"letter.eml"}
    folder.release(claim)


def test_no_file_takes_another_s_place(folder: DropFolder, place: Path) -> None:
    drop(place, text=b"first")
    first = claimed(folder)
    drop(place, text=b"second")
    second = claimed(folder)
    assert second.name != "letter.tmp" and second.name.startswith("letter-")
    drop(place, text=b"third")
    back = folder.give_back(first)
    assert back not in ("", "letter.eml")
    contents = {(place / name).read_bytes() for name in names(place)}
    assert contents == {b"first", b"second", b"third"}
    for claim in (first, second):
        folder.release(claim)


def test_what_was_left_behind_is_claimed_under_its_name(folder: DropFolder, place: Path) -> None:
    drop(place, "letter.tmp")
    assert list(folder.left_behind()) == ["letter.tmp"] and list(folder.names()) == []
    claim = claimed(folder, "letter.tmp")
    assert (claim.name, claim.old) == ("letter.tmp", "")
    assert folder.give_back(claim) == "letter.eml"
    folder.release(claim)


def test_a_bad_file_has_its_reason_beside_it(folder: DropFolder, place: Path) -> None:
    drop(place)
    claim = claimed(folder)
    assert folder.set_aside(claim.name, "there is no recipient") == "letter.bad"
    folder.release(claim)
    assert names(place) == {"letter.bad", "letter.bad.reason"}
    assert (place / "letter.bad.reason").read_text() == "there is no recipient\n"
    assert stat.S_IMODE((place / "letter.bad.reason").stat().st_mode) == 0o640
    assert list(folder.names()) == [], "it is never tried again"


@pytest.mark.parametrize("there", ["letter.bad", "letter.bad.reason"])
def test_a_second_bad_file_of_a_name_gets_a_time(folder: DropFolder, place: Path, there: str) -> None:
    drop(place, there, b"an earlier one")
    drop(place)
    bad = folder.set_aside("letter.eml", "why")
    assert bad.startswith("letter-20") and bad.endswith(".bad")
    assert (place / bad).read_bytes() == LETTER and (place / f"{bad}.reason").read_text() == "why\n"
    assert (place / there).read_bytes() == b"an earlier one"


def test_a_reason_is_never_written_through_a_link(folder: DropFolder, place: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("untouched")
    (place / "letter.bad.reason").symlink_to(precious)
    drop(place)
    assert folder.set_aside("letter.eml", "why") != "letter.bad"
    assert precious.read_text() == "untouched"


def test_setting_aside_what_is_gone_leaves_nothing(folder: DropFolder, place: Path) -> None:
    assert folder.set_aside("letter.eml", "why") == ""
    assert names(place) == set()


def test_a_look_sees_what_waits_and_says_what_cannot_be_taken(folder: DropFolder, place: Path) -> None:
    drop(place)
    drop(place, ".hidden.eml")
    drop(place, "notes.txt")
    (place / "trap.eml").symlink_to("/etc/passwd")
    survey = folder.survey((), True, 10)
    assert set(survey.files) == {"letter.eml"} and set(survey.unfit) == {"trap.eml"} and survey.waiting == 1
    assert folder.survey(("letter.eml",), False, 10).files.keys() == {"letter.eml"}
    assert folder.survey((), True, 0).waiting == 2, "more than is known"


def test_the_directory_is_known_from_another_in_its_place(folder: DropFolder, place: Path) -> None:
    assert folder.stands()
    place.rename(place.with_name("old"))
    assert not folder.stands()
    place.mkdir()
    assert not folder.stands()


# --- attacks ---------------------------------------------------------------------------------------------------------


def hard_link(place: Path) -> None:
    drop(place, "other")
    os.link(place / "other", place / "x.eml")


def unix_socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(place / "x.eml"))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda place: (place / "x.eml").symlink_to("/etc/passwd"), "symbolic link"),
        (lambda place: (place / "x.eml").symlink_to("nowhere"), "symbolic link"),
        (lambda place: os.mkfifo(place / "x.eml"), "FIFO"),
        (lambda place: (place / "x.eml").mkdir(), "directory"),
        (hard_link, "2 names"),
        (unix_socket, "socket"),
    ],
    ids=["link", "dangling-link", "fifo", "directory", "hard-link", "socket"],
)
def test_what_is_no_ordinary_file_is_left_alone(folder: DropFolder, place: Path, make, why: str) -> None:
    make(place)
    before = names(place)
    found = folder.claim("x.eml")
    assert isinstance(found, Unfit) and why in found.why
    assert names(place) == before


@pytest.mark.root
def test_a_device_is_left_alone(folder: DropFolder, place: Path) -> None:
    os.mknod(place / "x.eml", stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    found = folder.claim("x.eml")
    assert isinstance(found, Unfit) and "device" in found.why


@pytest.mark.root
def test_a_stranger_s_file_is_left_alone(folder: DropFolder, place: Path) -> None:
    os.chown(drop(place), 12345, -1)
    found = folder.claim("letter.eml")
    assert isinstance(found, Unfit) and "12345" in found.why and names(place) == {"letter.eml"}


@pytest.mark.parametrize("name", ["a\nb.eml", "\udcff.eml"])
def test_odd_names_are_left_alone(folder: DropFolder, place: Path, name: str) -> None:
    with open(os.fsencode(place) + b"/" + os.fsencode(name), "wb") as file:
        file.write(LETTER)
    assert list(folder.names()) == [name]
    assert isinstance(folder.claim(name), Unfit)
    assert isinstance(folder.survey((), True, 10).unfit.get(name), str)


def test_a_file_is_read_to_the_size_that_it_had(folder: DropFolder, place: Path) -> None:
    """One that grows for ever does not fill our disk."""
    drop(place)
    claim = claimed(folder)
    with open(place / "letter.tmp", "ab") as writer:
        writer.write(b"more" * 100_000)
    assert b"".join(folder.pieces(claim)) == LETTER
    assert not folder.same(claim)
    folder.release(claim)


def grown(file: Path) -> None:
    with open(file, "ab") as writer:
        writer.write(b"x")


def exchanged(file: Path) -> None:
    (file.parent / "other").write_bytes(LETTER)
    os.rename(file.parent / "other", file)


@pytest.mark.parametrize(
    "change",
    [
        grown,
        exchanged,
        lambda file: os.utime(file, ns=(0, 0)),
        lambda file: os.truncate(file, 3),
        lambda file: file.unlink(),
        lambda file: os.link(file, file.parent / "second"),
    ],
    ids=["grown", "exchanged", "touched", "cut", "gone", "linked"],
)
def test_a_change_while_it_is_read_is_seen(folder: DropFolder, place: Path, change) -> None:
    drop(place)
    claim = claimed(folder)
    change(place / "letter.tmp")
    assert not folder.same(claim)
    folder.release(claim)


def test_an_open_descriptor_is_not_lost_however_often_files_are_refused(folder: DropFolder, place: Path) -> None:
    (place / "x.eml").symlink_to("/etc/passwd")
    drop(place, "y.eml")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        assert isinstance(folder.claim("x.eml"), Unfit)
        claim = claimed(folder, "y.eml")
        folder.give_back(claim)
        folder.release(claim)
        assert folder.claim("z.eml") is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_is_exchanged_all_the_time_is_taken_whole_or_not(folder: DropFolder, place: Path) -> None:
    """500 rounds against somebody who puts files, links and FIFOs in each other's place as fast as he can."""
    done = threading.Event()
    texts = {b"%d " % number * 200 for number in range(7)}

    def evil() -> None:
        for number in range(10**9):
            if done.is_set():
                return
            name = place / f"evil-{number % 3}"
            if number % 5 == 3:
                name.symlink_to("/etc/passwd")
            elif number % 5 == 4:
                os.mkfifo(name)
            else:
                name.write_bytes(b"%d " % (number % 7) * 200)
            os.rename(name, place / "x.eml")

    thread = threading.Thread(target=evil)
    thread.start()
    taken = unfit = 0
    try:
        while taken + unfit < 500 or not (taken and unfit):
            claim = folder.claim("x.eml")
            if isinstance(claim, Claim):
                text = b"".join(folder.pieces(claim))
                assert not folder.same(claim) or text in texts
                os.unlink(place / claim.name)
                folder.release(claim)
                taken += 1
            elif isinstance(claim, Unfit):
                unfit += 1
    finally:
        done.set()
        thread.join()
    assert taken and unfit, (taken, unfit)


def test_of_two_who_claim_each_file_one_gets_it(place: Path) -> None:
    """Row 44: two takers on one directory, 500 rounds."""
    folders = [DropFolder(place, "pickup", lambda _: True) for _ in range(2)]
    got: list[list[bytes]] = [[], []]
    start = threading.Barrier(3)

    def take(which: int) -> None:
        start.wait()
        for number in range(500):
            claim = folders[which].claim(f"{number}.eml")
            if isinstance(claim, Claim):
                got[which].append(b"".join(folders[which].pieces(claim)))
                assert folders[which].same(claim)
                folders[which].release(claim)

    for number in range(500):
        (place / f"{number}.eml").write_bytes(b"%d" % number)
    threads = [threading.Thread(target=take, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    start.wait()
    for thread in threads:
        thread.join()
    assert sorted(got[0] + got[1]) == sorted(b"%d" % number for number in range(500))
    assert names(place) == {f"{number}.tmp" for number in range(500)}
    for folder in folders:
        folder.close()


def test_a_look_is_the_same_until_somebody_writes(folder: DropFolder, place: Path) -> None:
    drop(place)
    first = folder.look("letter.eml")
    assert isinstance(first, Look) and first == folder.look("letter.eml")
    grown(place / "letter.eml")
    assert folder.look("letter.eml") != first


def test_the_spool_s_own_folders_are_for_some_alone(tmp_path: Path) -> None:
    """A start takes away what others may do, and gives nobody anything that an administrator took from him."""
    for name, mode in (("pickup", 0o2777), ("replay", 0o750), ("queue", 0o755), ("run", 0o711)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    umask = os.umask(0o077)
    try:
        layout.prepare(Disk(tmp_path))
        modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("pickup", "replay", "queue", "run")]
        assert modes == [0o2770, 0o700, 0o700, 0o711]
        (tmp_path / "replay").chmod(0o500)
        (tmp_path / "pickup").rmdir()
        layout.prepare(Disk(tmp_path))
    finally:
        os.umask(umask)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("pickup", "replay")]
    assert modes == [0o770, 0o500]
