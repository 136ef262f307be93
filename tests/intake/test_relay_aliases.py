"""The classic tries to relay, against the routes of a real configuration: with aliases, catch-alls, addresses in
brackets that are ours, and users who have mailboxes.
"""

from pathlib import Path

import pytest

from kmq.config import read
from kmq.intake.rules import Client
from kmq.intake.session import Session
from kmq.routing.table import Routes
from tests.intake import doors
from tests.intake.doors import Talk
from tests.intake.test_relay import OUTSIDE, TRIES

CONFIGURATION = """
[kmq]
hostname = mx.us.test
local_domains = us.test, all.test
alias_files = aliases

[in : receiver]
listen = 192.0.2.1:25
relay_from = 127.0.0.0/8

[boxes : connector]
type = mailbox
maildir = /m/{user}
users = bob

[out : connector]
type = dns
address_spaces = *
"""

ALIASES = """
@all.test: @us.test
root: bob
info: bob, partner@far.test
"""


@pytest.fixture(autouse=True)
def real_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Talk asks these routes; the receiver listens on 192.0.2.1, the address in the tries."""
    (tmp_path / "aliases").write_text(ALIASES)
    made = Routes(read(CONFIGURATION, "kmq.conf", str(tmp_path), "mx"))
    monkeypatch.setattr(doors, "Routes", lambda *_: made)
    assert made.is_local("[192.0.2.1]")
    assert Session is doors.Session and Client is doors.Client


MORE = [
    ("<a@a.test>", "<v%v.test@all.test>"),  # a catch-all is no way to elsewhere
    ("<a@a.test>", '<"v@v.test"@all.test>'),
    ("<a@a.test>", "<v.test!v@all.test>"),
    ("<a@a.test>", "<@all.test:v@v.test>"),
    ("<a@a.test>", "<root%v.test@us.test>"),
    ("<a@a.test>", "<abuse%v.test@[192.0.2.1]>"),
    ("<a@a.test>", "<partner@far.test>"),  # an alias leads there; nobody may by himself
    ("<root@us.test>", "<partner@far.test>"),
]


@pytest.mark.parametrize(("sender", "recipient"), TRIES + MORE)
def test_an_outsider_cannot_relay(sender: str, recipient: str) -> None:
    client = Talk(OUTSIDE)
    client.send(b"EHLO mx.us.test\r\n")
    client.codes(f"MAIL FROM:{sender}\r\n".encode())
    (code,) = client.codes(f"RCPT TO:{recipient}\r\n".encode())
    assert code >= 500
    assert client.codes(b"DATA\r\n") == [503]
    assert client.door.messages == []


@pytest.mark.parametrize(
    "recipient",
    [
        "<bob@us.test>",
        "<BOB@[192.0.2.1]>",
        "<postmaster>",
        "<postmaster@all.test>",
        "<abuse@us.test>",
        "<root@all.test>",
        "<info@us.test>",
        "<whoever@all.test>",
    ],
)
def test_an_outsider_may_write_to_us(recipient: str) -> None:
    client = Talk(OUTSIDE, greeted=True)
    assert client.codes(b"MAIL FROM:<a@a.test>\r\n", f"RCPT TO:{recipient}\r\n".encode()) == [250, 250]
