"""Limits per minute on what clients of the net do, over all receiver processes together."""

import os

import pytest

from kmq.intake.rates import Meter, Rates
from kmq.intake.rules import Client
from tests.intake.doors import NOW, Talk, receiver
from tests.intake.serving import Peer, run, serving

ONE, OTHER = Client("192.0.2.1", False), Client("192.0.2.2", False)


def taken(rates: Rates, meter: Meter, client: Client, times: int, now: float = NOW) -> int:
    return sum(rates.takes(meter, client, now) for _ in range(times))


#: An option, what it limits, and whether one client uses it up for the other.
OPTIONS = [
    ("client_messages_per_minute", Meter.MESSAGES, False),
    ("client_recipients_per_minute", Meter.RECIPIENTS, False),
    ("client_connections_per_minute", Meter.CLIENT_CONNECTIONS, False),
    ("connections_per_minute", Meter.CONNECTIONS, True),
]


@pytest.mark.parametrize(("option", "meter", "together"), OPTIONS)
def test_a_limit_is_that_of_its_meter(option: str, meter: Meter, together: bool) -> None:
    rates = Rates(receiver(**{option: 3}))
    assert taken(rates, meter, ONE, 5) == 3
    assert taken(rates, meter, OTHER, 5) == (0 if together else 3)
    for free in set(Meter) - {meter}:
        assert taken(rates, free, ONE, 50) == 50
    assert taken(rates, meter, ONE, 5, NOW + 120) == 3, "the minute is over"


def test_who_is_exempt_is_not_counted() -> None:
    rates = Rates(receiver(connections_per_minute=2, client_messages_per_minute=1))
    relay = ONE._replace(unlimited=True)
    assert taken(rates, Meter.MESSAGES, relay, 9) == taken(rates, Meter.CONNECTIONS, relay, 9) == 9
    assert taken(rates, Meter.CONNECTIONS, OTHER, 9) == 2


def test_a_user_is_one_client_wherever_he_is() -> None:
    rates = Rates(receiver(client_messages_per_minute=3))
    at_home, under_way = ONE._replace(user="alice"), OTHER._replace(user="alice")
    assert taken(rates, Meter.MESSAGES, at_home, 2) + taken(rates, Meter.MESSAGES, under_way, 2) == 3
    assert taken(rates, Meter.MESSAGES, ONE, 3) == 3, "whoever else is at that address"


def test_processes_count_together_and_a_reload_forgets_nothing() -> None:
    fd = os.memfd_create("rates")
    section = receiver(client_messages_per_minute=4, client_recipients_per_minute=2)
    first, second = Rates(section, fd, 0, 2), Rates(section, fd, 1, 2)
    assert [one.takes(Meter.MESSAGES, ONE, NOW) for one in (first, second, first, second, first)] == [True] * 4 + [
        False
    ]
    assert [one.takes(Meter.RECIPIENTS, ONE, NOW) for one in (first, second, second)] == [True, True, False]
    for one in (first, second):
        one.configure(receiver(client_messages_per_minute=5), fd, 3)
    assert first.takes(Meter.MESSAGES, ONE, NOW)
    assert not second.takes(Meter.MESSAGES, ONE, NOW)
    assert taken(first, Meter.RECIPIENTS, ONE, 9) == 9, "that limit is gone"
    third = Rates(receiver(client_messages_per_minute=6), fd, 2, 3)
    assert [third.takes(Meter.MESSAGES, ONE, NOW) for _ in range(2)] == [True, False]
    os.close(fd)


def test_what_a_client_hears() -> None:
    section = receiver(client_messages_per_minute=2, client_recipients_per_minute=3)
    talk = Talk(section=section, greeted=True, rates=Rates(section))
    talk.mail(b"hi\r\n.\r\n", to=("bob@us.test", "eve@us.test"))
    talk.send(b"MAIL FROM:<alice@client.test>\r\nRCPT TO:<bob@us.test>\r\n")
    assert talk.send(b"RCPT TO:<eve@us.test>\r\n") == ["450 4.7.1 Too many recipients of yours in the last minute"]
    assert talk.codes(b"DATA\r\n", b"hi\r\n.\r\n") == [354, 250]
    assert talk.send(b"MAIL FROM:<a@b.test>\r\n") == ["450 4.7.1 Too many messages of yours in the last minute"]
    assert [message.head.sender for message in talk.door.messages] == ["alice@client.test"] * 2
    assert [note.keys.get("to") for note in talk.notes if note.event == "refused"] == ["eve@us.test", None]


@pytest.mark.parametrize("loop", ["uvloop"])
def test_who_connects_too_often_is_turned_away(loop: str) -> None:
    async def story() -> None:
        async with serving(client_connections_per_minute=2) as smtpd:
            heard = []
            for _ in range(3):
                async with Peer(smtpd.port) as peer:
                    heard.append(await peer.hear())
            assert [line[:4] for line in heard[:2]] == ["220 ", "220 "]
            assert heard[2] == "421 4.7.0 Too many connections of yours in the last minute"
            assert smtpd.counts["turned-away"] == 1

    run(loop, story)
