"""Tables: aligned, cut on a terminal only, whatever the cells hold."""

import io

import pytest

from kmq.view.table import BOLD, PLAIN, RED, SAMPLE, Column, Page, Row, page_of, table
from kmq.view.words import width
from tests.view.screens import terminal

COLUMNS = (Column("ID"), Column("Size", right=True), Column("From", elastic=True), Column("Status", elastic=True))
ROWS = [
    Row(("a1", "5 B", "alice@example.org", "Ready")),
    Row(("a2", "10.0 K", "", "Retry: 451 4.4.1 the server at the other end does not answer at all")),
]


def test_columns_stand_under_each_other() -> None:
    assert list(table(COLUMNS, ROWS, Page())) == [
        "ID    Size  From               Status",
        "a1     5 B  alice@example.org  Ready",
        "a2  10.0 K                     Retry: 451 4.4.1 the server at the other end does not answer at all",
    ]


def test_a_terminal_cuts_the_widest_columns_that_may_be_cut() -> None:
    lines = list(table(COLUMNS, ROWS, Page(columns=50)))
    assert lines[1:] == [
        "a1     5 B  alice@example.org  Ready",
        "a2  10.0 K                     Retry: 451 4.4.1...",
    ]
    assert all(width(line) <= 50 for line in lines)


def test_a_terminal_too_narrow_keeps_the_columns_that_name_things() -> None:
    lines = list(table(COLUMNS, ROWS, Page(columns=20)))
    assert lines == ["ID    Size  From ...", "a1     5 B  alice...", "a2  10.0 K       ..."]
    assert all(width(line) <= 20 for line in lines)


def test_no_line_is_longer_than_the_terminal_however_late_the_long_cell_comes() -> None:
    rows = [*[ROWS[0]] * SAMPLE, Row(("a-much-longer-identity-日本", "5 B", "x", "y"), RED)]
    for columns in range(4, 60):
        assert all(width(line) <= columns for line in table(COLUMNS, rows, Page(columns=columns)))


def test_no_rows_no_table() -> None:
    assert list(table(COLUMNS, [], Page())) == []


def test_foreign_cells_make_no_lines_and_no_colours() -> None:
    rows = [Row(("a1", "1 B", "x\x1b[31m\r\n@example.org", "Ready\nfake line"))]
    lines = list(table(COLUMNS, rows, Page()))
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


def test_wide_characters_are_counted_as_wide() -> None:
    rows = [Row(("a1", "1 B", "日本@example.org", "Ready")), Row(("a2", "1 B", "x", "Ready"))]
    _, first, second = table(COLUMNS, rows, Page())
    assert width(first) == width(second)


def test_rows_are_written_as_they_come() -> None:
    came = 0

    def rows() -> object:
        nonlocal came
        for _ in range(SAMPLE * 3):
            came += 1
            yield Row(("a", "1 B", "x", "y"))

    lines = table(COLUMNS, rows(), Page())  # type: ignore[arg-type]
    next(lines)
    next(lines)
    assert came <= SAMPLE + 1
    assert sum(1 for _ in lines) == SAMPLE * 3 - 1


def test_colours_mark_titles_and_grave_rows_only_where_they_are_welcome() -> None:
    rows = [Row(("a1", "1 B", "x", "Damaged"), RED)]
    titles, row = table(COLUMNS, rows, Page(columns=80, colours=True))
    assert titles.startswith(BOLD)
    assert row.endswith(f"{RED}Damaged{PLAIN}")
    assert "\x1b" not in "".join(table(COLUMNS, rows, Page(columns=80)))


def test_what_a_page_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert page_of(io.StringIO()) == Page()
    with terminal(97, 31) as out:
        assert page_of(out) == Page(97, 31, True)
        monkeypatch.setenv("NO_COLOR", "1")
        assert page_of(out) == Page(97, 31, False)
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert page_of(out) == Page(97, 31, False)
