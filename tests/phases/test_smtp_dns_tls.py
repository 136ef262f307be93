"""TLS on the way out: when it is used, what is verified, what happens when it fails, what is told; and logging in."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmq.model.event import Deferred, Delivered, Failed
from kmq.phases import hosts
from kmq.phases.smtp import Smtp
from kmq.phases.work import Outcome
from tests.certificates import Authority, Pair
from tests.fakes import EvilHop
from tests.phases.dns_world import World, play
from tests.phases.sending import kinds, outcome, section, smtp, work

ZONE = {
    "d.test": ["MX 10 mx1.d.test.", "MX 20 mx2.d.test."],
    "e.test": ["MX 10 mx1.e.test."],
    "mx1.d.test": ["A 127.0.0.2"],
    "mx1.e.test": ["A 127.0.0.2"],
    "mx2.d.test": ["A 127.0.0.3"],
}

SECURE = "TLSv1.3 TLS_AES_256_GCM_SHA384"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def right(authority: Authority) -> Pair:
    return authority.issue("mx1.d.test", "mx2.d.test", "mx1.e.test")


@pytest.fixture(scope="session")
def other(authority: Authority) -> Pair:
    return authority.issue("mx.elsewhere.test")


@pytest.fixture(scope="session")
def expired(authority: Authority) -> Pair:
    return authority.issue("mx1.d.test", "mx2.d.test", days=-1)


def verified(authority: Authority, **more: Any) -> dict[str, Any]:
    """A connector that will have TLS with a certificate of this authority."""
    return {"tls": "must", "tls_ca_file": str(authority.certificate), **more}


def tls(found: Outcome) -> list[str]:
    """What the results tell of TLS."""
    assert found.events
    assert all(isinstance(event, Delivered | Failed | Deferred) for event in found.events)
    return [event.tls for event in found.events]  # type: ignore[attr-defined]


def reason(found: Outcome) -> str:
    assert found.unavailable is not None, found
    assert not found.unavailable.permanent
    return str(found.unavailable)


def in_clear(hop: EvilHop) -> bool:
    """Some mail came without TLS: MAIL ahead of any STARTTLS."""
    verbs = [line.split(b" ")[0] for line in hop.commands]
    return b"MAIL" in verbs and b"STARTTLS" not in verbs


# --- what is used, and told -------------------------------------------------------------------------------------------


def test_may_uses_what_is_offered_whatever_the_certificate(other: Pair, loop_runner: Callable[[Any], Any]) -> None:
    async def story(world: World) -> None:
        await world.serve(2, tls=other.server())
        found = await world.send("a@d.test", "550-at-rcpt@d.test")
        assert kinds(found) == "DF"
        assert tls(found) == [f"{SECURE} unverified"] * 2

    play(story, ZONE, run=loop_runner)


def test_in_clear_nothing_is_told() -> None:
    async def story(world: World) -> None:
        await world.serve(2)
        assert tls(await world.send("a@d.test")) == [""]

    play(story, ZONE)


def test_must_verifies_against_the_name_of_the_mx(
    authority: Authority, right: Pair, loop_runner: Callable[[Any], Any]
) -> None:
    async def story(world: World) -> None:
        await world.serve(2, tls=right.server())
        found = await world.send("a@d.test")
        assert kinds(found) == "D"
        assert tls(found) == [f"{SECURE} verified"]

    play(story, ZONE, run=loop_runner, **verified(authority))


def test_the_name_is_sent_ahead(authority: Authority, right: Pair) -> None:
    """SNI: a server for many names shows the certificate of the one that is meant."""
    names: list[str | None] = []
    context = right.server()
    context.sni_callback = lambda _sock, name, _context: names.append(name)

    async def story(world: World) -> None:
        await world.serve(2, tls=context)
        assert kinds(await world.send("a@d.test")) == "D"
        assert names == ["mx1.d.test"]

    play(story, ZONE, **verified(authority))


def test_verified_connections_are_not_shared_between_names(authority: Authority, right: Pair) -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2, tls=right.server())
        for domain in ("d.test", "e.test", "d.test"):
            found = await world.send(f"a@{domain}")
            assert isinstance(found.events[0], Delivered)
            assert found.events[0].host.startswith(f"mx1.{domain}[")
        assert hop.connections == 2

    play(story, ZONE, **verified(authority))


def test_a_shared_connection_is_told_by_the_name_that_each_domain_has_for_it(other: Pair) -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2, tls=other.server())
        for domain in ("d.test", "e.test"):
            found = await world.send(f"a@{domain}")
            assert isinstance(found.events[0], Delivered)
            assert found.events[0].host.startswith(f"mx1.{domain}[")
        assert hop.connections == 1

    play(story, ZONE)


# --- when it fails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["name", "expired", "authority"])
def test_must_waits_when_the_certificate_is_not_right(
    wrong: str, authority: Authority, other: Pair, expired: Pair, tmp_path: Path
) -> None:
    pair = {"name": other, "expired": expired, "authority": Authority(tmp_path).issue("mx1.d.test")}[wrong]
    told = {
        "name": "Hostname mismatch",
        "expired": "certificate has expired",
        "authority": "unable to get local issuer",
    }

    async def story(world: World) -> None:
        hop = await world.serve(2, tls=pair.server())
        assert told[wrong] in reason(await world.send("a@d.test"))
        assert not any(line.startswith(b"MAIL") for line in hop.commands)

    play(story, {**ZONE, "d.test": ["MX 10 mx1.d.test."]}, **verified(authority))


def test_the_next_mx_is_tried_when_tls_fails(authority: Authority, right: Pair, expired: Pair) -> None:
    async def story(world: World) -> None:
        first = await world.serve(2, tls=expired.server())
        second = await world.serve(3, tls=right.server())
        found = await world.send("a@d.test")
        assert kinds(found) == "D"
        assert tls(found) == [f"{SECURE} verified"]
        assert (len(first.messages), len(second.messages)) == (0, 1)

    play(story, ZONE, **verified(authority))


def test_a_stripped_starttls_gets_no_mail(authority: Authority) -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2)
        assert reason(await world.send("a@e.test")).startswith("451 4.7.4 ")
        assert not any(line.startswith(b"MAIL") for line in hop.commands)

    play(story, ZONE, **verified(authority))


@pytest.mark.parametrize("broken", ["454", "rst", "old"])
def test_clear_comes_after_an_interval_and_wait_never(
    broken: str, other: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 51, and the downgrade of reliability's table: who breaks one handshake must not get the mail for it."""
    server = other.server()
    evil: dict[str, Any] = {"tls": server}
    if broken == "454":
        evil["starttls"] = "454 4.7.0 not now"
    elif broken == "rst":
        evil["handshake"] = "rst"
    else:
        server.maximum_version = ssl.TLSVersion.TLSv1_2
    minimum = "1.3" if broken == "old" else "1.2"

    async def story(world: World) -> None:
        hop = await world.serve(2, **evil)
        for _ in range(2):
            reason(await world.send("a@e.test"))
            assert not any(line.startswith(b"MAIL") for line in hop.commands)
        monkeypatch.setattr(hosts, "CLEAR_AFTER", 0.0)
        hop.commands.clear()
        found = await world.send("a@e.test")
        if patient == "wait":
            reason(found)
            assert not any(line.startswith(b"MAIL") for line in hop.commands)
        else:
            assert tls(found) == [""]
            assert in_clear(hop)
        monkeypatch.setattr(hosts, "CLEAR_AFTER", 60.0)

    for patient in ("wait", "clear"):
        play(story, ZONE, tls="may", tls_failure=patient, tls_minimum=minimum)


def test_may_with_a_name_waits_for_the_right_certificate_where_tls_is_offered(
    authority: Authority, other: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "CLEAR_AFTER", 0.0)

    async def story(world: World) -> None:
        hop = await world.serve(2, tls=other.server())
        for _ in range(3):
            assert "Hostname mismatch" in reason(await world.send("a@e.test"))
        hop.tls = None
        assert kinds(await world.send("a@e.test")) == "D", "not offered, so not wanted"

    play(story, ZONE, **verified(authority, tls="may", tls_verify="name", tls_failure="wait"))


def test_must_without_a_name_takes_any_certificate(other: Pair) -> None:
    async def story(world: World) -> None:
        await world.serve(2, tls=other.server())
        assert tls(await world.send("a@d.test")) == [f"{SECURE} unverified"]

    play(story, ZONE, tls="must", tls_verify="none")


def test_tls_1_3_alone(authority: Authority, right: Pair) -> None:
    async def story(world: World) -> None:
        context = right.server()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        await world.serve(2, tls=context)
        second = await world.serve(3, tls=right.server())
        assert kinds(await world.send("a@d.test")) == "D"
        assert second.messages

    play(story, ZONE, **verified(authority, tls_minimum="1.3"))


def test_files_of_ours_that_are_gone_are_no_failure_of_the_servers_tls(
    authority: Authority, other: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mail in clear because our own file is missing would be the worst of all."""
    monkeypatch.setattr(hosts, "CLEAR_AFTER", 0.0)

    async def story(world: World) -> None:
        hop = await world.serve(2, tls=other.server())
        for _ in range(2):
            text = reason(await world.send("a@e.test"))
            assert text.startswith("451 4.3.5 ")
            assert "the connector's TLS files cannot be used: No such file or directory" in text
        assert not any(line.startswith(b"MAIL") for line in hop.commands)

    play(story, ZONE, tls="may", tls_ca_file=str(tmp_path / "gone.pem"))


# --- client certificates ----------------------------------------------------------------------------------------------


def test_a_certificate_is_shown_to_who_asks(authority: Authority, right: Pair) -> None:
    client = authority.issue("client.test")

    async def story(world: World) -> None:
        context = right.server()
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.certificate)
        await world.serve(2, tls=context)
        assert kinds(await world.send("a@e.test")) == "D"

    play(story, ZONE, **verified(authority, tls_certificate=str(client.chain), tls_key=str(client.key)))


def test_who_asks_in_vain_is_a_failure_of_tls(authority: Authority, right: Pair) -> None:
    async def story(world: World) -> None:
        context = right.server()
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.certificate)
        await world.serve(2, tls=context)
        reason(await world.send("a@e.test"))

    play(story, ZONE, **verified(authority))


# --- smart hosts: implicit TLS, logging in ----------------------------------------------------------------------------


def smart(authority: Authority, hop: EvilHop, **options: Any) -> Smtp:
    given = verified(authority, **options)
    return smtp(section(("localhost", hop.port), address_families="ipv4", **given))


@pytest.fixture(scope="session")
def local(authority: Authority) -> Pair:
    return authority.issue("localhost")


def test_implicit_tls(authority: Authority, local: Pair, loop_runner: Callable[[Any], Any]) -> None:
    async def story() -> None:
        async with EvilHop(tls=local.server(), implicit=True) as hop:
            phase = smart(authority, hop, tls="implicit")
            found = await outcome(phase, work("a@b.test"))
            assert kinds(found) == "D"
            assert tls(found) == [f"{SECURE} verified"]
            assert b"STARTTLS" not in hop.commands
            await phase.close(1)

    loop_runner(story())


@pytest.mark.parametrize(("wrong", "told"), [("name", "Hostname mismatch"), ("clear", "wrong version number")])
def test_implicit_tls_that_fails_says_why(
    wrong: str, told: str, authority: Authority, other: Pair, loop_runner: Callable[[Any], Any]
) -> None:
    async def story() -> None:
        async with EvilHop(tls=other.server(), implicit=wrong == "name") as hop:
            phase = smart(authority, hop, tls="implicit")
            assert told in reason(await outcome(phase, work("a@b.test")))
            assert not hop.messages
            await phase.close(1)

    loop_runner(story())


@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN", "CRAM-MD5 PLAIN", "XOAUTH2 LOGIN"])
@pytest.mark.parametrize("policy", ["must", "implicit"])
def test_logging_in(policy: str, mechanisms: str, authority: Authority, local: Pair, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("geheim ü\nand what follows does not count\n")

    async def story() -> None:
        users = {"me@isp.test": "geheim ü"}
        implicit = policy == "implicit"
        async with EvilHop(tls=local.server(), implicit=implicit, users=users, mechanisms=mechanisms) as hop:
            options = {"auth_user": "me@isp.test", "password_file": str(tmp_path / "password")}
            phase = smart(authority, hop, tls=policy, **options)
            assert kinds(await outcome(phase, work("a@b.test"))) == "D"
            await phase.close(1)

    asyncio.run(story())


def test_a_wrong_password_lets_mail_wait_and_a_new_one_counts_at_once(
    authority: Authority, local: Pair, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("old\n")

    async def story() -> None:
        async with EvilHop(tls=local.server(), users={"me": "new"}) as hop:
            phase = smart(authority, hop, auth_user="me", password_file=str(tmp_path / "password"))
            text = reason(await outcome(phase, work("a@b.test")))
            assert "535 5.7.8 who are you?" in text
            assert "old" not in text
            (tmp_path / "password").write_text("new\n")
            assert kinds(await outcome(phase, work("a@b.test"))) == "D"
            (tmp_path / "password").unlink()
            await phase.close(1)
            phase = smart(authority, hop, auth_user="me", password_file=str(tmp_path / "password"))
            text = reason(await outcome(phase, work("a@b.test")))
            assert text.startswith("451 4.3.5 ")
            assert text.endswith("password: No such file or directory")
            await phase.close(1)

    asyncio.run(story())


def test_no_password_without_tls(authority: Authority, local: Pair, tmp_path: Path) -> None:
    """The configuration refuses this; and if it did not, the password would not go."""
    (tmp_path / "password").write_text("secret\n")

    async def story() -> None:
        async with EvilHop(users={"me": "secret"}) as hop:
            phase = smart(authority, hop, tls="may", auth_user="me", password_file=str(tmp_path / "password"))
            assert "no password goes over a connection without TLS" in reason(await outcome(phase, work("a@b.test")))
            assert not any(line.startswith(b"AUTH") for line in hop.commands)
            await phase.close(1)

    asyncio.run(story())


def test_a_server_that_knows_no_way_to_log_in(authority: Authority, local: Pair, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")

    async def story() -> None:
        async with EvilHop(tls=local.server(), users={"me": "secret"}, mechanisms="GSSAPI") as hop:
            phase = smart(authority, hop, auth_user="me", password_file=str(tmp_path / "password"))
            assert reason(await outcome(phase, work("a@b.test"))).startswith("451 4.7.4 ")
            await phase.close(1)

    asyncio.run(story())
