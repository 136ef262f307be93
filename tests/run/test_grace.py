"""Grace hold: when it is likely our own fault that mail fails, it is held instead of returned."""

import msgspec
import pytest
from aiosmtplib import SMTPAuthenticationError

from kmq.model.event import Deferred, Delayed, Delivered, Expanded, Failed, Routed
from kmq.model.frame import Child, Done
from kmq.phases import smtp_opening
from kmq.run.grace import LOGINS, Cause, Failures, Grace, cause_of
from kmq.run.grace_evidence import spare, turned
from kmq.run.grace_holds import eased

ISP = "SmartHostConnectorDelivery;smtp.isp.test:587;isp"


def domain(name: str) -> str:
    return f"DnsConnectorDelivery;{name};world"


class Place:
    """A Grace, and the queues that are suspended: by it (as the scheduler process would), and by an operator's word."""

    def __init__(self, limit: int = 10) -> None:
        self.suspended: set[str] = set()
        self.grace = Grace(limit, self.suspended.__contains__)
        self.now = 100.0

    def fails(self, hop: str = ISP, cause: Cause = Cause.RELAY, sender: str = "", to: str = "", count: int = 1) -> bool:
        """One message; every one has its own sender and domain, if nobody says otherwise."""
        self.now += 0.01
        failures = Failures(cause, count, sender or f"a{self.now}@us.test", (to or f"d{self.now}.test",))
        held = self.grace.failed(hop, failures, self.now)
        if held:
            self.suspended.add(hop)
        return held

    def delivers(self, hop: str = ISP, count: int = 1) -> None:
        for _ in range(count):
            self.grace.delivered(hop, self.now)


# --- causes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        ("535 5.7.8 Authentication credentials invalid", Cause.LOGIN),
        ("530 5.7.0 Authentication required", Cause.LOGIN),
        ("530 Must issue a STARTTLS command first", Cause.LOGIN),
        ("550 5.7.1 <a@b.test>: Relay access denied", Cause.RELAY),
        ("554 relaying denied", Cause.RELAY),
        ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", Cause.BLOCKED),
        ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", Cause.BLOCKED),
        ("550 Your address is on our blacklist", Cause.BLOCKED),
        ("550 5.7.26 Unauthenticated email is not accepted: DMARC", Cause.BLOCKED),
        ("553 5.1.8 sender domain does not exist", Cause.SENDER),
        ("550 5.1.1 no such user", None),
        ("550 5.1.1 user blocked", None),
        ("552 5.2.2 mailbox full", None),
        ("552 5.3.4 message too big", None),
        ("554 5.6.3 conversion", None),
        ("550 no such user here", None),
        ("554", None),
    ],
)
def test_what_servers_say_of_us_and_of_recipients(reply: str, cause: Cause | None) -> None:
    assert cause_of(reply, "mx.far.test[192.0.2.2]:25") is cause


def test_what_we_said_ourselves_is_the_dns_alone() -> None:
    assert cause_of("550 5.1.2 the domain far.test does not exist", "") is Cause.DNS
    assert cause_of("550 5.4.4 the mail server mx.far.test of far.test does not exist", "") is Cause.DNS
    assert cause_of("554 5.4.6 mail for far.test loops back to this server", "") is None
    assert cause_of("550 5.1.2 the domain far.test does not exist", "mx.far.test") is None, "another server's opinion"


# --- a smart host -----------------------------------------------------------------------------------------------------


def test_nine_are_returned_and_then_none() -> None:
    place = Place()
    assert [place.fails() for _ in range(300)] == [False] * 9 + [True] * 291
    assert place.grace.held == {ISP: Cause.RELAY}


def test_they_must_come_within_a_minute() -> None:
    place = Place()
    for _ in range(40):
        place.now += 10
        assert not place.fails()


def test_one_message_to_many_recipients_is_enough_when_their_domains_are_several() -> None:
    place = Place()
    failures = Failures(Cause.RELAY, 50, "list@us.test", ("a.test", "b.test", "c.test"))
    assert place.grace.failed(ISP, failures, 1.0)


@pytest.mark.parametrize(("delivered", "held"), [(1, True), (2, False), (500, False)])
def test_a_server_that_takes_other_mail_is_right(delivered: int, held: bool) -> None:
    place = Place()
    place.delivers(count=delivered)
    assert any(place.fails() for _ in range(10)) is held


def test_what_was_delivered_long_ago_excuses_nobody() -> None:
    place = Place()
    place.delivers(count=500)
    place.now += 200
    place.delivers()
    assert any(place.fails() for _ in range(12))


def test_one_spammer_s_list_of_one_domain_holds_nothing() -> None:
    place = Place()
    assert not any(place.fails(cause=Cause.BLOCKED, sender="spam@us.test", to="far.test") for _ in range(500))


def test_a_login_is_everybody_s() -> None:
    place = Place()
    found = [place.fails(cause=Cause.LOGIN, sender="root@us.test", to="far.test") for _ in range(12)]
    assert found == [False] * 9 + [True] * 3


def test_different_causes_do_not_add_up() -> None:
    place = Place()
    assert not any(place.fails(cause=cause) for cause in (Cause.RELAY, Cause.BLOCKED) * 9)
    assert place.fails(cause=Cause.RELAY)
    assert not place.fails(cause=Cause.SENDER), "nor are they held together"


def test_no_limit_no_hold() -> None:
    place = Place(limit=0)
    assert not any(place.fails() for _ in range(1000))


# --- domains ----------------------------------------------------------------------------------------------------------


def test_a_domain_that_blocks_us_is_held_and_others_are_not() -> None:
    place = Place()
    hop = domain("far.test")
    found = [place.fails(hop, Cause.BLOCKED, sender=f"a{n % 2}@us.test", to="far.test") for n in range(20)]
    assert found == [False] * 9 + [True] * 11
    assert not place.fails(domain("other.test"), Cause.BLOCKED, to="other.test")


def test_a_dns_that_knows_no_domain_holds_each_domain_that_it_denies() -> None:
    place = Place()
    found = [place.fails(domain(f"d{n}.test"), Cause.DNS, to=f"d{n}.test") for n in range(30)]
    assert found == [False] * 9 + [True] * 21
    assert len(place.grace.held) == 21


def test_wrong_addresses_among_good_mail_are_wrong_addresses() -> None:
    place = Place()
    for number in range(300):
        place.delivers(domain(f"good{number}.test"))
        assert not place.fails(domain(f"bad{number % 30}.test"), Cause.DNS, to=f"bad{number % 30}.test")


def test_a_delivery_anywhere_ends_the_suspicion_of_the_whole_connector() -> None:
    place = Place()
    for number in range(12):
        place.fails(domain(f"d{number}.test"), Cause.DNS, to=f"d{number}.test")
    place.now += 120
    place.delivers(domain("good.test"), 5)
    assert not place.fails(domain("typo.test"), Cause.DNS, to="typo.test")


# --- letting go -------------------------------------------------------------------------------------------------------


def test_let_go_in_vain_it_is_held_at_the_first_failure() -> None:
    place = Place()
    for _ in range(10):
        place.fails()
    place.suspended.clear()
    place.now += 3600
    assert place.fails(), "no ten bounces again"


def test_let_go_and_delivered_it_is_cleared() -> None:
    place = Place()
    for _ in range(10):
        place.fails()
    place.delivers()
    assert place.grace.held, "what was in hand says nothing while it is held"
    place.suspended.clear()
    place.delivers()
    assert place.grace.held == {}
    place.now += 3600
    assert not place.fails()


def test_let_go_long_ago_it_is_one_like_any_other() -> None:
    place = Place()
    for _ in range(10):
        place.fails()
    for _ in range(100):
        place.now += 100
        place.delivers(domain("elsewhere.test"))
    assert place.fails(), "it is still suspended"
    place.suspended.clear()
    for _ in range(40):
        place.now += 100
        place.delivers(domain("elsewhere.test"))
    assert place.grace.held == {} and not place.fails()


def test_what_was_held_before_a_restart_is_held() -> None:
    place = Place()
    place.grace.restored(ISP, Cause.RELAY)
    assert place.fails()


# --- logins -----------------------------------------------------------------------------------------------------------

REFUSED = "451 4.4.0 smtp.isp.test[192.0.2.1]:587 said: 535 5.7.8 Username and Password not accepted"


def test_a_login_that_is_refused_again_and_again_is_not_tried_for_ever() -> None:
    place = Place()
    assert [place.grace.unreached(ISP, REFUSED, times) for times in (1, LOGINS - 1)] == [None, None]
    assert place.grace.unreached(ISP, REFUSED, LOGINS) is Cause.LOGIN
    assert ISP in place.grace.held


@pytest.mark.parametrize(
    "text", ["451 4.4.1 connect to x: Connection refused", "451 4.4.0 x said: 454 4.7.0 not now", ""]
)
def test_other_troubles_are_the_queue_s_own(text: str) -> None:
    assert Place().grace.unreached(ISP, text, 100) is None


def test_a_refused_login_is_known_by_how_a_worker_tells_it() -> None:
    said = smtp_opening._as_reply(SMTPAuthenticationError(535, "5.7.8 no"), "smtp.isp.test[192.0.2.1]:587")
    assert Place().grace.unreached(ISP, str(said), LOGINS) is Cause.LOGIN


# --- what becomes of a result -----------------------------------------------------------------------------------------


def test_failures_become_deferrals_and_their_notice_is_not_made() -> None:
    events = [
        Routed(rcpt="0-3", hop=ISP),
        Delivered(rcpt="0", attempt=1, reply="250 ok", notice="1"),
        Failed(rcpt="1-2", attempt=1, reply="554 5.7.1 Relay access denied", host="smtp", notice="0"),
        Deferred(rcpt="3", attempt=1, reply="450 later"),
        Delayed(rcpt="3", reply="450 later", notice="2"),
        Expanded(rcpt="4", child="0", notice=""),
    ]
    children = [Child(1, 2, 3, kind="expansion"), Child(1, 1, 4), Child(1, 2, 2), Child(1, 1, 1)]
    done = Done(7, "id", ISP, "0-3", 1, children=list(children), unnoticed=True)
    found, raw = eased(done, events, b"EEeeeNnnnnDDddLl", "the server refuses to relay for us")
    assert raw == b"EEeeeDDddLl" and done.children == [children[0], *children[2:]]
    assert not done.unnoticed
    assert found[2] == Deferred(
        rcpt="1-2",
        attempt=1,
        reply="554 5.7.1 Relay access denied",
        host="smtp",
        held="the server refuses to relay for us",
    )
    assert [getattr(one, "notice", None) for one in found] == [None, "0", None, None, "1", ""]


def test_without_a_notice_nothing_else_changes() -> None:
    events = [Failed(rcpt="0", attempt=1, reply="554 5.7.1 no", host="x")]
    done = Done(7, "id", ISP, "0", 1, children=[Child(1, 1, 1, kind="expansion")])
    assert spare(done, events, b"ab") == b"ab" and len(done.children) == 1
    (event,) = turned(events, "x")
    assert msgspec.json.decode(msgspec.json.encode(event))["event"] == "deferred"
