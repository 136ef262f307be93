"""Asking others for our mail with ETRN: whom, for what, when, and what is told of it."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from kmq import log
from kmq.config import Settings, read
from kmq.errors import ConfigError
from kmq.phases.smtp_etrn import Said, ask
from kmq.run.upstream import Upstream
from tests.fakes import EvilHop
from tests.phases.sending import until

TEXT = """
[kmq]
hostname = mx.test

[isp : connector]
type = smarthost
address_spaces = *
hosts = 127.0.0.1:{port}
tls = never
delivery = offline
send_at = {at}
etrn_domains = a.test, b.test
{more}
"""

NOON = 1_793_620_800.0  # 2026-11-02 12:00 UTC
OK = "250 2.0.0 OK, queuing for node a.test started"


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    monkeypatch.setenv("TZ", "UTC")
    return request.param  # type: ignore[no-any-return]


def settings(port: int, more: str = "", at: str = "12:30") -> Settings:
    return read(TEXT.format(port=port, more=more, at=at), "kmq.conf", "/etc")


async def said(port: int, more: str = "") -> list[Said]:
    (section,) = settings(port, more).connectors
    async with asyncio.timeout(20):
        return await ask(section, "mx.test")


def test_every_domain_is_asked_for_and_every_answer_is_told(run: Callable[[Any], Any]) -> None:
    async def story() -> None:
        async with EvilHop(etrn={"a.test": OK}) as hop:
            found = await said(hop.port)
            assert [(one.node, str(one.reply)) for one in found] == [
                ("a.test", OK),
                ("b.test", "458 4.3.0 nobody here"),
            ]
            assert found[0].server == f"127.0.0.1[127.0.0.1]:{hop.port}"
            assert hop.commands == [b"EHLO mx.test", b"ETRN a.test", b"ETRN b.test", b"QUIT"]

    run(story())


def test_every_server_is_asked_and_one_that_is_away_hinders_nobody(run: Callable[[Any], Any]) -> None:
    async def story() -> None:
        async with EvilHop() as first, EvilHop(etrn={"a.test": OK, "b.test": OK}) as second:
            servers = f"etrn_servers = 127.0.0.1:1, 127.0.0.1:{first.port}, 127.0.0.1:{second.port}"
            found = await said(9, servers)
            assert [one.reply.code for one in found] == [451, 451, 458, 458, 250, 250]
            assert "Connection refused" in found[0].reply.text

    run(story())


@pytest.mark.parametrize(
    ("etrn", "patience", "says"),
    [
        ({"a.test": "this is no SMTP"}, "60s", "not an SMTP reply"),
        ({"a.test": "250-and so on"}, "300ms", "did not answer in time"),
        ({"a.test": "421 4.3.2 going down"}, "60s", "going down"),
    ],
)
def test_a_server_that_talks_nonsense_or_nothing_is_told_and_left(
    etrn: dict[str, str], patience: str, says: str
) -> None:
    async def story() -> None:
        async with EvilHop(etrn=etrn) as hop:
            found = await said(hop.port, f"mail_timeout = {patience}")
            assert says in found[0].reply.text
            assert len(found) == 2
        assert not hop.open

    asyncio.run(story())


def test_it_is_asked_when_the_time_comes_and_once(run: Callable[[Any], Any], capfd: pytest.CaptureFixture[str]) -> None:
    now = NOON
    log.start("worker-1", "info")

    async def story() -> None:
        nonlocal now
        async with EvilHop(etrn={"a.test": OK}) as hop:
            upstream = Upstream(settings(hop.port), lambda: now)
            upstream._look()
            now += 1799
            upstream._look()
            await asyncio.sleep(0.01)
            assert hop.commands == []
            now += 1
            upstream._look()
            upstream._look()
            await until(lambda: hop.quits and not upstream._asking, "it was asked, and all was told", 60)
            now += 60
            upstream._look()
            await asyncio.sleep(0.01)
            assert [line for line in hop.commands if line.startswith(b"EHLO")] == [b"EHLO mx.test"]
            upstream.close()

    run(story())
    log.flush()
    told = capfd.readouterr().err
    assert re.search(r'etrn relay=127\.0\.0\.1\[127\.0\.0\.1\]:\d+ reply="250 2\.0\.0 OK.* node=a\.test', told)
    assert 'reply="458 4.3.0 nobody here" node=b.test' in told


def test_a_new_configuration_counts_and_one_without_domains_asks_nobody() -> None:
    async def story() -> None:
        upstream = Upstream(settings(9), lambda: NOON)
        upstream._look()
        upstream.configure(settings(9, at="13:00"))
        upstream._look()
        assert upstream._hours["isp"].next == NOON + 3600
        upstream.configure(settings(9, "enabled = no"))
        assert not upstream._hours
        upstream._look()
        assert upstream._timer is None
        upstream.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT.replace("delivery = offline\nsend_at = {at}", ""), "at the times of a timetable"),
        (
            TEXT.replace("etrn_domains = a.test, b.test", "etrn_servers = x.test"),
            "etrn_servers is set and etrn_domains is not",
        ),
        (
            TEXT.replace("type = smarthost", "type = dns").replace("hosts = 127.0.0.1:{port}", ""),
            "etrn_domains is for type",
        ),
    ],
)
def test_what_cannot_be_meant(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(text.format(port=25, at="12:30", more=""), "kmq.conf", "/etc")
