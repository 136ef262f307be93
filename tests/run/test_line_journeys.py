"""A real kmqd whose connectors have hours: mail waits, is asked for, is sent; and a connector that is disabled."""

import re
import smtplib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import EvilHop
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import until

NAMES = ("branch", "daily", "night", "main", "deputy", "nowhere")

CONNECTORS = """

[branch : connector]
type = smarthost
address_spaces = branch.test
hosts = 127.0.0.1:{branch}
tls = never
delivery = offline

[daily : connector]
type = smarthost
address_spaces = daily.test
hosts = 127.0.0.1:{daily}
tls = never
delivery = offline
send_at = {time}

[night : connector]
type = smarthost
address_spaces = night.test
hosts = 127.0.0.1:{night}
tls = never
between = {other_hours}

[main : connector]
type = smarthost
address_spaces = both.test
hosts = 127.0.0.1:{main}
tls = never
delivery = offline
enabled = yes

[deputy : connector]
type = smarthost
address_spaces = both.test
hosts = 127.0.0.1:{deputy}
tls = never
cost = 2

[nowhere : connector]
type = smarthost
address_spaces = source.test
hosts = 127.0.0.1:{nowhere}
tls = never
source_address = 192.0.2.25

[receiver]
etrn_from = 127.0.0.0/8
"""


class Site:
    """kmqd and its hops, by the names of its connectors."""

    def __init__(self, folder: Path, hops: dict[str, EvilHop]) -> None:
        self.hops = hops
        now = datetime.now()
        self.time = f"{now + timedelta(hours=3):%H:%M}"
        other = f"{(now + timedelta(hours=6)):%H:%M}-{(now + timedelta(hours=7)):%H:%M}"
        ports = {name: hop.port for name, hop in hops.items()}
        text = CONNECTORS.format(time=self.time, other_hours=other, **ports)
        self.kmqd = Kmqd(folder, drops=NO_DROPS + text)

    def send(self, to: str, times: int = 1) -> None:
        with smtplib.SMTP("127.0.0.1", self.kmqd.port, timeout=60) as client:
            for _ in range(times):
                client.sendmail("alice@local.test", to, b"Subject: x\r\n\r\nhello\r\n")

    def etrn(self, node: str) -> str:
        with smtplib.SMTP("127.0.0.1", self.kmqd.port, timeout=60) as client:
            client.ehlo()
            assert client.has_extn("etrn")
            code, text = client.docmd("ETRN", node)
            return f"{code} {text.decode()}"

    def waits(self, connector: str, count: int) -> dict[str, Any]:
        """The queue when so many wait in it."""
        until(lambda: self.kmqd.queue_of(connector).get("MessageCount") == count, f"{count} wait for {connector}")
        return self.kmqd.queue_of(connector)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    hops = {name: EvilHop() for name in NAMES}
    with (
        hops["branch"].threaded(),
        hops["daily"].threaded(),
        hops["night"].threaded(),
        hops["main"].threaded(),
        hops["deputy"].threaded(),
        hops["nowhere"].threaded(),
    ):
        made = Site(tmp_path_factory.mktemp("lines"), hops)
        with made.kmqd.running():
            yield made


def test_mail_for_a_branch_waits_until_the_branch_asks_for_it(site: Site) -> None:
    hop = site.hops["branch"]
    site.send("bob@branch.test", times=3)
    queue = site.waits("branch", 3)
    assert (queue["Status"], queue["Why"], queue["NextRetryTime"]) == ("Ready", "on-demand", None)
    assert hop.connections == 0
    assert site.etrn("branch.test") == "253 2.0.0 OK, 3 pending messages for node branch.test started"
    until(lambda: len(hop.messages) == 3, "all of it has arrived")
    assert site.etrn("elsewhere.test").startswith("459 ")
    until(lambda: re.search(r" etrn .*reply=.253 2\.0\.0 OK.*node=branch\.test", site.kmqd.log), "the log tells of it")


def test_what_waits_for_its_hours_says_so_and_an_operator_sends_it(site: Site) -> None:
    hop = site.hops["night"]
    site.send("bob@night.test", times=2)
    queue = site.waits("night", 2)
    assert queue["Why"] == "out-of-hours" and queue["NextRetryTime"]
    told = site.kmqd.asked("explain", queue["NextHop"])
    assert "out-of-hours" in told and "between" in told
    assert hop.connections == 0
    site.kmqd.asked("retry", "--queue", queue["NextHop"])
    until(lambda: len(hop.messages) == 2, "all of it has arrived")


def test_a_time_of_the_day_comes(site: Site) -> None:
    hop = site.hops["daily"]
    site.send("bob@daily.test")
    queue = site.waits("daily", 1)
    assert queue["Why"] == "scheduled" and queue["Timetable"] == f"at {site.time}"
    (line,) = [one for one in site.kmqd.asked("mailq").splitlines() if "daily.test" in one]
    assert site.time in line
    assert hop.connections == 0
    site.kmqd.asked("flush")
    until(lambda: len(hop.messages) == 1, "it has arrived")


def test_a_connector_that_is_disabled_hands_its_mail_to_the_next_best(site: Site) -> None:
    site.send("bob@both.test")
    site.waits("main", 1)
    path = site.kmqd.folder / "kmq.conf"
    path.write_text(path.read_text().replace("enabled = yes", "enabled = no"))
    site.kmqd.asked("reload")
    until(lambda: len(site.hops["deputy"].messages) == 1, "the deputy has it")
    assert site.hops["main"].connections == 0


def test_an_address_that_this_machine_has_not_is_a_trouble_of_the_queue(site: Site) -> None:
    site.send("bob@source.test")
    until(lambda: site.kmqd.queue_of("nowhere").get("Status") == "Retry", "it is in Retry")
    queue = site.kmqd.queue_of("nowhere")
    assert "source_address 192.0.2.25 is no address of this machine" in queue["LastError"]
    told = site.kmqd.asked("explain", queue["NextHop"])
    assert "no-source-address" in told
