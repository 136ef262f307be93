"""Server rules: which of them apply to a message, to which of its recipients. The engine, without any effect.

Law:      rules are tried in the order of the configuration, each on the message as it came to this phase. A rule is
          about those recipients whom `apply` means and whom its conditions about recipients are met by; its other
          conditions are about the message, and so are all of them when none is about recipients. With `match = any`
          a condition that the message meets is met by all. Who is rejected, discarded, redirected or held by a rule,
          or stopped by it, meets no further one.
Promise:  pure. What has to be known of a message for an answer is asked for when it is needed, the cheapest first: a
          rule that the envelope decides costs no look at the text.
Callers:  phases.server_rules; `kmq rules test`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from kmq.config import Settings
from kmq.config.rule import RuleSection
from kmq.config.rule_actions import ENDS, Verb
from kmq.phases.rules_tests import Asked, Look, Need, asked

#: Placeholders that stand in the header.
_OF_HEADER = ("${subject}", "${from}", "${to}")

#: After these a recipient meets no further rule.
_LAST = (*ENDS, Verb.STOP)


@dataclass(slots=True, frozen=True)
class Rule:
    """A section as it is tried. place: `kmq.conf:12`. of_message: the cheapest first. need: of its actions."""

    section: RuleSection
    place: str
    of_recipients: tuple[Asked, ...]
    of_message: tuple[Asked, ...]
    need: int

    @property
    def name(self) -> str:
        """As events and logs name it."""
        return f"{self.section.name} ({self.place})"

    @property
    def last(self) -> bool:
        """Whether those whom it is about meet no further one."""
        return any(one.verb in _LAST for one in self.section.action)


class Applied(msgspec.Struct, frozen=True):
    """A rule that applies, and to whom: indices into the message's recipients."""

    rule: Rule
    rcpt: tuple[int, ...]


def rules_of(settings: Settings) -> tuple[Rule, ...]:
    """The rules of a configuration that are switched on, in their order."""
    return tuple(_rule(one, settings.origin(one.name, "").place) for one in settings.rules if one.enabled)


def _rule(section: RuleSection, place: str) -> Rule:
    tests = [asked(one) for one in section.condition]
    of_message = sorted((one for one in tests if one.of_recipient is None), key=lambda one: one.need)
    texts = [text for one in section.action for text in (one.text, one.subject)]
    header = any(word in text for text in texts for word in _OF_HEADER)
    notifies = any(one.verb is Verb.NOTIFY for one in section.action)  # whether a program sent it, its header says
    of_recipients = tuple(one for one in tests if one.of_recipient is not None)
    return Rule(section, place, of_recipients, tuple(of_message), Need.HEADER if header or notifies else 0)


def asks_first(rule: Rule) -> int:
    """What is looked at before anything can be said of a rule: 0 for the envelope alone."""
    if rule.section.apply != "all" or rule.of_recipients or not rule.of_message:
        return 0
    return rule.of_message[0].need


def apply(rules: Sequence[Rule], look: Look, rcpt: Sequence[int], local: Callable[[str], bool]) -> list[Applied] | Need:
    """The rules that apply, or what must be known of the message first; then ask again."""
    left, found = list(rcpt), []
    for rule in rules:
        mine = _meant(rule, look, left, local)
        met = _met(rule, look, mine) if mine else mine
        if isinstance(met, Need):
            return met
        if not met:
            continue
        if rule.need and look.header is None:
            return Need.HEADER
        found.append(Applied(rule, tuple(met)))
        if rule.last:
            left = [index for index in left if index not in met]
    return found


def _meant(rule: Rule, look: Look, rcpt: list[int], local: Callable[[str], bool]) -> list[int]:
    """Those whom `apply` means."""
    if rule.section.apply == "all":
        return rcpt
    here = rule.section.apply == "incoming"
    return [index for index in rcpt if local(look.head.recipients[index].address) is here]


def _met(rule: Rule, look: Look, rcpt: list[int]) -> list[int] | Need:
    """Those by whom the conditions are met."""
    if rule.section.match == "all":
        mine = [index for index in rcpt if all(_of_recipient(rule, look, index))]
        said = _every(rule.of_message, look) if mine else False
        return said if isinstance(said, Need) else mine if said else []
    mine = [index for index in rcpt if any(_of_recipient(rule, look, index))]
    if len(mine) == len(rcpt):
        return mine
    said = _some(rule.of_message, look)
    return said if isinstance(said, Need) else rcpt if said else mine


def _of_recipient(rule: Rule, look: Look, index: int) -> list[bool]:
    address = look.head.recipients[index].address
    return [one.of_recipient(address) for one in rule.of_recipients if one.of_recipient]


def _every(tests: Sequence[Asked], look: Look) -> bool | Need:
    for one in tests:
        said = one.of_message(look) if one.of_message else True
        if isinstance(said, Need) or not said:
            return said
    return True


def _some(tests: Sequence[Asked], look: Look) -> bool | Need:
    for one in tests:
        said = one.of_message(look) if one.of_message else False
        if isinstance(said, Need) or said:
            return said
    return False
