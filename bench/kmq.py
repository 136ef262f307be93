"""kmq in a folder of its own, with the defaults of its configuration; what it does is watched from outside.

Checkpoints are seen in the journal's folder: one begins when a segment of a new generation appears there, and ends when
the file `checkpoint` has been written anew.
"""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from bench.mta import Span
from tests.waiting import listening, until

KMQD = Path(__file__).resolve().parents[1] / ".venv/bin/kmqd"

CONFIGURATION = """\
[kmq]
hostname = kmq.bench.test
spool = {folder}/spool

[bench : receiver]
listen = 127.0.0.1:{port}
relay_from = 127.0.0.0/8

[sink : connector]
type = smarthost
hosts = 127.0.0.1:{hop_port}
address_spaces = *
"""

#: Seconds after the last delivery within which the checkpoint that covers it must have come.
SETTLED = 45.0


class Kmq:
    """One kmqd below `folder`, listening on `port`, sending everything to `hop_port`."""

    name = "kmq"

    def __init__(self, folder: Path, port: int, hop_port: int) -> None:
        self.port = port
        self._folder = folder
        self._hop_port = hop_port
        self._daemon: subprocess.Popen[bytes] | None = None
        self._watch = Watch(folder / "spool/journal")

    @property
    def pid(self) -> int:
        assert self._daemon is not None
        return self._daemon.pid

    def start(self) -> None:
        (self._folder / "spool").mkdir(mode=0o750)
        text = CONFIGURATION.format(folder=self._folder, port=self.port, hop_port=self._hop_port)
        (self._folder / "kmq.conf").write_text(text)
        with (self._folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                [KMQD, "-c", self._folder / "kmq.conf"], stdin=subprocess.DEVNULL, stderr=log, start_new_session=True
            )
        until(lambda: listening(self.port) or self._ended(), f"kmqd listens; its log: {self._folder / 'log'}")
        if self._ended():
            raise RuntimeError(f"kmqd ended at once: {(self._folder / 'log').read_text()}")
        self._watch.start()

    def _ended(self) -> bool:
        return self._daemon is None or self._daemon.poll() is not None

    def stop(self) -> None:
        self._watch.stop()
        if self._daemon is None:
            return
        self._daemon.terminate()
        try:
            self._daemon.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._daemon.pid, signal.SIGKILL)
            self._daemon.wait()

    def waiting(self) -> int:
        """Messages in the queue."""
        folders = os.walk(self._folder / "spool/queue")
        return sum(name.endswith(".env") for _, _, names in folders for name in names)

    def settle(self) -> None:
        """Returns when a checkpoint that began after the last delivery has ended, or when none is owed."""
        quiet = time.monotonic()
        until(
            lambda: any(span.begin > quiet for span in self._watch.seen()) or time.monotonic() > quiet + SETTLED / 2,
            "kmq's checkpoint after the last delivery",
            SETTLED,
        )

    def checkpoints(self) -> list[Span]:
        return self._watch.seen()


class Watch:
    """Notes when checkpoints begin and end, by looking a hundred times a second."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._spans: list[Span] = []
        self._begun: float | None = None
        self._looking = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def seen(self) -> list[Span]:
        """Those that have ended, oldest first."""
        return list(self._spans)

    def looking(self) -> bool:
        """True once what changes is noticed."""
        return self._looking.is_set()

    def busy(self) -> bool:
        """True while a checkpoint is under way."""
        return self._begun is not None

    def _run(self) -> None:
        generation, written = self._generation(), self._written()
        self._looking.set()
        while not self._stopped.wait(0.01):
            now = time.monotonic()
            if (newest := self._generation()) > generation:
                generation, self._begun = newest, self._begun or now
            if (latest := self._written()) != written:
                written = latest
                if self._begun is not None:
                    self._spans.append(Span(self._begun, now))
                self._begun = None

    def _generation(self) -> str:
        """The newest generation that has a segment: `<generation>.<serial>.log`, hex digits of one length."""
        names = (name for name in os.listdir(self._journal) if name.endswith(".log"))
        return max(names, default="").partition(".")[0]

    def _written(self) -> int:
        try:
            return (self._journal / "checkpoint").stat().st_ino
        except FileNotFoundError:
            return 0
