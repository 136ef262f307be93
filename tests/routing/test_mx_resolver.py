"""Questions to the DNS: what each fault comes to, and what is remembered."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from kmq.routing import lookups
from kmq.routing.lookups import Lookups
from kmq.routing.resolver import (
    DEFAULT_SERVERS,
    RECORDS_LIMIT,
    Absent,
    Answer,
    Fault,
    Found,
    Resolver,
    SystemServers,
    nameservers,
    probe,
)
from tests.fake_dns import FakeDNS
from tests.waiting import free_port

RUNS: dict[str, Callable[[Any], Any]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@pytest.fixture(params=sorted(RUNS))
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return RUNS[request.param]


ZONE = {
    "good.test": ["MX 20 Backup.good.test.", "MX 10 mx.good.test."],
    "mx.good.test": ["A 192.0.2.1", "A 192.0.2.2", "AAAA 2001:db8::1"],
    "null.test": ["MX 0 ."],
    "alias.test": ["CNAME good.test."],
    "loop.test": ["CNAME other.test."],
    "other.test": ["CNAME loop.test."],
    "dangling.test": ["CNAME gone.test."],
    "bare.test": ["A 192.0.2.9"],
    "many.test": [f"MX {n} mx{n}.many.test." for n in range(200)],
}


async def asked(server: FakeDNS, name: str, kind: str = "MX", patience: float = 0.8) -> Answer:
    return await Resolver([server.address], patience).ask(name, kind)


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("good.test", "MX", Found(((20, "backup.good.test"), (10, "mx.good.test")), 300)),
        ("GOOD.test.", "MX", Found(((20, "backup.good.test"), (10, "mx.good.test")), 300)),
        ("mx.good.test", "AAAA", Found(("2001:db8::1",), 300)),
        ("null.test", "MX", Found(((0, ""),), 300)),
        ("alias.test", "MX", Found(((20, "backup.good.test"), (10, "mx.good.test")), 300)),
        ("bare.test", "MX", Absent(False, 300)),
        ("gone.test", "MX", Absent(True, 300)),
        ("dangling.test", "MX", Absent(True, 300)),
        ("a..b", "MX", Absent(True, 0)),
        ("x" * 64 + ".test", "MX", Absent(True, 0)),
        ("loop.test", "MX", Fault("a chain of CNAMEs without end")),
    ],
)
def test_what_is_there_and_what_is_not(name: str, kind: str, answer: Answer, run: Callable[[Any], Any]) -> None:
    async def play() -> None:
        async with FakeDNS(ZONE) as server:
            found = await asked(server, name, kind)
            if isinstance(found, Found):  # in whatever order
                found = found._replace(records=tuple(sorted(found.records, reverse=True)))
            assert found == answer

    run(play())


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("servfail", "SERVFAIL"),
        ("refused", "REFUSED"),
        ("formerr", "FORMERR"),
        ("timeout", "timed out"),
        ("garbage", "timed out"),  # who forges an answer must not end the waiting for the true one
        ("truncated", "truncated, and by TCP: the server ended the connection"),
    ],
)
def test_a_fault_is_no_answer(fault: str, why: str, run: Callable[[Any], Any]) -> None:
    """Row 47."""

    async def play() -> None:
        async with FakeDNS(ZONE, {"*": fault}) as server:
            assert await asked(server, "good.test", patience=0.3) == Fault(why)

    run(play())


def test_nobody_there(run: Callable[[Any], Any]) -> None:
    async def play() -> None:
        answer = await Resolver([("127.0.0.1", free_port())], 0.5).ask("good.test", "MX")
        assert answer == Fault("connection refused")

    run(play())


def test_a_server_with_an_ipv6_address(run: Callable[[Any], Any]) -> None:
    async def play() -> None:
        async with FakeDNS(ZONE, host="::1") as server:
            assert isinstance(await asked(server, "good.test"), Found)
            assert isinstance(await asked(server, "many.test"), Found)

    run(play())


def test_a_long_answer_comes_by_tcp(run: Callable[[Any], Any]) -> None:
    async def play() -> None:
        async with FakeDNS(ZONE) as server:
            answer = await asked(server, "many.test")
            assert isinstance(answer, Found)
            assert [preference for preference, _ in answer.records] == list(range(RECORDS_LIMIT)), "the best of 200"
            assert server.by_tcp == 1

    run(play())


def test_a_server_without_edns_is_asked_again_without() -> None:
    async def play() -> None:
        async with FakeDNS(ZONE, {"*": "no-edns"}) as server:
            assert isinstance(await asked(server, "good.test"), Found)
            assert server.asked["good.test/MX"] == 2

    asyncio.run(play())


def test_a_slow_server_is_waited_for_and_the_loop_goes_on() -> None:
    """The answer to the first try comes within the time of that try; nothing else stands still meanwhile."""

    async def play() -> None:
        async with FakeDNS(ZONE, {"good.test": "slow"}, delay=0.4) as server:
            slow = asyncio.create_task(asked(server, "good.test", patience=4))
            assert isinstance(await asked(server, "mx.good.test", "A"), Found)
            assert not slow.done()
            assert isinstance(await slow, Found)

    asyncio.run(play())


def test_the_next_server_is_asked_when_one_fails() -> None:
    async def play() -> None:
        async with FakeDNS(ZONE, {"*": "servfail"}) as bad, FakeDNS(ZONE) as good:
            resolver = Resolver([bad.address, ("127.0.0.1", free_port()), good.address], 2)
            assert isinstance(await resolver.ask("good.test", "MX"), Found)

    asyncio.run(play())


def test_each_question_has_a_port_of_its_own() -> None:
    """RFC 5452: who guesses the number must guess the port as well."""
    clients: list[tuple[str, int]] = []

    class Noting(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
            clients.append(client)

    async def play() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Noting, ("127.0.0.1", 0))
        server = transport.get_extra_info("sockname")
        await asyncio.gather(*(Resolver([server], 0.4).ask(f"n{n}.test", "A") for n in range(5)))
        transport.close()

    asyncio.run(play())
    assert len({port for _, port in clients}) >= 5


# --- resolv.conf ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 192.0.2.53\n", (("192.0.2.53", 53),)),
        ("# nameserver 192.0.2.1\nsearch x\nnameserver\t2001:db8::53 # here\n", (("2001:db8::53", 53),)),
        ("nameserver 192.0.2.1\nnameserver 192.0.2.2\n", (("192.0.2.1", 53), ("192.0.2.2", 53))),
        ("nameserver resolver.test\n", DEFAULT_SERVERS),
        ("", DEFAULT_SERVERS),
    ],
)
def test_who_is_asked_stands_in_resolv_conf(text: str, servers: object) -> None:
    assert nameservers(text) == servers


def test_resolv_conf_is_read_again_when_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    system = SystemServers(str(path))
    assert system.now() == DEFAULT_SERVERS, "there is none"
    path.write_text("nameserver 192.0.2.1\n")
    assert system.now() == (("192.0.2.1", 53),)
    (tmp_path / "new").write_text("nameserver 192.0.2.2\n")
    (tmp_path / "new").rename(path)
    assert system.now() == (("192.0.2.2", 53),)
    path.unlink()
    assert system.now() == (("192.0.2.2", 53),), "what was known stays"


def test_probing_tells_each_server_apart() -> None:
    with FakeDNS({".": ["NS ns.test."]}).threaded() as good, FakeDNS(faults={"*": "refused"}).threaded() as bad:
        found = dict(probe([good.address, bad.address], 1))
    assert isinstance(found[good.address], Found)
    assert found[bad.address] == Fault("REFUSED")


# --- what is remembered -----------------------------------------------------------------------------------------------


class Oracle:
    """Answers what it is told to, when it is told to; counts."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, name: str, kind: str) -> Answer:
        self.asked += 1
        await self.gate.wait()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize(
    ("answer", "holds"),
    [
        (Found(("192.0.2.1",), 300), 300),
        (Found(("192.0.2.1",), 0), lookups.LEAST),
        (Found(("192.0.2.1",), 1e9), lookups.MOST),
        (Absent(True, 60), 60),
        (Absent(False, 1e9), lookups.MOST_NOTHING),
    ],
)
def test_an_answer_holds_as_long_as_its_zone_says_within_bounds(answer: Answer, holds: float) -> None:
    async def play() -> None:
        now = [1000.0]
        oracle = Oracle(answer)
        known = Lookups(oracle, lambda: now[0])
        assert await known.look("a.test", "A") == answer
        now[0] += holds - 0.1
        assert await known.look("a.test", "A") == answer
        assert known.known("a.test", "A") == answer
        assert oracle.asked == 1
        now[0] += 0.2
        assert known.known("a.test", "A") is None
        await known.look("a.test", "A")
        assert oracle.asked == 2

    asyncio.run(play())


def test_a_fault_is_not_remembered() -> None:
    async def play() -> None:
        oracle = Oracle(Fault("SERVFAIL"), Found(("192.0.2.1",), 300))
        known = Lookups(oracle, lambda: 0.0)
        assert await known.look("a.test", "A") == Fault("SERVFAIL")
        assert isinstance(await known.look("a.test", "A"), Found)

    asyncio.run(play())


def test_a_question_under_way_is_asked_once_and_outlives_who_gave_up() -> None:
    async def play() -> None:
        oracle = Oracle(Found(("192.0.2.1",), 300))
        oracle.gate.clear()
        known = Lookups(oracle, lambda: 0.0)
        waiting = [asyncio.create_task(known.look("a.test", "A")) for _ in range(10)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        assert known.asking == 1
        oracle.gate.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert oracle.asked == 1
        assert isinstance(found[0], asyncio.CancelledError)
        assert all(isinstance(one, Found) for one in found[1:])
        assert known.asking == 0

    asyncio.run(play())


def test_memory_and_questions_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "LIMIT", 100)
    monkeypatch.setattr(lookups, "AT_ONCE", 7)

    async def play() -> None:
        running = most = 0

        async def ask(name: str, kind: str) -> Answer:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            return Found((name,), 300)

        known = Lookups(ask, lambda: 0.0)
        found = await asyncio.gather(*(known.look(f"n{n}.test", "A") for n in range(1000)))
        assert [one.records for one in found if isinstance(one, Found)] == [(f"n{n}.test",) for n in range(1000)]
        assert most == 7
        assert len(known._known) <= 100

    asyncio.run(play())


def test_closing_ends_what_is_asked() -> None:
    async def play() -> None:
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        silent.bind(("127.0.0.1", 0))
        known = Lookups(Resolver([silent.getsockname()], 60).ask, asyncio.get_running_loop().time)
        asking = asyncio.create_task(known.look("a.test", "A"))
        while not known.asking:
            await asyncio.sleep(0)
        await known.close()
        assert known.asking == 0
        assert (await asyncio.gather(asking, return_exceptions=True))[0].__class__ is asyncio.CancelledError
        silent.close()

    asyncio.run(play())
