"""An operator acts: what kmqd is asked, what is said, and what is refused before anything happens."""

import io
import json
import sys

import pytest

from kmq.model.event import Moved, Routed
from kmq.model.frame import Answer
from tests.cli.conftest import Kmqd, Place

ISP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"
OTHER = "SmartHostConnectorDelivery;smtp.isp.example:587;spare"
IDS = [f"69212ad0-000000{n:02x}" for n in range(20)]


def test_verbs_reach_kmqd_with_what_was_named(place: Place, kmqd: Kmqd) -> None:
    assert place.run("retry", IDS[0], IDS[1], IDS[0]) == (0, "done\n", "")
    assert place.run("suspend", IDS[0], "--reason", "looks odd")[0] == 0
    assert place.run("resume", "--all")[0] == 0
    assert place.run("flush")[0] == 0
    assert kmqd.asked == [
        ("retry", {"ids": IDS[:2]}),
        ("suspend", {"ids": [IDS[0]], "reason": "looks odd"}),
        ("resume", {"all": True}),
        ("flush", {}),
    ]


def test_a_queue_is_named_to_kmqd_by_its_whole_text(place: Place, kmqd: Kmqd) -> None:
    kmqd.queues = [{"NextHop": ISP}, {"NextHop": "Undefined;Submission;"}]
    assert place.run("suspend", "--queue", "SMTP.isp.example:587")[0] == 0
    assert kmqd.asked[-1] == ("suspend", {"queue": ISP})
    status, _, err = place.run("suspend", "--queue", "elsewhere")
    assert (status, kmqd.asked[-1][0]) == (1, "queues")
    assert "no queue is called elsewhere; there are: smtp.isp.example:587, Submission" in err
    kmqd.queues.append({"NextHop": OTHER})
    status, _, err = place.run("retry", "--queue", "smtp.isp.example:587")
    assert (status, kmqd.asked[-1][0]) == (1, "queues")
    assert f"2 queues are called smtp.isp.example:587: say which one, {ISP} or {OTHER}" in err
    assert place.run("retry", "--queue", OTHER)[0] == 0
    assert kmqd.asked[-1] == ("retry", {"queue": OTHER})


def test_what_kmqd_answers_is_said(place: Place, kmqd: Kmqd) -> None:
    kmqd.answers["remove"] = [
        {"ID": IDS[0], "Result": "removed"},
        {"ID": IDS[1], "Result": "pending"},
        Answer(status=0, text="1 removed, 1 will go when they come back"),
    ]
    said = f"{IDS[0]} removed\n{IDS[1]} pending\n1 removed, 1 will go when they come back\n"
    assert place.run("remove", IDS[0], IDS[1]) == (0, said, "")
    _, out, err = place.run("--json", "remove", IDS[0], IDS[1])
    assert [json.loads(line)["Result"] for line in out.splitlines()] == ["removed", "pending"]
    assert err == "kmq: 1 removed, 1 will go when they come back\n"
    kmqd.answers["remove"] = [Answer(status=1, text="no message")]
    assert place.run("remove", IDS[0]) == (1, "", "kmq: no message\n")
    kmqd.answers["remove"] = [{"ID": str(n), "Result": "removed"} for n in range(250)]
    _, out, _ = place.run("remove", IDS[0])
    assert out.count("removed") == 100
    assert out.endswith("... and 150 more\n")


@pytest.mark.parametrize(
    "words", [["retry"], ["remove", IDS[0], "--all"], ["suspend", "--queue", "x", "--all"], ["resume"]]
)
def test_exactly_one_way_of_naming(place: Place, kmqd: Kmqd, words: list[str]) -> None:
    status, _, err = place.run(*words)
    assert (status, kmqd.asked) == (2, [])
    assert "exactly one of them" in err


def test_without_kmqd_nothing_is_done_and_it_is_said(place: Place) -> None:
    for words in (["retry", IDS[0]], ["flush"], ["suspend", "--queue", "x"], ["remove", "--all", "--yes"]):
        status, out, err = place.run(*words)
        assert (status, out) == (75, "")
        assert "kmqd does not run" in err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answers(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(text))


def test_ten_messages_are_removed_without_a_question_eleven_are_not(
    place: Place, kmqd: Kmqd, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid = [place.bag.lay(Routed(rcpt="0", hop=ISP)) for _ in range(11)]
    answers(monkeypatch, "n\n")
    assert place.run("remove", *laid[:10])[0] == 0
    status, _, err = place.run("remove", *laid)
    assert status == 1
    assert "Remove 11 messages? Nobody will be told. [y/N]" in err
    assert "nothing was removed" in err
    assert len(kmqd.asked) == 1
    answers(monkeypatch, "y\n")
    assert place.run("remove", "--all")[0] == 0
    assert kmqd.asked[-1] == ("remove", {"all": True})
    answers(monkeypatch, "")
    assert place.run("remove", "--all")[0] == 1
    assert place.run("remove", "--all", "--yes")[0] == 0


def test_a_script_that_does_not_say_yes_is_refused(place: Place, kmqd: Kmqd, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(11):
        place.bag.lay(Routed(rcpt="0", hop=ISP))
    kmqd.queues = [{"NextHop": ISP}]
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    for words in (["--all"], ["--queue", "smtp.isp.example:587"]):
        status, _, err = place.run("remove", *words)
        assert status == 1
        assert "11 messages would be removed: say --yes if that is meant" in err
    assert kmqd.asked == []
    assert place.run("remove", "--queue", "nowhere")[0] == 1


def test_what_if_shows_and_does_nothing(place: Place, kmqd: Kmqd) -> None:
    first, second = place.bag.lay(Routed(rcpt="0", hop=ISP)), place.bag.lay()
    for verb in ("remove", "retry", "suspend", "resume"):
        status, out, _ = place.run(verb, "--all", "--what-if")
        assert status == 0
        assert first in out
        assert second in out
        assert "-- 2 messages, " in out
        assert out.endswith("Nothing was done (--what-if).\n")
    assert second not in place.run("remove", "--queue", "smtp.isp.example:587", "--what-if")[1]
    assert place.run("remove", first, first, "--what-if")[1].count("69212ad0-") == 1
    status, out, err = place.run("remove", "69212ad0-ffffffff", "--what-if")
    assert (status, out, err) == (1, "", "kmq: nothing matches\n")
    assert {verb for verb, _ in kmqd.asked} == {"queues"}, "only looked"


def test_poison_is_touched_only_by_who_names_it(place: Place, kmqd: Kmqd) -> None:
    place.bag.lay()
    poison = place.bag.lay(Moved(home="poison", reason="it kills"), home="poison")
    assert poison not in place.run("remove", "--all", "--what-if")[1]
    assert place.run("resume", "--queue", "poison")[0] == 0
    assert kmqd.asked[-1] == ("resume", {"ids": [poison]})
    place.bag.envelope(poison, "poison").unlink()
    place.bag.folder(poison, "poison").joinpath(f"{poison}.eml").unlink()
    status, _, err = place.run("resume", "--queue", "poison")
    assert (status, err) == (1, "kmq: poison/ is empty\n")


def test_a_part_of_a_message_cannot_be_named_as_if_it_were_the_whole(place: Place, kmqd: Kmqd) -> None:
    one = place.bag.lay(Routed(rcpt="0", hop=ISP))
    both = place.bag.lay(Routed(rcpt="0", hop=ISP), to=("a@example.net", "b@example.org"))
    for name in (f"mx\\smtp.isp.example:587\\{one}", f"*\\{both}", f"smtp.isp.example:587\\{one}"):
        assert place.run("retry", name)[0] == 0
    asked = len(kmqd.asked)
    status, _, err = place.run("retry", one, f"smtp.isp.example:587\\{both}")
    assert (status, len(kmqd.asked)) == (1, asked)
    assert f"{both} does not wait in smtp.isp.example:587 alone: give the ID without a queue" in err


def test_a_reason_has_its_bounds(place: Place, kmqd: Kmqd) -> None:
    status, _, err = place.run("remove", IDS[0], "--reason", "x" * 501)
    assert (status, kmqd.asked) == (2, [])
    assert "at most 500 characters" in err
