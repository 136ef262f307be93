"""The classic tries to relay against a real kmqd that would send anything anywhere for those that it trusts."""

import smtplib
from pathlib import Path

from tests.fakes import EvilHop
from tests.intake.test_relay import TRIES
from tests.intake.test_relay_aliases import MORE
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import free_port, until

OUTSIDE = """

[outside : receiver]
listen = 127.0.0.1:{port}
relay_from = 192.0.2.77
"""


def ours(address: str) -> str:
    """The tries name us us.test, all.test and 192.0.2.1."""
    return address.replace("us.test", "local.test").replace("all.test", "local.test").replace("192.0.2.1", "127.0.0.1")


def attempt(port: int, sender: str, recipient: str) -> list[int]:
    """The replies to MAIL, RCPT and DATA; a message is sent when DATA was taken."""
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.ehlo("mx.local.test")
        codes = [
            client.docmd(f"MAIL FROM:{sender}")[0],
            client.docmd(f"RCPT TO:{recipient}")[0],
            client.docmd("DATA")[0],
        ]
        if codes[2] == 354:
            client.send(b"Subject: relayed\r\n\r\nx\r\n.\r\n")
            client.getreply()
    return codes


def test_an_outsider_cannot_relay(tmp_path: Path) -> None:
    """Reliability: the relay list, rows 1 to 26."""
    port = free_port()
    with EvilHop().threaded() as hop:
        drops = NO_DROPS + OUTSIDE.format(port=port)
        kmqd = Kmqd(tmp_path / "k", hops={"*": hop.port}, workers=1, drops=drops)
        try:
            kmqd.start()
            for sender, recipient in TRIES + MORE:
                mail, rcpt, data = attempt(port, ours(sender), ours(recipient))
                assert (rcpt >= 500, data) == (True, 503), (sender, recipient, mail, rcpt, data)
            for verb in ("ETRN v.test", "TURN", "XCLIENT ADDR=127.0.0.1", "XFORWARD ADDR=127.0.0.1", "PROXY TCP4 ::1"):
                with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
                    assert client.docmd(verb)[0] == 500
            assert attempt(port, "<a@a.test>", "<postmaster>")[1:] == [250, 354]
            assert attempt(port, "<a@a.test>", "<bob@local.test>")[1:] == [250, 354]
            kmqd.drain()
            assert hop.messages == [], "nothing went out"
            assert attempt(kmqd.port, "<a@a.test>", "<v@v.test>") == [250, 250, 354], "those we trust may"
            until(lambda: hop.delivered("v@v.test") == 1, "it goes out")
            assert kmqd.accidents() == []
        finally:
            kmqd.close()
