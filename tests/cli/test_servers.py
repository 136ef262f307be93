"""An identity that bears the name of another server does nothing here."""

import pytest

from kmq.cli.servers import objection
from kmq.model.event import Routed
from tests.cli.conftest import Kmqd, Place

ISP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"
QUEUE = "smtp.isp.example:587"


@pytest.mark.parametrize("server", ["", "*", "mx.example.org", "MX.Example.ORG", "mx", "MX"])
def test_these_names_are_ours(server: str) -> None:
    assert objection(server, "mx.example.org") == ""


@pytest.mark.parametrize("server", ["mx2", "mx.example", "example.org", "mx.example.org.", "a\\b"])
def test_these_are_another_s(server: str) -> None:
    assert objection(server, "mx.example.org")


def test_another_server_s_names_do_nothing_here(place: Place, kmqd: Kmqd) -> None:
    one, two = (place.bag.lay(Routed(rcpt="0", hop=ISP)) for _ in range(2))
    told = "kmq: 'mx2.example.org' is another server: this one is mx.example.org\n"
    theirs = f"mx2.example.org\\{QUEUE}"
    for words in (
        ("remove", one, f"{theirs}\\{two}"),
        ("suspend", "--queue", theirs),
        ("mailq", "--queue", theirs),
        ("show", f"{theirs}\\{one}"),
        ("history", f"{theirs}\\{one}"),
        ("explain", f"{theirs}\\{one}"),
        ("explain", theirs),
    ):
        assert place.run(*words) == (2, "", told), words
    assert kmqd.asked == []


def test_our_own_names_are_ours(place: Place, kmqd: Kmqd) -> None:
    one = place.bag.lay(Routed(rcpt="0", hop=ISP))
    kmqd.queues = [{"NextHop": ISP, "Status": "Ready", "MessageCount": 1}]
    for server in ("mx.example.org", "MX", "*"):
        assert place.run("show", f"{server}\\{QUEUE}\\{one}")[0] == 0
        assert place.run("suspend", f"{server}\\{QUEUE}\\{one}")[0] == 0
        assert kmqd.asked[-1] == ("suspend", {"ids": [f"{ISP}\\{one}"]})
        assert place.run("mailq", "--ids", "--queue", f"{server}\\{QUEUE}")[1] == f"{one}\n"
        assert place.run("explain", f"{server}\\{QUEUE}")[0] == 0
