"""`kmq submit`: a message from a file goes into the queue, as from any program of this machine.

Promise:  the ID that is told is that of a message which is durable, for all of its recipients; else nothing was sent.
          Exit status 0 taken, 1 refused or no message, 2 usage, 75 kmqd cannot take it now, 78 it has no socket for it.
Callers:  kmq.cli.kmq.
"""

import os

from kmq.cli import addressees, handover, letter
from kmq.cli.call import DONE, REFUSED, USAGE, Call
from kmq.cli.handover import NotNow, Order, Outcome, Refused, Taken
from kmq.cli.letter import Fault, Letter
from kmq.cli.sendmail import what_now
from kmq.errors import ConfigError
from kmq.view.words import harmless

_STDIN = 0


def run(call: Call) -> int:
    """The verb."""
    place = call.settings.sendmail.socket
    if not place:
        raise ConfigError(f"{call.settings.path}: [sendmail] socket is empty, so kmqd takes no mail from programs")
    try:
        order = _order(call)
    except Fault as fault:
        call.warn(harmless(f"{fault}; nothing was sent"))
        return USAGE if fault.status == os.EX_USAGE else REFUSED
    return _tell(call, handover.hand_over(order, lambda: [place]))


def _order(call: Call) -> Order:
    """What is asked for; Fault when it cannot be."""
    asked = call.arguments
    sender = addressees.sender(asked.sender)
    named = list(addressees.addresses(asked.to))
    message = _message(asked.file)
    if not named:
        named = addressees.named_in(message)
    if not named:
        raise Fault(os.EX_USAGE, "nobody is named: neither by --to nor in the header")
    return Order(
        sender=sender,
        recipients=list(dict.fromkeys(named)),
        letter=message,
        name=addressees.full_name(None),
        from_header=not asked.to,
    )


def _message(path: str) -> Letter:
    if path == "-":
        return letter.read(_STDIN, dot_ends=False)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Fault(os.EX_NOINPUT, f"{path}: {error.strerror}") from None
    try:
        return letter.read(fd, dot_ends=False)
    finally:
        os.close(fd)


def _tell(call: Call, outcome: Outcome) -> int:
    match outcome:
        case Taken(text):
            name = text.split(" ")[1]
            if call.json:
                call.tell_objects([{"Identity": name}])
            else:
                call.tell([f"{name} is in the queue"])
            return DONE
        case Refused(reply, address):
            about = f"{address}: " if address else ""
            call.warn(harmless(f"{about}{reply.code} {reply.text}; nothing was sent"))
            return REFUSED
        case NotNow(why, unsure):
            call.warn(harmless(f"{why}; {what_now(unsure)}, try again later"))
            return os.EX_TEMPFAIL
