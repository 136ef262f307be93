"""`kmq expire`, and that `kmq queues` says when expiry is stopped."""

import json

from kmq.model.frame import Answer
from tests.cli.conftest import Kmqd, Place

STOPPED = "expiry is stopped: kmq expire lets it go on"


def test_what_is_overdue_is_counted_and_let_go_by_two_questions(place: Place, kmqd: Kmqd) -> None:
    kmqd.answers["overdue"] = [{"Queue": "isp", "Overdue": 25}, Answer(status=0, text="25 messages are overdue")]
    assert place.run("expire", "--what-if") == (0, "isp 25\n25 messages are overdue\n", "")
    assert place.run("expire") == (0, "done\n", "")
    assert kmqd.asked == [("overdue", {}), ("expire", {})]
    _, out, err = place.run("--json", "expire", "--what-if")
    assert json.loads(out) == {"Queue": "isp", "Overdue": 25}
    assert err == "kmq: 25 messages are overdue\n"


def test_who_looks_at_the_queues_is_told_that_expiry_is_stopped(place: Place, kmqd: Kmqd) -> None:
    kmqd.queues = [
        {
            "NextHop": "SmartHostConnectorDelivery;isp;isp",
            "NextHopDomain": "isp",
            "Status": "Retry",
            "MessageCount": 25,
        },
        Answer(status=0, text=STOPPED),  # type: ignore[list-item]
    ]
    status, out, err = place.run("queues")
    assert (status, out.splitlines()[-1], err) == (0, STOPPED, "")
    status, out, err = place.run("--json", "queues")
    assert (status, len(out.splitlines()), err) == (0, 2, f"kmq: {STOPPED}\n"), "with the Submission queue"


def test_without_kmqd_nothing_is_let_go(place: Place) -> None:
    assert place.run("expire")[0] == 75
