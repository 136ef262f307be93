"""How long a client is waited for: the arithmetic, without clocks."""

from kmq.intake.patience import Patience
from tests.intake.doors import Talk, receiver

MAIL = b"MAIL FROM:<a@a.test>\r\nRCPT TO:<bob@us.test>\r\n"


def waiting(**options) -> tuple[Talk, Patience]:
    section = receiver(command_timeout=300, transaction_timeout=600, minimum_rate=500, **options)
    talk = Talk(section=section, greeted=True)
    return talk, Patience(section, 1000)


def over(talk: Talk, patience: Patience, now: float, held: bool = False) -> bool:
    return patience.is_over(talk.session, now, held)


def send(talk: Talk, patience: Patience, read: bytes) -> None:
    patience.received += len(read)
    talk.send(read)


def test_a_client_has_its_time_for_each_command():
    talk, patience = waiting()
    assert not over(talk, patience, 1001)
    assert not over(talk, patience, 1301)
    assert over(talk, patience, 1302)
    send(talk, patience, b"NOOP\r\n")
    assert not over(talk, patience, 1302)
    assert not over(talk, patience, 1602)
    assert over(talk, patience, 1603)


def test_half_a_command_is_none():
    talk, patience = waiting()
    assert not over(talk, patience, 1001)
    for now in range(1002, 1302):
        send(talk, patience, b"N")
        assert not over(talk, patience, now) or now > 1301
    assert over(talk, patience, 1302)


def test_bytes_of_a_message_are_heard():
    talk, patience = waiting()
    send(talk, patience, MAIL + b"DATA\r\n")
    for now in range(1000, 1600, 200):
        assert not over(talk, patience, now)
        send(talk, patience, b"x")


def test_a_transaction_has_its_time_and_what_its_bytes_take():
    talk, patience = waiting()
    send(talk, patience, MAIL)
    assert not over(talk, patience, 1000)
    for number, now in enumerate(range(1100, 1700, 100)):
        send(talk, patience, b"RCPT TO:<u%d@us.test>\r\n" % number)
        assert not over(talk, patience, now)
    send(talk, patience, b"DATA\r\n")
    send(talk, patience, b"x" * 50_000)
    assert not over(talk, patience, 1600)
    send(talk, patience, b"x")
    assert not over(talk, patience, 1700), "600 s, and 50,000 bytes at 500 a second"
    send(talk, patience, b"x")
    assert over(talk, patience, 1701)


def test_each_transaction_begins_anew():
    talk, patience = waiting()
    for start in range(1000, 4000, 500):
        send(talk, patience, MAIL + b"DATA\r\n")
        assert not over(talk, patience, start)
        send(talk, patience, b"x\r\n.\r\n")
    assert not over(talk, patience, 3700), "the last command was 200 s ago, and no transaction is under way"


def test_our_own_slowness_is_not_held_against_anybody():
    talk, patience = waiting()
    talk.door.slow = True
    send(talk, patience, MAIL + b"DATA\r\n")
    send(talk, patience, b"x\r\n.\r\n")
    assert not over(talk, patience, 1000)
    assert not over(talk, patience, 9000)
    talk.door.open_up()
    assert not over(talk, patience, 9001)
    assert over(talk, patience, 9302)


def test_a_disk_that_is_behind_is_not_the_client_s_silence():
    talk, patience = waiting()
    assert not over(talk, patience, 1500, held=True)
    assert not over(talk, patience, 1800)
    assert over(talk, patience, 1801)
