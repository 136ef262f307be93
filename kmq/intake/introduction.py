"""What is the same for all messages of a client once it has said who it is: made once, and remembered, since the same
clients come again and again.

Promise:  pure. What a client calls itself is at most 255 bytes, so what is remembered is bounded.
Callers:  `reception` and `local`, at EHLO and HELO.
"""

from functools import lru_cache

import msgspec

from kmq.intake import trace
from kmq.intake.rules import Client
from kmq.log.accepted import Bringer, bringer
from kmq.model.envelope import Source


class Introduction(msgspec.Struct, frozen=True):
    """origin: our `Received:` line up to the ID; source: for the head; by: for the logs."""

    origin: bytes
    source: Source
    by: Bringer


@lru_cache(1024)
def of_server(client: Client, name: bytes, protocol: bytes, hostname: str, receiver: str) -> Introduction:
    """Of another server. name: what it calls itself; protocol: `trace.protocol`; receiver: the section."""
    helo = name.decode("ascii", "backslashreplace")
    keys = {**_address(client, helo), "proto": protocol.decode(), "receiver": receiver}
    source = Source(how="smtp", ip=client.ip, helo=helo, receiver=receiver)
    return Introduction(trace.origin(name, client.ip, hostname, protocol), source, bringer(keys))


@lru_cache(256)
def of_user(client: Client, protocol: bytes, hostname: str, receiver: str) -> Introduction:
    """Of a program of this machine, whose user the kernel names; receiver: how it comes, too."""
    keys = {"proto": receiver, "user": client.user, "receiver": receiver}
    origin = trace.local_origin(client.user, client.uid, hostname, protocol)
    return Introduction(origin, Source(how=receiver, user=client.user, receiver=receiver), bringer(keys))


@lru_cache(1024)
def of_nobody(client: Client, receiver: str) -> Introduction:
    """Before it has said anything."""
    user = {"user": client.user} if client.user else {}
    return Introduction(b"", Source(), bringer({**_address(client, ""), **user, "receiver": receiver}))


def _address(client: Client, helo: str) -> dict[str, str]:
    return {"client": client.ip, "helo": helo} if client.ip else {}
