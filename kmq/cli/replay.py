"""`kmq replay`: delivered mail that is kept goes once more to those who had it; `--list` shows what is kept.

Promise:  what was replayed already is left out, and so are the copies that a replay made, unless --again is said; kmqd
          holds to it, too, whatever happens meanwhile. What --what-if lists is what is done. Nobody is told of the
          copies (DSNs) unless --with-dsn is said.
Callers:  kmq.cli.kmq.
"""

import time
from collections.abc import Iterator
from itertools import islice

from kmq.admin import kept
from kmq.admin.choice import Choice, Target
from kmq.admin.kept import Kept, Wanted
from kmq.admin.verbs import SELECTION_LIMIT, Argument
from kmq.cli.act_bulk import Bulk
from kmq.cli.act_consent import UNASKED, consent
from kmq.cli.call import DONE, REFUSED, USAGE, Call
from kmq.cli.times import unix_time
from kmq.errors import SpoolError
from kmq.view.words import counted, duration

#: Messages of which a line each is shown before something is done; the rest is counted.
SAMPLE = 20


def run(call: Call) -> int:
    """The verb."""
    one = call.arguments
    if one.list:
        return _list(call)
    chosen_by = one.filter is not None or one.since is not None or one.until is not None
    if bool(one.id) == chosen_by:
        call.warn("replay needs either IDs, or --filter EXPR, --since TIME, --until TIME; --list shows what is kept")
        return USAGE
    if one.id:
        chosen, left = Choice([Target(name.id) for name in dict.fromkeys(one.id)]), 0
        rows = [row for row in _rows(call) if row.id in {target.id for target in chosen.targets}] if one.what_if else []
    elif (afar := _chosen_afar(call)) is not None:
        rows, left, chosen = [], 0, afar
    else:
        rows, left = _meant(call)
        chosen = Choice(kept.targets(rows))
    if one.what_if:
        return _what_if(call, rows, left)
    if not chosen.targets:
        call.warn(_nothing(call, left))
        return REFUSED
    if chosen.messages > UNASKED:
        way = f" by {one.to_connector}" if one.to_connector else ""
        told = "Their senders will be told what becomes of them." if one.with_dsn else "Nobody will be told."
        answer = consent(call, f"replay {counted(chosen.messages, 'message')}{way}", told)
        if answer != DONE:
            return answer
    status = Bulk(call, "replay", _named(call)).run(chosen)
    if left and not call.json:
        call.warn(_left(left))
    return status


# --- what is meant ---------------------------------------------------------------------------------------------------


def _rows(call: Call, header: bool = False) -> Iterator[Kept]:
    one, now = call.arguments, time.time()
    since = unix_time(one.since, now) if one.since else 0.0
    until = unix_time(one.until, now) if one.until else float("inf")
    section = call.settings.kmq
    return kept.rows(section.spool, section.hostname, Wanted(one.filter or "", since, until), now, header)


def _chosen_afar(call: Call) -> Choice | None:
    """What kmqd finds for who may not read the files; None for who may."""
    from kmq.cli import afar

    if not afar.is_closed(call):
        return None
    names = afar.names(call)
    if names is None:
        raise SpoolError("this user may not read what is kept; ask as root or as the user that kmqd runs as")
    return Choice([Target(one.id, one.queue) for one in names])


def _meant(call: Call) -> tuple[list[Kept], int]:
    """What matches and is to go, and how many rows are left out since they went already."""
    found = list(_rows(call))
    if call.arguments.again:
        meant = [row for row in found if not row.copy]
    else:
        meant = [row for row in found if not (row.replayed or row.copy)]
    return meant, len(found) - len(meant)


def _named(call: Call) -> dict[str, Argument]:
    """The arguments of the verb, but for the targets."""
    one = call.arguments
    named: dict[str, Argument] = {}
    if one.reason:
        named["reason"] = one.reason
    if one.to_connector:
        named["connector"] = one.to_connector
    if one.again:
        named["again"] = True
    if one.with_dsn:
        named["dsn"] = True
    said = [("--filter", one.filter), ("--since", one.since), ("--until", one.until)]
    words = " ".join(f"{name} {value}" for name, value in said if value is not None)
    if words:
        named["selection"] = words[:SELECTION_LIMIT]
    return named


# --- what is shown ---------------------------------------------------------------------------------------------------


def _list(call: Call) -> int:
    """What is kept; with IDs of those alone."""
    wanted = {name.id for name in call.arguments.id}
    rows = (row for row in _rows(call, header=call.json) if not wanted or row.id in wanted)
    if call.json:
        call.tell_objects(row.properties for row in islice(rows, call.arguments.limit))
        return DONE
    from kmq.view.kept import kept as table

    messages: set[str] = set()
    shown: list[Kept] = []
    size = 0
    for row in rows:
        if row.id not in messages:
            messages.add(row.id)
            size += row.size
        if call.arguments.limit is None or len(shown) < call.arguments.limit:
            shown.append(row)
    call.tell(table(shown, call.page))
    for found in kept.damaged(call.settings.kmq.spool):
        call.warn(f"{found.path} is damaged: {found.reason}")
    call.tell([_total(call, len(messages), size)])
    return DONE


def _total(call: Call, messages: int, size: int) -> str:
    from kmq.view.words import volume

    hold = call.settings.queue.safety_net_hold_time
    if not hold:
        off = "The safety net is off: [queue] safety_net_hold_time says for how long delivered mail is kept."
        return f"-- {counted(messages, 'message')}, {volume(size)}. {off}" if messages else off
    return f"-- {counted(messages, 'message')}, {volume(size)}; delivered mail is kept for {duration(hold)}."


def _what_if(call: Call, rows: list[Kept], left: int) -> int:
    """Shows the targets; does nothing."""
    messages = len({row.id for row in rows})
    if call.json:
        call.tell_objects(row.properties for row in rows)
    elif rows:
        from kmq.view.kept import kept as table

        call.tell(table(islice(rows, SAMPLE), call.page))
        if len(rows) > SAMPLE:
            call.tell([f"... and {len(rows) - SAMPLE:,} more: --json shows all"])
    if left:
        call.warn(_left(left))
    if not rows:
        call.warn(_nothing(call, left))
        return REFUSED
    text = f"{counted(messages, 'message')}. Nothing was done (--what-if)."
    if call.json:
        call.warn(text)
    else:
        call.tell([f"-- {text}"])
    return DONE


def _left(left: int) -> str:
    return f"{left:,} left out: replayed already, or copies that a replay made (--again: the originals once more)"


def _nothing(call: Call, left: int) -> str:
    if left:
        return "nothing is left to replay"
    if not call.settings.queue.safety_net_hold_time:
        return "nothing that matches is kept: the safety net is off ([queue] safety_net_hold_time)"
    return "nothing that matches is kept"
