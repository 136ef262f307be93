"""Debian's opendkim with a key of our own, which signs what comes from this machine. It asks no DNS."""

import base64
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import until

PROGRAM = shutil.which("opendkim") or shutil.which("opendkim", path="/usr/sbin")
MISSING = "opendkim is not here: Debian's package of that name has it"

_CONFIGURATION = """\
Syslog no
Background no
UMask 007
Mode s
Canonicalization relaxed/simple
Domain here.test,local.test
Selector kmq
KeyFile {folder}/key.pem
Socket local:{folder}/milter
PidFile {folder}/pid
RequireSafeKeys no
InternalHosts 127.0.0.1
"""


@contextmanager
def opendkim(folder: Path) -> Iterator[str]:
    """A daemon while it lasts; the path of its socket."""
    assert PROGRAM, MISSING
    folder.mkdir(parents=True)
    key = ["openssl", "genrsa", "-out", str(folder / "key.pem"), "2048"]
    subprocess.run(key, check=True, capture_output=True)
    (folder / "conf").write_text(_CONFIGURATION.format(folder=folder))
    with open(folder / "log", "wb") as log:
        daemon = subprocess.Popen([PROGRAM, "-f", "-x", str(folder / "conf")], stdout=log, stderr=log)
    try:
        until(lambda: (folder / "milter").exists() or daemon.poll() is not None, "opendkim listens")
        assert daemon.poll() is None, (folder / "log").read_text()
        yield str(folder / "milter")
    finally:
        daemon.terminate()
        daemon.wait(30)


def zone(folder: Path) -> Callable[..., bytes]:
    """What the DNS would say of the key."""
    asked = ["openssl", "rsa", "-in", str(folder / "key.pem"), "-pubout", "-outform", "DER"]
    key = base64.b64encode(subprocess.run(asked, check=True, capture_output=True).stdout)

    def text(name: bytes | str, timeout: int = 5) -> bytes:
        bare = name if isinstance(name, str) else name.decode()
        return b"v=DKIM1; k=rsa; p=" + key if re.match(r"kmq\._domainkey\.", bare) else b""

    return text
