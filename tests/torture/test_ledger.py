"""The judge sees what is wrong, and forgives nothing that has no excuse."""

from random import Random

import pytest

from tests.torture import letters
from tests.torture.ledger import Copy, Death, Ledger, Sent
from tests.torture.within.whose import address_of, process_at

FAR, HERE, NOBODY = "one@far.test", "user1@local.test", "nobody@refuse.test"
ID = "69212ad0-0000a1f3"


def ledger(*copies, answered=ID, to=(FAR,), notices=(), deaths=(), queued=()):
    return Ledger({"t1": Sent(list(to), answered)}, list(copies), list(notices), list(deaths), set(queued))


def copy(at=100.0, to=FAR, token="t1", whole=True, by=1):
    return Copy(token, to, whole, at, by)


def again(at=200.0):
    """The same, by another process."""
    return copy(at, by=2)


def death(name, at, back, *pids):
    return Death(name, at, back, frozenset(pids))


GOOD = {
    "delivered": ledger(copy()),
    "not acknowledged, not delivered": ledger(answered=""),
    "not acknowledged, delivered all the same": ledger(copy(), answered=""),
    "still queued": ledger(queued=["t1"]),
    "refused, and its sender told": ledger(to=[NOBODY], notices=[("t1", [NOBODY])]),
    "a stranger's": ledger(copy(), copy(token=letters.STRANGER)),
    "twice, since a worker died at once": ledger(copy(), again(), deaths=[death("worker-1", 100.2, 101.0, 1)]),
    "twice, since all died": ledger(copy(), again(), deaths=[death("all", 100.2, 101.0, 1, 2, 3)]),
    "twice: nobody was there to hear of it": ledger(
        copy(), again(), deaths=[death("scheduler-1", 99.0, 104.0, 9), death("worker-1", 104.2, 105.0, 1)]
    ),
    "twice: its hop read the first copy late": ledger(
        copy(100.3), again(100.32), deaths=[death("worker-1", 100.1, 101.0, 1)]
    ),
    "twice: its hop read the second copy first": ledger(
        copy(100.3), again(100.2), deaths=[death("worker-1", 100.1, 101.0, 1)]
    ),
}

BAD = {
    "LOST": ledger(),
    "LOST 69212ad0-0000a1f3 t1 to user1": ledger(copy(), to=[FAR, HERE]),
    "HALF": ledger(copy(whole=False)),
    "NEVER SENT t9": ledger(copy(), copy(token="t9")),
    "NEVER SENT t1 to other@far.test": ledger(copy(), copy(to="other@far.test")),
    "TWICE 69212ad0-0000a1f3 t1 to one": ledger(copy(), again(101.0)),
    "TWICE": ledger(
        copy(), again(101.0), deaths=[death("scheduler-1", 100.2, 100.9, 8), death("receiver-1", 100.2, 100.9, 9)]
    ),
    "TWICE ": ledger(copy(), again(), deaths=[death("worker-1", 103.0, 104.0, 1)]),
    " TWICE": ledger(copy(), again(101.0), deaths=[death("all", 101.5, 102.0, 1, 2)]),
    "TWICE 69212ad0": ledger(copy(), again(101.0), deaths=[death("worker-2", 100.2, 100.9, 3)]),
    "TWICE 69212ad0-": ledger(copy(), copy(101.0), deaths=[death("worker-1", 100.2, 100.9, 1)]),
    "TWICE IN A MAILDIR": ledger(copy(to=HERE), copy(to=HERE), to=[HERE], deaths=[death("worker-1", 100.0, 101.0, 1)]),
    "TWO NOTICES": ledger(to=[NOBODY], notices=[("t1", [NOBODY]), ("t1", [NOBODY])]),
    "WRONG NOTICE": ledger(copy(), notices=[("t1", [FAR])]),
}


@pytest.mark.parametrize("name", GOOD)
def test_all_is_well(name):
    assert GOOD[name].judge().wrong == []


@pytest.mark.parametrize("sentence", BAD)
def test_what_is_wrong_is_said(sentence):
    (wrong,) = BAD[sentence].judge().wrong
    assert wrong.startswith(sentence.strip())


@pytest.mark.parametrize("size", [300, 100_000])
def test_a_letter_proves_itself_whatever_stands_above_it(size):
    letter = letters.write("t00000000001", size, Random(size))
    assert len(letter) >= size
    above = b"Received: from here\r\n\tby there\r\n"
    assert letters.read(above + letter) == ("t00000000001", True)
    assert letters.read((above + letter).replace(b"\r\n", b"\n") + b"\n") == ("t00000000001", True)
    for torn in (letter[:-40], letter[:-40] + letter[-39:], letter.replace(b"fox", b"cat", 1), letter + b"more"):
        assert letters.read(above + torn) == ("t00000000001", False)
    assert letters.read(b"Subject: hello\r\n\r\nhello\r\n") == (letters.STRANGER, True)


@pytest.mark.parametrize("pid", [1, 255, 256, 65_535, 65_536, 4_194_303])
def test_an_address_tells_the_process(pid):
    assert process_at(address_of(pid)) == pid
    assert process_at("127.0.0.1") == 0
