"""More than a process has room for: a queue of many thousand files at the start, and no memory left."""

import contextlib
import hashlib
import resource
import smtplib
import time
from pathlib import Path

from kmq.model import envelope, moment, queue_id
from kmq.spool import layout
from kmq.spool.disk import Disk
from tests.faults.world import world
from tests.torture.kmqd import Kmqd
from tests.waiting import free_port, until

COUNT = 5_000
TEXT = b"Subject: waits\r\n\r\nx\r\n"


def fill(spool: Path) -> None:
    """A queue as a long outage leaves it."""
    spool.mkdir(0o750)
    disk = Disk(spool)
    layout.prepare(disk)
    first = queue_id.parse(f"{int(time.time()):08x}-00000001")
    people = [envelope.Recipient("bob@dead.test")]
    head = envelope.Head("", "", moment.as_text(queue_id.created(first)), "alice@local.test", people, len(TEXT))
    tail, digest = envelope.head_tail(head), hashlib.sha256(TEXT).hexdigest()
    for number in range(first, first + COUNT):
        path = spool / layout.body(number)
        path.parent.mkdir(0o700, exist_ok=True)
        path.write_bytes(TEXT)
        (spool / layout.envelope(number)).write_bytes(envelope.head_line(queue_id.text(number), digest, tail))


def peak(kmqd: Kmqd, name: str) -> int:
    """The most memory that the process ever had, in MiB."""
    lines = Path(f"/proc/{kmqd.children()[name]}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) >> 10


def test_a_large_queue_is_loaded_while_new_mail_flows(tmp_path: Path) -> None:
    """Rows 28 and 61: most of it goes to a host that is dead; fresh mail does not wait for it."""
    fill(tmp_path / "spool")
    with world(tmp_path / "k", start=False, spool=tmp_path / "spool", queue="message_lifetime = 90d") as here:
        here.kmqd.hops["dead.test"] = free_port()
        here.kmqd.start()
        loaded = here.kmqd.counters().get("queued", 0)
        assert here.send().startswith("250")
        until(lambda: here.copies(), "fresh mail is delivered")
        until(lambda: here.kmqd.counters().get("queued", 0) == COUNT, f"all is loaded, {loaded} at first")
        assert here.send().startswith("250")
        until(lambda: len(here.copies()) == 2, "beside thousands that wait")
        assert peak(here.kmqd, "scheduler-1") < 120
        until(lambda: len(here.kmqd.queued()) == COUNT, "only what waits is left")
        assert here.kmqd.accidents() == []


def test_a_receiver_without_memory_refuses_and_recovers(tmp_path: Path) -> None:
    """Row 12: no 250 that cannot be kept; when there is memory again, mail is taken again."""
    with world(tmp_path / "k") as here:
        assert here.send(size=50_000).startswith("250")
        pid = here.kmqd.children()["receiver-1"]
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        size = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmSize:"))
        soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
        resource.prlimit(pid, resource.RLIMIT_AS, (size, hard))
        for _ in range(5):
            with contextlib.suppress(smtplib.SMTPServerDisconnected, ConnectionError):  # no 250 either
                assert here.send(size=8 << 20)[:3] in ("250", "421", "451", "452")
        if here.kmqd.children().get("receiver-1") == pid:
            resource.prlimit(pid, resource.RLIMIT_AS, (soft, hard))
        until(lambda: here.kmqd.status("receiver-1"), "a receiver is there")
        assert here.send(size=8 << 20).startswith("250")
        here.kmqd.drain()
        assert {token: here.copies().get(token) for token in here.tokens} == dict.fromkeys(here.tokens, 1)
