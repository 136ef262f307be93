"""Debian's OpenSMTPD in a folder of its own, with the defaults of its configuration; its log goes to a file."""

import os

from bench.guest import Guest
from bench.load import PROBE_DOMAIN

CONFIGURATION = """\
listen on 127.0.0.1 port {port} hostname opensmtpd.bench.test
action "world" relay host smtp://127.0.0.1:{hop}
action "probes" relay host smtp://127.0.0.1:{probes}
match from any for domain "{domain}" action "probes"
match from any for any action "world"
"""


class OpenSmtpd(Guest):
    """Its queue is a folder for each message, two levels deep."""

    name = "OpenSMTPD"
    package = "opensmtpd"
    program = "smtpd"
    users = ("opensmtpd", "opensmtpq")

    def furnish(self) -> None:
        text = CONFIGURATION.format(**self._ways._asdict(), domain=PROBE_DOMAIN)
        (self._folder / "smtpd.conf").write_text(text)
        self.owned("var/lib/opensmtpd/empty", "root", 0o755)
        self.owned("var/spool/smtpd", "root", 0o711)

    def command(self) -> list[str]:
        return [str(self.root / "usr/sbin/smtpd"), "-d", "-f", str(self._folder / "smtpd.conf")]

    def waiting(self) -> int:
        queue = self._folder / "var/spool/smtpd/queue"
        return sum(len(os.listdir(part)) for part in queue.iterdir()) if queue.exists() else 0
