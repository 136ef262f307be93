"""Scanners in the configuration: what a section says, and its mistakes with line and remedy."""

import pytest

from kmq.config import Settings, read, show
from kmq.errors import ConfigError

BASE = """\
[kmq]
hostname = mx.example.org
workers = 2
"""


def settings(text: str) -> Settings:
    return read(BASE + text, "kmq.conf", "/etc/kmq", "mx")


def test_scanners_stand_in_their_order_and_take_what_they_do_not_say_from_their_kind() -> None:
    found = settings(
        "[scanner]\ntime_limit = 20s\n"
        "[junk : scanner]\ntype = rspamd\naddress = localhost:11333\n"
        "[virus : scanner]\ntype = clamd\naddress = /run/clamav/clamd.ctl\ninfected = remove\n"
        "forward_filtered = Admin@Example.ORG\ntime_limit = 1m\n"
        "[virus6 : scanner]\ntype = clamd\naddress = [::1]:3310\n"
    ).scanners
    assert [(one.name, one.address, one.time_limit) for one in found] == [
        ("junk", ("localhost", 11333), 20.0),
        ("virus", "/run/clamav/clamd.ctl", 60.0),
        ("virus6", ("::1", 3310), 20.0),
    ]
    assert found[1].forward_filtered == "Admin@example.org"
    assert (found[2].infected, found[2].failure) == ("quarantine", "wait"), "no mail is lost unless somebody says so"


def test_what_is_shown_gives_the_same_settings() -> None:
    before = settings("[virus : scanner]\ntype = clamd\naddress = 127.0.0.1:3310\nwarning_subject = [look out]\n")
    again = read(show(before), "kmq.conf", "/etc/kmq", "mx")
    assert again.scanners == before.scanners
    assert "[virus : scanner]" in show(before)


def test_without_scanners_there_are_none() -> None:
    assert settings("").scanners == ()


@pytest.mark.parametrize(
    ("lines", "line", "told"),
    [
        ("address = /s", 4, "type is missing: write type = clamd, or rspamd"),
        ("type = clamd", 4, "address is missing: write address = /run/clamav/clamd.ctl"),
        ("type = rspamd", 4, "address is missing: write address = 127.0.0.1:11333"),
        ("type = clamav\naddress = /s", 5, "'clamav' is not one of clamd, rspamd; did you mean 'clamd'?"),
        ("type = clamd\naddress = run/clamd.ctl", 6, "neither the absolute path of a socket nor host:port"),
        ("type = clamd\naddress = unix:/run/x.sock", 6, "how other programs write it: write /run/x.sock"),
        ("type = clamd\naddress = inet:8891@localhost", 6, "write localhost:8891"),
        ("type = clamd\naddress = inet:localhost:8891", 6, "write localhost:8891"),
        ("type = clamd\naddress = 127.0.0.1:99999", 6, "port '99999' is not a number from 1 to 65535"),
        ("type = clamd\naddress = 127.0.0.1:", 6, "the port is missing after the colon"),
        ("type = clamd\naddress = 10.0.0.1:1, 10.0.0.2:1", 6, "one address is needed"),
        ("type = clamd\naddress = /" + "x" * 107, 6, "at most 107 bytes"),
        ("type = clamd\naddress = /s\nspam = discard", 7, "spam is for type = rspamd; this one is type = clamd"),
        ("type = rspamd\naddress = h:1\ninfected = discard", 7, "infected is for type = clamd; this one is type"),
        ("type = clamd\naddress = /s\nconnections = 1", 7, "connections is less than workers = 2"),
        ("type = clamd\naddress = /s\nforward_original = boss", 7, "'boss' is no mail address"),
        ("type = clamd\naddress = /s\nforward_filtered = a@example.org", 7, "needs infected = remove"),
        ("type = clamd\naddress = /s\n[b : scanner]\ntype = clamd\naddress = /s", 9, "[a] asks /s already"),
        ("type = clamd\naddress = /s\nfailure = close", 7, "'close' is not one of wait, open"),
        ("type = clamd\naddress = /s\ninfect = discard", 7, "did you mean 'infected'?"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_would_be_right(lines: str, line: int, told: str) -> None:
    with pytest.raises(ConfigError) as found:
        settings(f"[a : scanner]\n{lines}\n")
    assert str(found.value).startswith(f"kmq.conf:{line}: [")
    assert told in str(found.value)


def test_a_scanner_from_which_others_inherit_may_lack_what_it_needs() -> None:
    found = settings("[basic : scanner]\ntype = clamd\n[one : basic]\naddress = /s\n").scanners
    assert [one.name for one in found] == ["one"]
