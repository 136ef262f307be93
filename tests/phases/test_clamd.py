"""clamd's language: what is said to it, and what its answers mean; against Debian's own, and against a bad one."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kmq.phases.clamd import Result, Verdict, scan, verdict_of, version
from kmq.phases.clamd_session import Sessions
from kmq.phases.peers import Unanswered
from tests import debian_clamd
from tests.debian_clamd import EICAR, WORD
from tests.fake_clamd import FakeClamd

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

TEXT = b"Received: x\r\nSubject: y\r\n\r\nz\r\n"


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    if not debian_clamd.PROGRAM:
        pytest.skip(debian_clamd.MISSING)
    with debian_clamd.ground() as folder, debian_clamd.clamd(folder / "virus") as path:
        yield str(path)


async def pieces(*texts: bytes) -> AsyncIterator[bytes]:
    for text in texts:
        yield text


# --- Debian's ------------------------------------------------------------------------------------------


def test_a_clean_text_and_a_virus_in_pieces(real: str, loop_runner: Run[Any]) -> None:
    async def play() -> list[object]:
        cut = len(EICAR) // 2
        return [
            await scan(real, pieces(TEXT)),
            await scan(real, pieces(TEXT + EICAR + b"\r\n")),
            await scan(real, pieces(TEXT, EICAR[:cut], b"", EICAR[cut:])),
            await scan(real, pieces()),
        ]

    clean, found, in_pieces, empty = loop_runner(play())
    assert clean == empty == Verdict(Result.CLEAN)
    assert found == in_pieces == Verdict(Result.INFECTED, "Eicar-Test-Signature.UNOFFICIAL")


def test_what_is_too_large_is_no_trouble_of_the_scanner(real: str, loop_runner: Run[Any]) -> None:
    """clamd answers and closes while we are still sending."""
    verdict = loop_runner(scan(real, pieces(*[b"x" * 100_000] * 200)))
    assert verdict == Verdict(Result.UNSCANNABLE, "larger than clamd's StreamMaxLength")


def test_who_has_what_signatures(real: str, loop_runner: Run[Any]) -> None:
    assert loop_runner(version(real)).startswith("ClamAV 1.")


def test_an_archive_with_a_password_is_a_verdict_of_its_own(real: str, loop_runner: Run[Any], tmp_path: Path) -> None:
    """A ZIP whose member has the flag of encryption."""
    name, data = b"a.exe", b"x" * 40
    local = b"PK\3\4" + bytes((20, 0, 1, 0, 0, 0)) + b"\0\0\0\0" + b"\1\2\3\4"
    local += len(data).to_bytes(4, "little") * 2 + len(name).to_bytes(2, "little") + b"\0\0" + name + data
    central = b"PK\1\2" + bytes((20, 0, 20, 0, 1, 0, 0, 0)) + b"\0\0\0\0" + b"\1\2\3\4"
    central += len(data).to_bytes(4, "little") * 2 + len(name).to_bytes(2, "little") + b"\0" * 16 + name
    end = b"PK\5\6" + b"\0" * 4 + b"\1\0\1\0" + len(central).to_bytes(4, "little")
    end += len(local).to_bytes(4, "little") + b"\0\0"
    verdict = loop_runner(scan(real, pieces(local + central + end)))
    assert verdict == Verdict(Result.ENCRYPTED, "Heuristics.Encrypted.Zip")


# --- a bad one ------------------------------------------------------------------------------------------

ANSWERS = [
    ("ok", Verdict(Result.CLEAN)),
    ("slow", Verdict(Result.CLEAN)),
    ("found Win.Test.EICAR_HDB-1", Verdict(Result.INFECTED, "Win.Test.EICAR_HDB-1")),
    ("found Heuristics.Encrypted.PDF", Verdict(Result.ENCRYPTED, "Heuristics.Encrypted.PDF")),
    (
        "found Heuristics.Limits.Exceeded.MaxRecursion",
        Verdict(Result.UNSCANNABLE, "Heuristics.Limits.Exceeded.MaxRecursion"),
    ),
    ("found Heuristics.Broken.Executable", Verdict(Result.INFECTED, "Heuristics.Broken.Executable")),
    ("limits", Verdict(Result.UNSCANNABLE, "larger than clamd's StreamMaxLength")),
    ("error Can't allocate memory", Unanswered("it says Can't allocate memory ERROR")),
    ("mute", Unanswered("it closed the connection without an answer")),
    ("close", Unanswered("it closed the connection without an answer")),
    ("garbage", Unanswered("it says nonsense: ?[2JHTTP/1.1 400 Bad Request")),
]


@pytest.mark.parametrize(("mood", "answer"), ANSWERS)
@pytest.mark.parametrize("large", [False, True])
def test_each_answer_means_one_thing(
    tmp_path: Path, loop_runner: Run[Any], mood: str, answer: object, large: bool
) -> None:
    with FakeClamd(tmp_path / "s", mood).running():
        text = pieces(*[b"x" * 65536] * 50) if large else pieces(TEXT)
        assert loop_runner(scan(str(tmp_path / "s"), text)) == answer


def test_an_endless_answer_is_read_up_to_a_bound(tmp_path: Path, loop_runner: Run[Any]) -> None:
    with FakeClamd(tmp_path / "s", "endless").running():
        said = loop_runner(scan(str(tmp_path / "s"), pieces(TEXT)))
    assert isinstance(said, Unanswered)
    assert said.why.startswith("it says nonsense: xxxx")
    assert len(said.why) < 200


def test_nobody_there_is_told_in_the_words_of_the_system(tmp_path: Path, loop_runner: Run[Any]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # bound and not listening: refused
        assert loop_runner(scan(("127.0.0.1", port), pieces(TEXT))) == Unanswered("connection refused", True)
    assert loop_runner(scan(str(tmp_path / "s"), pieces(TEXT))) == Unanswered("no such file or directory", True)
    (tmp_path / "file").touch()
    assert loop_runner(scan(str(tmp_path / "file"), pieces(TEXT))) == Unanswered("connection refused", True)


def test_a_crowd_at_the_socket_waits_for_its_turn(tmp_path: Path, loop_runner: Run[Any]) -> None:
    """More than its backlog has room for: connect(2) says EAGAIN on a Unix socket."""

    async def play() -> list[Verdict | Unanswered]:
        with FakeClamd(tmp_path / "s").running():
            async with asyncio.timeout(60):
                return await asyncio.gather(*(scan(str(tmp_path / "s"), pieces(TEXT)) for _ in range(300)))

    assert set(loop_runner(play())) == {Verdict(Result.CLEAN)}


# --- connections that are kept --------------------------------------------------------------------------


def test_one_connection_serves_for_one_text_after_the_other(tmp_path: Path, loop_runner: Run[Any]) -> None:
    async def play(fake: FakeClamd) -> None:
        sessions = Sessions(str(fake.path))
        for number in range(20):
            infected = number % 3 == 0
            said = await sessions.scan(TEXT + (b"kmq-virus" if infected else b"%d" % number))
            assert said == (Verdict(Result.INFECTED, "Kmq.Test") if infected else Verdict(Result.CLEAN))
        assert fake.sessions == 1
        await asyncio.gather(*(sessions.scan(TEXT + b"%d" % number) for number in range(5)))
        assert fake.sessions == 5, "each has one question at a time"
        sessions.close()

    with FakeClamd(tmp_path / "s").running() as fake:
        loop_runner(play(fake))


def test_one_that_clamd_ends_costs_no_answer(tmp_path: Path, loop_runner: Run[Any]) -> None:
    """At the next question, as late as can be; nobody who answers none at all is asked again and again."""

    async def play(fake: FakeClamd) -> None:
        sessions = Sessions(str(fake.path))
        assert {await sessions.scan(TEXT) for _ in range(7)} == {Verdict(Result.CLEAN)}
        assert fake.sessions == 7
        fake.mood = "mute"
        before = len(fake.shown)
        assert await sessions.scan(TEXT) == Unanswered("it closed the connection without an answer")
        assert len(fake.shown) == before + 1
        sessions.close()

    fake = FakeClamd(tmp_path / "s", brief=1)
    with fake.running():
        loop_runner(play(fake))


TIMED_OUT = b"COMMAND READ TIMED OUT\n"


@pytest.mark.parametrize("crossed", [True, False])
def test_one_that_clamd_ends_with_a_word_costs_no_answer(tmp_path: Path, loop_runner: Run[Any], crossed: bool) -> None:
    """It crosses the question, or comes while nobody asks: then nothing more is sent there."""

    async def play() -> None:
        asked: list[int] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(0)
            await reader.readuntil(TEXT + b"\0\0\0\0")
            asked[-1] += 1
            writer.write(b"1: stream: OK\0")
            number = len(asked)
            if not crossed:
                await asyncio.sleep(0.05)
                writer.write(TIMED_OUT)  # and does not end yet
            with contextlib.suppress(asyncio.IncompleteReadError):
                await reader.readuntil(TEXT + b"\0\0\0\0")
                asked[number - 1] += 1
                writer.write(TIMED_OUT)
            writer.close()

        async with await asyncio.start_unix_server(answer, tmp_path / "s"):
            sessions = Sessions(str(tmp_path / "s"))
            assert await sessions.scan(TEXT) == Verdict(Result.CLEAN)
            if not crossed:
                (kept,) = sessions._idle
                async with asyncio.timeout(10):
                    while not kept.gone:
                        await asyncio.sleep(0.01)
            assert await sessions.scan(TEXT) == Verdict(Result.CLEAN)
            assert asked == [2 if crossed else 1, 1]
            sessions.close()

    loop_runner(play())


def test_an_answer_for_which_nobody_waits_is_that_of_no_other_question(tmp_path: Path, loop_runner: Run[Any]) -> None:
    async def play(fake: FakeClamd) -> None:
        sessions = Sessions(str(fake.path))
        assert await sessions.scan(TEXT) == Verdict(Result.CLEAN)
        fake.mood = "late Evil.X"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await sessions.scan(TEXT)
        fake.release()
        fake.mood = "ok"
        assert await sessions.scan(TEXT) == Verdict(Result.CLEAN)
        assert fake.sessions == 2
        sessions.close()

    with FakeClamd(tmp_path / "s").running() as fake:
        loop_runner(play(fake))


@pytest.mark.parametrize(
    "said", [b"2: stream: OK\0", b"stream: OK\0", b"UNKNOWN COMMAND\0", b"1: stream: OK\0" + b"2: stream: OK\0"]
)
def test_what_has_another_number_is_no_answer(tmp_path: Path, loop_runner: Run[Any], said: bytes) -> None:
    """Nor is a connection of any use on which something else was heard as well."""

    async def play() -> None:
        answered = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal answered
            answered += 1
            await reader.readuntil(b"\0\0\0\0")
            writer.write(said)
            await reader.read()
            writer.close()

        async with await asyncio.start_unix_server(answer, tmp_path / "s"):
            sessions = Sessions(str(tmp_path / "s"))
            for asked in (1, 2):
                found = await sessions.scan(TEXT)
                good = said.startswith(b"1: ")
                assert found == Verdict(Result.CLEAN) if good else isinstance(found, Unanswered) and not found.absent
                assert answered == asked, "on a connection of its own"
            sessions.close()

    loop_runner(play())


def test_debian_s_knows_sessions_and_new_signatures_count_in_them(real: str, loop_runner: Run[Any]) -> None:
    signatures = Path(real).parent / "signatures"
    word = b"kmq-test-virus-%s" % secrets.token_hex(8).encode()

    async def play() -> None:
        sessions = Sessions(real)
        assert await sessions.scan(b"") == await sessions.scan(TEXT + word) == Verdict(Result.CLEAN)
        assert await sessions.scan(TEXT + WORD) == Verdict(Result.INFECTED, "Kmq.Test-1.UNOFFICIAL")
        large = await sessions.scan(b"x" * (3 << 20))
        assert large == Verdict(Result.UNSCANNABLE, "larger than clamd's StreamMaxLength")
        assert await sessions.scan(TEXT + EICAR) == Verdict(Result.INFECTED, "Eicar-Test-Signature.UNOFFICIAL")
        debian_clamd.sign(signatures, EICAR, WORD, word)
        async with asyncio.timeout(60):
            while await sessions.scan(TEXT + word) == Verdict(Result.CLEAN):
                await asyncio.to_thread(_reload, real)  # one that comes while another is under way is forgotten
                await asyncio.sleep(0.2)
        sessions.close()

    try:
        loop_runner(play())
    finally:
        debian_clamd.sign(signatures, EICAR, WORD)
        _reload(real)


def _reload(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        line.sendall(b"zRELOAD\0")
        assert line.recv(100) == b"RELOADING\0"


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (b"stream: Evil\r\n\x1b[31mX FOUND", Verdict(Result.INFECTED, "Evil???[31mX")),
        (b"stream: " + b"x" * 5000 + b" FOUND", Verdict(Result.INFECTED, "x" * 200)),
        (b"stream: Gr\xc3\xbc\xc3\x9fe FOUND", Verdict(Result.INFECTED, "Gr????e")),
        (b"1: stream: OK", Unanswered("it says nonsense: 1: stream: OK")),
        (b"stream: OKAY", Unanswered("it says nonsense: stream: OKAY")),
        (b"stream: FOUND", Unanswered("it says nonsense: stream: FOUND")),
    ],
)
def test_a_reply_is_what_it_is(reply: bytes, verdict: object) -> None:
    said = verdict_of(reply)
    assert said == verdict
    assert str(said).isprintable()


def test_word_is_a_signature_of_its_own(real: str, loop_runner: Run[Any]) -> None:
    assert loop_runner(scan(real, pieces(TEXT + WORD))) == Verdict(Result.INFECTED, "Kmq.Test-1.UNOFFICIAL")
