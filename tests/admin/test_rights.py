"""Who may ask what: by the kernel's word on the user and his groups, and by nothing that he says himself."""

import asyncio
import errno
import gc
import os
import pwd
import random
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kmq.admin import client, rights, room, verbs
from kmq.admin.check_groups import groups
from kmq.admin.control import Control, Line
from kmq.admin.rights import Caller, Right, Rights, caller_of, group_number, rights_of
from kmq.admin.verdict import Grade
from kmq.config import read
from kmq.errors import KmqError
from kmq.model.frame import LENGTHS, Answer, Reader
from kmq.model.outcome import NOT_NOW, RESULTS
from tests.beside import beside
from tests.waiting import until

OPERATORS, VIEWERS = 4242, 4343
ID = "69212ad0-0000a1f3"
LOOKS = {verb for verb, form in verbs.VERBS.items() if form.looks}


def arguments(verb: str) -> dict[str, Any]:
    """Well formed ones for a verb."""
    given: dict[str, Any] = {"ids": [ID]} if "needs IDs" in verbs.trouble(verb, {}) else {}
    return given | ({"connector": "isp"} if verbs.VERBS[verb].connector else {})


# --- the table --------------------------------------------------------------------------------------------------------


def test_root_the_own_user_and_two_groups() -> None:
    given = Rights(OPERATORS, VIEWERS, own=107)
    assert given.of(Caller(0, frozenset())) is Right.OPERATE
    assert given.of(Caller(107, frozenset())) is Right.OPERATE
    assert given.of(Caller(1000, frozenset({1000, OPERATORS}))) is Right.OPERATE
    assert given.of(Caller(1000, frozenset({OPERATORS, VIEWERS}))) is Right.OPERATE
    assert given.of(Caller(1000, frozenset({VIEWERS}))) is Right.LOOK
    assert given.of(Caller(OPERATORS, frozenset({OPERATORS + 1}))) is Right.NOTHING, "a user is no group"
    assert Rights(None, None, own=107).of(Caller(1000, frozenset({0, 107}))) is Right.NOTHING


def test_groups_of_the_configuration() -> None:
    name = next(one for one in ("daemon", "nogroup", "users") if group_number(one) is not None)
    text = f"[kmq]\nhostname = mx.example.org\noperators_group = {name}\nviewers_group = 4343\n"
    given = rights_of(read(text, "kmq.conf", "/etc/kmq").kmq)
    assert given.of(Caller(1000, frozenset({group_number(name) or 0}))) is Right.OPERATE
    assert given.of(Caller(1000, frozenset({4343}))) is Right.LOOK
    assert group_number("no-such-group-here") is None
    assert group_number("") is None


def test_a_group_that_is_not_there_is_told() -> None:
    text = "[kmq]\nhostname = mx.example.org\noperators_group = no-such-group-here\nviewers_group = 4343\n"
    [verdict] = groups(read(text, "kmq.conf", "/etc/kmq"))
    assert verdict.grade is Grade.WRONG
    assert "[kmq] operators_group: there is no group no-such-group-here" in verdict.what


def test_only_looking_needs_no_more_than_the_lesser_right() -> None:
    assert {"queues", "message"} <= LOOKS
    assert not LOOKS & {*RESULTS, "flush", "expire", "reload", "settle", "stop-intake", "start-intake"}


def test_the_kernel_says_who_it_is() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert caller_of(ours.fileno()) == Caller(os.getuid(), frozenset({os.getgid(), *os.getgroups()}))
        assert ours.fileno() >= 0, "the connection is still open"


def test_more_groups_than_the_answer_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "_GROUPS", 0 if os.getgroups() else -1)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        found = caller_of(ours.fileno())
    user = pwd.getpwuid(os.getuid())
    assert found.groups >= set(os.getgrouplist(user.pw_name, os.getgid()))


# --- over the socket --------------------------------------------------------------------------------------------------


class Place:
    """A control socket that everybody can reach, and what was asked there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, int]] = []
        self.accidents: list[str] = []
        self.served = Control(self.ask, Rights(OPERATORS, VIEWERS, os.geteuid()))

    def ask(self, verb: str, _: verbs.Arguments, uid: int) -> Answer | AsyncIterator[Line | Answer]:
        self.asked.append((verb, uid))
        return Answer(status=0, text="done")


@pytest.fixture
def place() -> Iterator[Place]:
    with beside() as thread, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        found = Place(folder)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / client.SOCKET))
        (folder / client.SOCKET).chmod(0o666)
        listener.listen(100)
        served = found.served
        thread.loop.set_exception_handler(lambda _, context: found.accidents.append(str(context)))
        thread.run(served.serve(listener))
        yield found
        thread.run(served.close())


def as_member(groups: list[int], path: Path, verb: str, uid: int = 65534) -> tuple[int, str]:
    """What a user, a member of these groups, hears."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups)
            os.setresgid(65534, 65534, 65534)
            os.setresuid(uid, uid, uid)
            try:
                response = client.ask(path, verb, arguments(verb))
                said = (response.status, response.text)
            except KmqError as error:
                said = (error.exit_status, str(error))
            os.write(writing, msgspec.json.encode(said))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        heard = answer.read()
    os.waitpid(pid, 0)
    return msgspec.json.decode(heard, type=tuple[int, str])


@pytest.mark.root
def test_who_may_hears_an_answer_who_may_not_a_sentence(place: Place) -> None:
    for verb in verbs.VERBS:
        assert as_member([5, OPERATORS], place.folder, verb) == (0, "done")
        status, said = as_member([VIEWERS], place.folder, verb)
        if verb in LOOKS:
            assert (status, said) == (0, "done")
        else:
            assert status == 1
            assert said.startswith(f"uid 65534 may look, not {verb}: ")
        status, said = as_member([5], place.folder, verb)
        assert status == 1
        assert said == "uid 65534 may not ask kmqd: [kmq] operators_group and viewers_group say who may"
    assert len(place.asked) == len(verbs.VERBS) + len(LOOKS)


@pytest.mark.root
def test_who_may_not_takes_no_place_from_who_may(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "CONNECTIONS", 1)
    with crowd(place.folder, 20):
        assert client.ask(place.folder, "flush").status == 0
    told = [line for line in capfd.readouterr().err.splitlines() if "who may not" in line]
    assert len(told) <= 1, "the log hears of him once a minute"


@pytest.mark.root
def test_who_may_only_look_leaves_places_to_operators_and_to_other_viewers(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with crowd(place.folder, room.CONNECTIONS, [VIEWERS]):
        assert as_member([OPERATORS], place.folder, "flush") == (0, "done")
        told = f"uid 65534 has {room.OF_ONE} connections already, try again"
        assert as_member([VIEWERS], place.folder, "queues") == (NOT_NOW, told)
    until(lambda: not place.served._talks, "their places are free again")
    assert as_member([VIEWERS], place.folder, "queues") == (0, "done")
    until(lambda: not place.served._talks, "his place is free again")
    monkeypatch.setattr(room, "VIEWERS", room.OF_ONE)
    with crowd(place.folder, room.OF_ONE, [VIEWERS]):
        assert as_member([VIEWERS], place.folder, "queues", 65533) == (
            NOT_NOW,
            "too many look at once, try again",
        )
        assert as_member([OPERATORS], place.folder, "flush", 65533) == (0, "done")


def test_a_viewer_s_questions_wait_for_each_other_and_for_nobody_else_s() -> None:
    one, other = Caller(1000, frozenset()), Caller(1001, frozenset())
    told: list[str] = []

    async def ask(here: room.Room, who: Caller, right: Right, name: str, seconds: float) -> None:
        async with here.turn(who, right):
            told.append(f"{name} begins")
            await asyncio.sleep(seconds)
            told.append(f"{name} ends")
        told.append(f"{name} has rested")

    async def asked() -> float:
        here = room.Room()
        first = asyncio.create_task(ask(here, one, Right.LOOK, "his first", 0.1))
        await asyncio.sleep(0)
        began = time.monotonic()
        second = asyncio.create_task(ask(here, one, Right.LOOK, "his second", 0))
        await ask(here, other, Right.LOOK, "another's", 0)
        await ask(here, one, Right.OPERATE, "an operator's", 0)
        await asyncio.gather(first, second)
        return time.monotonic() - began

    assert asyncio.run(asked()) >= 0.1 * 5, "a rest is four times as long as the answer took"
    order = [told.index(word) for word in ("his first ends", "his first has rested", "his second begins")]
    assert order == sorted(order)
    assert max(told.index("another's ends"), told.index("an operator's ends")) < order[0]


@contextmanager
def crowd(folder: Path, count: int, groups: Sequence[int] = ()) -> Iterator[None]:
    """Another user's process holds so many connections."""
    reading, writing = os.pipe()
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups(groups)
            os.setresuid(65534, 65534, 65534)
            held = [client.connected(folder / client.SOCKET) for _ in range(count)]
            os.write(told, b".")
            os.close(writing)
            os.read(reading, 1)
            del held
        finally:
            os._exit(0)
    os.close(told)
    assert os.read(ready, 1) == b"."
    try:
        yield
    finally:
        os.close(writing)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(ready)


# --- anything at all --------------------------------------------------------------------------------------------------

STRANGE: list[object] = [
    None, True, False, -1, 1 << 70, 1.5, "", "x", "\0", "\ud7ff", "../../etc/passwd", ID, f"a\\{ID}", "\\" * 50,
    "x" * 9000, [], [ID], [ID] * 3, [None], [[ID]], [{}], ["\n"], {}, {"ids": [ID]},
]  # fmt: skip
NAMES = ["ids", "queue", "all", "reason", "ndr", "connector", "selection", "", "ID", "__class__", "x" * 300]


def questions(chance: random.Random) -> Iterator[bytes]:
    """Frames that are nearly right: real verbs with odd arguments, cut, changed, or with lengths that lie."""
    while True:
        verb = chance.choice([*verbs.VERBS, "rm", "", "QUEUES", "\0"])
        given = {chance.choice(NAMES): chance.choice(STRANGE) for _ in range(chance.randrange(4))}
        text = msgspec.json.encode(
            {"t": chance.choice(["verb"] * 9 + ["stop", "put", 7]), "verb": verb, "arguments": given}
        )
        if chance.random() < 0.3:
            at = chance.randrange(len(text))
            text = text[:at] + bytes([chance.randrange(256)]) + text[at + chance.randrange(3) :]
        lengths = LENGTHS.pack(len(text), 0)
        if chance.random() < 0.1:
            lengths = LENGTHS.pack(chance.randrange(1 << 32), chance.randrange(1 << 32))
        yield lengths + text


def test_nothing_that_is_said_harms(place: Place) -> None:
    """Every question that the table does not allow is refused before it is asked; the rest of the world goes on."""
    chance = random.Random(20261122)
    refused = answered = 0
    for said in islice(questions(chance), 800):
        with client.connected(place.folder / client.SOCKET) as one:
            one.sendall(said)
            one.shutdown(socket.SHUT_WR)
            heard = hear(one)
        for answer in heard:
            assert answer.status in (0, 1, 2, 75)
            assert len(answer.text) < 2000
            refused += answer.status == 2
            answered += answer.status == 0
    assert refused > 100
    assert answered == len(place.asked) > 25, "what was well formed was asked, and nothing else"
    assert client.ask(place.folder, "queues").text == "done"
    gc.collect()
    assert place.accidents == []


def hear(one: socket.socket) -> list[Answer]:
    frames, heard = Reader(), list[Answer]()
    try:
        while received := one.recv(1 << 16):
            heard += [frame for frame, _ in frames.feed(received) if isinstance(frame, Answer)]
    except OSError as error:
        assert error.errno == errno.ECONNRESET
    return heard
