"""A spool full of mail that waits: the files that kmq itself would have made, written while kmqd is stopped.

Each message has one recipient, one attempt behind it, and the time of its next one. The IDs are those of the last hour,
or of as long as so much mail would have taken, below all that kmqd issues from now on. Each processor writes a part.
"""

import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kmq.model import queue_id
from kmq.model.envelope import Head, Recipient, Source, event_line, head_line, head_tail
from kmq.model.event import Deferred, Routed
from kmq.model.hop import DeliveryType, NextHop
from kmq.model.moment import as_text
from kmq.spool import layout
from kmq.spool.disk import Disk

#: Messages that came in one second.
PER_SECOND = 100
REPLY = "451 4.7.1 Greylisted, come back later"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What lies in the spool. domain: of message n; wait: seconds until its next attempt, 0 for at once."""

    messages: int
    domain: Callable[[int], str]
    wait: Callable[[int], int]
    connector: str = "world"


def fill(spool: Path, waiting: Waiting) -> list[str]:
    """Writes the files of all of it below a spool that kmqd has made; their IDs."""
    begun = int(time.time()) - max(3600, waiting.messages // PER_SECOND + 60)
    numbers = [(begun + n // PER_SECOND) << 32 | (n + 1) for n in range(waiting.messages)]
    disk = Disk(spool)
    for folder in sorted({layout.folder(number) for number in numbers}):
        disk.make_folder(folder)
    disk.close()
    parts = os.cpu_count() or 1
    fork = multiprocessing.get_context("fork")  # what mail waits for is told by functions
    writers = [fork.Process(target=_fill, args=(spool, waiting, numbers, part, parts)) for part in range(parts)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    if any(writer.exitcode for writer in writers):
        raise RuntimeError(f"{spool} could not be filled")
    return [queue_id.text(number) for number in numbers]


def _fill(spool: Path, waiting: Waiting, numbers: list[int], part: int, parts: int) -> None:
    disk = Disk(spool)
    for n in range(part, len(numbers), parts):
        _write(disk, layout.stem(numbers[n]), *_message(numbers[n], n, waiting))
    disk.close()


def _message(number: int, n: int, waiting: Waiting) -> tuple[bytes, bytes]:
    """(envelope, body)"""
    name = queue_id.text(number)
    domain = waiting.domain(n)
    came = as_text(queue_id.created(number))
    sender, address = f"user{n % 50}@bench.test", f"rcpt{n % 1000}@{domain}"
    text = f"Received: from bench by kmq.bench.test with ESMTP id {name}\r\nFrom: <{sender}>\r\nTo: <{address}>\r\n"
    body = f"{text}Subject: message {n}\r\n\r\n{'x' * (n * 37 % 900)}\r\n".encode()
    source = Source("smtp", f"192.0.2.{n % 250}", "bench", "", "bench")
    head = Head(name, "", came, sender, [Recipient(address)], len(body), source)
    hop = str(NextHop(DeliveryType.DNS, domain, waiting.connector))
    until = as_text(time.time() + waiting.wait(n)) if waiting.wait(n) else ""
    lines = [
        head_line(name, hashlib.sha256(body).hexdigest(), head_tail(head)),
        event_line(Routed(1, came, "0", hop, "bench")),
        event_line(Deferred(2, came, "0", 1, REPLY, f"mx.{domain} [127.0.0.1]", until)),
    ]
    return b"\n".join(lines), body


def _write(disk: Disk, stem: str, envelope: bytes, body: bytes) -> None:
    for ending, text in ((".eml", body), (".env", envelope)):
        fd = disk.create(stem + ending)
        disk.write(fd, text)
        disk.close_file(fd)
