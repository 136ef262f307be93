"""What `kmq config diff` foresees is what a reload does to the queue of a real kmqd."""

import json
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kmq.admin.client import ask
from kmq.model import recipients
from kmq.spool.look import Found, walk
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import free_port, until

CONNECTORS = """
[gone : connector]
type = smarthost
address_spaces = gone.test
hosts = 127.0.0.1:{dead}

[lone : connector]
type = smarthost
address_spaces = lone.test
hosts = 127.0.0.1:{dead}

[before : connector]
type = smarthost
address_spaces = renamed.test
hosts = 127.0.0.1:{dead}
helo = renamed.local.test

[moved : connector]
type = smarthost
address_spaces = moved.test, held.test
hosts = 127.0.0.1:{dead}
cost = 2

[spare : connector]
type = smarthost
address_spaces = gone.test, other.test
hosts = 127.0.0.1:{dead}, 127.0.0.1:{other}
cost = 10

[dear : connector]
type = smarthost
address_spaces = other.test
hosts = 127.0.0.1:{other}
cost = 20

[world : connector]
type = dns
address_spaces = dns.test
retry_profile = kerio
"""

#: Where each goes -> what the change below makes of it: (change, connector of the new next hop, "" for none).
ADDRESSES = {
    "a@gone.test": ("goes elsewhere", "spare"),  # its connector is gone, another one serves the space
    "a@lone.test": ("becomes unreachable", ""),  # and here no other one
    "a@renamed.test": ("the same way under another name", "after"),
    "a@moved.test": ("goes elsewhere", "moved"),  # other hosts, so another queue of the same connector
    "a@nowhere.test": ("reachable again", "spare"),
    "a@never.test": ("", ""),  # unreachable before and after
    "a@other.test": ("", "spare"),  # fresh mail would go elsewhere, since that is cheaper then
    "away@local.test": ("goes elsewhere", "spare"),  # not local any more
    "a@dns.test": ("", "world"),
}

_CHANGE = (
    ("[gone : connector]\ntype = smarthost\naddress_spaces = gone.test\nhosts = 127.0.0.1:{dead}\n\n", ""),
    ("[lone : connector]\ntype = smarthost\naddress_spaces = lone.test\nhosts = 127.0.0.1:{dead}\n\n", ""),
    ("[before : connector]", "[after : connector]"),
    ("address_spaces = moved.test, held.test\nhosts = 127.0.0.1:{dead}", "{moved}"),
    ("address_spaces = gone.test, other.test", "address_spaces = gone.test, other.test, nowhere.test, local.test"),
    ("cost = 20", "cost = 5"),
    ("retry_profile = kerio", "retry_profile = exchange\nmessage_lifetime = 1s"),
)
_MOVED = "address_spaces = moved.test, held.test\nhosts = 127.0.0.1:{other}"


@pytest.fixture
def kmqd(tmp_path: Path) -> Iterator[Kmqd]:
    """Mail of every kind waits, and nothing can be delivered."""
    ports = {"dead": free_port(), "other": free_port()}
    made = Kmqd(tmp_path / "kmqd", workers=1, drops=NO_DROPS + CONNECTORS.format(**ports))
    made.queue = "retry_jitter = 0"
    made.kmq = f"dns_servers = 127.0.0.1:{free_port()}\ndns_timeout = 100ms"
    made.within = {key: str(port) for key, port in ports.items()}
    made.folder.mkdir(exist_ok=True)
    made.mail.mkdir()
    (made.mail / "away").write_text("no folder, so that delivery waits\n")
    made.start()
    try:
        with smtplib.SMTP("127.0.0.1", made.port) as client:
            for address in (*ADDRESSES, "a@held.test"):
                client.sendmail("s@local.test", [address], f"Subject: {address}\r\n\r\n.\r\n")
            client.sendmail("s@local.test", list(ADDRESSES), "Subject: all\r\n\r\n.\r\n")
        yield made
    finally:
        made.close()


def kmq(kmqd: Kmqd, *words: str) -> tuple[int, list[dict[str, Any]], str]:
    """-> exit status, objects, errors."""
    done = kmqd.call("--json", *words)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def changed(kmqd: Kmqd) -> str:
    """The text of the configuration that is to come."""
    text = (kmqd.folder / "kmq.conf").read_text()
    for old, new in _CHANGE:
        old, new = old.format(**kmqd.within), new.format(moved=_MOVED).format(**kmqd.within)
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text.replace("local_domains = local.test", "local_domains = elsewhere.test").replace(
        "address_spaces = local.test\nmaildir", "address_spaces = elsewhere.test\nmaildir"
    )


def waiting(kmqd: Kmqd) -> dict[tuple[str, str], str]:
    """(ID, address) -> next hop, as the scheduler process says."""
    found = {one.head.id: one for one in walk(kmqd.spool) if isinstance(one, Found)}
    out: dict[tuple[str, str], str] = {}
    for line in ask(kmqd.run, "message", {"ids": list(found)}).lines:
        for index in recipients.from_text(str(line["Recipients"])):
            address = found[str(line["ID"])].head.recipients[index].address
            out[str(line["ID"]), address] = str(line["NextHop"])
    return out


def routed(kmqd: Kmqd) -> bool:
    """All of it waits in the queue where it belongs, and nobody has anything in hand."""
    there = waiting(kmqd)
    return len(there) == 2 * len(ADDRESSES) + 1 and not any(hop.startswith("Undefined;") for hop in there.values())


def test_what_is_foreseen_is_what_a_reload_does(kmqd: Kmqd, tmp_path: Path) -> None:
    until(lambda: routed(kmqd), "all of it is routed")
    held = next(key for key in waiting(kmqd) if key[1] == "a@held.test")
    assert ask(kmqd.run, "suspend", {"ids": [held[0]]}).status == 0
    other = tmp_path / "new.conf"
    other.write_text(changed(kmqd))
    before = waiting(kmqd)
    assert ask(kmqd.run, "settle").status == 0  # the files that are looked at follow the journal
    status, objects, said = kmq(kmqd, "config", "diff", str(other))
    assert status == 0, said
    foreseen = [one for one in objects if "ID" in one]
    after = dict(before)
    for one in foreseen:
        after.update({(one["ID"], address): one["NewNextHop"] for address in one["Recipients"]})
        assert all(before[one["ID"], address] == one["NextHop"] for address in one["Recipients"])
    of_each = {address: (one["Change"], one["NewNextHop"]) for one in foreseen for address in one["Recipients"]}
    for address, (change, connector) in ADDRESSES.items():
        found, hop = of_each.get(address, ("", ""))
        assert (found if found != "stays" else "", hop.rpartition(";")[2] if change else connector) == (
            change,
            connector,
        ), address
    dear = {one["Elsewhere"] for one in foreseen if "a@other.test" in one["Recipients"]}
    assert dear == {f"SmartHostConnectorDelivery;127.0.0.1:{kmqd.within['other']};dear"}
    (kmqd.folder / "kmq.conf").write_text(other.read_text())
    reloaded = ask(kmqd.run, "reload")
    assert reloaded.status == 0, reloaded
    until(lambda: waiting(kmqd) == after, f"what was foreseen comes true: {after}")
    assert after[held] == before[held], "suspended mail is not routed anew"
    told = {(line["Option"], line["Counts"]) for line in reloaded.lines if "Option" in line}
    assert {(one["Option"], one["Counts"]) for one in objects if "Option" in one} == told
    queues = {one["Queue"]: one["Change"] for one in objects if "Change" in one and "ID" not in one}
    was, will = set(before.values()), set(after.values())
    assert queues == dict.fromkeys(was - will, "vanishes") | dict.fromkeys(will - was, "appears")
    assert kmqd.accidents() == []


def test_who_is_over_his_time_then_fails_with_the_next_attempt(kmqd: Kmqd, tmp_path: Path) -> None:
    until(lambda: routed(kmqd), "all of it is routed")
    until(lambda: all(one.state.results for one in walk(kmqd.spool) if isinstance(one, Found)), "it has been tried")
    text = (kmqd.folder / "kmq.conf").read_text()
    (tmp_path / "new.conf").write_text(text.replace("retry_profile = kerio", "message_lifetime = 1s"))

    def expiring() -> set[tuple[str, str]]:
        _, objects, _ = kmq(kmqd, "config", "diff", str(tmp_path / "new.conf"))
        return {(one["ID"], address) for one in objects if one.get("Expires") for address in one["Recipients"]}

    until(lambda: len(expiring()) == 2, "two messages are a second old")
    foreseen = expiring()
    assert {address for _, address in foreseen} == {"a@dns.test"}
    before = waiting(kmqd)
    (kmqd.folder / "kmq.conf").write_text((tmp_path / "new.conf").read_text())
    assert ask(kmqd.run, "reload").status == 0

    def given_up() -> bool:
        ask(kmqd.run, "flush")
        return not foreseen & waiting(kmqd).keys()

    until(given_up, "they are given up")
    assert waiting(kmqd).keys() >= before.keys() - foreseen


def test_a_configuration_that_cannot_be_is_refused_with_its_line(kmqd: Kmqd, tmp_path: Path) -> None:
    other = tmp_path / "new.conf"
    other.write_text((kmqd.folder / "kmq.conf").read_text().replace("retry_profile = kerio", "retry_profile = kerri"))
    status, objects, said = kmq(kmqd, "config", "diff", str(other))
    line = other.read_text().splitlines().index("retry_profile = kerri") + 1
    assert (status, objects) == (78, [])
    assert f"new.conf:{line}" in said
    assert kmq(kmqd, "config", "diff", str(tmp_path / "none.conf"))[0] == 78
    assert kmq(kmqd, "config", "diff")[0] == 2
