"""`kmq check` of connectors that deliver as the user: is kmq-deliver there?"""

import socket

from kmq.spool.disk import Disk
from kmq.spool.layout import prepare
from tests.cli.conftest import Place
from tests.waiting import free_port

HOME = "\n[home : connector]\ntype = mailbox\nas_user = maildir\nusers = alice\ndeliver_socket = deliver.sock\n"


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
