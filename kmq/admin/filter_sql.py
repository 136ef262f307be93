"""A filter as a condition of SQL, over a view whose columns bear the names of properties.

What:     each comparison becomes a function of one column, which SQLite calls: the predicate of filter_match itself. So
          lists and looks at single things mean the same, and no NULL makes a third answer.
Promise:  nothing of a filter's text is ever part of the SQL. A chain of any length is balanced: no expression is deep.
Callers:  selection.
"""

import sqlite3
from collections.abc import Sequence
from itertools import count

from kmq.admin.filter_match import Test, test_of
from kmq.admin.filter_tree import Both, Comparison, Either, Node, Not


def condition(connection: sqlite3.Connection, node: Node | None) -> str:
    """The condition; the connection learns what it needs."""
    return "1" if node is None else _Writing(connection).of(node)


class _Writing:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._numbers = count()

    def of(self, node: Node) -> str:
        match node:
            case Comparison():
                return f'{self._learned(test_of(node))}("{node.property.name}")'
            case Not():
                return f"(NOT {self.of(node.part)})"
            case Both():
                return self._joined(node.parts, "AND")
            case Either():
                return self._joined(node.parts, "OR")

    def _joined(self, parts: Sequence[Node], sign: str) -> str:
        if len(parts) == 1:
            return self.of(parts[0])
        half = len(parts) // 2
        return f"({self._joined(parts[:half], sign)} {sign} {self._joined(parts[half:], sign)})"

    def _learned(self, test: Test) -> str:
        name = f"test_{next(self._numbers)}"
        self._connection.create_function(name, 1, test, deterministic=True)
        return name
