"""What the rules that apply come to: header changes, further messages, the end of recipients, as one Finding.

Law:      changes of the header are made for all recipients, as a message has one header. Reject, discard, redirect and
          hold are about those recipients whom the rule is about. Whoever gets the message anyhow gets no copy of it.
          Copies and redirected mail bear the header's changes of all rules; they have been archived with the message,
          meet no rule again (so no rule makes a loop), and go through attachment rules and scanners like others.
Promise:  pure; the same message and rules make the same Finding but for the time in a letter. What is filled in from a
          message stays one line.
Callers:  phases.server_rules; `kmq rules test`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kmq.config.rule_actions import ENDS, Action, Verb
from kmq.config.rule_text import filled
from kmq.model import recipients
from kmq.model.envelope import Recipient
from kmq.model.event import Deferred, Discarded, Failed, HeaderEdit, Passed, Suspended
from kmq.model.orcpt import orcpt_of
from kmq.model.phase import Phase
from kmq.model.reply import Reply
from kmq.phases.encoded_words import worded
from kmq.phases.inspection import Finding, Letter
from kmq.phases.rules import Applied
from kmq.phases.rules_letters import Office, letter
from kmq.phases.rules_tests import Look

#: What `kmq show` says of mail that a rule has made.
HOW = "rule"

#: Characters of a placeholder; of a text when they are filled in; of what an event says.
_VALUE, _TEXT, _SAID = 400, 900, 600

_EDITS = {Verb.ADD_HEADER: "add", Verb.SET_HEADER: "set", Verb.REMOVE_HEADER: "remove"}


class Asking(NamedTuple):
    """The message that rules apply to. attempt: as in the Matter.

    silent: names of rules whose copies and notices are made with other recipients of the message, or have been.
    """

    look: Look
    attempt: int
    office: Office
    silent: frozenset[str] = frozenset()


def finding(asking: Asking, applied: Sequence[Applied], note: str = "") -> Finding:
    """All that is to be done. note: what could not be looked at."""
    if not applied:
        return Finding(Passed(verdict=note))
    made = _Making(asking)
    for one in applied:
        made.take(one)
    letters = made.letters(applied)
    verdict = "; ".join([*made.said, *([note] if note else [])])
    passed = Passed(by=_names(applied), verdict=_cut(verdict, _SAID), headers=tuple(made.edits))
    return Finding(passed, events=made.events, letters=letters)


def _names(applied: Sequence[Applied]) -> str:
    word = "rule" if len(applied) == 1 else "rules"
    return _cut(f"{word} {', '.join(one.rule.name for one in applied)}", _SAID)


class _Making:
    """A Finding under way. said: what was done, for people."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self.edits: list[HeaderEdit] = []
        self.events: list[Discarded | Failed | Deferred | Suspended] = []
        self.said: list[str] = []

    def take(self, applied: Applied) -> None:
        known = placeholders(self._asking.look, applied)
        for action in applied.rule.section.action:
            text = _line(filled(action.text, known))
            if action.verb in _EDITS:
                self.edits.append(HeaderEdit(_EDITS[action.verb], action.name, worded(text)))
            elif action.verb in ENDS:
                self.events.append(self._end(action, applied, text))
            self.said.append(told(action, text))

    def _end(self, action: Action, applied: Applied, text: str) -> Discarded | Failed | Suspended:
        rcpt, by = recipients.as_text(applied.rcpt), f"rule {applied.rule.name}"
        why = text or applied.rule.section.description or "it is so written in the configuration"
        match action.verb:
            case Verb.REJECT:
                reply = str(Reply(550, "5.7.1", text))
                return Failed(rcpt=rcpt, attempt=self._asking.attempt, reply=reply)
            case Verb.HOLD:
                return Suspended(rcpt=rcpt, by=by, reason=why)
            case Verb.REDIRECT:
                return Discarded(rcpt=rcpt, by=by, reason=told(action, ""))
            case _:
                return Discarded(rcpt=rcpt, by=by, reason=why)

    # --- further messages --------------------------------------------------------------------------------------------

    def letters(self, applied: Sequence[Applied]) -> list[Letter]:
        """Those of all rules; nobody gets two by actions of one kind."""
        sent = {Verb.REDIRECT: set[str](), Verb.ADD_RECIPIENT: self._going(applied), Verb.COPY: self._going(applied)}
        return [one for each in applied for one in self._of_rule(each, sent)]

    def _going(self, applied: Sequence[Applied]) -> set[str]:
        """Who gets the message itself."""
        gone = {index for one in applied if _ends(one) for index in one.rcpt}
        everybody = enumerate(self._asking.look.head.recipients)
        return {one.address.lower() for index, one in everybody if index not in gone}

    def _of_rule(self, applied: Applied, sent: dict[Verb, set[str]]) -> Iterator[Letter]:
        for action in applied.rule.section.action:
            if action.verb is not Verb.REDIRECT and applied.rule.section.name in self._asking.silent:
                continue
            if action.verb is Verb.NOTIFY:
                yield from self._notice(action, applied)
            elif action.verb in sent:
                new = [one for one in action.addresses if one.lower() not in sent[action.verb]]
                sent[action.verb].update(one.lower() for one in new)
                if new:
                    yield self._sent_on(action.verb, new, applied)

    def _sent_on(self, verb: Verb, to: Sequence[str], applied: Applied) -> Letter:
        head = self._asking.look.head
        quiet = verb is Verb.COPY  # whoever wrote knows nothing of it
        notify, orcpt = (
            _wishes([head.recipients[index] for index in applied.rcpt]) if verb is Verb.REDIRECT else ("", "")
        )
        addressed = tuple(Recipient(one, notify="NEVER" if quiet else notify, orcpt=orcpt) for one in to)
        return Letter(
            sender=head.sender,
            recipients=addressed,
            how=HOW,
            passed=(Phase.BACKUP,),
            quiet=quiet or head.quiet,
            edits=tuple(self.edits),
            once=False,
        )

    def _notice(self, action: Action, applied: Applied) -> Iterator[Letter]:
        """Nobody is told because of what a program sent (RFC 3834 2): that is how mail goes round for ever."""
        look = self._asking.look
        if not look.head.sender or look.header is None or look.header.automatic:
            self.said.append("notify left out: a program sent the message")
            return
        known = placeholders(look, applied)
        lines = [_line(filled(line, known)) for line in action.text.split("\\n")]
        subject = _line(filled(action.subject, known))
        made = letter(look.head, applied.rule.section.name, action.addresses, subject, lines, self._asking.office)
        yield msgspec.structs.replace(made, once=False)


def _wishes(owners: Sequence[Recipient]) -> tuple[str, str]:
    """NOTIFY and ORCPT of those who stand in the place of some recipients: what was asked for all of them alike, and
    whom the sender wrote to when that was one (RFC 3461)."""
    asked = {one.notify for one in owners}
    orcpt = (owners[0].orcpt or orcpt_of(owners[0].address)) if len(owners) == 1 else ""
    return asked.pop() if len(asked) == 1 else "", orcpt


def _ends(applied: Applied) -> bool:
    return any(one.verb in ENDS for one in applied.rule.section.action)


# --- texts -----------------------------------------------------------------------------------------------------------


def told(action: Action, text: str) -> str:
    """An action in a few words. text: filled in."""
    word: str = action.verb.value
    match action.verb:
        case Verb.ADD_HEADER | Verb.SET_HEADER:
            return f"{word} {action.name}: {text}"
        case Verb.REMOVE_HEADER:
            return f"{word} {action.name}"
        case Verb.REJECT | Verb.HOLD:
            return f"{word} {text}".strip()
        case Verb.DISCARD | Verb.STOP:
            return word
        case _:
            return f"{word} {', '.join(action.addresses)}"


def spelled(action: Action, known: Mapping[str, str]) -> str:
    """The same, its text and a letter's subject filled in."""
    if action.verb is Verb.NOTIFY:
        return f'{told(action, "")} subject "{_line(filled(action.subject, known))}"'
    return told(action, _line(filled(action.text, known)))


def placeholders(look: Look, applied: Applied) -> dict[str, str]:
    """What they stand for in this message."""
    head, header = look.head, look.header
    addresses = [head.recipients[index].address for index in applied.rcpt]
    known = {
        "sender": head.sender or "<>",
        "recipients": ", ".join(addresses[:10]) + (f" and {len(addresses) - 10} more" if addresses[10:] else ""),
        "size": size(head.size),
        "id": head.id,
        "rule": applied.rule.section.name,
    }
    for name in ("subject", "from", "to"):
        known[name] = header.first(name) if header is not None else ""
    return {name: _cut(_line(value), _VALUE) for name, value in known.items()}


def size(count: int) -> str:
    """Bytes as the configuration has them: 20.3M."""
    for unit, bytes_of in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if count >= bytes_of:
            return f"{count / bytes_of:.1f}{unit}"
    return str(count)


def _line(text: str) -> str:
    """One line that shows what it is: no sign in it ends a field, a reply, or a line of a log."""
    return "".join(sign if sign.isprintable() else " " for sign in text)[:_TEXT].strip()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 2] + ".."
