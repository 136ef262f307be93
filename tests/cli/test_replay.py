"""`kmq replay`: what is kept is listed, chosen by filters and times, shown before it goes, and asked of kmqd once."""

import json
from pathlib import Path
from typing import Any

import pytest

from kmq.model.event import Delivered, Failed, Replayed, Routed
from kmq.spool import snapshot
from kmq.spool.disk import Disk
from kmq.spool.layout import prepare
from tests.cli.conftest import Kmqd, Place

ISP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"
BOXES = "SmtpDeliveryToMailbox;example.org;boxes"
EARLY, LATE = "2026-11-21T08:00:00.000Z", "2026-11-22T08:00:00.000Z"
COLUMNS = "ID                 Delivered"


def keep(place: Place, *to: str, at: str = EARLY, replayed: str = "", **head: Any) -> str:
    """A message that was delivered to all of these: local ones to a mailbox, others to the smart host."""
    hops: dict[str, list[int]] = {}
    for index, address in enumerate(to):
        hops.setdefault(BOXES if address.endswith("@example.org") else ISP, []).append(index)
    events: list[Any] = []
    for hop, rcpt in hops.items():
        text = ",".join(map(str, rcpt))
        events.append(Routed(rcpt=text, hop=hop, at=at))
        events.append(Delivered(rcpt=text, attempt=1, reply="250 2.0.0 ok", host="h.test", at=at))
    if replayed:
        events.append(Replayed(rcpt=",".join(map(str, range(len(to)))), child=replayed, by="uid 0", at=at))
    return place.bag.lay(*events, to=to, home=f"sent/{at[:10]}", **head)


def keep_copy(place: Place, of: str) -> str:
    """What a replay made of a message, delivered as well."""
    events = Routed(rcpt="0", hop=ISP, at=LATE), Delivered(rcpt="0", attempt=1, reply="250 ok", at=LATE)
    return place.bag.lay(*events, to=("bob@example.net",), home=f"sent/{LATE[:10]}", replayed=of, quiet=True)


def replays(kmqd: Kmqd) -> list[dict[str, Any]]:
    return [arguments for verb, arguments in kmqd.asked if verb == "replay"]


def listed(place: Place, *words: str) -> list[dict[str, Any]]:
    status, out, err = place.run("--json", "replay", "--list", *words)
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def test_what_is_kept_is_listed_by_message_and_next_hop(place: Place) -> None:
    both = keep(place, "bob@example.net", "carol@example.org")
    again = keep(place, "dave@example.net", at=LATE, replayed="69212ad0-000000ff")
    copy = keep(place, "erin@example.net", at=LATE, body=b"Subject: other\r\n\r\n.\r\n")
    rows = listed(place)
    assert [(row["Id"], row["Recipients"], row["NextHop"]) for row in rows] == [
        (both, ["bob@example.net"], ISP),
        (both, ["carol@example.org"], BOXES),
        (again, ["dave@example.net"], ISP),
        (copy, ["erin@example.net"], ISP),
    ]
    assert [row["Replayed"] for row in rows] == [None, None, "69212ad0-000000ff", None]
    assert (rows[0]["Host"], rows[0]["Reply"], rows[0]["Subject"]) == ("h.test", "250 2.0.0 ok", "hello")
    assert {row["DateDelivered"] for row in rows} == {EARLY, LATE}
    status, out, err = place.run("replay", "--list")
    assert (status, err) == (0, "")
    assert out.startswith(COLUMNS) and both in out and "The safety net is off" in out


@pytest.mark.parametrize(
    ("words", "places"),
    [
        (("--filter", 'Recipients -like "*@example.org"'), [0]),
        (("--filter", 'Subject -eq "other"'), [2]),
        (("--filter", "DateDelivered -gt 2026-11-22"), [1, 2]),
        (("--filter", "size -lt 40 -or nexthopdomain -eq example.org"), [0, 2]),
        (("--since", "2026-11-22"), [1, 2]),
        (("--until", "2026-11-21 12:00"), [0]),
        (("--filter", "Host -eq nobody"), []),
    ],
)
def test_what_is_meant_is_chosen_by_filter_and_time(place: Place, words: tuple[str, ...], places: list[int]) -> None:
    names = [
        keep(place, "bob@example.net", "carol@example.org"),
        keep(place, "dave@example.net", at=LATE),
        keep(place, "erin@example.net", at=LATE, body=b"Subject: other\r\n\r\n.\r\n"),
    ]
    assert {row["Id"] for row in listed(place, *words)} == {names[one] for one in places}


def test_kmqd_is_asked_for_exactly_that_and_told_how(place: Place, kmqd: Kmqd) -> None:
    whole = keep(place, "bob@example.net")
    part = keep(place, "bob@example.net", "carol@example.org")
    keep(place, "bob@example.net", replayed="69212ad0-000000ff")
    keep_copy(place, whole)
    status, out, err = place.run("replay", "--filter", 'Recipients -eq "bob@example.net"', "--reason", "lost")
    assert (status, err) == (
        0,
        "kmq: 2 left out: replayed already, or copies that a replay made (--again: the originals once more)\n",
    )
    assert "2 messages replayed" in out
    assert replays(kmqd) == [
        {"ids": [whole, f"{ISP}\\{part}"], "reason": "lost", "selection": '--filter Recipients -eq "bob@example.net"'}
    ]
    place.run("replay", "--since", "2026-11-21", "--to-connector", "spare", "--again", "--with-dsn", "--yes")
    assert replays(kmqd)[1]["connector"] == "spare"
    assert (replays(kmqd)[1]["again"], replays(kmqd)[1]["dsn"], len(replays(kmqd)[1]["ids"])) == (True, True, 3)
    place.run("replay", whole)
    assert replays(kmqd)[2] == {"ids": [whole]}


def test_what_if_shows_and_does_nothing(place: Place, kmqd: Kmqd) -> None:
    whole = keep(place, "bob@example.net")
    keep(place, "dave@example.net", at=LATE, replayed="69212ad0-000000ff")
    status, out, err = place.run("replay", "--since", "2026-11-01", "--what-if")
    assert status == 0 and whole in out and "1 message. Nothing was done (--what-if)." in out
    assert err == "kmq: 1 left out: replayed already, or copies that a replay made (--again: the originals once more)\n"
    status, out, _ = place.run("--json", "replay", "--since", "2026-11-01", "--what-if")
    assert [json.loads(line)["Id"] for line in out.splitlines()] == [whole]
    assert kmqd.asked == []


def test_many_are_asked_about_first(place: Place, kmqd: Kmqd) -> None:
    for number in range(11):
        keep(place, f"u{number}@example.net")
    status, _, err = place.run("replay", "--since", "2026-11-01")
    assert status == 2 and "this would replay 11 messages: say --yes" in err
    assert replays(kmqd) == []
    assert place.run("replay", "--since", "2026-11-01", "--yes")[0] == 0
    assert len(replays(kmqd)[0]["ids"]) == 11


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ((), 2, "replay needs either IDs, or --filter"),
        (("--since", "yesterdayish"), 2, "is no time"),
        (("--filter", "Subbject -eq x"), 2, "Subbject is no property of a kept message; Subject?"),
        (("--filter", "Subject -eq"), 2, "Subject -eq"),
        (("--filter", "Subject -eq none"), 1, "the safety net is off"),
        (("../../etc/passwd",), 2, "is not a queue ID"),
        (("69212ad0-00000001", "--since", "1h"), 2, "replay needs either IDs, or --filter"),
    ],
)
def test_mistakes_are_answered_and_nothing_is_asked(
    place: Place, kmqd: Kmqd, words: tuple[str, ...], status: int, says: str
) -> None:
    keep(place, "bob@example.net")
    found, _, err = place.run("replay", *words)
    assert found == status and says in err
    assert kmqd.asked == []


def test_damage_is_told_and_the_rest_is_listed(place: Place) -> None:
    good = keep(place, "bob@example.net")
    bad = keep(place, "bob@example.net")
    place.bag.envelope(bad, "sent/2026-11-21").write_bytes(b"{}")
    (place.spool / "sent" / "notes.txt").write_text("somebody's")
    status, out, err = place.run("replay", "--list")
    assert status == 0 and good in out and f"{bad}.env is damaged" in err


def test_who_failed_was_not_delivered_to(place: Place) -> None:
    name = place.bag.lay(
        Routed(rcpt="0-1", hop=ISP),
        Delivered(rcpt="0", attempt=1, reply="250 ok"),
        Failed(rcpt="1", attempt=1, reply="550 5.1.1 no"),
        to=("bob@example.net", "nobody@example.net"),
        home="sent/2026-11-22",
    )
    assert [(row["Id"], row["Recipients"]) for row in listed(place)] == [(name, ["bob@example.net"])]


def test_history_tells_the_whole_life_of_what_is_kept(place: Place) -> None:
    name = keep(place, "bob@example.net", replayed="69212ad0-000000ff")
    status, out, err = place.run("history", name)
    assert (status, err) == (0, "")
    told = [line.split()[3] for line in out.splitlines() if line.startswith("2026")]
    assert told[-3:] == ["routed", "delivered", "replayed"], out


def test_restore_does_not_bring_back_what_the_net_keeps(place: Place, tmp_path: Path) -> None:
    disk = Disk(place.spool)
    prepare(disk)
    disk.close()
    waiting = place.bag.lay(Routed(rcpt="0", hop=ISP))
    assert [one.id for one in snapshot.take(place.spool, tmp_path / "copy", "mx")] == [waiting]
    folder, kept = place.bag.folder(waiting), place.spool / "sent" / "2026-11-22"
    kept.mkdir()
    for ending in (".env", ".eml"):
        (folder / f"{waiting}{ending}").rename(kept / f"{waiting}{ending}")
    status, out, _ = place.run("restore", str(tmp_path / "copy"), "--no-log")
    assert status == 0 and "0 messages brought back; 0 still there, 1 done since" in out
    assert not list(folder.glob("*"))
