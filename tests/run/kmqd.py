"""A kmqd whose children are stand-ins, for tests of the supervisor."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kmq.config import Settings, load
from kmq.model.frame import End
from tests.waiting import free_port, until

HERE = Path(__file__).parent

_RUN = """
import importlib
import sys
from pathlib import Path
from kmq import log
from kmq.config import load
from kmq.errors import KmqError
from kmq.run import supervisor
for name, value in eval(sys.argv[3]).items():
    module, _, name = name.rpartition("_in_")[::-1] if "_in_" in name else ("supervisor", "", name)
    setattr(importlib.import_module(f"kmq.run.{module}"), name, value)
settings = load(sys.argv[1])
log.start("kmqd", settings.kmq.log_level)
sys.path.insert(0, sys.argv[4])
import standin
try:
    status = supervisor.main(settings, lambda role, number: standin.StandIn(Path(sys.argv[2]), role, number).live())
except KmqError as error:
    print(error, file=sys.stderr)
    status = error.exit_status
log.flush()
sys.exit(status)
"""

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = {spool}
workers = {workers}
receivers = {receivers}
{more}
[pickup]
directory =

[replay]
directory =

[smtp : receiver]
listen = 127.0.0.1:{port}
"""


class Kmqd:
    """One spool, one configuration, and a supervisor when it is started.

    ledger: what the stand-ins noted, each {"what", "name", "pid", ...}, in the order of their notes.
    """

    def __init__(self, folder: Path, workers: int = 1, receivers: int = 1) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        self.spool.mkdir(0o750)
        self.path = folder / "kmq.conf"
        self.port = free_port()
        self.counts = {"workers": workers, "receivers": receivers}
        self.environment: dict[str, str] = {}
        self.configure()
        self.process: subprocess.Popen[bytes] | None = None
        self.every: list[subprocess.Popen[bytes]] = []

    def configure(self, more: str = "") -> None:
        self.path.write_text(CONFIGURATION.format(spool=self.spool, port=self.port, more=more, **self.counts))

    @property
    def settings(self) -> Settings:
        return load(str(self.path))

    def order(self, name: str, *words: str) -> None:
        """What the stand-in of this name does when it is born: `worker-1` always, `worker-1.2` in its second life."""
        (self.folder / name).write_text(" ".join(words))

    def release(self) -> None:
        (self.folder / "release").touch()

    def start(self, ready: bool = True, before: Sequence[str] = (), **times: object) -> subprocess.Popen[bytes]:
        """Starts a supervisor; times: its constants, also those of another module (PATIENCE_in_changeover).

        ready: waits until all stand-ins are. before: the command that starts it.
        """
        command = [sys.executable, "-c", _RUN, str(self.path), str(self.folder), repr(times), str(HERE)]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*before, *command],
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self.environment, "KMQ_FOLDER": str(self.folder)},
            )
        self.every.append(self.process)
        if ready:
            names = 2 + sum(self.counts.values())  # the scheduler process and the index, too
            until(lambda: len([one for one in self.noted("ready") if one["name"]]) >= names, "all stand-ins are ready")
            until(lambda: self.heard("living"), "the supervisor is heard")
        return self.process

    # --- what happened -----------------------------------------------------------------------------------------------

    @property
    def ledger(self) -> list[dict[str, object]]:
        path = self.folder / "ledger"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.split("\n")[:-1]]  # the last one may be half written

    def noted(self, what: str, name: str = "") -> list[dict[str, object]]:
        return [one for one in self.ledger if one["what"] == what and name in ("", one["name"])]

    def heard(self, tag: str) -> list[dict[str, object]]:
        """Frames of a kind that stand-ins of the scheduler process heard."""
        frames = [one["frame"] for one in self.noted("heard")]
        return [frame for frame in frames if isinstance(frame, dict) and frame["t"] == tag]

    def pid(self, name: str) -> int:
        """Of the newest process of a name."""
        pid = self.noted("born", name)[-1]["pid"]
        assert isinstance(pid, int)
        return pid

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def logged(self, pattern: str) -> bool:
        return re.search(pattern, self.log) is not None

    def counting(self, name: str = "") -> list[object]:
        """The log levels of the configurations that came to count."""
        return [one["log_level"] for one in self.noted("count", name)]

    # --- what is done ------------------------------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def now(self, name: str, order: str) -> None:
        """The living stand-in of this name does so now."""
        (self.folder / "now.new").write_text(order)
        (self.folder / "now.new").rename(self.folder / f"{name}.now")

    def end_process(self, name: str, hung: bool = False, pid: int = 0) -> None:
        """The scheduler process asks the supervisor to end one."""
        role, number = name.split("-")
        text = msgspec.json.encode(End(role, int(number), pid or self.pid(name), hung))
        (self.folder / "say.new").write_bytes(text)
        (self.folder / "say.new").rename(self.folder / "say")

    def ends(self, seconds: float = 20) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def clean(self) -> None:
        """Nothing of ours runs on; only processes that were started here are ended."""
        self.release()
        for process in self.every:
            process.kill()
            process.wait()
        pids = {one["pid"] for one in self.noted("born")}
        until(lambda: not any(is_standin(pid, self.folder) for pid in pids), "all stand-ins are gone")


def is_standin(pid: object, folder: Path) -> bool:
    """Whether the process is (still) a stand-in of this folder, and no other that has its number by now."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return title.startswith(b"kmqd: ") and b"KMQ_FOLDER=" + os.fsencode(folder) in environment
