"""The queue as it stood: from envelopes, and from the tracking log for what has left since."""

from pathlib import Path

import pytest

from kmq.admin.hindsight import View, view
from kmq.admin.listing import listed
from kmq.log.tracking import Details, Entry
from kmq.model.event import Deferred, Delivered, Routed, Suspended
from kmq.spool.look import walk
from tests.mailbag import Mailbag

HOP = "SmartHostConnectorDelivery;isp:25;isp"
A, B = "69212ad0-00000001", "69212ad0-00000002"  # of the second before 05:50:11, when all begins
TO = ["bob@far.test", "carol@far.test"]


def at(second: int, milli: int = 0) -> str:
    return f"2026-11-22T05:50:{second:02}.{milli:03}Z"


def unix(second: int) -> float:
    from kmq.model import moment

    return moment.from_text(at(second))


def entry(second: int, event: str, name: str = A, to: list[str] | None = None, **more: object) -> Entry:
    details = more.pop("details", None)
    made = Entry(at(second), event, str(more.pop("source", "SMTP")), name, **more)  # type: ignore[arg-type]
    made.recipient_address = TO[:1] if to is None else to
    made.custom_data = details if isinstance(details, Details) else None
    return made


def then(second: int, *entries: Entry, spool: Path | None = None) -> View:
    ordered = sorted(entries, key=lambda one: one.date_time)
    return view(walk(spool) if spool else (), ordered, unix(second), "mx.example.org")


def ids(found: View) -> list[str]:
    return [one.head.id for one in found.found]


CAME = entry(11, "RECEIVE", sender_address="a@x.test", total_bytes=500)


def test_a_message_that_has_left_was_there_between_its_coming_and_its_end() -> None:
    story = (CAME, entry(15, "SEND"))
    assert [ids(then(second, *story)) for second in (10, 11, 14, 15, 16)] == [[], [A], [A], [], []]
    (found,) = then(12, *story).found
    assert (found.head.sender, found.head.size, found.head.recipients[0].address) == ("a@x.test", 500, TO[0])


def test_only_recipients_that_waited_are_shown() -> None:
    came = entry(11, "RECEIVE", to=TO)
    story = (came, entry(13, "SEND", to=TO[:1]), entry(20, "FAIL", to=TO[1:]))
    (found,) = then(14, *story).found
    assert [share.to for share in listed(found, then(14, *story).around).shares] == [TO[1:]]
    assert ids(then(20, *story)) == []


def test_it_is_shown_as_it_was_deferred_held_or_set_aside() -> None:
    route = Details(queue=HOP, rule="kmq.conf:3", attempt=1, until=at(40))
    story = [CAME, entry(12, "DEFER", recipient_status=["450 later"], server_hostname="isp", details=route)]
    story += [entry(30, "SUSPEND", to=[], details=Details(by="uid 0", reason="wait"))]
    story += [entry(32, "RESUME", to=[], details=Details(by="uid 0"))]
    story += [entry(34, "POISONMESSAGE", to=[], details=Details(reason="2 workers failed"))]
    story += [entry(50, "DROP", to=[], source="ADMIN", details=Details(by="uid 0"))]

    def status(second: int) -> str:
        found = then(second, *story)
        return listed(found.found[0], found.around).status

    assert status(11) == "Ready"
    assert status(20) == "Retry: 450 later (isp)"
    assert status(31) == "Suspended: by root: wait"
    assert status(33) == "Retry: 450 later (isp)"
    assert status(35) == "Suspended: poison, 2 workers failed"
    assert ids(then(50, *story)) == []


def test_a_queue_that_was_out_of_reach_by_then() -> None:
    route = entry(11, "RESOLVE", details=Details(queue=HOP, rule="kmq.conf:3"))
    down = Entry(at(12), "DEFER", "QUEUE", recipient_status=["451 4.4.1 refused"])
    down.custom_data = Details(queue=HOP, attempt=1, until=at(40))
    sent = entry(41, "SEND", server_hostname="isp", details=Details(queue=HOP))
    found = then(20, CAME, route, down, sent)
    assert listed(found.found[0], found.around).status == "Retry: 451 4.4.1 refused"
    held = Entry(at(15), "SUSPEND", "ADMIN", custom_data=Details(queue="isp:25", by="uid 0", reason="repair"))
    resumed = Entry(at(22), "RESUME", "ADMIN", custom_data=Details(queue=HOP, by="uid 0"))
    assert then(20, CAME, route, down, held, resumed, sent).around.queues[HOP].status == "Suspended"
    assert then(23, CAME, route, down, held, resumed, sent).around.queues[HOP].status == "Retry"


def test_what_is_in_the_spool_still_is_read_from_its_envelope(tmp_path: Path) -> None:
    bag = Mailbag(tmp_path)
    name = bag.lay(
        Routed(rcpt="0-1", hop=HOP, rule="kmq.conf:3", at=at(12)),
        Delivered(rcpt="0", attempt=1, reply="250 ok", at=at(20)),
        Deferred(rcpt="1", attempt=1, reply="450 later", until=at(59), at=at(21)),
        Suspended(by="uid 0", reason="x", at=at(30)),
        to=("bob@far.test", "carol@far.test"),
    )

    def told(second: int) -> tuple[list[str], str]:
        found = then(second, spool=tmp_path)
        (one,) = found.found
        entry = listed(one, found.around)
        return entry.to, entry.shares[0].status.value

    assert told(15) == (TO, "Ready")
    assert told(25) == (TO[1:], "Retry")
    assert told(31) == (TO[1:], "Suspended")
    assert ids(then(10, spool=tmp_path)) == []
    assert name == A


def test_the_envelope_counts_where_both_know_it(tmp_path: Path) -> None:
    bag = Mailbag(tmp_path)
    assert bag.lay(to=("bob@far.test",)) == A
    assert ids(then(20, CAME, entry(30, "DEFER"), spool=tmp_path)) == [A]


def test_what_came_before_the_log_begins_is_known_by_its_end() -> None:
    """The ID tells when it came."""
    assert ids(then(20, entry(30, "SEND"))) == [A]


def test_what_came_later_in_the_second_of_its_id_was_not_there() -> None:
    late = Entry("2026-11-22T05:50:11.900Z", "RECEIVE", "SMTP", f"{int(unix(11)):08x}-00000001", recipient_address=TO)
    end = Entry(at(15), "SEND", "SMTP", late.internal_message_id, recipient_address=TO)
    assert ids(then(11, late, end)) == []


def test_what_ended_nowhere_is_counted() -> None:
    found = then(20, CAME, entry(11, "RECEIVE", B), entry(30, "SEND", B))
    assert ids(found) == [B] and found.unknown == 1


@pytest.mark.parametrize("late", [0, 1])
def test_lines_of_two_processes_in_the_wrong_order(late: int) -> None:
    """A worker may be faster with its line than the receiver."""
    lines = [CAME, entry(11, "SEND")]
    assert ids(then(12, *(lines if late else reversed(lines)))) == []


def test_recipients_named_by_their_places() -> None:
    came = entry(11, "RECEIVE", to=TO)
    dropped = entry(13, "DROP", to=["#0"], source="ADMIN", details=Details(by="uid 0"))
    (found,) = then(14, came, dropped, entry(20, "SEND", to=TO[1:])).found
    assert [found.head.recipients[index].address for index in found.state.open] == TO[1:]
