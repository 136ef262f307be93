"""The actions of server rules: `add header X-Big: yes`, `copy to audit@example.org`, `stop`.

Law:      VERBS is the whole language, kmq-rules(5) is held against it.
Promise:  pure; ValueError, for the operator's eyes, says what would be right.
Callers:  `rule`; kmq/phases/rules.
"""

import re
from enum import Enum
from typing import NamedTuple

from kmq.config.rule_text import addresses, field_name, like, one_text, opening, quotation, template


class Verb(Enum):
    """What is done; the value is how it is written."""

    ADD_HEADER = "add header"
    SET_HEADER = "set header"
    REMOVE_HEADER = "remove header"
    ADD_RECIPIENT = "add recipient"
    COPY = "copy to"
    REDIRECT = "redirect to"
    REJECT = "reject"
    DISCARD = "discard"
    HOLD = "hold"
    NOTIFY = "notify"
    STOP = "stop"


class Action(NamedTuple):
    """name: of a header field, as written. text: the value, the reason, or what a letter says; subject: of a letter.

    addresses: who gets something. Texts may have placeholders.
    """

    verb: Verb
    written: str
    name: str = ""
    addresses: tuple[str, ...] = ()
    text: str = ""
    subject: str = ""


#: How an action begins -> what it is.
VERBS: dict[str, Verb] = {
    **{one.value: one for one in Verb},
    "copy": Verb.COPY,
    "redirect": Verb.REDIRECT,
    "reject with": Verb.REJECT,
}

#: After one of these a recipient is none of this message any more, or waits for an operator.
ENDS = (Verb.REJECT, Verb.DISCARD, Verb.REDIRECT, Verb.HOLD)

EXAMPLES: dict[Verb, str] = {
    Verb.ADD_HEADER: "add header X-Big: yes",
    Verb.SET_HEADER: "set header Subject: [big] ${subject}",
    Verb.REMOVE_HEADER: "remove header X-Mailer",
    Verb.ADD_RECIPIENT: "add recipient boss@example.org",
    Verb.COPY: "copy to audit@example.org",
    Verb.REDIRECT: "redirect to successor@example.org",
    Verb.REJECT: "reject We take no programs by mail.",
    Verb.DISCARD: "discard",
    Verb.HOLD: "hold looks like the fraud of last week",
    Verb.NOTIFY: 'notify admin@example.org subject "Large mail: ${subject}" text "${from} sent ${size}."',
    Verb.STOP: "stop",
}

#: Fields by which other programs find loops, or know how the text is to be read.
_UNTOUCHED = {
    "received": "by these lines loops are found",
    "delivered-to": "by these lines loops are found",
    "x-loop": "by these lines loops are found",
    "mime-version": "it says how the text is to be read",
    "content-type": "it says how the text is to be read",
    "content-transfer-encoding": "it says how the text is to be read",
}

#: Characters of a text.
LONGEST = 900

_DEFAULT_SUBJECT = "[kmq] rule ${rule}: ${subject}"
_DEFAULT_TEXT = "The rule ${rule} applies to the message ${id} from ${sender} to ${recipients} (${size}): ${subject}"


def action(row: str) -> Action:
    """One row; ValueError when it is none."""
    begun = opening(row, VERBS)
    if begun is None:
        known = ", ".join(verb.value for verb in Verb)
        raise ValueError(f"{row!r}: an action begins with {known}{like(row, VERBS)}")
    verb, rest = begun
    example = EXAMPLES[verb]
    match verb:
        case Verb.ADD_HEADER | Verb.SET_HEADER | Verb.REMOVE_HEADER:
            return _header(verb, row, rest)
        case Verb.ADD_RECIPIENT | Verb.COPY | Verb.REDIRECT:
            return Action(verb, row, addresses=addresses(rest, example))
        case Verb.REJECT:
            return Action(verb, row, text=_text(one_text(rest, example)))
        case Verb.HOLD:
            return Action(verb, row, text=_text(one_text(rest, example) if rest else ""))
        case Verb.NOTIFY:
            return _notify(row, rest)
        case _:
            if rest:
                raise ValueError(f"{rest!r} stands behind {verb.value}, which is an action by itself")
            return Action(verb, row)


def _header(verb: Verb, row: str, rest: str) -> Action:
    if not rest:
        raise ValueError(f"the name of a header field is missing: {EXAMPLES[verb]}")
    if verb is not Verb.REMOVE_HEADER and ":" not in rest:
        raise ValueError(f"a colon stands behind the name of a header field: {EXAMPLES[verb]}")
    written, _, value = rest.partition(":")
    name, behind = field_name(written.strip())
    if behind:
        raise ValueError(f"{written.strip()!r} is no name of a header field: it has no blank in it: {EXAMPLES[verb]}")
    why = _UNTOUCHED.get(name.lower())
    if why and (verb is not Verb.ADD_HEADER or name.lower().startswith(("mime", "content"))):
        raise ValueError(f"{name} cannot be changed: {why}")
    if verb is Verb.REMOVE_HEADER and value.strip():
        raise ValueError(f"{value.strip()!r} stands behind the name: all fields of a name are removed")
    if verb is not Verb.REMOVE_HEADER and not value.strip():
        raise ValueError(f"a value is missing: {EXAMPLES[verb]}")
    return Action(verb, row, name=name, text=_text(value.strip()))


def _notify(row: str, rest: str) -> Action:
    """`ADDRESS, ADDRESS subject "..." text "..."`; what is left out says what can be said of any rule."""
    begun = _SAYS.search(rest)
    whom, said = (rest[: begun.start()], rest[begun.start() :]) if begun else (rest, "")
    texts = {"subject": _DEFAULT_SUBJECT, "text": _DEFAULT_TEXT}
    given: set[str] = set()
    while said.strip():
        word = _SAYS.match(said)
        if word is None or word[1].lower() in given:
            raise ValueError(f'{said.strip()!r}: behind the addresses stand subject "..." and text "...": {_NOTIFY}')
        given.add(word[1].lower())
        texts[word[1].lower()], said = quotation(said[word.end() - 1 :])
        said = f" {said}"
    try:
        to = addresses(whom, _NOTIFY)
    except ValueError as wrong:
        raise ValueError(f"{wrong}, as in {_NOTIFY}") from None
    return Action(Verb.NOTIFY, row, addresses=to, subject=_text(texts["subject"]), text=_text(texts["text"]))


_NOTIFY = EXAMPLES[Verb.NOTIFY]
_SAYS = re.compile(r'\s+(subject|text)\s+"', re.IGNORECASE)


def _text(text: str) -> str:
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} characters are too many: at most {LONGEST}")
    return template(text)
