"""ETRN (RFC 1985): what a client asks for, and what it hears.

Promise:  pure. A node is a domain in canonical form, `@` and a domain for all below it too, or `#` and a name of a
          queue or connector; nothing else gets past here.
Callers:  `session`; kmq/run/etrn makes the replies about what is in the queue.
"""

from kmq.model.domain import canonical
from kmq.model.reply import Reply

#: Bytes of a name behind `#`.
NAME_LIMIT = 255

UNREACHABLE = Reply(458, "4.3.0", "Unable to queue messages: the queue is not available, try again later")


def node_of(argument: bytes) -> str:
    """What is asked for, "" when nobody can be meant."""
    try:
        text = argument.strip().decode("ascii")
    except UnicodeDecodeError:
        return ""
    if text.startswith("#"):
        name = text[1:]
        return text if 0 < len(name) <= NAME_LIMIT and name.isprintable() and " " not in name else ""
    below, name = ("@", text[1:]) if text.startswith("@") else ("", text)
    try:
        return below + canonical(name) if "." in name else ""
    except ValueError:
        return ""


def started(node: str, messages: int) -> Reply:
    """They are on their way."""
    return Reply(253, "2.0.0", f"OK, {messages} pending message{'s' * (messages != 1)} for node {node} started")


def nothing(node: str) -> Reply:
    """There is nothing to send."""
    return Reply(251, "2.0.0", f"OK, no messages waiting for node {node}")


def unable(node: str, why: str) -> Reply:
    """Not now."""
    return Reply(458, "4.3.2", f"Unable to queue messages for node {node}: {why}")


def denied(node: str, why: str) -> Reply:
    """Never."""
    return Reply(459, "4.7.1", f"Node {node} not allowed: {why}")
