"""The table of queues: what a queue waits for stands where its trouble would."""

from kmq.view.queues import queues
from kmq.view.table import Page
from kmq.view.words import width

THROTTLED = {
    "NextHopDomain": "smtp.isp.example",
    "DeliveryType": "SmartHostConnectorDelivery",
    "Status": "Ready",
    "MessageCount": 8,
    "NextRetryTime": "2026-11-22T05:52:00.000Z",
    "LastError": None,
    "Why": "throttled",
    "Throttled": "messages_per_minute = 30",
}


def test_queues_of_one_name_are_told_apart_by_their_connectors() -> None:
    """Two connectors, and one smart host."""
    lines = [{**THROTTLED, "NextHop": f"SmartHostConnectorDelivery;smtp.isp.example;{name}"} for name in ("isp", "two")]
    titles, first, second = queues(lines, Page(columns=0))
    assert titles.split()[:2] == ["Queue", "Connector"]
    assert [line.split()[1] for line in (first, second)] == ["isp", "two"]
    assert "Connector" not in next(iter(queues(lines[:1], Page(columns=0))))
    assert all(width(line) <= 80 for line in queues(lines, Page(columns=80)))


def test_a_queue_that_is_throttled_says_by_which_limit() -> None:
    lines = list(
        queues([THROTTLED, {**THROTTLED, "Why": None, "Throttled": None, "NextRetryTime": None}], Page(columns=0))
    )
    assert "throttled: messages_per_minute = 30" in lines[-2]
    assert lines[-1].split()[-2:] == ["-", "-"]
