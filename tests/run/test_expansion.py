"""What aliases go on as: children by sender, nobody twice, and no more than a result can bear."""

import msgspec
import pytest

from kmq.model.envelope import Head, Recipient, Source, head_line, read_head
from kmq.model.event import Deferred, Expanded, Routed
from kmq.model.orcpt import orcpt_of
from kmq.phases.work import Body
from kmq.routing.expanding import Expansion, Final
from kmq.run import expansion
from kmq.run.expansion import Draft, Drafts, draft, present

SOURCE = Source("smtp", "192.0.2.7", "client.test", "ada", "mx")


def message(*to: Recipient | str, sender: str = "s@far.test", **more: object) -> Head:
    people = [one if isinstance(one, Recipient) else Recipient(one) for one in to]
    made = Head("69212ad0-0000a1f3", "5" * 64, "2026-11-22T05:50:11.123Z", sender, people, 7, SOURCE)
    return msgspec.structs.replace(made, **more)


def stands_for(*finals: str | Final, rule: str = "/etc/aliases:3 x") -> Expansion:
    return Expansion(rule, tuple(one if isinstance(one, Final) else Final(one) for one in finals), ())


def heads(drafts: Drafts) -> list[Head]:
    found = [read_head(head_line("69212ad0-0000a1f4", "5" * 64, one.tail)) for one in drafts.children]
    assert [len(one.recipients) for one in found if one] == [one.members for one in drafts.children]
    return [one for one in found if one]


def test_a_child_is_its_parent_but_for_sender_and_recipients() -> None:
    parent = message(
        Recipient("info@us.test", "FAILURE,DELAY", ""), ret="HDRS", envid="Q1", eight_bit=True, dots=True, hops=3
    )
    drafts = draft(parent, [(0, stands_for("a@us.test", "b@far.test"))], [], 1)
    (child,) = heads(drafts)
    assert child == msgspec.structs.replace(
        parent,
        id="69212ad0-0000a1f4",
        recipients=[
            Recipient("a@us.test", "FAILURE,DELAY", "rfc822;info@us.test", "info@us.test"),
            Recipient("b@far.test", "FAILURE,DELAY", "rfc822;info@us.test", "info@us.test"),
        ],
        source=Source("alias", "192.0.2.7", "client.test", "ada", "mx"),
        parent=parent.id,
    )
    assert drafts.events == [Expanded(rcpt="0", child="0", rule="/etc/aliases:3 x", several=True)]


def test_what_the_client_said_of_the_original_address_stays() -> None:
    parent = message(Recipient("info@us.test", "", "rfc822;Info+2Bx@first.test", "first@us.test"))
    (child,) = heads(draft(parent, [(0, stands_for("a@us.test"))], [], 1))
    assert child.recipients == [Recipient("a@us.test", "", "rfc822;Info+2Bx@first.test", "first@us.test")]


def test_each_sender_has_a_child_and_an_owner_his_own_wishes() -> None:
    parent = message(Recipient("list@us.test", "NEVER", "rfc822;x@y"), "info@us.test", ret="FULL", envid="Q1")
    owned = stands_for(Final("a@x.test", "owner-list@us.test"), Final("b@x.test", "owner-in@us.test"), "c@x.test")
    drafts = draft(parent, [(0, owned), (1, stands_for("d@x.test"))], [], 1)
    assert [(one.sender, [to.address for to in one.recipients], one.ret, one.envid) for one in heads(drafts)] == [
        ("owner-list@us.test", ["a@x.test"], "", ""),
        ("owner-in@us.test", ["b@x.test"], "", ""),
        ("s@far.test", ["c@x.test", "d@x.test"], "FULL", "Q1"),
    ]
    assert heads(drafts)[0].recipients == [Recipient("a@x.test", "", "", "list@us.test")]
    assert [(event.rcpt, event.child) for event in drafts.events if isinstance(event, Expanded)] == [
        ("0", "0 1 2"),
        ("1", "2"),
    ]


def test_a_notice_stays_from_nobody() -> None:
    parent = message("list@us.test", sender="")
    (child,) = heads(draft(parent, [(0, stands_for(Final("a@x.test", "owner-list@us.test")))], [], 1))
    assert child.sender == ""


def test_nobody_gets_two_copies() -> None:
    parent = message("one@us.test", "two@us.test", "Bob@x.test", "three@us.test")
    routed = [Routed(rcpt="2", hop="h", rule="r")]
    assert present(parent, routed) == ["Bob@x.test"]
    drafts = draft(
        parent,
        [
            (0, stands_for("a@x.test", "bob@x.test", "A@x.test")),
            (1, stands_for(Final("a@x.test", "owner-two@us.test"), "c@x.test")),
            (3, stands_for("c@x.test", "BOB@x.test", rule="/etc/aliases:9 three")),
        ],
        present(parent, routed),
        1,
    )
    assert [[to.address for to in one.recipients] for one in heads(drafts)] == [["a@x.test", "c@x.test"]]
    assert drafts.events == [
        Expanded(rcpt="0-1", child="0", rule="/etc/aliases:3 x", several=True),
        Expanded(rcpt="3", child="", rule="/etc/aliases:9 three", several=True),
    ]


def test_more_than_a_thousand_are_several_children() -> None:
    drafts = draft(message("all@us.test"), [(0, stands_for(*(f"u{n}@x.test" for n in range(2500))))], [], 1)
    assert [one.members for one in drafts.children] == [1000, 1000, 500]
    assert drafts.events == [Expanded(rcpt="0", child="0 1 2", rule="/etc/aliases:3 x", several=True)]
    assert len({to.address for one in heads(drafts) for to in one.recipients}) == 2500


def test_what_does_not_go_into_one_result_waits_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = message(*(f"l{n}@us.test" for n in range(6)))
    lists = [(n, stands_for(*(f"u{n}.{m}@x.test" for m in range(10)))) for n in range(6)]
    monkeypatch.setattr(expansion, "HEADS", 3000)
    first = draft(parent, lists, [], 1)
    taken = [event.rcpt for event in first.events if isinstance(event, Expanded)]
    assert taken == ["0-1"]
    second = draft(parent, lists[2:], [], 1)
    assert [event.rcpt for event in second.events if isinstance(event, Expanded)] == ["2-3"]
    monkeypatch.setattr(expansion, "EXPANSIONS", 1)
    assert [event.rcpt for event in draft(parent, lists, [], 1).events if isinstance(event, Expanded)] == ["0"]


def test_what_never_goes_into_one_result_is_deferred_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expansion, "HEADS", 1000)
    drafts = draft(message("all@us.test"), [(0, stands_for(*(f"u{n}@x.test" for n in range(100))))], [], 4)
    assert drafts.children == []
    assert drafts.events == [Deferred(rcpt="0", attempt=4, reply=str(expansion.TOO_MANY))]


def test_what_is_reckoned_with_is_never_less_than_what_it_is() -> None:
    alias = Recipient('"' + "\\\\" * 20 + '"@us.test', "NEVER")
    for odd in ("ü" * 30 + "{}@" + "x" * 60 + ".test", '"\\"{}"@x.test', "{}@x.test", "\U0001f600{}@x.test"):
        (child,) = draft(message(alias), [(0, stands_for(*(odd.format(n) for n in range(50))))], [], 1).children
        bare = draft(message(alias), [(0, stands_for("a@x"))], [], 1).children[0]
        members = [Recipient(odd.format(n), "NEVER", orcpt_of(alias.address), alias.address) for n in range(50)]
        assert len(child.tail) - len(bare.tail) <= sum(map(expansion._weight, members))


def test_fifty_thousand_go_into_one_result() -> None:
    drafts = draft(
        message("all@us.test"), [(0, stands_for(*(f"member{n}@list.example" for n in range(50_000))))], [], 1
    )
    assert sum(one.members for one in drafts.children) == 50_000
    assert sum(len(one.tail) for one in drafts.children) < expansion.HEADS


def test_small_bodies_travel_and_others_have_names() -> None:
    drafts = Drafts([Draft(b"one", 1), Draft(b"three", 2)], [])
    small = Body(b"body", "", 4)
    assert drafts.light(small)
    children, raw = drafts.with_body(small)
    assert raw == b"onebodythreebody"
    assert [(one.count, one.tail, one.body, one.kind) for one in children] == [
        (1, 3, 4, "expansion"),
        (2, 5, 4, "expansion"),
    ]
    assert not drafts.light(Body(None, "/queue/x.eml", 4))
    assert not drafts.light(Body(b"x" * expansion.BODIES, "", expansion.BODIES))
    assert Drafts([], []).light(Body(None, "", 1)), "without children nothing is to be done with the body"
    children, raw = drafts.with_names(["a", "b"], "5" * 64)
    assert raw == b"onethree"
    assert [(one.incoming, one.sha256, one.body) for one in children] == [("a", "5" * 64, 0), ("b", "5" * 64, 0)]


@pytest.mark.parametrize(
    ("address", "orcpt"),
    [
        ("a@x.test", "rfc822;a@x.test"),
        ("a+b=c@x.test", "rfc822;a+2Bb+3Dc@x.test"),
        ('"a b"@x.test', 'rfc822;"a+20b"@x.test'),
        ("ü@x.test", "utf-8;\\x{FC}@x.test"),
    ],
)
def test_the_original_recipient_is_written_as_the_rfcs_want(address: str, orcpt: str) -> None:
    assert orcpt_of(address) == orcpt
