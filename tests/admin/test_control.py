"""Questions to kmqd over a real socket: what is asked arrives as it was meant, and nothing that a client does harms."""

import asyncio
import os
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from msgspec import Raw

from kmq.admin import client, control, room, verbs
from kmq.admin.client import SOCKET, Response, ask
from kmq.admin.control import Control, Line
from kmq.admin.verbs import Arguments
from kmq.errors import StorageFailed, Unreachable
from kmq.model.frame import HEAD_LIMIT, LENGTHS, Answer, AnyFrame, Reader, Stop, Verb, encode
from tests.beside import beside
from tests.waiting import until

ID = "69212ad0-0000a1f3"


class Asked:
    """A scheduler process as the control socket sees it: answers by the verb's name, remembers what it was asked."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, dict[str, Any], int]] = []
        self.abandoned = threading.Event()
        self.gone = threading.Event()
        self.reported: list[str] = []

    def __call__(self, verb: str, arguments: Arguments, uid: int) -> Answer | AsyncIterator[Line | Answer]:
        self.questions.append((verb, dict(arguments), uid))
        if verb == "flush":
            return Answer(status=0, text="3 messages are tried now")
        if verb == "retry":
            raise StorageFailed("the disk does not answer")
        return {
            "queues": self.queues,
            "remove": self.remove,
            "message": self.endless,
            "suspend": self.broken,
            "resume": self.late,
        }[verb]()

    async def queues(self) -> AsyncIterator[Line | Answer]:
        yield {"NextHopDomain": "smtp.example:587", "MessageCount": 3, "LastError": None}
        yield {"NextHopDomain": "ж\x1b", "MessageCount": 0, "LastError": "451"}

    async def remove(self) -> AsyncIterator[Line | Answer]:
        yield {"ID": ID, "Result": "removed"}
        yield Answer(status=1, text="nothing else matched")

    async def endless(self) -> AsyncIterator[Line | Answer]:
        try:
            while True:
                yield {"ID": "x" * 10_000}
        finally:
            self.abandoned.set()

    async def late(self) -> AsyncIterator[Line | Answer]:
        """A line, and another long after the client has gone without having read the first."""
        try:
            yield {"ID": "x" * control.GATHERED}
            while not self.gone.is_set():
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            yield {"ID": ID}
        finally:
            self.abandoned.set()

    async def broken(self) -> AsyncIterator[Line | Answer]:
        yield {"ID": ID}
        raise OSError("a mistake of ours, not of the client")


Serve = Callable[[Path], Asked]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    controls: list[Control] = []

    def begin(folder: Path) -> Asked:
        asked = Asked()
        thread.loop.set_exception_handler(lambda _, context: asked.reported.append(context["message"]))
        listener = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(folder)  # a Unix socket's address is short, a test's folder is not
        listener.bind(SOCKET)
        os.chdir(here)
        listener.listen(100)
        controls.append(Control(asked))
        thread.run(controls[-1].serve(listener))
        return asked

    with beside(request.param()) as thread:
        yield begin
        for one in controls:
            thread.run(one.close())


def test_a_question_arrives_with_the_kernels_word_on_who_asks(serve: Serve, tmp_path: Path) -> None:
    asked = serve(tmp_path)
    assert ask(tmp_path, "flush") == Response(0, "3 messages are tried now")
    ask(tmp_path, "remove", {"ids": [ID], "reason": "spam"})
    assert asked.questions == [("flush", {}, os.getuid()), ("remove", {"ids": [ID], "reason": "spam"}, os.getuid())]


def test_lines_come_as_they_were_said(serve: Serve, tmp_path: Path) -> None:
    serve(tmp_path)
    response = ask(tmp_path, "queues")
    assert response.status == 0
    assert response.lines == [
        {"NextHopDomain": "smtp.example:587", "MessageCount": 3, "LastError": None},
        {"NextHopDomain": "ж\x1b", "MessageCount": 0, "LastError": "451"},
    ]
    assert ask(tmp_path, "remove", {"all": True}) == Response(
        1, "nothing else matched", [{"ID": ID, "Result": "removed"}]
    )


def test_accidents_are_answers(serve: Serve, tmp_path: Path) -> None:
    asked = serve(tmp_path)
    assert ask(tmp_path, "retry", {"all": True}) == Response(75, "the disk does not answer")
    response = ask(tmp_path, "suspend", {"all": True})
    assert (response.status, response.text) == (1, "kmqd made a mistake (OSError); see its log")
    assert asked.reported == ["the verb suspend failed"]
    assert ask(tmp_path, "flush").status == 0


@pytest.mark.parametrize(
    ("verb", "arguments", "says"),
    [
        ("rm", {}, "no verb 'rm'"),
        ("queues", {"ids": [ID]}, "queues takes no argument 'ids'"),
        ("remove", {}, "needs IDs, a queue, or all"),
        ("remove", {"ids": [ID], "all": True}, "exactly one"),
        ("remove", {"ids": []}, "1 to 10000"),
        ("remove", {"ids": "69212ad0-0000a1f3"}, "list"),
        ("remove", {"ids": ["../../etc/shadow"]}, "'../../etc/shadow' is not a queue ID"),
        ("remove", {"ids": [ID + "\n"]}, "not a queue ID"),
        ("remove", {"all": False}, "all is true"),
        ("remove", {"queue": ""}, "queue is the name"),
        ("remove", {"queue": "x" * 1001}, "queue is the name"),
        ("remove", {"all": True, "reason": "x" * 501}, "at most 500"),
        ("remove", {"all": True, "reason": 7}, "reason is a text"),
        ("message", {}, "message needs IDs"),
        ("flush", {"queue": "x"}, "flush takes no argument"),
        ("redirect", {"all": True}, "redirect needs the name of a connector"),
        ("remove", {"all": True, "ndr": 1}, "ndr is true or false"),
        ("remove", {"ids": ["a\\" + "x" * 20]}, "not a queue ID"),
        ("remove", {"ids": ["x" * 1001 + "\\" + ID]}, "not a queue ID"),
        ("message", {"ids": ["hop\\" + ID]}, "not a queue ID"),
        ("replay", {"connector": "spare"}, "replay needs IDs"),
        ("replay", {"ids": [ID], "again": "yes"}, "again is true or false"),
        ("replay", {"ids": [ID], "queue": "q"}, "takes no argument 'queue'"),
    ],
)
def test_what_is_not_well_formed_never_reaches_the_scheduler(
    serve: Serve, tmp_path: Path, verb: str, arguments: dict[str, Any], says: str
) -> None:
    asked = serve(tmp_path)
    response = ask(tmp_path, verb, arguments)
    assert response.status == 2
    assert says in response.text
    assert asked.questions == []


def test_every_verb_of_the_table_can_be_asked() -> None:
    for verb, form in verbs.VERBS.items():
        arguments: dict[str, Any] = {"ids": [ID]} if form.target or form.ids or form.kept else {}
        arguments |= {"reason": "why"} if form.reason else {}
        arguments |= {"connector": "spare"} if form.connector else {}
        arguments |= {"again": True, "dsn": False} if form.kept else {}
        assert verbs.trouble(verb, arguments | ({"ndr": True} if form.ndr else {})) == ""


def framed(text: bytes) -> bytes:
    return LENGTHS.pack(len(text), 0) + text


def connect(folder: Path) -> socket.socket:
    return client.connected(folder / SOCKET)


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        encode(Stop()),
        b"\x05\0\0\0\0\0\0\0" + b"hello",
        b"\x02\0\0\0\0\0\0\0" + b"{}",
        framed(b'{"t":"verb","verb":"\xff"}'),
        framed(b'{"t":"verb","verb":"x","more":' + b"[" * 100_000),
    ],
)
def test_whoever_speaks_another_language_is_cut_off(serve: Serve, tmp_path: Path, said: bytes) -> None:
    asked = serve(tmp_path)
    with connect(tmp_path) as connection:
        connection.sendall(said)
        assert connection.recv(100) == b""
    assert ask(tmp_path, "flush").status == 0
    assert asked.reported == []


def test_several_questions_over_one_connection_in_any_cuts(serve: Serve, tmp_path: Path) -> None:
    serve(tmp_path)
    frames, heard = Reader(), list[AnyFrame]()
    with connect(tmp_path) as connection:
        for byte in encode(Verb(verb="flush")) + encode(Verb(verb="nonsense")):
            connection.sendall(bytes([byte]))
        while len(heard) < 2:
            heard += [frame for frame, _ in frames.feed(connection.recv(4096))]
    assert [frame.status for frame in heard if isinstance(frame, Answer)] == [0, 2]


def test_a_client_that_goes_away_ends_the_answer(serve: Serve, tmp_path: Path) -> None:
    asked = serve(tmp_path)
    with connect(tmp_path) as connection:
        connection.sendall(encode(Verb(verb="message", arguments={"ids": [ID]})))
        connection.recv(1000)
    assert asked.abandoned.wait(10)


def test_a_client_that_went_away_while_the_answer_was_made_is_no_accident(serve: Serve, tmp_path: Path) -> None:
    asked = serve(tmp_path)
    with connect(tmp_path) as connection:
        connection.sendall(encode(Verb(verb="resume", arguments={"ids": [ID]})))
        connection.recv(1, socket.MSG_PEEK)
    asked.gone.set()
    assert asked.abandoned.wait(10)
    assert ask(tmp_path, "flush").status == 0, "others are served"
    assert asked.reported == []


def test_a_client_that_does_not_read_is_given_up(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SLOW", 0.1)
    asked = serve(tmp_path)
    with connect(tmp_path) as connection:
        connection.sendall(encode(Verb(verb="message", arguments={"ids": [ID]})))
        assert asked.abandoned.wait(10)
    assert asked.reported == []


def test_more_operators_than_fit_are_told_so(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CONNECTIONS", 3)
    serve(tmp_path)
    silent = [connect(tmp_path) for _ in range(3)]
    assert ask(tmp_path, "flush") == Response(75, "too many operators at once, try again")
    silent.pop().close()
    deadline = time.monotonic() + 10
    while ask(tmp_path, "flush").status != 0:
        assert time.monotonic() < deadline
    for one in silent:
        one.close()


def test_many_names_are_asked_for_in_parts_over_one_connection(serve: Serve, tmp_path: Path) -> None:
    asked = serve(tmp_path)
    short = [f"69212ad0-{n:08x}" for n in range(2500)]
    with client.Talk(tmp_path) as talk:
        for part in client.parts(short):
            assert talk.ask("remove", {"ids": part, "reason": "spam"}).status == 1
    assert [len(question[1]["ids"]) for question in asked.questions] == [1000, 1000, 500]
    assert [name for question in asked.questions for name in question[1]["ids"]] == short


def test_a_command_is_one_line_of_the_log_however_many_questions(
    serve: Serve, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    serve(tmp_path)
    said = ""

    def lines() -> list[str]:
        nonlocal said
        said += capfd.readouterr().err
        return re.findall(r"operator .*", said)

    with client.Talk(tmp_path) as talk:
        talk.ask("queues", {})
        for _ in range(3):
            talk.ask("remove", {"ids": [ID, f"hop\\{ID}"], "reason": "spam", "selection": "--filter x"})
        talk.ask("flush", {})
        talk.ask("message", {}), talk.ask("rm", {})
    until(lambda: len(lines()) == 2, "both commands are told")
    by = f'by="uid {os.getuid()}"'
    assert lines() == [
        f'operator verb=remove selection="--filter x" count=6 done=3 exit=1 {by} reason=spam',
        f"operator verb=flush exit=0 {by}",
    ]


@pytest.mark.parametrize("letter", ["a", "\0", "\u00e9", "\u4e2d", '"', "\\"])
def test_parts_are_all_of_it_in_order_and_fit_into_a_frame(letter: str) -> None:
    names = [f"{letter * (n % verbs.QUEUE_LIMIT + 1)}\\{ID}" for n in range(3500)]
    found = list(client.parts(names))
    assert [name for part in found for name in part] == names
    assert all(part and len(encode(Verb("remove", {"ids": part}))) <= HEAD_LIMIT for part in found)
    assert len(found) < 70, "and are no more than they need to be"


def test_a_path_longer_than_a_socket_address_is_reached(serve: Serve, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("longer" * 20)
    folder.mkdir(parents=True)
    serve(folder)
    assert ask(folder, "flush").status == 0


def listener(folder: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(folder / SOCKET))
    bound.listen()
    return bound


def test_when_kmqd_does_not_run_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="kmqd does not run"):
        ask(tmp_path, "queues")
    listener(tmp_path).close()
    with pytest.raises(Unreachable, match="kmqd does not run"):
        ask(tmp_path, "queues")
    assert Unreachable.exit_status == 75


def test_when_kmqd_hangs_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE", 0.05)
    with listener(tmp_path), pytest.raises(Unreachable, match="does not answer"):
        ask(tmp_path, "queues")


@pytest.mark.parametrize("said", [b"", encode(Answer()), encode(Answer(line=Raw(b"1"))), b"\xff" * 20, encode(Stop())])
def test_an_answer_that_breaks_off_is_said(tmp_path: Path, said: bytes) -> None:
    with listener(tmp_path) as bound:

        def break_off() -> None:
            connection, _ = bound.accept()
            connection.recv(1000)
            connection.sendall(said)
            connection.close()

        thread = threading.Thread(target=break_off)
        thread.start()
        with pytest.raises(Unreachable, match="broke off"):
            ask(tmp_path, "queues")
        thread.join()
