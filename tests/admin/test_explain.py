"""`kmq explain` names cause, time, evidence and the command that changes it, in every trouble that there is.

Most situations are those of a real kmqd with a message in each trouble; what would take days, or a broken machine, is
staged with the envelopes and states that the real code makes.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kmq.admin.explain_facts import facts_about
from kmq.admin.explain_queue import explain_queue
from kmq.model import hop as hops
from kmq.model import queue_id
from kmq.spool.look import find
from tests.admin.troubled_world import World, troubled
from tests.waiting import until

HOUR = 3600.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with troubled(tmp_path_factory.mktemp("world")) as one:
        yield one
        assert one.kmqd.accidents() == []


@dataclass
class Situation:
    """to: the recipient whose message is in it. later: something happens by itself, in about an hour (`patient`)."""

    to: str
    code: str
    evidence: str
    command: str
    later: bool = True


SITUATIONS = [
    Situation("a@refused.test", "unreachable-host", "Connection refused", "kmq retry --queue 127.0.0.1:"),
    Situation("a@away.test", "turned-away", "554 5.7.1 no service for you", "kmq retry --queue 127.0.0.1:"),
    Situation("a@silent.test", "connection-lost", "4.4.2", "kmq retry --queue 127.0.0.1:"),
    Situation("a@no-tls.test", "no-tls-there", "TLS is required", "kmq retry --queue "),
    Situation("a@broken.test", "no-tls-at-once", "attempts in vain: 1", "kmq retry --queue "),
    Situation("a@login.test", "login-failed", "535 5.7.8", "kmq retry --queue "),
    Situation("a@lost.test", "own-files", "password_file", "kmq retry --queue "),
    Situation("a@stranger.test", "untrusted", "certificate verify failed", "kmq retry --queue "),
    Situation("a@dns.test", "dns-trouble", "DNS lookup failure", "kmq retry --queue dns.test"),
    Situation("grey@plain.test", "greylisted", "Greylisted", "kmq retry {id}"),
    Situation("full@plain.test", "mailbox-full", "452 4.2.2", "kmq retry {id}"),
    Situation("rate@plain.test", "slow-down", "450 4.7.28", "kmq retry {id}"),
    Situation("busy@plain.test", "deferred", "451 4.3.0 Temporary lookup failure", "kmq retry {id}"),
    Situation("a@nowhere.test", "no-connector", "no connector serves the domain", "kmq reload", later=False),
    Situation("a@empty.test", "no-hosts", "has no hosts yet", "kmq reload", later=False),
]


@pytest.mark.parametrize("one", SITUATIONS, ids=lambda one: one.code)
def test_a_message_in_trouble(world: World, one: Situation) -> None:
    name = world.send(one.to)
    found = world.until_explained(one.to, one.code)
    assert found.to == [one.to]
    assert one.evidence in " ".join([*found.evidence, found.says])
    assert found.command.startswith(one.command.format(id=name))
    assert "{" not in found.says + found.first + found.command
    now = time.time()
    if one.later:
        assert found.until is not None and HOUR * 0.5 < found.until - now < HOUR * 1.5
    else:
        assert found.until is None


def test_the_command_is_the_one_that_changes_it(world: World) -> None:
    """By the example of a greylisted message: what explain says is said, and it is tried."""
    name = world.send("held@plain.test")
    before = world.until_explained("held@plain.test", "greylisted")
    assert before.command == f"kmq retry {name}"
    assert world.say("retry", ids=[name]).status == 0
    until(lambda: "attempt 2" in " ".join(world.finding("held@plain.test").evidence), "it was tried once more")


def test_the_command_works_as_it_is_printed_where_queues_share_a_name(world: World) -> None:
    """Three connectors go to one host; the password of one is mended."""
    world.send("b@lost.test")
    world.until_explained("b@lost.test", "own-files")
    name = world.send("b@login.test")
    found = world.until_explained("b@login.test", "login-failed")
    assert found.command.endswith(";login'")
    (world.kmqd.folder.parent / "password").write_text("right\n")
    kmq, *words = shlex.split(found.command)
    ran = subprocess.run(
        [sys.executable, "-m", f"kmq.cli.{kmq}", *words],
        env={**os.environ, "KMQ_CONF": world.settings.path},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 0, ran.stderr
    until(lambda: find(world.settings.kmq.spool, queue_id.parse(name)) is None, "it is delivered")


def test_how_it_came_which_rule_routed_it_each_attempt_and_its_deadlines(world: World) -> None:
    world.send("grey@plain.test")
    world.until_explained("grey@plain.test", "greylisted")
    (chapter,) = world.story("grey@plain.test").chapters
    path = world.kmqd.folder / "kmq.conf"
    line = path.read_text().splitlines().index("address_spaces = plain.test") + 1
    assert chapter.routed is not None
    assert chapter.routed.rule == f"{path}:{line} [plain : connector] address_spaces = plain.test"
    (attempt,) = chapter.attempts
    assert "attempt 1 at 127.0.0.1[127.0.0.1]:" in attempt and "Greylisted" in attempt
    assert chapter.deadlines is not None
    created = time.time()
    assert abs(chapter.deadlines.warning - created - 2 * HOUR) < 60, "by the connector's profile"
    assert abs(chapter.deadlines.expiry - created - 72 * HOUR) < 60
    assert not chapter.deadlines.warned and chapter.deadlines.heard


def test_a_message_that_an_operator_holds(world: World) -> None:
    name = world.send("busy@plain.test")
    world.until_explained("busy@plain.test", "deferred")
    world.say("suspend", ids=[name], reason="the bill is wrong")
    found = world.until_explained("busy@plain.test", "suspended")
    assert found.until is None and found.command == f"kmq resume {name}"
    assert "the bill is wrong" in found.says and "the bill is wrong" in found.evidence[0]
    world.say("resume", ids=[name])
    world.until_explained("busy@plain.test", "deferred")


def test_a_message_in_hand_held_and_removed_meanwhile(world: World) -> None:
    """In hand right now; then an operator's word that has to wait for that."""
    names = {to: world.send(to) for to in ("hang-at-data@plain.test", "hang-at-dot@plain.test")}
    for to in names:
        found = world.until_explained(to, "in-hand")
        assert found.until == 0.0 and found.command == "kmq processes"
    held, gone = names.values()
    world.say("suspend", ids=[held], reason="wait")
    until(lambda: "wait" in world.finding("hang-at-data@plain.test").says, "its envelope says who, and why")
    found = world.until_explained("hang-at-data@plain.test", "pending-suspend")
    assert found.command == f"kmq resume {held}" and "wait" in found.evidence[0]
    world.say("remove", ids=[gone], reason="spam")
    until(lambda: "spam" in world.finding("hang-at-dot@plain.test").says, "its envelope says who, and why")
    assert world.until_explained("hang-at-dot@plain.test", "pending-remove").command == "kmq processes"


def test_a_queue_that_an_operator_holds_and_what_comes_when_it_goes_on(world: World) -> None:
    world.send("b@refused.test")
    found = world.until_explained("b@refused.test", "unreachable-host")
    assert world.say("suspend", queue=found.queue, reason="their server is repaired").status == 0
    found = world.until_explained("b@refused.test", "queue-suspended")
    assert "their server is repaired" in found.says and found.until is None
    assert found.command == f"kmq resume --queue {found.queue}"
    assert world.say("resume", queue=found.queue).status == 0
    world.until_explained("b@refused.test", "unreachable-host")


def test_one_whose_mailbox_cannot_be_written(world: World) -> None:
    name = world.send("carol@local.test")
    found = world.until_explained("carol@local.test", "local-storage")
    assert "carol" in found.says and found.command == f"kmq retry {name}"


def test_a_connector_that_lets_one_message_a_minute_pass(world: World) -> None:
    world.send("first@rated.test")
    world.send("second@rated.test")
    found = world.until_explained("second@rated.test", "throttled")
    assert "messages_per_minute = 1" in found.says and "[rated : connector]" in found.first
    assert found.until is not None and 0 < found.until - time.time() < 61


def test_a_queue_by_its_name(world: World) -> None:
    world.send("c@refused.test")
    queue = world.until_explained("c@refused.test", "unreachable-host").queue
    facts = facts_about(world.settings, [])
    (hop,) = [hop for hop in map(hops.parse, facts.around.queues) if hop.name == queue]
    (found,) = explain_queue(hop, 1, ["refused.test"], facts)
    assert found.code == "unreachable-host" and found.command == f"kmq retry --queue {queue}"


def test_the_submission_queue_is_held(world: World) -> None:
    """Mail is taken in, and nobody says where it goes."""
    assert world.say("suspend", queue="Submission", reason="new aliases").status == 0
    world.send("late@plain.test")
    found = world.until_explained("late@plain.test", "submission-suspended")
    assert "new aliases" in found.says and found.command == "kmq resume --queue Submission"
    assert world.say("resume", queue="Submission").status == 0
    until(lambda: find(world.settings.kmq.spool, queue_id.parse(world.ids["late@plain.test"])) is None, "it is gone")


def test_workers_that_are_gone_and_kmqd_that_does_not_run(world: World) -> None:
    """The last story of this world."""
    world.send("d@refused.test")
    world.until_explained("d@refused.test", "unreachable-host")
    world.kmqd.kill_all()
    found = world.until_explained("d@refused.test", "kmqd-stopped")
    assert [one.code for one in world.story("d@refused.test").findings] == ["kmqd-stopped"]
    assert found.command == "systemctl start kmq" and "does not run" in found.evidence[0]
    assert [one.code for one in world.story("a@nowhere.test").findings] == ["kmqd-stopped", "no-connector"]
