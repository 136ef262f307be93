"""Connectors that deliver as the user, as an operator sees them: is kmq-deliver there, and where does mail go?"""

import socket

import pytest

from kmq.config import read
from kmq.run import identities
from kmq.spool.disk import Disk
from kmq.spool.layout import prepare
from tests.cli.conftest import Place
from tests.waiting import free_port

HOME = "\n[home : connector]\ntype = mailbox\nas_user = maildir\nusers = alice\ndeliver_socket = deliver.sock\n"

KINDS = {
    "~alice/Maildir as alice, by kmq-deliver (mailbox, connector home)": "type = mailbox\nas_user = maildir\n",
    "/var/mail/alice as alice, by kmq-deliver (mailbox, connector home)": "type = mailbox\nas_user = mbox\n",
    "procmail as alice, by kmq-deliver (a command, connector home)": (
        "type = pipe\nas_user = command\ndeliver_command = procmail\n"
    ),
}


def test_check_asks_whether_kmq_deliver_is_there(place: Place) -> None:
    prepare(Disk(place.spool))
    place.configure(port=free_port())
    place.path.write_text(place.path.read_text() + HOME)
    path = place.path.parent / "deliver.sock"
    status, out, _ = place.run("check")
    assert status == 78
    assert f"[home] as_user: kmq-deliver cannot be reached at {path}: No such file or directory\n" in out
    assert "systemctl enable --now kmq-deliver.socket, see kmq-deliver(8); until then this mail waits" in out
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(5)
        status, out, _ = place.run("check")
    assert status == 0
    assert f"OK     kmq-deliver at {path}\n" in out


@pytest.mark.parametrize("told", KINDS)
def test_route_says_as_whom_and_check_looks_for_no_other_program(place: Place, told: str) -> None:
    prepare(Disk(place.spool))
    place.path.write_text(
        f"[kmq]\nhostname = mx.example.org\nspool = {place.spool}\nlocal_domains = example.org\n"
        f"[home : connector]\nusers = alice\n{KINDS[told]}"
    )
    _, out, _ = place.run("route", "alice+x@example.org")
    assert f"  next hop    {told}\n" in out
    _, out, _ = place.run("check")
    assert [line for line in out.splitlines() if line.startswith("WRONG")] == [
        line for line in out.splitlines() if "as_user: kmq-deliver cannot be reached" in line
    ]


def test_what_is_done_as_the_user_tells_connectors_apart() -> None:
    """So that a connector with another name keeps its queue only when it does the same."""
    base = "[kmq]\nhostname = mx.example.org\nlocal_domains = example.org\n[home : connector]\nusers = alice\n"
    ways = {identities._way(read(base + kind, "k", "/", "mx").connectors[0]) for kind in KINDS.values()}
    assert len(ways) == 3
