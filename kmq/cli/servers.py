"""Names with a server in them: `Server\\Queue\\ID` and `Server\\Queue` mean this machine, or nothing here.

Promise:  an identity that another server printed is refused as a whole, before anything is done: two servers may have
          issued the same ID, and the same queue is on both.
Callers:  cli.kmq.
"""

from argparse import Namespace
from collections.abc import Iterator

from kmq.cli.call import Call
from kmq.cli.parser import Identity
from kmq.errors import UsageError
from kmq.model import queue_id


def check(call: Call) -> None:
    """UsageError for a name of another server's, wherever one may stand among the arguments."""
    for server in _servers(call.arguments):
        problem = objection(server, call.settings.kmq.hostname)
        if problem:
            raise UsageError(problem)


def objection(server: str, hostname: str) -> str:
    """Why this server is not us, "" when it is, or any: our whole name, its first label, or `*`."""
    ours = hostname.casefold()
    if server.casefold() in ("", "*", ours, ours.partition(".")[0]):
        return ""
    return f"{server[:60]!r} is another server: this one is {hostname}"


def _servers(arguments: Namespace) -> Iterator[str]:
    for name in getattr(arguments, "id", None) or ():
        if isinstance(name, Identity):
            yield name.server
    queue = getattr(arguments, "queue", None)
    if isinstance(queue, str):
        yield queue.rpartition("\\")[0]
    for text in getattr(arguments, "what", None) or ():
        if isinstance(text, str):
            before, _, last = text.rpartition("\\")
            yield before.rpartition("\\")[0] if queue_id.PATTERN.fullmatch(last) else before
