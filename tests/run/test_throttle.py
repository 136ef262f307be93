"""What holds mail back although its next hop would take it: rates, a connector's connections, a hop that wants less."""

import pytest

from kmq.config.connections import Connections, key_of, part
from kmq.config.sections import ConnectorSection
from kmq.run.limits import Limits
from kmq.run.slowdown import IN_A_ROW, LONGEST, PAUSE, Slowdown, asks
from tests.run.desk import ISP, MAILBOX, SUBMISSION, Desk, remote

DNS = "DnsConnectorDelivery;{};world"


def smarthost(**options):
    return ConnectorSection(name="isp", type="smarthost", address_spaces=("*",), helo="mx", **options)


def world(**options):
    return ConnectorSection(name="world", type="dns", address_spaces=("*",), helo="mx", **options)


def domain(number):
    return DNS.format(f"d{number}.example")


def sent(desk, until):
    """Every message is delivered as soon as it is handed out: when and where each was, up to that time."""
    found = []

    def answer(one):
        found.append((desk.now, one.hop))
        desk.delivered(one)

    desk.run_until(until, answer)
    return found


# --- rates -----------------------------------------------------------------------------------------------------------


def test_messages_of_a_minute_are_spread_over_it():
    desk = Desk(connectors=[smarthost(messages_per_minute=30)])
    for _ in range(100):
        desk.queued(ISP)
    times = [at for at, _ in sent(desk, 59.9)]
    assert times == pytest.approx([2.0 * number for number in range(30)])
    assert len(sent(desk, 119.9)) == 30


def test_a_pause_buys_no_burst():
    desk = Desk(connectors=[smarthost(messages_per_minute=30)])
    desk.wait(3600)
    for _ in range(10):
        desk.queued(ISP)
    assert len(desk.assign()) == 1


def test_a_high_rate_wakes_nobody_for_each_message():
    desk = Desk(connectors=[smarthost(messages_per_minute=60_000, connections_per_domain=1000)], worker_slots=500)
    for _ in range(5000):
        desk.queued(ISP)
    wakes = 0
    while desk.now < 3.0:
        wakes += 1
        while given := desk.assign():
            for one in given:
                desk.delivered(one)
        desk.wait(max(0.001, desk.scheduler.next_due(desk.now) - desk.now))
    assert 2900 <= 5000 - desk.queue(ISP).messages <= 3200
    assert wakes < 1000


def test_a_rate_is_one_for_all_domains_and_they_take_turns():
    desk = Desk(connectors=[world(messages_per_minute=60)])
    for _ in range(3):
        for number in range(4):
            desk.queued(domain(number))
    found = sent(desk, 11.5)
    assert [hop for _, hop in found] == [domain(number) for number in range(4)] * 3
    assert [at for at, _ in found] == pytest.approx(list(range(12)))


def test_a_rate_of_each_domain_holds_up_no_other_domain():
    desk = Desk(connectors=[world(messages_per_minute_per_domain=6)])
    for _ in range(3):
        desk.queued(domain(1))
        desk.queued(domain(2))
    assert [at for at, hop in sent(desk, 60) if hop == domain(2)] == pytest.approx([0, 10, 20])
    assert desk.queue(domain(1)).messages == 0


def test_a_queue_says_what_it_waits_for_and_until_when():
    desk = Desk(connectors=[smarthost(messages_per_minute=6)])
    desk.queued(ISP)
    desk.queued(ISP)
    desk.delivered(desk.one())
    assert desk.assign() == []
    facts = desk.queue(ISP)
    assert (facts.why, facts.throttled, facts.throttled_until) == ("throttled", "messages_per_minute = 6", 10.0)
    assert desk.scheduler.next_due(desk.now) == 10.0
    desk.wait(10)
    desk.delivered(desk.one())
    assert desk.queue(ISP).why == ""


def test_an_operator_s_retry_does_not_break_the_rate():
    desk = Desk(connectors=[smarthost(messages_per_minute=6)])
    for _ in range(3):
        desk.queued(ISP)
    desk.delivered(desk.one())
    desk.scheduler.verbs.retry_queue(ISP, desk.now)
    assert desk.assign() == []


def test_a_rate_that_is_taken_back_lets_all_go_that_waits():
    desk = Desk(connectors=[smarthost(messages_per_minute=1)])
    for _ in range(4):
        desk.queued(ISP)
    desk.delivered(desk.one())
    assert desk.assign() == []
    desk.scheduler.configure(Desk().section)
    assert len(desk.assign()) == 3
    assert desk.queue(ISP).why == ""


@pytest.mark.parametrize("option", ["messages_per_minute", "messages_per_minute_per_domain"])
def test_a_rate_that_is_raised_counts_at_once_and_one_that_is_lowered_brings_nobody_forward(option):
    desk = Desk(connectors=[smarthost(**{option: 1})])
    for _ in range(40):
        desk.queued(ISP)
    desk.delivered(desk.one())
    desk.wait(1)
    assert desk.assign() == []
    section = desk.section
    desk.scheduler.configure(section, limits=Limits(section, [smarthost(**{option: 6})]))
    assert desk.assign() == []
    assert desk.queue(ISP).throttled == f"{option} = 6"
    assert desk.queue(ISP).throttled_until == pytest.approx(10.0), "10 s behind the first"
    desk.wait(9)
    desk.delivered(desk.one())
    desk.scheduler.configure(section, limits=Limits(section, [smarthost(**{option: 1})]))
    assert [at for at, _ in sent(desk, 130)] == pytest.approx([20.0, 80.0])


# --- connections of a connector --------------------------------------------------------------------------------------


def test_a_connector_has_no_more_out_than_its_connections_carry():
    desk = Desk(connectors=[world(connections=2)])
    for number in range(10):
        desk.queued(domain(number))
    given = desk.assign()
    assert [one.hop for one in given] == [domain(number) for number in range(4)], "one is sent, the next one is at hand"
    waiting = desk.queue(domain(7))
    assert (waiting.why, waiting.throttled, waiting.throttled_until) == ("throttled", "connections = 2", None)
    desk.delivered(given[0])
    assert desk.one().hop == domain(4), "who has waited longest is next"


def test_who_keeps_coming_back_does_not_keep_others_out():
    desk = Desk(connectors=[world(connections=1)])
    for _ in range(6):
        desk.queued(domain(1))
    desk.queued(domain(2))
    served = []
    while given := desk.assign():
        for one in given:
            served.append(one.hop)
            desk.delivered(one)
    assert domain(2) in served[:4]
    assert len(served) == 7


def test_other_connectors_have_their_own():
    desk = Desk(connectors=[world(connections=1)])
    for number in range(5):
        desk.queued(domain(number))
        desk.queued(remote(number))
    assert sum(one.hop.startswith("Smart") for one in desk.assign()) == 5


def test_a_suspended_queue_takes_nobody_s_place():
    desk = Desk(connectors=[world(connections=1)])
    for number in range(4):
        desk.queued(domain(number))
    first, second = desk.assign()
    desk.scheduler.verbs.suspend_queue(domain(2), desk.now)
    desk.delivered(first)
    assert desk.one().hop == domain(3)
    desk.scheduler.verbs.resume_queue(domain(2), desk.now)
    desk.delivered(second)
    assert desk.one().hop == domain(2)


# --- connections and workers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "workers"), [(1, 2), (3, 2), (20, 3), (5, 8), (7, 1)])
def test_the_parts_of_all_workers_are_the_limit(limit, workers):
    for key in map(str, range(50)):
        parts = [part(limit, one, workers, key) for one in range(1, workers + 1)]
        assert sum(parts) == limit
        assert max(parts) - min(parts) <= 1
    assert part(limit, workers + 1, workers, "x") == 0


def test_queues_of_one_connection_spread_over_the_workers():
    found = Connections(1000, 1, 1)
    keys = [key_of(found, "world", f"d{number}.example", 4) for number in range(400)]
    carried = [sum(part(1, worker, 4, key) for key in keys) for worker in range(1, 5)]
    assert sum(carried) == 400
    assert min(carried) > 60


def test_who_has_no_connection_for_a_queue_gets_none_of_it():
    desk = Desk(workers=(50, 50), connectors=[world(connections_per_domain=1)], dealt=2)
    carriers = {}
    for _ in range(5):
        for number in range(20):
            desk.queued(domain(number))
    while given := desk.assign():
        for one in given:
            carriers.setdefault(one.hop, set()).add(one.worker)
            desk.delivered(one)
    assert {len(workers) for workers in carriers.values()} == {1}
    assert set.union(*carriers.values()) == {1, 2}


def test_when_a_queue_s_worker_is_gone_another_one_carries_it():
    desk = Desk(workers=(50, 50), connectors=[world(connections_per_domain=1)], dealt=2)
    desk.queued(domain(1))
    gone = desk.one().worker
    desk.scheduler.worker_gone(gone, desk.now)
    assert desk.one().worker == 3 - gone


def test_a_busy_worker_s_queue_does_not_stop_the_others():
    desk = Desk(workers=(4, 4), connectors=[world(connections_per_domain=1)], dealt=2)
    desk.queued(domain(1))
    mine = desk.one().worker
    for _ in range(3):
        desk.scheduler._crew.take(desk.scheduler._crew.workers[mine])
    desk.queued(domain(1))
    other = desk.queued(remote(1))
    assert [(one.mid, one.worker) for one in desk.assign()] == [(other, 3 - mine)]


# --- a hop that wants less -------------------------------------------------------------------------------------------

#: A reply -> whether it may be about us.
REPLIES = [
    ("421 4.7.0 Too many connections from your address", True),
    ("421 Service not available", True),
    ("450 4.7.1 You send too fast", True),
    ("451 4.7.650 Temporarily rate limited", True),
    ("450 4.7.1 Greylisted, come back in 5 minutes", False),
    ("451 4.7.1 Greylisting in action", False),
    ("450 4.2.1 mailbox busy, 4.7.0", False),
    ("452 4.2.2 mailbox full", False),
    ("451 4.3.0 421 is a number", False),
]


@pytest.mark.parametrize(("reply", "word"), REPLIES)
def test_what_is_a_word_about_us(reply, word):
    assert asks(reply) is word


def widened(desk):
    for _ in range(60):
        desk.queued(ISP)
        for one in desk.assign():
            desk.delivered(one)


def test_421_halves_the_width_and_waits_and_conversations_win_it_back():
    desk = Desk(workers=(1000,))
    widened(desk)
    for _ in range(300):
        desk.queued(ISP)
    given = desk.assign()
    assert len(given) == 40
    for one in given[:5]:
        desk.deferred(one, "421 4.7.0 try again later")
    assert desk.assign() == []
    facts = desk.queue(ISP)
    assert (facts.why, facts.throttled_until) == ("throttled", PAUSE)
    assert facts.throttled == "it asked for less: 421 4.7.0 try again later"
    assert desk.scheduler.closed() == [ISP], "workers begin no fresh mail for it by themselves"
    for one in given[5:]:
        desk.delivered(one)
    assert desk.assign() == [], "what was on its way changes nothing"
    desk.wait(PAUSE)
    given = desk.assign()
    assert 15 <= len(given) <= 21, "half as many"
    before = len(given)
    for one in given + desk.assign():
        desk.delivered(one)
    assert len(desk.assign()) == before + 1, "as many conversations as it is wide win one more"
    while desk.queue(ISP).messages > 5:
        for one in list(desk.scheduler._out.values()):
            desk.delivered(one)
        desk.assign()
    assert desk.queue(ISP).waiting == 5, "each by the schedule of its own"


def test_policy_refusals_of_some_recipients_slow_nobody_down():
    desk = Desk(workers=(1000,))
    widened(desk)
    for _ in range(20):
        desk.queued(ISP)
    for number, one in enumerate(desk.assign()):
        if number % 2:
            desk.deferred(one, "450 4.7.1 recipient is over quota for unknown senders")
        else:
            desk.delivered(one)
    assert desk.queue(ISP).why == ""
    assert desk.scheduler.closed() == []


def test_many_in_a_row_do():
    desk = Desk(workers=(1000,))
    widened(desk)
    for _ in range(60):
        desk.queued(ISP)
    for one in desk.assign()[:IN_A_ROW]:
        assert desk.scheduler.closed() == []
        desk.deferred(one, "450 4.7.1 you send too fast")
    assert desk.scheduler.closed() == [ISP]


def test_pauses_double_and_a_good_time_forgives():
    slow, now, pauses = Slowdown(), 0.0, []
    for _ in range(9):
        assert slow.refused("421 4.7.0 no", now)
        pauses.append(slow.until - now)
        now = slow.until
    assert pauses == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert not slow.refused("421 4.7.0 no", now - 1), "one pause at a time"
    for _ in range(20):
        slow.taken(1)
    assert slow.refused("421 4.7.0 no", now)
    assert slow.until - now == PAUSE < LONGEST


def test_a_probe_that_hears_421_does_not_open_the_full_width():
    desk = Desk(workers=(1000,), connection_retry_interval=60.0)
    for _ in range(50):
        desk.queued(ISP)
    for one in desk.assign():
        desk.unavailable(one)
    desk.wait(60)
    desk.deferred(desk.one(), "421 4.7.0 too busy")
    desk.wait(PAUSE)
    assert len(desk.assign()) == 1


def test_a_connector_may_be_told_not_to_slow_down():
    desk = Desk(workers=(1000,), connectors=[smarthost(slow_down=False)])
    widened(desk)
    for _ in range(60):
        desk.queued(ISP)
    for one in desk.assign()[:10]:
        desk.deferred(one, "421 4.7.0 no")
    assert len(desk.assign()) == 10


def test_a_pause_ends_when_its_connector_is_told_not_to_slow_down():
    desk = Desk(connectors=[smarthost()])
    for _ in range(40):
        desk.queued(ISP)
    for one in desk.assign():
        desk.deferred(one, "421 4.7.0 no")
    assert desk.assign() == [] and desk.queue(ISP).why == "throttled"
    desk.scheduler.configure(desk.section, limits=Limits(desk.section, [smarthost(slow_down=False)]))
    assert desk.assign() != []
    assert desk.queue(ISP).why == ""


# --- the Submission queue --------------------------------------------------------------------------------------------


def test_mail_that_scanners_look_at_leaves_slots_to_what_goes_out():
    desk = Desk(workers=(20,), worker_slots=20, inspected=True)
    for _ in range(100):
        desk.accept()
    stuck = desk.assign()
    assert len(stuck) == 10, "half of the slots, whatever waits"
    for _ in range(5):
        desk.queued(MAILBOX)
    assert [one.hop for one in desk.assign()] == [MAILBOX] * 5
    desk.deferred(stuck[0])
    assert [one.hop for one in desk.assign()] == [SUBMISSION], "one came back, the next one goes"


def test_without_scanners_it_has_what_there_is_but_a_fifth():
    desk = Desk(workers=(20,), worker_slots=20)
    for _ in range(100):
        desk.accept()
    assert len(desk.assign()) == 16


def test_scanners_that_come_with_a_new_configuration_count_at_once():
    desk = Desk(workers=(20,), worker_slots=20)
    for _ in range(100):
        desk.accept()
    out = desk.assign()
    section = desk.section
    desk.scheduler.configure(section, None, Limits(section, (), 1, True))
    for one in out[:6]:
        desk.deferred(one)
    assert desk.assign() == [], "ten are out"
    desk.deferred(out[6])
    assert len(desk.assign()) == 1
