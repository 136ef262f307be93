"""A real kmqd with two receivers and three workers: limits hold over all of them, and urgent mail arrives first."""

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import EvilHop
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import until

#: One connector each. calm: one connection at a time; slow: two messages a minute; wide: no limit, for comparison.
CONNECTORS = """

[calm : connector]
type = smarthost
address_spaces = calm.test
hosts = 127.0.0.1:{calm}
tls = never
connections = 1
connection_idle = 0

[slow : connector]
type = smarthost
address_spaces = slow.test
hosts = 127.0.0.1:{slow}
tls = never
messages_per_minute = 2

[asks : connector]
type = smarthost
address_spaces = asks.test
hosts = 127.0.0.1:{asks}
tls = never

[in : receiver]
"""


class Site:
    """kmqd and its hops, by the names of its connectors."""

    def __init__(self, folder: Path, hops: dict[str, EvilHop]) -> None:
        self.hops = hops
        more = CONNECTORS.format(**{name: hop.port for name, hop in hops.items()}).removesuffix("\n[in : receiver]\n")
        self.kmqd = Kmqd(folder, queue="priority_queuing = yes", drops=NO_DROPS + more, workers=3, receivers=2)

    def send(self, to: str, header: str = "", times: int = 1) -> None:
        with smtplib.SMTP("127.0.0.1", self.kmqd.port, timeout=20) as client:
            for _ in range(times):
                client.sendmail("alice@local.test", to, f"Subject: x\r\n{header}\r\nhello\r\n".encode())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    calm, slow, asks = EvilHop(), EvilHop(), EvilHop()
    with calm.threaded(), slow.threaded(), asks.threaded():
        made = Site(tmp_path_factory.mktemp("throttling"), {"calm": calm, "slow": slow, "asks": asks})
        with made.kmqd.running():
            yield made


def test_one_connection_is_one_over_three_workers(site: Site) -> None:
    hop = site.hops["calm"]
    site.send("bob@calm.test", times=60)
    until(lambda: len(hop.messages) == 60, "all of it has arrived")
    assert hop.most == 1


def test_two_messages_a_minute_are_two_and_the_queue_says_so(site: Site) -> None:
    hop = site.hops["slow"]
    site.send("bob@slow.test", times=9)
    until(lambda: site.kmqd.queue_of("slow").get("Why") == "throttled", "it waits")
    found = site.kmqd.queue_of("slow")
    assert (found["Throttled"], found["MessageCount"]) == ("messages_per_minute = 2", 8)
    assert found["NextRetryTime"]
    assert len(hop.messages) == 1
    until(lambda: len(site.kmqd.queued()) == 8, "its files are made")
    told = site.kmqd.asked("explain", site.kmqd.queued()[0].stem)
    assert "messages_per_minute = 2" in told, told


def test_urgent_mail_is_the_next_that_goes_and_a_restart_does_not_forget_it(site: Site) -> None:
    """What waits at the slow connector goes at once when its limit is taken back: the urgent one first."""
    hop = site.hops["slow"]
    site.send("late@slow.test", "Priority: non-urgent\r\n")
    site.send("urgent@slow.test", "X-Priority: 1 (Highest)\r\n")
    before = len(hop.messages)  # one that has its turn already may still go
    assert before < 6

    def counts() -> list[int]:
        found: list[int] = site.kmqd.queue_of("slow").get("MessageCountsPerPriority", [])
        return found

    until(lambda: counts()[2:] == [1], "all of it is routed")
    site.kmqd.kill("scheduler-1")
    site.kmqd.ready()
    until(lambda: ["urgent@slow.test"] in [one.recipients for one in hop.messages], "a new minute begins")
    gone = [one.recipients for one in hop.messages]
    assert gone.index(["urgent@slow.test"]) <= before + 1
    assert ["late@slow.test"] not in gone
    until(lambda: counts()[:1] == [0] and counts()[2:] == [1], "it is gone, and the other one waits")


def test_a_hop_that_says_421_is_left_alone_for_a_while(site: Site) -> None:
    site.send("421-at-rcpt.x@asks.test")
    until(
        lambda: (
            site.kmqd.queue_of("asks").get("Why") == "throttled" or not site.kmqd.queue_of("asks").get("MessageCount")
        ),
        "it said so",
    )
    site.send("bob@asks.test")
    until(lambda: site.kmqd.queue_of("asks").get("Why") == "throttled", "what comes now waits")
    assert site.kmqd.queue_of("asks")["Throttled"].startswith("it asked for less: 421 4.2.0 said so")
    assert site.hops["asks"].messages == []
    until(lambda: "a next hop asks for less queue=127.0.0.1" in site.kmqd.log, "an operator is told")


def test_what_a_client_may_do_in_a_minute_is_one_over_two_receivers(site: Site) -> None:
    conf = site.kmqd.folder / "kmq.conf"
    text = conf.read_text()
    conf.write_text(
        text.replace("sessions_per_client = 200\n", "sessions_per_client = 200\nclient_messages_per_minute = 5\n")
    )
    site.kmqd.asked("reload")
    codes = []
    for _ in range(4):
        with smtplib.SMTP("127.0.0.1", site.kmqd.port, timeout=20) as client:
            client.ehlo()
            for _ in range(3):
                codes.append(client.mail("alice@local.test")[0])
                client.rset()
    assert sorted(codes) == [250] * 5 + [450] * 7
