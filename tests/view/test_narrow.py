"""Queues and processes on terminals of 80 columns, and of more."""

from pathlib import Path

import pytest

from kmq.model.phase import Phase
from kmq.spool.processes import read_all
from kmq.spool.status import StatusFile
from kmq.view.processes import Since, processes
from kmq.view.queues import queues
from kmq.view.table import Page
from kmq.view.words import width

QUEUES = [
    {
        "NextHopDomain": "a-rather-long-domain-with-日本語-in-it.example.org",
        "DeliveryType": "SmartHostConnectorDelivery",
        "Status": "Retry",
        "MessageCount": 100_000,
        "NextRetryTime": "2026-11-22T12:00:00.000Z",
        "LastError": "421 4.4.1 connect to mx.example.org [192.0.2.1]:25: nobody listens there",
    },
    {"NextHopDomain": "x.org", "DeliveryType": "DnsConnectorDelivery", "Status": "Ready", "MessageCount": 1},
]


@pytest.mark.parametrize("columns", [40, 80, 100, 129, 130, 200])
def test_queues_fit(columns: int) -> None:
    lines = list(queues(QUEUES, Page(columns=columns)))
    assert all(width(line) <= columns for line in lines)
    folded = columns < 130
    assert len(lines) == 3 + folded, "an error stands below its queue"
    if columns >= 80:
        assert sum("421 4.4.1 connect to" in line for line in lines) == 1
        assert sum("Retry" in line and "100000" in line for line in lines) == 1


def test_a_narrow_page_tells_times_without_a_year() -> None:
    titles, first, below, second = queues(QUEUES, Page(columns=80))
    assert "Retry +" in titles and "LastError" not in titles
    assert "11-22" in first and "2026" not in first
    assert below == "    421 4.4.1 connect to mx.example.org [192.0.2.1]:25: nobody listens there"
    assert second.split()[0] == "x.org"


@pytest.mark.parametrize("columns", [60, 80, 110, 160])
def test_processes_fit(tmp_path: Path, columns: int) -> None:
    status = StatusFile(tmp_path, "worker", 1)
    status.counters.update({f"a_counter_of_things_{n}": 1000 + n for n in range(9)})
    sender = "alice" * 9 + "@example.org"
    slot = status.begin("69212ad0-00000001", 5_000_000, sender, "bob@example.net")
    status.enter(slot, Phase.CONTENT)
    status.show(slot, "mx1.a-long-name.example.net", 45)
    status._beaten = -100.0
    status.flush()
    lines = list(processes(read_all(tmp_path), Page(columns=columns), Since.MOMENT))
    assert all(width(line) <= columns for line in lines)
    text = "\n".join(lines)
    assert all(f"a counter of things {n} 1,00{n}" in text for n in range(9)), "what goes together stays together"
    assert "mx1.a-long-n" in text and "45 %" in text
    status.close()
