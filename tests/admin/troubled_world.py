"""A real kmqd with one message in each of many troubles, for what explains them."""

import smtplib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kmq.admin import client
from kmq.admin.client import Response
from kmq.admin.explain_facts import facts_about
from kmq.admin.explain_finding import Finding
from kmq.admin.explain_story import Story, story
from kmq.config import Settings, load
from kmq.model import queue_id
from kmq.spool.look import find
from tests.certificates import Authority
from tests.fake_dns import FakeDNS
from tests.fakes import EvilHop
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import free_port, until

PATIENT = "[patient : retry]\nsteps = 1h\nwarn_after = 2h\nbounce_after = 3d\n"

#: Recipient -> what the hop that is ordinary otherwise says at RCPT.
REFUSALS = {
    "grey@plain.test": "450 4.2.0 <grey@plain.test>: Recipient address rejected: Greylisted, see later",
    "full@plain.test": "452 4.2.2 The mailbox is over quota",
    "rate@plain.test": "450 4.7.28 Our system has detected an unusual rate of mail",
    "busy@plain.test": "451 4.3.0 Temporary lookup failure",
    "held@plain.test": "450 4.2.0 greylisted",
}


@dataclass
class World:
    """kmqd, and the ID of each message by its recipient."""

    kmqd: Kmqd
    settings: Settings
    ids: dict[str, str] = field(default_factory=dict)

    def send(self, *to: str) -> str:
        """A message; its ID, which is remembered under the first recipient."""
        with smtplib.SMTP("127.0.0.1", self.kmqd.port, timeout=20) as server:
            server.ehlo()
            server.mail("alice@elsewhere.test")
            for one in to:
                assert server.rcpt(one)[0] == 250, one
            code, text = server.data("Message-ID: <1@elsewhere.test>\r\nSubject: hello\r\n\r\ntext\r\n")
        found = queue_id.PATTERN.search(text.decode())
        assert code == 250 and found
        self.ids[to[0]] = found[0]
        return self.ids[to[0]]

    def story(self, to: str) -> Story:
        """What explains the message to this recipient."""
        return story_of(self.settings, self.ids[to])

    def finding(self, to: str) -> Finding:
        """The cause of its only queue."""
        (chapter,) = self.story(to).chapters
        return chapter.findings[0]

    def until_explained(self, to: str, code: str) -> Finding:
        """Waits until that is the cause: a failed opening takes its time."""
        until(lambda: self._code(to) == code, f"{to} waits because of {code}")
        return self.finding(to)

    def _code(self, to: str) -> str:
        if find(self.settings.kmq.spool, queue_id.parse(self.ids[to])) is None:
            return "gone"
        chapters = self.story(to).chapters
        return chapters[0].findings[0].code if chapters else ""

    def say(self, verb: str, **arguments: object) -> Response:
        """An operator's word."""
        return client.ask(self.settings.kmq.run_directory, verb, arguments)  # type: ignore[arg-type]


def story_of(settings: Settings, name: str) -> Story:
    """What explains a message."""
    found = find(settings.kmq.spool, queue_id.parse(name))
    assert found is not None, name
    return story(found, facts_about(settings, [name]))


def _hop(name: str, domain: str, port: int, more: str = "tls = never") -> str:
    space = f"[{name} : connector]\ntype = smarthost\naddress_spaces = {domain}\nhosts = 127.0.0.1:{port}\n"
    return f"{space}retry_profile = patient\n{more}\n\n"


@contextmanager
def troubled(folder: Path) -> Iterator[World]:
    """Everything is sent; each message comes to its trouble by and by."""
    folder.mkdir(exist_ok=True)
    authority = Authority(folder)
    pair = authority.issue("localhost")
    stranger = folder / "stranger"
    stranger.mkdir()
    other = Authority(stranger)
    (folder / "password").write_text("wrong\n")
    (folder / "lost").write_text("secret\n")
    with ExitStack() as stack:
        plain = stack.enter_context(EvilHop(refusals=REFUSALS).threaded())
        away = stack.enter_context(EvilHop(banner="554 5.7.1 no service for you").threaded())
        silent = stack.enter_context(EvilHop(banner="").threaded())
        secure = stack.enter_context(EvilHop(tls=pair.server(), users={"me": "right"}).threaded())
        resolver = stack.enter_context(FakeDNS(faults={"*": "servfail"}).threaded())
        trusting = f"tls = must\ntls_ca_file = {authority.certificate}"
        connectors = (
            _hop("plain", "plain.test", plain.port)
            + _hop("rated", "rated.test", plain.port, "tls = never\nmessages_per_minute = 1")
            + _hop("refused", "refused.test", free_port())
            + _hop("away", "away.test", away.port)
            + _hop("silent", "silent.test", silent.port)
            + _hop("no-tls", "no-tls.test", plain.port, "tls = must")
            + _hop("broken", "broken.test", plain.port, "tls = implicit\ntls_verify = none")
            + _named(
                "login", "login.test", secure.port, f"{trusting}\nauth_user = me\npassword_file = {folder}/password"
            )
            + _named("lost", "lost.test", secure.port, f"{trusting}\nauth_user = me\npassword_file = {folder}/lost")
            + _named("stranger", "stranger.test", secure.port, f"tls = must\ntls_ca_file = {other.certificate}")
            + "[dns : connector]\ntype = dns\naddress_spaces = dns.test\nretry_profile = patient\n\n"
            + "[empty : connector]\ntype = smarthost\naddress_spaces = empty.test\nhosts =\n\n"
        )
        kmq = f"dns_servers = 127.0.0.1:{resolver.port}\ndns_timeout = 2s\nalias_files = {folder}/aliases"
        (folder / "aliases").write_text("good: boss\n")
        kmqd = Kmqd(folder / "kmqd", kmq=kmq, drops=f"{NO_DROPS}\n\n{PATIENT}\n{connectors}")
        stack.callback(kmqd.close)
        kmqd.start()
        settings = load(str(kmqd.folder / "kmq.conf"))
        until(lambda: _serves(kmqd), "it has looked at the files of its connectors")
        (folder / "lost").unlink()
        kmqd.mail.mkdir(exist_ok=True)
        (kmqd.mail / "carol").write_text("this is no folder\n")
        yield World(kmqd, settings)


def _serves(kmqd: Kmqd) -> bool:
    """Its receiver has looked at all that it needs."""
    status = kmqd.status("receiver-1")
    return status is not None and "sessions" in status.counters


def _named(name: str, domain: str, port: int, more: str) -> str:
    """By name, since a certificate is for one."""
    return _hop(name, domain, port, more).replace("hosts = 127.0.0.1", "hosts = localhost")
