"""What kmqd is asked when somebody looks at a crowd, or acts on it: as little as for a few."""

from collections import Counter
from itertools import groupby

import pytest

from bench.crowd import waiting
from bench.filling import fill
from kmq.admin.control import Line
from kmq.model.frame import Answer
from tests.cli.conftest import Kmqd, Place

FEW, MANY = 30, 330

LOOKS = [
    ("mailq",),
    ("mailq", "--limit", "5"),
    ("mailq", "--filter", "Size -gt 100 -and LastError -like '*greylisted*'", "--sort", "-Size,+FromAddress"),
    ("mailq", "--ids"),
    ("--json", "mailq"),
    ("queues",),
    ("queues", "--filter", "MessageCount -gt 3"),
]


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_whoever_looks_asks_kmqd_for_its_queues_once_however_many_messages(
    place: Place, kmqd: Kmqd, words: tuple[str, ...]
) -> None:
    fill(place.spool, waiting(MANY, 7))
    status, said, _ = place.run(*words)
    assert status == 0 and said
    assert kmqd.asked in ([], [("queues", {})]), "messages are read beside the scheduler process, not by it"


def test_a_verb_on_everything_names_each_message_once_and_asks_in_few_questions(place: Place, kmqd: Kmqd) -> None:
    ids = fill(place.spool, waiting(MANY, 7))
    status, _, _ = place.run("suspend", "--all", "--yes")
    assert status == 0
    verbs = Counter(verb for verb, _ in kmqd.asked)
    assert verbs["suspend"] <= 2
    named = [name.rpartition("\\")[2] for verb, given in kmqd.asked if verb == "suspend" for name in given["ids"]]
    assert sorted(named) == ids
    assert sum(verbs.values()) - verbs["suspend"] <= 2


def test_an_attempt_of_everything_is_asked_for_queue_by_queue(place: Place, kmqd: Kmqd) -> None:
    """So that kmqd tries each hop once for all that waits for it, and not for each portion of names again."""
    ids = fill(place.spool, waiting(MANY, 7))
    assert place.run("retry", "--all", "--yes")[0] == 0
    named = [name for verb, given in kmqd.asked if verb == "retry" for name in given["ids"]]
    assert sorted(named) == ids
    domain = {id_: at % 7 for at, id_ in enumerate(ids)}
    assert len(list(groupby(domain[name] for name in named))) == 7


def test_who_has_everything_tried_reads_what_was_not(place: Place, kmqd: Kmqd) -> None:
    ids = fill(place.spool, waiting(MANY, 7))
    tried: list[Line | Answer] = [{"ID": name, "Result": "retried"} for name in ids[1:]]
    held = {"ID": ids[0], "Result": "skipped", "Why": "it is suspended"}
    kmqd.answers["flush"] = [*tried, held, Answer(status=0, text="329 messages are tried now; 1 is suspended")]
    said = f"{ids[0]} skipped: it is suspended\n329 messages are tried now; 1 is suspended\n"
    assert place.run("flush") == (0, said, "")


def test_what_would_be_done_is_not_asked_of_kmqd_at_all(place: Place, kmqd: Kmqd) -> None:
    fill(place.spool, waiting(FEW, 3))
    status, said, _ = place.run("remove", "--all", "--what-if")
    assert status == 0 and str(FEW) in said
    assert not [verb for verb, _ in kmqd.asked if verb not in ("queues",)]
