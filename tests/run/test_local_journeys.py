"""A real kmqd with two workers: mail into Maildirs, mbox files, Dovecot, and a command; and what happens in between."""

import mailbox
import os
import re
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dovecot import Dovecot, dovecot
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import until

CONNECTORS = """

[boxes : connector]
type = mailbox
address_spaces = box.test
mbox = {folder}/boxes/{{user}}
users = alice, bob
catch_all = alice

[folders : connector]
type = mailbox
address_spaces = folder.test
maildir = {folder}/folders/{{domain}}/{{user}}
users = *
quota = 3 messages
create_folders = yes
sizes_in_names = yes

[store : connector]
type = lmtp
address_spaces = store.test
socket = {socket}
users = alice, bob, nobody

[command : connector]
type = pipe
address_spaces = pipe.test
command = {folder}/command {{user}} {{id}}
users = file:{folder}/users
"""

#: Notes who it was run for; waits while there is a file that says so, and ends as another says.
COMMAND = """#!/bin/sh
cat >>"{folder}/piped"
echo "$RECIPIENT $2" >>"{folder}/piped-to"
while [ -e "{folder}/wait" ]; do sleep 0.02; done
[ ! -e "{folder}/status" ] || { echo "the command says so"; exit "$(cat "{folder}/status")"; }
"""


class Site:
    """kmqd, and the places that it brings mail to."""

    def __init__(self, folder: Path, store: Dovecot) -> None:
        self.folder = folder
        self.store = store
        folder.mkdir(exist_ok=True)
        self.write("command", COMMAND.replace("{folder}", str(folder)))
        (folder / "command").chmod(0o755)
        self.write("users", "alice\nbob@pipe.test\ncarol@elsewhere.test\n")
        more = CONNECTORS.format(folder=folder, socket=store.socket)
        domains = "local.test, box.test, folder.test, store.test, pipe.test"
        kmq = f"local_domains[{os.uname().nodename}] = {domains}"
        self.kmqd = Kmqd(folder / "kmqd", drops=NO_DROPS + more, kmq=kmq)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def send(self, *to: str, subject: str = "x", sender: str = "sender@local.test", above: str = "") -> None:
        with smtplib.SMTP("127.0.0.1", self.kmqd.port, timeout=60) as client:
            text = f"{above}Subject: {subject}\r\n\r\nhello\r\nFrom here\r\n"
            client.sendmail(sender, to, text.encode())

    def logged(self, pattern: str) -> str:
        """A line that comes to the log, perhaps some moments later."""
        until(lambda: re.search(pattern, self.kmqd.log), f"the log says {pattern}")
        return next(line for line in self.kmqd.log.splitlines() if re.search(pattern, line))

    def waits_for(self, line: str) -> str:
        """What `kmq explain` says of the message that a line of the log is about."""
        found = re.search(r"[0-9a-f]{8}-[0-9a-f]{8}", line)
        assert found, line
        return self.kmqd.asked("explain", found[0])

    def letter(self, to: str) -> str:
        """What a sender got back, its lines unfolded."""
        place = self.kmqd.mail / to / "new"
        until(lambda: place.exists() and list(place.iterdir()), f"{to} is told")
        return next(place.iterdir()).read_text().replace("\n ", " ")

    def mbox(self, user: str) -> list[mailbox.mboxMessage]:
        return list(mailbox.mbox(self.folder / "boxes" / user, create=False))


@pytest.fixture(scope="module")
def store() -> Iterator[Dovecot]:
    with dovecot({"alice": "", "bob": ""}) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, store: Dovecot) -> Iterator[Site]:
    """One for all stories: each has senders and recipients of its own."""
    made = Site(tmp_path_factory.mktemp("site"), store)
    made.kmqd.begin()
    made.kmqd.ready(60)
    try:
        yield made
        assert made.kmqd.stop() == 0
        assert made.kmqd.accidents() == []
    finally:
        made.kmqd.close()


def test_one_message_reaches_everybody_wherever_his_mailbox_is(site: Site) -> None:
    site.send("bob@box.test", "alice+lists@folder.test", "alice@store.test", "bob@pipe.test", "x@local.test")
    site.kmqd.drain()
    (one,) = site.mbox("bob")
    assert one.get_payload() == "hello\n>From here\n" and one["Delivered-To"] == "bob@box.test"
    (path,) = (site.folder / "folders/folder.test/alice/.lists/new").iterdir()
    assert re.search(r",S=\d+,W=\d+$", path.name) and path.read_text().endswith("\nhello\nFrom here\n")
    assert len(site.store.messages("alice")) == 1
    assert "Return-Path: <sender@local.test>\nDelivered-To: bob@pipe.test\n" in (site.folder / "piped").read_text()
    assert len(list((site.kmqd.mail / "x/new").iterdir())) == 1
    assert str(site.store.socket) in site.logged(r"delivered .*alice@store\.test")


def test_who_is_nobody_is_refused_at_the_door_or_somebody_else_s(site: Site) -> None:
    for address in ("nobody@pipe.test", "carol@pipe.test", "carol@store.test"):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            site.send(address)
        assert refused.value.recipients[address][0] == 550
    site.send("whoever@box.test", subject="caught")
    site.kmqd.drain()
    (one,) = [one for one in site.mbox("alice") if one["Subject"] == "caught"]
    assert (one["Delivered-To"], one["X-Original-To"]) == ("alice@box.test", "whoever@box.test")


def test_what_dovecot_does_not_want_goes_back_with_its_own_words(site: Site) -> None:
    site.send("nobody@store.test", "bob@store.test", sender="refused@local.test")
    letter = site.letter("refused")
    assert "550 5.1.1 <nobody@store.test> User doesn't exist" in letter
    assert "bob@store.test" not in letter


def test_a_loop_goes_back(site: Site) -> None:
    site.send("carol@folder.test", sender="round@local.test", above="Delivered-To: carol@folder.test\r\n")
    assert "5.4.6" in site.letter("round")


def test_a_full_mailbox_waits_until_there_is_room(site: Site) -> None:
    place = site.folder / "folders/folder.test/full"
    for n in range(3):
        site.send("full@folder.test", subject=str(n))
    site.kmqd.drain()
    site.send("full@folder.test", subject="3")
    said = site.waits_for(site.logged(r"deferred .*452 4\.2\.2 the mailbox is full"))
    assert "the mailbox is full" in said and "kmq retry" in said
    assert len(list((place / "new").iterdir())) == 3
    for path in list((place / "new").iterdir())[:2]:
        path.unlink()
    (place / "maildirsize").unlink()
    site.kmqd.drain()
    assert len(list((place / "new").iterdir())) == 2


def test_a_command_that_fails_keeps_its_mail_and_says_why(site: Site) -> None:
    site.write("status", "75")
    site.send("alice@pipe.test", sender="failed@local.test")
    said = site.waits_for(site.logged(r"deferred .*451 4\.3\.0 command: temporary failure: the command says so"))
    assert "the command that delivers it failed" in said and "[command : connector]" in said
    site.write("status", "67")
    assert "550 5.1.1 command: user unknown: the command says so" in site.letter("failed")
    (site.folder / "status").unlink()


def test_a_store_that_is_away_is_a_trouble_of_its_queue_alone(site: Site) -> None:
    before = len(site.store.messages("bob"))
    hidden = site.store.socket.with_suffix(".away")
    site.kmqd.drain()
    os.rename(site.store.socket, hidden)
    try:
        for name in site.kmqd.names():  # those that hold connections
            if name.startswith("worker"):
                site.kmqd.kill(name)
        site.send("bob@store.test", "y@local.test")
        site.logged(r"unavailable .*451 4\.4\.1 connect to .*: No such file or directory")
        until((site.kmqd.mail / "y/new").exists, "others go on")
        assert "kmq retry --queue store.test" in site.waits_for(site.logged(r"delivered .*y@local\.test"))
    finally:
        os.rename(hidden, site.store.socket)
    site.kmqd.drain()
    assert len(site.store.messages("bob")) == before + 1


def test_a_worker_that_dies_while_a_command_runs(site: Site) -> None:
    """The command has the whole message, and runs on; the message is given to another one, with the same ID."""
    site.write("wait", "")
    site.send("alice+x@pipe.test")
    to = site.folder / "piped-to"
    until(lambda: to.exists() and "alice+x@pipe.test" in to.read_text(), "it runs")
    for name in site.kmqd.names():
        if name.startswith("worker"):
            site.kmqd.kill(name)
    (site.folder / "wait").unlink()
    site.kmqd.drain()
    runs = [line for line in to.read_text().splitlines() if "alice+x" in line]
    assert len(set(runs)) == 1 and len(runs) == 2
