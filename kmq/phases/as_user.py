"""Local delivery as the user whom mail is for: kmq-deliver(8) is asked, for each recipient, and answers with one line.

Promise:  each Work is reported once. kmqd names a user and what is to be done as him, never a path or a program. The
          text goes as a file that is open for reading and that nobody else can reach. No answer, one that is none, and
          a kmq-deliver that is not there are temporary.
On crash: a Work without a report is done again: a mailbox finds the first copy, a command sees the message twice.
Callers:  phases.local_delivery.
"""

import asyncio
import os
import select
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event

from kmq.config.connections import part
from kmq.config.sections import ConnectorSection
from kmq.model import queue_id, reply
from kmq.model.reply import Reply
from kmq.phases.addressee import addressee, copy_text, file_host
from kmq.phases.body import BodyDamaged
from kmq.phases.copy_text import CopyText
from kmq.phases.delivery import Delivery
from kmq.phases.mbox_text import from_line
from kmq.phases.own_hands import Words
from kmq.phases.replies import printable
from kmq.phases.settling import STOPPING, Settling
from kmq.phases.storing import Refused, trouble, write_all
from kmq.phases.turns import Turns
from kmq.phases.work import Report, Show, Work

MAILBOXES = 8  #: of one connector and worker at once, when they are not commands
GRACE = 30.0  #: seconds that kmq-deliver may take longer than what it does
ANSWER = 4096  #: bytes of its answer

_LOOK = 1.0  #: seconds between two looks whether kmqd stops


@dataclass(slots=True, eq=False)
class _Task:
    """One recipient's. top: ahead of the text; reply, damaged: what became of it."""

    settling: Settling
    index: int
    section: ConnectorSection
    user: str
    words: Words
    text: CopyText
    top: bytes
    reply: Reply | None = None
    damaged: str = ""

    @property
    def request(self) -> bytes:
        """As cli.deliver reads it."""
        line = f"1 {self.user} {self.section.as_user} {int(self.words.seconds)}\n"
        return line.encode() + self.words.as_bytes()


class AsUser:
    """The phase. connectors: by name; worker: the number of this one, from 1, of so many workers."""

    def __init__(
        self, connectors: Mapping[str, ConnectorSection], hostname: str, worker: int = 1, workers: int = 1
    ) -> None:
        self._host = file_host(hostname)
        self._lines: dict[str, Turns[_Task]] = {}
        self._stopped = Event()
        self.configure(connectors, worker, workers)

    def deliver(self, work: Work, report: Report, show: Show) -> None:
        """Asks for each recipient, one after the other for each user. Returns at once."""
        section = self._connectors[work.hop.connector]
        settling = Settling(Delivery(work, report, show))
        tasks: list[_Task] = []
        for index in work.rcpt:
            made = self._task(settling, index, section)
            if isinstance(made, Reply):
                settling.judge(index, made)
            else:
                tasks.append(made)
        for task in tasks:
            show("kmq-deliver", 0)
            self._line(section).put(task.user, task)

    def _task(self, settling: Settling, index: int, section: ConnectorSection) -> _Task | Reply:
        work = settling.delivery.work
        head = work.head
        found = addressee(work, index, section)
        if isinstance(found, Reply):
            return found
        created = queue_id.created(queue_id.parse(head.id))
        words = Words(
            name=f"{head.id}.{index}.{self._host}",
            created=created,
            host=self._host,
            sender=head.sender,
            extension=found.extension,
            domain=found.domain,
            recipient=head.recipients[index].address,
            id=head.id,
            seconds=section.time_limit if section.as_user == "command" else section.lock_timeout,
            command=section.deliver_command,
            limits=(*section.quota, section.over_quota == "return"),
            create_folder=section.create_folders,
            sized=section.sizes_in_names,
        )
        top = from_line(head.sender, created) if section.from_line else b""
        return _Task(settling, index, section, found.user, words, copy_text(work, index), top)

    def configure(self, connectors: Mapping[str, ConnectorSection], worker: int = 1, workers: int = 1) -> None:
        """The configuration was read again; what waits goes on as it began."""
        self._connectors = connectors
        self._worker = worker, workers
        for name, line in self._lines.items():
            if name in connectors:
                line.width = self._width(connectors[name])

    async def close(self, grace: float) -> None:
        """Waits up to `grace` seconds for answers; who has not answered then is asked again by the next run."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        while any(line.busy for line in self._lines.values()) and loop.time() < deadline:
            await asyncio.sleep(0.01)
        self._stopped.set()
        for line in self._lines.values():
            for task in line.left():
                task.settling.judge(task.index, STOPPING)
            line.stop()

    def _width(self, section: ConnectorSection) -> int:
        if section.as_user != "command":
            return MAILBOXES
        return max(1, part(section.commands, *self._worker, section.name))

    def _line(self, section: ConnectorSection) -> Turns[_Task]:
        found = self._lines.get(section.name)
        if found is None:
            threads = max(MAILBOXES, section.commands)
            found = self._lines[section.name] = Turns(self._ask, self._ended, self._width(section), threads=threads)
        return found

    def _ended(self, task: _Task, error: BaseException | None) -> None:
        task.settling.end(task.index, task.reply, task.damaged, error)

    # --- in a thread --------------------------------------------------------------------------------------------------

    def _ask(self, tasks: list[_Task]) -> list[_Task]:
        (task,) = tasks
        try:
            with tempfile.TemporaryFile(buffering=0) as file:
                write_all(file.fileno(), task.top)
                for piece in task.text.pieces():
                    write_all(file.fileno(), piece)
                body = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                task.reply = self._answered(task, body)
            finally:
                os.close(body)
        except BodyDamaged as damage:
            task.damaged = str(damage)
        except Refused as refusal:
            task.reply = refusal.reply
        except OSError as error:
            task.reply = trouble(error, "a copy for kmq-deliver")
        return []

    def _answered(self, task: _Task, body: int) -> Reply:
        path = task.section.deliver_socket
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(GRACE)
            try:
                connection.connect(path)
            except OSError as error:
                why = error.strerror or str(error)
                return Reply(451, "4.3.0", f"kmq-deliver cannot be reached at {path}: {why}")
            try:
                socket.send_fds(connection, [task.request], [body])
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has said why it does not listen
            return self._read(connection, task.words.seconds + GRACE)

    def _read(self, connection: socket.socket, seconds: float) -> Reply:
        """Its one line. What it does goes on when nobody listens any more."""
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        looks = int(seconds / _LOOK) + 1
        while not poll.poll(_LOOK * 1000):
            looks -= 1
            if self._stopped.is_set():
                return STOPPING
            if not looks:
                return Reply(451, "4.4.2", f"kmq-deliver has not answered for {int(seconds)} s")
        line = _line(connection) or _line(connection)
        return reply.parse(printable(line)) if line else Reply(451, "4.3.0", "kmq-deliver gave no answer")


def _line(connection: socket.socket) -> bytes:
    """What was said; b"" for nothing. One that is closed on us tells so ahead of what was said."""
    try:
        return connection.recv(ANSWER)
    except OSError:
        return b""
