"""One program of a delivery agent: begun, greeted, handed messages, heard, and ended.

What:     State says how far it is. It is handed messages by its `Crew`, and tells that of room, and of its end.
Promise:  a message that it was handed has one verdict for each recipient: its answer, or one of ours when it does not
          answer in time, ends, or says what is no answer; then nobody knows whether it was delivered. It is ended with
          all that it began (its process group). What it says is bounded, and so is what of it is logged.
On crash: of this worker: it reads the end of its input, and should end. Of itself: see above.
Callers:  phases.agent.
"""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from kmq import log
from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.phases import agent_words
from kmq.phases.agent_child import Child
from kmq.phases.agent_file import FOLDER, File
from kmq.phases.agent_words import Answer, Greeting, Lines, Nonsense, Progress, Sentence
from kmq.phases.budget import Budget
from kmq.phases.delivery import Delivery
from kmq.phases.replies import printable

GREETING = 30.0  #: seconds from its start to its hello
FAREWELL = 1.0  #: seconds from the end of its input to SIGTERM, and from that to SIGKILL
HOPELESS = 10.0  #: seconds after which one that not even SIGKILL ends (it hangs in the kernel) is not waited for
DRAIN = 1.0  #: seconds in which what it said last is read, after it ended or closed a pipe
PROGRESS = (1000, 50)  #: sentences that are no answers: at once, and per second
ERRORS = (4 << 20, 256 << 10)  #: bytes on its standard error, the same
LOGGED = (50, 2)  #: lines of them that are logged, the same
_TEXT = 500  #: characters of a line that are logged

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class State(Enum):
    """How far a program is."""

    STARTING = "starting"  #: has not said hello
    SERVING = "serving"
    LEAVING = "leaving"  #: is handed nothing more; its input ends when it has answered
    ENDING = "ending"  #: was given up: what it says does not count
    GONE = "gone"


class Crew(Protocol):
    """Who has programs: phases.agent."""

    def roomy(self) -> None:
        """A program has room."""

    def gone(self, program: "Program", why: str) -> None:
        """A program has ended, or could not be begun; it has no message any more."""


@dataclass(slots=True)
class Handed:
    """A message that a program has."""

    delivery: Delivery
    file: File
    timer: asyncio.TimerHandle


class Program:
    """See above. reserved: messages that are being written down for it; served: answers that it gave."""

    def __init__(self, section: ConnectorSection, spool: str, crew: Crew) -> None:
        self.section = section
        self.state = State.STARTING
        self.reserved = 0
        self.served = 0
        self._crew = crew
        self._folder = f"{spool}/{FOLDER}"
        self._loop = asyncio.get_running_loop()
        self._handed: dict[int, Handed] = {}
        self._late: dict[int, set[int]] = {}  # messages that are overdue -> recipients without an answer
        self._lines = Lines()
        self._errors = b""
        self._why = ""
        self._notices = self._parting = False
        self._timers: list[asyncio.TimerHandle] = []
        self._progress, self._spilt, self._logged = Budget(*PROGRESS), Budget(*ERRORS), Budget(*LOGGED)
        self._child = self._begin()

    @property
    def room(self) -> int:
        """Messages that it may be handed now; of one that has not said hello yet, that it will be."""
        if self.state not in (State.STARTING, State.SERVING):
            return 0
        return max(0, self.section.in_flight - self.reserved - len(self._handed) - len(self._late))

    @property
    def idle(self) -> bool:
        return not (self._handed or self.reserved)

    # --- its beginning ------------------------------------------------------------------------------------------------

    def _begin(self) -> Child | None:
        section = self.section
        environment = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": self._folder, "KMQ_CONNECTOR": section.name}
        try:
            child = Child(section.command, self._folder, environment, self._hears, self._exits)
        except OSError as error:
            self._why = f"{section.command[0]} cannot be begun: {error.strerror}"
            self._loop.call_soon(self._finish)
            return None
        log.event("agent", "", connector=section.name, pid=child.pid, state="begun")
        child.tell(agent_words.hello(section))
        self._later(GREETING, self._not_greeted)
        return child

    def _not_greeted(self) -> None:
        if self.state is State.STARTING:
            self.end(f"it did not say hello within {GREETING:g} s")

    # --- what it is handed --------------------------------------------------------------------------------------------

    def hand(self, number: int, delivery: Delivery, file: File) -> None:
        """A message is its own now."""
        self.reserved -= 1
        timer = self._loop.call_later(self.section.answer_timeout, self._overdue, number)
        self._handed[number] = Handed(delivery, file, timer)
        delivery.begun = self._loop.time()
        delivery.show(self.section.name, 0)
        if self._child is not None:
            self._child.tell(agent_words.message(number, delivery.work, file.rendering.head, file.path))

    def spare(self) -> None:
        """A place that was reserved is not needed."""
        self.reserved -= 1
        self._part()

    def _overdue(self, number: int) -> None:
        """No answer in time. Its place stays taken until it answers, though that does not count any more."""
        left = self._handed[number].delivery.left
        self._late[number] = set(left)
        self._unanswered(number, Reply(451, "4.4.1", f"the agent did not answer in {self.section.answer_timeout:g} s"))
        if len(self._late) >= self.section.in_flight:
            self.end(f"it has not answered for {len(self._late)} messages, which are all that it may have")
        self._part()

    def _unanswered(self, number: int, reply: Reply) -> None:
        delivery = self._let_go(number)
        delivery.uncertain = True
        delivery.judge_left(reply, self.section.name)
        delivery.finish()

    def _let_go(self, number: int) -> Delivery:
        handed = self._handed.pop(number)
        handed.timer.cancel()
        handed.file.remove()
        return handed.delivery

    # --- what it says -------------------------------------------------------------------------------------------------

    def _hears(self, number: int, piece: bytes) -> None:
        """A piece of its standard output (1) or error (2), or the end of one of its files."""
        if not piece:
            return self._closed(number)
        if self._given_up() or (self.state is State.LEAVING and self.idle):
            return None
        if number == 2:
            return self._spill(piece)
        lines = self._lines.feed(piece)
        if self._lines.endless:
            return self.end("it says a line without end")
        for line in lines:
            if self._given_up():
                break
            self._hear(agent_words.read(line))
        return None

    def _given_up(self) -> bool:
        return self.state in (State.ENDING, State.GONE)

    def _hear(self, sentence: Sentence) -> None:
        match sentence:
            case Nonsense(why):
                self.end(f"what it says is not kmq-agent(5): {why}")
            case Greeting(notices) if self.state is State.STARTING:
                self.state, self._notices = State.SERVING, notices
                self._crew.roomy()
            case Answer() if self.state is not State.STARTING:
                self._answered(sentence)
            case Progress() if self.state is not State.STARTING:
                self._goes_on(sentence)
            case _:
                self.end("it says hello twice" if isinstance(sentence, Greeting) else "it did not begin with hello")

    def _answered(self, answer: Answer) -> None:
        handed = self._handed.get(answer.n)
        if handed is not None:
            wrong = self._judge(handed.delivery, answer)
        elif answer.n in self._late:
            wrong = self._too_late(answer)
        else:
            wrong = "it has no such message"
        if wrong:
            return self.end(f"its answer about message {answer.n} is none: {wrong}")
        self.served += 1
        self._part()
        return self._crew.roomy()

    def _judge(self, delivery: Delivery, answer: Answer) -> str:
        """Takes the answer down; what is wrong with it, or ""."""
        if answer.unavailable:
            if answer.rcpt is not None or len(delivery.left) != len(delivery.work.rcpt):
                return "it is unavailable for a part of the recipients"
            self._let_go(answer.n).unreachable(answer.reply)
            return ""
        wrong = _unfit(answer.rcpt, delivery.left)
        if wrong:
            return wrong
        rcpt = list(delivery.left) if answer.rcpt is None else list(answer.rcpt)
        if answer.reply.done and not self._notices:
            delivery.relayed += rcpt
        delivery.judge([(index, answer.reply) for index in rcpt], self.section.name)
        if not delivery.left:
            self._let_go(answer.n).finish()
        return ""

    def _too_late(self, answer: Answer) -> str:
        left = self._late[answer.n]
        wrong = _unfit(answer.rcpt, left)
        if not wrong:
            left.difference_update(left if answer.rcpt is None else answer.rcpt)
            if not left:
                del self._late[answer.n]
        return wrong

    def _goes_on(self, progress: Progress) -> None:
        if not self._progress.spend(1, self._loop.time()):
            return self.end("it floods us with sentences that are no answers")
        handed = self._handed.get(progress.n)
        if handed is not None:
            handed.delivery.show(self.section.name, progress.percent)
        elif progress.n not in self._late:
            self.end(f"it tells of message {progress.n}, which it does not have")
        return None

    def _spill(self, data: bytes) -> None:
        """Its standard error, line by line into the log."""
        now = self._loop.time()
        if not self._spilt.spend(len(data), now):
            return self.end("it floods its standard error")
        *lines, rest = (self._errors + data).split(b"\n")
        self._errors = rest[:_TEXT]
        for line in lines:
            if line.strip() and self._logged.spend(1, now):
                log.event("agent", "", connector=self.section.name, pid=self._pid, says=printable(line[:_TEXT]))
        return None

    # --- its end ------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """It is handed nothing more; its input ends when it has answered for what it has."""
        if not self._given_up():
            self.state = State.LEAVING
            self._part()

    def abandon(self, why: Reply) -> None:
        """It ends now; for what it has not answered nobody knows whether it was delivered."""
        for number in [*self._handed]:
            self._unanswered(number, why)
        self.leave()

    def end(self, why: str) -> None:
        """It is of no use: it ends, with all that it began."""
        if self._given_up():
            return
        log.warning("a delivery agent is ended", connector=self.section.name, pid=self._pid, why=why)
        self.state, self._why = State.ENDING, why
        self._settle()
        self._signal(signal.SIGTERM)
        self._later(FAREWELL, self._signal, signal.SIGKILL)
        self._later(HOPELESS, self._finish)

    def _part(self) -> None:
        """Its input ends, if it is leaving and has nothing any more; once."""
        if self.state is not State.LEAVING or not self.idle or self._parting:
            return
        self._parting = True
        if self._child is not None:
            self._child.shut(0)
        self._later(FAREWELL, self._signal, signal.SIGTERM)
        self._later(2 * FAREWELL, self._signal, signal.SIGKILL)
        self._later(HOPELESS, self._finish)

    def _closed(self, number: int) -> None:
        """It may be about to exit."""
        if self._child is None or number == 2:
            return
        if self._child.status is not None:
            self._finish()
        elif self.state in (State.STARTING, State.SERVING):
            self._later(DRAIN, self._still_there, "standard output" if number else "standard input")

    def _still_there(self, closed: str) -> None:
        if self._child is not None and self._child.status is None:
            self.end(f"it closed its {closed}")

    def _exits(self) -> None:
        """What it said last is read first; if somebody whom it began keeps the pipe, not for long."""
        if self._child is not None and self._child.open(1):
            self._later(DRAIN, self._forsaken)
        else:
            self._finish()

    def _forsaken(self) -> None:
        self._signal(signal.SIGKILL)
        self._finish()

    def _finish(self) -> None:
        """It is no more."""
        if self.state is State.GONE:
            return
        why = self._why or self._ended_by_itself()
        self._why = why
        self.state = State.GONE
        self._settle()
        for timer in self._timers:
            timer.cancel()
        if self._child is not None:
            self._child.close()
        self._crew.gone(self, why)

    def _settle(self) -> None:
        """The verdict about all that it has."""
        for number in [*self._handed]:
            self._unanswered(number, Reply(451, "4.3.0", f"the agent was ended before it answered: {self._why}"[:500]))

    def _ended_by_itself(self) -> str:
        status = 0 if self._child is None else self._child.status or 0
        return f"it ended by itself, with exit status {status}" if status >= 0 else f"it ended by signal {-status}"

    @property
    def _pid(self) -> int:
        return 0 if self._child is None else self._child.pid

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            self._child.signal(number)

    def _later(self, seconds: float, deed: Callable[..., None], *arguments: object) -> None:
        self._timers.append(self._loop.call_later(seconds, deed, *arguments))


def _unfit(rcpt: tuple[int, ...] | None, left: list[int] | set[int]) -> str:
    """What is wrong with the recipients of an answer, "" when nothing is."""
    if rcpt is None:
        return ""
    if not rcpt or len(set(rcpt)) != len(rcpt):
        return "it names no recipient, or one of them twice"
    strange = [index for index in rcpt if index not in left]
    return f"recipient {strange[0]} is not there, or has its answer already" if strange else ""
