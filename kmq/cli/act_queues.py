"""`kmq suspend | resume | retry --queue Q`: the queue itself, as Exchange's Suspend-Queue, Resume-Queue, Retry-Queue.

What:     Q is a name, which may have `*` and `?` in it, or the whole text of a next hop where two queues have one name.
Promise:  nothing is done before every queue that is meant is known. The messages in it keep their own states.
Callers:  kmq.cli.act, kmq.cli.act_blind.
"""

from shlex import quote

from kmq.admin import choice
from kmq.admin.circumstances import text_of
from kmq.admin.client import Talk, ask
from kmq.admin.listing import next_hop
from kmq.admin.verbs import Argument
from kmq.cli.act_consent import UNASKED, consent
from kmq.cli.call import DONE, REFUSED, Call
from kmq.view.queues import queues
from kmq.view.words import counted, harmless

Line = dict[str, object]


def run(call: Call) -> int:
    """The verb."""
    name = call.arguments.queue
    answer = ask(call.settings.kmq.run_directory, "queues")
    if answer.status != DONE:
        call.warn(harmless(answer.text))
        return answer.status
    lines = {text_of(line, "NextHop"): line for line in answer.lines}
    meant = choice.queues_named(name, lines)
    wrong = problem(name, meant, list(lines))
    if wrong:
        call.warn(harmless(wrong))
        return REFUSED
    if call.arguments.what_if:
        return _what_if(call, [lines[hop] for hop in meant])
    if len(meant) > UNASKED:
        sure = consent(call, f"{call.arguments.verb} {counted(len(meant), 'queue')}")
        if sure != DONE:
            return sure
    with Talk(call.settings.kmq.run_directory) as talk:
        return _carry_out(call, talk, meant)


def problem(name: str, meant: list[str], there: list[str]) -> str:
    """Why a name does not say which queues are meant; "" when it does."""
    if not meant:
        names = dict.fromkeys(next_hop(hop).name for hop in there)
        return f"no queue is called {name}; there are: {', '.join(names) or 'none'}"
    if len(meant) > 1 and "*" not in name and "?" not in name:
        return f"{len(meant)} queues are called {name}: say which one, {' or '.join(map(quote, sorted(meant)))}"
    return ""


def _what_if(call: Call, lines: list[Line]) -> int:
    if call.json:
        server = call.settings.kmq.hostname
        call.tell_objects({**line, "Identity": f"{server}\\{text_of(line, 'NextHopDomain')}"} for line in lines)
        call.warn(f"{counted(len(lines), 'queue')}. Nothing was done (--what-if).")
    else:
        call.tell(queues(lines, call.page))
        call.tell([f"-- {counted(len(lines), 'queue')}. Nothing was done (--what-if)."])
    return DONE


def _carry_out(call: Call, talk: Talk, hops: list[str]) -> int:
    """One question for each; what kmqd says of one queue is said as it is, of several with the queue's name."""
    named: dict[str, Argument] = {"reason": call.arguments.reason} if call.arguments.reason else {}
    best = REFUSED
    for hop in hops:
        response = talk.ask(call.arguments.verb, {**named, "queue": hop})
        if response.status > REFUSED:
            call.warn(harmless(response.text))
            return response.status
        best = min(best, response.status)
        if call.json:
            result = "done" if response.status == DONE else "refused"
            call.tell_objects([{"Queue": next_hop(hop).name, "NextHop": hop, "Result": result, "Why": response.text}])
            continue
        text = response.text if len(hops) == 1 else f"{next_hop(hop).name}: {response.text}"
        if response.status == DONE:
            call.tell([harmless(text)])
        else:
            call.warn(harmless(text))
    return best
