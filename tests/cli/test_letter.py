"""A message from a program's output: cut by the pipe wherever it likes, it is the same message."""

import os
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.cli import letter
from kmq.cli.letter import Fault, Letter

TEXTS = st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b".", b"From ", b"\xc3\xa4", b" "]), max_size=40).map(b"".join)


def taken(text: bytes, dot_ends: bool = False, cuts: int = 0) -> bytes:
    """What becomes of a text that comes in pieces of so many bytes, or at once."""
    letter.PIECE, before = cuts or letter.PIECE, letter.PIECE
    reader, writer = os.pipe()
    try:
        thread = threading.Thread(target=lambda: (os.write(writer, text), os.close(writer)))
        thread.start()
        found = letter.read(reader, dot_ends)
        thread.join()
    finally:
        letter.PIECE = before
        os.close(reader)
    assert found.size == len(b"".join(found.pieces()))
    return b"".join(found.pieces())


def expected(text: bytes, dot_ends: bool) -> bytes:
    """The same, as the manual says it."""
    lines = text.replace(b"\r\n", b"\n").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if dot_ends and b"." in lines:
        lines = lines[: lines.index(b".")]
    if lines and lines[0].startswith(b"From "):
        lines = lines[1:]
    return b"".join(line + b"\r\n" for line in lines)


@given(TEXTS, st.booleans(), st.integers(1, 7))
def test_every_cut_gives_the_same_message(text: bytes, dot_ends: bool, cuts: int) -> None:
    assert taken(text, dot_ends, cuts) == expected(text, dot_ends)


@given(TEXTS, st.sampled_from([b"\r", b"\0", b"\r\r\n"]), TEXTS, st.integers(1, 7))
def test_every_bare_cr_and_nul_is_found(before: bytes, fault: bytes, after: bytes, cuts: int) -> None:
    text = before + fault + after
    if b"\0" not in text and not re.search(rb"\r(?!\n)", text):
        return  # what follows made a line end of it
    with pytest.raises(Fault) as found:
        taken(text, False, cuts)
    assert found.value.status == os.EX_DATAERR


def test_memory_holds_no_more_than_it_should(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(letter, "HELD", 1000)
    message = Letter()
    for _ in range(100):
        message.add(b"x" * 98 + b"\r\n")
    assert len(message._held) == 0 and message.size == 10_000
    assert b"".join(message.pieces()) == b"".join(message.pieces()) == (b"x" * 98 + b"\r\n") * 100
    assert list(tmp_path.iterdir()) == [], "the file has no name"


def test_a_message_without_end_is_stopped(monkeypatch) -> None:
    monkeypatch.setattr(letter, "LARGEST", 1000)
    with pytest.raises(Fault, match="larger than") as found:
        taken(b"x\n" * 1000)
    assert found.value.status == os.EX_UNAVAILABLE
