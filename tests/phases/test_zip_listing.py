"""ZIP archives that are looked into without being trusted."""

import io
import os
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmq.phases.facts import Member
from kmq.phases.zip_listing import PIECE, Broken, Limits, Region, Tally, TooMuch, members
from tests.phases import bombs
from tests.phases.bombs import ZIPS, handmade, zipped

EXE = ("evil.exe", b"MZ", 2, 0)
LIMITS = Limits(depth=4, files=10_000, size=1 << 30, ratio=250)


class Memory:
    """A scratch file in memory. most: how large it became."""

    def __init__(self, text: bytes) -> None:
        self._text = bytearray(text)
        self.most = len(text)

    def write(self, at: int, piece: bytes) -> None:
        self._text[at : at + len(piece)] = piece
        self.most = max(self.most, at + len(piece))

    def read(self, at: int, count: int) -> bytes:
        return bytes(self._text[at : at + count])


def listed(archive: bytes, limits: Limits = LIMITS, name: str = "a.zip") -> list[Member]:
    return list(members(Region(Memory(archive), 0, len(archive)), Tally(limits), 1, [name]))


def names(archive: bytes, name: str = "a.zip") -> list[str]:
    return ["/".join((*one.archives, one.name)) for one in listed(archive, name=name)]


def test_files_are_told_with_what_they_look_like() -> None:
    found = listed(zipped(("folder/", b""), ("folder/a.txt", b"MZ" + bytes(100)), ("b", b"hello")))
    assert [(one.name, one.size, one.magic) for one in found] == [
        ("folder/a.txt", 102, "application/x-dosexec"),
        ("b", 5, ""),
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_in_archives_are_looked_into(method: int) -> None:
    inner = zipped(("evil.exe", b"MZ" + bytes(70_000)), method=method)
    middle = zipped(("inner.zip", inner), ("between", b""), method=method)
    assert names(zipped(("middle.bin", middle), ("last", b"x"), method=method)) == [
        *("middle.bin", "middle.bin/inner.zip", "middle.bin/inner.zip/evil.exe", "middle.bin/between", "last")
    ]


def test_a_large_archive_and_one_with_something_ahead_of_it() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive, archive.open("a.exe", "w", force_zip64=True) as file:
        file.write(b"MZ")
    assert names(made.getvalue()) == ["a.exe"]
    assert names(b"a program that unpacks it" + made.getvalue()) == ["a.exe"]


def test_what_is_encrypted_is_told_and_not_looked_into() -> None:
    (found,) = listed(handmade(("a.zip", b"x" * 40, 28, 8), flags=1))
    assert found.encrypted
    assert found.magic == ""


def test_names_are_those_that_stand_there() -> None:
    made = handmade(("../../etc/passwd\x00\n.exe", b"", 0, 0), ("caf\u00e9.exe", b"", 0, 0))
    assert names(made) == ["../../etc/passwd\x00\n.exe", "caf\u00e9.exe"]
    assert len(listed(handmade(("x" * 60_000 + ".exe", b"", 0, 0)))[0].name) == 500


def test_a_second_name_of_a_file_is_told_too() -> None:
    plain = zipped(("a.txt", b""))
    extra = b"\x75\x70\x0a\x00\x01" + (0).to_bytes(4, "little") + b"a.exe"
    at = plain.index(b"PK\1\2")
    entry = bytearray(plain[at : plain.index(b"PK\5\6")])
    entry[30:32] = len(extra).to_bytes(2, "little")
    end = bytearray(plain[plain.index(b"PK\5\6") :])
    end[12:16] = (len(entry) + len(extra)).to_bytes(4, "little")
    assert names(plain[:at] + bytes(entry) + extra + bytes(end)) == ["a.txt", "a.exe"]


def test_a_document_is_one_file_to_its_reader() -> None:
    inner = (("[Content_Types].xml", b"<x/>"), ("word/vbaProject.bin", b"x"))
    assert names(zipped(*inner), "letter.docx") == []
    assert names(zipped(*inner), "letter.zip") == ["[Content_Types].xml", "word/vbaProject.bin"]
    assert names(zipped(("evil.exe", b"MZ")), "letter.docx") == ["evil.exe"]
    assert names(zipped(("letter.docx", zipped(*inner)))) == ["letter.docx"]


@pytest.mark.parametrize("bomb", ZIPS.values(), ids=ZIPS)
def test_a_bomb_is_known_before_it_goes_off(bomb: Callable[[], bytes]) -> None:
    made = bomb()
    scratch = Memory(made)
    with pytest.raises(TooMuch):
        list(members(Region(scratch, 0, len(made)), Tally(LIMITS), 1, ["a.zip"]))
    assert scratch.most <= len(made) + (100 << 20)


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (bombs.overlapping(2, 100), "share their bytes"),
        (bombs.lying(100_000), "more than it says"),
        (bombs.lying(10), "less than it is packed"),
    ],
)
def test_files_that_say_less_than_they_are_are_a_bomb(archive: bytes, why: str) -> None:
    with pytest.raises(TooMuch, match=why):
        listed(archive)


@pytest.mark.parametrize("more", [-1, 0, 1, 27, 120, 126])
def test_an_archive_within_is_unpacked_to_its_last_byte(more: int) -> None:
    """Also when the last piece has no room for all that its last bytes stand for."""
    inner = handmade(EXE, comment=bytes(60_000))
    inner = bytes(2 * PIECE + more - len(inner)) + inner
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(inner) + packer.flush()
    assert names(handmade(("inner.zip", packed, len(inner), 8))) == ["inner.zip", "inner.zip/evil.exe"]


@pytest.mark.parametrize(
    "limits",
    [LIMITS._replace(depth=2), LIMITS._replace(files=3), LIMITS._replace(size=5_000), LIMITS._replace(ratio=1)],
    ids=["depth", "files", "size", "ratio"],
)
def test_each_limit_counts(limits: Limits) -> None:
    inner = zipped(*((name, os.urandom(60_000) + bytes(6 << 20)) for name in "bc"))  # a hundred times as large
    made = zipped(("1.zip", zipped(("2.zip", inner))))
    assert len(listed(made)) == 4
    with pytest.raises(TooMuch):
        listed(made, limits)


def _cut(archive: bytes) -> bytes:
    return archive[: len(archive) // 2]


WHOLE = zipped(("a.txt", b"hello"), ("b.txt", b"world"))


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (b"PK\3\4 and nothing else", "no directory"),
        (_cut(WHOLE), "no directory"),
        (WHOLE[: WHOLE.index(b"PK\1\2")] + WHOLE[WHOLE.index(b"PK\5\6") :], "where it says|has less|broken"),
        (WHOLE.replace(b"PK\3\4", b"PK\3\5"), "not where its directory says"),
        (handmade(EXE, own=["good.txt"]), "something else of itself"),
        (handmade(EXE, ("good.txt", b"x", 1, 0), hidden=1), "not tell of all"),
        (handmade(("good.txt", b"x", 1, 0), EXE, ("c", b"", 0, 0), hidden=1), "not tell of all"),
        (handmade(("a", b"", 0, 0), flags=1 << 13), "hides"),
        (handmade(("a.zip", b"x" * 30, 30, 14)), "method 14"),
        (handmade(("a.zip", b"\xff" * 30, 30, 8)), "cannot be unpacked|is less"),
        (handmade(("a.zip", zlib.compress(b"PK\3\4")[2:-4], 300, 8)), "less than it says"),
        (WHOLE[:-18] + b"\1\0" + WHOLE[-16:], "split"),
        (WHOLE[:-12] + b"\1\0" + WHOLE[-10:], "split"),
    ],
)
def test_what_has_no_sure_reading_is_broken(archive: bytes, why: str) -> None:
    with pytest.raises(Broken, match=why):
        listed(archive)


def test_members_that_were_found_ahead_of_the_trouble_are_told() -> None:
    found = []
    archive = handmade(EXE, ("a.zip", b"x" * 30, 30, 14))
    with pytest.raises(Broken):
        for one in members(Region(Memory(archive), 0, len(archive)), Tally(LIMITS), 1, []):
            found.append(one.name)
    assert found == ["evil.exe", "a.zip"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(WHOLE)),
)
def test_any_bytes_are_told_or_broken(changes: list[tuple[int, int]], cut: int) -> None:
    archive = bytearray(WHOLE)
    for at, byte in changes:
        archive[at] = byte
    try:
        found = listed(bytes(archive[:cut] if cut % 3 else archive))
    except (Broken, TooMuch):
        return
    assert len(found) <= 2
