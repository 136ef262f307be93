"""systemd's part in the worked examples: it starts kmqd, stops it, kills it, and hears what it says of itself.

The documents say `systemctl`; what they stop and start is the kmqd of their scene.
"""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from tests.waiting import until

_NUMBERS = count(1)


class Unit:
    """The service kmq of one scene. log: where its standard error goes."""

    def __init__(self, command: Sequence[str | Path], folder: Path, log: Path) -> None:
        self.command = command
        self.folder = folder
        self.log = log
        #: variables beside those of the test
        self.environment: dict[str, str] = {}
        self._daemon: subprocess.Popen[bytes] | None = None
        self.status = ""  #: the sentence of `systemctl status`
        self._ready = threading.Event()

    def start(self) -> None:
        """Returns when kmqd says that it is ready."""
        self._ready.clear()
        heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"kmq-worked-{os.getpid()}-{next(_NUMBERS)}"
        heard.bind("\0" + name)
        environment = {**os.environ, **self.environment, "NOTIFY_SOCKET": "@" + name}
        with self.log.open("ab") as log:
            self._daemon = subprocess.Popen(
                self.command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        threading.Thread(target=self._listen, args=(heard, self._daemon), name="systemd", daemon=True).start()
        until(self._ready.is_set, "kmqd is ready")

    def _listen(self, heard: socket.socket, daemon: subprocess.Popen[bytes]) -> None:
        heard.settimeout(0.5)
        with heard:
            while daemon.returncode is None:
                try:
                    lines = heard.recv(4096).decode().splitlines()
                except TimeoutError:
                    continue
                for line in lines:
                    if line.startswith("STATUS="):
                        self.status = line.removeprefix("STATUS=")
                if "READY=1" in lines:
                    self._ready.set()

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """All processes at once, as a power failure ends them."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            return
        if number == signal.SIGKILL:
            os.killpg(daemon.pid, number)
        else:
            daemon.send_signal(number)
        daemon.wait(60)
        self.status = ""

    def systemctl(self, words: Sequence[str]) -> list[str]:
        """What `systemctl ...` does, and prints."""
        match words:
            case ["stop", "kmq"]:
                self.stop()
            case ["start", "kmq"]:
                self.start()
            case ["kill", "--signal=KILL", "kmq"]:
                self.kill()
            case ["show", "-p", "StatusText", "kmq"]:
                return [f"StatusText={self.status}"]
            case _:
                raise ValueError(f"systemctl {' '.join(words)} is not played")
        return []
