"""`kmq config diff NEW`: what a configuration would do to the queue as it is, if it took the place of this one.

Shape:    --json: one object for each change of some recipients of a message (ID, Recipients, NextHop, NewNextHop,
          Change, Why, Elsewhere, ExpirationTime, NewExpirationTime, Expires, Warns), then one for each queue (Queue,
          Change: appears, vanishes), then one for each option (Option, Counts).
Promise:  looks only, also while kmqd is stopped. Relative paths of NEW count from the folder of the configuration that
          it is to replace. What it cannot know it says.
Callers:  kmq.cli.config.
"""

import os
import time
from collections.abc import Iterator

from kmq import log
from kmq.admin.circumstances import Circumstances
from kmq.admin.foresight import Foreseen, Foresight
from kmq.admin.listing import utc
from kmq.cli.call import DONE, USAGE, Call
from kmq.config import Settings, changes, read, restart_needed
from kmq.errors import ConfigError
from kmq.spool.index_rows import next_hop
from kmq.spool.look import Damaged, Found, walk
from kmq.view.foresight import Summary
from kmq.view.words import harmless


def run(call: Call) -> int:
    """The verb."""
    if call.arguments.file is None:
        call.warn("config diff needs a file: kmq config diff NEW")
        return USAGE
    log.start("kmq", "error")  # what is wrong with files of aliases is told by kmq check
    new = _new(call)
    around = call.around()
    held = [text for text, queue in around.queues.items() if queue.status == "Suspended"]
    foresight = Foresight(call.settings, new, time.time(), held)
    found = foresight.of(_messages(call))
    options = _options(foresight, new)
    if call.json:
        call.tell_objects(_object(one) for one in found)
        call.tell_objects({"Queue": text, "Change": "appears"} for text in foresight.tally.appearing)
        call.tell_objects({"Queue": text, "Change": "vanishes"} for text in foresight.tally.vanishing)
        call.tell_objects({"Option": name, "Counts": when} for name, when in options)
    else:
        summary = Summary(found)
        call.tell(summary.lines(options, foresight.tally, call.page))
    for text in _doubts(new, around, foresight):
        call.warn(harmless(text))
    return DONE


def _new(call: Call) -> Settings:
    """The other configuration, as if it lay where this one does."""
    path = call.arguments.file
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
    except UnicodeDecodeError as wrong:
        raise ConfigError(f"{path}: it is not UTF-8: {wrong.reason} at byte {wrong.start}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    return read(text, path, os.path.dirname(os.path.abspath(call.settings.path)))


def _messages(call: Call) -> Iterator[Found]:
    damaged = 0
    for found in walk(call.settings.kmq.spool):
        if isinstance(found, Damaged):
            damaged += found.home == "queue"
        else:
            yield found
    if damaged:
        call.warn(f"{damaged} damaged envelopes are left out")


def _options(foresight: Foresight, new: Settings) -> list[tuple[str, str]]:
    now = [(name, "now") for name in changes(foresight.old, foresight.new)]
    return now + [(name, "after a restart") for name in restart_needed(foresight.new, new)]


def _object(one: Foreseen) -> dict[str, object]:
    return {
        "ID": one.id,
        "Recipients": one.to,
        "NextHop": one.before,
        "NewNextHop": one.after or None,
        "Queue": next_hop(one.before).name,
        "NewQueue": next_hop(one.after).name if one.after else None,
        "Change": one.change.value,
        "Why": one.why or None,
        "Elsewhere": one.elsewhere or None,
        "ExpirationTime": utc(one.ended),
        "NewExpirationTime": utc(one.ends),
        "Expires": one.expires,
        "Warns": one.warns,
    }


def _doubts(new: Settings, around: Circumstances, foresight: Foresight) -> Iterator[str]:
    """What somebody should know who believes this."""
    for warning in new.warnings:
        yield f"warning: {warning}"
    if around.silence:
        yield f"{around.silence}: suspended queues, which are not routed anew, are not known"
    brake = foresight.new.queue.mass_expiry
    expiring, messages = foresight.tally.expiring, foresight.tally.messages
    if brake and expiring >= brake and expiring * 100 > messages:
        yield "so many would be given up at once that mass_expiry holds them until an operator says `kmq expire`"
