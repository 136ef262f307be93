"""What the tests of local delivery share: messages, connectors, and a run of Mailbox in a folder."""

import asyncio
from hashlib import sha256
from pathlib import Path
from typing import Any

from kmq.config.sections import ConnectorSection
from kmq.model.envelope import Head, Recipient
from kmq.model.hop import DeliveryType, NextHop
from kmq.phases.allotment import Allotment
from kmq.phases.local_delivery import LocalDelivery
from kmq.phases.mailbox import Mailbox
from kmq.phases.smtp import Smtp
from kmq.phases.work import Body, Outcome, Work
from tests.phases.sending import LOOPS

HOP = NextHop(DeliveryType.MAILBOX, "here.test", "local")
ID = "69212ad0-0000a1f3"
TEXT = b"Subject: x\r\n\r\nhello\r\n.dot\r\nend\r\n"
TRACE = b"Return-Path: <sender@kmq.test>\nDelivered-To: %b\nX-Original-To: %b\n"


def section(
    root: Path, users: str | tuple[str, ...] = "*", template: str = "{user}", **options: Any
) -> ConnectorSection:
    return ConnectorSection(name="local", type="mailbox", helo="", maildir=f"{root}/{template}", users=users, **options)


def local(kind: str, users: str | tuple[str, ...] = "*", **options: Any) -> ConnectorSection:
    """A connector of one of the types that serve local domains."""
    return ConnectorSection(name="local", type=kind, helo="", users=users, **options)


def work(*to: str, text: bytes = TEXT, file: Path | None = None, **more: Any) -> Work:
    edits = more.pop("edits", ())
    head = Head(
        id=more.pop("id", ID),
        sha256=sha256(text).hexdigest(),
        created="2026-11-22T05:50:11.123Z",
        sender=more.pop("sender", "sender@kmq.test"),
        recipients=[Recipient(address) for address in to],
        size=len(text),
        **more,
    )
    if file is not None:
        file.write_bytes(text)
    return Work(head, Body(None if file else text, str(file or ""), len(text)), tuple(range(len(to))), HOP, 1, edits)


def deliver(connector: ConnectorSection, *works: Work) -> list[Outcome]:
    """All of them at once, with a Mailbox of its own, as a worker that was started anew has one."""

    async def play() -> list[Outcome]:
        phase = Mailbox({"local": connector}, "mx.here.test")
        assert phase.ready(HOP)
        futures = []
        for one in works:
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            phase.deliver(one, future.set_result, lambda *_: None)
            futures.append(future)
        async with asyncio.timeout(20):
            found = await asyncio.gather(*futures)
        await phase.close(1)
        return list(found)

    return list(LOOPS["uvloop"](play()))


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() or path.is_symlink())


NAME = f"{ID}.0.mx.here.test"


def locally(connector: ConnectorSection, *works: Work, patience: float = 20) -> list[Outcome]:
    """As `deliver`, whatever type the connector has."""

    async def play() -> list[Outcome]:
        sections = {"local": connector}
        smtp = Smtp(sections, "mx.here.test", Allotment(5))
        phase = LocalDelivery(sections, "mx.here.test", smtp, Allotment(5))
        futures = []
        for one in works:
            future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            phase.deliver(one, future.set_result, lambda *_: None)
            futures.append(future)
        async with asyncio.timeout(patience):
            found = await asyncio.gather(*futures)
        await asyncio.gather(phase.close(1), smtp.close(1))
        return list(found)

    return list(LOOPS["uvloop"](play()))
