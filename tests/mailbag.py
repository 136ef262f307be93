"""A spool with messages as kmqd would have written them, for tests that look at one."""

import hashlib
from pathlib import Path
from typing import Any

from kmq.model import queue_id
from kmq.model.envelope import Head, Recipient, Source, event_line, head_line, head_tail
from kmq.model.event import Event

CREATED = "2026-11-22T05:50:11.000Z"
BODY = b"Received: from a\r\n\tby b\r\nSubject: hello\r\nFrom: alice@example.org\r\n\r\nGood day.\r\n"


class Mailbag:
    """Messages laid into the folders below `spool`, one after the other."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self._last = queue_id.parse("69212ad0-00000000")
        for name in ("queue", "poison", "status", "run"):
            (spool / name).mkdir(parents=True, exist_ok=True)

    def lay(
        self,
        *events: Event,
        sender: str = "alice@example.org",
        to: tuple[str | Recipient, ...] = ("bob@example.net",),
        home: str = "queue",
        body: bytes = BODY,
        source: Source | None = None,
        created: str = CREATED,
        **more: Any,
    ) -> str:
        """One message with its history (numbered here); its ID. more: of the head."""
        self._last = queue_id.following(self._last, 0x69212AD0)
        head = Head(
            id="",
            sha256="",
            created=created,
            sender=sender,
            recipients=[one if isinstance(one, Recipient) else Recipient(one) for one in to],
            size=len(body),
            source=source or Source("smtp", "192.0.2.7", "client.example.org", "", "mx"),
            **more,
        )
        name = queue_id.text(self._last)
        lines = [head_line(name, hashlib.sha256(body).hexdigest(), head_tail(head))]
        for seq, event in enumerate(events, 1):
            event.seq = seq
            event.at = event.at or CREATED
            lines.append(event_line(event))
        folder = self.folder(name, home)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.env").write_bytes(b"\n".join(lines))
        (folder / f"{name}.eml").write_bytes(body)
        return name

    def folder(self, name: str, home: str = "queue") -> Path:
        """Where the files of a message are."""
        return (
            self.spool / "queue" / queue_id.generation(queue_id.parse(name)) if home == "queue" else self.spool / home
        )

    def envelope(self, name: str, home: str = "queue") -> Path:
        """The envelope's file."""
        return self.folder(name, home) / f"{name}.env"
