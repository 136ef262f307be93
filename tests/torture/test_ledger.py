"""The judge sees what is wrong, and forgives nothing that has no excuse."""

import asyncio
import socket
import threading
import time
from random import Random

import pytest

from tests.fakes import EvilHop
from tests.torture import letters
from tests.torture.hops import Looks, Noted
from tests.torture.ledger import Copy, Death, Ledger, Sent
from tests.waiting import until

FAR, HERE, NOBODY = "one@far.test", "user1@local.test", "nobody@refuse.test"
ID = "69212ad0-0000a1f3"


def ledger(*copies, answered=ID, to=(FAR,), notices=(), deaths=(), queued=()):
    return Ledger({"t1": Sent(list(to), answered)}, list(copies), list(notices), list(deaths), set(queued))


def copy(at=100.0, to=FAR, token="t1", whole=True, late=0.0):
    return Copy(token, to, whole, at, late)


GOOD = {
    "delivered": ledger(copy()),
    "not acknowledged, not delivered": ledger(answered=""),
    "not acknowledged, delivered all the same": ledger(copy(), answered=""),
    "still queued": ledger(queued=["t1"]),
    "refused, and its sender told": ledger(to=[NOBODY], notices=[("t1", [NOBODY])]),
    "a stranger's": ledger(copy(), copy(token=letters.STRANGER)),
    "twice, since a worker died at once": ledger(copy(), copy(200.0), deaths=[Death("worker-1", 100.2, 101.0)]),
    "twice, since all died": ledger(copy(), copy(200.0), deaths=[Death("all", 100.2, 101.0)]),
    "twice: nobody was there to hear of it": ledger(
        copy(), copy(200.0), deaths=[Death("scheduler-1", 99.0, 104.0), Death("worker-1", 104.2, 105.0)]
    ),
    "twice: its hop read the first copy when the worker was dead already": ledger(
        copy(100.3, late=0.4), copy(100.32), deaths=[Death("worker-1", 100.1, 101.0)]
    ),
    "twice: we were kept from noting the death in time": ledger(
        copy(), copy(100.02), deaths=[Death("worker-1", 100.4, 101.0, late=0.5)]
    ),
}

BAD = {
    "LOST": ledger(),
    "LOST 69212ad0-0000a1f3 t1 to user1": ledger(copy(), to=[FAR, HERE]),
    "HALF": ledger(copy(whole=False)),
    "NEVER SENT t9": ledger(copy(), copy(token="t9")),
    "NEVER SENT t1 to other@far.test": ledger(copy(), copy(to="other@far.test")),
    "TWICE 69212ad0-0000a1f3 t1 to one": ledger(copy(), copy(101.0)),
    "TWICE": ledger(
        copy(), copy(101.0), deaths=[Death("scheduler-1", 100.2, 100.9), Death("receiver-1", 100.2, 100.9)]
    ),
    "TWICE ": ledger(copy(), copy(200.0), deaths=[Death("worker-1", 103.0, 104.0)]),
    " TWICE": ledger(copy(), copy(101.0), deaths=[Death("worker-1", 99.0, 99.5), Death("all", 101.5, 102.0)]),
    "TWICE 69212ad0": ledger(copy(100.3, late=0.1), copy(100.32), deaths=[Death("worker-1", 100.1, 101.0)]),
    "TWICE 69212ad0-": ledger(copy(), copy(100.02), deaths=[Death("worker-1", 100.4, 101.0, late=0.1)]),
    "TWICE IN A MAILDIR": ledger(copy(to=HERE), copy(to=HERE), to=[HERE], deaths=[Death("worker-1", 100.0, 101.0)]),
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


def test_a_copy_that_lay_unread_is_known_to_have_come_before():
    noted = Noted(looks := Looks())
    hop, stands, go_on = EvilHop(messages=noted), threading.Event(), threading.Event()

    def stand_still():
        stands.set()
        go_on.wait(60)

    loop = asyncio.SelectorEventLoop(looks)
    with hop.threaded(loop), socket.create_connection(hop.address) as client:
        client.sendall(b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n")
        until(lambda: b"DATA" in hop.commands, "it waits for the text")
        loop.call_soon_threadsafe(stand_still)
        stands.wait(60)
        client.sendall(b"text\r\n.\r\n")
        came = time.time()
        go_on.set()
        until(lambda: noted, "it has read it")
    ((since, at),) = noted.times
    assert since <= came <= at
