"""What the end of a command means: its exit status, by sysexits.h, and what it printed, as a reply.

Law:      what the command says of the recipient or the message is final (65, 67, 68, 76, 77); what it says of itself or
          of this machine, and what is not in the table, is temporary, since mail that waits can be delivered once that
          is mended. What it prints is the text of the reply; if it begins with an enhanced code (RFC 3463) of the same
          class, that is the reply's.
Promise:  pure; one printable line of at most TEXT characters.
Source:   sysexits.h(3head).
Callers:  phases.pipe.
"""

from kmq.model import reply
from kmq.model.reply import Reply
from kmq.phases.program import Ended
from kmq.phases.replies import printable

TEXT = 400  #: characters of the output that the reply bears

#: Exit status -> code, enhanced code, meaning.
STATUS: dict[int, tuple[int, str, str]] = {
    0: (250, "2.0.0", "done"),
    64: (451, "4.3.5", "command line usage error"),
    65: (550, "5.6.0", "data format error"),
    66: (451, "4.3.0", "cannot open input"),
    67: (550, "5.1.1", "user unknown"),
    68: (550, "5.1.2", "host name unknown"),
    69: (451, "4.3.0", "service unavailable"),
    70: (451, "4.3.0", "internal software error"),
    71: (451, "4.3.0", "system error"),
    72: (451, "4.3.0", "critical system file missing"),
    73: (451, "4.2.0", "cannot create output file"),
    74: (451, "4.3.0", "input/output error"),
    75: (451, "4.3.0", "temporary failure"),
    76: (550, "5.5.0", "remote error in protocol"),
    77: (550, "5.7.0", "permission denied"),
    78: (451, "4.3.5", "configuration error"),
}


def as_reply(ended: Ended, program: str) -> Reply:
    """What became of the mail. program: its name."""
    said = printable(b" ".join(ended.output.split()))[:TEXT]
    if ended.why:
        return Reply(451, "4.3.0", _told(f"{program} was ended: {ended.why}", said))
    if ended.status < 0:
        return Reply(451, "4.3.0", _told(f"{program} died of signal {-ended.status}", said))
    known = STATUS.get(ended.status)
    if known is None:
        return Reply(451, "4.3.0", _told(f"{program} exited with status {ended.status}", said))
    code, enhanced, meaning = known
    spoken = reply.parse(f"{code} {said}")
    text = f"delivered to {program}" if not ended.status else f"{program}: {meaning}"
    return Reply(code, spoken.enhanced or enhanced, _told(text, spoken.text if spoken.enhanced else said))


def _told(text: str, said: str) -> str:
    return f"{text}: {said}" if said else text
