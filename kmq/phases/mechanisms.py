"""Ways to log in to a server, without the wire: what a client says first, and what it answers to a challenge.

Sources:  PLAIN RFC 4616; LOGIN draft-murchison-sasl-login; CRAM-MD5 RFC 2195; XOAUTH2 Google's "OAuth 2.0 Mechanism"
          (its error is a challenge with JSON, answered with an empty line, upon which the server refuses).
Promise:  pure. A challenge that has no answer is told from one that has: None gives up (RFC 4954 4: `*`).
Callers:  phases.smtp_login.
"""

import hmac
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec

from kmq.config.login import MECHANISMS
from kmq.phases.replies import printable


class Secret(NamedTuple):
    """Who logs in, and by what; "" for what he has not."""

    user: str
    password: str = ""
    token: str = ""


class Mechanism(Protocol):
    """One attempt. first: said with AUTH, None when the server speaks first; told: what it said of its refusal."""

    first: bytes | None
    told: str

    def answer(self, challenge: bytes) -> bytes | None: ...


class Plain:
    """The password itself."""

    def __init__(self, secret: Secret) -> None:
        self.first: bytes | None = f"\0{secret.user}\0{secret.password}".encode()
        self.told = ""

    def answer(self, challenge: bytes) -> bytes | None:
        """Asked for again when it was too long for the line of AUTH."""
        said, self.first = self.first, None
        return said


class Login:
    """Name and password, each when it is asked for, whatever the words."""

    first: bytes | None = None

    def __init__(self, secret: Secret) -> None:
        self._left = [secret.user.encode(), secret.password.encode()]
        self.told = ""

    def answer(self, challenge: bytes) -> bytes | None:
        return self._left.pop(0) if self._left else None


class CramMd5:
    """A digest of password and challenge: the password does not cross the line."""

    first: bytes | None = None

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._answered = False
        self.told = ""

    def answer(self, challenge: bytes) -> bytes | None:
        if self._answered:
            return None
        self._answered = True
        digest = hmac.new(self._secret.password.encode(), challenge, "md5").hexdigest()
        return f"{self._secret.user} {digest}".encode()


class XOAuth2:
    """A token that is good for a while."""

    def __init__(self, secret: Secret) -> None:
        self.first: bytes | None = f"user={secret.user}\x01auth=Bearer {secret.token}\x01\x01".encode()
        self.told = ""

    def answer(self, challenge: bytes) -> bytes | None:
        if not challenge and self.first is not None:
            said, self.first = self.first, None
            return said
        self.told = trouble_of(challenge)
        return b""


def trouble_of(challenge: bytes) -> str:
    """What a server has against a token: `status 401, schemes bearer, scope https://mail.google.com/`."""
    try:
        found = msgspec.json.decode(challenge, type=dict[str, object])
    except msgspec.DecodeError:
        return printable(challenge[:200])
    return printable(", ".join(f"{name} {value}" for name, value in found.items()).encode()[:300])


_MADE: dict[str, Callable[[Secret], Mechanism]] = {
    "plain": Plain,
    "login": Login,
    "cram-md5": CramMd5,
    "xoauth2": XOAuth2,
}


def choose(wanted: str, offered: Iterable[str], secret: Secret, secured: bool) -> list[str]:
    """The ways to be tried, one after the other. wanted: `auto` or a name; secured: the line is encrypted.

    Nothing that shows a password, or a token, is tried on a line that is not.
    """
    known = {one.lower() for one in offered}
    named = MECHANISMS if wanted == "auto" else (wanted,)
    able = [one for one in named if one in known and (secret.token if one == "xoauth2" else secret.password)]
    return [one for one in able if secured or one == "cram-md5"]


def begin(name: str, secret: Secret) -> Mechanism:
    """A fresh attempt by this way."""
    return _MADE[name](secret)
