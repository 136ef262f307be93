"""ETRN in the scheduler process: which queues a node means, and the replies of RFC 1985."""

import pytest

from kmq.config import read
from kmq.run.etrn import PAUSE, Etrns
from tests.run.desk import Desk

TEXT = """
[kmq]
hostname = mx.test
local_domains = local.test

[branch : connector]
type = smarthost
address_spaces = branch.test, *.branch.test
hosts = mail.branch.test
delivery = offline

[off : connector]
type = smarthost
address_spaces = off.test
hosts = off.test
enabled = no

[partners : connector]
type = dns
address_spaces = one.partner.test, two.partner.test, *.two.partner.test

[world : connector]
type = dns
address_spaces = *

[boxes : connector]
type = mailbox
maildir = /var/mail/{user}
"""

BRANCH = "SmartHostConnectorDelivery;mail.branch.test:25;branch"
ONE = "DnsConnectorDelivery;one.partner.test;partners"
TWO = "DnsConnectorDelivery;two.partner.test;partners"
DEEP = "DnsConnectorDelivery;deep.two.partner.test;partners"
FAR = "DnsConnectorDelivery;far.test;world"


class Site:
    def __init__(self):
        settings = read(TEXT, "kmq.conf", "/etc", "host")
        self.desk = Desk(connectors=settings.connectors)
        self.etrns = Etrns(self.desk.scheduler, settings)
        self.etrns.loading = False

    def ask(self, node):
        return str(self.etrns.ask(node, self.desk.now))


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    return Site()


def test_mail_that_waits_for_it_is_sent(site):
    for _ in range(3):
        site.desk.queued(BRANCH)
    assert site.desk.assign() == []
    assert site.ask("branch.test") == "253 2.0.0 OK, 3 pending messages for node branch.test started"
    assert len(site.desk.assign()) == 3


def test_nothing_waits(site):
    assert site.ask("branch.test") == "251 2.0.0 OK, no messages waiting for node branch.test"


@pytest.mark.parametrize(
    "node", ["far.test", "off.test", "local.test", "#boxes", "#world", "#far.test", "@test.far", "#nobody"]
)
def test_what_no_connector_names_is_not_to_be_asked_for(site, node):
    site.desk.queued(FAR)
    assert site.ask(node) == f"459 4.7.1 Node {node} not allowed: no connector names it"


@pytest.mark.parametrize(
    ("node", "queues"),
    [
        ("sub.branch.test", {BRANCH}),
        ("@branch.test", {BRANCH}),
        ("#branch", {BRANCH}),
        ("#mail.branch.test:25", {BRANCH}),
        ("one.partner.test", {ONE}),
        ("two.partner.test", {TWO}),
        ("deep.two.partner.test", {DEEP}),
        ("@two.partner.test", {TWO, DEEP}),
        ("@partner.test", {ONE, TWO, DEEP}),
        ("#partners", {ONE, TWO, DEEP}),
        ("#one.partner.test", {ONE}),
        ("@test", {BRANCH, ONE, TWO, DEEP}),
    ],
)
def test_a_node_means_its_queues_and_no_others(site, node, queues):
    every = {BRANCH, ONE, TWO, DEEP, FAR}
    for hop in every:
        site.desk.queued(hop)
    asked = []
    site.desk.scheduler.verbs.retry_queue = lambda hop, now: asked.append(hop)
    assert site.ask(node).startswith(f"253 2.0.0 OK, {len(queues)} pending")
    assert set(asked) == queues


def test_a_hop_in_retry_is_tried_at_once(site):
    site.desk.queued(ONE)
    site.desk.unavailable(site.desk.one())
    site.desk.wait(1)
    assert site.desk.assign() == []
    assert site.ask("one.partner.test").startswith("253 ")
    assert len(site.desk.assign()) == 1


def test_asking_twice_in_a_moment_sends_once(site):
    site.desk.queued(ONE)
    site.desk.unavailable(site.desk.one())
    assert site.ask("one.partner.test").startswith("253 ")
    site.desk.unavailable(site.desk.one())
    site.desk.wait(PAUSE - 1)
    assert site.ask("one.partner.test") == (
        "458 4.3.2 Unable to queue messages for node one.partner.test: it was sent a moment ago"
    )
    assert site.desk.assign() == []
    site.desk.wait(1)
    assert site.ask("one.partner.test").startswith("253 ")


def test_what_an_operator_holds_stays(site):
    site.desk.queued(BRANCH)
    site.desk.scheduler.verbs.suspend_queue(BRANCH, site.desk.now)
    assert site.ask("branch.test") == "458 4.3.2 Unable to queue messages for node branch.test: an operator holds it"
    assert site.desk.assign() == []


def test_while_the_queue_is_being_read_nothing_is_promised(site):
    site.etrns.loading = True
    assert site.ask("branch.test") == "458 4.3.2 Unable to queue messages for node branch.test: the queue is being read"


def test_a_new_configuration_counts(site):
    site.etrns.configure(
        read(TEXT.replace("address_spaces = branch.test, *.branch.test", "address_spaces = other.test"), "k", "/etc")
    )
    assert site.ask("branch.test").startswith("459 ")
    assert site.ask("other.test").startswith("251 ")
