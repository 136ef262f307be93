"""How a connector logs in, where it speaks from, and the hours in which it sends: values, mistakes, doubts."""

import pytest

from kmq.config import Settings, read, timetable
from kmq.config import login as login_kinds
from kmq.errors import ConfigError

TEXT = """\
[kmq]
hostname = mx.example.org
[queue]
{queue}
[in : receiver]
listen = 127.0.0.1:25
{receiver}
[isp : connector]
type = smarthost
address_spaces = *
hosts = smtp.isp.example
{connector}
"""


def settings(connector: str = "", queue: str = "", receiver: str = "") -> Settings:
    return read(TEXT.format(connector=connector, queue=queue, receiver=receiver), "kmq.conf", "/etc/kmq")


def mistakes(connector: str = "", queue: str = "") -> str:
    with pytest.raises(ConfigError) as wrong:
        settings(connector, queue)
    assert wrong.value.exit_status == 78
    return str(wrong.value)


# --- kinds ------------------------------------------------------------------------------------------------------------


def test_times_and_ranges() -> None:
    assert timetable.times().parse("12:30, 8:05") == (485, 750)
    assert timetable.ranges().parse("07:00-19:00, 22:00-06:00\n00:00-24:00") == ((420, 1140), (1320, 360), (0, 1440))
    assert timetable.days().parse("mon-fri") == (0, 1, 2, 3, 4)
    assert timetable.days().parse("fri-mon, Wed") == (0, 2, 4, 5, 6)
    assert timetable.days().parse("") == ()
    assert timetable.interval().parse("") == 0.0
    assert timetable.interval().parse("90m") == 5400.0


@pytest.mark.parametrize("text", ["8", "8:5", "24:00", "08:60", "-1:00", "08:00:00", "8h", "٠٨:00", "008:00"])
def test_no_time_of_the_day(text: str) -> None:
    with pytest.raises(ValueError, match="no time of the day"):
        timetable.times().parse(text)


@pytest.mark.parametrize("text", ["07:00", "07:00-07:00", "24:00-08:00", "07:00-25:00", "-", "7-8"])
def test_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        try:
            timetable.ranges().parse(text)
        except ValueError as wrong:
            raise ValueError(f"{wrong} write") from None


@pytest.mark.parametrize("text", ["monday", "mon-", "1-5", "-fri", "mon_fri"])
def test_no_day(text: str) -> None:
    with pytest.raises(ValueError, match="no day of the week"):
        timetable.days().parse(text)


def test_addresses_to_speak_from() -> None:
    kind = login_kinds.source_addresses()
    assert kind.parse("192.0.2.25, 2001:DB8::25") == ("192.0.2.25", "2001:db8::25")
    assert kind.parse("") == ()
    for text in ("mx.example.org", "0.0.0.0", "::", "224.0.0.1", "192.0.2.1, 192.0.2.2", "192.0.2.0/24"):
        with pytest.raises(ValueError, match="address"):
            kind.parse(text)


# --- mistakes ---------------------------------------------------------------------------------------------------------

SECURE = "tls = must\nauth_user = me\n"


@pytest.mark.parametrize(
    ("connector", "line", "says"),
    [
        (SECURE, 2, "auth_user is set and password_file is not"),
        ("token_file = t", 1, "token_file is set and auth_user is not"),
        ("tls = must\npassword_file = p", 2, "password_file is set and auth_user is not"),
        (
            SECURE + "auth = xoauth2\npassword_file = p",
            3,
            "auth = xoauth2 needs a token: write token_file or token_command",
        ),
        (SECURE + "auth = plain\ntoken_file = t", 3, "auth = plain has no use for a token"),
        (SECURE + "token_file = t\ntoken_command = /bin/t", 4, "token_command stands beside token_file"),
        ("tls = may\nauth_user = me\npassword_file = p", 2, "with tls = may the password could go in clear"),
        ("auth = ntlm", 1, "'ntlm' is not one of auto, xoauth2, cram-md5, plain, login"),
        ("token_command = token", 1, "'token'"),
        ("source_address = 192.0.2.1, 192.0.2.2", 1, "'192.0.2.2' is the second address of IPv4"),
        ("delivery = sometimes", 1, "'sometimes' is not one of online, offline"),
        ("send_at = 08:00", 1, "send_at is for mail that waits: write delivery = offline beside it"),
        ("send_every = 10m", 1, "send_every is for mail that waits"),
        ("delivery = offline\nsend_every = 10s", 2, "10s is too little: at least 1m"),
        (
            "delivery = offline\nsend_at = 19:00\nbetween = 07:00-19:00",
            2,
            "send_at = 19:00 lies in no range of between",
        ),
        ("delivery = offline\nbetween = 7-19", 2, "'7' is no time of the day"),
        ("days = mon-sunday", 1, "'sunday' is no day of the week"),
        ("delivery = offline\ndial_on_high = yes", 2, "without priority_queuing = yes"),
        ("enabled = perhaps", 1, "'perhaps' is not one of yes, no"),
    ],
)
def test_a_mistake_is_told_with_its_line(connector: str, line: int, says: str) -> None:
    """line: of those that are written behind `hosts`."""
    told = mistakes(connector)
    assert told.startswith(f"kmq.conf:{line + 11}: [isp : connector] ")
    assert says in told


def test_what_goes_together() -> None:
    assert settings("tls = never\nauth = cram-md5\nauth_user = me\npassword_file = p").connectors[0].auth == "cram-md5"
    assert settings(SECURE + "token_file = t\npassword_file = p").connectors[0].token_file == "/etc/kmq/t"
    assert settings("between = 22:00-06:00\nsend_at = 23:00", "delivery = offline").connectors[0].send_at == (1380,)
    one = settings("delivery = offline\ndial_on_high = yes", "priority_queuing = yes").connectors[0]
    assert one.dial_on_high
    assert settings('token_command = /bin/t "a b"\nauth_user = me\ntls = must').connectors[0].token_command == (
        "/bin/t",
        "a b",
    )


# --- doubts -----------------------------------------------------------------------------------------------------------


def warned(connector: str, receiver: str = "") -> str:
    return "\n".join(settings(connector, receiver=receiver).warnings)


def test_what_nobody_ever_sends_is_doubtful() -> None:
    told = warned("delivery = offline")
    assert "kmq.conf:12: [isp : connector] delivery is offline without send_every or send_at" in told
    for more in ("\nsend_at = 08:00", "\nsend_every = 1h"):
        assert warned("delivery = offline" + more) == ""
    assert warned("delivery = offline", "etrn_from = 192.0.2.1") == ""


def test_what_is_disabled_is_told_of() -> None:
    assert "[isp : connector] enabled = no: it serves nobody" in warned("enabled = no")


def test_a_disabled_connector_stands_in_nobody_s_way() -> None:
    """A second one with the same spaces is reached, so it is not doubted."""
    again = "enabled = no\n[two : connector]\ntype = smarthost\naddress_spaces = *\nhosts = b.example"
    assert "no address comes to this connector" not in warned(again)
    assert "no address comes to this connector" in warned(again.replace("enabled = no", ""))
