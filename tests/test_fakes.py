"""The servers that tests talk to do what they promise; seen by a client that is none of ours."""

import smtplib

import pytest

from tests.fakes import EvilHop

TEXT = b"Message-ID: <1@kmq.test>\r\n\r\n.dot\r\n"


def send(hop: EvilHop, *to: str) -> None:
    with smtplib.SMTP(*hop.address, timeout=10) as client:
        client.sendmail("s@kmq.test", to, TEXT)


def test_copies_are_counted_per_recipient_and_message() -> None:
    with EvilHop().threaded() as hop:
        send(hop, "a@b.test", "c@b.test")
        send(hop, "a@b.test")
        assert hop.copies["a@b.test", "<1@kmq.test>"] == 2
        assert hop.delivered("c@b.test") == 1
        assert hop.messages[0].body == TEXT


def test_so_many_times_it_goes_wrong() -> None:
    with EvilHop().threaded() as hop:
        for _ in range(2):
            with pytest.raises(smtplib.SMTPServerDisconnected):
                send(hop, "drop-after-dot-2@b.test")
        send(hop, "drop-after-dot-2@b.test")
        assert hop.delivered("drop-after-dot-2@b.test") == 3
        with pytest.raises(smtplib.SMTPDataError):
            send(hop, "451-at-dot-1@b.test")
        send(hop, "451-at-dot-1@b.test")
        assert hop.delivered("451-at-dot-1@b.test") == 1, "what was refused is no copy"
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(hop, "550-at-rcpt@b.test")


def test_a_banner_can_say_no() -> None:
    with EvilHop(banner="554 5.7.1 go away").threaded() as hop, pytest.raises(smtplib.SMTPConnectError):
        send(hop, "a@b.test")
