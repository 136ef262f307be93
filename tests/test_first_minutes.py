"""The README's five minutes, word by word: its commands run in a fresh folder and show what it says they show.

Only the port differs (another kmqd may be tried out on this machine meanwhile), and so the configuration is a file.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.config import EMBEDDED
from tests.waiting import free_port, listening, until

TREE = Path(__file__).resolve().parents[1]
SECTION = (TREE / "README.md").read_text().partition("## Five minutes\n")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
PROGRAMS = Path(sys.executable).parent

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")


class Trial:
    """A kmqd in a folder of its own, and a shell beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._daemon: subprocess.Popen[bytes] | None = None
        (folder / "spool").mkdir()
        (folder / "kmq.conf").write_text(EMBEDDED.replace(":2525", f":{self.port}"))
        (folder / ".venv").symlink_to(PROGRAMS.parent)

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [PROGRAMS / "kmqd", "-c", "kmq.conf"]
            self._daemon = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stderr=log)
        until(lambda: listening(self.port), "kmqd listens")

    def stop(self) -> int:
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGINT)
        return self._daemon.wait(60)

    def kill(self) -> None:
        """As rudely as one likes; its children go when they notice."""
        assert self._daemon is not None
        self._daemon.kill()
        self._daemon.wait()
        until(lambda: not listening(self.port), "the receiver noticed")

    def sh(self, commands: str) -> str:
        """Runs commands of the README; all of them must succeed."""
        commands = commands.replace("127.0.0.1:2525", f"127.0.0.1:{self.port}")
        environment = {**os.environ, "KMQ_CONF": "kmq.conf"}
        done = subprocess.run(
            ["sh", "-euc", commands], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout

    def waiting(self) -> list[str]:
        """The IDs in the queue."""
        return sorted(path.stem for path in (self.folder / "spool/queue").glob("*/*.env"))


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Trial]:
    trial = Trial(tmp_path)
    trial.start()
    yield trial
    trial.stop()


def test_the_five_minutes(trial):
    letter, elsewhere, steering, program, dropped = BLOCKS
    send, _, look_at_mail = letter.rpartition("cat spool/mail")
    trial.sh(send)
    until(lambda: list((trial.folder / "spool/mail/alice/new").glob("*")), "alice has a letter")
    assert "Subject: Hello" in trial.sh(f"cat spool/mail{look_at_mail}")
    until(lambda: not trial.waiting(), "nothing waits")

    send, line, look = elsewhere.partition(".venv/bin/kmq mailq")
    trial.sh(send)
    until(trial.waiting, "the second one waits")
    (queue_id,) = trial.waiting()
    until(lambda: "waiting for a connector" in trial.sh(line), "mailq says why it waits")
    shown = trial.sh(line + look)
    for text in (queue_id, "friend@example.org", f"{queue_id}.eml", f"{queue_id}.env", "Unreachable", "scheduler-1"):
        assert text in shown

    shown = trial.sh(re.sub(r"\bID\b", queue_id, steering))
    assert "friend@example.org" in shown
    until(lambda: not trial.waiting(), "what was removed is gone")

    trial.sh(program)
    until(lambda: "Subject: Hello again" in trial.sh(f"cat spool/mail{look_at_mail}"), "alice has the second one")

    drop, look, nonsense, reason = dropped.strip().splitlines()
    trial.sh(drop)
    until(lambda: trial.sh(look).count("Subject: Hello\n") == 2, "alice has the first one again")
    trial.sh(nonsense)
    until((trial.folder / "spool/pickup/bad.bad").exists, "it is set aside")
    assert "no field" in trial.sh(reason)


def test_the_queue_is_as_it_was_after_a_rude_stop(trial):
    letter, elsewhere, *_ = BLOCKS
    trial.sh(letter.partition("curl")[0])
    trial.sh(elsewhere.partition(".venv/bin/kmq mailq")[0])
    trial.kill()
    trial.start()
    until(trial.waiting, "the message is there again")
    (queue_id,) = trial.waiting()
    until(lambda: queue_id in trial.sh(".venv/bin/kmq mailq"), "mailq shows it")
    assert trial.stop() == 0
    trial.start()
    assert trial.waiting() == [queue_id]
