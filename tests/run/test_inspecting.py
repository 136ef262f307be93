"""The walk through the phases ahead of routing: steps in their order, what they make, and where it ends."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from kmq.model.envelope import Head, Recipient, Source, event_line, head_line, head_tail, read_head
from kmq.model.event import Deferred, Discarded, Event, Failed, HeaderEdit, Passed, Replaced, Suspended
from kmq.model.frame import Assign
from kmq.model.phase import Phase
from kmq.phases.inspection import Finding, Letter, Matter, Replacement
from kmq.phases.work import Body
from kmq.run import past
from kmq.run.inspecting import Inspected, Inspecting
from kmq.run.job import Job
from kmq.run.linking import Linking
from kmq.run.written import SMALL

TEXT = b"Subject: x\r\n\r\n.hello\r\n"
ID = "69212ad0-0000a1f3"


@dataclass(eq=False)
class Step:
    """A step that finds what the test says."""

    name: str
    finds: Callable[[Matter], Finding]
    phase: Phase = Phase.CONTENT
    seen: list[Matter] = field(default_factory=list)

    @property
    def step(self) -> str:
        return self.name

    def concerns(self, matter: Matter) -> bool:
        return True

    async def inspect(self, matter: Matter) -> Finding:
        self.seen.append(matter)
        await asyncio.sleep(0)
        return self.finds(matter)

    async def close(self) -> None:
        pass


def nothing(matter: Matter) -> Finding:
    return Finding(Passed())


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    (tmp_path / "queue").mkdir()
    return tmp_path


def job(spool: Path, text: bytes = TEXT, how: str = "smtp", passed: str = "") -> Job:
    """A message to three, taken up."""
    to = [Recipient(f"{name}@far.test") for name in ("ada", "bob", "eve")]
    head = Head(ID, sha256(text).hexdigest(), "", "me@here.test", to, len(text), Source(how=how), passed=passed)
    (spool / "queue" / "m.eml").write_bytes(text)
    body = Body(text if len(text) <= SMALL else None, str(spool / "queue" / "m.eml"), len(text))
    return Job(Assign(1, ID, "Undefined;Submission;", "0-2", 1), head, body, 0)


def walk(spool: Path, one: Job, *steps: Step, rcpt: tuple[int, ...] = (0, 1, 2)) -> Inspected:
    """What the phases come to."""

    async def run() -> Inspected:
        told: asyncio.Future[Inspected] = asyncio.get_running_loop().create_future()
        entered: list[Phase] = []
        inspecting = Inspecting(Linking(str(spool)), lambda _, phase: entered.append(phase))
        inspecting.configure(steps, lambda address: False)
        inspecting.begin(one, rcpt, told.set_result)
        found = await asyncio.wait_for(told, 60)
        assert entered == [step.phase for step in steps for _ in step.seen], "the status file shows each phase"
        await inspecting.close()
        return found

    return asyncio.run(run())


def kinds(found: Inspected) -> list[type[Event]]:
    return [type(event) for event in found.events]


def test_each_step_has_its_turn_and_hears_what_was_said_before_it(spool: Path) -> None:
    first = Step("spam", lambda matter: Finding(Passed(by="rspamd", score=4.0, headers=(HeaderEdit("add", "X", "1"),))))
    second = Step("rules", nothing)
    found = walk(spool, job(spool), first, second)
    assert found.left == (0, 1, 2)
    assert [(one.phase, one.step) for one in found.events if isinstance(one, Passed)] == [
        ("Content filtering", "spam"),
        ("Content filtering", "rules"),
    ]
    assert [one.score for one in second.seen[0].earlier] == [4.0]
    assert second.seen[0].edits == (HeaderEdit("add", "X", "1"),)


def test_what_has_passed_a_step_is_not_taken_there_again(spool: Path) -> None:
    first, second = Step("spam", nothing), Step("rules", nothing)
    taken_up = job(spool)
    taken_up.recall((Passed(phase="Content filtering", step="spam"),))
    found = walk(spool, taken_up, first, second)
    assert not first.seen and len(second.seen) == 1
    assert len(found.events) == 1


@pytest.mark.parametrize(
    ("how", "passed"),
    [("dsn", ""), ("copy", ""), ("rule", "Backup,Content filtering")],
    ids=["notice", "copy", "child"],
)
def test_what_we_made_ourselves_passes_by(spool: Path, how: str, passed: str) -> None:
    step = Step("rules", nothing)
    found = walk(spool, job(spool, how=how, passed=passed), step)
    assert (step.seen, found.left, found.events) == ([], (0, 1, 2), [])


def test_a_step_that_defers_ends_the_walk(spool: Path) -> None:
    down = Step("scanner", lambda matter: Finding(None, [Deferred(rcpt="0-2", attempt=1, reply="451 4.7.1 down")]))
    backup, after = Step("backup", nothing, Phase.BACKUP), Step("rules", nothing)
    found = walk(spool, job(spool), backup, down, after)
    assert (found.left, after.seen) == ((), [])
    assert kinds(found) == [Passed, Deferred], "what was archived is not archived again"


def test_some_recipients_end_here_and_the_rest_goes_on(spool: Path) -> None:
    def finds(matter: Matter) -> Finding:
        ends = [Discarded(rcpt="0", by="rule a", reason="junk"), Failed(rcpt="1", attempt=1, reply="550 5.7.1 no")]
        return Finding(Passed(by="rules"), [*ends])

    after = Step("after", nothing)
    found = walk(spool, job(spool), Step("rules", finds), after)
    assert found.left == (2,) and after.seen[0].rcpt == (2,)
    assert kinds(found) == [Passed, Discarded, Failed, Passed]


def test_what_is_held_is_not_routed(spool: Path) -> None:
    held = Step("rules", lambda matter: Finding(Passed(by="r"), [Suspended(rcpt="0-2", by="rule r", reason="look")]))
    after = Step("after", nothing)
    found = walk(spool, job(spool), held, after)
    assert (found.left, after.seen, kinds(found)) == ((), [], [Passed, Suspended])


def test_letters_are_messages_of_their_own(spool: Path) -> None:
    def finds(matter: Matter) -> Finding:
        to = (Recipient("audit@here.test"),)
        copy = Letter("me@here.test", to, how="rule")
        warning = Letter("", to, text=b"Subject: warning\r\n\r\nlook\r\n", how="warning", quiet=True)
        return Finding(Passed(by="rules", headers=(HeaderEdit("add", "X-A", "1"),)), letters=[copy, warning])

    def sends(matter: Matter) -> Finding:
        return Finding(Passed(by="b"), letters=[Letter("", (Recipient("x@here.test"),))])

    found = walk(spool, job(spool), Step("rules", finds), Step("more", sends, Phase.ANTIVIRUS))
    assert [one.child for one in found.events if isinstance(one, Passed)] == ["0 1", "2"]
    heads, bodies, at = [], [], 0
    for child in found.children:
        head = read_head(head_line(ID, "", found.raw[at : at + child.tail]))
        assert head is not None
        heads.append(head)
        bodies.append(found.raw[at + child.tail : at + child.tail + child.body])
        at += child.tail + child.body
    assert at == len(found.raw)
    copy, warning, late = heads
    assert bodies == [TEXT, b"Subject: warning\r\n\r\nlook\r\n", TEXT]
    assert (copy.parent, copy.source.how, copy.size, copy.edits) == (ID, "rule", len(TEXT), ())
    assert (warning.sender, warning.quiet, warning.size, warning.source.how) == ("", True, len(bodies[1]), "warning")
    assert late.edits == (HeaderEdit("add", "X-A", "1"),), "a copy made later bears what was changed before"
    assert "Content filtering" in copy.passed, "no rule answers a rule"


def test_a_message_goes_on_with_another_text(spool: Path) -> None:
    """Large, cut anywhere, with line ends that are none: it lies in incoming/, whole, as a message has to be."""
    text = b"Subject: x\r\n\r\n" + b".line\n" * 20_000

    def finds(matter: Matter) -> Finding:
        pieces = [text[at : at + 999] for at in range(0, len(text), 999)]
        headers = (HeaderEdit("add", "X-Filtered", "yes"),)
        going = Replacement((0, 2), lambda: iter(pieces), why="without virus.exe")
        return Finding(Passed(by="content", headers=headers), replacement=going)

    after = Step("after", nothing, Phase.ANTIVIRUS)
    found = walk(spool, job(spool), Step("content", finds), after)
    assert after.seen[0].rcpt == (1,), "whoever goes on with the message as it is"
    (replaced,) = [one for one in found.events if isinstance(one, Replaced)]
    assert (replaced.rcpt, replaced.child, replaced.reason) == ("0,2", "0", "without virus.exe")
    (child,) = found.children
    kept = (spool / "incoming" / child.incoming).read_bytes()
    assert kept == b"X-Filtered: yes\r\n" + text.replace(b"\n", b"\r\n").replace(b"\r\r", b"\r")
    head = read_head(head_line(ID, child.sha256, found.raw[: child.tail]))
    assert head is not None and child.sha256 == sha256(kept).hexdigest()
    assert (head.size, head.dots, head.eight_bit, head.longest) == (len(kept), True, False, 15)
    assert [one.address for one in head.recipients] == ["ada@far.test", "eve@far.test"]
    assert head.passed == "Content filtering/content" and head.edits == ()
    head = msgspec.structs.replace(head, id=ID)
    later, again = Step("more", nothing), Step("content", nothing)
    going_on = Job(Assign(2, ID, "Undefined;Submission;", "0-1", 1), head, Body(None, "", 0), 0)
    walk(spool, going_on, again, later, rcpt=(0, 1))
    assert not again.seen and later.seen, "steps behind the one that changed it look at it"


def test_a_sender_that_is_changed_is_a_message_with_the_same_text(spool: Path) -> None:
    text = TEXT + b"x" * SMALL + b"\r\n"
    going = Replacement((0, 1, 2), sender="other@here.test")
    found = walk(spool, job(spool, text), Step("milter", lambda matter: Finding(Passed(by="m"), replacement=going)))
    (child,) = found.children
    assert (spool / "incoming" / child.incoming).stat().st_ino == (spool / "queue" / "m.eml").stat().st_ino
    head = read_head(head_line(ID, child.sha256, found.raw[: child.tail]))
    assert head is not None and (head.sender, head.size) == ("other@here.test", len(text))


def test_a_step_of_ours_that_fails_is_the_messages_crash_in_that_phase(spool: Path) -> None:
    def fails(matter: Matter) -> Finding:
        raise RecursionError("too deep")

    found = walk(spool, job(spool), Step("rules", nothing), Step("scanner", fails, Phase.ANTIVIRUS))
    assert (found.crashed, found.left, found.events) == ("Antivirus control", (), [])
    assert "too deep" in found.trace
    died = Step("content", lambda matter: Finding(None, crashed="the examiner died: SIGSEGV"))
    found = walk(spool, job(spool), died)
    assert (found.crashed, found.trace) == ("Content filtering", "the examiner died: SIGSEGV")


def test_a_text_that_cannot_be_kept_is_tried_again(spool: Path) -> None:
    big = Replacement((0, 1, 2), lambda: iter([b"x" * 100_000]))
    (spool / "incoming").rmdir()
    found = walk(spool, job(spool), Step("content", lambda matter: Finding(Passed(by="c"), replacement=big)))
    (event,) = found.events
    assert isinstance(event, Deferred) and event.rcpt == "0-2" and event.reply.startswith("451 4.3.0 ")
    assert (found.left, found.children, found.raw) == ((), [], b"")


def test_a_body_that_is_gone_is_damage(spool: Path) -> None:
    one = job(spool, TEXT + b"x" * SMALL)
    (spool / "queue" / "m.eml").unlink()
    step = Step("rules", lambda matter: Finding(Passed(), letters=[Letter("", (Recipient("x@y.test"),))]))
    assert "missing" in walk(spool, one, step).damaged


def test_what_was_said_is_read_back_when_the_file_has_it(spool: Path) -> None:
    """The file follows the journal: it is asked until it has what the scheduler process knows."""
    path = spool / "m.env"
    head = job(spool).head
    path.write_bytes(head_line(ID, head.sha256, head_tail(head)) + b"\n")
    edits = (HeaderEdit("set", "Subject", "[spam] x"),)
    line = event_line(Passed(seq=1, phase="Content filtering", step="spam", headers=edits))

    async def run() -> past.Past:
        told: asyncio.Future[past.Past] = asyncio.get_running_loop().create_future()
        past.recall(str(path), 1, told.set_result)
        await asyncio.sleep(0)
        assert not told.done()
        with path.open("ab") as file:
            file.write(b"\n" + line)
        return await asyncio.wait_for(told, 60)

    (passed,) = asyncio.run(run()) or ()
    assert (passed.step, passed.headers) == ("spam", edits)
    assert past.read(str(path), 2) is None
    assert past.read(str(spool / "nobody.env"), 1) is None


def test_steps_of_a_former_configuration_are_forgotten_when_nobody_is_in_them_any_more(spool: Path) -> None:
    async def run() -> None:
        told: asyncio.Future[Inspected] = asyncio.get_running_loop().create_future()
        inspecting = Inspecting(Linking(str(spool)), lambda _, phase: None)
        inside, go_on = asyncio.Event(), asyncio.Event()

        class Slow(Step):
            async def inspect(self, matter: Matter) -> Finding:
                inside.set()
                await go_on.wait()
                return await super().inspect(matter)

        inspecting.configure([Slow("slow", nothing)], lambda address: False)
        former = weakref.ref(inspecting._steps[0])
        inspecting.begin(job(spool), (0,), told.set_result)
        await asyncio.wait_for(inside.wait(), 60)
        inspecting.configure([], lambda address: False)
        gc.collect()
        assert former() is not None
        go_on.set()
        assert len((await asyncio.wait_for(told, 60)).events) == 1, "what was under way ended as it began"
        async with asyncio.timeout(60):
            while former() is not None:
                await asyncio.sleep(0.01)
                gc.collect()
        await inspecting.close()

    asyncio.run(run())
