"""Whatever strangers wrote into mail, and whatever became of an envelope: it touches no terminal."""

from typing import Any

import pytest

from kmq.model.envelope import Source
from kmq.model.event import Crashed, Deferred, Event, Moved, Routed, Suspended
from tests.cli.conftest import Place

EVIL = "\x1b]0;owned\x07\x9b2J\u202e\u2066\r\n\t\x00\x7f"
UNTIL = "2099-11-22T06:05:00.000Z"

HOPS = {
    "a smart host": "SmartHostConnectorDelivery;smtp.isp.example:587;isp",
    "an evil name": f"DnsConnectorDelivery;{EVIL}.test;isp{EVIL}",
    "nobody serves it": "Unreachable;Unreachable Domain;",
    "not routed yet": "",
}

ALL = [
    ["mailq"],
    ["mailq", "--at", "2026-11-22T13:00:00Z"],
    ["mailq", "--filter", f"Subject -eq '{EVIL}' -ad"],
    ["mailq", "--sort", EVIL],
    ["mailq", "--bookmark", EVIL],
    ["mailq", "--queue", EVIL],
    ["queues"],
    ["digest", "--filter", "MessageCount -gt 0"],
    ["sql", "SELECT * FROM messages"],
    ["sql", f"SELECT '{EVIL}"],
    ["poison", "list"],
    ["report"],
    ["explain", "Unreachable"],
    ["explain", EVIL],
    ["show", EVIL],
    ["suspend", "--all", "--what-if"],
]
ONE = ["show", "history", "explain"]


def lay(place: Place, hop: str) -> str:
    events: list[Event] = [Routed(rcpt="0", hop=hop, rule=f"kmq{EVIL}:3")] if hop else []
    refused = Deferred(rcpt="0", attempt=1, reply=f"451 {EVIL}", host=f"mx{EVIL}[192.0.2.1]:25", until=UNTIL, tls=EVIL)
    more: dict[str, Any] = {"envid": EVIL}
    return place.bag.lay(
        *events,
        refused,
        Suspended(by=f"uid {EVIL}", reason=EVIL),
        sender=f"a{EVIL}@x{EVIL}.test",
        to=(f"b{EVIL}@y{EVIL}.test",),
        source=Source("smtp", "192.0.2.7", f"helo{EVIL}", f"user{EVIL}", f"mx{EVIL}"),
        body=f"Subject: s{EVIL}\r\nMessage-ID: <{EVIL}>\r\n\r\nx".encode(),
        **more,
    )


@pytest.mark.parametrize("json", [(), ("--json",)], ids=["table", "json"])
def test_nothing_that_is_shown_touches_a_terminal(place: Place, json: tuple[str, ...]) -> None:
    names = [lay(place, hop) for hop in HOPS.values()]
    names.append(place.bag.lay(Routed(rcpt="0", hop=HOPS["nobody serves it"]), to=(f"b@y{EVIL[:-1]}.test",)))
    names.append(
        place.bag.lay(Crashed(phase=EVIL, count=1, trace=EVIL), Moved(home="poison", reason=EVIL), home="poison")
    )
    names.append(broken := place.bag.lay(home="poison"))
    place.bag.envelope(broken, "poison").write_bytes(b"\x1b[31mbroken\n")
    (place.spool / "poison" / f"{broken}.reason").write_text(EVIL)
    for words in [*ALL, *([verb, name] for verb in ONE for name in names)]:
        _, out, err = place.run(*json, *words)
        assert out or err, words
        odd = {sign for sign in out + err if sign != "\n" and not sign.isprintable()}
        assert not odd, (words, odd)
