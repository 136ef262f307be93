"""Opening a connection: addresses, TLS, and the private corners of the library that are leaned on."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest

from kmq.phases import hosts, tls
from kmq.phases.smtp_opening import Opened, open_connection
from kmq.phases.targets import Target
from tests.fakes import EvilHop
from tests.phases.sending import LOOPS, kinds, outcome, section, smtp, work


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return LOOPS[request.param]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-made certificate for localhost: (certificate, key)."""
    folder = tmp_path_factory.mktemp("tls")
    names = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-out", names[0], "-keyout", names[1]], check=True, capture_output=True)
    return names


@pytest.fixture
def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def trusted(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system trusts the self-made certificate."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    tls._context.cache_clear()
    yield
    tls._context.cache_clear()


def target(name: str, hop: EvilHop) -> Target:
    return Target(name, hop.port, socket.AF_INET, hop.address, (name, hop.port))


@pytest.mark.parametrize("policy", ["may", "must"])
def test_starttls_is_used(
    policy: str, run: Callable[[Any], Any], server_tls: ssl.SSLContext, trusted: None, tmp_path: Path
) -> None:
    text = b"Subject: x\r\n\r\n" + b"secret\r\n" * 100_000

    async def play() -> None:
        async with EvilHop(tls=server_tls) as hop:
            phase = smtp(section(("localhost", hop.port), tls=policy))
            found = await outcome(phase, work("a@b.test", text=text))
            assert kinds(found) == "D", found
            assert kinds(await outcome(phase, work("a@b.test", text=text, file=tmp_path / "x.eml"))) == "D"
            assert [message.body == text for message in hop.messages] == [True, True]
            verbs = [line.split(b" ")[0] for line in hop.commands[:4]]
            assert verbs == [b"EHLO", b"STARTTLS", b"EHLO", b"MAIL"]
            await phase.close(1)

    run(play())


def test_never_is_never(server_tls: ssl.SSLContext) -> None:
    async def play() -> None:
        async with EvilHop(tls=server_tls) as hop:
            phase = smtp(section(hop.address, tls="never"))
            assert kinds(await outcome(phase, work("a@b.test"))) == "D"
            assert b"STARTTLS" not in hop.commands
            await phase.close(1)

    asyncio.run(play())


def test_must_does_not_take_any_certificate(server_tls: ssl.SSLContext) -> None:
    async def play() -> None:
        async with EvilHop(tls=server_tls) as hop:
            phase = smtp(section(hop.address, tls="must"))
            found = await outcome(phase, work("a@b.test"))
            assert found.unavailable is not None
            assert "certificate verify failed" in found.unavailable.text
            assert "_ssl.c" not in found.unavailable.text
            assert not hop.messages
            await phase.close(1)

    asyncio.run(play())


def test_must_does_not_go_on_in_clear() -> None:
    """A man in the middle who strips STARTTLS gets no mail."""

    async def play() -> None:
        async with EvilHop() as hop:
            phase = smtp(section(hop.address, tls="must"))
            found = await outcome(phase, work("a@b.test"))
            assert found.unavailable is not None
            assert found.unavailable.enhanced == "4.7.4"
            assert not any(line.startswith(b"MAIL") for line in hop.commands)
            await phase.close(1)

    asyncio.run(play())


@pytest.mark.parametrize("starttls", ["454 4.7.0 not now", "220 go\r\n250-EVIL\r\n250 PIPELINING", "", "hang"])
def test_a_starttls_that_fails_is_not_followed_by_mail_in_clear_at_once(
    starttls: str, run: Callable[[Any], Any], server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 51; bytes injected behind `220 go` (STARTTLS response injection) are not read as the server's."""

    async def play() -> None:
        async with EvilHop(tls=server_tls, starttls=starttls) as hop:
            phase = smtp(section(hop.address, tls="may", ehlo_timeout=0.3))
            for _ in range(2):
                found = await outcome(phase, work("a@b.test"))
                if starttls.startswith("220"):
                    assert kinds(found) == "D"  # the handshake itself was good; what was injected is gone
                    continue
                assert found.unavailable is not None
                assert not any(line.startswith(b"MAIL") for line in hop.commands)
            if not starttls.startswith("220"):
                monkeypatch.setattr(hosts, "CLEAR_AFTER", 0.0)
                assert kinds(await outcome(phase, work("a@b.test"))) == "D", "after the interval `may` means may"
            await phase.close(1)

    run(play())


def test_the_label_names_host_address_and_port() -> None:
    async def play() -> None:
        async with EvilHop() as hop:
            opened = await open_connection(section(), target("localhost", hop), "kmq.test", False)
            assert isinstance(opened, Opened)
            assert opened.label == f"localhost[127.0.0.1]:{hop.port}"
            assert opened.offers.size == 100_000_000
            assert opened.offers.pipelining
            opened.transport.abort()

    asyncio.run(play())


@pytest.mark.parametrize("host", ["no-such-host.invalid", "", "a" * 300, "ü" * 70, "x\0y"])
def test_a_name_that_leads_nowhere(host: str) -> None:
    async def play() -> None:
        phase = smtp(section((host, 25)))
        found = (await outcome(phase, work("a@b.test"))).unavailable
        assert found is not None
        assert not found.permanent
        assert str(found).isprintable()
        await phase.close(1)

    asyncio.run(play())


@pytest.mark.parametrize("size", ["SIZE x", "SIZE -1", "SIZE ²", "SIZE " + "9" * 5000, "SIZE"])
def test_a_size_that_is_none_is_no_limit(size: str) -> None:
    async def play() -> None:
        async with EvilHop(extensions=(size,)) as hop:
            opened = await open_connection(section(), target("evil.test", hop), "kmq.test", False)
            assert isinstance(opened, Opened), opened
            assert (opened.offers.sized, opened.offers.size) == (True, 0)
            opened.transport.abort()

    asyncio.run(play())


def test_cancelling_closes_the_connection() -> None:
    async def play() -> None:
        async with EvilHop(banner="hang") as hop:
            task = asyncio.create_task(open_connection(section(), target("evil.test", hop), "kmq.test", False))
            while not hop.open:
                await asyncio.sleep(0.001)
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=0.1)
            assert task.cancelled()
            while hop.open:
                await asyncio.sleep(0.001)

    asyncio.run(play())


def test_the_library_is_the_one_we_know() -> None:
    """Private names that the hand-over leans on: unread bytes, and a transport that takes another protocol."""
    assert aiosmtplib.__version__ == "5.1.3"

    async def play() -> None:
        async with EvilHop() as hop:
            client = aiosmtplib.SMTP(hostname=hop.host, port=hop.port, start_tls=False)
            await client.connect()
            await client.ehlo()
            assert client.protocol is not None
            assert isinstance(client.protocol._buffer, bytearray)
            assert not client.protocol._buffer
            assert hasattr(client.transport, "set_protocol")
            client.close()

    asyncio.run(play())
