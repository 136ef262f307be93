"""Executing: recipients to next hops."""

from typing import NamedTuple

from kmq.model.event import Routed
from kmq.model.hop import UNREACHABLE, DeliveryType, NextHop
from kmq.phases.executing import categorize
from tests.phases.sending import head

LOCAL = NextHop(DeliveryType.MAILBOX, "here.test", "local")
ISP = NextHop(DeliveryType.SMART_HOST, "isp.test:25", "isp")


class Found(NamedTuple):
    hop: NextHop
    rule: str


def route(address: str) -> Found:
    domain = address.rpartition("@")[2]
    match domain:
        case "here.test":
            return Found(LOCAL, "kmq.conf:3 [local : connector]")
        case "nowhere.test":
            return Found(UNREACHABLE, "no connector")
        case "special.test":
            return Found(ISP, "kmq.conf:9 [isp : connector] address_spaces = special.test")
        case _:
            return Found(ISP, "kmq.conf:9 [isp : connector] address_spaces = *")


def test_one_recipient_is_one_event() -> None:
    assert categorize(head("a@here.test"), (0,), route) == [
        Routed(rcpt="0", hop="SmtpDeliveryToMailbox;here.test;local", rule="kmq.conf:3 [local : connector]")
    ]


def test_the_same_hop_by_the_same_rule_is_one_event() -> None:
    message = head("a@here.test", "b@x.test", "c@here.test", "d@special.test", "e@y.test", "f@nowhere.test")
    found = categorize(message, range(6), route)
    assert [(event.rcpt, event.hop) for event in found] == [
        ("0,2", str(LOCAL)),
        ("1,4", str(ISP)),
        ("3", str(ISP)),  # the same hop, but another line of the configuration says so
        ("5", str(UNREACHABLE)),
    ]
    assert found[1].rule != found[2].rule


def test_only_those_that_were_asked_for_are_routed() -> None:
    found = categorize(head("a@here.test", "b@x.test", "c@here.test"), (2, 1), route)
    assert [event.rcpt for event in found] == ["2", "1"]


def test_a_thousand_recipients_are_few_events() -> None:
    message = head(*(f"u{n}@{'here' if n % 2 else 'far'}.test" for n in range(1000)))
    found = categorize(message, range(1000), route)
    assert len(found) == 2
    assert sum(event.rcpt.count(",") + 1 for event in found) == 1000
