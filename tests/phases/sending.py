"""What the tests of SMTP delivery share: messages, connectors, and a run of Smtp against a server."""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import uvloop

from kmq.config.sections import ConnectorSection
from kmq.model import recipients
from kmq.model.envelope import Head, Recipient
from kmq.model.event import Deferred, Delivered, Failed
from kmq.model.hop import DeliveryType, NextHop
from kmq.phases.allotment import Allotment
from kmq.phases.smtp import Smtp
from kmq.phases.work import Body, Outcome, Work
from tests.fakes import EvilHop

HOP = NextHop(DeliveryType.SMART_HOST, "evil.test", "isp")
TEXT = b"Message-ID: <1@kmq.test>\r\nSubject: x\r\n\r\nhello\r\n"

#: What happens between a running hop and an Smtp that knows it.
Story = Callable[[EvilHop, Smtp], Awaitable[None]]

#: Both loops: kmq runs on uvloop, and must not lean on what only one of them does.
LOOPS: dict[str, Callable[[Any], Any]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


def section(*hosts: tuple[str, int], **options: Any) -> ConnectorSection:
    """A smart-host connector; short patience, so that a test of a silent server is over soon."""
    quick = dict.fromkeys(("connect_timeout", "greeting_timeout", "ehlo_timeout"), 2.0)
    return ConnectorSection(name="isp", type="smarthost", helo="kmq.test", hosts=hosts, **(quick | options))


def head(*to: str, text: bytes = TEXT, sender: str = "sender@kmq.test", **more: Any) -> Head:
    return Head(
        id="69212ad0-0000a1f3",
        sha256=sha256(text).hexdigest(),
        created="2026-11-22T05:50:11.123Z",
        sender=sender,
        recipients=[Recipient(address) for address in to],
        size=len(text),
        dots=text.startswith(b".") or b"\r\n." in text,
        eight_bit=not text.isascii(),
        **more,
    )


def work(*to: str, text: bytes = TEXT, file: Path | None = None, attempt: int = 1, **more: Any) -> Work:
    """A message to these recipients; with `file` its body lies there and is read in pieces."""
    made = head(*to, text=text, **more)
    if file is not None:
        file.write_bytes(text)
    body = Body(None if file else text, str(file or ""), len(text))
    return Work(made, body, tuple(range(len(to))), HOP, attempt)


def smtp(connector: ConnectorSection, connections: int = 5) -> Smtp:
    return Smtp({"isp": connector}, "kmq.test", Allotment(connections))


def send(phase: Smtp, one: Work, shown: list[tuple[str, int]] | None = None) -> "asyncio.Future[Outcome]":
    """Hands a message over; the future is what was reported, and fails when that happens twice."""
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    phase.deliver(
        one, future.set_result, lambda server, percent: shown.append((server, percent)) if shown is not None else None
    )
    return future


async def outcome(phase: Smtp, one: Work) -> Outcome:
    async with asyncio.timeout(10):
        return await send(phase, one)


def results(found: Outcome) -> dict[int, tuple[str, str]]:
    """recipient -> (kind of event, reply)."""
    out: dict[int, tuple[str, str]] = {}
    for event in found.events:
        assert isinstance(event, Delivered | Failed | Deferred)
        for index in recipients.from_text(event.rcpt):
            assert index not in out, "two results for one recipient"
            out[index] = type(event).__name__, event.reply
    return out


def kinds(found: Outcome) -> str:
    """`DFd`: the results in order of the recipients as letters: Delivered D, Failed F, deferred d."""
    letters = {"Delivered": "D", "Failed": "F", "Deferred": "d"}
    return "".join(letters[kind] for _, (kind, _) in sorted(results(found).items()))


def against(
    hop: EvilHop, story: Story, run: Callable[[Any], Any] = LOOPS["uvloop"], connections: int = 5, **options: Any
) -> None:
    """Plays a story with a running hop and an Smtp that knows it; nothing may be left over at the end."""

    async def play() -> None:
        trouble: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))
        async with hop:
            phase = smtp(section(hop.address, **options), connections)
            async with asyncio.timeout(20):
                await story(hop, phase)
            await phase.close(2)
            await until(lambda: hop.open == 0, "all connections closed")
        assert not trouble, trouble

    run(play())


async def until(true: Callable[[], object], what: str, seconds: float = 10) -> None:
    """Gives the loop its turns until `true()` is; AssertionError `what` after `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not true():
        assert loop.time() < deadline, f"waited {seconds} s in vain: {what}"
        await asyncio.sleep(0.002)
