"""`kmq retry | remove | suspend | resume | resubmit | redirect | export`: an operator acts on messages, or on a queue.

What:     suspend, resume and retry of a queue by name are the queue's (Exchange's Suspend-Queue and so on); everything
          else acts on messages, or on their parts in one queue.
Promise:  nothing is done before all that was named has been understood. The targets are chosen once: what --what-if
          lists, what is asked about, and what is done are the same. What kmqd answered was durable before.
Callers:  kmq.cli.kmq.
"""

from collections.abc import Iterator
from functools import cached_property
from itertools import islice

from kmq.admin import choice
from kmq.admin.choice import Choice, Named, Wanted
from kmq.admin.circumstances import Circumstances
from kmq.admin.listing import is_named, properties
from kmq.admin.verbs import SELECTION_LIMIT, VERBS, Argument
from kmq.cli import act_blind, act_queues
from kmq.cli.act_bulk import Bulk
from kmq.cli.act_consent import UNASKED, consent
from kmq.cli.call import DONE, REFUSED, USAGE, Call
from kmq.errors import SpoolError
from kmq.model.hop import POISON
from kmq.view.mailq import Tally, mailq
from kmq.view.words import counted, harmless

#: Verbs that a queue has of its own.
OF_QUEUES = frozenset({"suspend", "resume", "retry"})

#: Messages of which a line each is shown before something is done; the rest is counted.
SAMPLE = 20


def run(call: Call) -> int:
    """The verb."""
    act = Act(call)
    problem = act.problem()
    if problem:
        call.warn(problem)
        return USAGE
    if act.is_for_queue:
        return act_queues.run(call)
    try:
        chosen = act.chosen()
    except SpoolError as closed:
        if act_blind.possible(call):
            return act_blind.run(call, act.named())
        chosen = act.chosen_afar(closed)
    if not (chosen.targets or chosen.absent):
        call.warn(harmless(act.nothing()))
        return REFUSED
    if call.arguments.what_if:
        return act.what_if(chosen)
    return act.carry_out(chosen)


class Act:
    """One command on messages."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.arguments = call.arguments
        self.settings = call.settings

    @cached_property
    def around(self) -> Circumstances:
        return self.call.around()

    # --- what is meant -----------------------------------------------------------------------------------------------

    def problem(self) -> str:
        """What is wrong with the way in which messages are named; "" when it is clear."""
        one = self.arguments
        ways = [bool(one.id), one.ids_from is not None, one.queue is not None or one.filter is not None, one.all]
        if sum(ways) != 1:
            kinds = "IDs, --queue Q, --filter EXPR, --ids-from FILE, or --all"
            return f"{one.verb} needs {kinds}: exactly one of them (--queue and --filter go together)"
        return ""

    @property
    def is_for_queue(self) -> bool:
        """Whether the queue itself is meant, and not what waits in it. poison/ is none that could be held."""
        one = self.arguments
        if one.verb not in OF_QUEUES or one.queue is None or one.filter is not None or one.messages:
            return False
        return not is_named(POISON, one.queue)

    def chosen(self) -> Choice:
        """The targets."""
        one = self.arguments
        if one.ids_from is not None:
            from kmq.cli import act_names

            names = act_names.read(one.ids_from)
            return choice.of_names(names, self.settings, self._where(names))
        if one.id:
            names = [Named(name.queue, name.id) for name in one.id]
            return choice.of_names(names, self.settings, self._where(names))
        by_queue = one.verb == "retry" and not one.what_if
        return choice.of_wanted(self._wanted, self.settings, self.around, by_queue)

    def chosen_afar(self, closed: SpoolError) -> Choice:
        """The targets of who may not read the files, as kmqd has them looked for. closed: what he hears where it does
        not, or where he needs the files themselves."""
        from kmq.cli import afar

        one = self.arguments
        selects = one.filter is not None or one.queue is not None
        names = afar.names(self.call) if selects and one.verb != "export" else None
        if names is None:
            raise closed
        return choice.of_names(names, self.settings, self.around)

    @property
    def _wanted(self) -> Wanted:
        one = self.arguments
        return Wanted(one.queue or "", one.filter or "", one.all)

    def _where(self, names: list[Named]) -> Circumstances | None:
        """What kmqd says of its queues, when a name has one."""
        return self.around if any(name.queue for name in names) else None

    def nothing(self) -> str:
        """Why there is nothing to act on."""
        queue, names = self.arguments.queue, self.arguments.ids_from
        if names is not None:
            return f"{'standard input' if names == '-' else names} names no message"
        if queue is None:
            return "no message matches" if self.arguments.filter is not None else "the queue is empty"
        if is_named(POISON, queue):
            return "poison/ is empty"
        there_is = f"no message{' that matches' * (self.arguments.filter is not None)} waits in {queue}"
        return choice.no_such_queue(queue, self.settings, self.around) or there_is

    # --- what is shown -----------------------------------------------------------------------------------------------

    def what_if(self, chosen: Choice) -> int:
        """Shows the targets; does nothing."""
        if self.call.json:
            return self._what_if_objects(chosen)
        count = chosen.messages
        tally = Tally()
        sample = tally.of(choice.entries(chosen.targets, self.settings, self.around))
        self.call.tell(mailq(islice(sample, SAMPLE), self.call.page))
        if not tally.messages:
            self.call.warn("nothing matches")
            return REFUSED
        if count > SAMPLE:
            self.call.tell([f"... and {count - tally.messages:,} more: --json shows all"])
            self.call.tell([f"-- {counted(count, 'message')}. Nothing was done (--what-if)."])
        else:
            self.call.tell([f"-- {tally.line}. Nothing was done (--what-if)."])
        return DONE

    def _what_if_objects(self, chosen: Choice) -> int:
        """All of them, in the form that --ids-from takes."""
        seen: set[str] = set()
        self.call.tell_objects(self._objects(chosen, seen))
        self.call.warn(f"{counted(len(seen), 'message')}. Nothing was done (--what-if).")
        return DONE if seen else REFUSED

    def _objects(self, chosen: Choice, seen: set[str]) -> Iterator[dict[str, object]]:
        """Each part with its queue beyond doubt. seen: gets the IDs."""
        if self.arguments.id or self.arguments.ids_from is not None:
            for entry in choice.entries(chosen.targets, self.settings, self.around):
                seen.add(entry.id)
                for share in entry.shares:
                    yield {**properties(entry, share, self.around), "NextHop": str(share.hop)}
            return
        for row in choice.rows_of(self._wanted, self.settings, self.around):
            seen.add(row.id)
            yield {**row.properties, "NextHop": row.hop}

    # --- what is done ------------------------------------------------------------------------------------------------

    def carry_out(self, chosen: Choice) -> int:
        """Asks where it is much, and does it."""
        if chosen.messages > UNASKED or self.arguments.all:
            answer = consent(self.call, *self._question(chosen.messages))
            if answer != DONE:
                return answer
        if self.arguments.verb == "export":
            from kmq.cli.export import run as export

            return export(self.call, chosen, self.named())
        return Bulk(self.call, self.arguments.verb, self.named()).run(chosen)

    def _question(self, count: int) -> tuple[str, str]:
        """The deed, and what else comes of it."""
        one, deed = self.arguments, f"{self.arguments.verb} {counted(count, 'message')}"
        match one.verb:
            case "remove":
                return deed, "Their senders will be told." if one.with_ndr else "Nobody will be told."
            case "redirect":
                return f"{deed} to {one.to_connector}", ""
            case "export":
                return f"{deed} to {one.to}", ""
            case _:
                return deed, ""

    def named(self) -> dict[str, Argument]:
        """The arguments of the verb, but for the targets."""
        one, form = self.arguments, VERBS[self.arguments.verb]
        named: dict[str, Argument] = {}
        if form.reason and one.reason:
            named["reason"] = one.reason
        if form.ndr and one.with_ndr:
            named["ndr"] = True
        if form.connector:
            named["connector"] = one.to_connector
        words = self._selection()
        if words:
            named["selection"] = words[:SELECTION_LIMIT]
        return named

    def _selection(self) -> str:
        """How the messages were chosen, for the log; "" when they were named."""
        one = self.arguments
        if one.all:
            return "--all"
        if one.ids_from is not None:
            return f"--ids-from {one.ids_from}"
        said = [("--queue", one.queue), ("--filter", one.filter)]
        return " ".join(f"{name} {value}" for name, value in said if value is not None)
