"""A day's mail added up from the mail log.

Promise:  pure: entries in, sums out; their order does not matter (processes write at their own pace). Memory is bounded
          whatever strangers say: of names only the most frequent are kept when they are very many.
Callers:  kmq.cli.report; kmq.view.report shows it.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from kmq.admin.maillog import Entry

#: Different names that are counted; above it the rarer half is forgotten.
NAMES = 100_000

#: Results that end a recipient's way.
ENDS = frozenset({"delivered", "failed", "expired", "expanded", "discarded", "replaced"})


class Top:
    """How often each name occurred, and how many bytes came with it."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}
        self.forgotten = False

    def add(self, name: str, size: int = 0) -> None:
        count, volume = self._counts.get(name, (0, 0))
        self._counts[name] = count + 1, volume + size
        if len(self._counts) > NAMES:
            self._counts = {name: (count, volume) for name, count, volume in self.most(NAMES // 2)}
            self.forgotten = True

    def __len__(self) -> int:
        return len(self._counts)

    def most(self, limit: int) -> list[tuple[str, int, int]]:
        """(name, times, bytes), the most frequent first, equals by name."""
        ordered = sorted(self._counts.items(), key=lambda one: (-one[1][0], one[0]))
        return [(name, count, volume) for name, (count, volume) in ordered[:limit]]


class Spread:
    """Durations, in seconds."""

    def __init__(self) -> None:
        self._all = array("f")
        self._sorted = True

    def add(self, duration: float) -> None:
        self._all.append(duration)
        self._sorted = False

    def share(self, part: float) -> float | None:
        """The duration below which this part of them lies; None without any."""
        if not self._all:
            return None
        if not self._sorted:
            self._all = array("f", sorted(self._all))
            self._sorted = True
        return self._all[min(len(self._all) - 1, int(part * len(self._all)))]


STAGES = ("before", "queue", "connecting", "transmission")


@dataclass
class Report:
    """Sums. messages and bytes are of what came in; all other counts are of recipients, or of attempts (deferrals).

    open: messages of this time whose last recipient has not come to an end in it. made: messages that aliases, rules,
    filters and the archive made of others. discarded, held: recipients, by rules and scanners.
    """

    since: float
    until: float
    lines: int = 0
    received: int = 0
    received_bytes: int = 0
    received_recipients: int = 0
    made: int = 0
    refused: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    deferrals: int = 0
    failed: int = 0
    expired: int = 0
    discarded: int = 0
    held: int = 0
    delayed: int = 0
    notices: int = 0
    removed: int = 0
    poison: int = 0
    senders: Top = field(default_factory=Top)
    recipients: Top = field(default_factory=Top)
    relays: Top = field(default_factory=Top)
    clients: Top = field(default_factory=Top)
    refusals: Top = field(default_factory=Top)
    deferral_reasons: Top = field(default_factory=Top)
    failure_reasons: Top = field(default_factory=Top)
    unavailable: Top = field(default_factory=Top)
    delay: Spread = field(default_factory=Spread)
    stages: tuple[Spread, ...] = field(default_factory=lambda: tuple(Spread() for _ in STAGES))
    _open: dict[str, int] = field(default_factory=dict)

    def read(self, found: Iterable[Entry]) -> "Report":
        """Takes entries; those of another time are left out."""
        for entry in found:
            if self.since <= entry.at < self.until:
                self.lines += 1
                self._take(entry)
        return self

    @property
    def open(self) -> int:
        return sum(count > 0 for count in self._open.values())

    def _take(self, entry: Entry) -> None:
        keys = entry.keys
        match entry.word:
            case "accepted" if "parent" in keys:
                self.made += 1
                self._opens(entry)
            case "accepted":
                self.received += 1
                self.received_bytes += _number(keys, "size")
                self.received_recipients += _number(keys, "nrcpt")
                self.senders.add(keys.get("from", ""), _number(keys, "size"))
                self.clients.add(keys.get("client") or keys.get("user") or keys.get("proto", ""))
                self._opens(entry)
            case "refused":
                self.refused += 1
                self.refusals.add(keys.get("reply", ""))
            case "notice":
                self.notices += 1
                self._opens(entry)
            case "deferred":
                self.deferrals += 1
                self.deferral_reasons.add(_reason(keys))
            case "delayed":
                self.delayed += 1
            case "removed":
                self.removed += 1
                self._open.pop(entry.id, None)
            case "poison":
                self.poison += 1
            case "held":
                self.held += _places(keys.get("rcpt", ""))
            case "unavailable":
                self.unavailable.add(f"{keys.get('queue', '')}: {keys.get('reply', '')}")
            case word if word in ENDS:
                self._ends(entry)

    def _opens(self, entry: Entry) -> None:
        self._count(entry.id, max(1, _number(entry.keys, "nrcpt")))

    def _ends(self, entry: Entry) -> None:
        keys, size = entry.keys, _number(entry.keys, "size")
        if entry.word == "delivered":
            self.delivered += 1
            self.delivered_bytes += size
            self.recipients.add(keys.get("to", ""), size)
            self.relays.add(keys.get("relay", ""), size)
            self._delays(keys)
        elif entry.word in ("failed", "expired"):
            self.failed += entry.word == "failed"
            self.expired += entry.word == "expired"
            self.failure_reasons.add(_reason(keys))
        elif entry.word == "discarded":
            self.discarded += _places(keys.get("rcpt", ""))
        self._count(entry.id, -_places(keys.get("rcpt", "")))

    def _count(self, name: str, change: int) -> None:
        left = self._open.get(name, 0) + change
        if left:
            self._open[name] = left
        else:
            self._open.pop(name, None)

    def _delays(self, keys: dict[str, str]) -> None:
        try:
            whole = float(keys["delay"])
            parts = [float(part) for part in keys["delays"].split("/")]
        except (KeyError, ValueError):
            return
        self.delay.add(whole)
        for spread, part in zip(self.stages, parts, strict=False):
            spread.add(part)


def _number(keys: dict[str, str], name: str) -> int:
    text = keys.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def _places(text: str) -> int:
    """How many recipients a line is about: one, unless it names them by their places (`0-2,5`)."""
    count = 0
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if dash and first.isdecimal() and last.isdecimal() and len(last) < 9:
            count += max(1, int(last) - int(first) + 1)
        else:
            count += 1
    return count


def _reason(keys: dict[str, str]) -> str:
    """What was said, and by whom, without what is different each time."""
    relay = keys.get("relay", "").partition("[")[0]
    reply = keys.get("reply", "")
    return f"{relay}: {reply}" if relay and relay != "local" else reply
