"""What a configuration would do to the queue, for people: changes summed up by queues, each with an example.

Callers:  kmq.cli.config_diff.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kmq.admin.foresight import Change, Foreseen, Tally
from kmq.spool.index_rows import next_hop
from kmq.view.table import Column, Page, Row, table
from kmq.view.words import counted, harmless

_COLUMNS = (
    Column("Messages", right=True),
    Column("Queue", elastic=True),
    Column("Then", elastic=True),
    Column("What", elastic=True),
)
_OPTIONS = (Column("Option"), Column("Counts"))
#: Groups of messages that are shown.
_GROUPS = 50


@dataclass(slots=True)
class _Group:
    """Messages of one queue with one fate; the first of them is the example."""

    count: int
    example: Foreseen


class Summary:
    """Takes what changes, and sums it up."""

    def __init__(self, found: Iterable[Foreseen]) -> None:
        self._groups: dict[tuple[str, str, str], _Group] = {}
        self._sooner = self._later = self._expiring = self._warned = self._elsewhere = 0
        for one in found:
            if one.change is not Change.STAYS or one.elsewhere:
                group = self._groups.setdefault(
                    (one.before, one.after, one.elsewhere or one.change.value), _Group(0, one)
                )
                group.count += 1
            self._elsewhere += bool(one.elsewhere)
            self._sooner += one.ends < one.ended
            self._later += one.ends > one.ended
            self._expiring += one.expires
            self._warned += one.warns

    def lines(self, options: Sequence[tuple[str, str]], tally: Tally, page: Page) -> Iterator[str]:
        """All of it."""
        yield from table(_OPTIONS, (Row((name, when)) for name, when in options), page)
        if not options:
            yield "No option changes."
        yield f"{counted(tally.messages, 'message')} in the queue: {tally.changed:,} would be treated otherwise."
        groups = sorted(self._groups.values(), key=lambda group: -group.count)
        yield from table(_COLUMNS, map(_row, groups[:_GROUPS]), page)
        if len(groups) > _GROUPS:
            yield f"... and {len(groups) - _GROUPS:,} more groups: --json shows every message"
        yield from self._times()
        for texts, word in ((tally.appearing, "appear"), (tally.vanishing, "vanish")):
            if texts:
                yield harmless(f"Queues that {word}: {', '.join(next_hop(text).name for text in texts)}")
        if self._elsewhere:
            yield "What stays in its queue though fresh mail would go elsewhere is moved by `kmq resubmit`."

    def _times(self) -> Iterator[str]:
        for count, words in (
            (self._sooner, "would be given up sooner than now"),
            (self._later, "would be given up later than now"),
            (self._expiring, "are over their time then: the next attempt that fails is the last one"),
            (self._warned, "would have their sender told, with the next attempt that fails, that it takes longer"),
        ):
            if count:
                yield f"{count:,} {words}."


def _row(group: _Group) -> Row:
    one = group.example
    what = one.change.value
    if one.elsewhere:
        what = f"stays; fresh mail would go to {next_hop(one.elsewhere).name}"
    to = f"{one.to[0]}" + (f" and {len(one.to) - 1} more" if len(one.to) > 1 else "")
    why = f": {one.why}" if one.why else ""
    then = next_hop(one.after).name if one.after else ""
    below = f"such as {one.id} to {to}{why}"
    return Row((f"{group.count:,}", next_hop(one.before).name, then, what), below=below)
