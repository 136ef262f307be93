"""What runs short, as a table.

Callers:  kmq.cli.
"""

from collections.abc import Iterable, Iterator, Mapping

from kmq.view.table import RED, YELLOW, Column, Page, Row, table

COLUMNS = (
    Column("Resource", elastic=True),
    Column("Level"),
    Column("Figure", right=True),
    Column("Medium", right=True),
    Column("High", right=True),
    Column("MediumAgain", right=True),
    Column("NormalAgain", right=True),
)

_TONES = {"Medium": YELLOW, "High": RED}


def pressure(lines: Iterable[Mapping[str, object]], page: Page) -> Iterator[str]:
    """The table of the objects that the verb `pressure` gives."""
    return table(COLUMNS, map(_row, lines), page)


def _row(line: Mapping[str, object]) -> Row:
    level = str(line.get("Level"))
    figures = (_shown(line.get(name), line.get("Unit")) for name in ("Figure", *(one.title for one in COLUMNS[3:])))
    return Row((str(line.get("Description")), level, *figures), _TONES.get(level, ""))


def _shown(figure: object, unit: object) -> str:
    """`512 MiB`, `72.1 %`, `10,000`, `?` for what is not known."""
    if not isinstance(figure, int | float):
        return "?"
    if unit == "B":
        return f"{int(figure) >> 20:,} MiB"
    return f"{figure:.1f} %" if unit else f"{int(figure):,}"
