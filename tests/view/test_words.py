"""Foreign text is harmless on a terminal, and values read well."""

import os
import time

import pytest

from kmq.view.words import counted, duration, elided, harmless, local_time, volume, width


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice@example.org", "alice@example.org"),
        ("жук@пример.рф", "жук@пример.рф"),
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("a\r\nb\tc\x00\x7f", r"a\x0d\x0ab\x09c\x00\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("a\u2028b\u200bc", r"a\u2028b\u200bc"),
        ("\udcff", r"\xff"),
        ("\U000e0041", r"\U000e0041"),
        ("", ""),
    ],
)
def test_nothing_foreign_reaches_the_terminal(text: str, expected: str) -> None:
    assert harmless(text) == expected


def test_no_character_at_all_gets_through_that_does_not_print() -> None:
    for code in range(0x11000):
        assert harmless(chr(code)).isprintable()


@pytest.mark.parametrize(
    ("text", "room", "expected"),
    [
        ("alice@example.org", 17, "alice@example.org"),
        ("alice@example.org", 10, "alice@e..."),
        ("日本語", 6, "日本語"),
        ("日本語です", 8, "日本..."),
        ("abc", 2, ".."),
        ("abc", 0, ""),
    ],
)
def test_cutting_to_a_width(text: str, room: int, expected: str) -> None:
    assert elided(text, room) == expected
    assert width(elided(text, room)) <= room


def test_combining_marks_take_no_room() -> None:
    assert width("e\u0301") == 1
    assert width("\u2764\ufe0f") == 1, "a variation selector"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 s"),
        (7.9, "7 s"),
        (250, "4 min 10 s"),
        (3600 * 3 + 300, "3 h 5 min"),
        (86400 * 2 + 3600 * 4, "2 d 4 h"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("size", "expected"), [(0, "0 B"), (999, "999 B"), (4301, "4.2 K"), (1 << 20, "1.0 M"), (3 << 40, "3.0 T")]
)
def test_volumes(size: int, expected: str) -> None:
    assert volume(size) == expected


def test_numbers_agree_with_their_things() -> None:
    assert [counted(n, "message") for n in (0, 1, 2041)] == ["0 messages", "1 message", "2,041 messages"]


def test_times_are_the_readers_with_their_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert local_time(1795326611.9) == "2026-11-22 06:50:11 +0100"
    finally:
        monkeypatch.undo()
        assert os.environ.get("TZ") == before
        time.tzset()
