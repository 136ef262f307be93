"""Mail on its way into the queue: a put gets its ID, becomes a record, and is answered when that is durable.

Promise:  `Stored` is said only for what is durable (J1). A put whose answer was lost is answered by its token (J10):
          durable -> Stored, unknown -> Refused with 451. IDs are issued here and nowhere else (J11).
On crash: receivers ask again; what was not durable was never answered.
Callers:  run.queue; `fresh` is read where it is handed out.
"""

import itertools
import time
from collections import OrderedDict, deque
from hashlib import sha256

import msgspec

from kmq import log
from kmq.intake.door import ANOTHER_FILE, FREE, Pressed
from kmq.model import queue_id
from kmq.model.envelope import head_line
from kmq.model.frame import Ask, Intake, Put, Refused, Reserve, Reserved, Stored
from kmq.model.priority import of_line
from kmq.model.reply import Reply
from kmq.run.link import Link
from kmq.run.storage import BROKEN, Storage
from kmq.spool import incoming, record
from kmq.spool.record import RECORD_LIMIT, Dropped

#: Bytes of bodies kept at hand for their first assignment, beyond those whose files are not made yet.
FRESH_LIMIT = 4 << 20
#: A head of so many recipients that it is larger is read from its file, since each share of it (`share.LARGEST`) would
#: bring it along anew.
HEAD_LIMIT = 1 << 20
#: Large bodies on their way in that have an ID.
RESERVED = 10_000
#: Puts whose token is remembered for a receiver that asks again: at least so many, and at most twice as many.
TOKENS = 10_000


class Arrival(msgspec.Struct, gc=False):
    """The ticket of a put's record. key: its token as bytes; name: its ID as text."""

    link: Link
    token: str
    key: bytes
    id: int
    name: str
    recipients: int
    priority: int


_NOTHING = (b"", b"")


class Fresh:
    """Head lines and small bodies of messages that came lately, so that no file must be read for them.

    What has no files yet is always here, but for very large heads: an assignment may need it before the effects have
    made them.
    """

    def __init__(self, storage: Storage) -> None:
        self._unmade = storage.store.effects.unmade
        self._kept: OrderedDict[int, tuple[bytes, bytes]] = OrderedDict()
        self._taken: deque[int] = deque()  # handed out once: they go as soon as they have files
        self._bytes = 0

    def keep(self, number: int, line: bytes, body: bytes) -> None:
        if len(line) > HEAD_LIMIT:
            return
        self._kept[number] = (line, body)
        self._bytes += len(line) + len(body)
        while self._taken and not self._unmade(self._taken[0]):
            if (oldest := self._taken.popleft()) in self._kept:
                self.drop(oldest)
        while self._bytes > FRESH_LIMIT and self._kept and not self._unmade(oldest := next(iter(self._kept))):
            self.drop(oldest)

    def take(self, number: int) -> tuple[bytes, bytes]:
        """Head line and body for an assignment; two empty texts when they are in the files only."""
        found = self._kept.get(number)
        if found is None:
            return _NOTHING
        if self._unmade(number):
            self._taken.append(number)
        else:
            self.drop(number)
        return found

    def line(self, number: int) -> bytes:
        """The head line of a message that came just now; b"" when it is in its files only."""
        return self._kept.get(number, _NOTHING)[0]

    def drop(self, number: int) -> None:
        """The message is gone, or its files will do."""
        line, body = self._kept.pop(number, _NOTHING)
        self._bytes -= len(line) + len(body)


class Arrivals:
    """The receivers' side of the scheduler process."""

    def __init__(self, storage: Storage, tokens: dict[bytes, int]) -> None:
        self.storage = storage
        self.fresh = Fresh(storage)
        self.refusal: Reply | None = None
        self._servers = self._users = FREE
        self.accepted = 0
        self.refused = 0
        self.links: set[Link] = set()
        self._waiting: set[bytes] = set()
        self._tokens = dict(itertools.islice(tokens.items(), max(0, len(tokens) - TOKENS), None))
        self._older: dict[bytes, int] = {}  # tokens, too: those of before the last so many
        self._reserved: OrderedDict[int, None] = OrderedDict()
        self._asked: dict[bytes, Link] = {}  # puts whose receiver asked again over another link
        self._named: dict[str, None] = {}  # bodies in incoming/ that puts of this run name

    # --- frames of receivers -------------------------------------------------------------------------------------

    def joined(self, link: Link) -> None:
        self.links.add(link)
        link.send(self._intake())

    def put(self, link: Link, put: Put, raw: bytes) -> None:
        """A message; raw is the head's tail and the body."""
        if self.refusal is not None:
            self._refuse(link, put.token, self.refusal)
            return
        dropped = None
        if put.dropped:
            dropped = Dropped(*put.dropped)
            wrong = self._claim(dropped)
            if wrong is not None:
                self._refuse(link, put.token, wrong)
                return
        if put.m:
            self._put_large(link, put, raw, dropped)
        else:
            self._put_small(link, put, raw, dropped)

    def _put_small(self, link: Link, put: Put, raw: bytes, dropped: Dropped | None) -> None:
        number = self.storage.store.new_id(time.time())
        name, tail = queue_id.text(number), put.tail
        if put.stamp >= 0:
            stamp = tail + put.stamp
            given = memoryview(raw)
            body = b"".join((given[tail:stamp], name.encode(), given[stamp + queue_id.LENGTH :]))
        else:
            body = raw[tail:]
        line = head_line(name, sha256(body).hexdigest(), raw[:tail])
        if len(line) + len(body) > RECORD_LIMIT:
            self._unclaim(dropped)
            self._refuse(
                link, put.token, Reply(552, "5.3.4", "Too many recipients, or too large a message, for one record")
            )
            return
        one = record.Put(number, line, body, bytes.fromhex(put.token), dropped=dropped)
        self._record(link, put, name, one)
        self.fresh.keep(number, line, body)

    def reserve(self, link: Link, asked: Reserve) -> None:
        """An ID for a large body, good for this run: another one would not know it, and might issue it again."""
        number = self.storage.store.new_id(time.time())
        self._reserved[number] = None
        if len(self._reserved) > RESERVED:
            self._reserved.popitem(last=False)  # whoever began it has most likely gone; else it hears 451
        link.send(Reserved(asked.token, queue_id.text(number)))

    def _put_large(self, link: Link, put: Put, raw: bytes, dropped: Dropped | None) -> None:
        number = queue_id.parse(put.m)
        if number not in self._reserved:
            self._unclaim(dropped)
            self._refuse(link, put.token, BROKEN)
            return
        del self._reserved[number]
        line = head_line(put.m, put.sha256, raw[: put.tail])
        one = record.Put(number, line, None, bytes.fromhex(put.token), incoming=put.incoming, dropped=dropped)
        self._record(link, put, put.m, one)
        self.fresh.keep(number, line, b"")

    def _claim(self, dropped: Dropped) -> Reply | None:
        """J12. Why a dropped file cannot become a message now; where nobody can look, it waits."""
        try:
            return None if self.storage.store.effects.claim(dropped) else ANOTHER_FILE
        except OSError:
            return BROKEN

    def _unclaim(self, dropped: Dropped | None) -> None:
        if dropped is not None:
            self.storage.store.effects.unclaim(dropped)

    def _record(self, link: Link, put: Put, name: str, one: record.Put) -> None:
        self._waiting.add(one.token)
        if one.incoming:
            self.name(one.incoming)
        arrival = Arrival(link, put.token, one.token, one.id, name, put.count, of_line(one.line))
        self.storage.add([one], arrival, refusable=True)

    def ask(self, link: Link, asked: Ask) -> None:
        """After a link came back: what became of these puts? One whose sync is under way is answered by that."""
        stored = []
        for token in asked.tokens:
            key = bytes.fromhex(token)
            number = self._tokens.get(key) or self._older.get(key)
            if number:
                stored.append((token, queue_id.text(number)))
            elif key in self._waiting:
                self._asked[key] = link
            else:
                self._refuse(link, token, BROKEN)
        if stored:
            link.send(Stored(stored))

    def name(self, body: str) -> None:
        """A put of this run names this body in incoming/."""
        self._named[body] = None

    def maker_died(self, pid: int) -> None:
        """What it left in incoming/ without a put goes (J6); what a put names goes with a checkpoint."""
        disk = self.storage.store.disk
        there = disk.names(incoming.FOLDER)
        self._named = {name: None for name in there if name in self._named}
        for name in there:
            made = incoming.maker(name)
            if made is not None and made.pid == pid and name not in self._named:
                log.event("incomplete-body-removed", name=name)
                disk.unlink(f"{incoming.FOLDER}/{name}")

    def _refuse(self, link: Link, token: str, reply: Reply) -> None:
        self.refused += 1
        link.send(Refused(token, str(reply)))

    # --- what became of records ----------------------------------------------------------------------------------

    def durable(self, arrivals: list[Arrival]) -> None:
        """They may be told; all of one link in one frame."""
        told: dict[Link, list[tuple[str, str]]] = {}
        waiting, tokens, asked = self._waiting, self._tokens, self._asked
        for one in arrivals:
            key = one.key
            waiting.discard(key)
            tokens[key] = one.id
            link = asked.pop(key, one.link) if asked else one.link
            if link in told:
                told[link].append((one.token, one.name))
            else:
                told[link] = [(one.token, one.name)]
        self.accepted += len(arrivals)
        for link, puts in told.items():
            link.send(Stored(puts))
        if len(tokens) > TOKENS:
            self._older, self._tokens = tokens, {}

    def not_durable(self, arrivals: list[Arrival]) -> None:
        """J8: their sync failed, and the journal is told so durably."""
        for one in arrivals:
            self._waiting.discard(one.key)
            self.fresh.drop(one.id)
            self._refuse(self._asked.pop(one.key, one.link), one.token, BROKEN)

    def check(self, stopped: Reply | None = None) -> None:
        """Tells the receivers when mail may not come in, or may again; stopped: an operator's word."""
        refusal = stopped or self.storage.refusal
        if refusal != self.refusal:
            self.refusal = refusal
            log.warning("no mail is taken in" if refusal else "mail is taken in again", why=str(refusal or ""))
            self._tell()

    @property
    def closed_to_servers(self) -> Reply | None:
        """Why nothing comes in from other servers now; what is replayed can wait like their mail."""
        return self.refusal or self._servers.refusal

    def press(self, servers: Pressed, users: Pressed) -> None:
        """Back pressure: what other servers and users meet at MAIL from now on."""
        if (servers, users) != (self._servers, self._users):
            self._servers, self._users = servers, users
            self._tell()

    def _tell(self) -> None:
        for link in self.links:
            link.send(self._intake())

    def _intake(self) -> Intake:
        servers, users = self._servers, self._users
        return Intake(_text(self.refusal), _text(servers.refusal), _text(users.refusal), servers.wait, users.wait)


def _text(reply: Reply | None) -> str:
    return str(reply) if reply else ""
