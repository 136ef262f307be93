"""kmq in a folder of its own, with the defaults of its configuration.

Its log tells when each checkpoint ended, and how long it took.
"""

import compileall
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from bench.load import PROBE_DOMAIN
from bench.mta import Span, Ways
from kmq.model.moment import from_text
from tests.waiting import listening, until

#: The kmqd that is measured; its interpreter is the one of its first line.
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

#: The way of mail to PROBE_DOMAIN.
PROBES = """
[probes : connector]
type = smarthost
hosts = 127.0.0.1:{probe_port}
address_spaces = {domain}
"""

#: Postfix too exempts its own networks from the limit of connections of one client.
MANY = "relay_from = 127.0.0.0/8\nunlimited_clients = 127.0.0.0/8"

_CHECKPOINT = re.compile(r"^(?P<at>\S+Z) \S+: checkpoint .*\bms=(?P<ms>\d+)", re.MULTILINE)

#: What kmq allows one client by default.
SESSIONS_PER_CLIENT = 50

#: Milliseconds by which a checkpoint may have begun earlier, or ended later, than the log's whole milliseconds say.
ROUNDED = 1

#: Seconds after the last delivery within which the checkpoint that covers it must have come.
SETTLED = 45.0


def compiled() -> None:
    """kmq's modules are as pip leaves them: one that was edited since would be compiled by each call of kmq."""
    compileall.compile_dir(Path(__file__).resolve().parents[1] / "kmq", quiet=1)


class Kmq:
    """One kmqd below `folder`, listening on `port`, sending everything to `hop_port`."""

    name = "kmq"
    configuration = CONFIGURATION

    def __init__(self, folder: Path, port: int, hop_port: int) -> None:
        self.port = port
        self._folder = folder
        self.hop_port = hop_port
        self._daemon: subprocess.Popen[bytes] | None = None
        self._checkpoints: list[Span] = []
        self._read = 0  # bytes of the log, which grows by megabytes a second

    @classmethod
    def on(cls, folder: Path, ways: Ways) -> "Kmq":
        """One whose mail to PROBE_DOMAIN goes a way of its own."""
        one = cls(folder, ways.port, ways.hop)
        one.configuration += PROBES.format(probe_port=ways.probes, domain=PROBE_DOMAIN)
        return one

    @property
    def pid(self) -> int:
        assert self._daemon is not None
        return self._daemon.pid

    def start(self) -> None:
        (self._folder / "spool").mkdir(mode=0o750)
        text = self.configuration.format(folder=self._folder, port=self.port, hop_port=self.hop_port)
        (self._folder / "kmq.conf").write_text(text)
        self.begin()

    def begin(self) -> None:
        """Starts it on the spool and the configuration that are there."""
        with (self._folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                [KMQD, "-c", self._folder / "kmq.conf"], stdin=subprocess.DEVNULL, stderr=log, start_new_session=True
            )
        until(lambda: listening(self.port) or self._ended(), f"kmqd listens; its log: {self._folder / 'log'}")
        if self._ended():
            raise RuntimeError(f"kmqd ended at once: {(self._folder / 'log').read_text()}")

    def _ended(self) -> bool:
        return self._daemon is None or self._daemon.poll() is not None

    def expect(self, connections: int) -> None:
        """Before `start`: one client will have so many open at once."""
        if connections > SESSIONS_PER_CLIENT:
            self.configuration = self.configuration.replace("relay_from = 127.0.0.0/8", MANY)

    def stop(self) -> None:
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

    def listing(self) -> list[str]:
        """The command that lists the queue."""
        return self._kmq("mailq")

    def flush(self) -> list[str]:
        """The command that has everything tried now."""
        return self._kmq("flush")

    def _kmq(self, *words: str) -> list[str]:
        return [str(KMQD.with_name("kmq")), "-c", str(self._folder / "kmq.conf"), *words]

    def environment(self) -> dict[str, str]:
        """For the commands."""
        return dict(os.environ)

    def settle(self) -> None:
        """Returns when a checkpoint that began after the last delivery has ended, or when none is owed."""
        quiet = time.monotonic()
        until(
            lambda: any(span.begin > quiet for span in self.checkpoints()) or time.monotonic() > quiet + SETTLED / 2,
            "kmq's checkpoint after the last delivery",
            SETTLED,
        )

    def checkpoints(self) -> list[Span]:
        with (self._folder / "log").open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        self._checkpoints += spans(whole.decode())
        return self._checkpoints


def spans(log: str) -> list[Span]:
    """The checkpoints that a log tells of, oldest first."""
    ahead = time.time() - time.monotonic()
    found = []
    for match in _CHECKPOINT.finditer(log):
        end = from_text(match["at"]) - ahead
        found.append(Span(end - (int(match["ms"]) + ROUNDED) / 1000, end + ROUNDED / 1000))
    return found


_BUILD = """
import json, pathlib, sys, kmq
print(json.dumps({
    "python": sys.version.split()[0],
    "compiled": sum(1 for _ in pathlib.Path(kmq.__file__).parent.rglob("*.so")),
}))
"""


def build() -> dict[str, object]:
    """What runs KMQD: its Python, and how many of our modules are compiled."""
    interpreter = KMQD.with_name("python")
    said = subprocess.run([interpreter, "-c", _BUILD], cwd="/", capture_output=True, text=True, check=True).stdout
    found: dict[str, object] = json.loads(said)
    return {"kmqd": str(KMQD), **found, "interpreter": os.path.realpath(interpreter)}
