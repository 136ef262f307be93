"""A smart host that will not have us, below a real kmqd: mail is held instead of returned, and goes when it may."""

import json
import subprocess
import sys
from pathlib import Path

from kmq.model.envelope import fold
from kmq.model.event import Deferred
from tests.fake_dns import FakeDNS
from tests.faults.world import World, world
from tests.torture.kmqd import NO_DROPS
from tests.waiting import until

DENIED = "554 5.7.1 Relay access denied"


def kmq(here: World, *verb: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kmq.cli.kmq", "-c", str(here.kmqd.folder / "kmq.conf"), *verb]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def queue_of(here: World) -> dict[str, object]:
    lines = map(json.loads, kmq(here, "--json", "queues").stdout.splitlines())
    return next((one for one in lines if one["DeliveryType"] == "SmartHostConnectorDelivery"), {})


def held(here: World) -> set[tuple[str, str]]:
    """What envelopes in the queue say of failures that are held."""
    folded = filter(None, (fold(path.read_bytes()) for path in here.kmqd.queued()))
    events = [event for _, _, events in folded for event in events]
    return {(one.reply, one.held) for one in events if isinstance(one, Deferred) and one.held}


def test_what_fails_by_our_own_fault_is_held_until_it_is_let_go(tmp_path: Path) -> None:
    with (
        FakeDNS(zone={"mx.local.test": ["A 127.0.0.1"]}).threaded() as dns,
        world(
            tmp_path / "k",
            kmq=f"dns_servers = 127.0.0.1:{dns.port}",
            queue="grace_hold = 3",
            drops=f"{NO_DROPS}\n\n[world : connector]\ntype = dns\naddress_spaces = *\n",
        ) as here,
    ):
        here.hop.data = DENIED
        senders = [f"alice{number}@local.test" for number in range(2)]
        for number in range(12):
            with here.client() as client:
                client.sendmail(senders[number % 2], [f"bob{number}@far.test"], f"Message-ID: <{number}>\r\n\r\nx\r\n")
        until(lambda: queue_of(here).get("MessageCount") == 10, "all but two are held")
        queue = queue_of(here)
        assert (queue["Status"], queue["Why"]) == ("Suspended", "grace-hold"), queue
        assert queue["HeldBy"] == "grace hold: the server refuses to relay for us"
        told = kmq(here, "queues").stdout
        assert "grace hold" in told and "kmq resume --queue" in told
        assert here.kmqd.log.count("error: grace hold") == 1, "one alarm"
        until(lambda: here.kmqd.counters().get("grace_holds") == 1, "the status file says it")

        until(lambda: len(here.kmqd.queued()) == 10, "they are on the disk")
        until(lambda: held(here), "those that had failed say so")
        assert held(here) == {(DENIED, "the server refuses to relay for us")}
        assert "status=deferred" in here.kmqd.log and 'held="the server refuses to relay for us"' in here.kmqd.log

        here.kmqd.kill("scheduler-1")
        until(lambda: here.kmqd.alive and queue_of(here).get("Why") == "grace-hold", "it is held after a crash, too")
        name = str(queue["NextHopDomain"])
        assert kmq(here, "resume", "--queue", name, "--yes").returncode == 0
        kmq(here, "retry", "--queue", name, "--yes")
        until(lambda: queue_of(here).get("Why") == "grace-hold", "let go in vain it is held again, at once")
        assert len(here.kmqd.queued()) == 10, "and nothing was returned"

        here.hop.data = ""
        assert kmq(here, "resume", "--queue", name, "--yes").returncode == 0
        kmq(here, "retry", "--queue", name, "--yes")
        until(lambda: sum(here.copies().values()) == 10, "mail goes")
        here.kmqd.drain()
        assert here.kmqd.accidents() == []
        assert here.kmqd.counters()["grace_holds"] == 0

        for number in range(12):
            with here.client() as client:
                client.sendmail("alice0@local.test", [f"bob@d{number}.test"], "Subject: x\r\n\r\nx\r\n")
        until(lambda: here.kmqd.counters().get("grace_holds") == 10, "a DNS that knows no domain holds all but two")
        assert here.kmqd.log.count("error: grace hold: our DNS knows no domain") == 1, "one alarm for all of them"
