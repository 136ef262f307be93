"""Delivery agents: real programs, with and without faults."""

import asyncio
import os
from pathlib import Path

import pytest

from kmq.model.event import HeaderEdit
from kmq.phases import agent_program
from kmq.phases.allotment import Allotment
from kmq.phases.work import Outcome
from tests.phases.programs import GOOD, HELLO, LONG, World, agent, born, lives, notes, play, program, work
from tests.phases.sending import kinds, results, until


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs that do not heed what they are told anyway."""
    monkeypatch.setattr(agent_program, "FAREWELL", 0.2)
    monkeypatch.setattr(agent_program, "DRAIN", 0.2)


# --- what goes well ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_program_lives_from_message_to_message(tmp_path: Path, loop: str) -> None:
    async def story(world: World) -> None:
        for number in (1, 2, 3):
            found = await world.outcome(work(number=number))
            assert results(found) == {0: ("Delivered", "250 2.0.0 faxed")}
            assert found.begun > 0
        assert len(born(tmp_path)) == 1
        assert ("fax", 0) in world.shown

    play(tmp_path, story, agent(tmp_path), loop=loop)
    assert not lives(born(tmp_path)[0])


def test_it_hears_who_sends_what_to_whom_and_reads_the_message(tmp_path: Path) -> None:
    text = HELLO + (
        "said = next(messages())\n"
        'note("said", json.dumps(said))\n'
        'note("mode", oct(os.stat(said["path"]).st_mode & 0o777), os.getcwd(), sorted(os.environ))\n'
        'note("text", json.dumps(open(said["path"], newline="").read()))\n'
        'tell(n=said["n"], rcpt=[1], reply="250 2.0.0 faxed")\n'
        'tell(type="progress", n=said["n"], percent=50)\n'
        'tell(n=said["n"], rcpt=[0], reply="550-5.1.1 no such fax")\n'
        "sys.stdin.read()\n"
    )
    body = b"Received: x\r\nX-Spam: no\r\nSubject: x\r\n\r\n.dot\r\n\xc3\xbc\r\n"

    async def story(world: World) -> None:
        one = work("49@fax", "50@fax", "51@fax", text=body)
        edited = type(one)(one.head, one.body, (0, 1), one.hop, 7, (HeaderEdit("set", "X-Spam", "yes"),))
        found = await world.outcome(edited)
        assert results(found) == {0: ("Failed", "550 5.1.1 no such fax"), 1: ("Delivered", "250 2.0.0 faxed")}
        assert found.relayed == [1]
        assert ("fax", 50) in world.shown

    play(tmp_path, story, agent(tmp_path, text))
    told = "\n".join(notes(tmp_path))
    assert '"sender": "sender@kmq.test"' in told
    assert '"attempt": 7' in told
    assert '"index": 1, "address": "50@fax"' in told
    assert "51@fax" not in told
    assert f"mode 0o600 {tmp_path}/agents ['HOME', 'KMQ_CONNECTOR', 'LANG'" in told
    assert r"X-Spam: yes\r\nSubject: x\r\n\r\n.dot\r\n\u00fc\r\n" in told
    assert f'"size": {len(body) + 1}' in told


def test_one_that_sees_to_notices_says_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert (await world.outcome(work())).relayed == []

    play(tmp_path, story, agent(tmp_path, GOOD.replace("version=1", "version=1, notices=True")))


def test_a_large_message_is_read_from_its_file(tmp_path: Path) -> None:
    text = b"Subject: x\r\n\r\n" + b"a line of text\r\n" * 60_000
    told = HELLO + 'for said in messages():\n    tell(n=said["n"], reply=f"250 {os.stat(said[\'path\']).st_size}")\n'

    async def story(world: World) -> None:
        found = await world.outcome(work(text=text, file=tmp_path / "x.eml"))
        assert results(found) == {0: ("Delivered", f"250 {len(text)}")}

    play(tmp_path, story, agent(tmp_path, told))


def test_the_window_is_kept(tmp_path: Path) -> None:
    """It answers for two at a time, so one more than its window would never come to an end."""
    text = HELLO + (
        "have = []\n"
        "for said in messages():\n"
        '    have.append(said["n"])\n'
        "    if len(have) == 2:\n"
        "        time.sleep(0.05)\n"
        '        note("two")\n'
        '        tell(n=have[1], reply="250 ok")\n'
        '        tell(n=have[0], reply="250 ok")\n'
        "        have = []\n"
        "    assert len(have) < 3\n"
    )

    async def story(world: World) -> None:
        sent = [world.send(work(number=number)) for number in range(8)]
        found = await asyncio.gather(*sent)
        assert "".join(map(kinds, found)) == "D" * 8

    play(tmp_path, story, agent(tmp_path, text, in_flight=2))
    assert notes(tmp_path)[1:] == ["two"] * 4


def test_several_programs_share_the_work(tmp_path: Path) -> None:
    text = HELLO + (
        "for said in messages():\n"
        '    note("has", os.getpid())\n'
        '    while not os.path.exists(sys.argv[0] + ".go"):\n        time.sleep(0.01)\n'
        '    tell(n=said["n"], reply="250 ok")\n'
    )

    async def story(world: World) -> None:
        sent = [world.send(work(number=number)) for number in range(5)]
        await until(lambda: len([one for one in notes(tmp_path) if one.startswith("has")]) == 2, "two have work", LONG)
        (tmp_path / "agent.go").touch()
        assert "".join(map(kinds, await asyncio.gather(*sent))) == "DDDDD"
        assert len(born(tmp_path)) == 2

    play(tmp_path, story, agent(tmp_path, text, processes=2))


def test_programs_are_dealt_out_to_workers(tmp_path: Path) -> None:
    """Of one program for three workers two have none; what comes to them all the same is carried."""
    section = agent(tmp_path)
    parts = [Allotment(20, worker, 3).queue(section, "fax") for worker in (1, 2, 3)]
    assert sorted(parts) == [0, 0, 1]
    without = Allotment(20, parts.index(0) + 1, 3)

    async def story(world: World) -> None:
        assert kinds(await world.outcome(work())) == "D"

    play(tmp_path, story, section, allotment=without)


def test_it_is_never_begun_in_one_go_with_fresh_mail(tmp_path: Path) -> None:
    """What may take long would keep its place in the Submission queue."""

    async def story(world: World) -> None:
        assert not world.ways.ready(work().hop)

    play(tmp_path, story, agent(tmp_path))
    assert born(tmp_path) == []


# --- faults of a program ----------------------------------------------------------------------------------------------

UNCERTAIN = {
    "death": ("os._exit(3)", "it ended by itself, with exit status 3"),
    "signal": ("os.kill(os.getpid(), 9)", "it ended by signal 9"),
    "garbage": ('print("ok", flush=True)', "what it says is not kmq-agent(5)"),
    "no code": ('tell(n=said["n"], reply="sure")', "no reply with a code"),
    "a code between": ('tell(n=said["n"], reply="354 go on")', "no reply with a code"),
    "no such type": ('tell(type="dance")', "no sentence of type dance"),
    "a foreign number": ('tell(n=said["n"] + 1, reply="250 ok")', "it has no such message"),
    "a foreign recipient": ('tell(n=said["n"], rcpt=[5], reply="250 ok")', "recipient 5 is not there"),
    "no recipient": ('tell(n=said["n"], rcpt=[], reply="250 ok")', "names no recipient"),
    "a second hello": ('tell(type="hello", version=1)', "hello twice"),
    "an endless line": ('sys.stdout.write("x" * 70000); sys.stdout.flush()', "a line without end"),
    "a flood of progress": ("[tell(type='progress', n=said['n']) for _ in range(10**6)]", "floods us"),
    "a flood of errors": ('[sys.stderr.write("x" * 99999 + "\\n") for _ in range(10**6)]', "floods its standard error"),
    "closed output": ("os.close(1)", "closed its standard output"),
    "unavailable for good": ('tell(n=said["n"], reply="550 no", unavailable=True)', "not 4xx"),
    "unavailable in part": (
        'tell(n=said["n"], rcpt=[0], reply="450 no", unavailable=True)',
        "a part of the recipients",
    ),
}


@pytest.mark.parametrize("fault", UNCERTAIN)
def test_nobody_knows_what_became_of_a_message_whose_agent_fails(tmp_path: Path, fault: str) -> None:
    """It is deferred, marked as uncertain; the program is ended, and the next message has a new one."""
    deed, why = UNCERTAIN[fault]
    text = HELLO + f"for said in messages():\n    if len(said['id']) and said['attempt'] == 1: {deed}\n"
    text += '    if said["attempt"] > 1: tell(n=said["n"], reply="250 2.0.0 faxed")\n'

    async def story(world: World) -> None:
        found = await world.outcome(work("49@fax", "50@fax"))
        assert kinds(found) == "dd"
        assert found.uncertain
        assert why in results(found)[0][1], results(found)
        await until(lambda: not lives(born(tmp_path)[0]), "the program is ended", LONG)
        world.configure(agent(tmp_path, text, in_flight=2))  # a reload: nobody waits for it to be begun anew
        assert kinds(await world.outcome(work(attempt=2))) == "D"
        assert len(born(tmp_path)) == 2

    play(tmp_path, story, agent(tmp_path, text))


def test_an_answer_counts_once(tmp_path: Path) -> None:
    """The second one about a recipient ends the program; what was said before it stands."""
    text = HELLO + (
        "said = next(messages())\n"
        'tell(n=said["n"], rcpt=[0], reply="250 2.0.0 faxed")\n'
        'tell(n=said["n"], rcpt=[0], reply="550 5.0.0 not faxed")\n'
        "sys.stdin.read()\n"
    )

    async def story(world: World) -> None:
        found = await world.outcome(work("49@fax", "50@fax"))
        assert kinds(found) == "Dd"
        assert found.uncertain

    play(tmp_path, story, agent(tmp_path, text))


def dead(folder: Path) -> int:
    """Programs that have ended."""
    return sum(not lives(pid) for pid in born(folder))


def test_a_program_that_has_answered_is_begun_anew_at_once(tmp_path: Path) -> None:
    text = HELLO + 'said = next(messages())\ntell(n=said["n"], reply="250 ok")\n'

    async def story(world: World) -> None:
        answered: list[int] = []
        for number in range(3):
            assert kinds(await world.outcome(work(number=number))) == "D"
            await until(lambda: dead(tmp_path) > len(answered), "it ended", LONG)
            answered.append(number)

    play(tmp_path, story, agent(tmp_path, text))
    assert len(born(tmp_path)) == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sys.exit(1)\n", "exit status 1"),
        ('print("hello", flush=True)\nsys.stdin.read()\n', "not kmq-agent(5)"),
        ('tell(type="hello", version=2)\nsys.stdin.read()\n', "version 2"),
        ('tell(n=1, reply="250 ok")\nsys.stdin.read()\n', "did not begin with hello"),
    ],
)
def test_a_program_that_cannot_begin_is_a_trouble_of_the_queue(tmp_path: Path, text: str, why: str) -> None:
    """Nothing was tried: the queue waits. The next message does not have it begun again at once."""

    async def story(world: World) -> None:
        first = await world.outcome(work(number=1))
        assert first.events == []
        assert first.unavailable is not None
        assert first.unavailable.enhanced == "4.3.2"
        assert why in str(first.unavailable)
        await until(lambda: not lives(born(tmp_path)[0]), "it is gone")
        second = await world.outcome(work(number=2))
        assert second.unavailable is not None
        assert len(born(tmp_path)) == 1

    play(tmp_path, story, agent(tmp_path, text))


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    section = agent(tmp_path)
    (tmp_path / "agent").unlink()

    async def story(world: World) -> None:
        found = await world.outcome(work())
        assert "No such file or directory" in str(found.unavailable)
        program(tmp_path, GOOD)
        async with asyncio.timeout(LONG):
            while (again := await world.send(work())).unavailable is not None:
                await asyncio.sleep(0.05)
        assert kinds(again) == "D"

    play(tmp_path, story, section)


def test_an_agent_whose_world_is_out_of_reach_says_so(tmp_path: Path) -> None:
    text = HELLO + (
        'for said in messages():\n    tell(n=said["n"], reply="451 4.4.1 the line is dead", unavailable=True)\n'
    )

    async def story(world: World) -> None:
        found = await world.outcome(work("49@fax", "50@fax"))
        assert found == Outcome(unavailable=found.unavailable)
        assert str(found.unavailable) == "451 4.4.1 the line is dead"
        await world.outcome(work(number=2))
        assert len(born(tmp_path)) == 1

    play(tmp_path, story, agent(tmp_path, text))


# --- time -------------------------------------------------------------------------------------------------------------

SLOW = HELLO + (
    "first = next(messages())\n"
    'while not os.path.exists(sys.argv[0] + ".go"):\n    time.sleep(0.01)\n'
    'tell(n=first["n"], reply="550 5.0.0 too late")\n'
    "for said in messages():\n"
    '    tell(n=said["n"], reply="250 ok")\n'
)


def test_an_answer_that_comes_too_late_does_not_count(tmp_path: Path) -> None:
    """The message is deferred when its time is up; the program, which has room for another, lives on."""

    async def story(world: World) -> None:
        found = await world.outcome(work(number=1))
        assert kinds(found) == "d"
        assert found.uncertain
        assert "did not answer in 1 s" in results(found)[0][1]
        (tmp_path / "agent.go").touch()
        assert kinds(await world.outcome(work(number=2))) in ("D", "d")
        async with asyncio.timeout(LONG):
            while kinds(await world.send(work(number=3))) != "D":
                pass
        assert len(born(tmp_path)) == 1

    play(tmp_path, story, agent(tmp_path, SLOW, in_flight=4, answer_timeout=1.0))


def test_what_is_overdue_keeps_its_place(tmp_path: Path) -> None:
    """A program that is slow is handed less: of a window of two, one at a time."""
    text = HELLO + (
        "import select\n"
        'heard = b""\n'
        'while heard.count(b"\\n") < 3:\n    heard += os.read(0, 65536)\n'
        "time.sleep(0.2)\n"
        'note("another" if select.select([0], [], [], 0)[0] else "alone", heard.count(b"\\n"))\n'
        'tell(n=json.loads(heard.splitlines()[2])["n"], reply="250 ok")\n'
        'tell(n=json.loads(os.read(0, 65536))["n"], reply="250 ok")\n'
    )

    async def story(world: World) -> None:
        assert kinds(await world.outcome(work(number=1))) == "d"
        await asyncio.gather(world.send(work(number=2)), world.send(work(number=3)))

    play(tmp_path, story, agent(tmp_path, text, in_flight=2, answer_timeout=2.0))
    assert notes(tmp_path)[1:] == ["alone 3"]


#: It takes a message, and stands still.
HOLDS = 'for _ in messages():\n    note("has")\n    signal.pause()\n'


@pytest.mark.usefixtures("hasty")
def test_a_program_that_stands_still_is_ended_with_its_children(tmp_path: Path) -> None:
    text = HELLO + (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        '    note("child", os.getpid())\n'
        "    signal.pause()\n"
        "signal.pause()\n"
    )

    async def story(world: World) -> None:
        assert kinds(await world.outcome(work())) == "d"
        (first,) = born(tmp_path)
        await until(lambda: not lives(first), "it is killed", LONG)
        (child,) = [int(note.split()[1]) for note in notes(tmp_path) if note.startswith("child")]
        await until(lambda: not lives(child), "its child, too", LONG)

    play(tmp_path, story, agent(tmp_path, text, answer_timeout=0.5))


@pytest.mark.usefixtures("hasty")
def test_a_program_that_stands_still_occupies_its_own_messages_only(tmp_path: Path) -> None:
    """Other connectors go on, and so does another agent."""
    (tmp_path / "other").mkdir()
    stuck = agent(tmp_path, HELLO + HOLDS)
    good = agent(tmp_path / "other")
    other = type(good)(**{n: getattr(good, n) for n in good.__dataclass_fields__} | {"name": "sms"})

    async def story(world: World) -> None:
        waiting = [world.send(work(number=number)) for number in range(3)]
        for number in range(10, 20):
            one = work(number=number)
            sms = type(one)(one.head, one.body, one.rcpt, one.hop._replace(connector="sms", domain="sms"), 1)
            assert kinds(await world.outcome(sms)) == "D"
        assert not any(one.done() for one in waiting)
        await until(lambda: "has" in notes(tmp_path), "it has the first one", LONG)
        await world.ways.close(0.0)
        assert [kinds(one.result()) for one in waiting[:1]] == ["d"]
        assert all(one.result().unavailable for one in waiting[1:])

    play(tmp_path, story, stuck, other)


# --- reload and stop --------------------------------------------------------------------------------------------------


def test_a_new_command_takes_over_when_the_old_has_answered(tmp_path: Path) -> None:
    text = HELLO + (
        "for said in messages():\n"
        '    note("has")\n'
        '    while not os.path.exists(sys.argv[0] + ".go"):\n        time.sleep(0.01)\n'
        '    tell(n=said["n"], reply="250 old")\n'
    )
    (tmp_path / "new").mkdir()

    async def story(world: World) -> None:
        first = world.send(work(number=1))
        await until(lambda: "has" in notes(tmp_path), "it has the first one", LONG)
        world.configure(agent(tmp_path / "new", GOOD))
        (tmp_path / "agent.go").touch()
        assert results(await first) == {0: ("Delivered", "250 old")}
        assert results(await world.outcome(work(number=2))) == {0: ("Delivered", "250 2.0.0 faxed")}
        await until(lambda: not lives(born(tmp_path)[0]), "the old one is gone", LONG)

    play(tmp_path, story, agent(tmp_path, text))


def test_one_that_leaves_and_never_answers_is_ended_all_the_same(tmp_path: Path) -> None:
    """Its window is larger than what it has, so it is not full of overdue messages."""
    (tmp_path / "new").mkdir()

    async def story(world: World) -> None:
        first = world.send(work(number=1))
        await until(lambda: "has" in notes(tmp_path), "it has the first one", LONG)
        world.configure(agent(tmp_path / "new", GOOD))
        assert kinds(await first) == "d"
        assert kinds(await world.outcome(work(number=2))) == "D"
        await until(lambda: not lives(born(tmp_path)[0]), "the old one is gone", LONG)

    text = HELLO + HOLDS
    play(tmp_path, story, agent(tmp_path, text, in_flight=3, answer_timeout=1.0))


def test_a_connector_that_is_gone(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.outcome(work(number=1))
        world.configure()
        await until(lambda: not lives(born(tmp_path)[0]), "its program is gone", LONG)
        found = await world.outcome(work(number=2))
        assert "no connector 'fax'" in str(found.unavailable)

    play(tmp_path, story, agent(tmp_path))


@pytest.mark.parametrize("deaf", [False, True])
def test_at_a_stop_its_input_ends_then_it_is_ended(tmp_path: Path, deaf: bool, request: pytest.FixtureRequest) -> None:
    """First politely; one that neither reads its end nor heeds SIGTERM is killed."""
    if deaf:
        request.getfixturevalue("hasty")
    before = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if deaf else ""
    after = "signal.pause()\n" if deaf else 'sys.stdin.read()\nnote("farewell")\n'
    text = HELLO + before + 'said = next(messages())\ntell(n=said["n"], reply="250 ok")\n' + after

    async def story(world: World) -> None:
        await world.outcome(work())

    play(tmp_path, story, agent(tmp_path, text))
    assert not lives(born(tmp_path)[0])
    assert ("farewell" in notes(tmp_path)) is not deaf


@pytest.mark.usefixtures("hasty")
def test_what_it_leaves_behind_does_not_keep_us(tmp_path: Path) -> None:
    """A child that keeps its output open outlives it: it is killed, and the death is heard."""
    text = HELLO + (
        'said = next(messages())\npid = os.fork()\nif pid == 0:\n    signal.pause()\nnote("child", pid)\nos._exit(0)\n'
    )

    async def story(world: World) -> None:
        found = await world.outcome(work())
        assert kinds(found) == "d"
        child = int(notes(tmp_path)[1].split()[1])
        await until(lambda: not lives(child), "the child is gone", LONG)

    play(tmp_path, story, agent(tmp_path, text))


def test_what_a_dead_worker_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    for name in ("fax.1.17.eml", "fax.2.17.eml", "fax.x.1.2.eml"):
        (tmp_path / "agents" / name).touch()

    async def story(world: World) -> None:
        assert world.files == ["fax.2.17.eml"]
        (tmp_path / "agents/fax.2.17.eml").unlink()

    play(tmp_path, story, agent(tmp_path))


# --- the disk ---------------------------------------------------------------------------------------------------------


def test_a_body_that_is_not_what_was_accepted_is_damage(tmp_path: Path) -> None:
    one = work(text=b"Subject: x\r\n\r\n" + b"text\r\n" * 9, file=tmp_path / "x.eml")
    (tmp_path / "x.eml").write_bytes(b"Subject: y\r\n\r\n" + b"text\r\n" * 9)

    async def story(world: World) -> None:
        assert "checksum" in (await world.outcome(one)).damaged

    play(tmp_path, story, agent(tmp_path))


def test_without_room_for_its_file_a_message_waits(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.outcome(work(number=1))
        os.rmdir(tmp_path / "agents")
        found = await world.outcome(work(number=2))
        assert kinds(found) == "d"
        assert not found.uncertain
        assert "cannot write the message down" in results(found)[0][1]
        (tmp_path / "agents").mkdir()
        assert kinds(await world.outcome(work(number=3))) == "D"

    play(tmp_path, story, agent(tmp_path))


def test_its_words_are_logged_within_bounds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = HELLO + (
        "said = next(messages())\n"
        'sys.stderr.write("first \\x1b[31m\\n" + "line\\n" * 500)\n'
        "sys.stderr.flush()\n"
        'tell(n=said["n"], reply="250 ok \\x1b[31m\\u00fc " + "x" * 5000)\n'
        "sys.stdin.read()\n"
    )

    async def story(world: World) -> None:
        found = await world.outcome(work())
        reply = results(found)[0][1]
        assert reply.startswith(r"250 ok \x1b[31mü x")
        assert len(reply) < 1100

    play(tmp_path, story, agent(tmp_path, text))
    assert "\x1b" not in capfd.readouterr().err
