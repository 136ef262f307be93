"""The verb `replay`: messages of the safety net go once more to those whom they were delivered to.

Does:     makes of each a new message with the same body (a further name of the file), sender and parameters, for the
          recipients that are meant; quietly, unless notices are wanted. With a connector it goes that way (Redirected).
Promise:  the new message, and the line in the old one's envelope that it was replayed to these recipients, are one
          record: nobody gets it twice because somebody asks twice, or after a crash, unless `again` is said. One
          question at a time; what the net kept before it is seen. Under back pressure nothing is replayed.
On crash: a message is replayed and marked, or neither. Names in incoming/ that nobody came to use are swept (J6).
Callers:  run.operators.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kmq.log import mail
from kmq.model import hop as hops
from kmq.model import moment, priority, queue_id, recipients
from kmq.model.envelope import Head, event_line, fold, head_line, head_tail
from kmq.model.event import Delivered, Redirected, Replayed
from kmq.model.frame import Answer
from kmq.model.outcome import DONE, GONE, NOT_NOW, REFUSED, RESULTS, SKIPPED
from kmq.run.arrivals import Arrivals
from kmq.run.numbers import Numbers
from kmq.run.scheduler import Scheduler
from kmq.run.settle_verb import settle
from kmq.run.share import Part, all_recipients, portions
from kmq.run.storage import Storage
from kmq.run.telling import tell_of_a_child
from kmq.run.told import Told
from kmq.spool import incoming, layout, net_look
from kmq.spool.disk import Disk
from kmq.spool.record import Append, Mark, Operation, Put

#: Messages that are read, and linked with one sync.
CHUNK = 500
HOW = "safety-net"  #: source of a message that is replayed
_SUBMISSION = str(hops.SUBMISSION)


class Wish(NamedTuple):
    """What an operator wants. again: also to whom it was replayed before; dsn: senders are told as they asked."""

    by: str
    reason: str = ""
    connector: str = ""
    again: bool = False
    dsn: bool = False


class Draft(NamedTuple):
    """A message to be made. name: of its body in incoming/; rcpt: recipients of the old one; seq: of its next event."""

    number: int
    day: str
    head: Head
    rcpt: tuple[int, ...]
    seq: int
    name: str


class Replays:
    """Carries the verb out."""

    def __init__(self, core: Scheduler, storage: Storage, numbers: Numbers, arrivals: Arrivals) -> None:
        self._core = core
        self._storage = storage
        self._numbers = numbers
        self._arrivals = arrivals
        self._disk = storage.store.disk
        self._turn = asyncio.Lock()
        self._maker = incoming.maker_here(0)
        self._serial = 0

    async def replay(self, names: Sequence[str], wish: Wish) -> AsyncIterator[Mapping[str, object] | Answer]:
        """Lines: ID (the name as it was given), Result (`replayed`, `gone`, `skipped`), NewID, Why."""
        wanted = _scopes(names)
        done = gone = skipped = 0
        why = ""
        async with self._turn:
            for chunk in _chunks(list(wanted.items())):
                closed = self._arrivals.closed_to_servers
                if closed is not None:
                    yield Answer(status=NOT_NOW, text=f"{done:,} replayed; no mail is taken in now: {closed}")
                    return
                async for line in settle(self._storage):
                    if not isinstance(line, Answer):
                        yield line
                    elif line.status:
                        yield line
                        return
                for number, found in await self._made(dict(chunk), wish):
                    line = {"ID": queue_id.text(number)}
                    if isinstance(found, int):
                        done += 1
                        line |= {"Result": RESULTS["replay"], "NewID": queue_id.text(found)}
                    elif found:
                        skipped, why = skipped + 1, found
                        line |= {"Result": SKIPPED, "Why": found}
                    else:
                        gone += 1
                        line |= {"Result": GONE}
                    for hop in wanted[number] or {""}:
                        yield line | {"ID": f"{hop}\\{line['ID']}" if hop else line["ID"]}
        yield _sentence(done, gone, skipped, why)

    async def _made(self, wanted: dict[int, set[str]], wish: Wish) -> list[tuple[int, int | str]]:
        """Of each the ID of the new message, "" when it is not kept, or why it is not replayed."""
        loop = asyncio.get_running_loop()
        names = {number: self._name() for number in wanted}
        drafts = await loop.run_in_executor(None, _drafts, self._disk, wanted, names, wish)
        begun = [(number, draft if isinstance(draft, str) else self._begin(draft, wish)) for number, draft in drafts]
        out: list[tuple[int, int | str]] = []
        for number, one in begun:
            if isinstance(one, str):
                out.append((number, one))
                continue
            put, told, draft = one
            await told.durable
            self._durable(put, draft, wish)
            out.append((number, put.id))
        return out

    def _name(self) -> str:
        self._serial += 1
        return incoming.name(self._maker, self._serial)

    def _begin(self, draft: Draft, wish: Wish) -> tuple[Put, Told, Draft]:
        """The one record."""
        number = self._storage.store.new_id(time.time())
        name, now = queue_id.text(number), moment.as_text(time.time())
        put = Put(number, head_line(name, draft.head.sha256, head_tail(draft.head)), None, incoming=draft.name)
        self._arrivals.name(draft.name)
        operations: list[Operation] = [put]
        everybody = recipients.as_text(range(len(draft.rcpt)))
        if wish.connector:
            seq = self._numbers.next(number)
            sent = Redirected(seq=seq, at=now, rcpt=everybody, by=wish.by, reason=wish.reason, connector=wish.connector)
            operations.append(Append(number, seq, event_line(sent)))
        rcpt = recipients.as_text(draft.rcpt)
        event = Replayed(seq=draft.seq, at=now, rcpt=rcpt, by=wish.by, reason=wish.reason, child=name)
        operations.append(Mark(draft.number, draft.seq, event_line(event), draft.day))
        told = Told()
        self._storage.add(operations, told)
        self._arrivals.fresh.keep(number, put.line, b"")
        return put, told, draft

    def _durable(self, put: Put, draft: Draft, wish: Wish) -> None:
        """It is known to all from here on."""
        now, count = time.monotonic(), len(draft.rcpt)
        urgency = priority.of(draft.head.priority)
        tell_of_a_child(put.line)
        old, new = queue_id.text(draft.number), queue_id.text(put.id)
        how = wish.connector or None
        mail.tell("replay", old, child=new, connector=how, by=wish.by, reason=wish.reason or None)
        if not wish.connector:
            self._core.accepted(put.id, count, now, urgency)
            return
        parts = [
            Part(rcpt, _SUBMISSION, 1, 0.0, forced=wish.connector, priority=urgency)
            for rcpt in portions(all_recipients(count))
        ]
        self._core.loaded(put.id, parts, now)


# --- in a thread -----------------------------------------------------------------------------------------------------


def _drafts(
    disk: Disk, wanted: Mapping[int, set[str]], names: Mapping[int, str], wish: Wish
) -> list[tuple[int, Draft | str]]:
    """Of each message what is to be made of it; its body has the name in incoming/ then, durably."""
    found: list[tuple[int, Draft | str]] = []
    linked = False
    for number, scopes in wanted.items():
        draft = _draft(disk, number, scopes, names[number], wish)
        if isinstance(draft, Draft):
            draft = _link(disk, draft)
            linked = linked or isinstance(draft, Draft)
        found.append((number, draft))
    if linked:
        disk.sync_folder(incoming.FOLDER)
    return found


def _link(disk: Disk, draft: Draft) -> Draft | str:
    """No link is followed, and a body that is not as long as it was is none."""
    body = layout.body(draft.number, layout.kept_on(draft.day))
    status = disk.status(body)
    if status is None:
        return ""
    if status.st_size != draft.head.size:
        return f"its body has {status.st_size} bytes, and had {draft.head.size}"
    try:
        disk.link(body, f"{incoming.FOLDER}/{draft.name}")
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"its body cannot be linked: {error.strerror}"
    return draft


def _draft(disk: Disk, number: int, scopes: set[str], name: str, wish: Wish) -> Draft | str:
    """ "": it is not kept."""
    day = net_look.day_of(disk, number)
    folded = None
    with contextlib.suppress(FileNotFoundError):
        folded = fold(disk.read(layout.envelope(number, layout.kept_on(day)))) if day else None
        if day and folded is None:
            return "its envelope is damaged"
    if folded is None:
        return ""
    head, state, events = folded
    if head.replayed and net_look.day_of(disk, queue_id.parse(head.replayed)):
        return f"it is a replay itself, of {head.replayed}, which is kept too"
    meant = [index for index, end in sorted(state.done.items()) if isinstance(end, Delivered)]
    if scopes:
        meant = [index for index in meant if state.hop[index] in scopes]
    if not meant:
        return "it was not delivered that way" if scopes else "it was delivered to nobody"
    if not wish.again:
        before = {index: one for one in events if isinstance(one, Replayed) for index in recipients.from_text(one.rcpt)}
        fresh = [index for index in meant if index not in before]
        if not fresh:
            last = before[meant[-1]]
            return f"it was replayed already, as {last.child} at {last.at}: --again replays it once more"
        meant = fresh
    return Draft(number, day, _head(head, meant, wish), tuple(meant), state.next_seq, name)


def _head(head: Head, meant: Sequence[int], wish: Wish) -> Head:
    """That of the new message: who it is from, what was asked for, and how it came are the old one's."""
    return msgspec.structs.replace(
        head,
        created=moment.as_text(time.time()),
        recipients=[head.recipients[index] for index in meant],
        source=msgspec.structs.replace(head.source, how=HOW, file="", inode=0, mtime_ns=0),
        took=0,
        replayed=head.id,
        quiet=not wish.dsn,
    )


# --- words -----------------------------------------------------------------------------------------------------------


def _scopes(names: Sequence[str]) -> dict[int, set[str]]:
    """ID -> next hops by whose deliveries recipients are meant, empty for all."""
    wanted: dict[int, set[str]] = {}
    whole: set[int] = set()
    for text in names:
        hop, _, name = text.rpartition("\\")
        number = queue_id.parse(name)
        scopes = wanted.setdefault(number, set())
        if hop:
            scopes.add(hop)
        else:
            whole.add(number)
    return {number: set() if number in whole else scopes for number, scopes in wanted.items()}


def _chunks(wanted: list[tuple[int, set[str]]]) -> Iterator[list[tuple[int, set[str]]]]:
    for at in range(0, len(wanted), CHUNK):
        yield wanted[at : at + CHUNK]


def _sentence(done: int, gone: int, skipped: int, why: str) -> Answer:
    text = f"{done:,} {'message' if done == 1 else 'messages'} replayed"
    if gone:
        text += f"; {gone:,} not in the safety net (any more)"
    if skipped:
        text += f"; {skipped:,} skipped" + (f": {why}" if skipped == 1 else "")
    return Answer(status=DONE if done else REFUSED, text=text)
