"""Grace hold: when it is likely our own fault that mail fails for good, it is held instead of returned.

Law:      failures for good are told apart by their cause (`cause_of`); only causes that say something of us, and not of
          the recipient or the message, count. When within a minute `limit` recipients of a next hop fail for one cause,
          they are nine tenths of all that it decided, and they are not one sender's alone to a domain or two, the hop
          is held. A connector whose hops are domains is looked at as a whole too: then each of its hops that fails for
          that cause is held.
          Held hops have no failures of that cause: the recipients wait. When an operator lets one go, the first
          delivery clears it, and the first failure of that cause holds it again.
Promise:  pure; time is an argument. One spammer's bad list, or a domain that refuses one message, holds nothing.
On crash: what is held is told to a new one (`restored`); what was counted is forgotten.
Callers:  run/grace_holds, in the scheduler process; run/grace_evidence, in a worker.
"""

from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

from kmq.model import reply

#: Seconds that are looked at together; the part of all results that is too much.
WINDOW: Final = 60.0
PART: Final = 0.9
#: Mail of so many senders, or to so many domains, is no one's own doing.
SENDERS, DOMAINS = 2, 3
#: Seconds after which a hop that was let go, and has said nothing, is one like any other.
PROBATION: Final = 3600.0
#: Logins that a server refuses in a row before its queue is held: more of them may lock the account.
LOGINS: Final = 3
#: Failures that are remembered of one hop.
_MOST: Final = 1000


class Cause(Enum):
    """Why mail fails although neither recipient nor message is to blame; the value is what people read."""

    LOGIN = "the server refuses our login"
    RELAY = "the server refuses to relay for us"
    BLOCKED = "the server refuses mail from us"
    SENDER = "the server refuses our senders"
    DNS = "our DNS knows no domain"


#: Enhanced status codes (RFC 3463, RFC 4954, RFC 7372), by what they begin with; the first that fits counts.
_STATUSES: Final = (
    ("5.7.8", Cause.LOGIN),
    ("5.7.9", Cause.LOGIN),
    ("5.7.", Cause.BLOCKED),
    ("5.1.7", Cause.SENDER),
    ("5.1.8", Cause.SENDER),
)
#: Codes that say enough by themselves (RFC 4954 6).
_CODES: Final = {530: Cause.LOGIN, 534: Cause.LOGIN, 535: Cause.LOGIN, 538: Cause.LOGIN}
#: Words of servers that give no status, or a vague one; in small letters.
_WORDS: Final = (
    ("relay", Cause.RELAY),
    ("authentication required", Cause.LOGIN),
    ("blacklist", Cause.BLOCKED),
    ("blocklist", Cause.BLOCKED),
    ("blocked", Cause.BLOCKED),
    ("spamhaus", Cause.BLOCKED),
)
#: Statuses that our own resolver's answers have (routing/mx).
_OWN: Final = ("5.1.2", "5.4.4")
#: Statuses of recipients and messages, whatever words come along.
_THEIRS: Final = ("5.1.1", "5.1.6", "5.1.10", "5.2.", "5.3.4", "5.6.")


def cause_of(text: str, host: str) -> Cause | None:
    """The cause of a failure for good; None when it is the recipient's or the message's. host: "" when we said it."""
    said = reply.parse(text)
    if not host:
        return Cause.DNS if said.enhanced in _OWN else None
    if said.code in _CODES:
        return _CODES[said.code]
    if said.enhanced.startswith(_THEIRS):
        return None
    words = said.text.lower()
    for word, cause in _WORDS:
        if word in words:
            return cause
    return next((cause for status, cause in _STATUSES if said.enhanced.startswith(status)), None)


class Failures(NamedTuple):
    """Recipients of one message that failed for one cause. domains: of their addresses."""

    cause: Cause
    recipients: int
    sender: str
    domains: tuple[str, ...]


class _Tally:
    """The failures of a hop, or of a connector, within the last minute."""

    __slots__ = ("_counts", "_seen")

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Failures]] = deque()
        self._counts: Counter[Cause] = Counter()

    def add(self, failures: Failures, now: float) -> None:
        self._seen.append((now, failures))
        self._counts[failures.cause] += failures.recipients
        while self._seen[0][0] <= now - WINDOW or len(self._seen) > _MOST:
            _, old = self._seen.popleft()
            self._counts[old.cause] -= old.recipients

    def last(self) -> float:
        return self._seen[-1][0]

    def reaches(self, cause: Cause, limit: int, delivered: int = 0) -> bool:
        """Whether so many failed, and hardly anything else was delivered."""
        count = self._counts[cause]
        return count >= limit and count >= PART * (count + delivered)

    def is_nobodys(self, cause: Cause, whole: bool) -> bool:
        """Whether it is no single sender's doing, nor that of a domain or two. whole: of a connector of many hops."""
        found = [one for _, one in self._seen if one.cause is cause]
        domains = {domain for one in found for domain in one.domains}
        return len(domains) >= DOMAINS or (not whole and len({one.sender for one in found}) >= SENDERS)


class Grace:
    """limit: recipients, 0 for no holding at all. suspended: whether a next hop's queue is held now, by anybody."""

    def __init__(self, limit: int, suspended: Callable[[str], bool]) -> None:
        self.limit = limit
        self._suspended = suspended
        self.held: dict[str, Cause] = {}  #: next hop -> why it was held; until a delivery clears it
        self._wide: dict[str, Cause] = {}  #: connector -> the same, of all its hops
        self._tallies: dict[str, _Tally] = {}
        self._delivered: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._since = 0.0
        self._let_go: dict[str, float] = {}  #: hops that are held no more -> since when, as far as we have seen

    def restored(self, hop: str, cause: Cause) -> None:
        """It is held since before this process began."""
        self.held[hop] = cause

    def delivered(self, hop: str, now: float) -> None:
        """A next hop took responsibility for somebody."""
        if now - self._since > WINDOW:
            self._turn(now)
        self._delivered[hop] = self._delivered.get(hop, 0) + 1
        if not self.held:
            return
        self._wide.pop(_connector(hop), None)
        if hop in self.held and not self._suspended(hop):
            del self.held[hop]

    def _turn(self, now: float) -> None:
        """A minute is over; what is older than two is forgotten."""
        self._before = self._delivered if now - self._since < 2 * WINDOW else {}
        self._delivered = {}
        self._since = now
        self._tallies = {key: one for key, one in self._tallies.items() if one.last() > now - WINDOW}
        self._let_go = {hop: self._let_go.get(hop, now) for hop in self.held if not self._suspended(hop)}
        for hop, at in self._let_go.items():
            if now - at > PROBATION:
                del self.held[hop]
        if not self.held:
            self._wide.clear()

    def failed(self, hop: str, failures: Failures, now: float) -> bool:
        """Whether these recipients are held instead of given up. The queue is to be suspended then, if it is not."""
        if not self.limit:
            return False
        if now - self._since > WINDOW:
            self._turn(now)
        cause = failures.cause
        if self.held.get(hop) is cause:
            return True
        connector = _connector(hop)
        if self._wide.get(connector) is not cause and not self._jump(hop, connector, failures, now):
            return False
        self.held[hop] = cause
        return True

    def _jump(self, hop: str, connector: str, failures: Failures, now: float) -> bool:
        cause, limit = failures.cause, self.limit
        own = self._tallies.setdefault(hop, _Tally())
        own.add(failures, now)
        many = cause is not Cause.DNS and own.reaches(cause, limit, self._decided(hop))
        if many and (cause is Cause.LOGIN or own.is_nobodys(cause, whole=False)):
            return True
        whole = self._tallies.setdefault(connector, _Tally())
        whole.add(failures, now)
        if (
            whole.reaches(cause, limit)
            and whole.is_nobodys(cause, whole=True)
            and whole.reaches(cause, limit, self._of(connector))
        ):
            self._wide[connector] = cause
            return True
        return False

    def _decided(self, hop: str) -> int:
        return self._delivered.get(hop, 0) + self._before.get(hop, 0)

    def _of(self, connector: str) -> int:
        """Deliveries of all hops of a connector. Asked only when there are too many failures to be looked away from."""
        counts = (self._delivered, self._before)
        return sum(count for one in counts for hop, count in one.items() if _connector(hop) == connector)

    def unreached(self, hop: str, text: str, times: int) -> Cause | None:
        """A next hop would not talk to us, so many times in a row; the cause when it is to be held."""
        if not self.limit or times < LOGINS or not _login_refused(text):
            return None
        self.held[hop] = Cause.LOGIN
        return Cause.LOGIN


def _login_refused(text: str) -> bool:
    """Whether it was the login: phases/smtp_opening tells what the server said behind `said:`."""
    _, found, said = text.partition(" said: ")
    answer = reply.parse(said)
    return bool(found) and (answer.code in _CODES or answer.enhanced in ("5.7.8", "5.7.9"))


def _connector(hop: str) -> str:
    return hop.rpartition(";")[2]
