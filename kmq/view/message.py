"""One message in full: where it is from, its recipients, its life, its files and its header.

Promise:  shows what is there, also when the body is missing or does not fit its envelope.
Callers:  kmq.cli.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from kmq.admin.circumstances import Circumstances
from kmq.admin.listing import Listed, properties, utc
from kmq.model import fields
from kmq.model.event import Delivered, Discarded, Expanded, Removed, Replaced
from kmq.spool.look import Damaged, Found, header_of
from kmq.view.history import addresses, expansion, history, origin, where
from kmq.view.mailq import next_try
from kmq.view.table import BOLD, PLAIN, Column, Page, Row, table
from kmq.view.words import counted, harmless, local_time

#: How recipients are done, that have not failed.
_ENDS: dict[type, str] = {
    Delivered: "Delivered",
    Removed: "Removed",
    Discarded: "Discarded",
    Replaced: "Replaced",
}

COLUMNS = (
    Column("Recipient", elastic=True),
    Column("Status"),
    Column("Queue", elastic=True),
    Column("Next Try"),
    Column("Attempts", right=True),
    Column("Last reply", elastic=True),
)


class RecipientState(NamedTuple):
    """How it stands with one recipient. next_try as in Share; queue "" when it is done."""

    address: str
    status: str
    queue: str
    next_try: float | None
    attempts: int
    last: str


def message(found: Found, entry: Listed, page: Page) -> Iterator[str]:
    """The whole story, in paragraphs."""
    head = found.head
    yield _title(head.id, page)
    yield f"  Created    {local_time(entry.created)}"
    yield f"  Size       {counted(head.size, 'byte')}"
    yield f"  From       {harmless(head.sender) or '(empty: a report of a mail server)'}"
    yield f"  Came       {harmless(origin(head))}"
    yield f"  Status     {harmless(entry.status)}"
    yield f"  Next try   {next_try(entry.next_try)}"
    if found.home == "poison":
        yield f"  Set aside  {harmless(found.reason)}"
    yield f"  Envelope   {harmless(str(found.path))}"
    yield f"  Message    {harmless(str(found.body))}{_body_trouble(found)}"
    yield ""
    yield _title("Recipients", page)
    yield from _indented(table(COLUMNS, map(_row, recipient_states(found, entry)), _narrower(page)))
    yield from map(harmless, _queues_in_trouble(entry))
    yield ""
    yield _title("History", page)
    yield from _indented(history(found))
    yield ""
    yield _title("Header", page)
    yield from _indented(header(found))


def _queues_in_trouble(entry: Listed) -> Iterator[str]:
    """A host that cannot be reached is tried once for all that waits: no recipient counts that."""
    for share in entry.shares:
        if share.queue is not None:
            tried = f"tried {counted(share.queue.failures, 'time')}" if share.queue.failures else "tried"
            error = f": {share.queue.last_error}" if share.queue.last_error else ""
            yield (
                f"  The whole queue {share.hop.name} waits; its host was {tried} in vain,"
                f" next try {next_try(share.queue.next_retry)}{error}"
            )


def damaged(found: Damaged, page: Page) -> Iterator[str]:
    """What can be said of a message whose envelope cannot be understood."""
    yield _title(found.id, page)
    yield f"  Damaged    {harmless(found.reason)}"
    yield f"  Envelope   {harmless(str(found.path))}"
    yield "  `kmq fsck` tells what can be done."


def header(found: Found) -> Iterator[str]:
    """The header's lines, made harmless; folded lines stand in a little, as a tab would."""
    text = header_of(found.body)
    if text is None:
        yield "(the message file cannot be read)"
        return
    shown = _fields_of(text)
    for line in shown.split(b"\r\n"):
        yield harmless(line.replace(b"\t", b"    ").decode("utf-8", "surrogateescape"))
    if len(shown) < len(text):
        yield "(what follows is no header)"


def _fields_of(text: bytes) -> bytes:
    """The header as far as it is one: what a sloppy program writes without a header is text, and nobody's to see."""
    return text[: fields.end(text + b"\r\n")].removesuffix(b"\r\n")


def recipient_states(found: Found, entry: Listed) -> Iterator[RecipientState]:
    """Every recipient, also those that are done."""
    waiting = {address: share for share in entry.shares for address in share.to}
    for index, recipient in enumerate(found.head.recipients):
        last = found.state.last[index]
        reply = f"{last.reply}{where(last)}" if last else ""
        attempts = found.state.results[index]
        done = found.state.done.get(index)
        share = waiting.get(recipient.address)
        if isinstance(done, Expanded):
            yield RecipientState(recipient.address, "Expanded", "", None, attempts, expansion(done))
        elif done is not None or share is None:
            word = _ENDS.get(type(done), "Failed")
            yield RecipientState(recipient.address, word, "", None, attempts, getattr(done, "reason", "") or reply)
        else:
            trouble = share.trouble or reply
            yield RecipientState(
                recipient.address, share.status.value, share.hop.name, share.next_try, attempts, trouble
            )


def message_properties(found: Found, entry: Listed, around: Circumstances) -> dict[str, object]:
    """The same as one object."""
    text = header_of(found.body)
    return {
        **properties(entry, entry.shares[0], around),
        "Recipients": [
            {
                "Address": one.address,
                "Status": one.status,
                "Queue": f"{around.server}\\{one.queue}" if one.queue else None,
                "NextRetryTime": utc(one.next_try or 0.0),
                "RetryCount": one.attempts,
                "LastError": one.last or None,
            }
            for one in recipient_states(found, entry)
        ],
        "Events": list(event_properties(found)),
        "Files": [str(found.path), str(found.body)],
        "Header": None if text is None else _fields_of(text).decode("utf-8", "replace"),
    }


def event_properties(found: Found) -> Iterator[dict[str, object]]:
    """One object per event, with addresses in place of numbers."""
    for event in found.events:
        said: dict[str, object] = msgspec.to_builtins(event)
        rcpt = said.pop("rcpt", None)
        if isinstance(rcpt, str):
            said["recipients"] = addresses(rcpt, found.head)
        yield {"id": found.head.id} | said


def _row(one: RecipientState) -> Row:
    when = next_try(one.next_try) if one.queue else "-"
    return Row((one.address, one.status, one.queue or "-", when, str(one.attempts), one.last or "-"))


def _body_trouble(found: Found) -> str:
    try:
        size = os.stat(found.body, follow_symlinks=False).st_size
    except OSError as error:
        return f"  (cannot be read: {error.strerror})"
    return "" if size == found.head.size else f"  (has {size:,} bytes: damaged, see `kmq fsck`)"


def _title(text: str, page: Page) -> str:
    return f"{BOLD}{text}{PLAIN}" if page.colours else text


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _narrower(page: Page) -> Page:
    return Page(max(1, page.columns - 2) if page.columns else 0, page.lines, page.colours)
