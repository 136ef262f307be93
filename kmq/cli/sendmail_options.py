"""The command line of kmq-sendmail: sendmail's options, as programs have written them for forty years.

Promise:  pure. Options may stand together (-tiodi), with their value behind them or next; `--` ends them. What has no
          meaning here any more is read and ignored; what never had one is a WrongUsage, whose text says so.
Callers:  cli.sendmail. No argparse: it knows no `-oi`, and costs more than the whole rest.
"""

from typing import NamedTuple


class WrongUsage(Exception):
    """The command line cannot be carried out; the text says why, for the one who wrote it."""


class Options(NamedTuple):
    """What was asked for.

    mode:      how it is called: m (a message), s (SMTP), p (mailq), v (verify), q (flush), i (newaliases), d (daemon).
    sender:    as written; None for who calls. name: the full name, None for what the machine knows.
    dot_ends:  a line with nothing but a dot ends the message.
    from_header: To, Cc and Bcc of the message name recipients, too.
    queue:     what of -q follows: "", an interval, "Iid", "Rsite".
    """

    mode: str = "m"
    sender: str | None = None
    name: str | None = None
    dot_ends: bool = True
    from_header: bool = False
    notify: str = ""
    ret: str = ""
    envid: str = ""
    body: str = ""
    configuration: str = ""
    verbose: bool = False
    queue: str = ""
    recipients: tuple[str, ...] = ()


#: Options whose value follows, and those that have none.
_VALUED = frozenset("ABCFLNOQRVXbefhopr")
_FLAGS = frozenset("itvGIUmnx")

#: Programs that are this one by another name.
_ALIASES = {"mailq": "p", "newaliases": "i"}

_MODES = {"a": "m", "m": "m", "s": "s", "p": "p", "v": "v", "i": "i", "d": "d", "D": "d"}
_NOTIFY = ("SUCCESS", "FAILURE", "DELAY")
_RETURNS = {"full": "FULL", "hdrs": "HDRS"}
_BODIES = {"7bit": "7BIT", "8bitmime": "8BITMIME"}
_VISIBLE = {chr(code) for code in range(33, 127)}


def read(program: str, words: list[str]) -> Options:
    """The options of a command line; WrongUsage when it has a mistake. program: argv[0]."""
    found: dict[str, object] = {}
    name = program.rpartition("/")[2]
    if name in _ALIASES:
        found["mode"] = _ALIASES[name]
    at = 0
    while at < len(words) and len(words[at]) > 1 and words[at][0] == "-":
        if words[at] == "--":
            at += 1
            break
        at += _word(words[at], words[at + 1 : at + 2], found)
    return Options(**found, recipients=tuple(words[at:]))  # type: ignore[arg-type]


def _word(word: str, following: list[str], found: dict[str, object]) -> int:
    """Takes one word of options; returns how many words that were: 1, or 2 with a value."""
    for place, letter in enumerate(word[1:], 1):
        if letter in _FLAGS:
            _take_flag(letter, found)
        elif letter == "q":
            found.setdefault("mode", "q")
            found["queue"] = word[place + 1 :]
            return 1
        elif letter in _VALUED:
            value = word[place + 1 :]
            if not value and not following:
                raise WrongUsage(f"option -{letter} needs a value")
            _take_value(letter, value or "".join(following), found)
            return 1 if value else 2
        else:
            raise WrongUsage(f"there is no option -{letter}" + (f" (in {word[:40]!r})" if len(word) > 2 else ""))
    return 1


def _take_flag(letter: str, found: dict[str, object]) -> None:
    if letter == "i":
        found["dot_ends"] = False
    elif letter == "t":
        found["from_header"] = True
    elif letter == "v":
        found["verbose"] = True
    elif letter == "I":
        found["mode"] = "i"


def _take_value(letter: str, value: str, found: dict[str, object]) -> None:
    match letter:
        case "f" | "r":
            found["sender"] = value
        case "F":
            found["name"] = value
        case "C":
            found["configuration"] = value
        case "b":
            found["mode"] = _mode(value)
        case "N":
            found["notify"] = _notify(value)
        case "R":
            found["ret"] = _one_of("R", value, _RETURNS)
        case "B":
            found["body"] = _one_of("B", value, _BODIES)
        case "V":
            found["envid"] = _envid(value)
        case "o" if value == "i":
            found["dot_ends"] = False
        case _:
            pass  # -oem, -odb, -O, -h, -p, -L, -X and so on: said by habit, and of no use here


def _mode(value: str) -> str:
    if value not in _MODES:
        raise WrongUsage(f"there is no mode -b{value[:20]}: -bm, -bs, -bp and -bv are here")
    return _MODES[value]


def _one_of(letter: str, value: str, known: dict[str, str]) -> str:
    if value.lower() not in known:
        raise WrongUsage(f"-{letter} {value[:40]!r} is not one of {', '.join(known)}")
    return known[value.lower()]


def _notify(value: str) -> str:
    """`never`, or some of success, failure, delay (RFC 3461 4.1)."""
    wanted = [one.strip().upper() for one in value.split(",")]
    if wanted == ["NEVER"]:
        return "NEVER"
    if not set(wanted) <= set(_NOTIFY):
        raise WrongUsage(f"-N {value[:40]!r} is neither never nor a list of success, failure, delay")
    return ",".join(one for one in _NOTIFY if one in wanted)


def _envid(value: str) -> str:
    if not value or len(value) > 100 or not set(value) <= _VISIBLE:
        raise WrongUsage("-V needs an identifier of 1 to 100 visible ASCII characters")
    return value
