"""Who waits for whom before a sync begins, where one takes ten milliseconds."""

import heapq
from collections.abc import Iterator
from itertools import pairwise

import pytest

from kmq.run.company import REST, TICK, Company

SYNC = 0.010


def behind(company: Company, now: float, clients: int, sync: float = SYNC) -> None:
    """A batch of so many clients' mail has been synced by `now`."""
    for _ in range(clients):
        company.came(now - sync)
    company.begun(company.awaited)
    company.ended(now, sync)


def test_what_comes_alone_goes_at_once() -> None:
    company = Company()
    company.came(1.0)
    assert company.wait(1.0) == 0
    behind(company, 2.0, 0)
    behind(company, 2.02, 1)
    company.came(2.021)
    assert company.wait(2.021) == 0, "nobody else was there a moment ago"


def test_the_first_waits_for_the_others_and_the_last_is_not_waited_for_when_it_is_there() -> None:
    company = Company()
    behind(company, 1.0, 3)
    company.came(1.001)
    assert company.wait(1.001) == pytest.approx(SYNC - 0.001)
    company.came(1.002)
    assert company.wait(1.002) == pytest.approx(SYNC / 2)
    company.came(1.003)
    assert company.wait(1.003) == 0


def test_those_who_wait_already_are_expected_too() -> None:
    """Two groups that wait for each other's syncs become one."""
    company = Company()
    company.came(1.0)
    company.begun(1)
    company.came(1.001)
    company.ended(1.010, SYNC)
    assert company.expected == 2
    assert company.wait(1.010) > 0
    company.came(1.012)
    assert company.wait(1.012) == 0


def test_nobody_is_waited_for_once_a_sync_s_time_has_passed() -> None:
    company = Company()
    behind(company, 1.0, 3)
    company.came(1.0 + SYNC)
    assert company.wait(1.0 + SYNC) == 0


def test_results_alone_wait_for_mail_as_long_as_some_may_come() -> None:
    company = Company()
    behind(company, 1.0, 1)
    assert company.wait(1.001) == pytest.approx(SYNC - 0.001)
    assert company.wait(1.0 + SYNC) == 0
    behind(company, 2.0, 0)
    assert company.wait(2.0) == 0, "there was no mail, so there is nothing to wait for"


def test_no_wait_is_shorter_than_a_timer_counts() -> None:
    company = Company()
    behind(company, 1.0, 100)
    for _ in range(90):
        company.came(1.001)
    assert company.wait(1.001) == TICK


def test_one_sync_that_was_slow_by_chance_makes_no_disk_slow() -> None:
    company = Company()
    behind(company, 1.0, 2, sync=0.0002)
    behind(company, 2.0, 2, sync=0.5)
    assert company.sync == 0.0002


def expecting(company: Company, now: float, come: int) -> bool:
    """Ten are expected, and so many come; whether the first was told to wait."""
    behind(company, now, 10)
    waits = []
    for one in range(come):
        company.came(now + 0.001 + 0.0001 * one)
        waits.append(company.wait(now + 0.001 + 0.0001 * one))
    company.begun(come)
    company.ended(now + 0.025, SYNC)
    return waits[0] > 0


def test_company_that_does_not_come_in_time_is_waited_for_less_and_less_often() -> None:
    company = Company()
    waited = [number for number in range(200) if expecting(company, 1.0 + number, 1)]
    gaps = [after - before for before, after in pairwise(waited)]
    assert gaps == sorted(gaps)
    assert (gaps[0], gaps[-1]) == (1, REST // 2 + 1)


def test_company_that_comes_again_is_waited_for_always_again() -> None:
    company = Company()
    for number in range(200):
        expecting(company, 1.0 + number, 1)
    assert [expecting(company, 300.0 + number, 10) for number in range(200)][-10:] == [True] * 10


def turns(company: Company | None, clients: int, think: float, seconds: float) -> float:
    """Messages a second of clients that each send the next one `think` after the last one is stored; None: each batch
    begins as soon as it can."""
    calls: list[tuple[float, int, str]] = [(0.0005 * one, one, "put") for one in range(clients)]
    number, stored, waiting, flying = clients, 0, 0, 0
    while calls and calls[0][0] < seconds:
        now, _, what = heapq.heappop(calls)
        if what == "put":
            waiting += 1
            if company is not None:
                company.came(now)
        elif what == "synced":
            stored, back, flying = stored + flying, flying, 0
            if company is not None:
                company.ended(now, SYNC)
            for call in _again(back, now + think, number):
                heapq.heappush(calls, call)
            number += back
        if flying or not waiting:
            continue
        wait = company.wait(now) if company is not None else 0.0
        number += 1
        if wait > 0:
            heapq.heappush(calls, (now + wait, number, "look"))
            continue
        flying, waiting = waiting, 0
        if company is not None:
            company.begun(flying)
        heapq.heappush(calls, (now + SYNC, number, "synced"))
    return stored / seconds


def _again(clients: int, at: float, number: int) -> Iterator[tuple[float, int, str]]:
    """One processor serves them, a quarter of a millisecond each."""
    return ((at + 0.00025 * one, number + one, "put") for one in range(clients))


@pytest.mark.parametrize("clients", [1, 2, 5, 20])
def test_a_client_s_turn_costs_little_more_than_a_sync(clients: int) -> None:
    """0.8 of what a sync and a half for each message allow is reached where clients would fall into two groups."""
    allowed = 0.8 * clients / (1.5 * SYNC)
    rate = turns(Company(), clients, 0.0015, 10.0)
    assert rate > allowed
    assert rate >= turns(None, clients, 0.0015, 10.0)


def test_clients_that_come_back_too_late_lose_nothing() -> None:
    """As many as keep the processor busy for longer than a sync."""
    at_once = turns(None, 60, 0.0015, 10.0)
    assert turns(Company(), 60, 0.0015, 10.0) > 0.95 * at_once
