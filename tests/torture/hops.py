"""Next hops and mailboxes, and how their copies are found.

Debian's smtp-sink writes each message that it has whole to a file (and only those), before it answers; one of them
thinks long, one refuses every recipient. EvilHop defers. So what the other side has is known whatever kmq believes.
Each worker comes from an address of its own (within/whose), so it is known who brought a copy.
"""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes import EvilHop, Received
from tests.postfix import Postfix
from tests.torture.kmqd import Kmqd
from tests.torture.ledger import LOCAL, REFUSING, Copy, Ledger
from tests.torture.letters import is_notice, notice, read
from tests.torture.within.whose import process_at
from tests.waiting import free_port

FAR = "far.test"  #: its hop takes everything
LATE = "late.test"  #: its hop thinks for a second before it answers the final dot
SLOW = "slow.test"  #: its hop defers those whose address says so, and other things that EvilHop knows

_RECIPIENT = re.compile(rb"^X-Rcpt-Args: <([^>]*)>", re.MULTILINE)
_CLIENT = re.compile(rb"^X-Client-Addr: (\S+)", re.MULTILINE)


class Noted(list[Received]):
    """Messages, and when the hop had read each."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def append(self, message: Received) -> None:
        self.times.append(time.time())
        super().append(message)


class World:
    """What lies around one kmqd. hops: domain -> port, as Kmqd has it."""

    def __init__(self, dump: Path, slow: Noted, hops: dict[str, int]) -> None:
        self.hops = hops
        self._dump = dump
        self._slow = slow

    def gather(self, kmqd: Kmqd, ledger: Ledger) -> None:
        """Writes all copies and notices into the ledger, in place of what it had."""
        ledger.copies = [*self._dumped(), *self._noted()]
        ledger.notices = []
        for path in kmqd.mail.glob("*/new/*"):
            text = path.read_bytes()
            if is_notice(text):
                ledger.notices.append(notice(text))
            else:
                found = read(text)
                user = path.parts[-3]
                ledger.copies.append(Copy(found.token, f"{user}@{LOCAL}", found.whole, path.stat().st_mtime))

    def _dumped(self) -> Iterator[Copy]:
        for path in self._dump.iterdir():
            text = path.read_bytes()
            found = read(text)
            at = path.stat().st_mtime
            header = text.partition(b"\n\n")[0]
            client = _CLIENT.search(header)
            by = process_at(client[1].decode()) if client else 0
            for recipient in _RECIPIENT.findall(header):
                yield Copy(found.token, recipient.decode(), found.whole, at, by)

    def _noted(self) -> Iterator[Copy]:
        for message, at in zip(self._slow, self._slow.times, strict=True):
            found = read(message.body)
            for recipient in message.recipients:
                yield Copy(found.token, recipient, found.whole, at, process_at(message.client))


@contextmanager
def world(postfix: Postfix) -> Iterator[World]:
    """All hops, while the block runs."""
    dump = Path(tempfile.mkdtemp(prefix="kmq-hop."))
    dump.chmod(0o777)  # smtp-sink writes as nobody
    far, late, refusing = free_port(), free_port(), free_port()
    noted = Noted()
    slow = EvilHop(messages=noted)
    try:
        with (
            postfix.sink(far, "-d", f"{dump}/%H%M%S."),
            postfix.sink(late, "-d", f"{dump}/late.%H%M%S.", "-W", ".:1"),
            postfix.sink(refusing, "-f", "RCPT"),
            slow.threaded(),
        ):
            yield World(dump, noted, {FAR: far, LATE: late, REFUSING: refusing, SLOW: slow.port})
    finally:
        shutil.rmtree(dump)
