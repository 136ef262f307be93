"""Changes that phases make of a message's header, on its way out: the body in the queue stays as it came.

Promise:  pure; fields that no change concerns stay byte for byte, in their order. A change whose name is none is left
          out; whatever a value holds, it stays one field (it came from a scanner, or from the message itself).
Callers:  phases.rendering, phases.maildir and the other ways out; run.written.
"""

import re
from collections.abc import Iterable, Sequence

from kmq.model import fields
from kmq.model.envelope import Head
from kmq.model.event import HeaderEdit, Passed
from kmq.model.fields import Field

_NAME = re.compile(r"[!-9;-~]{1,200}").fullmatch
#: Line ends within a value that begin no fold.
_BREAKS = re.compile(rb"\r\n(?![ \t])|\r(?!\n)|(?<!\r)\n|\0")


def standing(head: Head, earlier: Iterable[Passed], index: int) -> tuple[HeaderEdit, ...]:
    """All changes of a message's header that are to be made for one of its recipients, by what it has been through."""
    return head.edits + tuple(edit for one in earlier if one.covers(index) for edit in one.headers)


def field(name: str, value: str) -> bytes:
    """One field, whole, with its CRLF."""
    text = value.encode("utf-8", "surrogateescape")
    return b"%b: %b\r\n" % (name.encode(), _BREAKS.sub(b" ", text).strip())


def edited(header: bytes, edits: Sequence[HeaderEdit]) -> bytes:
    """A header (whole fields) as it goes out."""
    found = fields.read(header)
    for edit in edits:
        if _NAME(edit.name):
            found = _EDITS.get(edit.how, _left)(found, edit)
    return b"".join(one.text for one in found)


def _made(edit: HeaderEdit) -> Field:
    return Field(edit.name.lower().encode(), field(edit.name, edit.value))


def _left(found: list[Field], edit: HeaderEdit) -> list[Field]:
    """A change that this program does not know, of a later one: nothing is changed."""
    return found


def _add(found: list[Field], edit: HeaderEdit) -> list[Field]:
    return [*found[: edit.place], _made(edit), *found[edit.place :]]


def _append(found: list[Field], edit: HeaderEdit) -> list[Field]:
    return [*found, _made(edit)]


def _remove(found: list[Field], edit: HeaderEdit) -> list[Field]:
    name = edit.name.lower().encode()
    return [one for one in found if one.name != name]


def _set(found: list[Field], edit: HeaderEdit) -> list[Field]:
    name = edit.name.lower().encode()
    place = next((at for at, one in enumerate(found) if one.name == name), 0)
    kept = _remove(found, edit)
    return [*kept[:place], _made(edit), *kept[place:]]


def _replace(found: list[Field], edit: HeaderEdit) -> list[Field]:
    name = edit.name.lower().encode()
    places = [at for at, one in enumerate(found) if one.name == name]
    if not 1 <= edit.place <= len(places):
        return _append(found, edit) if edit.value else found
    at = places[edit.place - 1]
    return [*found[:at], *([_made(edit)] if edit.value else []), *found[at + 1 :]]


_EDITS = {"add": _add, "append": _append, "remove": _remove, "set": _set, "replace": _replace}
