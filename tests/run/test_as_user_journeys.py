"""Mail to users of the machine, by SMTP, kmqd and kmq-deliver, into files that are theirs."""

import smtplib
from pathlib import Path

from tests.cli.test_deliver import ROOT
from tests.cli.users import MAIL, Machine, machine
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import until

pytestmark = ROOT

CONNECTORS = """

[home : connector]
type = mailbox
address_spaces = home.test
as_user = maildir
deliver_socket = {socket}
users = alice, bob

[spool : connector]
type = mailbox
address_spaces = spool.test
as_user = mbox
deliver_socket = {socket}
users = bob

[filter : connector]
type = pipe
address_spaces = filter.test
as_user = command
deliver_command = keeps
deliver_socket = {socket}
users = alice
"""


def started(folder: Path, one: Machine) -> Kmqd:
    connectors = NO_DROPS + CONNECTORS.format(socket=one.path)
    kmqd = Kmqd(folder, domains="local.test, home.test, spool.test, filter.test", drops=connectors, workers=1)
    kmqd.start()
    return kmqd


def send(kmqd: Kmqd, *to: str) -> None:
    with smtplib.SMTP("127.0.0.1", kmqd.port, timeout=60) as client:
        client.sendmail("eve@far.test", to, "Subject: x\n\nhello\n")


def test_each_has_his_mail_as_his_own(tmp_path: Path) -> None:
    with machine() as one:
        one.command("keeps", "cat > $HOME/kept")
        kmqd = started(tmp_path, one)
        try:
            send(kmqd, "alice+lists@home.test", "bob@home.test", "bob@spool.test", "alice@filter.test")
            kmqd.drain()
            assert not kmqd.accidents()
        finally:
            kmqd.close()
        for name, uid in (("alice", 3001), ("bob", 3002)):
            (path,) = (one.home(name) / "Maildir/new").iterdir()
            assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (uid, 0o600)
            assert b"Return-Path: <eve@far.test>\nDelivered-To: " in path.read_bytes()
        assert ((one.spool / "bob").stat().st_uid, (one.spool / "bob").stat().st_gid) == (3002, MAIL)
        assert (one.home("alice") / "kept").stat().st_uid == 3001
        assert (one.home("alice") / "kept").read_bytes().endswith(b"\nhello\n")


def test_mail_waits_while_there_is_no_kmq_deliver_and_comes_once(tmp_path: Path) -> None:
    with machine() as one:
        kmqd = started(tmp_path, one)
        try:
            assert one.stop() == 0
            send(kmqd, "alice@home.test")
            until(lambda: "kmq-deliver cannot be reached" in kmqd.log, "it is deferred, with the reason")
            assert len(kmqd.queued()) == 1
            one.start()
            kmqd.drain()
        finally:
            kmqd.close()
        assert len(list((one.home("alice") / "Maildir/new").iterdir())) == 1
