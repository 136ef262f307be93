"""The arguments of `kmq`: one table of verbs, each with its options.

Promise:  what is no queue ID is refused here, so that no path and no question is ever made of it.
Callers:  kmq.cli.kmq; a test holds kmq(1) against this table.
"""

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from kmq import __version__
from kmq.model import queue_id
from kmq.model.phase import Phase

_EPILOG = """\
ID is a queue ID (69212ad0-0000a1f3), or an Identity as --json prints it.
Exit status: 0 done, 1 nothing matched or refused, 2 usage, 75 kmqd does not answer, 78 configuration or spool wrong.
kmq(1) tells more."""


class Identity(NamedTuple):
    """A message as an operator names it: `ID`, `Queue\\ID`, `Server\\Queue\\ID` or `*\\ID`; "" for any."""

    queue: str
    id: str
    server: str = ""


def identity(text: str) -> Identity:
    """The message that a text names; ArgumentTypeError when it names none."""
    queue, _, name = text.rpartition("\\")
    if not queue_id.PATTERN.fullmatch(name):
        raise ArgumentTypeError(f"{text[:60]!r} is not a queue ID (like 69212ad0-0000a1f3)")
    server, _, queue = queue.rpartition("\\")
    return Identity("" if queue == "*" else queue, name, server)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text[:20]!r} is not a number above 0")
    return int(text)


def _reason(text: str) -> str:
    from kmq.admin.verbs import REASON_LIMIT

    if len(text) > REASON_LIMIT:
        raise ArgumentTypeError(f"a reason has at most {REASON_LIMIT} characters")
    return text


def _watch(verb: ArgumentParser) -> None:
    verb.add_argument("--watch", action="store_true", help="draw it again when something changes, until q or Ctrl-C")


def _rows(text: str) -> int:
    if text.lower() in ("unlimited", "all"):
        return 0
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"{text[:20]!r} is neither a number above 0 nor unlimited")
    return int(text)


def _selecting(verb: ArgumentParser, example: str, kinds: str) -> None:
    """Which rows of a list, and in which order."""
    verb.add_argument("--filter", metavar="EXPR", default="", help=f"what matches: '{example}'")
    verb.add_argument("--include", metavar="KINDS", action="append", default=[], help=f"only these queues: {kinds}")
    verb.add_argument("--exclude", metavar="KINDS", action="append", default=[], help="all but these")
    verb.add_argument("--sort", metavar="ORDER", default="", help="+FromAddress,-Size: rising, falling")
    verb.add_argument("--limit", metavar="N", type=_rows, help="show N (1000 on a terminal), or unlimited")
    verb.add_argument("--bookmark", metavar="B", default="", help="the next page: what the last one told")


def _mailq(verb: ArgumentParser) -> None:
    verb.add_argument("--queue", metavar="Q", help="only what waits in this queue")
    _selecting(verb, "Size -gt 1MB -and Status -eq Retry", "Internal, External, or a DeliveryType")
    verb.add_argument("--ids", action="store_true", help="IDs alone, one per line")
    verb.add_argument("--at", metavar="TIME", default="", help="as it stood then: 14:30, '2026-11-22 14:30', or 2h")
    _watch(verb)


def _queues(verb: ArgumentParser) -> None:
    _selecting(verb, "MessageCount -gt 100 -and Status -eq Retry", "Internal, External, Empty, or a DeliveryType")
    _watch(verb)


def _sql(verb: ArgumentParser) -> None:
    verb.add_argument("statement", metavar="SELECT", help="'SELECT Status, count(*) FROM messages GROUP BY Status'")


def _one(verb: ArgumentParser) -> None:
    verb.add_argument("id", metavar="ID", type=identity, nargs="+", help="a message")


def _explain(verb: ArgumentParser) -> None:
    verb.add_argument("what", metavar="ID", nargs="+", help="a message, or the name of a queue")


def _track(verb: ArgumentParser) -> None:
    verb.add_argument("id", metavar="ID", type=identity, nargs="*", help="what happened to these messages alone")
    verb.add_argument("--filter", metavar="EXPR", default="", help="what matches: 'Recipients -like \"*@example.net\"'")
    verb.add_argument("--since", metavar="TIME", default="", help="2026-11-22, '2026-11-22 14:30', 14:30, or 2h (ago)")
    verb.add_argument("--until", metavar="TIME", default="", help="the same; now when it is left out")
    verb.add_argument("--limit", metavar="N", type=_count, help="show the last N (1000)")


def _digest(verb: ArgumentParser) -> None:
    verb.add_argument(
        "--group-by", metavar="NAME", default="", help="NextHopDomain, Status, LastError, ServerName, ..."
    )
    verb.add_argument(
        "--filter", metavar="EXPR", default="", help="queues that match, else those of 10 messages or more"
    )
    verb.add_argument("--details", choices=("none", "normal", "verbose"), default="normal", help="of each queue")
    verb.add_argument("--limit", metavar="N", type=_count, help="show no more than N groups (100)")


def _target(verb: ArgumentParser, queue: str = "what waits in this queue") -> None:
    verb.add_argument("id", metavar="ID", type=identity, nargs="*", help="messages, or Queue\\ID: their part in it")
    verb.add_argument("--queue", metavar="Q", help=queue)
    verb.add_argument("--filter", metavar="EXPR", help="what matches: 'FromAddress -like \"*@example.org\"'")
    verb.add_argument("--all", action="store_true", help="all messages in the queue")
    verb.add_argument("--ids-from", metavar="FILE", help="those of a list, as --json prints it; - is standard input")
    verb.add_argument("--what-if", action="store_true", help="only say what would be done")
    verb.add_argument("--yes", action="store_true", help="do not ask, however many they are")
    verb.add_argument("--reason", metavar="TEXT", type=_reason, default="", help="why; kept in the envelope and log")


def _either(verb: ArgumentParser) -> None:
    """A queue may be meant, or its messages."""
    _target(verb, "this queue itself")
    verb.add_argument("--messages", action="store_true", help="with --queue: its messages, not the queue")


def _what_if(verb: ArgumentParser) -> None:
    verb.add_argument("--what-if", action="store_true", help="only say what would be done")


def _remove(verb: ArgumentParser) -> None:
    _target(verb)
    verb.add_argument("--with-ndr", action="store_true", help="tell the senders that it was not delivered")


def _redirect(verb: ArgumentParser) -> None:
    _target(verb)
    verb.add_argument("--to-connector", metavar="C", required=True, help="the connector by which they are to go")


def _export(verb: ArgumentParser) -> None:
    _target(verb)
    verb.add_argument("--to", metavar="DIR", required=True, help="the folder, which is there already")


def _flush(verb: ArgumentParser) -> None:
    verb.add_argument("--reason", metavar="TEXT", type=_reason, default="", help="why; kept in the log")


def _replay(verb: ArgumentParser) -> None:
    verb.add_argument("id", metavar="ID", type=identity, nargs="*", help="messages that are kept")
    verb.add_argument("--filter", metavar="EXPR", help="what matches: 'Recipients -like \"*@example.net\"'")
    verb.add_argument("--since", metavar="TIME", help="delivered since then: 2026-11-22, 14:30, or 2h (ago)")
    verb.add_argument("--until", metavar="TIME", help="the same; now when it is left out")
    verb.add_argument("--to-connector", metavar="C", help="by this connector, whatever routing says")
    verb.add_argument("--again", action="store_true", help="also what was replayed before")
    verb.add_argument("--with-dsn", action="store_true", help="senders are told what becomes of it, as they asked")
    verb.add_argument("--list", action="store_true", help="only show what is kept")
    verb.add_argument("--limit", metavar="N", type=_count, help="with --list: show no more than N")
    verb.add_argument("--what-if", action="store_true", help="only say what would be done")
    verb.add_argument("--yes", action="store_true", help="do not ask, however many they are")
    verb.add_argument("--reason", metavar="TEXT", type=_reason, default="", help="why; kept in the envelope and log")


def _archive(verb: ArgumentParser) -> None:
    verb.add_argument("what", choices=("list", "export"), help="what is archived; or copies of it, as for replay/")
    verb.add_argument("id", metavar="ID", type=identity, nargs="*", help="these messages alone")
    verb.add_argument("--filter", metavar="EXPR", help="what matches: 'FromAddress -like \"*@example.org\"'")
    verb.add_argument("--since", metavar="TIME", help="accepted since then: 2026-11-22, 14:30, or 2h (ago)")
    verb.add_argument("--until", metavar="TIME", help="the same; now when it is left out")
    verb.add_argument("--limit", metavar="N", type=_count, help="with list: show no more than N")
    verb.add_argument("--to", metavar="DIR", help="with export: the folder, which is there already")


def _seconds(text: str) -> float:
    if not text.isdecimal() or not 0 < int(text) <= 3600:
        raise ArgumentTypeError(f"{text[:20]!r} is not a number of seconds from 1 to 3600")
    return float(text)


def _size(text: str) -> int:
    from kmq.config.kinds import size

    try:
        return size("16M", "1T").parse(text)
    except ValueError as wrong:
        raise ArgumentTypeError(str(wrong)) from None


def _phase(text: str) -> Phase:
    for phase in Phase:
        if text.lower() in (phase.value.lower(), phase.name.lower()):
            return phase
    raise ArgumentTypeError(f"{text[:40]!r} is none of {', '.join(phase.value for phase in Phase)}")


def _poison(verb: ArgumentParser) -> None:
    verb.add_argument("what", choices=("list", "test"), help="what is set aside; or run a phase of it again")
    verb.add_argument("id", metavar="ID", type=identity, nargs="*", help="a message, for test")
    verb.add_argument("--phase", metavar="P", type=_phase, help="as 'SMTP delivery' or smtp; else the one that crashed")
    verb.add_argument("--seconds", metavar="N", type=_seconds, default=30.0, help="after which it hangs (30)")
    verb.add_argument("--memory", metavar="SIZE", type=_size, default=512 << 20, help="that it may take (512M)")


def _config(verb: ArgumentParser) -> None:
    verb.add_argument("what", choices=("show", "diff"), nargs="?", default="show", help="diff: what NEW would change")
    verb.add_argument("file", metavar="NEW", nargs="?", help="for diff: another configuration")
    verb.add_argument("--man", action="store_true", help="print kmq.conf(5) instead")


def _fsck(verb: ArgumentParser) -> None:
    verb.add_argument("--quick", action="store_true", help="do not read the bodies")
    verb.add_argument("--repair", action="store_true", help="mend what can be mended; kmqd must not run")


def _report(verb: ArgumentParser) -> None:
    verb.add_argument("--day", metavar="DAY", help="2026-11-22, today (as without), or yesterday")
    verb.add_argument("--since", metavar="TIME", help="2026-11-22, '2026-11-22 14:30', or 14:30")
    verb.add_argument("--until", metavar="TIME", help="the same; now when it is left out")
    verb.add_argument("--log", metavar="FILE", action="append", help="read this, and what was rotated away; or journal")
    verb.add_argument("--limit", metavar="N", type=_count, help="show N senders, recipients and so on (10)")


def _route(verb: ArgumentParser) -> None:
    verb.add_argument("address", metavar="ADDRESS", help="to whom; a name alone is one of the first local domain")
    verb.add_argument("--sender", metavar="A", default="", help="as if it were from A; <> for a notice")
    verb.add_argument("--user", metavar="U", default="", help="as if U had handed it in")
    verb.add_argument("--client", metavar="IP", default="", help="as if it came from IP")


def _rules(verb: ArgumentParser) -> None:
    verb.add_argument("what", choices=("list", "test"), nargs="?", default="list", help="test: what they would do")
    verb.add_argument("message", metavar="FILE", nargs="?", help="for test: a message, - for standard input, or an ID")
    verb.add_argument("--from", metavar="A", dest="sender", help="as if A were the envelope sender; <> for none")
    verb.add_argument("--to", metavar="A", action="append", default=[], help="as if A were a recipient of the envelope")


def _submit(verb: ArgumentParser) -> None:
    verb.add_argument("file", metavar="FILE", nargs="?", default="-", help="the message; - is standard input")
    verb.add_argument("--from", metavar="A", dest="sender", help="the envelope sender, <> for none; else who calls")
    verb.add_argument("--to", metavar="A", action="append", default=[], help="a recipient; else those of To, Cc, Bcc")


def _snapshot(verb: ArgumentParser) -> None:
    verb.add_argument("folder", metavar="DIR", help="a new folder, or an empty one")


def _restore(verb: ArgumentParser) -> None:
    verb.add_argument("folder", metavar="DIR", help="what kmq snapshot made")
    verb.add_argument("--log", metavar="FILE", action="append", help="read this mail log; or journal")
    verb.add_argument("--no-log", action="store_true", help="there is no log: mail that left since then goes out again")
    verb.add_argument("--what-if", action="store_true", help="only say what would be brought back")


def _doctor(verb: ArgumentParser) -> None:
    verb.add_argument("--to", metavar="DOMAIN", help="try whether its mail servers can be reached on port 25")


def _none(_: ArgumentParser) -> None:
    pass


#: Options whose value may begin with a minus sign.
_SIGNED = frozenset({"--sort", "--filter"})


class Verb(NamedTuple):
    """module: of kmq.cli, with a function `run(call) -> exit status`; does: one line of help."""

    module: str
    does: str
    options: Callable[[ArgumentParser], None] = _none


VERBS: dict[str, Verb] = {
    "mailq": Verb("mailq", "what waits in the queue, and why", _mailq),
    "queues": Verb("queues", "the queues, their status and last error", _queues),
    "sql": Verb("sql", "the queue as tables, asked in SQL", _sql),
    "processes": Verb("processes", "what each process of kmqd has in hand", _watch),
    "show": Verb("show", "one message: recipients, history, files, header", _one),
    "history": Verb("history", "what happened to one message, also after it has left", _one),
    "explain": Verb("explain", "why a message or a queue is still here, and what changes that", _explain),
    "track": Verb("track", "what happened to mail, from the tracking log", _track),
    "digest": Verb("digest", "the queues summed up, the largest first", _digest),
    "retry": Verb("act", "make the next attempt now", _either),
    "flush": Verb("flush", "make the next attempt of everything now", _flush),
    "poison": Verb("poison", "what is set aside in poison/; runs a phase of it again, confined", _poison),
    "pressure": Verb("pressure", "what kmqd runs short of, and what it refuses therefore"),
    "expire": Verb("expire", "give up what is overdue, although it is much", _what_if),
    "suspend": Verb("act", "hold messages, or a queue", _either),
    "resume": Verb("act", "let them go on", _either),
    "resubmit": Verb("act", "back to the categorizer, to be routed anew", _target),
    "redirect": Verb("act", "send by another connector than routing says", _redirect),
    "remove": Verb("act", "take messages out of the queue", _remove),
    "export": Verb("act", "a copy of held messages, as files for replay/", _export),
    "replay": Verb("replay", "send delivered mail that is kept once more", _replay),
    "archive": Verb("archive", "what is archived; copies of it, as files for replay/", _archive),
    "submit": Verb("submit", "a message from a file goes into the queue", _submit),
    "report": Verb("report", "a day's mail, added up from the mail log", _report),
    "route": Verb("route", "where mail for an address goes, and which line decides it", _route),
    "rules": Verb("rules", "the server rules, and what they would do with a message", _rules),
    "reload": Verb("reload", "kmqd reads its configuration again, and says what changed"),
    "check": Verb("check", "whether configuration, spool and ports are in order"),
    "doctor": Verb("doctor", "the same, and disk, names, clock, limits, servers, certificates", _doctor),
    "snapshot": Verb("snapshot", "a copy of the queue and of poison/, while kmqd runs or not", _snapshot),
    "restore": Verb("restore", "messages of a snapshot that are not there any more come back", _restore),
    "config": Verb("config", "the configuration as it counts, with the place of each value", _config),
    "fsck": Verb("fsck", "whether every file of the spool is in order; mends it", _fsck),
}


def parser(needed: Collection[str] = VERBS.keys()) -> ArgumentParser:
    """All verbs, or those that are needed (all of them: 12 ms)."""
    whole = ArgumentParser(
        "kmq",
        description="Looks at kmq's queue and steers it.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _general(whole, {"config": None, "json": False})
    whole.add_argument("--version", action="version", version=f"kmq {__version__}")
    verbs = whole.add_subparsers(prog="kmq", dest="verb", required=True, metavar="VERB")
    for name in needed:
        verb = VERBS[name]
        one = verbs.add_parser(name, help=verb.does, description=verb.does.capitalize() + ".", allow_abbrev=False)
        _general(one, {"config": SUPPRESS, "json": SUPPRESS})
        verb.options(one)
    return whole


def needed(words: Sequence[str]) -> Collection[str]:
    """The verb of a command, or all verbs where it is not plain: for help, and for a mistake."""
    rest = iter(words)
    for word in rest:
        if word in ("-c", "--config"):
            next(rest, None)
        elif word != "--json":
            return (word,) if word in VERBS else VERBS.keys()
    return VERBS.keys()


def signed(words: Sequence[str]) -> list[str]:
    """The same words, but `--sort -Size` as one: argparse takes whatever begins with a minus sign for an option."""
    found: list[str] = []
    for word in words:
        if found and found[-1] in _SIGNED and word.startswith("-") and not word.startswith("--"):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _general(one: ArgumentParser, absent: dict[str, object]) -> None:
    """-c and --json may stand before or behind the verb."""
    where = "the configuration (else $KMQ_CONF, /etc/kmq/kmq.conf)"
    one.add_argument("-c", "--config", metavar="CONF", help=where, default=absent["config"])
    one.add_argument("--json", action="store_true", help="one JSON object per line", default=absent["json"])
