"""Local delivery to a command, for each recipient or for all of a message: its standard input is the message, its exit
status is what becomes of it.

Promise:  each Work is reported once. Never more commands at once than `commands` of the connector, dealt out to
          workers; one at a time for a user and worker. No shell reads anything that a sender wrote; what begins with
          a hyphen never becomes an option. Its environment is made anew, and so are the characters in it.
On crash: a Work without a report is done again: a command sees a message twice then, and can tell by ID and recipient.
Callers:  phases.local_delivery.
"""

import asyncio
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kmq import log
from kmq.config.connections import part
from kmq.config.sections import ConnectorSection
from kmq.model import queue_id
from kmq.model.envelope import Head
from kmq.model.reply import Reply
from kmq.phases.addressee import Addressee, addressee, copy_text
from kmq.phases.body import BodyDamaged
from kmq.phases.copy_text import CopyText
from kmq.phases.delivery import Delivery
from kmq.phases.mbox_text import from_line
from kmq.phases.program import Running
from kmq.phases.settling import STOPPING, Settling
from kmq.phases.storing import Refused, trouble, write_all
from kmq.phases.sysexits import as_reply
from kmq.phases.turns import Turns
from kmq.phases.work import Report, Show, Work

PATH = "/usr/local/bin:/usr/bin:/bin"

_PLACE = re.compile(r"\{(user|domain|extension|sender|recipient|id)\}")
#: Characters that values of the environment may have; others become `_` (as Postfix's command_expansion_filter has it).
_STRANGE = re.compile(r"[^1234567890!@%\-_=+:,./ A-Za-z\x80-\U0010ffff]")

_BAD_ADDRESS = Reply(553, "5.1.3", "the address has characters that no command may be given")


@dataclass(slots=True, eq=False)
class _Run:
    """One run of the command, for some recipients of a message; reply, damaged: what became of it."""

    settling: Settling
    rcpt: tuple[int, ...]
    words: list[str]
    environment: dict[str, str]
    section: ConnectorSection
    text: CopyText
    top: bytes
    reply: Reply | None = None
    damaged: str = ""


class Pipe:
    """The phase. connectors: by name; worker: the number of this one, from 1, of so many workers."""

    def __init__(self, connectors: Mapping[str, ConnectorSection], worker: int = 1, workers: int = 1) -> None:
        self._turns: dict[str, Turns[_Run]] = {}
        self._running: set[Running] = set()
        self._stopped = False
        self.configure(connectors, worker, workers)

    def deliver(self, work: Work, report: Report, show: Show) -> None:
        """Runs the command as soon as it has its turn. Returns at once."""
        section = self._connectors[work.hop.connector]
        settling = Settling(Delivery(work, report, show))
        runs: list[tuple[str, _Run]] = []
        known = {index: addressee(work, index, section) for index in work.rcpt}
        found = {index: one for index, one in known.items() if isinstance(one, Addressee)}
        groups = [(index,) for index in found] if section.recipients == "one" else [tuple(found)][: len(found)]
        for rcpt in groups:
            made = _run(settling, rcpt, found[rcpt[0]], section)
            if isinstance(made, _Run):
                runs.append((found[rcpt[0]].user, made))
            else:
                known.update(dict.fromkeys(rcpt, made))
        for index, refusal in known.items():
            if isinstance(refusal, Reply):
                settling.judge(index, refusal)
        for user, run in runs:
            show(os.path.basename(run.words[0]), 0)
            self._line(section).put(user if len(run.rcpt) == 1 else run, run)

    def configure(self, connectors: Mapping[str, ConnectorSection], worker: int = 1, workers: int = 1) -> None:
        """The configuration was read again; what waits goes on as it began."""
        self._connectors = connectors
        self._part: Callable[[int, str], int] = lambda limit, name: max(1, part(limit, worker, workers, name))
        for name, turns in self._turns.items():
            if name in connectors:
                turns.width = self._part(connectors[name].commands, name)

    async def close(self, grace: float) -> None:
        """Waits up to `grace` seconds for commands that run, then ends them; what has not begun is left to the next
        run."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        while any(turns.busy for turns in self._turns.values()) and loop.time() < deadline:
            await asyncio.sleep(0.01)
        self._stopped = True
        for turns in self._turns.values():
            for run in turns.left():
                run.reply = STOPPING
                self._ended(run, None)
            turns.stop()
        for running in tuple(self._running):
            running.stop()

    def _line(self, section: ConnectorSection) -> Turns[_Run]:
        found = self._turns.get(section.name)
        if found is None:
            width = self._part(section.commands, section.name)
            found = self._turns[section.name] = Turns(self._carry_out, self._ended, width, threads=section.commands)
        return found

    def _ended(self, run: _Run, error: BaseException | None) -> None:
        for index in run.rcpt:
            run.settling.end(index, run.reply, run.damaged, error)

    # --- in a thread --------------------------------------------------------------------------------------------------

    def _carry_out(self, runs: list[_Run]) -> list[_Run]:
        (run,) = runs
        try:
            with tempfile.TemporaryFile(buffering=0) as file:
                write_all(file.fileno(), run.top)
                for piece in run.text.pieces():
                    write_all(file.fileno(), piece)
                file.seek(0)
                run.reply = self._run(run, file.fileno())
        except BodyDamaged as damage:
            run.damaged = str(damage)
        except Refused as refusal:
            run.reply = refusal.reply
        except OSError as error:
            run.reply = trouble(error, "a copy for the command")
        return []

    def _run(self, run: _Run, source: int) -> Reply:
        section, program = run.section, os.path.basename(run.words[0])
        if self._is_over():
            return STOPPING
        try:
            running = Running(run.words, run.environment, section.directory or "/", source)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            return Reply(451, "4.3.5", f"{run.words[0]} cannot be run: {why}")
        self._running.add(running)
        try:
            if self._is_over():
                running.stop()  # it began while the others were ended
            ended = running.wait(section.time_limit)
        finally:
            self._running.discard(running)
        reply = STOPPING if ended.why and self._is_over() else as_reply(ended, program)
        if not reply.done:
            said = ended.output.decode(errors="backslashreplace")
            log.event("command", run.environment["ID"], program=program, status=ended.status, said=said or None)
        return reply

    def _is_over(self) -> bool:
        """Asked in a thread: the loop may say so at any time."""
        return self._stopped


# --- what the command is told -----------------------------------------------------------------------------------------


def _run(settling: Settling, rcpt: tuple[int, ...], to: Addressee, section: ConnectorSection) -> _Run | Reply:
    """One run, or why there can be none."""
    work = settling.delivery.work
    head = work.head
    values = told(head, rcpt, to)
    words = argv(section.command, values, [head.recipients[index].address for index in rcpt])
    if isinstance(words, Reply):
        return words
    top = from_line(head.sender, queue_id.created(queue_id.parse(head.id))) if section.from_line else b""
    return _Run(settling, rcpt, words, environment(values), section, copy_text(work, *rcpt), top)


def told(head: Head, rcpt: tuple[int, ...], to: Addressee) -> dict[str, str]:
    """What stands for the names in braces. Of several recipients there is no user."""
    one = len(rcpt) == 1
    return {
        "user": to.user if one else "",
        "extension": to.extension if one else "",
        "domain": to.domain,
        "sender": head.sender,
        "recipient": head.recipients[rcpt[0]].address if one else "",
        "id": head.id,
    }


def argv(command: tuple[str, ...], values: Mapping[str, str], addresses: list[str]) -> list[str] | Reply:
    """The words of the command; a `{recipient}` that is a word by itself stands for all of them."""
    words: list[str] = []
    for word in command:
        if not _PLACE.search(word):
            words.append(word)
            continue
        several = addresses if word == "{recipient}" else [""]
        filled = [one or _PLACE.sub(lambda place: values[place[1]], word) for one in several]
        if not all(map(str.isprintable, filled)):
            return _BAD_ADDRESS
        if _PLACE.match(word) and any(one[:1] == "-" for one in filled):
            return Reply(553, "5.1.3", "the address begins with a hyphen, which the command would take for an option")
        words += filled
    return words


def environment(values: Mapping[str, str]) -> dict[str, str]:
    """All that the command has."""
    fixed = {"PATH": PATH, "LANG": "C.UTF-8", "SHELL": "/bin/sh", "HOME": "/", "LOGNAME": values["user"]}
    return fixed | {name.upper(): _STRANGE.sub("_", value) for name, value in values.items()}
