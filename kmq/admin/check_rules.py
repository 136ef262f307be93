"""Do server rules send mail to somebody, and can each of them be asked?

Promise:  only looks, and asks the same tables as workers. What is found keeps no mail from being taken in, so it is
          noted.
Callers:  admin.check.
"""

from collections.abc import Iterator

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.config.rule import RuleSection
from kmq.config.rule_conditions import Subject
from kmq.model.envelope import Recipient, Source
from kmq.model.reply import Reply
from kmq.phases.rules import Rule, rules_of
from kmq.routing.table import Routes


def rules(settings: Settings) -> Iterator[Verdict]:
    """Whom rules send mail to, then rules that no message comes to."""
    if not settings.rules:
        return
    asked = rules_of(settings)
    found = [*_nobody(settings, asked), *_unasked(asked)]
    yield from found
    off = len(settings.rules) - len(asked)
    if not found:
        rest = f", {off} switched off" if off else ""
        yield Verdict(Grade.GOOD, f"{len(asked)} server {'rule' if len(asked) == 1 else 'rules'}{rest}")


def _nobody(settings: Settings, asked: tuple[Rule, ...]) -> Iterator[Verdict]:
    """Addresses at which nobody is."""
    ways = Routes(settings).ways("", Source())
    for rule in asked:
        place = settings.origin(rule.section.name, "action").place
        for address in dict.fromkeys(one for action in rule.section.action for one in action.addresses):
            said = ways.decide(Recipient(address))
            if isinstance(said, Reply):
                text = f"{place}: [{rule.section.name}] {address}: {said.text}"
                yield Verdict(Grade.NOTE, text, "what the rule sends there gets nowhere: name somebody who is there")


def _unasked(asked: tuple[Rule, ...]) -> Iterator[Verdict]:
    """Rules behind one that is about all mail, and after which no other is asked."""
    for place, rule in enumerate(asked):
        before = next((one for one in asked[:place] if one.last and _takes_all(one.section, rule.section)), None)
        if before is not None:
            text = f"{rule.place}: [{rule.section.name}] is never asked: [{before.section.name}] ahead of it ends or"
            yield Verdict(Grade.NOTE, f"{text} stops all mail that it is about", "change their order in the file")


def _takes_all(one: RuleSection, other: RuleSection) -> bool:
    """Whether a rule is about all that another one could be about."""
    always = [condition.subject is Subject.ALL for condition in one.condition]
    every = any(always) if one.match == "any" else all(always)
    return every and one.apply in ("all", other.apply)
