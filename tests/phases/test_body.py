"""Dots, line ends, and files that are not what was accepted."""

import os
import random
from hashlib import sha256
from pathlib import Path

import pytest

from kmq.phases.body import PIECE, BodyDamaged, BodyFile, LocalLines, Stuffing, stuffed

TEXTS = [
    b"",
    b".\r\n",
    b"..\r\n.\r\n",
    b"a\r\n.b\r\n\r\n.\r\n..c\r\n",
    b"a\r\n.b",
    b"a\r\n.",
    b".",
    b"\r\n\r\n\r\n",
    b"no dot at all\r\n",
    b"x" * 300 + b"\r\n.y\r\n",
]


def received(wire: bytes) -> bytes:
    """What a server makes of it (RFC 5321 4.5.2); it must find exactly one end."""
    assert (b"\r\n" + wire).endswith(b"\r\n.\r\n")
    assert (b"\r\n" + wire).count(b"\r\n.\r\n") == 1, "the message would end too early"
    return (b"\r\n" + wire[:-3]).replace(b"\r\n..", b"\r\n.")[2:]


def with_end(text: bytes) -> bytes:
    return text if text.endswith(b"\r\n") or not text else text + b"\r\n"


@pytest.mark.parametrize("text", TEXTS)
def test_a_server_gets_back_what_was_stuffed(text: bytes) -> None:
    dots = text.startswith(b".") or b"\r\n." in text
    assert received(stuffed(text, dots)) == with_end(text)


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_stuffed_as_the_whole_is(text: bytes) -> None:
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            stuffing = Stuffing(True)
            parts = [stuffing.feed(part) for part in (text[:first], text[first:second], text[second:])]
            assert b"".join([*parts, stuffing.end()]) == stuffed(text, True), (first, second)


def test_random_pieces() -> None:
    chance = random.Random(821)
    for _ in range(3000):
        text = b"".join(chance.choices([b".", b"\r\n", b"a"], k=chance.randrange(12)))
        stuffing, lines = Stuffing(True), LocalLines()
        wire = local = b""
        at = 0
        while at < len(text):
            step = chance.randrange(1, 4)
            wire += stuffing.feed(text[at : at + step])
            local += lines.feed(text[at : at + step])
            at += step
        assert received(wire + stuffing.end()) == with_end(text)
        assert local + lines.end() == with_end(text).replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("text", "local"),
    [
        (b"a\r\nb\r\n", b"a\nb\n"),
        (b"a\r\nb", b"a\nb\n"),  # the last line gets its end
        (b"", b""),
        (b"a\r", b"a\r\n"),  # a CR alone does not come in; here it is kept as it is
    ],
)
def test_local_lines_end_in_lf(text: bytes, local: bytes) -> None:
    lines = LocalLines()
    assert lines.feed(text) + lines.end() == local


def body_file(path: Path, text: bytes, size: int | None = None, checksum: str | None = None) -> BodyFile:
    return BodyFile(str(path), len(text) if size is None else size, checksum or sha256(text).hexdigest())


def all_of(file: BodyFile) -> bytes:
    parts = []
    while file.left:
        parts.append(file.read())
        assert len(parts[-1]) <= PIECE
    file.close()
    return b"".join(parts)


def test_a_large_file_comes_in_pieces(tmp_path: Path) -> None:
    text = os.urandom(PIECE * 3 + 17)
    path = tmp_path / "x.eml"
    path.write_bytes(text)
    assert all_of(body_file(path, text)) == text


def test_what_was_not_accepted_is_not_sent(tmp_path: Path) -> None:
    text = b"x" * (PIECE + 5)
    path = tmp_path / "x.eml"
    path.write_bytes(text)
    with pytest.raises(BodyDamaged, match="bytes instead of"):
        body_file(path, text, size=len(text) + 1)
    wrong = body_file(path, text, checksum=sha256(b"other").hexdigest())
    assert wrong.read() == text[:PIECE], "the pieces ahead of the last one are of no use without it"
    with pytest.raises(BodyDamaged, match="checksum"):
        wrong.read()
    wrong.close()
    cut = body_file(path, text)
    os.truncate(path, 10)
    with pytest.raises(BodyDamaged, match="too early"):
        all_of(cut)
    cut.close()


def test_only_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        body_file(tmp_path / "link", b"abc")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BodyDamaged):
        body_file(tmp_path / "pipe", b"abc")  # and it does not wait for somebody to write
    with pytest.raises(FileNotFoundError):
        body_file(tmp_path / "gone", b"abc")
