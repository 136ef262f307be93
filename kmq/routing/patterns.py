"""Tables of address patterns, as lines `PATTERN WORD` make them: whose line counts for an address.

Promise:  pure. The most precise pattern counts, wherever it stands; of two lines with one pattern the first.
Callers:  phases.rewriting (other addresses), routing.languages.
"""

from collections.abc import Callable, Iterable

from kmq.config.address_maps import MapLine, Understanding, read
from kmq.model.domain import canonical
from kmq.model.mailbox import DELIMITER
from kmq.routing.watched import Content

#: Pattern -> what stands behind it.
Table = dict[str, str]


def patterns(local: str, domain: str) -> list[str]:
    """What may stand in a table for an address, the most precise first."""
    local, domain = local.lower(), _a_labels(domain)
    user = local.partition(DELIMITER)[0] if local[:1] != '"' else local
    above = [domain[at:] for at in range(len(domain)) if domain[at] == "."]
    names = dict.fromkeys((local, user or local))
    return [
        *(f"{name}@{domain}" for name in names),
        *(f"{name}@" for name in names),
        f"@{domain}",
        *(f"@*{parent}" for parent in above),
    ]


def _a_labels(domain: str) -> str:
    if domain.isascii():
        return domain.lower()
    try:
        return canonical(domain)
    except ValueError:
        return domain


def table_of(lines: Iterable[MapLine]) -> Table:
    table: Table = {}
    for line in lines:
        table.setdefault(line.pattern, line.replacement)
    return table


def understanding(one: Understanding) -> Callable[[str], Content[Table]]:
    """How a file of such lines is understood (see `watched`): as a whole, or not at all."""

    def understand(text: str) -> Content[Table]:
        try:
            return Content(table_of(read(text, one)))
        except ValueError as wrong:
            return Content({}, str(wrong))

    return understand
