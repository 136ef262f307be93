"""The address that connections come from: IPv4 and IPv6 each, and what is said when this machine has it not."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from kmq.phases.smtp_source import bind, source_for
from tests.fakes import EvilHop
from tests.phases.sending import LOOPS, kinds, outcome, section, smtp, work


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return LOOPS[request.param]


async def where_from(hop: EvilHop, **options: Any) -> list[str]:
    """The addresses that the server saw, when a message was sent to it."""
    seen: list[str] = []
    phase = smtp(section(hop.address, **options))
    found = asyncio.ensure_future(outcome(phase, work("a@b.test")))
    while not seen:
        await asyncio.sleep(0.001)
        seen += [one.transport.get_extra_info("peername")[0] for one in hop._sessions]
    assert kinds(await found) == "D"
    await phase.close(1)
    return list(dict.fromkeys(seen))


def test_connections_come_from_the_address_of_their_family(run: Callable[[Any], Any]) -> None:
    """All of 127.0.0.0/8 is this machine."""

    async def story() -> None:
        async with EvilHop() as hop:
            assert await where_from(hop, source_address=("127.0.0.25", "2001:db8::25")) == ["127.0.0.25"]
            assert await where_from(hop) == ["127.0.0.1"]
            assert await where_from(hop, source_address=("::1",)) == ["127.0.0.1"]

    run(story())


def test_ipv6_as_well(run: Callable[[Any], Any]) -> None:
    async def story() -> None:
        async with EvilHop(host="::1") as hop:
            assert await where_from(hop, source_address=("127.0.0.25", "::1")) == ["::1"]

    run(story())


def test_an_address_that_this_machine_has_not_lets_the_queue_wait(run: Callable[[Any], Any]) -> None:
    async def story() -> None:
        async with EvilHop() as hop:
            phase = smtp(section(hop.address, source_address=("192.0.2.25",)))
            found = (await outcome(phase, work("a@b.test"))).unavailable
            assert found is not None
            assert (found.code, found.enhanced) == (451, "4.3.5")
            assert "source_address 192.0.2.25 is no address of this machine" in found.text
            assert hop.connections == 0
            await phase.close(1)

    run(story())


def test_the_address_does_not_use_up_a_port_before_it_connects() -> None:
    """The kernel is asked for none: two that are bound to one address stand at port 0."""
    with socket.socket() as one, socket.socket() as other:
        for sock in (one, other):
            assert bind(sock, ("127.0.0.1",)) is None
            assert sock.getsockname() == ("127.0.0.1", 0)


def test_each_family_has_its_own() -> None:
    both = ("192.0.2.1", "2001:db8::1")
    assert source_for(socket.AF_INET, both) == "192.0.2.1"
    assert source_for(socket.AF_INET6, both) == "2001:db8::1"
    assert source_for(socket.AF_INET6, ("192.0.2.1",)) == ""
