"""A verb of an operator who may not read the queue's files: kmqd itself finds what waits in a queue, or everything.

What:     the members of `operators_group` may steer, and yet what is in messages is not theirs to read. IDs, queues and
          --all they can name all the same; for filters and --what-if kmqd looks for them (cli.afar).
Promise:  always asks, since nobody can say beforehand how many messages it is.
Callers:  kmq.cli.act, when the files are closed to this user.
"""

from kmq.admin import choice
from kmq.admin.circumstances import text_of
from kmq.admin.client import Talk, ask
from kmq.admin.verbs import Argument
from kmq.cli import answer
from kmq.cli.act_consent import consent
from kmq.cli.act_queues import problem
from kmq.cli.call import DONE, REFUSED, Call
from kmq.view.words import harmless


def possible(call: Call) -> bool:
    """Whether kmqd can find what is meant: a queue stands for its messages, where it is not meant itself."""
    one = call.arguments
    if one.what_if or one.filter is not None or one.verb == "export":
        return False
    return one.all or (one.queue is not None and not getattr(one, "messages", False))


def run(call: Call, named: dict[str, Argument]) -> int:
    """The verb."""
    verb, queue = call.arguments.verb, call.arguments.queue
    run_directory = call.settings.kmq.run_directory
    named.pop("selection", None)
    targets: list[dict[str, Argument]] = [{"all": True}]
    if queue is not None:
        there = [text_of(line, "NextHop") for line in ask(run_directory, "queues").lines]
        meant = choice.queues_named(queue, there)
        wrong = problem(queue, meant, there)
        if wrong:
            call.warn(harmless(wrong))
            return REFUSED
        targets = [{"queue": hop} for hop in meant]
    sure = consent(call, f"{verb} all that waits{f' in {queue}' if queue is not None else ''}")
    if sure != DONE:
        return sure
    with Talk(run_directory) as talk:
        return min(answer.tell(call, talk.ask(verb, {**named, **target})) for target in targets)
