"""Whether a condition of a server rule is met: tests made of the configuration once, asked for each message.

Shapes:   a Test looks at what is known of a message and says yes, no, or what it has to know first (Need). A condition
          about recipients of the envelope is a test of one address.
Promise:  pure, and linear in the text that it looks at, whatever that and the pattern are: no stranger's text keeps a
          worker busy. Texts are compared without regard to case.
Callers:  phases.rules.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import msgspec

from kmq.config.rule_conditions import ADDRESS_FIELDS, Comparator, Condition, Subject
from kmq.config.rule_text import Pattern
from kmq.model.envelope import Head
from kmq.model.linear import Search
from kmq.phases.facts import Attachment
from kmq.phases.file_names import plain
from kmq.phases.rules_header import Header, comparable

#: Characters of a text that are compared.
LONGEST = 10_000


class Need(IntEnum):
    """What must be known of a message before it can be said; the later, the dearer."""

    HEADER = 1
    ATTACHMENTS = 2


class Look(msgspec.Struct, frozen=True):
    """What is known of a message. header, attachments: None as long as nobody has looked. score: of spam, by a filter
    of ours.
    """

    head: Head
    header: Header | None = None
    attachments: Sequence[Attachment] | None = None
    score: float | None = None


TextTest = Callable[[str], bool]
Test = Callable[[Look], "bool | Need"]


@dataclass(slots=True, frozen=True)
class Asked:
    """A condition as a test. of_recipient: instead of `of_message`, of one recipient's address; need: what it looks at
    beside the envelope, 0 for nothing.
    """

    condition: Condition
    need: int
    of_message: Test | None = None
    of_recipient: TextTest | None = None


def asked(condition: Condition) -> Asked:
    """The test of a condition."""
    match condition.subject:
        case Subject.ALL:
            return Asked(condition, 0, lambda look: True)
        case Subject.SIZE:
            return Asked(condition, 0, _figure(condition, lambda look: float(look.head.size)))
        case Subject.SPAM_SCORE:
            return Asked(condition, Need.HEADER, _score(condition))
        case Subject.ENVELOPE_SENDER:
            sender = _address_test(condition)
            return Asked(condition, 0, lambda look: sender(look.head.sender))
        case Subject.ENVELOPE_RECIPIENT:
            return Asked(condition, 0, of_recipient=_address_test(condition))
        case Subject.HEADER:
            return Asked(condition, Need.HEADER, _header(condition))
        case Subject.ATTACHMENT | Subject.ATTACHMENT_TYPE:
            return Asked(condition, Need.ATTACHMENTS, _attachment(condition))


# --- texts -----------------------------------------------------------------------------------------------------------


def _text_test(condition: Condition) -> TextTest:
    """Whether one text is what the condition names; its negation is not looked at here."""
    match condition.comparator:
        case Comparator.IS:
            return _any([_same(one) for one in condition.patterns])
        case Comparator.CONTAINS:
            return _any([_within(one.text.casefold()) for one in condition.patterns])
        case _:
            return _any([Search(one.text) for one in condition.patterns])


def _any(tests: Sequence[TextTest]) -> TextTest:
    def test(text: str) -> bool:
        folded = text[:LONGEST].casefold()
        return any(one(folded) for one in tests)

    return test


def _within(part: str) -> TextTest:
    return lambda text: part in text


def _same(pattern: Pattern) -> TextTest:
    whole = pattern.text.casefold()
    return _wild(whole) if pattern.wild else lambda text: text == whole


def _wild(pattern: str) -> TextTest:
    """Each part between stars is looked for once, at the first place where it stands: no pattern is slow."""
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in pattern.split("*"))
    *inner, last = rest or [""]
    found = first + "".join(f"(?>.*?{part})" for part in inner if part) + (f".*{last}" if rest else "")
    return _whole(re.compile(found, re.DOTALL))


def _whole(pattern: re.Pattern[str]) -> TextTest:
    return lambda text: pattern.fullmatch(text) is not None


# --- subjects --------------------------------------------------------------------------------------------------------


def _address_test(condition: Condition) -> TextTest:
    test, negative = _text_test(condition), condition.negative
    return lambda address: test(comparable(address)) is not negative


def _header(condition: Condition) -> Test:
    name, negative = condition.name, condition.negative
    if condition.comparator is Comparator.EXISTS:
        return _with_header(lambda header: bool(header.values(name)) is not negative)
    test = _text_test(condition)
    if condition.comparator is Comparator.IS and name in ADDRESS_FIELDS:
        return _with_header(lambda header: any(map(test, header.addresses(name))) is not negative)
    return _with_header(lambda header: any(map(test, header.values(name))) is not negative)


def _with_header(test: Callable[[Header], bool]) -> Test:
    return lambda look: Need.HEADER if look.header is None else test(look.header)


def _figure(condition: Condition, figure: Callable[[Look], float]) -> Test:
    limit = condition.limit
    if condition.comparator is Comparator.OVER:
        return lambda look: figure(look) > limit
    return lambda look: figure(look) < limit


def _score(condition: Condition) -> Test:
    """What nobody has given a score is neither over nor under any."""
    limit, over = condition.limit, condition.comparator is Comparator.OVER

    def test(look: Look) -> bool | Need:
        score = look.score
        if score is None:
            if look.header is None:
                return Need.HEADER
            score = look.header.score
        return score is not None and (score > limit if over else score < limit)

    return test


def _attachment(condition: Condition) -> Test:
    negative = condition.negative
    if condition.comparator is Comparator.EXISTS:
        return _with_attachments(lambda found: bool(found) is not negative)
    test = _text_test(condition)
    words = _names if condition.subject is Subject.ATTACHMENT else _types
    return _with_attachments(lambda found: any(test(word) for one in found for word in words(one)) is not negative)


def _with_attachments(test: Callable[[Sequence[Attachment]], bool]) -> Test:
    return lambda look: Need.ATTACHMENTS if look.attachments is None else test(look.attachments)


def _names(one: Attachment) -> Iterator[str]:
    """All that a reader of mail may call it: as it is written, as it is read, and without folders."""
    for name in one.names:
        read = plain(name)
        yield from {name, read, read.replace("\\", "/").rpartition("/")[2]}


def _types(one: Attachment) -> Iterable[str]:
    return filter(None, (one.type, one.magic))
