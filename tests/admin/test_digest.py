"""`kmq digest`: queues of one or several servers, by what they have in common."""

import pytest

from kmq.admin.digest import Group, Level, Question, ServerRows, digest, group_name, properties
from kmq.errors import FilterError

NOW = 1_000_000.0


def queue(name: str, count: int, status: str = "Ready", error: str | None = None) -> dict[str, object]:
    return {
        "Identity": f"one\\{name}",
        "NextHopDomain": name,
        "NextHop": f"DnsConnectorDelivery;{name};world",
        "NextHopCategory": "External",
        "DeliveryType": "DnsConnectorDelivery",
        "Status": status,
        "MessageCount": count,
        "DeferredMessageCount": count // 2,
        "LastError": error,
    }


ONE = ServerRows("one", NOW, [queue("a.test", 12), queue("b.test", 40, "Retry", "451 no"), queue("c.test", 9)])
TWO = ServerRows("two", NOW - 600, [queue("a.test", 100, "Retry", "451 no")])


def told(question: Question, *servers: ServerRows) -> list[tuple[str, int]]:
    return [(one.value, one.count) for one in digest(servers or (ONE, TWO), question, NOW)]


def test_the_largest_group_comes_first_and_small_queues_do_not_count() -> None:
    assert told(Question(), ONE) == [("b.test", 40), ("a.test", 12)]
    assert told(Question()) == [("a.test", 112), ("b.test", 40)]


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("NextHopCategory", [("External", 152)]),
        ("NextHopKey", [("DnsConnectorDelivery;a.test;world", 112), ("DnsConnectorDelivery;b.test;world", 40)]),
        ("DeliveryType", [("DnsConnectorDelivery", 152)]),
        ("Status", [("Retry", 140), ("Ready", 12)]),
        ("LastError", [("451 no", 140), ("", 12)]),
        ("ServerName", [("two", 100), ("one", 52)]),
    ],
)
def test_grouped_by(by: str, groups: list[tuple[str, int]]) -> None:
    assert told(Question(group_name(by.upper()))) == groups


def test_a_filter_takes_the_place_of_the_threshold() -> None:
    assert told(Question(filter="MessageCount -lt 10")) == [("c.test", 9)]
    with pytest.raises(FilterError, match="Status"):
        digest([ONE], Question(filter="Statu -eq Retry"), NOW)
    with pytest.raises(FilterError, match="LastError"):
        group_name("Colour")


def test_words_that_are_old_are_counted_as_such() -> None:
    first = digest([ONE, TWO], Question(), NOW)[0]
    assert (first.count, first.deferred, first.stale) == (112, 56, 100)


def test_no_more_groups_than_asked_for() -> None:
    assert told(Question(size=1)) == [("a.test", 112)]


@pytest.mark.parametrize(("level", "names"), [(Level.NORMAL, 5), (Level.VERBOSE, 11)])
def test_details(level: Level, names: int) -> None:
    first = digest([ONE, TWO], Question(level=level), NOW)[0]
    assert [one["ServerIdentity"] for one in first.details] == ["one", "two"]
    assert all(len(one) == names for one in first.details)


def test_as_an_object_it_bears_exchange_s_names() -> None:
    assert digest([ONE], Question(level=Level.NONE), NOW)[0].details == []
    assert properties(Group("a.test", 3, 2, 1, 0)) == {
        "GroupByValue": "a.test",
        "MessageCount": 3,
        "DeferredMessageCount": 2,
        "LockedMessageCount": 1,
        "StaleMessageCount": 0,
        "Details": [],
    }
