"""The safety net of a real kmqd: what was delivered is kept, goes once more when it is asked for, and never twice."""

import hashlib
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.admin.client import Response, ask
from kmq.errors import Unreachable
from kmq.spool import net_look
from kmq.spool.look import Found
from tests.fakes import EvilHop
from tests.torture.kmqd import Kmqd
from tests.waiting import until


@pytest.fixture
def hop() -> Iterator[EvilHop]:
    with EvilHop().threaded() as hop:
        yield hop


@pytest.fixture
def spare() -> Iterator[EvilHop]:
    with EvilHop().threaded() as hop:
        yield hop


@pytest.fixture
def kmqd(tmp_path: Path, hop: EvilHop, spare: EvilHop) -> Iterator[Kmqd]:
    hops = {"far.test, list.test": hop.port, "spare.test": spare.port}
    made = Kmqd(tmp_path / "kmqd", hops=hops, workers=1, queue="safety_net_hold_time = 2d")
    with made.running():
        yield made


def send(kmqd: Kmqd, *to: str, body: str = "hello", mail: tuple[str, ...] = (), rcpt: tuple[str, ...] = ()) -> None:
    with smtplib.SMTP("127.0.0.1", kmqd.port) as client:
        client.sendmail("ada@local.test", list(to), f"Subject: x\r\n\r\n{body}\r\n", mail, rcpt)


def kept(kmqd: Kmqd) -> dict[str, Found]:
    return {one.head.id: one for one in net_look.walk(kmqd.spool) if isinstance(one, Found)}


def originals(kmqd: Kmqd, count: int) -> list[str]:
    """The IDs of what is kept and is neither a copy nor a notice, when there are so many."""

    def there() -> list[str]:
        return [name for name, one in kept(kmqd).items() if one.head.sender and not one.head.replayed]

    until(lambda: len(there()) == count, f"{count} messages are kept; {kmqd.log[-2000:]}")
    return there()


def replay(kmqd: Kmqd, *names: str, **more: str | bool) -> Response:
    return ask(kmqd.run, "replay", {"ids": list(names), **more})


def kill_the_scheduler(kmqd: Kmqd) -> None:
    """Returns when its successor answers."""
    pid = kmqd.kill("scheduler-1")

    def answers() -> bool:
        if kmqd.children().get("scheduler-1", pid) == pid:
            return False
        try:
            return ask(kmqd.run, "queues").status == 0
        except Unreachable:
            return False

    until(answers, "there is another scheduler process")
    kmqd.ready()


def results(response: Response) -> list[object]:
    return [line["Result"] for line in response.lines]


def leaves(response: Response) -> bool:
    """It is removed, or will be when it comes back from an attempt that is under way."""
    return response.status == 0 and results(response)[:1] in (["removed"], ["pending"])


def test_it_goes_once_more_as_it_was_and_only_once(kmqd: Kmqd, hop: EvilHop) -> None:
    large = "x" * 70 + "\r\n"
    send(kmqd, "bob@far.test", "carol@local.test", mail=("ENVID=QQ+3D7", "RET=HDRS"), rcpt=("NOTIFY=FAILURE",))
    send(kmqd, "dave@list.test", body=large * 2000)
    first, second = originals(kmqd, 2)
    kmqd.drain()
    for name in (first, second):
        one = kept(kmqd)[name]
        assert hashlib.sha256(one.body.read_bytes()).hexdigest() == one.head.sha256
        assert [type(event).__name__ for event in one.events][-1] == "Delivered", "its whole history"
    assert not kmqd.queued()
    until(lambda: not list((kmqd.spool / "incoming").glob("*-*")), "the large body's first name goes with a checkpoint")
    before = sorted((message.body, message.lines) for message in hop.messages)
    assert results(replay(kmqd, first, second, reason="disk lost")) == ["replayed", "replayed"]
    until(lambda: len(hop.messages) == 4, "both are there once more")
    copies = sorted((message.body, message.lines) for message in hop.messages[2:])
    assert copies == before, "byte by byte, with ENVID and NOTIFY"
    until(lambda: len(list((kmqd.mail / "carol" / "new").iterdir())) == 2, "the mailbox has it twice")
    again = replay(kmqd, first, second)
    assert (again.status, results(again)) == (1, ["skipped", "skipped"])
    assert "replayed already" in str(again.lines[0]["Why"])
    kill_the_scheduler(kmqd)
    assert results(replay(kmqd, first, second)) == ["skipped", "skipped"], "after a crash, too"
    kmqd.drain()
    again_kept = [one for one in kept(kmqd).values() if one.head.replayed]
    assert {one.head.replayed for one in again_kept} == {first, second}
    copy, original = again_kept[0], kept(kmqd)[again_kept[0].head.replayed]
    assert results(replay(kmqd, copy.head.id)) == ["skipped"], "a copy whose original is kept is not replayed"
    assert copy.body.stat().st_ino == original.body.stat().st_ino, "a link, no copy"
    assert len(hop.messages) == 4
    assert results(replay(kmqd, first, again=True)) == ["replayed"]
    until(lambda: len(hop.messages) == 5, "once more, since somebody said so")


def test_a_part_by_another_connector_quietly_or_not(kmqd: Kmqd, hop: EvilHop, spare: EvilHop) -> None:
    send(kmqd, "bob@far.test", "carol@local.test", rcpt=("NOTIFY=FAILURE,SUCCESS",))
    (name,) = originals(kmqd, 1)
    until(lambda: list((kmqd.mail / "ada" / "new").glob("*")), "the sender hears of the delivery to the mailbox")
    notices = len(list((kmqd.mail / "ada" / "new").iterdir()))
    spare.refusals["bob@far.test"] = "550 5.1.1 not here"
    far = next(hop_ for hop_ in kept(kmqd)[name].state.hop if "127.0.0.1" in hop_)
    refused = replay(kmqd, name, connector="nowhere")
    assert refused.status == 2 and "no connector 'nowhere'" in refused.text
    response = replay(kmqd, f"{far}\\{name}", connector="to-1")
    assert results(response) == ["replayed"]
    new = str(response.lines[0]["NewID"])
    until(lambda: f"failed {new}" in kmqd.log, "the other server refuses it")
    kmqd.drain()
    assert len(list((kmqd.mail / "ada" / "new").iterdir())) == notices, "nobody is told of a replay"
    assert len(hop.messages) == 1, "it went by the connector that was named"
    assert results(replay(kmqd, name, connector="to-1", dsn=True, again=True)) == ["replayed"]
    until(lambda: len(list((kmqd.mail / "ada" / "new").iterdir())) > notices, "unless it is wished")
    kmqd.drain()


def test_what_nobody_knows_and_what_is_damaged(kmqd: Kmqd) -> None:
    for number in range(2):
        send(kmqd, f"u{number}@far.test")
    first, second = originals(kmqd, 2)
    kmqd.drain()
    body = kept(kmqd)[first].body
    with body.open("ab") as file:
        file.write(b"more")
    kept(kmqd)[second].path.write_bytes(b"no envelope")
    response = replay(kmqd, first, second, "69212ad0-00000001")
    assert results(response) == ["skipped", "skipped", "gone"]
    length = body.stat().st_size
    whys = [f"its body has {length} bytes, and had {length - 4}", "its envelope is damaged", None]
    assert [line.get("Why") for line in response.lines] == whys
    assert not kmqd.queued()


def test_what_was_delivered_in_part_is_kept_when_an_operator_ends_it(kmqd: Kmqd, spare: EvilHop) -> None:
    spare.refusals["later@spare.test"] = "450 4.2.0 later"
    send(kmqd, "bob@far.test", "later@spare.test")
    until(kmqd.queued, "it waits for the one")

    def removed() -> bool:
        return leaves(ask(kmqd.run, "remove", {"ids": [path.stem for path in kmqd.queued()]}))

    kill_the_scheduler(kmqd)
    until(removed, "what is left of it is taken out")
    kmqd.drain()
    assert not kept(kmqd), "an operator who removes a message wants it gone"
    send(kmqd, "bob@far.test", "later@spare.test")
    until(kmqd.queued, "the next one waits")
    (name,) = (path.stem for path in kmqd.queued())

    def waiting() -> list[str]:
        return [str(line["NextHop"]) for line in ask(kmqd.run, "message", {"ids": [name]}).lines]

    until(lambda: [f":{spare.port};" in hop for hop in waiting()] == [True], "the other one has it")
    (waits,) = waiting()
    until(lambda: leaves(ask(kmqd.run, "remove", {"ids": [f"{waits}\\{name}"], "ndr": True})), "taken out")
    until(lambda: name in kept(kmqd), "what the sender is told of has its end like any other")


def test_while_no_mail_is_taken_in_nothing_is_replayed(kmqd: Kmqd, hop: EvilHop) -> None:
    send(kmqd, "bob@far.test")
    (name,) = originals(kmqd, 1)
    assert ask(kmqd.run, "stop-intake").status == 0
    until(lambda: replay(kmqd, name).status == 75, "it is refused for now")
    assert ask(kmqd.run, "start-intake").status == 0
    until(lambda: results(replay(kmqd, name)) in (["replayed"], ["skipped"]), "it may go again")
    until(lambda: len(hop.messages) == 2, "once")
    kmqd.drain()
    assert len(hop.messages) == 2


def test_when_it_is_switched_off_what_was_kept_goes(kmqd: Kmqd) -> None:
    send(kmqd, "bob@far.test")
    originals(kmqd, 1)
    path = kmqd.folder / "kmq.conf"
    path.write_text(path.read_text().replace("safety_net_hold_time = 2d", "safety_net_hold_time = 0"))
    assert ask(kmqd.run, "reload").status == 0
    until(lambda: not kept(kmqd), "it is gone")
    send(kmqd, "bob@far.test")
    kmqd.drain()
    assert not kept(kmqd)
