"""Debian's clamd with signatures of our own: EICAR's test file, and a word. Nothing is downloaded."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import until

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
WORD = b"kmq-test-virus-0815"

PROGRAM = shutil.which("clamd") or shutil.which("clamd", path="/usr/sbin")
MISSING = "clamd is not here: Debian's package is clamav-daemon"

_CONFIGURATION = """\
LocalSocket {folder}/clamd.ctl
DatabaseDirectory {folder}/signatures
TemporaryDirectory {folder}/scratch
Foreground yes
AlertEncrypted yes
AlertExceedsMax yes
StreamMaxLength 2M
MaxScanSize 3M
MaxFileSize 2M
MaxThreads 4
SelfCheck 0
{more}
"""


def sign(folder: Path, *words: bytes) -> None:
    """Signatures of these words, found anywhere in a text (name:type:place:hex)."""
    names = {EICAR: "Eicar-Test-Signature", WORD: "Kmq.Test-1"}
    lines = [f"{names.get(word, 'Kmq.Other')}:0:*:{word.hex()}\n" for word in words]
    (folder / "kmq.ndb").write_text("".join(lines))


@contextmanager
def ground() -> Iterator[Path]:
    """A folder that daemons of other users find their way into, as pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="kmq-scanners-", dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@contextmanager
def clamd(folder: Path) -> Iterator[Path]:
    """A daemon while it lasts; the path of its socket. It runs as nobody when we are root."""
    assert PROGRAM, MISSING
    user = "User nobody" if os.geteuid() == 0 else ""
    for name in ("signatures", "scratch"):
        (folder / name).mkdir(parents=True)
    sign(folder / "signatures", EICAR, WORD)
    if user:
        for one in (folder, folder / "signatures", folder / "scratch"):
            shutil.chown(one, "nobody")
    (folder / "clamd.conf").write_text(_CONFIGURATION.format(folder=folder, more=user))
    path = folder / "clamd.ctl"
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen([PROGRAM, "-c", str(folder / "clamd.conf")], stdout=log, stderr=log)
    try:
        until(lambda: path.exists() or daemon.poll() is not None, "clamd listens")
        assert daemon.poll() is None, (folder / "log").read_text()
        yield path
    finally:
        daemon.terminate()
        daemon.wait(30)
