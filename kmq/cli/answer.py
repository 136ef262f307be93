"""What kmqd answered to one question, for people or programs.

Callers:  kmq.cli.flush, kmq.cli.expire, kmq.cli.act_bulk.
"""

from collections.abc import Iterator, Mapping

from kmq.admin.client import Response
from kmq.admin.listing import next_hop
from kmq.admin.verbs import split
from kmq.cli.call import DONE, Call
from kmq.view.words import harmless

#: Lines that people see; the rest is counted.
SHOWN = 100


def tell(call: Call, response: Response, done: str = "") -> int:
    """Prints it; its status is ours. done: as in `shown`."""
    if call.json:
        call.tell_objects(response.lines)
    else:
        call.tell(harmless(sentence(line)) for line in shown(response.lines, done))
    if response.status == DONE and not call.json:
        call.tell(response.text.splitlines())
    elif response.text:
        call.warn(harmless(response.text))
    return response.status


def shown(lines: list[dict[str, object]], done: str) -> Iterator[dict[str, object]]:
    """A line of each when they are few; else of those to which something else happened than was asked for. done: the
    word for what was."""
    few = len(lines) <= SHOWN
    chosen = [line for line in lines if few or line.get("Result") != done]
    yield from chosen[:SHOWN]
    if len(chosen) > SHOWN:
        yield {"": f"... and {len(chosen) - SHOWN:,} more like these"}


def sentence(line: Mapping[str, object]) -> str:
    """A line of an answer: `69212ad0-0000a1f3 skipped: it is suspended`."""
    words = " ".join(_word(name, value) for name, value in line.items() if name != "Why" and value is not None)
    return f"{words}: {line['Why']}" if line.get("Why") else words


def _word(name: str, value: object) -> str:
    """A part of a message is named by its queue, as people name it."""
    if name != "ID":
        return str(value)
    hop, one = split(str(value))
    return f"{next_hop(hop).name}\\{one}" if hop else one
