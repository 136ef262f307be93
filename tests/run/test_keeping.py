"""Which messages are kept: delivered by a connector that keeps its mail, at least to one recipient."""

from pathlib import Path

import pytest

from kmq.config import read
from kmq.errors import ConfigError
from kmq.model.envelope import State
from kmq.model.event import AnyEvent, Deferred, Delivered, Expanded, Failed, Routed
from kmq.run.keeping import Keeping, day_of
from kmq.spool.record import Keep, Move, Remove

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = /tmp/spool
[queue]
safety_net_hold_time = {hold}
[isp : connector]
type = smarthost
hosts = h.test
address_spaces = *
[secret : connector]
type = smarthost
hosts = s.test
address_spaces = secret.test
safety_net = no
"""
ISP, SECRET = "SmartHostConnectorDelivery;h.test:25;isp", "SmartHostConnectorDelivery;s.test:25;secret"
TAKEN = Delivered(rcpt="0", attempt=1, reply="250 ok")


def keeping(hold: str = "2d") -> Keeping:
    made = Keeping()
    made.configure(read(CONFIGURATION.format(hold=hold), "kmq.conf", "/tmp"))
    return made


def kept(one: Keeping, number: int = 1) -> bool:
    operations = one.ends(number, Remove(number))
    assert isinstance(operations[-1], Remove)
    return isinstance(operations[0], Keep)


@pytest.mark.parametrize(
    ("hop", "events", "expected"),
    [
        (ISP, [TAKEN], True),
        ("Undefined;Submission;", [Routed(rcpt="0", hop=ISP), TAKEN], True),
        (SECRET, [TAKEN], False),
        ("Undefined;Submission;", [Routed(rcpt="0", hop=SECRET), TAKEN], False),
        (ISP, [Failed(rcpt="0", attempt=1, reply="550 no")], False),
        (ISP, [Deferred(rcpt="0", attempt=1, reply="451 no")], False),
        (ISP, [Failed(rcpt="0", attempt=1, reply="550 no"), Delivered(rcpt="1", attempt=1, reply="250 ok")], True),
        ("Undefined;Submission;", [Expanded(rcpt="0", child="69212ad0-00000001")], False),
    ],
)
def test_by_what_became_of_it(hop: str, events: list[AnyEvent], expected: bool) -> None:
    one = keeping()
    one.saw(1, hop, events)
    assert kept(one) is expected
    assert not kept(one), "it is forgotten then"


def test_one_recipient_of_several_results_is_enough_also_after_a_restart() -> None:
    one = keeping()
    one.saw(1, ISP, [TAKEN])
    one.saw(1, SECRET, [Delivered(rcpt="1", attempt=1, reply="250 ok")])
    assert kept(one)
    state = State(2)
    for event in (Routed(rcpt="0", hop=ISP, seq=1), Delivered(rcpt="0", attempt=1, reply="250 ok", seq=2)):
        state.after(event)
    later = keeping()
    later.loaded(1, state)
    later.loaded(2, State(1))
    assert kept(later) and not kept(later, 2)


def test_what_an_operator_removed_and_what_is_set_aside_is_not_kept() -> None:
    one = keeping()
    one.saw(1, ISP, [TAKEN])
    one.forget(1)
    assert not kept(one)
    one.saw(1, ISP, [TAKEN])
    move = Move(1, 3, b"line", "poison")
    assert one.ends(1, move) == [move]


def test_switched_off_nothing_is_kept() -> None:
    off = keeping("0")
    assert not off.on
    one = keeping()
    one.saw(1, ISP, [TAKEN])
    one.configure(read(CONFIGURATION.format(hold="0"), "kmq.conf", "/tmp"))
    assert not kept(one)


def test_the_day_is_that_of_utc() -> None:
    assert day_of(1795348799.0) == "2026-11-22"
    assert day_of(1795305600.0) == "2026-11-22"
    assert day_of(1795305599.0) == "2026-11-21"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("safety_net_hold_time = 2d", "safety_net_hold_time = 100d", "kmq.conf:5.*at most 90d"),
        ("safety_net_hold_time = 2d", "safety_net_hold_time = two days", "kmq.conf:5.*is no duration"),
        ("safety_net_hold_time = 2d", "safety_net_size = 10", "kmq.conf:5.*at least 1M"),
        ("safety_net = no", "safety_net = off", "kmq.conf:14.*yes, no"),
    ],
)
def test_mistakes_are_told_with_their_line(old: str, new: str, says: str, tmp_path: Path) -> None:
    text = CONFIGURATION.format(hold="2d").replace(old, new)
    with pytest.raises(ConfigError, match=says):
        read(text, "kmq.conf", str(tmp_path))
