"""A verb on any number of messages: asked in parts over one connection, with progress, and with an account at the end.

Promise:  each target is asked for once. However it ends, the account says what was done and what was not: on Ctrl-C the
          part that was asked for is answered first, then it stops; when kmqd goes away in between, what it had
          answered until then counts.
On crash: of the part that was not answered nobody knows; asking again does no harm.
Callers:  kmq.cli.act, kmq.cli.export.
"""

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from kmq.admin.choice import Choice
from kmq.admin.client import Response, Talk, parts
from kmq.admin.verbs import Argument
from kmq.cli.answer import sentence, shown
from kmq.cli.call import DONE, REFUSED, Call
from kmq.errors import Unreachable
from kmq.model.outcome import GONE, PENDING, RESULTS, SKIPPED
from kmq.view.words import counted, harmless

_INTERRUPTED = 130
#: What the client does itself when a part is answered; it may change the lines.
Finish = Callable[[list[dict[str, object]]], None]


class Bulk:
    """One command. account: how many, by result; lines: of all answers."""

    def __init__(self, call: Call, verb: str, named: Mapping[str, Argument], finish: Finish | None = None) -> None:
        self._finish = finish
        self._call = call
        self._verb = verb
        self._named = named
        self.lines: list[dict[str, object]] = []
        self.account: Counter[str] = Counter()
        self._said = ""
        self._status = DONE
        self._stopped = False
        self._answered = 0

    def run(self, chosen: Choice) -> int:
        """All of it; -> the exit status."""
        self._take(Response(DONE, "", chosen.absent))
        names = [target.name for target in chosen.targets]
        broken = ""
        with self._stoppable():
            try:
                self._ask(names)
            except Unreachable as unreachable:
                if not self.account:
                    raise
                broken, self._status = str(unreachable), unreachable.exit_status
            except KeyboardInterrupt:
                broken, self._status = "broken off", _INTERRUPTED
        asked = self._answered
        self._tell(len(names) - asked, broken)
        if broken:
            return self._status
        if self._stopped and asked < len(names):
            return _INTERRUPTED
        return self.status

    @property
    def status(self) -> int:
        """DONE when something was done or will be."""
        if self._status > REFUSED:
            return self._status
        if not self.account:
            return self._status
        return DONE if self.account[PENDING] + self.account[RESULTS[self._verb]] else REFUSED

    # --- asking ------------------------------------------------------------------------------------------------------

    def _ask(self, names: list[str]) -> None:
        """All names, in parts; a part that is answered counts."""
        progress = Progress(RESULTS[self._verb], len(names))
        if not names:
            return
        with Talk(self._call.settings.kmq.run_directory) as talk:
            for part in parts(names):
                if self._stopped:
                    break
                response = talk.ask(self._verb, {**self._named, "ids": part})
                self._take(response)
                self._answered += len(part)
                if response.status > REFUSED:
                    break
                progress.show(self._answered)
        progress.end()

    def _take(self, response: Response) -> None:
        if self._finish is not None:
            self._finish(response.lines)
        self.lines += response.lines
        self.account.update(str(line.get("Result")) for line in response.lines if line.get("Result"))
        self._said = response.text or self._said
        self._status = max(self._status, response.status)

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """The first Ctrl-C waits for the part that was asked for; the second one does not."""

        def stop(*_: object) -> None:
            self._stopped = True
            signal.signal(signal.SIGINT, before)

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    # --- the account -------------------------------------------------------------------------------------------------

    def _tell(self, left: int, broken: str) -> None:
        if self._call.json:
            self._call.tell_objects(self.lines)
        else:
            self._call.tell(harmless(sentence(line)) for line in shown(self.lines, RESULTS[self._verb]))
        text = self._sentence()
        if broken:
            self._call.warn(harmless(broken))
            text = f"{text or 'nothing was done'}; of {left:,} it is not known, or they were not asked for"
        elif left and self._stopped:
            text = f"stopped: {text or 'nothing was done'}; {left:,} were not touched"
        elif left and self.account:  # kmqd refused what followed
            text = f"{self._said}; {text}; {left:,} were not touched"
        if self.status == DONE and not (self._call.json or broken or left):
            self._call.tell(harmless(line) for line in text.splitlines())
        elif text:
            self._call.warn(harmless(text))

    def _sentence(self) -> str:
        """The account; kmqd's own words where it told nothing of single messages."""
        if not self.account:
            return self._said
        word, done = RESULTS[self._verb], self.account[RESULTS[self._verb]]
        clauses = [f"{counted(done, 'message')} {word}"] if done else []
        if pending := self.account[PENDING]:
            clauses.append(f"{pending:,} pending: in somebody's hands, {word} when that has ended")
        if gone := self.account[GONE]:
            place = "safety net" if self._verb == "replay" else "queue"
            clauses.append(f"{gone:,} not in the {place} (any more)")
        if skipped := self.account[SKIPPED]:
            whys = {str(line.get("Why", "")) for line in self.lines if line.get("Result") == SKIPPED}
            why = whys.pop() if len(whys) == 1 else ""
            clauses.append(f"{skipped:,} skipped{': ' * bool(why)}{why}")
        return "; ".join(clauses)


class Progress:
    """How far it is, on a terminal, once it takes longer than a moment."""

    _AFTER = 0.5

    def __init__(self, word: str, total: int) -> None:
        self._word = word
        self._total = total
        self._began = time.monotonic()
        self._shown = False

    def show(self, done: int) -> None:
        """So many are answered."""
        if done < self._total and sys.stderr.isatty() and time.monotonic() - self._began > self._AFTER:
            self._shown = True
            print(f"\r\x1b[K{done:,} of {self._total:,} {self._word}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """The line is free again."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
