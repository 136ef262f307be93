"""Exchange's -Include and -Exclude: kinds of queues by one word.

Shape:    Internal, External, Empty (queues alone), or a DeliveryType; several with commas between. What is included by
          one word at least counts, unless it is excluded by one.
Promise:  pure; a word that is none is a FilterError with those that are.
Callers:  selection.
"""

from collections.abc import Iterable

from kmq.admin.filter_names import Table
from kmq.admin.filter_tree import Both, Comparison, Either, Node, Not
from kmq.admin.filter_words import existing
from kmq.errors import FilterError


def narrowed(node: Node | None, include: Iterable[str], exclude: Iterable[str], table: Table) -> Node | None:
    """A filter that asks for these kinds too."""
    parts: list[Node] = [node] if node is not None else []
    wanted = tuple(_kind(word, table) for word in _words(include))
    unwanted = tuple(_kind(word, table) for word in _words(exclude))
    if wanted:
        parts.append(Either(wanted))
    if unwanted:
        parts.append(Not(Either(unwanted)))
    return Both(tuple(parts)) if parts else None


def _words(given: Iterable[str]) -> list[str]:
    return [word.strip() for text in given for word in text.split(",") if word.strip()]


def _kind(word: str, table: Table) -> Comparison:
    count = table.get("MessageCount")
    if word.lower() == "empty" and count is not None:
        return Comparison(count, "-eq", (0.0,))
    known: list[str] = []
    for name in ("NextHopCategory", "DeliveryType"):
        found = table.get(name)
        assert found is not None, "every table of queues or of messages in them has it"
        for one in found.words:
            if one.lower() == word.lower():
                return Comparison(found, "-eq", (one,))
        known += found.words
    empty = ["Empty"] if count is not None else []
    raise FilterError("\n".join([f"{word[:40]!r} is no kind of queue", *existing([*known[:2], *empty, *known[2:]])]))
