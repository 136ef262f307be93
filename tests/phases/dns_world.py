"""A world for connectors of type dns: a resolver, and servers at addresses of loopback, all at one port."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from kmq.config.sections import ConnectorSection
from kmq.model.hop import DeliveryType, NextHop
from kmq.phases.allotment import Allotment
from kmq.phases.smtp import Smtp
from kmq.phases.work import Outcome, Work
from kmq.routing.mail_hosts import MailHosts
from kmq.routing.ourselves import Ourselves
from tests.fake_dns import FakeDNS
from tests.fakes import EvilHop
from tests.phases.sending import outcome, until, work
from tests.waiting import free_port

US = "us.test"

Story = Callable[["World"], Awaitable[None]]


class World:
    """servers: by the last number of their address, 127.0.0.N; what is not there refuses connections."""

    def __init__(self, dns: FakeDNS, port: int) -> None:
        self.dns = dns
        self.port = port
        self.servers: dict[int, EvilHop] = {}
        self.phase: Smtp

    async def serve(self, number: int, **evil: Any) -> EvilHop:
        """Starts a server at 127.0.0.<number>."""
        hop = self.servers[number] = EvilHop(host=f"127.0.0.{number}", port=self.port, **evil)
        return await hop.start()

    def mail(self, *to: str, **more: Any) -> Work:
        """A message for addresses of one domain."""
        hop = NextHop(DeliveryType.DNS, to[0].rpartition("@")[2], "world")
        made = work(*to, **more)
        return Work(made.head, made.body, made.rcpt, hop, made.attempt)

    async def send(self, *to: str, **more: Any) -> Outcome:
        return await outcome(self.phase, self.mail(*to, **more))

    def ready(self, domain: str) -> bool:
        return self.phase.ready(NextHop(DeliveryType.DNS, domain, "world"))


def connector(port: int, **options: Any) -> ConnectorSection:
    quick = dict.fromkeys(("connect_timeout", "greeting_timeout", "ehlo_timeout"), 2.0)
    given = {"name": "world", "type": "dns", "helo": US, "port": port, "forbidden_addresses": (), **quick, **options}
    return ConnectorSection(**given)


def play(
    story: Story,
    zone: dict[str, list[str]],
    connections: int = 5,
    run: Callable[[Any], Any] = uvloop.run,
    patience: float = 0.4,
    total: int = 1000,
    **options: Any,
) -> None:
    """Plays a story in a world with this zone; nothing may be left over at the end.

    connections: of one queue; total: of the connector; options: others of it.
    """

    async def tell() -> None:
        trouble: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: trouble.append(context))
        async with FakeDNS(zone) as dns:
            world = World(dns, free_port())
            directory = MailHosts([dns.address], patience, Ourselves(US, [("127.0.0.9", world.port)]))
            section = connector(world.port, connections=total, **options)
            world.phase = Smtp({"world": section}, US, Allotment(connections), directory)
            async with asyncio.timeout(30):
                await story(world)
            await world.phase.close(2)
            await until(lambda: all(hop.open == 0 for hop in world.servers.values()), "all connections closed")
            await directory.close()
            for hop in world.servers.values():
                await hop.stop()
        assert not trouble, trouble

    run(tell())
