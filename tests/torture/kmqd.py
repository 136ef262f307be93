"""The real kmqd in a folder of its own: started, watched, and killed by role.

What it does is seen from outside alone: its status files, its log, its files, and /proc for who is whose child.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmq.spool.processes import ProcessStatus, read
from kmq.spool.status import status_path
from tests.torture.within.whose import ANY
from tests.waiting import free_port, until

WITHIN = Path(__file__).with_name("within")

CONFIGURATION = """\
[kmq]
hostname = mx.local.test
spool = {spool}
run_directory = {run}
local_domains = {domains}
workers = {workers}
receivers = {receivers}
{kmq}

[queue]
queue_database_logging_file_size = 256K
checkpoint_interval = 1s
effects_delay = {effects}
retry_interval = 500ms
retry_interval_max = 1s
connection_retry_interval = 500ms
minimum_free = 1M
minimum_free_inodes = 10
{queue}

[back_pressure]
metering_interval = 100ms
{pressure}

{drops}

[in : receiver]
listen = 127.0.0.1:{port}
relay_from = 127.0.0.0/8
sessions_per_client = 200

[mailboxes : connector]
type = mailbox
address_spaces = local.test
maildir = {mail}/{{user}}
users = *

{connectors}"""

#: Without drop directories there is no pickup process.
NO_DROPS = """\
[pickup]
directory =

[replay]
directory ="""

CONNECTOR = f"""\
[{{name}} : connector]
type = smarthost
address_spaces = {{domain}}
hosts = 127.0.0.1:{{port}}
source_address = {ANY}
tls = never
slow_down = no

"""

#: What must never stand in a log, whatever was killed.
ACCIDENT = re.compile(r"our program failed|Traceback|Exception in|Task exception|AssertionError|Fatal error")


@dataclass
class Kmqd:
    """One configuration, one spool, and a kmqd when it is started.

    hops: domain -> port of its smart host. spool, run, mail: below `folder` unless a test wants them elsewhere.
    drops: sections of drop directories. pressure: options; without them nothing comes before the last line (J13).
    within: variables for tests/torture/within, which change something in kmqd's processes.
    """

    folder: Path
    hops: dict[str, int] = field(default_factory=dict)
    workers: int = 2
    receivers: int = 1
    domains: str = "local.test"
    kmq: str = ""
    queue: str = ""
    drops: str = NO_DROPS
    pressure: str = "spool_space = off\nspool_inodes = off"
    effects: str = "20ms"
    spool: Path = Path()
    run: Path = Path()
    mail: Path = Path()
    within: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    pid: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        for name in ("spool", "run", "mail"):
            if getattr(self, name) == Path():
                setattr(self, name, self.folder / name)
        self.folder.mkdir(parents=True, exist_ok=True)

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begins a kmqd; returns when its scheduler process has the queue and mail is taken in."""
        self.begin()
        self.ready()

    def begin(self) -> None:
        """Begins a kmqd, and waits for nothing."""
        self.spool.mkdir(0o750, exist_ok=True)
        self.run.mkdir(exist_ok=True)
        connectors = "".join(
            CONNECTOR.format(name=f"to-{number}", domain=domain, port=port)
            for number, (domain, port) in enumerate(self.hops.items())
        )
        text = CONFIGURATION.format(**{**vars(self), "connectors": connectors})
        (self.folder / "kmq.conf").write_text(text)
        environment = {**os.environ, "KMQ_IMPATIENT": "1", "PYTHONPATH": str(WITHIN), **self.within}
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kmq.cli.kmqd", "-c", str(self.folder / "kmq.conf")],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def ready(self, seconds: float = 30) -> None:
        """Returns when all of it is there."""
        wanted = len(self.names())

        def here() -> bool:
            assert self.alive, f"kmqd ended at once: {self.log[-2000:]}"
            return len(self.children()) == wanted and all(self.status(name) for name in self.names())

        until(here, f"kmqd is there; its log: {self.folder / 'log'}", seconds)

    def names(self) -> list[str]:
        workers = [f"worker-{n + 1}" for n in range(self.workers)]
        pickup = [] if self.drops.startswith(NO_DROPS) else ["pickup-1"]
        receivers = [f"receiver-{n + 1}" for n in range(self.receivers)]
        return ["scheduler-1", "index-1", *workers, *receivers, *pickup]

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Started, and at the end nothing has gone wrong in it."""
        try:
            self.start()
            yield
            assert self.accidents() == []
        finally:
            self.close()

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One call of `kmq`."""
        command = [sys.executable, "-m", "kmq.cli.kmq", "-c", str(self.folder / "kmq.conf"), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def asked(self, *words: str) -> str:
        """What `kmq` prints for these words."""
        return self.call(*words).stdout

    def queue_of(self, connector: str) -> dict[str, Any]:
        """The properties of a connector's queue, {} when there is none."""
        lines = map(json.loads, self.asked("--json", "queues").splitlines())
        return next((one for one in lines if one["NextHopConnector"] == connector), {})

    def stop(self, seconds: float = 60) -> int:
        """In order; its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(seconds)

    def close(self) -> None:
        """Nothing of it runs on, whatever state it is in."""
        if self._process is not None:
            self.kill_all()

    # --- its processes -----------------------------------------------------------------------------------------------

    def children(self) -> dict[str, int]:
        """Name (`worker-1`) -> pid of the living children."""
        try:
            pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return {}
        return {name: int(pid) for pid in pids if (name := _role(int(pid)))}

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Sends a signal to the process of a name; its pid, 0 when there is none now."""
        pid = self.children().get(name, 0)
        if pid:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return 0
        if pid and number == signal.SIGKILL:  # else who looks right behind it may still find it there
            until(lambda: not _role(pid), f"{name} is gone")
        return pid

    def kill_all(self) -> frozenset[int]:
        """Everything at once, as a power cut does to processes; which children there were, and they are gone."""
        assert self._process is not None
        found = self.children()
        self._process.kill()
        pids = frozenset((*found.values(), *self.children().values()))
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._process.wait()
        until(lambda: not any(map(_role, pids)), "all processes are gone")
        return pids

    def kill_supervisor(self) -> None:
        """kmqd alone; its children end in order by themselves."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    # --- what it says ------------------------------------------------------------------------------------------------

    def status(self, name: str) -> ProcessStatus | None:
        """The status file of a process that lives now, and has come so far as to write one."""
        found = read(status_path(self.spool / "status", name))
        return found if found.pid and found.pid == self.children().get(name) else None

    def counters(self) -> dict[str, int]:
        """The scheduler process's; empty while it is not there."""
        found = self.status("scheduler-1")
        return found.counters if found else {}

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def accidents(self) -> list[str]:
        """Lines of the log that say that our own program failed."""
        return [line for line in self.log.splitlines() if ACCIDENT.search(line)]

    # --- its files ---------------------------------------------------------------------------------------------------

    def queued(self) -> list[Path]:
        """Envelopes in the queue."""
        return list((self.spool / "queue").glob("*/*.env"))

    def poison(self) -> list[Path]:
        return list((self.spool / "poison").glob("*.env"))

    def drained(self) -> bool:
        """Nothing is queued, in memory or on disk, and a checkpoint covers all that was."""
        found = self.status("scheduler-1")
        if found is None or found.counters.get("queued", 1) or found.counters.get("uncovered", 1):
            return False
        return not self.queued()

    def drain(self, seconds: float = 60) -> None:
        """Returns when all mail has come to its end."""
        asked = time.time()
        last = 0.0

        def empty() -> bool:
            nonlocal last
            assert self.alive, "kmqd has ended"
            found = self.status("scheduler-1")
            if found is None or found.beat <= max(asked, last):
                return False
            last = found.beat
            return self.drained()

        until(empty, f"the queue is empty; its log: {self.folder / 'log'}, {self.counters()}", seconds)


def _role(pid: int) -> str:
    """`worker-1`, or "" for a process that is none of kmqd's, or is dead."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
    except OSError:
        return ""
    return title.removeprefix("kmqd: ") if title.startswith("kmqd: ") else ""
