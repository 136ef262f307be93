"""What an operator is told about a message: which queue, which status, when next, and why not yet."""

from pathlib import Path

import pytest

from kmq.admin.circumstances import Circumstances, QueueState
from kmq.admin.listing import Listed, Status, is_named, listed, next_hop, properties
from kmq.model import moment
from kmq.model.envelope import Source
from kmq.model.event import Deferred, Delivered, Event, Failed, Moved, Resumed, Routed, Suspended
from kmq.model.hop import POISON, SUBMISSION, UNREACHABLE, DeliveryType, NextHop
from kmq.spool.look import walk
from kmq.spool.status import InHand
from tests.mailbag import CREATED, Mailbag

NOW = moment.from_text("2026-11-22T06:00:00.000Z")
SOON = "2026-11-22T06:05:00.000Z"
PAST = "2026-11-22T05:55:00.000Z"
ISP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"
HERE = "SmtpDeliveryToMailbox;example.org;mailboxes"


def around(**keys: object) -> Circumstances:
    return Circumstances(NOW, "mx.example.org", **keys)  # type: ignore[arg-type]


def only(bag: Mailbag, circumstances: Circumstances | None = None) -> Listed:
    (found,) = walk(bag.spool)
    return listed(found, circumstances or around())


def deferred(rcpt: str = "0", until: str = SOON, attempt: int = 1, host: str = "mx[192.0.2.3]:25") -> Deferred:
    return Deferred(rcpt=rcpt, attempt=attempt, reply="451 4.4.1 not now", host=host, until=until)


@pytest.fixture
def bag(tmp_path: Path) -> Mailbag:
    return Mailbag(tmp_path)


@pytest.mark.parametrize(
    ("events", "status", "queue", "next_try", "says"),
    [
        ([], "Ready", "Submission", 0.0, "Ready"),
        ([Routed(rcpt="0", hop=ISP)], "Ready", "smtp.isp.example:587", 0.0, "Ready"),
        (
            [Routed(rcpt="0", hop=ISP), deferred()],
            "Retry",
            "smtp.isp.example:587",
            moment.from_text(SOON),
            "Retry: 451 4.4.1 not now (mx[192.0.2.3]:25)",
        ),
        (
            [Routed(rcpt="0", hop=ISP), deferred(until=PAST)],
            "Ready",
            "smtp.isp.example:587",
            0.0,
            "Ready: 451 4.4.1 not now (mx[192.0.2.3]:25)",
        ),
        (
            [Routed(rcpt="0", hop=str(UNREACHABLE))],
            "Ready",
            "Unreachable Domain",
            None,
            "waiting for a connector: none serves example.net",
        ),
        (
            [Suspended(by="root", reason="looks odd")],
            "Suspended",
            "Submission",
            None,
            "Suspended: by root: looks odd",
        ),
        ([Suspended()], "Suspended", "Submission", None, "Suspended: by an operator"),
        ([Suspended(by="root"), Resumed(by="root")], "Ready", "Submission", 0.0, "Ready"),
        ([Routed(rcpt="0", hop=ISP), Delivered(rcpt="0", reply="250 ok")], "Terminating", "Submission", 0.0, "Term"),
        ([Routed(rcpt="0", hop="nonsense")], "Ready", "nonsense", 0.0, "Ready"),
    ],
)
def test_the_state_of_a_message(
    bag: Mailbag, events: list[Event], status: str, queue: str, next_try: float | None, says: str
) -> None:
    bag.lay(*events)
    entry = only(bag)
    assert [share.status.value for share in entry.shares] == [status]
    assert entry.shares[0].hop.name == queue
    assert entry.next_try == next_try
    assert entry.status.startswith(says)
    assert entry.grave is (next_try is None)


def test_poison_says_why(bag: Mailbag) -> None:
    bag.lay(Moved(home="poison", reason="two workers died of it in Content filtering"), home="poison")
    entry = only(bag)
    assert entry.status == "Suspended: poison, two workers died of it in Content filtering"
    assert (entry.shares[0].hop, entry.next_try) == (POISON, None)


def test_a_damaged_envelope_is_a_line_too(bag: Mailbag) -> None:
    name = bag.lay()
    bag.envelope(name).write_bytes(b"{")
    entry = only(bag)
    assert (entry.id, entry.created, entry.grave) == (name, 0x69212AD0, True)
    assert entry.status == "Damaged: the envelope's first line is damaged"


@pytest.mark.parametrize(
    ("queue", "status", "next_try", "says"),
    [
        (QueueState("Ready"), Status.READY, 0.0, "Ready"),
        (
            QueueState("Retry", "421 4.4.2 connection refused", NOW + 60),
            Status.RETRY,
            NOW + 60,
            "Retry: 421 4.4.2 connection refused",
        ),
        (QueueState("Suspended"), Status.READY, None, "the queue smtp.isp.example:587 is suspended"),
        (
            QueueState("Ready", next_retry=NOW + 60, waits_for="scheduled", told={"Timetable": "every 30m"}),
            Status.READY,
            NOW + 60,
            "Ready: its connector is offline, and sends every 30m",
        ),
        (
            QueueState("Ready", waits_for="on-demand"),
            Status.READY,
            None,
            "its connector is offline: kmq flush, or ETRN, has it sent",
        ),
        (
            QueueState("Ready", next_retry=NOW + 60, waits_for="out-of-hours", told={"Timetable": "on mon"}),
            Status.READY,
            NOW + 60,
            "Ready: its connector works on mon",
        ),
    ],
)
def test_the_trouble_of_a_queue_is_the_trouble_of_its_messages(
    bag: Mailbag, queue: QueueState, status: Status, next_try: float | None, says: str
) -> None:
    bag.lay(Routed(rcpt="0", hop=ISP))
    entry = only(bag, around(queues={ISP: queue}))
    assert (entry.shares[0].status, entry.next_try, entry.status) == (status, next_try, says)


def test_what_is_in_hand_shows_its_phase(bag: Mailbag) -> None:
    name = bag.lay(Routed(rcpt="0", hop=ISP), deferred())
    hand = InHand(name, status="SMTP delivery", server="mx.example.net[192.0.2.3]:25", percent=40)
    entry = only(bag, around(in_hand={name: hand}))
    assert entry.status == "SMTP delivery to mx.example.net[192.0.2.3]:25, 40 %"
    assert (entry.shares[0].status, entry.next_try) == (Status.ACTIVE, 0.0)


def test_what_is_held_while_in_hand_is_pending(bag: Mailbag) -> None:
    name = bag.lay(Suspended(by="root"))
    entry = only(bag, around(in_hand={name: InHand(name, status="Executing")}))
    assert entry.shares[0].status is Status.PENDING_SUSPEND
    assert entry.status == "PendingSuspend: by root"


def test_the_scheduler_knows_which_part_is_in_hand_and_what_waits_to_be_removed(bag: Mailbag) -> None:
    name = bag.lay(Routed(rcpt="0", hop=HERE), Routed(rcpt="1", hop=ISP), to=("a@example.org", "b@example.net"))
    hand = {name: InHand(name, status="Local delivery")}
    entry = only(bag, around(in_hand=hand, statuses={(name, HERE): "Active", (name, ISP): "Ready"}))
    assert {share.hop.name: share.status for share in entry.shares} == {
        "example.org": Status.ACTIVE,
        "smtp.isp.example:587": Status.READY,
    }
    entry = only(bag, around(in_hand=hand, statuses={(name, HERE): "PendingRemove"}))
    assert entry.shares[0].status is Status.PENDING_REMOVE
    assert entry.status.startswith("PendingRemove: an operator removed it")


def test_a_message_in_several_queues_tells_the_gravest_first(bag: Mailbag) -> None:
    bag.lay(
        Routed(rcpt="0", hop=HERE),
        Routed(rcpt="1-2", hop=ISP),
        Delivered(rcpt="1", attempt=1, reply="250 ok"),
        deferred(rcpt="2", attempt=3),
        Failed(rcpt="3", attempt=1, reply="550 no"),
        to=("a@example.org", "b@example.net", "c@example.net", "d@example.com"),
    )
    entry = only(bag)
    assert [(share.hop.name, share.to, share.status) for share in entry.shares] == [
        ("smtp.isp.example:587", ["c@example.net"], Status.RETRY),
        ("example.org", ["a@example.org"], Status.READY),
    ]
    assert entry.status == "Retry: 451 4.4.1 not now (mx[192.0.2.3]:25) (and 1 more queue)"
    assert entry.next_try == 0.0
    assert entry.to == ["c@example.net", "a@example.org"]


def test_the_last_reply_is_the_one_that_came_last(bag: Mailbag) -> None:
    bag.lay(
        Routed(rcpt="0-1", hop=ISP),
        Deferred(rcpt="0", attempt=1, reply="451 first", until=SOON),
        Deferred(rcpt="1", attempt=1, reply="452 second", until=SOON),
        to=("a@example.net", "b@example.net"),
    )
    assert only(bag).shares[0].last_error == "452 second"


def test_json_speaks_exchanges_words(bag: Mailbag) -> None:
    name = bag.lay(Routed(rcpt="0", hop=ISP), deferred(attempt=2), sender="")
    entry = only(bag)
    assert dict(properties(entry, entry.shares[0], around())) == {
        "Identity": f"mx.example.org\\smtp.isp.example:587\\{name}",
        "Queue": "mx.example.org\\smtp.isp.example:587",
        "FromAddress": "",
        "Recipients": [
            {
                "Address": "bob@example.net",
                "Status": "Retry",
                "LastError": "451 4.4.1 not now (mx[192.0.2.3]:25)",
                "NextHop": ISP,
            }
        ],
        "Status": "Retry",
        "DateReceived": CREATED,
        "NextRetryTime": SOON,
        "Size": entry.size,
        "LastError": "451 4.4.1 not now (mx[192.0.2.3]:25)",
        "RetryCount": 2,
        "DeliveryType": "SmartHostConnectorDelivery",
        "NextHopConnector": "isp",
        "MessageSourceName": "SMTP:mx",
        "SourceIP": "192.0.2.7",
        "Phase": None,
    }
    bag.envelope(name).unlink()
    bag.lay(source=Source("dsn"))
    entry = only(bag)
    assert properties(entry, entry.shares[0], around())["MessageSourceName"] == "DSN"


@pytest.mark.parametrize(
    ("name", "hop", "expected"),
    [
        ("smtp.isp.example:587", next_hop(ISP), True),
        ("SMTP.ISP.example:587", next_hop(ISP), True),
        ("mx\\smtp.isp.example:587", next_hop(ISP), True),
        (ISP, next_hop(ISP), True),
        ("smtp.isp.example", next_hop(ISP), False),
        ("submission", SUBMISSION, True),
        ("unreachable", UNREACHABLE, True),
        ("Unreachable Domain", UNREACHABLE, True),
        ("poison", POISON, True),
        ("poison", SUBMISSION, False),
        ("", NextHop(DeliveryType.DNS, "example.net", ""), False),
    ],
)
def test_queues_are_named_as_tables_show_them(name: str, hop: NextHop, expected: bool) -> None:
    assert is_named(hop, name) is expected
