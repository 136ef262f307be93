"""What server rules see of a message's header: the fields as they would go out now, decoded, each when it is asked for.

Promise:  linear in the bytes of the header, whatever they are, and at most fields.LIMIT of them are looked at. What is
          no field ends the header, as everywhere (model.fields). Nothing is raised.
Callers:  phases.rules, phases.server_rules.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from kmq.model import address_list
from kmq.model.address import NotAnAddress, parse
from kmq.model.domain import canonical
from kmq.model.event import HeaderEdit
from kmq.model.fields import CRLF
from kmq.phases import subjects
from kmq.phases.edits import edited
from kmq.phases.header_words import decoded
from kmq.phases.work import Body

#: Fields in which filters before us say how likely it is spam: the first number is the score.
_SCORES = ((b"x-spam-score", re.compile(r"\s*(-?\d{1,6}(?:\.\d{1,6})?)")),
           (b"x-spamd-result", re.compile(r"[^\[]{0,100}\[\s*(-?\d{1,6}(?:\.\d{1,6})?)")),
           (b"x-spam-status", re.compile(r".{0,100}?\bscore=(-?\d{1,6}(?:\.\d{1,6})?)")))  # fmt: skip


#: A field from the end of its name on.
_VALUE = re.compile(rb"[ \t]*+:([^\r\n]*+(?>\r\n[ \t][^\r\n]*+)*+\r\n)").match


class Header:
    """The fields of one message. header: whole fields, without the empty line. Only those that somebody asks for are
    looked for: most rules ask for one of a dozen."""

    __slots__ = ("_known", "_lower", "_text")

    def __init__(self, header: bytes) -> None:
        self._text = CRLF + header
        self._lower = self._text.lower()
        self._known: dict[str, list[str]] = {}

    def _written(self, name: str) -> Iterator[bytes]:
        """What stands behind the colon of each field of a name (lower case), folds and all, top down."""
        wanted = CRLF + name.encode()
        at = self._lower.find(wanted)
        while at >= 0:
            found = _VALUE(self._text, at + len(wanted))
            if found is not None:  # else another name begins so
                yield found[1]
            at = self._lower.find(wanted, at + len(wanted))

    def values(self, name: str) -> list[str]:
        """The values of all fields of a name (lower case), top down, as people read them."""
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = list(map(decoded, self._written(name)))
        return known

    def first(self, name: str) -> str:
        """That of the topmost one, "" for none."""
        return next(iter(self.values(name)), "")

    def addresses(self, name: str) -> list[str]:
        """The addresses in all fields of a name, in lower case with A-labels; what is none is left out."""
        found: list[str] = []
        for value in self._written(name):
            written = address_list.read(value, 0).written
            found += filter(None, (comparable(each.text) for each in written))
        return found

    @property
    def score(self) -> float | None:
        """Points of spam, by the topmost field of a filter before us; None when there is none that says so."""
        for name, number in _SCORES:
            said = number.match(self.first(name.decode()))
            if said is not None:
                return float(said[1])
        return None

    @property
    def automatic(self) -> bool:
        """A program sent it, or a list: nobody is to be told anything because of it (RFC 3834 2)."""
        submitted = self.first("auto-submitted").partition(";")[0].strip().lower()
        if submitted not in ("", "no"):
            return True
        return self.first("precedence").lower() in ("bulk", "junk", "list") or bool(self.values("list-id"))


@lru_cache(2048)
def comparable(text: str) -> str:
    """An address as it is compared: lower case, A-labels; what is none as it is written, in lower case."""
    try:
        found = parse(text)
        domain = found.domain if found.domain[:1] in ("[", "") else canonical(found.domain)
    except (NotAnAddress, ValueError):
        return text.encode(errors="replace").decode().casefold()
    return str(found._replace(domain=domain)).casefold()


def header_of(body: Body, edits: Sequence[HeaderEdit]) -> Header:
    """That of a message, with what phases have changed of it. A large body is read, which blocks; OSError when that
    cannot be done.
    """
    header = subjects.header_of(body)
    return Header(edited(header, edits) if edits else header)
