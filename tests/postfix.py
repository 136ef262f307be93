"""Debian's smtp-source and smtp-sink: a client and a next hop for our tests that we did not write.

What:     finds Postfix's programs on this machine, or unpacks them from Debian's package; nothing is installed.
Where:    $KMQ_POSTFIX (a folder with usr/sbin/smtp-sink below it), build/postfix, then the system itself.
On crash: the package is unpacked beside its place and renamed into it; half an unpacking is never found.
Callers:  the tests marked `postfix`, the benchmark, and `.ci/run` (`python3 tests/postfix.py` fetches; it needs
          apt-get and dpkg only, and no package of ours).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEPT = Path(__file__).resolve().parents[1] / "build" / "postfix"


@dataclass(frozen=True, slots=True)
class Postfix:
    """Postfix's files below `root`: "/" where the package is installed, else where it was unpacked."""

    root: Path

    def program(self, name: str) -> str:
        """The full name of smtp-source, smtp-sink, postconf..."""
        return str(self.root / "usr/sbin" / name)

    def daemons(self) -> Path:
        """Where master, smtpd, qmgr and the rest lie."""
        return self.root / "usr/lib/postfix/sbin"

    def libraries(self) -> str:
        """LD_LIBRARY_PATH for the programs; empty where the system's own places do."""
        if self.root == Path("/"):
            return ""
        folders = [
            self.root / "usr/lib/postfix",
            *self.root.glob("usr/lib/*-linux-*"),
            *self.root.glob("lib/*-linux-*"),
        ]
        return ":".join(map(str, folders))

    def environment(self) -> dict[str, str]:
        """This process's environment with the libraries in it."""
        found = self.libraries()
        return {**os.environ, "LD_LIBRARY_PATH": found} if found else dict(os.environ)

    def source(self, port: int, *options: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs smtp-source against 127.0.0.1:port to its end; its complaints stand in stderr."""
        command = [self.program("smtp-source"), *options, f"127.0.0.1:{port}"]
        return subprocess.run(
            command, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )

    @contextmanager
    def sink(self, port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        """smtp-sink on 127.0.0.1:port while the block runs (its options choose its faults: `-r RCPT`, `-q .`...)."""
        from tests.waiting import listening, until

        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        command = [self.program("smtp-sink"), *user, *options, f"127.0.0.1:{port}", "512"]
        process = subprocess.Popen(command, env=self.environment(), stdin=subprocess.DEVNULL)
        try:
            until(lambda: listening(port) or process.poll() is not None, f"smtp-sink listens on port {port}")
            yield process
        finally:
            process.kill()
            process.wait()

    def works(self) -> bool:
        """True when both programs are here and their libraries are found."""
        return all(self._starts(name) for name in ("smtp-source", "smtp-sink"))

    def _starts(self, name: str) -> bool:
        return os.access(self.program(name), os.X_OK) and not self.missing_libraries(name)

    def missing_libraries(self, name: str) -> list[str]:
        """The shared libraries that a program needs and this machine does not have."""
        linked = subprocess.run(
            ["ldd", self.program(name)], env={**self.environment(), "LC_ALL": "C"}, capture_output=True, text=True
        )
        return [line.split()[0] for line in linked.stdout.splitlines() if line.endswith("not found")]


def find() -> Postfix | None:
    """Postfix's programs where they are now, or None."""
    named = os.environ.get("KMQ_POSTFIX")
    for root in [Path(named)] if named else [KEPT, Path("/")]:
        found = Postfix(root)
        if found.works():
            return found
    return None


def fetch(into: Path = KEPT) -> Postfix:
    """Downloads Debian's package and unpacks it; also the libraries that it depends on where this machine lacks them.

    Raises subprocess.CalledProcessError with apt-get's words on stderr, RuntimeError when the programs do not start.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{into.name}.", dir=into.parent))
    try:
        fresh.chmod(0o755)  # smtp-sink opens its libraries as nobody
        unpack("postfix", fresh)
        if Postfix(fresh).missing_libraries("smtp-sink"):
            for package in _needed_libraries():
                unpack(package, fresh)
        if not Postfix(fresh).works():
            raise RuntimeError(
                f"Debian's postfix package does not run here: {Postfix(fresh).missing_libraries('smtp-sink')}"
            )
        shutil.rmtree(into, ignore_errors=True)
        fresh.rename(into)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Postfix(into)


def unpack(package: str, into: Path) -> None:
    """Downloads a package of Debian's and unpacks it below `into`."""
    with tempfile.TemporaryDirectory() as folder:
        unsandboxed = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
        subprocess.run(
            ["apt-get", *unsandboxed, "-o", "Acquire::Retries=3", "-qq", "download", package],
            cwd=folder, stdin=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        for archive in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(archive), str(into)], check=True)


def _needed_libraries() -> list[str]:
    listing = subprocess.run(["apt-cache", "depends", "postfix"], check=True, capture_output=True, text=True).stdout
    names = [line.split()[-1] for line in listing.splitlines() if line.strip().startswith("Depends: lib")]
    return [name for name in names if name != "libc6"]


def main() -> int:
    found = find() or fetch()
    print(f"smtp-source and smtp-sink: {found.program('smtp-source')}, {found.program('smtp-sink')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
