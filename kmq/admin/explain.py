"""Why a message is still here: facts in, causes out (`kmq explain ID`).

Does:     reads the envelope (how it came, which rule routed it, each attempt) together with what kmqd knows now, and
          names for each queue that it waits in the cause, until when, what proves it, and the command that changes it;
          then when its sender is warned and when it is given up, by the schedule of its connector.
Promise:  pure: time, envelopes and states are arguments. There is a cause for whatever the facts are. Nothing foreign
          is made part of a command but the names of queues, which are quoted for a shell.
On crash: nothing here touches a disk or a socket.
Callers:  kmq.cli.explain; kmq.admin.explain_queue has what is said of a whole queue.
"""

from collections.abc import Iterator, Sequence
from shlex import quote

from kmq.admin import explain_replies
from kmq.admin.circumstances import HOURS, QueueState, text_of
from kmq.admin.explain_deadlines import over
from kmq.admin.explain_evidence import (
    addresses,
    attempt_told,
    by,
    called,
    crash_told,
    held_by_scanner,
    holder,
    holding,
    in_hand,
    last_deferral,
    last_routing,
    state_of,
    waiting_in,
)
from kmq.admin.explain_finding import Facts, Finding
from kmq.admin.listing import Share, Status, domains, shares
from kmq.model import hop as hops
from kmq.model.event import Crashed, Deferred, Moved, Removing
from kmq.model.hop import DeliveryType
from kmq.run.grace import Cause
from kmq.run.overdue import STOPPED
from kmq.spool.look import Damaged, Found


def explain(found: Found | Damaged, facts: Facts) -> list[Finding]:
    """The causes, what counts for all of the message first; never empty."""
    if isinstance(found, Damaged):
        code = "poison-damaged" if found.home == "poison" else "damaged"
        words = {"id": found.id, "why": found.reason}
        return [Finding(code, evidence=[str(found.path)], words=words)]
    common = list(of_kmqd(facts, {"id": found.head.id}))
    if not found.state.open:
        return [*common, Finding("ending", until=0.0, words={"id": found.head.id})]
    if found.home == "poison":
        return [_poison(found)]
    return stopped(common, [one for share in shares(found, facts.around) for one in _of_share(found, share, facts)])


def stopped(common: list[Finding], own: list[Finding]) -> list[Finding]:
    """What counts for everything, then the rest. Where nothing else is wrong, it is what is waited for."""
    grave = next((one for one in common if one.code in _STOPPING), None)
    if grave is None:
        return [*common, *own]
    quiet = [one for one in own if one.code in _QUIET]
    for one in quiet:
        one.code, one.until, one.evidence = grave.code, grave.until, grave.evidence
        one.words |= grave.words
    return [*(one for one in common if one is not grave or len(quiet) < len(own)), *own]


#: Nothing is delivered.
_STOPPING = frozenset({"kmqd-stopped", "kmqd-silent", "no-worker", "workers-stand-still"})
#: Nothing is wrong, as far as the message or queue itself goes.
_QUIET = frozenset({"waiting-turn", "categorizing", "loading", "flowing", "deferred-each", "in-hand"})


# --- kmqd -------------------------------------------------------------------------------------------------------------


def of_kmqd(facts: Facts, words: dict[str, str]) -> Iterator[Finding]:
    """What stops everything."""
    kmqd = facts.kmqd
    if kmqd.silence and kmqd.owned is False:
        yield Finding("kmqd-stopped", evidence=[kmqd.silence], words=words)
    elif kmqd.silence and kmqd.forbidden:
        yield Finding("not-allowed", evidence=[kmqd.silence], words=words)
    elif kmqd.silence:
        yield Finding("kmqd-silent", evidence=[kmqd.silence], words=words | {"why": kmqd.silence})
    elif kmqd.workers == 0:
        yield Finding("no-worker", evidence=["no status file of a worker that lives"], words=words)
    elif kmqd.still:
        yield _standing_still(facts, words)
    least = facts.settings.queue.minimum_free
    if facts.free is not None and facts.free < least:
        evidence = f"{facts.free:,} bytes are free, minimum_free is {least:,}"
        yield Finding("disk-full", evidence=[evidence], words=words)
    pressed = [line for line in facts.around.news.splitlines() if line.startswith("back pressure")]
    if pressed:
        yield Finding("back-pressure", until=0.0, evidence=pressed, words=words)


def _standing_still(facts: Facts, words: dict[str, str]) -> Finding:
    """kmqd ends a worker whose loop stands still for too long, and begins another."""
    limit = facts.settings.queue.phase_limit
    evidence = f"the status files of all {facts.kmqd.workers} workers are {facts.kmqd.still:.0f} s old, or older"
    until = facts.now + max(0.0, limit - facts.kmqd.still)
    more = {"why": f"for {facts.kmqd.still:.0f} s", "limit": f"phase_limit = {limit:g}s"}
    return Finding("workers-stand-still", until=until, evidence=[evidence], words=words | more)


def _poison(found: Found) -> Finding:
    reason = found.reason
    moved = [event for event in found.events if isinstance(event, Moved)]
    crashes = [event for event in found.events if isinstance(event, Crashed)]
    words = {"id": found.head.id, "why": reason, "phase": quote(crashes[-1].phase) if crashes else ""}
    code = "poison"
    if reason.startswith("damaged") or not moved:
        code = "poison-damaged"
    elif reason.startswith("a notice that cannot be delivered"):
        code = "lost-notice"
    evidence = [f"{one.at} moved to poison/: {one.reason}" for one in moved[-1:]]
    evidence += [crash_told(one) for one in crashes[-2:]]
    return Finding(code, addresses(found, found.state.open), "Poison", None, evidence or [reason], words)


# --- a queue that it waits in -----------------------------------------------------------------------------------------


def _of_share(found: Found, share: Share, facts: Facts) -> Iterator[Finding]:
    """The cause, and beside it what else somebody should know."""
    indices = waiting_in(found, share)
    words = {
        "id": found.head.id,
        "connector": share.hop.connector,
        "domain": ", ".join(domains(share.to)[:3]),
        "path": facts.settings.path,
        "queue": called(share.hop, facts.around.queues),
    }
    finding = _cause(found, indices, share, facts)
    finding.to, finding.queue = share.to, share.hop.name
    finding.words = words | finding.words
    yield finding
    if facts.expiry_stopped and finding.code != "expiry-stopped" and over(found, share, facts.settings, facts.now):
        yield Finding("expiry-stopped", share.to, share.hop.name, finding.until, [STOPPED], words)


def _cause(found: Found, indices: Sequence[int], share: Share, facts: Facts) -> Finding:
    """What it waits for, the gravest first."""
    queue = facts.around.queues.get(str(share.hop)) or QueueState()
    for look in (_in_hands, _held, _queue_held, _unserved):
        finding = look(found, indices, share, facts)
        if finding is not None:
            return finding
    finding = queue_waits(queue)
    if finding is not None:
        return finding
    last = last_deferral(found, indices)
    if last is not None and (share.next_try or 0.0) > facts.now:
        return _put_off(last, share)
    if queue.status == "Connecting":
        return Finding("probe-running", until=0.0, evidence=state_of(queue))
    return _its_turn(found, share, facts, queue)


def _in_hands(found: Found, _: Sequence[int], share: Share, facts: Facts) -> Finding | None:
    doing, proof = in_hand(found.head.id, facts)
    if share.status is Status.PENDING_REMOVE:
        removing = [event for event in found.events if isinstance(event, Removing)]
        who = {"who": by(removing[-1].by, removing[-1].reason)} if removing else {}
        told = [f"{one.at} removed {by(one.by, one.reason)}" for one in removing[-1:]]
        return Finding("pending-remove", until=0.0, evidence=[*told, *proof], words=who)
    if share.status is Status.PENDING_SUSPEND:
        evidence = [*holding(found), *proof]
        return Finding("pending-suspend", evidence=evidence, words={"who": holder(found)})
    if share.status is Status.ACTIVE:
        return Finding("in-hand", until=0.0, evidence=proof, words={"why": doing})
    return None


def _held(found: Found, _: Sequence[int], share: Share, __: Facts) -> Finding | None:
    if share.status is not Status.SUSPENDED:
        return None
    code = "infected" if held_by_scanner(found) else "suspended"
    return Finding(code, evidence=holding(found), words={"who": holder(found)})


def _queue_held(_: Found, __: Sequence[int], share: Share, facts: Facts) -> Finding | None:
    queue = facts.around.queues.get(str(share.hop))
    return None if queue is None else queue_held(share.hop, queue)


def queue_held(hop: hops.NextHop, queue: QueueState) -> Finding | None:
    """The cause when a whole queue is suspended; None when it is not."""
    if queue.status != "Suspended":
        return None
    holder = queue.held_by
    if holder.startswith("grace hold"):
        why = holder.partition(":")[2].strip() or queue.last_error
        words = {"why": why, "remedy": remedy(why)}
        return Finding("grace-hold", queue=hop.name, evidence=state_of(queue), words=words)
    who, _, reason = holder.partition(": ")
    code = "submission-suspended" if hop == hops.SUBMISSION else "queue-suspended"
    return Finding(code, queue=hop.name, evidence=state_of(queue), words={"who": by(who, reason)})


def remedy(why: str) -> str:
    """What has to be mended where mail would have been returned. why: as the grace hold names it (run/grace)."""
    return next(mended for cause, mended in _REMEDIES if cause in why)


#: Part of a grace hold's cause -> what has to be mended.
_REMEDIES = (
    (Cause.LOGIN.value, "mend auth_user or the password_file of its connector, then kmq reload"),
    (Cause.RELAY.value, "it may want a login (auth_user), or its administrator has to let our address relay"),
    (Cause.BLOCKED.value, "its administrator, or the block list that it names, says why"),
    (Cause.SENDER.value, "see which senders it takes: its administrator knows"),
    (Cause.DNS.value, "mend the resolver: kmq doctor asks the same servers"),
    ("", "mend what the next hop complains of"),
)


def _unserved(found: Found, indices: Sequence[int], share: Share, _: Facts) -> Finding | None:
    if share.hop.delivery_type is not DeliveryType.UNREACHABLE:
        return None
    routed = last_routing(found, indices)
    rule = routed.rule if routed else ""
    code = next((code for words, code in _LACKS if words in rule), "no-domain" if rule else "no-connector")
    evidence = [f"{routed.at} routed: {rule}"] if routed else []
    return Finding(code, evidence=evidence, words={"why": rule})


#: What the rule of what is unreachable says (routing/table).
_LACKS = (
    ("enabled = no", "connector-disabled"),
    ("no connector serves the domain", "no-connector"),
    ("has no hosts yet", "no-hosts"),
    ("no connector of type mailbox", "no-mailboxes"),
)


def queue_waits(queue: QueueState) -> Finding | None:
    """The cause when a whole queue waits for a time; None when it does not."""
    if queue.status == "Retry":
        code = explain_replies.of_hop(queue.last_error)
        return Finding(code, until=queue.next_retry, evidence=state_of(queue), words={"why": queue.last_error})
    if queue.waits_for in HOURS:
        return Finding(
            queue.waits_for, until=queue.next_retry or None, evidence=state_of(queue), words=_timetable(queue)
        )
    if queue.waits_for == "throttled":
        return _throttled(queue, text_of(queue.told, "Throttled"))
    return None


def _timetable(queue: QueueState) -> dict[str, str]:
    return {"why": text_of(queue.told, "Timetable")}


def _throttled(queue: QueueState, why: str) -> Finding:
    """By the connector's limits, or since the hop asked for less (run/throttle)."""
    asked = why.startswith(_ASKED)
    told = why.removeprefix(_ASKED).removeprefix(": ")
    code = "asked-less" if asked else "throttled"
    return Finding(code, until=queue.next_retry, evidence=[why, *state_of(queue)], words={"why": told})


#: How run/throttle tells of a hop that wants less.
_ASKED = "it asked for less"


def _put_off(last: Deferred, share: Share) -> Finding:
    local = share.hop.delivery_type is DeliveryType.MAILBOX
    code = explain_replies.of_recipient(last.reply, last.host, local)
    return Finding(code, until=share.next_try, evidence=[attempt_told(last)], words={"why": last.reply})


def _its_turn(found: Found, share: Share, facts: Facts, queue: QueueState) -> Finding:
    """Nothing holds it."""
    crashes = [event for event in found.events if isinstance(event, Crashed)]
    alone = (found.head.id, str(share.hop)) in facts.around.alone
    if alone or (found.state.crashes and crashes):
        return Finding("suspect", until=0.0, evidence=[crash_told(one) for one in crashes[-1:]])
    if facts.told and not any(name == found.head.id for name, _ in facts.around.statuses):
        return Finding("loading", until=0.0)
    code = "categorizing" if share.hop == hops.SUBMISSION else "waiting-turn"
    return Finding(code, until=share.next_try or 0.0, evidence=state_of(queue))
