"""A real kmqd, a server of the other side that can be as evil as it likes, and somebody who sends mail."""

import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes import EvilHop
from tests.torture.kmqd import Kmqd

SENDER = "alice@local.test"


class World:
    """far.test is served by `hop`, local.test by mailboxes. tokens: of the messages that were answered with 250."""

    def __init__(self, kmqd: Kmqd, hop: EvilHop) -> None:
        self.kmqd, self.hop = kmqd, hop
        self.tokens: list[str] = []
        self._number = 0
        self._logged = 0

    def forget(self) -> None:
        """A test begins: what came before is another's."""
        self.hop.copies.clear()
        self.hop.messages.clear()
        self.hop.commands.clear()
        self.tokens.clear()
        self._logged = len(self.kmqd.log)

    @property
    def log(self) -> str:
        """What was logged since the test began."""
        return self.kmqd.log[self._logged :]

    def client(self, seconds: float = 30) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.kmqd.port, timeout=seconds)

    def send(self, to: str = "bob@far.test", size: int = 0) -> str:
        """One message; the last reply, `250 2.0.0 ...`. What was answered with 250 must arrive."""
        self._number += 1
        token = f"<{self._number}.{to}>"
        text = f"Message-ID: {token}\r\nSubject: x\r\n\r\n".encode() + b"0123456789abcdef\r\n" * (1 + size // 18)
        with self.client() as client:
            client.ehlo()
            for code, words in (client.mail(SENDER), client.rcpt(to)):
                if code != 250:
                    return f"{code} {words.decode()}"
            try:
                code, words = client.data(text)
            except smtplib.SMTPDataError as refused:  # the word DATA was refused already
                return f"{refused.smtp_code} {refused.smtp_error.decode()}"
        if code == 250:
            self.tokens.append(token)
        return f"{code} {words.decode()}"

    def hang_up(self) -> None:
        """The other side closes its connections."""
        assert self.hop._server is not None
        self.hop._server.get_loop().call_soon_threadsafe(self.hop.drop_idle)

    def copies(self) -> dict[str, int]:
        """Token -> how often the other side was given it."""
        return {key: count for (_, key), count in self.hop.copies.items()}

    def each_once(self, seconds: float = 60) -> None:
        """All that was answered with 250 has arrived, once, and nothing is left."""
        self.kmqd.drain(seconds)
        copies = self.copies()
        assert {token: copies.get(token, 0) for token in self.tokens} == dict.fromkeys(self.tokens, 1)
        assert self.kmqd.accidents() == []


@contextmanager
def world(folder: Path, start: bool = True, **settings: Any) -> Iterator[World]:
    """settings: of Kmqd."""
    with EvilHop().threaded() as hop:
        settings.setdefault("workers", 1)
        kmqd = Kmqd(folder, hops={"far.test": hop.port}, **settings)
        try:
            if start:
                kmqd.start()
            yield World(kmqd, hop)
        finally:
            kmqd.close()
