"""Executing: recipients to next hops, aliases, and nobody."""

from kmq.model.envelope import Recipient
from kmq.model.event import Deferred, Failed, Routed
from kmq.model.hop import UNREACHABLE, DeliveryType, NextHop
from kmq.model.reply import Reply
from kmq.phases.executing import Categorized, categorize
from kmq.routing.expanding import Expansion, Final
from kmq.routing.table import Decision, Route
from tests.phases.sending import head

LOCAL = NextHop(DeliveryType.MAILBOX, "here.test", "local")
ISP = NextHop(DeliveryType.SMART_HOST, "isp.test:25", "isp")
LIST = Expansion("/etc/aliases:1 list", (Final("a@x.test"),), ())


def decide(recipient: Recipient) -> Decision:
    local, _, domain = recipient.address.rpartition("@")
    if local == "list":
        return LIST
    if local == "nobody":
        return Reply(550, "5.1.1", "No such user here")
    if local == "later":
        return Reply(451, "4.3.0", "not now")
    match domain:
        case "here.test":
            return Route(LOCAL, "kmq.conf:3 [local : connector]")
        case "nowhere.test":
            return Route(UNREACHABLE, "no connector")
        case "special.test":
            return Route(ISP, "kmq.conf:9 [isp : connector] address_spaces = special.test")
        case _:
            return Route(ISP, "kmq.conf:9 [isp : connector] address_spaces = *")


def test_one_recipient_is_one_event() -> None:
    event = Routed(rcpt="0", hop="SmtpDeliveryToMailbox;here.test;local", rule="kmq.conf:3 [local : connector]")
    found = categorize(head("a@here.test"), (0,), decide)
    assert found == Categorized([event], [], event)


def test_the_same_hop_by_the_same_rule_is_one_event() -> None:
    message = head("a@here.test", "b@x.test", "c@here.test", "d@special.test", "e@y.test", "f@nowhere.test")
    found = categorize(message, range(6), decide)
    assert [(event.rcpt, event.hop) for event in found.events if isinstance(event, Routed)] == [
        ("0,2", str(LOCAL)),
        ("1,4", str(ISP)),
        ("3", str(ISP)),  # the same hop, but another line of the configuration says so
        ("5", str(UNREACHABLE)),
    ]
    assert found.only is None


def test_only_those_that_were_asked_for_are_routed() -> None:
    found = categorize(head("a@here.test", "b@x.test", "c@here.test"), (2, 1), decide)
    assert [event.rcpt for event in found.events if isinstance(event, Routed)] == ["2", "1"]


def test_a_thousand_recipients_are_few_events() -> None:
    message = head(*(f"u{n}@{'here' if n % 2 else 'far'}.test" for n in range(1000)))
    found = categorize(message, range(1000), decide)
    assert [event.rcpt.count(",") + 1 for event in found.events if isinstance(event, Routed)] == [500, 500]


def test_nobody_fails_and_trouble_waits_each_once_for_all() -> None:
    message = head("nobody@here.test", "a@here.test", "later@here.test", "nobody@x.test")
    found = categorize(message, range(4), decide, attempt=3)
    assert found.events == [
        Failed(rcpt="0,3", attempt=3, reply="550 5.1.1 No such user here"),
        Routed(rcpt="1", hop=str(LOCAL), rule="kmq.conf:3 [local : connector]"),
        Deferred(rcpt="2", attempt=3, reply="451 4.3.0 not now"),
    ]
    assert found.only is None
    (alone,) = categorize(message, (0,), decide).events
    assert isinstance(alone, Failed)


def test_an_alias_is_told_apart() -> None:
    message = head("list@here.test", "a@here.test")
    found = categorize(message, (0, 1), decide)
    assert found.expansions == [(0, LIST)]
    assert [event.rcpt for event in found.events if isinstance(event, Routed)] == ["1"]
    assert found.only is None, "the message does not go out in one go when some of it goes on as another"
    assert categorize(message, (0,), decide) == Categorized([], [(0, LIST)])
