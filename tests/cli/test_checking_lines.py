"""`kmq check` of connectors that have addresses and hours of their own; what the DNS says of such an address."""

from pathlib import Path

import pytest

from kmq.admin.check_lines import lines
from kmq.admin.doctor_names import Answers, Said, of_source, sources_of
from kmq.admin.verdict import Grade
from kmq.config import Settings, read

TEXT = """
[kmq]
hostname = mx.example.org

[isp : connector]
type = smarthost
address_spaces = *
hosts = smtp.isp.example
{options}
"""


def settings(*options: str) -> Settings:
    return read(TEXT.format(options="\n".join(options)), "kmq.conf", "/etc")


def told(*options: str) -> list[tuple[Grade, str]]:
    return [(one.grade, one.what) for one in lines(settings(*options))]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr("kmq.admin.check_lines.time.time", lambda: 1_793_620_800.0)  # 2026-11-02 12:00, a Monday


def test_an_ordinary_connector_is_not_told_of() -> None:
    assert told() == []


def test_addresses_are_looked_for_one_by_one() -> None:
    assert told("source_address = 127.0.0.1, 2001:db8::25") == [
        (Grade.GOOD, "[isp] source_address = 127.0.0.1 is an address of this machine"),
        (
            Grade.WRONG,
            "[isp] source_address = 2001:db8::25 is no address of this machine: Cannot assign requested address",
        ),
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            "delivery = offline, send_every = 30m, days = mon",
            "offline, sends every 30m, on mon: next at 2026-11-02 12:30 UTC",
        ),
        (
            "delivery = offline, send_at = 11:00, days = mon",
            "offline, sends at 11:00, on mon: next at 2026-11-09 11:00 UTC",
        ),
        ("delivery = offline", "offline: sends when it is asked for (ETRN, kmq flush)"),
        ("between = 08:00-18:00", "works between 08:00-18:00: until 2026-11-02 18:00 UTC"),
        ("between = 13:00-18:00", "works between 13:00-18:00: from 2026-11-02 13:00 UTC"),
    ],
)
def test_hours_are_told_with_what_comes_next(options: str, says: str) -> None:
    assert told(*options.split(", ")) == [(Grade.GOOD, f"[isp] {says}")]


def test_what_is_disabled_is_not_looked_at() -> None:
    assert told("enabled = no", "source_address = 192.0.2.99", "delivery = offline") == []


def test_the_name_that_is_said_from_an_address_should_lead_to_it() -> None:
    found = settings("source_address = 1.1.1.25", "helo = out.example.org")
    assert sources_of(found) == [("1.1.1.25", "out.example.org")]
    answers: Answers = {("out.example.org", "A"): Said(("1.1.1.25",))}
    assert list(of_source("1.1.1.25", "out.example.org", answers)) == []
    (verdict,) = of_source("1.1.1.25", "out.example.org", {("out.example.org", "A"): Said(("1.1.1.1",))})
    assert verdict.what == "helo = out.example.org leads to 1.1.1.1, and is said from 1.1.1.25"
    assert list(of_source("10.0.0.1", "out.example.org", {})) == []


def test_a_token_that_cannot_be_had_is_told_ahead(tmp_path: Path) -> None:
    from kmq.config.certificates import unusable

    token = tmp_path / "token"
    options = ("tls = must", "auth_user = me", "auth = xoauth2")
    given = settings(*options, f"token_file = {token}")
    (found,) = (one for _, one in unusable(given))
    assert found.text == f"token_file = {token} is not there"
    token.write_text("two words\n")
    (found,) = (one for _, one in unusable(given))
    assert found.text == f"token_file = {token} has no token in its first line"
    token.write_text("ya29.abc\n")
    assert list(unusable(given)) == []
    (found,) = (one for _, one in unusable(settings(*options, "token_command = /nowhere/token -x")))
    assert found.text == "token_command = /nowhere/token -x names a program that this user cannot run"
