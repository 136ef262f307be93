"""kmq-sendmail: how the programs of this machine send mail, by the options of sendmail; kmq-sendmail(1).

Promise:  0 only when kmqd has the message, durable, for all of its recipients; with any other status nothing was sent
          (unless it says that it cannot know, as when kmqd was killed before its last word):
          64 wrong usage, 65 the message is at fault, 66 it cannot be read, 67 a recipient is unknown, 69 kmqd will not
          take it, 73 no room to keep it, 75 not now, 78 the configuration that was named is wrong.
On crash: see cli.handover.
Callers:  programs, people; it needs no rights but those of its user, whom the kernel names to kmqd.
Start:    what most calls do not need is imported by those that do.
"""

import os
import sys
from collections.abc import Callable

from kmq.cli import addressees, handover, letter, places
from kmq.cli.handover import NotNow, Order, Outcome, Refused, Taken
from kmq.cli.letter import Fault
from kmq.cli.sendmail_options import Options, WrongUsage, read

_STDIN = 0
_INTERRUPTED = 130


def main() -> int:
    """The program; -> its exit status."""
    try:
        options = read(sys.argv[0], sys.argv[1:])
        return MODES[options.mode](options)
    except WrongUsage as wrong:
        return _say(f"{wrong}; man kmq-sendmail", os.EX_USAGE)
    except Fault as fault:
        return _say(f"{fault}; nothing was sent", fault.status)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _say(text: str, status: int) -> int:
    """A sentence for whoever called; -> the status. Its end may be closed, as that of daemons often is."""
    try:
        os.write(2, f"kmq-sendmail: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass
    return status


# --- a message --------------------------------------------------------------------------------------------------------


def _send(options: Options) -> int:
    """-bm: the message on standard input goes to the recipients."""
    named = list(addressees.addresses(options.recipients))
    if not named and not options.from_header:
        raise WrongUsage("recipients are needed, as arguments or by -t")
    sender = addressees.sender(options.sender)
    message = letter.read(_STDIN, options.dot_ends)
    if options.from_header:
        named += addressees.named_in(message)
        if not named:
            raise Fault(os.EX_USAGE, "neither the message nor the arguments name a recipient")
    order = Order(
        sender=sender,
        recipients=list(dict.fromkeys(named)),
        letter=message,
        name=addressees.full_name(options.name),
        from_header=options.from_header,
        notify=options.notify,
        ret=options.ret,
        envid=options.envid,
        body=options.body,
    )
    return _tell(handover.hand_over(order, places.places(options.configuration), _watch(options)))


def _tell(outcome: Outcome) -> int:
    match outcome:
        case Taken():
            return os.EX_OK
        case Refused(reply, address):
            about = f"{_printable(address)}: " if address else ""
            return _say(f"{about}{reply.code} {reply.text}; nothing was sent", status_of(reply.enhanced))
        case NotNow(text, unsure):
            return _say(f"{text}; {what_now(unsure)}, try again later", os.EX_TEMPFAIL)


def what_now(unsure: bool) -> str:
    """Of a message that kmqd did not say it has taken."""
    return "it may have been sent all the same" if unsure else "nothing was sent"


def status_of(enhanced: str) -> int:
    """The exit status that says what an enhanced code (RFC 3463) says."""
    if enhanced in ("5.1.3", "5.1.7", "5.5.2") or enhanced.startswith("5.6."):
        return os.EX_DATAERR
    return os.EX_NOUSER if enhanced.startswith("5.1.") else os.EX_UNAVAILABLE


def _watch(options: Options) -> Callable[[str], None]:
    """-v: the conversation is shown."""
    if not options.verbose:
        return lambda line: None
    return lambda line: print(_printable(line), flush=True)


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() or sign == "\n" else "?" for sign in text)


# --- other ways to be called ------------------------------------------------------------------------------------------


def _speak(options: Options) -> int:
    """-bs: SMTP on standard input and output."""
    from kmq.cli import joining

    return joining.join(places.places(options.configuration))


def _verify(options: Options) -> int:
    """-bv: what kmqd says of each address; nothing is sent."""
    from kmq.cli import verifying

    addresses = list(addressees.addresses(options.recipients))
    if not addresses:
        raise WrongUsage("-bv needs addresses")
    found = verifying.verify(addresses, places.places(options.configuration), _watch(options))
    if isinstance(found, NotNow):
        return _say(f"{found.text}; try again later", os.EX_TEMPFAIL)
    worst = os.EX_OK
    for address, reply in found:
        print(f"{_printable(address)}: {_printable(reply.text)}")
        if reply.code >= 300:
            worst = max(worst, os.EX_TEMPFAIL if reply.code < 500 else status_of(reply.enhanced))
    return worst


def _mailq(options: Options) -> int:
    return _kmq(options, "mailq")


def _flush(options: Options) -> int:
    """-q: all that waits is tried now; -qIid one message, -qRsite what waits for a queue of that name."""
    what, wanted = options.queue[:1], options.queue[1:]
    if what == "I" and wanted:
        return _kmq(options, "retry", wanted)
    if what == "R" and wanted:
        return _kmq(options, "retry", "--queue", wanted)
    if what in ("S", "G"):
        raise WrongUsage(f"-q{what} is not here: -q, -qIid and -qRqueue are")
    return _kmq(options, "flush")


def _kmq(options: Options, *words: str) -> int:
    from kmq.cli.kmq import main as kmq

    path = places.configuration(options.configuration)
    return kmq([*(("-c", path) if path else ()), *words])


def _newaliases(options: Options) -> int:
    print("kmq reads files of aliases itself when they change: there is nothing to initialize.")
    return os.EX_OK


def _daemon(options: Options) -> int:
    return _say("the daemon is kmqd: systemctl start kmq", os.EX_UNAVAILABLE)


#: How it is called, and what it does then.
MODES: dict[str, Callable[[Options], int]] = {
    "m": _send,
    "s": _speak,
    "p": _mailq,
    "v": _verify,
    "q": _flush,
    "i": _newaliases,
    "d": _daemon,
}


if __name__ == "__main__":
    sys.exit(main())
