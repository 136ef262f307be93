"""Situations that would take days, or a broken machine: envelopes and states as the real code makes them, staged."""

import re
import shlex
import time
from pathlib import Path

import pytest

from kmq.admin.circumstances import Circumstances, QueueState, queue_state
from kmq.admin.explain import explain, remedy
from kmq.admin.explain_causes import CAUSES
from kmq.admin.explain_finding import Facts, Finding, Kmqd
from kmq.admin.explain_gone import explain_gone, explain_kept
from kmq.admin.explain_queue import explain_queue
from kmq.admin.explain_replies import of_hop, of_recipient
from kmq.admin.explain_story import story
from kmq.cli.parser import VERBS, parser
from kmq.config import Settings, load
from kmq.log.tracking import Details, Entry
from kmq.model import hop as hops
from kmq.model import moment, queue_id
from kmq.model.envelope import Head, Recipient
from kmq.model.event import Crashed, Deferred, Delivered, Event, Moved, Passed, Redirected, Routed, Suspended
from kmq.phases.executing import categorize
from kmq.phases.program import Ended
from kmq.phases.sysexits import STATUS, as_reply
from kmq.routing.table import Routes
from kmq.run.grace import Cause
from kmq.run.overdue import STOPPED
from kmq.spool.look import Found, find, walk
from kmq.spool.status import InHand
from kmq.view.explain import causes, message
from kmq.view.words import local_time
from tests.mailbag import CREATED, Mailbag
from tests.run.desk import ISP, Desk

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = spool
local_domains = example.org

[mx : receiver]
listen = 127.0.0.1:2525

[isp : connector]
type = smarthost
address_spaces = *.example, example.net
hosts = isp.example
retry_profile = short

[short : retry]
steps = 5m
warn_after = 1h
bounce_after = 2d
"""

HOUR = 3600.0
AT_52 = "2026-11-22T05:52:00.000Z"
BORN = moment.from_text(CREATED)


class Stage:
    """A spool without kmqd, its configuration, and what kmqd would say."""

    def __init__(self, folder: Path) -> None:
        self.bag = Mailbag(folder / "spool")
        (folder / "kmq.conf").write_text(CONFIGURATION)
        self.settings: Settings = load(str(folder / "kmq.conf"))
        self.around = Circumstances(BORN + 60, "mx.example.org")
        self.facts = Facts(BORN + 60, self.settings, self.around)

    def lay(self, *events: Event, to: str = "bob@isp.example", home: str = "queue") -> str:
        return self.bag.lay(*events, to=(to,), home=home)

    def routed(self, to: str = "bob@isp.example") -> Routed:
        """As the categorizer would have it, by the real table."""
        head = Head("", "", CREATED, "alice@example.org", [Recipient(to)], 1)
        only = categorize(head, [0], Routes(self.settings).of(head).decide).only
        assert only is not None
        return only

    def causes(self, name: str) -> list[Finding]:
        found = find(self.bag.spool, queue_id.parse(name))
        assert found is not None
        return explain(found, self.facts)

    def only(self, name: str) -> Finding:
        (one,) = self.causes(name)
        return one


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def in_queue(desk: Desk, hop: str) -> QueueState:
    """A queue's state as kmqd's answer would have it, of what the real core says."""
    facts = desk.scheduler.verbs.facts(hop)
    assert facts is not None
    offset = BORN - desk.now
    line: dict[str, object] = {
        "Status": facts.status.value,
        "LastError": facts.last_error or None,
        "NextRetryTime": None if facts.next_retry is None else moment.as_text(facts.next_retry + offset),
        "RetryCount": facts.failures,
        "MessageCount": facts.messages,
    }
    return queue_state(line)


# --- kmqd itself ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kmqd", "code", "command"),
    [
        (Kmqd("kmqd does not run", owned=False, workers=0), "kmqd-stopped", "systemctl start kmq"),
        (Kmqd("kmqd broke off its answer", owned=True), "kmqd-silent", "systemctl restart kmq"),
        (Kmqd("this user may not ask kmqd", owned=None, forbidden=True), "not-allowed", "sudo kmq explain "),
        (Kmqd(workers=0), "no-worker", "systemctl restart kmq"),
        (Kmqd(workers=2, still=37.0), "workers-stand-still", "systemctl restart kmq"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_kmqd_is_what_is_waited_for(stage: Stage, kmqd: Kmqd, code: str, command: str) -> None:
    stage.facts.kmqd = kmqd
    name = stage.lay(stage.routed())
    first = stage.causes(name)[0]
    assert first.code == code and first.command.startswith(command)
    assert first.until == (BORN + 60 + 300 - 37 if kmqd.still else None), "a worker that stands still is ended"
    assert kmqd.silence in " ".join(first.evidence)
    assert all("nothing is wrong" not in one.says for one in stage.causes(name)) or code == "not-allowed"


def test_workers_that_stand_still_are_no_work_in_hand(stage: Stage) -> None:
    name = stage.lay(stage.routed())
    stage.around.statuses[name, stage.routed().hop] = "Active"
    assert stage.only(name).code == "in-hand"
    stage.facts.kmqd = Kmqd(workers=2, still=37.0)
    assert stage.only(name).code == "workers-stand-still"
    told = "\n".join(causes(stage.causes(name), stage.facts.now))
    assert "phase_limit = 300s" in told and "work in hand ends" not in told


def test_what_is_in_hand_says_since_when_and_whether_its_worker_stands_still(stage: Stage) -> None:
    name = stage.lay(stage.routed())
    stage.around.statuses[name, stage.routed().hop] = "Active"
    stage.around.in_hand[name] = InHand(name, status="SMTP delivery", server="isp:25", since=AT_52, percent=40)
    told = "\n".join(causes(stage.causes(name), stage.facts.now))
    assert f"{local_time(moment.from_text(AT_52))} SMTP delivery to isp:25, 40 % sent" in told
    assert "Until     the work in hand ends" in told
    stage.around.still[name] = 12.0
    assert "its worker stands still for 12 s" in stage.only(name).evidence[1]


def test_what_is_wrong_beside_a_stopped_kmqd_is_told_too(stage: Stage) -> None:
    stage.facts.kmqd = Kmqd("kmqd does not run", owned=False)
    name = stage.lay(stage.routed("dave@nowhere.test"))
    assert [one.code for one in stage.causes(name)] == ["kmqd-stopped", "no-connector"]


def test_a_full_disk_is_told_beside_what_a_message_waits_for(stage: Stage) -> None:
    stage.facts.free = 1000
    codes = {one.code: one for one in stage.causes(stage.lay(stage.routed()))}
    assert set(codes) == {"disk-full", "waiting-turn"}
    assert "1,000 bytes are free" in codes["disk-full"].evidence[0] and codes["disk-full"].command == "kmq doctor"


def test_back_pressure_is_told_beside_it(stage: Stage) -> None:
    stage.around.news = (
        f"{STOPPED}\nback pressure (spool_space 90M): other servers hear 452. kmq pressure shows all of it"
    )
    codes = {one.code: one for one in stage.causes(stage.lay(stage.routed()))}
    assert set(codes) == {"back-pressure", "waiting-turn"}
    assert codes["back-pressure"].command == "kmq pressure" and "90M" in codes["back-pressure"].evidence[0]


def test_a_message_that_kmqd_has_not_read_yet(stage: Stage) -> None:
    stage.facts.told = True
    assert stage.only(stage.lay(stage.routed())).code == "loading"


# --- queues -----------------------------------------------------------------------------------------------------------


def test_a_probe_is_running(stage: Stage) -> None:
    """The core itself says so: the hop failed, its time came, and one message tries."""
    hop = str(hops.parse(stage.routed().hop))
    desk = Desk()
    desk.queued(hop)
    desk.queued(hop)
    for assignment in desk.assign():
        desk.done(assignment, hop=hop, unavailable="451 4.4.1 connect to isp.example: timed out")
    stage.around.queues[hop] = in_queue(desk, hop)
    name = stage.lay(stage.routed())
    waiting = stage.only(name)
    assert waiting.code == "unreachable-host" and waiting.until == stage.around.queues[hop].next_retry
    assert waiting.command == "kmq retry --queue isp.example:25"
    desk.wait(400)
    assert len(desk.assign()) == 1
    stage.around.queues[hop] = in_queue(desk, hop)
    assert stage.only(name).code == "probe-running"


@pytest.mark.parametrize(
    ("line", "code", "said", "command"),
    [
        ({"Status": "Suspended", "HeldBy": "uid 0: repair"}, "queue-suspended", "repair", "kmq resume --queue isp.ex"),
        (
            {"Status": "Suspended", "HeldBy": "grace hold: 535 5.7.8 wrong password"},
            *("grace-hold", "535 5.7.8 wrong password", "kmq resume --queue isp.ex"),
        ),
        (
            {"Status": "Ready", "Why": "throttled", "Throttled": "connections = 3", "NextRetryTime": AT_52},
            *("throttled", "own limits hold it back: connections = 3", "kmq reload"),
        ),
        (
            {"Status": "Ready", "Why": "throttled", "Throttled": "it asked for less: 421 slow", "NextRetryTime": AT_52},
            *("asked-less", "421 slow", "kmq reload"),
        ),
    ],
    ids=["operator", "grace hold", "throttled", "asked for less"],
)
def test_a_queue_held_by_somebody(stage: Stage, line: dict[str, object], code: str, said: str, command: str) -> None:
    routed = stage.routed()
    stage.around.queues[routed.hop] = queue_state(line)
    found = stage.only(stage.lay(routed))
    assert (found.code, said in found.says) == (code, True)
    assert found.command.startswith(command)
    assert found.until == (moment.from_text(AT_52) if "Why" in line else None)


@pytest.mark.parametrize(("cause", "first"), [(one, remedy(one.value)) for one in Cause] + [(None, "complains of")])
def test_a_grace_hold_says_what_is_to_be_mended(stage: Stage, cause: Cause | None, first: str) -> None:
    routed = stage.routed()
    why = f"grace hold: {cause.value if cause else 'something new'}"
    stage.around.queues[routed.hop] = queue_state({"Status": "Suspended", "HeldBy": why})
    found = stage.only(stage.lay(routed))
    assert found.code == "grace-hold" and first in found.first
    assert (found.first == "mend what the next hop complains of") == (cause is None)


def test_a_command_names_the_queue_so_that_it_is_the_only_one(stage: Stage) -> None:
    """Two connectors with one smart host, by two names: the name of the queue says not which."""
    routed = stage.routed()
    stage.around.queues[routed.hop] = queue_state({"Status": "Suspended", "HeldBy": "uid 0"})
    name = stage.lay(routed)
    assert stage.only(name).command == "kmq resume --queue isp.example:25"
    other = str(hops.parse(routed.hop)._replace(connector="other"))
    stage.around.queues[other] = queue_state({"Status": "Ready"})
    assert stage.only(name).command == f"kmq resume --queue '{routed.hop}'"
    (of_queue,) = explain_queue(hops.parse(routed.hop), 1, [], stage.facts)
    assert of_queue.command == stage.only(name).command


def test_the_submission_queue_is_held(stage: Stage) -> None:
    stage.around.queues[str(hops.SUBMISSION)] = queue_state({"Status": "Suspended", "HeldBy": "uid 0: upgrade"})
    found = stage.only(stage.lay())
    assert found.code == "submission-suspended" and found.command == "kmq resume --queue Submission"
    assert "upgrade" in found.says


def test_whose_turn_comes(stage: Stage) -> None:
    assert stage.only(stage.lay(stage.routed())).code == "waiting-turn"
    assert stage.only(stage.lay()).code == "categorizing"


# --- messages ---------------------------------------------------------------------------------------------------------


def test_poison_with_its_phase_and_trace(stage: Stage) -> None:
    trace = "Traceback\nsignal 11 in Antivirus"
    why = "2 workers failed on it alone in phase Local delivery"
    crashes = [Crashed(phase="Local delivery", count=count, trace=trace) for count in (1, 2)]
    name = stage.lay(stage.routed(), *crashes, Moved(home="poison", reason=why), home="poison")
    found = stage.only(name)
    assert (found.code, found.until, found.command) == ("poison", None, f"kmq resume {name}")
    assert why in found.says and "signal 11" in found.evidence[-1]
    assert found.first.startswith(f"kmq poison test {name} --phase 'Local delivery'")


@pytest.mark.parametrize(
    ("reason", "code", "command"),
    [
        ("damaged: 12 bytes instead of 80", "poison-damaged", "kmq remove {id}"),
        ("a notice that cannot be delivered", "lost-notice", "kmq remove {id}"),
    ],
)
def test_what_else_lies_in_poison(stage: Stage, reason: str, code: str, command: str) -> None:
    name = stage.lay(Moved(home="poison", reason=reason), home="poison")
    assert (stage.only(name).code, stage.only(name).command) == (code, command.format(id=name))


def test_a_damaged_envelope(stage: Stage) -> None:
    name = stage.lay()
    stage.bag.envelope(name).write_bytes(b"nonsense")
    found = stage.only(name)
    assert found.code == "damaged" and str(stage.bag.envelope(name)) in found.evidence


def test_a_suspect_is_tried_alone(stage: Stage) -> None:
    name = stage.lay(stage.routed(), Crashed(phase="Executing", count=1, trace="signal 9"))
    found = stage.only(name)
    assert found.code == "suspect" and "signal 9" in found.evidence[0]


def test_a_suspect_that_has_not_been_alone_yet_is_known_to_kmqd_only(stage: Stage) -> None:
    """It waits for a worker that has nothing else in hand: that may take as long as a slow delivery."""
    name, other = stage.lay(), stage.lay()
    stage.around.alone.add((name, str(hops.SUBMISSION)))
    assert (stage.only(name).code, stage.only(other).code) == ("suspect", "categorizing")


def test_what_a_scanner_holds_is_not_let_go_by_mistake(stage: Stage) -> None:
    """The command that is told ends a virus; the other one would deliver it."""
    passed = Passed(phase="Antivirus control", step="virus scan", by="virus", verdict="infected: Eicar")
    virus = stage.lay(passed, Suspended(rcpt="0", by="antivirus", reason="infected: Eicar (virus)"))
    found = stage.only(virus)
    assert (found.code, found.command) == ("infected", f"kmq remove {virus}")
    assert "by antivirus: infected: Eicar" in found.says and f"kmq resume {virus}" in found.first
    bill = stage.lay(Suspended(rcpt="0", by="uid 0", reason="the bill is wrong"))
    assert (stage.only(bill).code, stage.only(bill).command) == ("suspended", f"kmq resume {bill}")


def test_one_whose_recipients_are_all_done(stage: Stage) -> None:
    name = stage.lay(stage.routed(), Delivered(rcpt="0", attempt=1, reply="250 ok"))
    assert stage.only(name).code == "ending"


def test_who_it_is_for_cannot_be_found_out(stage: Stage) -> None:
    until = moment.as_text(BORN + 300)
    reply = "451 4.3.0 No such user, unless the aliases of /etc/aliases say so, which cannot be read"
    found = stage.only(stage.lay(Deferred(rcpt="0", attempt=1, reply=reply, until=until)))
    assert (found.code, found.until) == ("alias-trouble", BORN + 300)
    assert "/etc/aliases" in found.says and "attempt 1" in found.evidence[0]


def test_expiry_is_stopped_for_one_whose_time_is_over(stage: Stage) -> None:
    routed = stage.routed()
    name = stage.lay(routed)
    stage.facts.now = stage.around.now = BORN + 49 * HOUR
    assert [one.code for one in stage.causes(name)] == ["waiting-turn"]
    stage.facts.expiry_stopped, stage.around.news = True, STOPPED
    waits, over = stage.causes(name)
    assert (waits.code, over.code, over.command) == ("waiting-turn", "expiry-stopped", "kmq expire")
    assert over.evidence == [STOPPED]
    found = find(stage.bag.spool, queue_id.parse(name))
    assert isinstance(found, Found)
    told = "\n".join(message(found, story(found, stage.facts), stage.facts.now))
    assert "Given up  not now, though its time was over" in told and "first attempt that fails after" in told


def test_evidence_is_told_once_and_in_local_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    later = Deferred(rcpt="0", attempt=1, reply="450 4.2.0 greylisted", host="isp", until=moment.as_text(BORN + 300))
    name = stage.lay(stage.routed(), later)
    found = find(stage.bag.spool, queue_id.parse(name))
    assert isinstance(found, Found)
    told = "\n".join(message(found, story(found, stage.facts), stage.facts.now))
    monkeypatch.undo()
    time.tzset()
    assert "+0900 attempt 1 at isp: 450 4.2.0 greylisted" in told and "Z " not in told
    assert told.count("attempt 1 at isp") == 1, "as an attempt; not as evidence, too"


def test_what_no_connector_serves_has_its_notices_without_an_attempt(stage: Stage) -> None:
    found = find(stage.bag.spool, queue_id.parse(stage.lay(stage.routed("dave@nowhere.test"))))
    assert isinstance(found, Found)
    told = "\n".join(message(found, story(found, stage.facts), stage.facts.now))
    assert "attempt that fails" not in told and told.count("when no connector serves it until then") == 2


@pytest.mark.parametrize(
    ("to", "code"), [("dave@nowhere.test", "no-connector"), ("alice@example.org", "no-mailboxes"), ("bob", "no-domain")]
)
def test_what_no_connector_serves(stage: Stage, to: str, code: str) -> None:
    routed = stage.routed(to)
    found = stage.only(stage.lay(routed, to=to))
    assert found.code == code and routed.rule in found.evidence[0]


def test_what_a_disabled_connector_would_serve(stage: Stage) -> None:
    text = CONFIGURATION.replace("[isp : connector]", "[isp : connector]\nenabled = no")
    (Path(stage.settings.path)).write_text(text)
    stage.settings = stage.facts.settings = load(stage.settings.path)
    found = stage.only(stage.lay(stage.routed()))
    assert found.code == "connector-disabled" and "[isp : connector]" in found.says
    assert found.command == "kmq reload" and found.first.startswith("write enabled = yes")


def test_deadlines_and_redirection(stage: Stage) -> None:
    name = stage.lay(stage.routed(), Redirected(by="uid 0", reason="line down", connector="isp"), stage.routed())
    found = find(stage.bag.spool, queue_id.parse(name))
    assert found is not None
    (chapter,) = story(found, stage.facts).chapters
    assert "given to connector isp by root: line down" in chapter.attempts[0]
    assert chapter.deadlines is not None
    assert (chapter.deadlines.warning, chapter.deadlines.expiry) == (BORN + HOUR, BORN + 48 * HOUR)


def test_each_queue_of_a_message_has_its_own_cause(stage: Stage) -> None:
    one, other = stage.routed(), stage.routed("dave@nowhere.test")
    one.rcpt, other.rcpt = "0", "1"
    name = stage.bag.lay(one, other, to=("bob@isp.example", "dave@nowhere.test"))
    assert {found.code: found.to for found in stage.causes(name)} == {
        "no-connector": ["dave@nowhere.test"],
        "waiting-turn": ["bob@isp.example"],
    }


# --- what has left ----------------------------------------------------------------------------------------------------

ID = "69212ad0-00000001"


def entry(event: str, **more: object) -> Entry:
    return Entry(CREATED, event, "SMTP", ID, recipient_address=["bob@far.test"], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (entry("SEND", recipient_status=["250 ok"]), "delivered", "delivered"),
        (entry("FAIL", recipient_status=["552 5.3.4 too large"]), "failed", "552 5.3.4 too large"),
        (entry("DROP", custom_data=Details(by="uid 0", reason="spam")), "removed", "by root: spam"),
        (entry("EXPAND", reference=["69212ad0-00000002"]), "expanded", "69212ad0-00000002"),
        (entry("DEFER", recipient_status=["450 later"]), "left", "not in the tracking log"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_became_of_a_message_that_has_left(end: Entry, code: str, said: str) -> None:
    (found,) = explain_gone(ID, [entry("RECEIVE"), end])
    assert found.code == code and said in found.says and found.command == f"kmq history {ID}"


def test_what_the_safety_net_keeps_was_delivered(stage: Stage) -> None:
    name = stage.lay(stage.routed(), Delivered(rcpt="0", attempt=1, reply="250 ok", host="isp"))
    found = find(stage.bag.spool, queue_id.parse(name))
    assert isinstance(found, Found)
    (cause,) = explain_kept(found)
    assert cause.code == "delivered" and "at isp: 250 ok" in cause.evidence[0] and cause.to == ["bob@isp.example"]


def test_a_message_that_was_never_here() -> None:
    assert [one.code for one in explain_gone(ID, [])] == ["unknown"]


# --- whole queues -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hop", "state", "count", "code"),
    [
        (ISP, {}, 0, "empty"),
        (ISP, {"Status": "Active"}, 3, "flowing"),
        (ISP, {"Status": "Ready"}, 3, "deferred-each"),
        (ISP, {"Status": "Retry", "LastError": "451 4.4.3 DNS lookup failure"}, 3, "dns-trouble"),
        (ISP, {"Status": "Connecting", "RetryCount": 2}, 3, "probe-running"),
        (ISP, {"Status": "Suspended", "HeldBy": "uid 0: x"}, 0, "queue-suspended"),
        (ISP, {"Status": "Ready", "Why": "scheduled", "Timetable": "every 30m"}, 3, "scheduled"),
        (ISP, {"Status": "Ready", "Why": "on-demand"}, 3, "on-demand"),
        (ISP, {"Status": "Ready", "Why": "out-of-hours", "Timetable": "on mon"}, 3, "out-of-hours"),
        (str(hops.UNREACHABLE), {"Status": "Ready"}, 1, "unreachable-queue"),
        (str(hops.POISON), {}, 1, "poison-queue"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_queue(stage: Stage, hop: str, state: dict[str, object], count: int, code: str) -> None:
    stage.around.queues[hop] = queue_state(state)
    (found,) = explain_queue(hops.parse(hop), count, ["a.test"], stage.facts, BORN + 90)
    assert found.code == code
    assert "{" not in found.says + found.first + found.command
    assert "  " not in found.first, "every word is filled in"
    assert code != "deferred-each" or found.until == BORN + 90, "when the first of them is tried again"


def test_a_queue_whose_messages_are_all_held(stage: Stage) -> None:
    stage.around.queues[ISP] = queue_state({"Status": "Ready"})
    (found,) = explain_queue(hops.parse(ISP), 3, ["a.test"], stage.facts, None)
    name = hops.parse(ISP).name
    assert (found.code, found.command) == ("held-each", f"kmq resume --queue {name} --messages")


def test_a_name_of_a_queue_is_quoted_for_the_shell() -> None:
    one = Finding("queue-suspended", queue="a b; rm -rf /", words={})
    assert one.command == "kmq resume --queue 'a b; rm -rf /'"


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CAUSES)
def test_every_cause_is_told_whatever_is_known(code: str) -> None:
    bare = Finding(code)
    assert bare.says and "{" not in bare.says and bare.command.startswith(("kmq ", "systemctl ", "sudo kmq "))


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("451 4.4.3 cannot find the address of mx.far.test: Name or service not known", "dns-trouble"),
        ("451 4.4.0 isp[192.0.2.1]:587 said: 535 5.7.8 no", "login-failed"),
        (
            "451 4.7.4 isp[192.0.2.1]:587: the server offers no way to log in that is known (PLAIN, LOGIN)",
            "login-failed",
        ),
        ("451 4.4.0 isp[192.0.2.1]:25 said: 421 4.7.0 too many connections", "slow-down"),
        ("451 4.4.1 connect to isp[192.0.2.1]:587: [SSL: WRONG_VERSION_NUMBER] wrong version number", "no-tls-at-once"),
        ("451 4.4.1 connect to isp[192.0.2.1]:587: [SSL] tlsv1 alert protocol version", "tls-failed"),
        ("451 4.4.5 all connections to isp[192.0.2.1]:25 are busy", "connections-busy"),
        ("451 4.3.5 the configuration has no connector 'x' of type dns", "connector-gone"),
        ("451 4.4.2 isp[192.0.2.1]:25 did not answer in time", "connection-lost"),
        ("451 4.3.5 isp[192.0.2.1]:25: source_address 192.0.2.9 is no address of this machine", "no-source-address"),
        ("451 4.4.0 isp[192.0.2.1]:465 said: 535 5.7.8 no (AUTH XOAUTH2: status 400)", "login-failed"),
        ("451 4.3.2 the agent is begun anew in 5 s: it ended by itself, with exit status 1", "agent-down"),
        ("452 4.3.1 /spool/drop/x400 is full (drop_quota): 300 bytes wait there for the gateway", "drop-full"),
        ("452 4.3.1 there is no room in /spool/drop/x400: No space left on device", "drop-folder"),
        ("451 4.3.5 /gate is missing: make it, or take it out of the configuration", "drop-folder"),
        ("451 4.3.0 cannot write into /gate: Permission denied", "drop-folder"),
        ("whatever", "unreachable-host"),
        ("", "unreachable-host"),
    ],
)
def test_what_a_hop_says(reply: str, code: str) -> None:
    assert of_hop(reply) == code
    assert code in CAUSES


@pytest.mark.parametrize(
    ("reply", "host", "code"),
    [
        ("451 4.4.1 the agent did not answer in 300 s", "fax", "agent-unanswered"),
        ("451 4.3.0 the agent was ended before it answered: it says a line without end", "fax", "agent-unanswered"),
        ("451 4.3.0 cannot write the message down for the agent: No space left on device", "", "own-disk"),
        ("451 4.3.0 cannot read the message: Input/output error", "", "own-disk"),
        ("451 4.7.1 Content scanner unavailable: virus (clamd at /s): refused", "", "scanner-down"),
        ("451 4.7.1 junk says greylist, score 5.0", "", "scanner-later"),
        ("452 4.3.1 it cannot be archived in /archive: No space left on device", "", "no-archive"),
        ("451 4.3.0 it cannot be archived in /archive: it has not answered for 60 s", "", "no-archive"),
        ("451 4.3.0 The message cannot be examined now: no examiner can be begun: no room", "", "no-examiner"),
    ],
)
def test_what_an_agent_does_not_say(reply: str, host: str, code: str) -> None:
    assert of_recipient(reply, host, local=False) == code
    assert code in CAUSES


@pytest.mark.parametrize(
    ("reply", "host", "code"),
    [
        ("452 4.2.2 the mailbox is full: 10 bytes, 1 messages, the quota is 1 messages (alice)", "", "mailbox-full"),
        ("452 4.2.2 <alice@here.test> Quota exceeded (mailbox for user is full)", "/run/dovecot/lmtp", "mailbox-full"),
        ("451 4.3.0 <alice@here.test> Temporary internal error", "/run/dovecot/lmtp", "deferred"),
        ("451 4.2.0 the mailbox is locked: alice.lock is there (alice)", "", "mailbox-locked"),
        ("451 4.3.0 local storage error: Input/output error (alice)", "", "local-storage"),
        ("452 4.3.1 the mail system is full: No space left on device (alice)", "", "local-storage"),
        ("451 4.3.5 /usr/bin/procmail cannot be run: No such file or directory", "", "command-failed"),
        ("451 4.3.0 procmail exited with status 1", "", "command-failed"),
        ("451 4.3.0 kmq-deliver cannot be reached at /run/kmq-deliver.sock: Connection refused", "", "no-deliverer"),
        ("451 4.3.5 kmq-deliver: root is no person: uid 0 is not in 1000 to 60000", "", "no-deliverer"),
        ("451 4.4.2 kmq-deliver has not answered for 330 s", "", "no-deliverer"),
        ("451 4.3.0 procmail died of signal 9: half-way", "", "command-failed"),
        ("451 4.3.0 procmail was ended: it took longer than time_limit", "", "command-failed"),
        ("451 4.3.0 procmail: temporary failure: later", "", "command-failed"),
    ],
)
def test_what_local_delivery_says(reply: str, host: str, code: str) -> None:
    assert of_recipient(reply, host, local=True) == code
    assert code in CAUSES


def test_every_command_s_status_that_waits_is_told_of_the_command() -> None:
    waiting = [as_reply(Ended(status, b""), "procmail") for status in (*STATUS, 1, 127, -9)]
    codes = {of_recipient(str(one), "", local=True) for one in waiting if one.code // 100 == 4}
    assert codes == {"command-failed"}


def test_every_reply_has_a_cause() -> None:
    for host in ("", "mx"):
        for local in (False, True):
            for reply in ("", "4", "450 \x1b[2J", "451 " + "x" * 5000):
                assert of_recipient(reply, host, local) in CAUSES


def test_the_manual_has_every_cause() -> None:
    text = (Path(__file__).resolve().parents[2] / "man" / "kmq.1").read_text()
    section = text.partition(".Ss Causes")[2].partition(".Sh EXIT")[0]
    told = section[section.index(".It ") : section.rindex(".El")]
    assert told.split("\n.It ") == "".join(in_the_manual(code) for code in CAUSES).split("\n.It ")


@pytest.mark.parametrize("code", CAUSES)
def test_every_command_is_one_that_there_is(code: str) -> None:
    words = {"id": ID, "phase": "'Local delivery'", "domain": "far.test", "connector": "isp"}
    found = Finding(code, queue="isp.example:25", words=words)
    program, *said = shlex.split(found.command.removeprefix("sudo ").replace(" ID", f" {ID}"))
    if program == "kmq":
        assert parser().parse_args(said).verb in VERBS
    else:
        assert [program, said[-1]] == ["systemctl", "kmq"]
    assert set(re.findall(r"\bkmq ([a-z]+)", found.first)) <= set(VERBS)


def in_the_manual(code: str) -> str:
    cause = CAUSES[code]
    first = f"First: {cause.first}.\n" if cause.first else ""
    text = f".It {code}\n{cause.says}.\nProof: {cause.proof}.\n{first}.br\n.Ql {cause.command}\n"
    return text.replace("{", "").replace("}", "")


def test_looking_at_a_whole_spool_never_fails(stage: Stage) -> None:
    """Whatever lies there, there is a cause for it."""
    stage.lay(stage.routed())
    stage.lay(home="poison")
    stage.lay(Routed(rcpt="0", hop="no next hop"), to="x@y.test")
    assert all(explain(found, stage.facts) for found in walk(stage.bag.spool))
