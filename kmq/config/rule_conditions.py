"""The conditions of server rules: `size over 20M`, `header subject contains "invoice"`.

Law:      SUBJECTS and COMPARATORS are the whole language, kmq-rules(5) is held against them.
Shapes:   a row is a subject, a comparator, and values of which any one does; Kerio Connect's words are understood too
          (equal, contain, not contain).
Promise:  pure; ValueError, for the operator's eyes, says what would be right.
Callers:  `rule`; kmq/phases/rule_tests.
"""

import re
from enum import Enum
from typing import NamedTuple

from kmq.config import kinds
from kmq.config.rule_text import Pattern, address, field_name, like, one_text, opening, values
from kmq.model.linear import Search


class Subject(Enum):
    """What a condition looks at; the value is how it is written."""

    ALL = "all mail"
    ENVELOPE_SENDER = "envelope sender"
    ENVELOPE_RECIPIENT = "envelope recipient"
    HEADER = "header"
    ATTACHMENT = "attachment"
    ATTACHMENT_TYPE = "attachment type"
    SIZE = "size"
    SPAM_SCORE = "spam score"


class Comparator(Enum):
    """How it is compared; the value is how it is written. Each but `under` and `over` may be negated."""

    IS = "is"
    CONTAINS = "contains"
    MATCHES = "matches"
    UNDER = "under"
    OVER = "over"
    EXISTS = "exists"


class Condition(NamedTuple):
    """name: of a header field, lower case. negative: so is none of what is there. written: the row itself.

    patterns: any of these; for EXISTS none. limit: of UNDER and OVER: bytes, or points of spam.
    """

    subject: Subject
    comparator: Comparator
    written: str
    name: str = ""
    negative: bool = False
    patterns: tuple[Pattern, ...] = ()
    limit: float = 0.0


#: How a condition begins -> its subject, and the header field that it is short for.
SUBJECTS: dict[str, tuple[Subject, str]] = {
    **{one.value: (one, "") for one in Subject},
    "attachment name": (Subject.ATTACHMENT, ""),
    **{name: (Subject.HEADER, name) for name in ("subject", "from", "to", "cc")},
}

#: A comparator as it may be written -> what it means, and whether it is negated.
COMPARATORS: dict[str, tuple[Comparator, bool]] = {
    **{word: (Comparator.IS, False) for word in ("is", "equal", "equals")},
    **{word: (Comparator.IS, True) for word in ("is not", "not equal", "not equals", "does not equal")},
    **{word: (Comparator.CONTAINS, False) for word in ("contains", "contain")},
    **{word: (Comparator.CONTAINS, True) for word in ("not contains", "not contain", "does not contain")},
    **{word: (Comparator.MATCHES, False) for word in ("matches", "match")},
    **{word: (Comparator.MATCHES, True) for word in ("not matches", "not match", "does not match")},
    **{word: (Comparator.EXISTS, False) for word in ("exists", "exist")},
    **{word: (Comparator.EXISTS, True) for word in ("not exists", "not exist", "does not exist")},
    "under": (Comparator.UNDER, False),
    "over": (Comparator.OVER, False),
}

_TEXT = (Comparator.IS, Comparator.CONTAINS, Comparator.MATCHES)
_FIGURE = (Comparator.UNDER, Comparator.OVER)

#: What may stand behind a subject, and a row as an example.
MEANING: dict[Subject, tuple[tuple[Comparator, ...], str]] = {
    Subject.ENVELOPE_SENDER: (_TEXT, "envelope sender is *@example.org"),
    Subject.ENVELOPE_RECIPIENT: (_TEXT, "envelope recipient is sales@example.org"),
    Subject.HEADER: ((*_TEXT, Comparator.EXISTS), 'header subject contains "invoice"'),
    Subject.ATTACHMENT: ((*_TEXT, Comparator.EXISTS), "attachment is *.exe, *.scr"),
    Subject.ATTACHMENT_TYPE: (_TEXT, "attachment type is application/x-msdownload"),
    Subject.SIZE: (_FIGURE, "size over 20M"),
    Subject.SPAM_SCORE: (_FIGURE, "spam score over 6.5"),
}

#: Header fields that are lists of addresses: `is` compares with each of those.
ADDRESS_FIELDS = frozenset(
    ("from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-sender", "resent-to", "resent-cc",
     "resent-bcc", "return-path", "delivered-to", "errors-to")
)  # fmt: skip

#: Words that might mean the envelope or the header.
_UNSURE = {
    "sender": "write envelope sender for whose mail it is by the envelope, header sender for the field of that name",
    "recipient": "write envelope recipient, or to or cc for what the header says",
}

_SCORE = re.compile(r"-?\d{1,6}(?:\.\d{1,6})?").fullmatch


def condition(row: str) -> Condition:
    """One row; ValueError when it is none."""
    begun = opening(row, SUBJECTS)
    if begun is None:
        first = row.split()[0].lower() if row else ""
        known = ", ".join("header NAME" if one == "header" else one for one in SUBJECTS)
        hint = f"; {_UNSURE[first]}" if first in _UNSURE else like(row, SUBJECTS)
        raise ValueError(f"{row!r}: a condition begins with {known}{hint}")
    (subject, name), rest = begun
    if subject is Subject.ALL:
        if rest:
            raise ValueError(f"{rest!r} stands behind all mail, which is a condition by itself")
        return Condition(subject, Comparator.EXISTS, row)
    if subject is Subject.HEADER and not name:
        if not rest:
            raise ValueError(f"the name of a header field is missing: {MEANING[subject][1]}")
        name, rest = field_name(rest)
    return _compared(subject, name.lower(), row, rest)


def _compared(subject: Subject, name: str, row: str, rest: str) -> Condition:
    allowed, example = MEANING[subject]
    begun = opening(rest, COMPARATORS)
    if begun is None or begun[0][0] not in allowed:
        known = ", ".join(one.value for one in allowed)
        negated = ", or is not, not contains and so on" if Comparator.IS in allowed else ""
        hint = like(rest, COMPARATORS) if rest and begun is None else ""
        raise ValueError(f"{row!r}: behind {_named(subject, name)} stands {known}{negated}: {example}{hint}")
    (comparator, negative), rest = begun
    if comparator is Comparator.EXISTS:
        if rest:
            raise ValueError(f"{rest!r} stands behind exists, which is a condition by itself")
        return Condition(subject, comparator, row, name, negative)
    if comparator in _FIGURE:
        return Condition(subject, comparator, row, limit=_limit(subject, rest, example))
    return Condition(subject, comparator, row, name, negative, _patterns(subject, name, comparator, rest, example))


def _named(subject: Subject, name: str) -> str:
    return f"header {name}" if name else subject.value


def _limit(subject: Subject, text: str, example: str) -> float:
    if not text:
        raise ValueError(f"a figure is missing: {example}")
    if subject is Subject.SIZE:
        return float(_size(text))
    if not _SCORE(text):
        raise ValueError(f"{text!r} is no number of points: {example}")
    return float(text)


_size = kinds.size().parse


def _patterns(subject: Subject, name: str, comparator: Comparator, text: str, example: str) -> tuple[Pattern, ...]:
    if comparator is Comparator.MATCHES:
        return (_expression(one_text(text, 'subject matches "invoice [0-9]+"')),)
    found = values(text, example)
    if comparator is Comparator.CONTAINS:
        return tuple(Pattern(one.text) for one in found)
    if subject in (Subject.ENVELOPE_SENDER, Subject.ENVELOPE_RECIPIENT):
        return tuple(_address_pattern(one, _named(subject, name)) for one in found)
    if name in ADDRESS_FIELDS:
        return tuple(_address_pattern(one, name) for one in found)
    if subject is not Subject.HEADER:
        for one in found:
            if not one.wild and ("*" in one.text or "?" in one.text):
                raise ValueError(f'"{one.text}": in quotes * and ? stand for themselves: leave the quotes out')
    return found


def _expression(text: str) -> Pattern:
    try:
        Search(text)
    except ValueError as wrong:
        raise ValueError(f"{text!r} is no regular expression: {wrong}") from None
    return Pattern(text)


def _address_pattern(pattern: Pattern, subject: str) -> Pattern:
    """`<>` is nobody, `@example.org` everybody there."""
    text = pattern.text
    if text == "<>":
        return Pattern("")
    if text.startswith("@"):
        return Pattern(f"*@{kinds.domain_name(text[1:])}", wild=True)
    if pattern.wild:
        return pattern
    if "*" in text or "@" not in text:
        either = f", or {subject} contains {text}" if "*" not in text else ": leave the quotes out"
        raise ValueError(f"{text!r} is no address: write bob@example.org, *@example.org{either}")
    return Pattern(address(text))
