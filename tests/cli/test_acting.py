"""An operator acts: what kmqd is asked, what is said, and what is refused before anything happens."""

import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from kmq.admin import client
from kmq.admin.verbs import Arguments
from kmq.model.event import Moved, Routed
from kmq.model.frame import Answer
from tests.cli.conftest import Kmqd, Place

ISP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"
OTHER = "SmartHostConnectorDelivery;smtp.isp.example:587;spare"
SUBMISSION = "Undefined;Submission;"
IDS = [f"69212ad0-000000{n:02x}" for n in range(20)]
ACTS = ("retry", "remove", "suspend", "resume", "resubmit")


def changes(kmqd: Kmqd) -> list[tuple[str, dict[str, Any]]]:
    """What kmqd was asked to change."""
    return [(verb, arguments) for verb, arguments in kmqd.asked if verb != "queues"]


# --- which messages ---------------------------------------------------------------------------------------------------


def test_verbs_reach_kmqd_with_what_was_named(place: Place, kmqd: Kmqd) -> None:
    done = f"{IDS[0]} retried\n{IDS[1]} retried\n2 messages retried\n"
    assert place.run("retry", IDS[0], IDS[1], IDS[0]) == (0, done, "")
    assert place.run("suspend", IDS[0], "--reason", "looks odd")[0] == 0
    assert place.run("remove", IDS[0], "--with-ndr")[0] == 0
    assert place.run("resubmit", IDS[0])[0] == 0
    assert place.run("redirect", IDS[0], "--to-connector", "spare")[0] == 0
    assert place.run("flush", "--reason", "the line is back") == (0, "done\n", "")
    assert kmqd.asked == [
        ("retry", {"ids": IDS[:2]}),
        ("suspend", {"ids": [IDS[0]], "reason": "looks odd"}),
        ("remove", {"ids": [IDS[0]], "ndr": True}),
        ("resubmit", {"ids": [IDS[0]]}),
        ("redirect", {"ids": [IDS[0]], "connector": "spare"}),
        ("flush", {"reason": "the line is back"}),
    ]


def test_a_part_of_a_message_is_named_by_its_queue(place: Place, kmqd: Kmqd) -> None:
    both = place.bag.lay(Routed(rcpt="0", hop=ISP), to=("a@example.net", "b@example.org"))
    for name in (f"mx\\smtp.isp.example:587\\{both}", f"smtp.isp.example:587\\{both}", f"{ISP}\\{both}"):
        assert place.run("suspend", name)[0] == 0
        assert kmqd.asked[-1] == ("suspend", {"ids": [f"{ISP}\\{both}"]})
    assert place.run("suspend", f"*\\{both}")[0] == 0
    assert kmqd.asked[-1] == ("suspend", {"ids": [both]})
    assert place.run("suspend", f"submission\\{both}")[0] == 0
    assert kmqd.asked[-1] == ("suspend", {"ids": [f"{SUBMISSION}\\{both}"]})


def test_a_part_that_is_not_there_is_told_and_the_rest_is_done(place: Place, kmqd: Kmqd) -> None:
    one = place.bag.lay(Routed(rcpt="0", hop=ISP))
    status, out, err = place.run("suspend", f"elsewhere\\{one}", one)
    assert (status, err) == (0, "")
    assert out.startswith(f"elsewhere\\{one} gone: it does not wait in elsewhere\n{one} suspended\n")
    assert out.endswith("1 message suspended; 1 not in the queue (any more)\n")
    asked = len(changes(kmqd))
    status, out, err = place.run("suspend", f"elsewhere\\{one}")
    assert (status, len(changes(kmqd))) == (1, asked)
    assert err == "kmq: 1 not in the queue (any more)\n"


def test_of_a_queue_and_of_everything_each_message_is_named(place: Place, kmqd: Kmqd) -> None:
    first = place.bag.lay(Routed(rcpt="0", hop=ISP))
    second = place.bag.lay(Routed(rcpt="0", hop=OTHER))
    third = place.bag.lay()
    poison = place.bag.lay(Moved(home="poison", reason="it kills"), home="poison")
    assert place.run("remove", "--queue", "SMTP.isp.example:587")[0] == 0
    names = [f"{ISP}\\{first}", f"{OTHER}\\{second}"]
    assert kmqd.asked[-1] == ("remove", {"ids": names, "selection": "--queue SMTP.isp.example:587"})
    assert place.run("remove", "--queue", OTHER)[0] == 0
    assert kmqd.asked[-1][1]["ids"] == names[1:]
    assert place.run("remove", "--queue", "s*")[0] == 0
    assert kmqd.asked[-1][1]["ids"] == [*names, f"{SUBMISSION}\\{third}"]
    assert place.run("remove", "--all", "--yes")[0] == 0
    assert kmqd.asked[-1] == ("remove", {"ids": [first, second, third], "selection": "--all"})
    assert place.run("resume", "--queue", "poison")[0] == 0
    assert kmqd.asked[-1][1]["ids"] == [poison]
    assert place.run("suspend", "--queue", ISP, "--messages")[0] == 0
    assert kmqd.asked[-1][1]["ids"] == names[:1]


def test_of_a_filter_what_matches_is_named(place: Place, kmqd: Kmqd) -> None:
    place.bag.lay(Routed(rcpt="0", hop=ISP))
    spam = place.bag.lay(Routed(rcpt="0", hop=ISP), sender="eve@example.com")
    wish = "FromAddress -eq 'eve@example.com'"
    assert place.run("remove", "--filter", wish, "--reason", "spam")[0] == 0
    expected = {"ids": [f"{ISP}\\{spam}"], "reason": "spam", "selection": f"--filter {wish}"}
    assert kmqd.asked[-1] == ("remove", expected)
    assert place.run("suspend", "--queue", ISP, "--filter", wish)[0] == 0
    assert kmqd.asked[-1][1]["ids"] == [f"{ISP}\\{spam}"], "the messages, not the queue"
    asked = len(changes(kmqd))
    for words, status, says in (
        (["FromAddress -eq 'nobody@example.com'"], 1, "no message matches"),
        (["FromAdress -eq 'x'"], 2, "FromAddress"),
        (["("], 2, ""),
        (["x" * 200_000], 2, ""),
    ):
        found, _, err = place.run("remove", "--filter", *words)
        assert found == status
        assert says in err
    assert len(changes(kmqd)) == asked


@pytest.mark.parametrize(
    "words",
    [
        ["retry"],
        ["remove", IDS[0], "--all"],
        ["suspend", "--queue", "x", "--all"],
        ["resume"],
        ["remove", IDS[0], "--filter", "Size -gt 1"],
        ["remove", "--ids-from", "-", "--all"],
    ],
)
def test_exactly_one_way_of_naming(place: Place, kmqd: Kmqd, words: list[str]) -> None:
    status, _, err = place.run(*words)
    assert (status, kmqd.asked) == (2, [])
    assert "exactly one of them" in err


@pytest.mark.parametrize("name", ["../../etc/shadow", "/etc/passwd", "", "x" * 100_000, "69212AD0-0000a1f3", "a\\"])
def test_what_is_no_id_is_refused_before_anything_is_asked(place: Place, kmqd: Kmqd, name: str) -> None:
    for verb in (*ACTS, "export"):
        status, _, err = place.run(verb, IDS[0], name, *(["--to", "."] * (verb == "export")))
        assert (status, kmqd.asked) == (2, [])
        assert "is not a queue ID (like 69212ad0-0000a1f3)" in err
        assert len(err) < 2000


# --- lists ------------------------------------------------------------------------------------------------------------


def test_what_was_listed_is_what_is_done(place: Place, kmqd: Kmqd, tmp_path: Path) -> None:
    """Whatever comes and goes between the look and the deed."""
    wish = ["--queue", "smtp.isp.example:587"]
    seen = [place.bag.lay(Routed(rcpt="0", hop=hop)) for hop in (ISP, OTHER, ISP)]
    status, out, err = place.run("--json", "remove", *wish, "--what-if")
    assert (status, err) == (0, "kmq: 3 messages. Nothing was done (--what-if).\n")
    place.bag.lay(Routed(rcpt="0", hop=ISP))
    place.bag.envelope(seen[0]).unlink()
    (tmp_path / "list").write_text(out)
    assert place.run("remove", "--ids-from", str(tmp_path / "list"))[0] == 0
    names = [f"{hop}\\{name}" for hop, name in zip((ISP, OTHER, ISP), seen, strict=True)]
    assert kmqd.asked[-1] == ("remove", {"ids": names, "selection": f"--ids-from {tmp_path / 'list'}"})


def test_a_list_may_be_written_by_hand(place: Place, kmqd: Kmqd, monkeypatch: pytest.MonkeyPatch) -> None:
    one = place.bag.lay(Routed(rcpt="0", hop=ISP))
    text = f'# mine\n\n{IDS[5]}\n  mx\\smtp.isp.example:587\\{one}\r\n{{"ID":"{IDS[6]}","Result":"gone"}}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert place.run("resume", "--ids-from", "-")[0] == 0
    assert kmqd.asked[-1][1]["ids"] == [IDS[5], f"{ISP}\\{one}", IDS[6]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"69212ad0-00000001\n../x\n", ":2: '../x' is not a queue ID"),
        (b'{"Identity": 7}\n', ":1: this object has neither an Identity nor an ID"),
        (b'{"Identity": \n', ":1: "),
        (b"[" * 100_000, ":1: "),
        (b"{" + b'"a":[' * 100_000, ":1: "),
        (b"\xff\xfe\0\n", ":1: "),
    ],
)
def test_a_list_that_cannot_be_understood_does_nothing(
    place: Place, kmqd: Kmqd, tmp_path: Path, text: bytes, says: str
) -> None:
    (tmp_path / "list").write_bytes(text)
    status, _, err = place.run("remove", "--ids-from", str(tmp_path / "list"), "--yes")
    assert (status, kmqd.asked) == (2, [])
    assert f"{tmp_path / 'list'}{says}" in err
    assert len(err) < 1000
    status, _, err = place.run("remove", "--ids-from", str(tmp_path / "nowhere"))
    assert (status, err) == (2, f"kmq: {tmp_path / 'nowhere'} cannot be read: No such file or directory\n")


def test_a_list_of_nothing_is_not_an_empty_queue(
    place: Place, kmqd: Kmqd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.bag.lay()
    (tmp_path / "list").write_text("# none\n\n")
    status, _, err = place.run("remove", "--ids-from", str(tmp_path / "list"))
    assert (status, err, kmqd.asked) == (1, f"kmq: {tmp_path / 'list'} names no message\n", [])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert place.run("remove", "--ids-from", "-")[2] == "kmq: standard input names no message\n"


def test_without_kmqd_a_queue_that_is_not_there_is_told_beside_those_that_are(place: Place) -> None:
    place.bag.lay(Routed(rcpt="0", hop=ISP))
    status, _, err = place.run("remove", "--queue", "smtp.isp", "--what-if")
    assert (status, err) == (1, "kmq: no queue is called smtp.isp; there are: smtp.isp.example:587, Submission\n")


def test_what_if_shows_and_does_nothing(place: Place, kmqd: Kmqd) -> None:
    first, second = place.bag.lay(Routed(rcpt="0", hop=ISP)), place.bag.lay()
    for verb in ACTS:
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
    for _ in range(30):
        place.bag.lay(Routed(rcpt="0", hop=ISP))
    _, out, _ = place.run("remove", "--all", "--what-if")
    assert out.endswith("... and 12 more: --json shows all\n-- 32 messages. Nothing was done (--what-if).\n")
    assert changes(kmqd) == []


# --- queues -----------------------------------------------------------------------------------------------------------


def test_a_queue_is_named_to_kmqd_by_its_whole_text(place: Place, kmqd: Kmqd) -> None:
    kmqd.queues = [{"NextHop": ISP}, {"NextHop": SUBMISSION}]
    assert place.run("suspend", "--queue", "SMTP.isp.example:587") == (0, "done\n", "")
    assert kmqd.asked[-1] == ("suspend", {"queue": ISP})
    status, _, err = place.run("suspend", "--queue", "elsewhere")
    assert (status, kmqd.asked[-1][0]) == (1, "queues")
    assert "no queue is called elsewhere; there are: smtp.isp.example:587, Submission" in err
    kmqd.queues.append({"NextHop": OTHER})
    status, _, err = place.run("retry", "--queue", "smtp.isp.example:587")
    assert (status, kmqd.asked[-1][0]) == (1, "queues")
    assert f"2 queues are called smtp.isp.example:587: say which one, '{ISP}' or '{OTHER}'" in err, "for a shell"
    assert place.run("retry", "--queue", OTHER, "--reason", "they are back")[0] == 0
    assert kmqd.asked[-1] == ("retry", {"queue": OTHER, "reason": "they are back"})


def test_many_queues_at_once(place: Place, kmqd: Kmqd) -> None:
    kmqd.queues = [{"NextHop": f"DnsConnectorDelivery;{n}.example;world"} for n in range(12)]
    kmqd.queues.append({"NextHop": ISP})
    status, out, _ = place.run("suspend", "--queue", "1?.example")
    assert (status, out) == (0, "10.example: done\n11.example: done\n")
    status, _, err = place.run("suspend", "--queue", "*.example")
    assert (status, len(changes(kmqd))) == (2, 2)
    assert "this would suspend 12 queues: say --yes if that is meant" in err
    status, out, _ = place.run("suspend", "--queue", "*", "--what-if")
    assert (status, len(changes(kmqd))) == (0, 2)
    assert out.endswith("-- 13 queues. Nothing was done (--what-if).\n")
    assert place.run("suspend", "--queue", "*.example", "--yes")[0] == 0
    assert len(changes(kmqd)) == 14
    _, out, _ = place.run("--json", "resume", "--queue", "*isp*")
    assert json.loads(out) == {"Queue": "smtp.isp.example:587", "NextHop": ISP, "Result": "done", "Why": "done"}


# --- what is said -----------------------------------------------------------------------------------------------------


def test_what_kmqd_answers_is_said(place: Place, kmqd: Kmqd) -> None:
    kmqd.answers["remove"] = [
        {"ID": IDS[0], "Result": "removed"},
        {"ID": IDS[1], "Result": "pending"},
        {"ID": IDS[2], "Result": "skipped", "Why": "a\x1b[31mb"},
        Answer(status=0, text="its own words"),
    ]
    status, out, err = place.run("remove", *IDS[:3])
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"{IDS[0]} removed",
        f"{IDS[1]} pending",
        f"{IDS[2]} skipped: a\\x1b[31mb",
        "1 message removed; 1 pending: in somebody's hands, removed when that has ended; 1 skipped: a\\x1b[31mb",
    ]
    _, out, err = place.run("--json", "remove", IDS[0], IDS[1])
    assert [json.loads(line)["Result"] for line in out.splitlines()] == ["removed", "pending", "skipped"]
    assert err.startswith("kmq: 1 message removed; 1 pending")
    kmqd.answers["remove"] = [Answer(status=1, text="no message")]
    assert place.run("remove", IDS[0]) == (1, "", "kmq: no message\n")
    kmqd.answers["remove"] = [{"ID": IDS[0], "Result": "gone"}, Answer(status=1)]
    status, out, err = place.run("remove", IDS[0])
    assert (status, out, err) == (1, f"{IDS[0]} gone\n", "kmq: 1 not in the queue (any more)\n")


def test_of_many_those_are_shown_to_which_something_else_happened(place: Place, kmqd: Kmqd) -> None:
    names = [f"69212ad0-{n:08x}" for n in range(250)]
    kmqd.answers["remove"] = [{"ID": one, "Result": "removed"} for one in names]
    assert place.run("remove", IDS[0]) == (0, "250 messages removed\n", "")
    kmqd.answers["remove"] += [{"ID": one, "Result": "skipped", "Why": "so"} for one in names]
    _, out, _ = place.run("remove", IDS[0])
    assert out.count("69212ad0-000000") == 100
    assert out.endswith("... and 150 more like these\n250 messages removed; 250 skipped: so\n")


def test_without_kmqd_nothing_is_done_and_it_is_said(place: Place) -> None:
    place.bag.lay()
    for words in (["retry", IDS[0]], ["flush"], ["suspend", "--queue", "x"], ["remove", "--all", "--yes"]):
        status, out, err = place.run(*words)
        assert (status, out) == (75, "")
        assert "kmqd does not run" in err


def test_a_reason_has_its_bounds(place: Place, kmqd: Kmqd) -> None:
    status, _, err = place.run("remove", IDS[0], "--reason", "x" * 501)
    assert (status, kmqd.asked) == (2, [])
    assert "at most 500 characters" in err


# --- the question -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answers(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(text))


def test_ten_messages_are_acted_on_without_a_question_eleven_are_not(
    place: Place, kmqd: Kmqd, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid = [place.bag.lay(Routed(rcpt="0", hop=ISP)) for _ in range(11)]
    answers(monkeypatch, "n\n")
    assert place.run("remove", *laid[:10])[0] == 0
    status, _, err = place.run("remove", *laid)
    assert status == 1
    assert "Remove 11 messages? Nobody will be told. [y/N]" in err
    assert "nothing was done" in err
    assert len(changes(kmqd)) == 1
    answers(monkeypatch, "y\n")
    status, _, err = place.run("remove", "--queue", ISP, "--with-ndr")
    assert (status, len(kmqd.asked[-1][1]["ids"])) == (0, 11)
    assert "Remove 11 messages? Their senders will be told. [y/N]" in err
    answers(monkeypatch, "")
    assert place.run("suspend", "--all")[0] == 1
    assert place.run("redirect", "--all", "--to-connector", "spare")[0] == 1
    assert len(changes(kmqd)) == 2


def test_all_is_asked_about_even_when_it_is_one(place: Place, kmqd: Kmqd, monkeypatch: pytest.MonkeyPatch) -> None:
    place.bag.lay()
    answers(monkeypatch, "\n")
    status, _, err = place.run("resubmit", "--all")
    assert (status, changes(kmqd)) == (1, [])
    assert "Resubmit 1 message? [y/N]" in err


def test_a_script_that_does_not_say_yes_is_refused(place: Place, kmqd: Kmqd, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(11):
        place.bag.lay(Routed(rcpt="0", hop=ISP))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    for verb in ACTS:
        for words in (["--all"], ["--filter", "Size -gt 1"]):
            status, _, err = place.run(verb, *words)
            assert status == 2
            assert f"this would {verb} 11 messages: say --yes if that is meant, or --what-if to see them" in err
    assert changes(kmqd) == []
    assert place.run("remove", "--queue", "nowhere")[0] == 1


# --- many of them -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PART", 5)


@pytest.mark.usefixtures("small_parts")
def test_ctrl_c_ends_between_two_parts_and_says_what_was_done(
    place: Place, kmqd: Kmqd, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = client.Talk.ask

    def interrupted(self: client.Talk, verb: str, arguments: Arguments) -> client.Response:
        if len(changes(kmqd)) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return asked(self, verb, arguments)

    monkeypatch.setattr(client.Talk, "ask", interrupted)
    before = signal.getsignal(signal.SIGINT)
    status, out, err = place.run("suspend", *IDS, "--yes")
    assert status == 130
    assert [len(one[1]["ids"]) for one in changes(kmqd)] == [5, 5], "the part that was asked for is answered"
    assert out.count(" suspended\n") == 10
    assert err == "kmq: stopped: 10 messages suspended; 10 were not touched\n"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("small_parts")
def test_a_second_ctrl_c_waits_for_nothing(place: Place, kmqd: Kmqd, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = client.Talk.ask

    def interrupted(self: client.Talk, verb: str, arguments: Arguments) -> client.Response:
        for _ in range(2 * (len(changes(kmqd)) == 1)):
            os.kill(os.getpid(), signal.SIGINT)
        return asked(self, verb, arguments)

    monkeypatch.setattr(client.Talk, "ask", interrupted)
    status, out, err = place.run("suspend", *IDS, "--yes")
    assert (status, out.count(" suspended\n"), len(changes(kmqd))) == (130, 5, 1)
    assert err.startswith("kmq: broken off\nkmq: 5 messages suspended; of 15 it is not known")


@pytest.mark.usefixtures("small_parts")
def test_when_kmqd_goes_away_in_between_what_was_done_is_said(
    place: Place, kmqd: Kmqd, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = client.Talk.ask

    def cut(self: client.Talk, verb: str, arguments: Arguments) -> client.Response:
        if len(changes(kmqd)) == 2:
            self._connection.close()
        return asked(self, verb, arguments)

    monkeypatch.setattr(client.Talk, "ask", cut)
    status, out, err = place.run("suspend", *IDS, "--yes")
    assert (status, out.count(" suspended\n")) == (75, 10)
    assert "kmqd broke off its answer" in err
    assert "10 messages suspended; of 10 it is not known, or they were not asked for" in err


@pytest.mark.usefixtures("small_parts")
def test_what_kmqd_refuses_altogether_ends_it(place: Place, kmqd: Kmqd) -> None:
    kmqd.answers["redirect"] = [Answer(status=2, text="there is no connector nowhere")]
    status, out, err = place.run("redirect", *IDS, "--to-connector", "nowhere", "--yes")
    assert (status, out, len(changes(kmqd))) == (2, "", 1)
    assert err == "kmq: there is no connector nowhere\n"


@pytest.mark.usefixtures("small_parts")
def test_progress_is_for_terminals(place: Place, kmqd: Kmqd, monkeypatch: pytest.MonkeyPatch) -> None:
    from kmq.cli.act_bulk import Progress

    monkeypatch.setattr(Progress, "_AFTER", -1.0)
    assert place.run("suspend", *IDS, "--yes")[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    err = place.run("suspend", *IDS, "--yes")[2]
    assert "\r\x1b[K5 of 20 suspended" in err
    assert err.endswith("\r\x1b[K")
