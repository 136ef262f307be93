"""A worker's part of the connections: of a connector, a domain, a server, and of each priority."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from kmq.model.hop import DeliveryType, NextHop
from kmq.phases.allotment import Allotment
from kmq.phases.smtp import Smtp
from kmq.phases.waiting import Waiting
from kmq.phases.work import Work
from tests.fakes import EvilHop
from tests.phases.dns_world import World, connector, play
from tests.phases.sending import against, kinds, section, send, until, work

ZONE = {f"d{number}.test": [f"A 127.0.0.{number}"] for number in range(2, 8)} | {
    "also.test": ["MX 10 d2.test."],
    "more.test": ["MX 10 d2.test."],
}
ISP = NextHop(DeliveryType.SMART_HOST, "127.0.0.1", "isp")


def world(**options: Any) -> Any:
    return connector(25, **options)


#: Options of the connector, workers -> what each has of the connector, of d2.test and of a host; per_hop is 20.
PARTS = [
    ({}, 2, (500, 500), (10, 10), (10, 10)),
    ({"connections": 3}, 2, {1, 2}, {1, 2}, {1, 2}),
    ({"connections_per_domain": 1}, 2, (500, 500), {0, 1}, (10, 10)),
    ({"connections_per_host": 1}, 2, (500, 500), (10, 10), (1, 1)),
    ({"connections": 1}, 3, {0, 1}, {0, 1}, (1, 1, 1)),
]


@pytest.mark.parametrize(("options", "workers", "total", "domain", "host"), PARTS)
def test_parts(options: dict[str, int], workers: int, total: Any, domain: Any, host: Any) -> None:
    mine = [Allotment(20, worker, workers) for worker in range(1, workers + 1)]
    found = world(**options)
    for expected, parts in (
        (total, [one.total(found) for one in mine]),
        (domain, [one.queue(found, "d2.test") for one in mine]),
        (host, [one.host(found, "127.0.0.2") for one in mine]),
    ):
        assert (set(parts) if isinstance(expected, set) else tuple(parts)) == expected


def test_who_has_the_connector_s_only_connection_has_the_domain_s_too() -> None:
    found = world(connections=1)
    for worker in (1, 2, 3):
        mine = Allotment(20, worker, 3)
        assert all(mine.queue(found, f"d{number}.test") == mine.total(found) for number in range(50))


def test_fresh_mail_is_not_begun_where_another_worker_has_the_connections() -> None:
    async def story() -> None:
        for worker in (1, 2):
            phase = Smtp({"isp": section(("127.0.0.1", 9))}, "kmq.test", Allotment(1, worker, 2))
            begun.append(phase.ready(ISP))
            await phase.close(0)

    begun: list[bool] = []
    asyncio.run(story())
    assert sorted(begun) == [False, True]


@pytest.mark.parametrize("option", ["messages_per_minute", "messages_per_minute_per_domain"])
def test_what_is_counted_by_the_minute_is_begun_by_nobody_himself(option: str) -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        assert not phase.ready(ISP)
        assert kinds(await send(phase, work("a@b.test"))) == "D", "but carried, when it is handed out"
        assert not phase.ready(ISP)

    against(EvilHop(), story, **{option: 60})


def test_a_connector_has_no_more_connections_than_it_may_and_all_domains_have_their_turn() -> None:
    async def story(world: World) -> None:
        servers = [await world.serve(number) for number in range(2, 8)]
        most = 0

        def count() -> bool:
            nonlocal most
            most = max(most, sum(one.open for one in servers))
            return all(one.done() for one in sent)

        sent = [send(world.phase, world.mail(f"a@d{number}.test")) for number in range(2, 8) for _ in range(5)]
        await until(count, "all domains are served")
        assert [kinds(one.result()) for one in sent] == ["D"] * 30
        assert most <= 2
        assert [len(one.messages) for one in servers] == [5] * 6

    play(story, ZONE, total=2)


def test_connections_to_a_server_are_limited_whatever_the_domain() -> None:
    async def story(world: World) -> None:
        hop = await world.serve(2)
        sent = [send(world.phase, world.mail(f"a@{name}.test")) for name in ("d2", "also", "more") for _ in range(9)]
        await until(lambda: all(one.done() for one in sent), "all is sent")
        assert hop.most == 1

    play(story, ZONE, connections=5, connections_per_host=1)


# --- priorities ------------------------------------------------------------------------------------------------------


def urgent(word: str, to: str) -> Work:
    return work(to, priority=word)


def test_each_priority_keeps_to_its_connections_and_the_urgent_one_goes_ahead() -> None:
    async def story() -> None:
        hop = EvilHop(reading=False)
        async with hop:
            phase = Smtp({"isp": section(hop.address)}, "kmq.test", Allotment(10, parts=(20, 70, 10)))
            for number in range(20):
                for word in ("low", "", "high"):
                    send(phase, urgent(word, f"{word or 'normal'}{number}@b.test"))
            data = 10
            await until(lambda: hop.commands.count(b"DATA") == data, "ten connections are busy")
            begun = [line.split(b"<")[1][:3] for line in hop.commands if line.startswith(b"RCPT")]
            assert sorted(begun) == [b"hig"] * 2 + [b"low"] + [b"nor"] * 7
            assert hop.open == 10
            await phase.close(0)

    asyncio.run(story())


def test_all_of_them_arrive() -> None:
    async def story() -> None:
        hop = EvilHop()
        async with hop:
            phase = Smtp({"isp": section(hop.address)}, "kmq.test", Allotment(3, parts=(1, 1, 1)))
            sent = [send(phase, urgent(word, f"u{n}@b.test")) for n in range(20) for word in ("low", "", "high")]
            await until(lambda: all(one.done() for one in sent), "all is sent")
            assert [kinds(one.result()) for one in sent] == ["D"] * 60
            assert hop.most <= 3
            await phase.close(1)

    asyncio.run(story())


def test_a_change_of_parts_keeps_who_waits(tmp_path: Path) -> None:
    async def story() -> None:
        hop = EvilHop(reading=False)
        async with hop:
            phase = Smtp({"isp": section(hop.address)}, "kmq.test", Allotment(1))
            for number in range(4):
                send(phase, urgent("high" if number == 3 else "", f"u{number}@b.test"))
            await until(lambda: hop.commands.count(b"DATA") == 1, "one is on its way")
            phase.allot(Allotment(2, parts=(50, 50, 50)))
            await until(lambda: b"RCPT TO:<u3@b.test>" in hop.commands, "the urgent one has a connection of its own")
            assert hop.commands.count(b"DATA") <= 2
            await phase.close(0)

    asyncio.run(story())


def test_an_empty_line_has_nobody() -> None:
    waiting = Waiting((20, 70, 10), 10)
    assert waiting.next([0, 0, 0]) is None
    assert (len(waiting), waiting.wanting([0, 0, 0]), list(waiting)) == (0, 0, [])
