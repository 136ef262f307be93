"""J10 for warnings: an order to tell a sender that it takes longer is carried out once, whoever dies meanwhile."""

import asyncio
import json
import time
from pathlib import Path

import msgspec

from kmq.model import moment
from kmq.model.envelope import Head, Recipient, Source, head_tail
from kmq.model.event import Delayed, Event, Routed
from kmq.model.frame import Assign, Child, Done
from tests.run.stage import FAR, Actor, Stage, until

QUEUE = "5m\nconnection_retry_interval = 1s\ndelay_warning = 1s"
NOTICE = b"Subject: Your message is delayed\r\n\r\nbut not lost\r\n"


def say(actor: Actor, assign: Assign, *events: Event, raw: bytes = b"", **more: object) -> None:
    encoded = [msgspec.Raw(msgspec.json.encode(event)) for event in events]
    words = {"hop": assign.hop, **more}
    actor.peer.say(Done(n=assign.n, m=assign.m, rcpt=assign.rcpt, attempt=assign.attempt, events=encoded, **words), raw)  # type: ignore[arg-type]


def told(actor: Actor, order: Assign) -> None:
    """The worker has made the notice."""
    now = moment.as_text(time.time())
    head = Head(
        "", "", now, "", [Recipient("sender@example.org")], len(NOTICE), Source("dsn"), longest=40, parent=order.m
    )
    tail = head_tail(head)
    event = Delayed(at=now, rcpt=order.rcpt, reply=order.delay, notice="0")
    say(actor, order, event, raw=tail + NOTICE, children=[Child(1, len(tail), len(NOTICE))])


def notices(stage: Stage) -> list[str]:
    """The IDs of notices that are queued."""
    heads = [json.loads(path.read_text().split("\n")[0]) for path in stage.spool.glob("queue/*/*.env")]
    return [head["id"] for head in heads if head.get("source", {}).get("how") == "dsn"]


async def ordered(stage: Stage, actor: Actor, mail: str) -> Assign:
    """The hop is found out of reach again and again, until the order comes."""
    first = await actor.gets(mail)
    say(actor, first, Routed(rcpt="0", hop=FAR, rule="far"), unavailable="421 4.4.1 down", hop=FAR)
    answered = {first.n}
    while True:
        await until(lambda: actor.given(mail)[-1].n not in answered, "the message is handed out again")
        given = actor.given(mail)[-1]
        if given.delay:
            return given
        answered.add(given.n)
        say(actor, given, unavailable="421 4.4.1 still down")


def test_a_warning_that_is_reported_to_a_new_scheduler_process_is_known_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with Stage(tmp_path, retry=QUEUE) as stage:
            await stage.scheduler()
            actor = stage.actor(1)
            await actor.come()
            mail = await stage.receiver.mail()
            order = await ordered(stage, actor, mail)
            assert order.delay == "421 4.4.1 still down"
            told(actor, order)
            await until(lambda: actor.known(order.n), "the warning is durable")
            await stage.kill_scheduler()
            await stage.scheduler(actor)
            await actor.come()
            told(actor, order)
            await until(lambda: actor.known(order.n), "it is known")
            await until(lambda: notices(stage), "the notice is a file")
            await stage.all_loaded()
            assert stage.envelope(mail).count('"event":"delayed"') == 1
            assert len(notices(stage)) == 1
            (name,) = notices(stage)
            assert f'"notice":"{name}"' in stage.envelope(mail)

    asyncio.run(story())


def test_a_warning_that_a_dead_worker_did_not_tell_of_is_made_by_another(tmp_path: Path) -> None:
    async def story() -> None:
        async with Stage(tmp_path, retry=QUEUE) as stage:
            await stage.scheduler()
            actor = stage.actor(1)
            await actor.come()
            mail = await stage.receiver.mail()
            order = await ordered(stage, actor, mail)
            other = stage.actor(2)
            await other.come()
            actor.die()
            stage.reap(actor)
            again = await other.gets(mail)
            assert (again.delay, again.rcpt, again.attempt) == (order.delay, order.rcpt, order.attempt)
            told(other, again)
            await until(lambda: other.known(again.n), "the warning is durable")
            await until(lambda: notices(stage), "the notice is a file")
            assert len(notices(stage)) == 1

    asyncio.run(story())
