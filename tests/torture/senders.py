"""The ledger client: SMTP over several connections, and a note of every promise that it is given.

A letter whose answer does not come is not sent again (that would be the sender's repetition, not kmq's); its
connection is opened anew. So each token is said to kmq at most once.
"""

import asyncio
import contextlib
import itertools
import re
from random import Random

from tests.torture import letters
from tests.torture.hops import FAR, LATE, SLOW
from tests.torture.ledger import LOCAL, REFUSING, Ledger, Sent

_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{8}")

SMALL = (300, 4000)
LARGE = (70_000, 300_000)


class Mix:
    """What is sent to whom: seeded, so that a run can be made again."""

    def __init__(self, chance: Random, large: float = 0.04) -> None:
        self._chance = chance
        self._large = large

    def recipients(self, token: str) -> list[str]:
        """One or several, at one hop or at several."""
        chance = self._chance
        far, local = f"one-{token}@{FAR}", f"user{chance.randrange(4)}@{LOCAL}"
        lingering = f"slow-at-dot.{token}@{SLOW}"  # its hop answers the final dot letter by letter
        kinds = {
            (far,): 40,
            (lingering,): 6,
            (f"one-{token}@{LATE}",): 4,
            (local,): 14,
            (f"450-at-rcpt-1.{token}@{SLOW}",): 4,
            (f"nobody@{REFUSING}",): 4,
            (far, f"two-{token}@{FAR}", lingering): 10,
            (far, local, f"nobody@{REFUSING}"): 8,
            (f"one-{token}@{SLOW}", local): 6,
            (f"421-at-mail-1.{token}@{SLOW}", far): 2,
        }
        return list(chance.choices(list(kinds), list(kinds.values()))[0])

    def letter(self, token: str) -> bytes:
        bounds = LARGE if self._chance.random() < self._large else SMALL
        return letters.write(token, self._chance.randint(*bounds), self._chance)


class Refused(Exception):
    """The server said no, or nothing."""


class Senders:
    """So many connections that send as long as `allowance` is left.

    allowance: letters that may still be begun; whoever raises it says `go`.
    """

    def __init__(self, port: int, ledger: Ledger, mix: Mix, prefix: str = "t", connections: int = 8) -> None:
        self.allowance = 0
        self.refused = 0
        self.broken = 0
        self._port = port
        self._ledger = ledger
        self._mix = mix
        self._prefix = prefix
        self._count = itertools.count()
        self._more = asyncio.Event()
        self._closing = False
        self._tasks = [asyncio.create_task(self._keep_sending()) for _ in range(connections)]

    def go(self, letters: int) -> None:
        """So many more."""
        self.allowance += letters
        self._more.set()

    async def done(self, seconds: float = 120) -> None:
        """Returns when all that was allowed is sent, and its answers came or will not come."""
        self._closing = True
        self._more.set()
        async with asyncio.timeout(seconds):
            await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_sending(self) -> None:
        while await self._may_send():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            try:
                await self._session(reader, writer)
            except (OSError, EOFError, asyncio.IncompleteReadError, Refused):
                self.broken += 1
                await asyncio.sleep(0.01)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _may_send(self) -> bool:
        while self.allowance <= 0:
            if self._closing:
                return False
            self._more.clear()
            await self._more.wait()
        return True

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reply(reader, b"220")
        writer.write(b"EHLO sender.test\r\n")
        await _reply(reader, b"250")
        while await self._may_send():
            self.allowance -= 1
            await self._send(reader, writer)
        writer.write(b"QUIT\r\n")
        await _reply(reader, b"221")

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        token = f"{self._prefix}{next(self._count):011x}"
        recipients = self._mix.recipients(token)
        text = self._mix.letter(token)
        commands = [b"MAIL FROM:<sender@local.test>", *(b"RCPT TO:<%b>" % one.encode() for one in recipients), b"DATA"]
        writer.write(b"\r\n".join(commands) + b"\r\n")
        for _ in commands[:-1]:
            await _reply(reader, b"250")
        await _reply(reader, b"354")
        sent = self._ledger.sent[token] = Sent(recipients)
        writer.write(text.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        await writer.drain()
        answer = await _line(reader)
        found = _ID.search(answer)
        if answer.startswith(b"250") and found:
            sent.answered = found[0].decode()
        else:
            self.refused += 1
            raise Refused(answer)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The last line of a reply; the server has a minute."""
    async with asyncio.timeout(60):
        while True:
            line = await reader.readline()
            if not line:
                raise EOFError
            if line[3:4] != b"-":
                return line


async def _reply(reader: asyncio.StreamReader, wanted: bytes) -> None:
    line = await _line(reader)
    if not line.startswith(wanted):
        raise Refused(line)
