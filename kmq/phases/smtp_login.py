"""Logging in to a server (RFC 4954): the exchange of challenges and answers, over a connection that is open.

Promise:  every exchange ends: its commands have the time of EHLO, and there are a few at most. A reply tells which way
          was taken and what the server said; no secret is ever part of it. What is refused for good by one way is tried
          by the next one that both know, but a password that was seen and refused is not shown again.
On crash: nothing is kept.
Callers:  phases.smtp_opening.
"""

import base64
import binascii
from typing import NamedTuple, Protocol

from kmq.model.reply import Reply
from kmq.phases.mechanisms import Mechanism, Secret, begin, choose
from kmq.phases.replies import as_reply

#: Challenges of one exchange; LOGIN has two.
ROUNDS = 4
#: Bytes of a command with its end (RFC 5321 4.5.3.1.4); what is longer waits for an empty challenge (RFC 4954 4).
COMMAND_LIMIT = 512

_GO_ON = 334
_WRONG = 535
_SHOWN = ("plain", "login")


class Response(Protocol):
    """What a server said; a message of many lines is joined by LF."""

    @property
    def code(self) -> int: ...

    @property
    def message(self) -> str: ...


class Client(Protocol):
    """The connection, as aiosmtplib has it."""

    @property
    def server_auth_methods(self) -> list[str]: ...

    @property
    def is_connected(self) -> bool: ...

    async def execute_command(self, *args: bytes, timeout: float) -> Response: ...


class Wish(NamedTuple):
    """How a connector wants to log in. way: `auto`, or the name of one."""

    way: str
    secret: Secret
    secured: bool
    patience: float


class Refused(NamedTuple):
    """The server's last word. way: how it was asked; told: what else it said of it."""

    way: str
    said: Reply
    told: str

    def __str__(self) -> str:
        return f"AUTH {self.way.upper()}: {self.told}" if self.told else f"AUTH {self.way.upper()}"


async def log_in(client: Client, wish: Wish) -> Reply | None:
    """Logs in; None when the server has taken it, else why not, as a temporary trouble of ours."""
    offered = client.server_auth_methods
    ways = choose(wish.way, offered, wish.secret, wish.secured)
    if not ways:
        return _no_way(wish, offered)
    refusals: list[Refused] = []
    for way in ways:
        refusal = await _attempt(client, way, wish)
        if refusal is None:
            return None
        refusals.append(refusal)
        if not refusal.said.permanent or not client.is_connected or _is_final(refusal):
            break
    return _told(refusals)


def _is_final(refusal: Refused) -> bool:
    """The password itself was seen and is wrong: to show it in other words is one failed login more."""
    return refusal.way in _SHOWN and refusal.said.code == _WRONG


async def _attempt(client: Client, way: str, wish: Wish) -> Refused | None:
    mechanism = begin(way, wish.secret)
    response = await _ask(client, way, mechanism, wish.patience)
    for _ in range(ROUNDS):
        if response.code != _GO_ON:
            break
        response = await client.execute_command(_answer(mechanism, response.message), timeout=wish.patience)
    if 200 <= response.code < 300:
        return None
    said = as_reply(response.code, response.message.encode("utf-8", "surrogateescape"))
    return Refused(way, said, mechanism.told)


async def _ask(client: Client, way: str, mechanism: Mechanism, patience: float) -> Response:
    words = [b"AUTH", way.upper().encode()]
    if mechanism.first is not None:
        first = base64.b64encode(mechanism.first)
        if len(b" ".join([*words, first])) + 2 <= COMMAND_LIMIT:
            mechanism.first = None
            words.append(first)
    return await client.execute_command(*words, timeout=patience)


def _answer(mechanism: Mechanism, message: str) -> bytes:
    """The line that answers a challenge; `*` when it makes no sense."""
    try:
        challenge = base64.b64decode(message.strip(), validate=True)
    except (binascii.Error, ValueError):
        if mechanism.first is None:
            return b"*"
        challenge = b""  # some say words where nothing is meant to stand
    found = mechanism.answer(challenge)
    return b"*" if found is None else base64.b64encode(found)


def _no_way(wish: Wish, offered: list[str]) -> Reply:
    offers = ", ".join(one.upper() for one in offered) or "none"
    if not wish.secured and choose(wish.way, offered, wish.secret, True):
        return Reply(451, "4.7.11", "no password goes over a connection without TLS")
    wanted = "" if wish.way == "auto" else f" by {wish.way.upper()}"
    return Reply(451, "4.7.4", f"the server offers no way to log in{wanted} that is known and wanted here ({offers})")


def _told(refusals: list[Refused]) -> Reply:
    """The last refusal as others tell theirs (`said: 535 ..`), and those before it."""
    *before, last = refusals
    others = "".join(f"; {one}: {one.said}" for one in before)
    return Reply(451, "4.4.0", f"said: {last.said} ({last}{others})")
