"""ETRN in the scheduler process: which queues a client means, and what it hears.

Law:      a node may be asked for when a connector names it in address_spaces; `*` alone names nobody. Its queues are
          those of the connectors that name it; with type dns that of the domain alone. `#` names a connector of these,
          or a queue by its name. All of a queue is sent, as `kmq retry --queue` does it.
Promise:  pure, but for the core that it has send. A queue is sent once in PAUSE seconds, whoever asks how often.
On crash: nothing is kept.
Callers:  run.queue.
"""

from kmq.config import ConnectorSection, Settings
from kmq.config.local_connector import LOCAL
from kmq.intake import etrn
from kmq.model import hop as hops
from kmq.model.reply import Reply
from kmq.run.hopqueue import QueueStatus
from kmq.run.scheduler import Scheduler

#: Seconds until a queue may be asked for again.
PAUSE = 10.0
#: Queues whose last time is remembered; beyond, all are forgotten.
MEMORY = 10_000


class Etrns:
    """What clients ask for. loading: not all of the queue is known yet."""

    def __init__(self, core: Scheduler, settings: Settings) -> None:
        self.loading = True
        self._core = core
        self._connectors = settings.connectors
        self._sent: dict[str, float] = {}

    def configure(self, settings: Settings) -> None:
        """A new configuration counts."""
        self._connectors = settings.connectors

    def ask(self, node: str, now: float) -> Reply:
        """Has its mail sent; the reply, by RFC 1985 4."""
        named = [one for one in self._connectors if _may_be_asked(one) and _names(one, node)]
        meant = [one for one in self._core.queues(now) if any(_is_of(one.hop, connector, node) for connector in named)]
        if not named or not (meant or node[0] != "#" or any(node[1:] == one.name for one in named)):
            return etrn.denied(node, "no connector names it")
        count = sum(one.messages for one in meant)
        if not count:
            return etrn.unable(node, "the queue is being read") if self.loading else etrn.nothing(node)
        if all(one.status is QueueStatus.SUSPENDED for one in meant if one.messages):
            return etrn.unable(node, "an operator holds it")
        fresh = [one.hop for one in meant if now >= self._sent.get(one.hop, -PAUSE) + PAUSE]
        if not fresh:
            return etrn.unable(node, "it was sent a moment ago")
        self._send(fresh, now)
        return etrn.started(node, count)

    def _send(self, found: list[str], now: float) -> None:
        if len(self._sent) > MEMORY:
            self._sent.clear()
        for hop in found:
            self._sent[hop] = now
            self._core.verbs.retry_queue(hop, now)


def _may_be_asked(connector: ConnectorSection) -> bool:
    return connector.type not in LOCAL and connector.enabled and any(one != "*" for one in connector.address_spaces)


def _names(connector: ConnectorSection, node: str) -> bool:
    """Whether the connector may be for this node; which queue a `#` means its name says."""
    if node[0] == "#":
        return True
    spaces = [one for one in connector.address_spaces if one != "*"]
    if node[0] == "@":
        return any(_within(node[1:], one) or _below(one.removeprefix("*."), node[1:]) for one in spaces)
    return any(_within(node, one) for one in spaces)


def _is_of(hop: str, connector: ConnectorSection, node: str) -> bool:
    """Whether a queue is meant, if it is one of this connector."""
    target = hops.parse(hop)
    if target.connector != connector.name:
        return False
    if node[0] == "#":
        return node[1:] in (connector.name, target.name)
    if connector.type != "dns":
        return True
    return _below(target.domain, node[1:]) if node[0] == "@" else target.domain == node


def _within(domain: str, space: str) -> bool:
    return domain == space or (space.startswith("*.") and domain.endswith(space[1:]))


def _below(domain: str, above: str) -> bool:
    return domain == above or domain.endswith(f".{above}")
