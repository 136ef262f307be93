"""The options of server rules: which mail is meant, and what is done with it.

Promise:  as in `sections`, where they are exported with the others; `mistakes` as in `checks`.
"""

from collections.abc import Iterable, Iterator

from kmq.config import kinds
from kmq.config.options import option, section
from kmq.config.rows import Rows
from kmq.config.rule_actions import ENDS, Action, Verb, action
from kmq.config.rule_conditions import Comparator, Condition, Subject, condition
from kmq.config.rule_text import PLACEHOLDERS


@section
class RuleSection:
    """A server rule: what is to be done with some mail, on its way in or out.

    Rules are tried in the order of the file, each on the message as it came; kmq-rules(5) has the language of their
    conditions and actions. `kmq rules` lists them, `kmq rules test` says what they would do with a message.
    """

    name: str
    enabled: bool = option(kinds.yes_or_no(), default="yes", doc="Whether the rule counts.")
    description: str = option(kinds.word(), default="", doc="What it is for, in words for people.")
    apply: str = option(
        kinds.choice("all", "incoming", "outgoing"),
        default="all",
        doc="The recipients that it is about: `incoming`, those at `local_domains`; `outgoing`, those elsewhere.",
    )
    match: str = option(
        kinds.choice("all", "any"),
        default="all",
        doc="Whether all conditions must be met, or any one of them is enough.",
    )
    condition: tuple[Condition, ...] = option(
        Rows("one condition a line, see kmq-rules(5)", condition),
        default="",
        doc='What mail it is about, as `size over 20M`, `header subject contains "invoice"`, `all mail`.',
    )
    action: tuple[Action, ...] = option(
        Rows("one action a line, see kmq-rules(5)", action, PLACEHOLDERS),
        default="",
        doc="What is done with it, as `add header X-Big: yes`, `copy to audit@example.org`, `hold`, `stop`.",
    )


def lacking(rule: RuleSection) -> Iterator[tuple[str, str]]:
    """(option, what is missing) of a rule that is no pattern for others."""
    if not rule.condition:
        yield "condition", "condition is missing: write condition = all mail for a rule about every message"
    if not rule.action:
        yield "action", "action is missing: write action = hold, or another one of kmq-rules(5)"


def mistakes(rules: Iterable[RuleSection]) -> Iterator[tuple[str, str, str]]:
    """(section, option, what is wrong): actions that exclude each other, conditions that cannot be met together."""
    for rule in rules:
        yield from ((rule.name, *found) for found in lacking(rule))
        ends = [one.verb.value for one in rule.action if one.verb in ENDS]
        if len(ends) > 1:
            text = f"{' and '.join(ends)} exclude each other: a rule has one of them at most"
            yield rule.name, "action", text
        redirected = {one for act in rule.action if act.verb is Verb.REDIRECT for one in act.addresses}
        added = {one for act in rule.action if act.verb in (Verb.ADD_RECIPIENT, Verb.COPY) for one in act.addresses}
        for twice in sorted(redirected & added):
            yield rule.name, "action", f"{twice} would get it twice: it is redirected there already"
        yield from _figures(rule)


def _figures(rule: RuleSection) -> Iterator[tuple[str, str, str]]:
    """`size over 20M` with `size under 10M`."""
    if rule.match != "all":
        return
    for subject in (Subject.SIZE, Subject.SPAM_SCORE):
        over = [one.limit for one in rule.condition if (one.subject, one.comparator) == (subject, Comparator.OVER)]
        under = [one.limit for one in rule.condition if (one.subject, one.comparator) == (subject, Comparator.UNDER)]
        if over and under and max(over) >= min(under):
            yield rule.name, "condition", f"no {subject.value} is over and under these at once: no message is meant"
