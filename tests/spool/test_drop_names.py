"""Names in a drop directory: which are files that wait, which nobody can deal with, and what a file is called next."""

from itertools import islice

import pytest

from kmq.spool import drop_names

NOON = 1_790_000_000.25


@pytest.mark.parametrize(
    ("name", "waits"),
    [
        ("letter.eml", True),
        ("LETTER.EML", True),
        ("a b.eml", True),
        ("letter.eml.part", False),
        ("letter.tmp", False),
        ("letter.bad", False),
        ("letter.bad.reason", False),
        ("eml", False),
        ("README.md", False),
    ],
)
def test_what_ends_in_eml_waits(name: str, waits: bool) -> None:
    assert drop_names.waits(name) is waits


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a\nb.eml", "control characters"),
        ("a\x1b[2J.eml", "control characters"),
        ("\udcff.eml", "not UTF-8"),
        ("\u202egpj.eml", "control characters"),
        ("x" * 300 + ".eml", "longer than 220 bytes"),
        ("é" * 110 + ".eml", "longer than 220 bytes"),
        ("Grüße für Österreich.eml", ""),
        ("x" * 216 + ".eml", ""),
    ],
)
def test_names_that_nobody_can_print_or_lengthen(name: str, why: str) -> None:
    found = drop_names.unfit(name)
    assert bool(found) == bool(why) and why in found


def test_a_file_s_next_name_is_another_when_the_first_is_taken() -> None:
    names = list(islice(drop_names.successors("letter.eml", ".tmp", NOON), 3))
    assert names[0] == "letter.tmp"
    assert names[1:] == ["letter-20260921141320250.tmp", "letter-20260921141320251.tmp"]


def test_the_longest_name_has_room_for_all_endings() -> None:
    longest = "x" * (drop_names.LIMIT - 4) + ".eml"
    assert drop_names.unfit(longest) == ""
    last = list(drop_names.successors(longest, drop_names.BAD, NOON))[-1] + drop_names.REASON
    assert len(last.encode()) <= 255
