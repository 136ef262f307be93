"""A message whose text is held back until it is known that it may go."""

import asyncio

from msgspec import structs

from kmq.phases.gate import Gate
from kmq.phases.smtp import Smtp
from kmq.phases.work import Work
from tests.fakes import EvilHop
from tests.phases.sending import against, kinds, outcome, results, send, until, work


def held(to: str, gate: Gate) -> Work:
    return structs.replace(work(to), gate=gate)


def heard(hop: EvilHop) -> bool:
    return any(b"DATA\r\n" in one for one in hop.writes)


def test_a_server_hears_who_and_whom_and_the_text_when_it_may_go() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        gate = Gate()
        sent = send(phase, held("a@b.test", gate))
        await until(lambda: heard(hop), "the server has been asked for 354")
        await outcome(phase, work("c@d.test"))  # over another connection: time for an answer to the first one
        assert [message.recipients for message in hop.messages] == [["c@d.test"]]
        assert not sent.done()
        gate.lift()
        assert kinds(await sent) == "D"
        assert hop.messages[-1].recipients == ["a@b.test"]

    against(EvilHop(), story)


def test_a_text_that_may_go_before_it_is_asked_for_does_not_wait() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        gate = Gate()
        sent = send(phase, held("a@b.test", gate))
        gate.lift()
        assert kinds(await sent) == "D"

    against(EvilHop(), story)


def test_what_never_may_go_ends_its_connection_and_nothing_has_arrived() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        for early in (True, False):
            gate = Gate()
            hop.writes.clear()
            sent = send(phase, held("a@b.test", gate))
            if not early:
                await until(lambda: heard(hop), "the server has been asked for 354")
            gate.drop()
            assert results(await sent)[0][0] == "Deferred"
            assert hop.messages == []
            assert heard(hop) is not early, "what is taken back before its turn is not heard of"
        assert kinds(await outcome(phase, work("a@b.test"))) == "D"
        assert hop.connections == 2

    against(EvilHop(), story, connections=1)


def test_a_connection_that_ends_meanwhile_is_the_message_s_result() -> None:
    async def story(hop: EvilHop, phase: Smtp) -> None:
        gate = Gate()
        assert kinds(await outcome(phase, held("a@b.test", gate))) == "d"
        gate.lift()
        await asyncio.sleep(0)
        assert hop.messages == []

    against(EvilHop(refusals={"a@b.test": "421 4.3.2 bye"}), story)
