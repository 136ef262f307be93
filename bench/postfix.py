"""Debian's Postfix in a folder of its own: its own queue, configuration, log and port; nothing of the system changes.

Configuration: what the package brings (main.cf.debian, master.cf.dist), its durability untouched; changed is only what
    a folder of its own needs, and that all mail goes to one next hop. Not in a chroot, which needs copies of system
    files and changes no speed. Postfix wants a user and a group that nobody else uses: two that every Debian has and a
    mail server's bench does not need lend their names, so that none has to be made.
On crash: `stop` ends the whole session that `start` began; the folder may be thrown away.
"""

import os
import pwd
import shutil
import signal
import subprocess
from grp import getgrnam
from pathlib import Path

from bench.load import PROBE_DOMAIN
from bench.mta import Span, Ways
from tests.postfix import Postfix as Programs
from tests.waiting import listening, until

OWNER, DROP_GROUP = "news", "uucp"
OWNED = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")


class Postfix:
    """One Postfix below `folder`, listening on `port`, sending everything to `hop_port`."""

    name = "Postfix"

    def __init__(self, programs: Programs, folder: Path, ways: Ways) -> None:
        self.port = ways.port
        self._programs = programs
        self._folder = folder
        self._ways = ways
        self._master: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._master is not None
        return self._master.pid

    def environment(self) -> dict[str, str]:
        return {**self._programs.environment(), "MAIL_CONFIG": str(self._folder / "etc")}

    def expect(self, connections: int) -> None:
        """Clients of mynetworks have no limit in Postfix."""

    def start(self) -> None:
        self._make_folders()
        self._write_configuration()
        self._master = subprocess.Popen(
            [str(self._programs.daemons() / "master"), "-c", str(self._folder / "etc"), "-d"],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(lambda: listening(self.port), f"Postfix listens; its log: {self._folder / 'log'}")

    def stop(self) -> None:
        if self._master is None:
            return
        os.killpg(self._master.pid, signal.SIGTERM)
        try:
            self._master.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._master.pid, signal.SIGKILL)
            self._master.wait()

    def waiting(self) -> int:
        """Messages in the queue."""
        folders = ("incoming", "active", "deferred", "maildrop")
        return sum(len(names) for name in folders for _, _, names in os.walk(self._folder / "queue" / name))

    def settle(self) -> None:
        """Postfix leaves no work behind once its queue is empty."""

    def checkpoints(self) -> list[Span]:
        """Postfix has none."""
        return []

    def listing(self) -> list[str]:
        return [self._programs.program("postqueue"), "-p"]

    def flush(self) -> list[str]:
        return [self._programs.program("postqueue"), "-f"]

    def _make_folders(self) -> None:
        owner, drop = pwd.getpwnam(OWNER).pw_uid, getgrnam(DROP_GROUP).gr_gid
        queue = self._folder / "queue"
        for path in (self._folder / "etc", queue / "pid"):
            path.mkdir(parents=True)
        for name in OWNED:
            (queue / name).mkdir(mode=0o700)
            os.chown(queue / name, owner, 0)
        for name, mode in (("maildrop", 0o1730), ("public", 0o710)):
            (queue / name).mkdir()
            os.chown(queue / name, owner, drop)
            (queue / name).chmod(mode)
        (self._folder / "data").mkdir(mode=0o700)
        os.chown(self._folder / "data", owner, 0)

    def _write_configuration(self) -> None:
        shipped = self._programs.root / "usr/share/postfix"
        shutil.copy(shipped / "dynamicmaps.cf", self._folder / "etc")
        ours = f"""
            myhostname = postfix.bench.test
            mydestination =
            alias_maps =
            relayhost = [127.0.0.1]:{self._ways.hop}
            transport_maps = inline:{{ {{ {PROBE_DOMAIN} = smtp:[127.0.0.1]:{self._ways.probes} }} }}
            inet_interfaces = 127.0.0.1
            inet_protocols = ipv4
            mail_owner = {OWNER}
            setgid_group = {DROP_GROUP}
            queue_directory = {self._folder}/queue
            data_directory = {self._folder}/data
            command_directory = {self._programs.root}/usr/sbin
            daemon_directory = {self._programs.daemons()}
            shlib_directory = {self._programs.root}/usr/lib/postfix
            meta_directory = {self._folder}/etc
            maillog_file = {self._folder}/log
            maillog_file_prefixes = {self._folder}
            import_environment = MAIL_CONFIG LANG=C LD_LIBRARY_PATH
        """
        shipped_text = (shipped / "main.cf.debian").read_text()
        main = "\n".join([shipped_text, *(line.strip() for line in ours.splitlines())])
        (self._folder / "etc/main.cf").write_text(main + "\n")
        (self._folder / "etc/master.cf").write_text(self._services((shipped / "master.cf.dist").read_text()))

    def _services(self, shipped: str) -> str:
        """master.cf.dist with our port and without chroots."""
        lines = []
        for line in shipped.splitlines():
            fields = line.split()
            if line[:1] not in ("", "#", " ") and len(fields) >= 8:
                fields[4] = "n"
                if fields[:2] == ["smtp", "inet"]:
                    fields[0] = f"127.0.0.1:{self.port}"
                line = " ".join(fields)
            lines.append(line)
        return "\n".join(lines) + "\n"
