"""Server rules: whom they are about, what they ask for, and what they come to."""

import email
import email.policy
from collections.abc import Sequence
from email.message import EmailMessage

import pytest

from kmq.config import read
from kmq.model.envelope import Head, Recipient
from kmq.model.event import Discarded, Failed, HeaderEdit, Suspended
from kmq.model.phase import Phase
from kmq.phases.facts import Attachment
from kmq.phases.inspection import Finding
from kmq.phases.rules import Applied, Rule, apply, rules_of
from kmq.phases.rules_deeds import Asking, finding
from kmq.phases.rules_header import Header
from kmq.phases.rules_letters import Office
from kmq.phases.rules_tests import Look, Need

OFFICE = Office("postmaster@here.test", "mx.here.test")
TO = ("ada@here.test", "bob@far.test", "eve@here.test")
ID = "69212ad0-0000a1f3"


def rules(text: str) -> tuple[Rule, ...]:
    return rules_of(read(f"[kmq]\nhostname = mx.here.test\n{text}", "kmq.conf", "/", "mx"))


def rule(*conditions: str, actions: Sequence[str] = ("stop",), more: str = "") -> str:
    rows = "".join(f"\n  {row}" for row in conditions)
    deeds = "".join(f"\n  {row}" for row in actions)
    return f"condition ={rows}\naction ={deeds}\n{more}"


def one(*conditions: str, more: str = "") -> tuple[Rule, ...]:
    return rules("[r : rule]\n" + rule(*conditions, more=more))


def look(header: str | None = "", *, sender: str = "me@there.test", size: int = 1000, to: Sequence[str] = TO) -> Look:
    head = Head(ID, "", "", sender, [Recipient(one) for one in to], size)
    return Look(head, None if header is None else Header(header.replace("\n", "\r\n").encode()), ())


def local(address: str) -> bool:
    return address.endswith("@here.test")


def whom(found: Sequence[Rule], seen: Look) -> list[tuple[str, tuple[int, ...]]]:
    """Which rules apply to whom; the recipients are all still there."""
    applied = apply(found, seen, range(len(seen.head.recipients)), local)
    assert not isinstance(applied, Need), applied
    return [(each.rule.section.name, each.rcpt) for each in applied]


def met(condition: str, seen: Look) -> bool:
    return bool(whom(one(condition), seen))


# --- conditions ------------------------------------------------------------------------------------------------------

HEADER = """\
Received: from there
Subject: =?utf-8?q?Rechnung_f=C3=BCr?= =?utf-8?b?IE3DpHJ6?=
From: "Liddell, Alice" <Alice@There.TEST>
To: Bob <bob@far.test>, ada@here.test,
\tgroup: eve@here.test;
X-Spam-Score: 6.5 (++++++)
X-Empty:
"""


@pytest.mark.parametrize(
    ("condition", "so"),
    [
        ("all mail", True),
        ("subject is Rechnung für März", True),
        ("subject equal RECHNUNG*märz", True),
        ("subject is Rechnung", False),
        ('subject is "Rechnung*"', False),
        ("subject contains FÜR MÄRZ, other", True),
        ("subject not contain other", True),
        ("subject does not contain rechnung", False),
        ("subject matches ^rechnung .*märz$", True),
        ("subject not matches [0-9]", True),
        ("from is alice@there.test", True),
        ("from is @there.test", True),
        ("from is *@*.test", True),
        ("from is not alice@there.test", False),
        ("from contains liddell", True),
        ("to is ada@here.test", True),
        ("to is eve@here.test", True),
        ("to is carol@here.test", False),
        ("cc is not bob@far.test", True),
        ("cc exists", False),
        ("header X-Empty exists", True),
        ("header X-Empty is not anything", True),
        ("header x-nobody not exists", True),
        ("header sender exists", False),
        ("size over 999", True),
        ("size over 1000", False),
        ("size under 1K", True),
        ("size under 1000", False),
        ("spam score over 6", True),
        ("spam score over 6.5", False),
        ("spam score under 7", True),
        ("envelope sender is me@there.test", True),
        ("envelope sender is <>", False),
        ("envelope sender contains there", True),
        ("attachment exists", False),
        ("attachment not exists", True),
    ],
)
def test_conditions(condition: str, so: bool) -> None:
    assert met(condition, look(HEADER)) is so


@pytest.mark.parametrize(
    ("header", "points"),
    [
        ("X-Spamd-Result: default: False [7.25 / 15.00];\n\tSYMBOL(0.00)[]\n", 7.25),
        ("X-Spam-Status: Yes, score=8.1 required=5.0\n", 8.1),
        ("X-Spam-Score: -3\n", -3.0),
        ("X-Spam-Score: 9\nX-Spam-Score: 1\n", 9.0),
        ("X-Spam-Score: high\n", None),
        ("", None),
    ],
)
def test_a_score_is_that_of_the_nearest_filter_and_none_is_neither_over_nor_under(
    header: str, points: float | None
) -> None:
    assert Header(header.replace("\n", "\r\n").encode()).score == points
    assert met("spam score over -99", look(header)) is (points is not None)
    assert met("spam score under 99", look(header)) is (points is not None)


def test_a_field_is_known_by_its_whole_name() -> None:
    """However it is written, and whatever other names begin so, or stand in a value."""
    text = b"Subject-Of: 1\r\nX: a\r\n Subject: 2\r\nsUBJECT \t: three\r\n  folded\r\nSubject:\r\n"
    header = Header(text + b"Subjects: 4\r\nTo: a@b.test\r\n")
    assert header.values("subject") == ["three  folded", ""]
    assert header.values("subject-of") == ["1"]
    assert header.values("sub") == []
    assert header.addresses("to") == ["a@b.test"]


def test_a_score_of_a_filter_of_ours_goes_before_what_a_header_claims() -> None:
    seen = look("X-Spam-Score: -5\n")
    ours = Look(seen.head, seen.header, (), 9.0)
    assert met("spam score over 8", ours)


def attached(name: str, kind: str = "", *, names: tuple[str, ...] = (), magic: str = "", member: bool = False) -> Look:
    found = Attachment(name, names or (name,), kind, magic, 5, False, member, "a.zip" if member else "", 1)
    return Look(look().head, look().header, (found,))


@pytest.mark.parametrize(
    ("condition", "seen", "so"),
    [
        ("attachment is *.exe", attached("Setup.EXE"), True),
        ("attachment is *.exe", attached("run.exe. ."), True),
        ("attachment is run.exe", attached("ru\u200bn\u202e.exe"), True),
        ("attachment is *.exe", attached("\uff52un.\uff45xe"), True),
        ("attachment is *.exe", attached("a.txt", names=("a.txt", "b.exe")), True),
        ("attachment is setup.exe", attached("folder\\setup.exe", member=True), True),
        ("attachment is setup.exe", attached("folder/setup.exe"), True),
        ("attachment is folder/setup.exe", attached("folder/setup.exe"), True),
        ("attachment is not *.pdf", attached("a.pdf"), False),
        ("attachment is not *.pdf", attached("a.doc"), True),
        ("attachment is not *.pdf", look(), True),
        ("attachment contains invoice", attached("Invoice 5.js"), True),
        ("attachment is invoice ?.js", attached("Invoice 5.js"), True),
        ("attachment is [a]*.js", attached("a.js"), False),
        (
            "attachment type is application/x-dosexec",
            attached("a.txt", "text/plain", magic="application/x-dosexec"),
            True,
        ),
        ("attachment type is image/*", attached("a.png", "image/png"), True),
        ("attachment exists", attached("a"), True),
    ],
)
def test_conditions_about_attachments(condition: str, seen: Look, so: bool) -> None:
    assert met(condition, seen) is so


def test_stars_take_time_in_proportion() -> None:
    pattern = "subject is " + "*a" * 50 + "*b"
    assert not met(pattern, look(f"Subject: {'a' * 9000}\n"))


# --- whom a rule is about --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("direction", "recipients"), [("all", (0, 1, 2)), ("incoming", (0, 2)), ("outgoing", (1,))])
def test_incoming_is_for_here_and_outgoing_for_elsewhere(direction: str, recipients: tuple[int, ...]) -> None:
    assert whom(one("all mail", more=f"apply = {direction}\n"), look()) == [("r", recipients)]


def test_a_condition_about_recipients_is_about_each() -> None:
    assert whom(one("envelope recipient is ada@here.test"), look()) == [("r", (0,))]
    assert whom(one("envelope recipient is not ada@here.test"), look()) == [("r", (1, 2))]
    assert whom(one("envelope recipient is nobody@here.test"), look()) == []
    both = one("envelope recipient is @here.test", "size over 10M")
    assert whom(both, look()) == []
    assert whom(both, look(size=20 << 20)) == [("r", (0, 2))]


def test_with_any_what_the_message_meets_is_met_by_all() -> None:
    either = one("envelope recipient is ada@here.test", "size over 10M", more="match = any\n")
    assert whom(either, look()) == [("r", (0,))]
    assert whom(either, look(size=20 << 20)) == [("r", (0, 1, 2))]


def test_who_is_stopped_or_ended_meets_no_further_rule() -> None:
    text = "".join(
        (
            "[a : rule]\n" + rule("envelope recipient is ada@here.test", actions=["stop"]),
            "[b : rule]\n" + rule("envelope recipient is bob@far.test", actions=["reject no"]),
            "[c : rule]\n" + rule("all mail", actions=["add header X: y"]),
            "[d : rule]\nenabled = no\n" + rule("all mail", actions=["discard"]),
            "[e : rule]\n" + rule("all mail", actions=["hold"]),
            "[f : rule]\n" + rule("all mail", actions=["discard"]),
        )
    )
    assert whom(rules(text), look()) == [("a", (0,)), ("b", (1,)), ("c", (2,)), ("e", (2,))]


# --- what has to be known --------------------------------------------------------------------------------------------


def asks(found: Sequence[Rule], seen: Look) -> object:
    said = apply(found, seen, range(3), local)
    return said if isinstance(said, Need) else [each.rcpt for each in said]


def test_what_the_envelope_decides_costs_no_look_at_the_text() -> None:
    nothing = Look(look().head)
    dear = one("attachment is *.exe", "subject contains x", "size over 10M")
    assert asks(dear, nothing) == []
    large = Look(look(size=20 << 20).head)
    assert asks(dear, large) is Need.HEADER
    assert asks(dear, Look(large.head, Header(b"Subject: y\r\n"))) == []
    assert asks(dear, Look(large.head, Header(b"Subject: x\r\n"))) is Need.ATTACHMENTS
    assert asks(one("envelope recipient is x@y.test", "attachment exists"), nothing) == []
    assert asks(one("attachment exists", "envelope sender is me@there.test", more="match = any\n"), nothing) == [
        (0, 1, 2)
    ]


def test_what_everybody_meets_by_his_address_is_not_asked_of_the_message() -> None:
    either = one("attachment exists", "envelope recipient is *@*", more="match = any\n")
    assert asks(either, Look(look().head)) == [(0, 1, 2)]


def test_what_an_action_says_of_the_header_is_asked_for_only_when_it_applies() -> None:
    text = "[r : rule]\n" + rule("size over 1M", actions=["add header X: ${subject}"])
    assert asks(rules(text), Look(look().head)) == []
    assert asks(rules(text), Look(look(size=2 << 20).head)) is Need.HEADER
    assert asks(rules(text.replace("${subject}", "${size}")), Look(look(size=2 << 20).head)) == [(0, 1, 2)]


# --- what it comes to ------------------------------------------------------------------------------------------------


def outcome(text: str, seen: Look) -> Finding:
    applied = apply(rules(text), seen, range(len(seen.head.recipients)), local)
    assert not isinstance(applied, Need)
    return finding(Asking(seen, 3, OFFICE), applied)


def acts(*actions: str, conditions: Sequence[str] = ("all mail",), seen: Look | None = None, more: str = "") -> Finding:
    return outcome("[r : rule]\n" + rule(*conditions, actions=actions, more=more), seen or look("Subject: Hi\n"))


def test_nothing_that_applies_is_nothing_to_say() -> None:
    found = acts("discard", conditions=["size over 1M"])
    assert found.passed is not None and (found.passed.by, found.passed.verdict) == ("", "")
    assert not found.events and not found.letters


def test_header_changes_in_the_order_of_the_rules() -> None:
    found = acts("add header X-Big: yes", "set header Subject: [extern] ${subject}", "remove header X-Mailer")
    assert found.passed is not None
    assert found.passed.headers == (
        HeaderEdit("add", "X-Big", "yes"),
        HeaderEdit("set", "Subject", "[extern] Hi"),
        HeaderEdit("remove", "X-Mailer"),
    )
    assert found.passed.by == "rule r (kmq.conf:3)"
    assert found.passed.verdict == "add header X-Big: yes; set header Subject: [extern] Hi; remove header X-Mailer"


def test_what_a_message_says_stays_one_line_of_ascii() -> None:
    nasty = look("Subject: =?utf-8?q?J=C3=B6rg=0D=0ABcc=3A_x=00${id}?=\n")
    found = acts("set header Subject: ${subject} ${size}", "reject ${subject}", seen=nasty)
    assert found.passed is not None
    (edit,) = found.passed.headers
    assert edit.value.isascii() and edit.value.isprintable()
    read_back = email.message_from_string(f"Subject: {edit.value}\n\n", policy=email.policy.default)
    assert read_back["Subject"] == "JörgBcc: x ${id} 1000"
    (failed,) = found.events
    assert isinstance(failed, Failed) and failed.reply == "550 5.7.1 JörgBcc: x ${id}"


def test_the_ends_of_recipients() -> None:
    some = ["envelope recipient is ada@here.test, bob@far.test"]
    (failed,) = acts("reject We take no ${sender}.", conditions=some).events
    assert failed == Failed(rcpt="0-1", attempt=3, reply="550 5.7.1 We take no me@there.test.")
    (gone,) = acts("discard", conditions=some, more="description = old stuff\n").events
    assert gone == Discarded(rcpt="0-1", by="rule r (kmq.conf:3)", reason="old stuff")
    (held,) = acts("hold smells of ${rule}", conditions=some).events
    assert held == Suspended(rcpt="0-1", by="rule r (kmq.conf:3)", reason="smells of r")


def test_redirected_mail_goes_on_as_another_message_with_the_sender_s_wishes() -> None:
    head = Head(ID, "", "", "me@there.test", [Recipient("ada@here.test", "SUCCESS"), Recipient("bob@far.test")], 5)
    seen = Look(head, Header(b""), ())
    actions = ["redirect to new@far.test", "set header X-Was: ${recipients}"]
    found = acts(*actions, conditions=["envelope recipient is ada@here.test"], seen=seen)
    (gone,) = found.events
    assert gone == Discarded(rcpt="0", by="rule r (kmq.conf:3)", reason="redirect to new@far.test")
    (letter,) = found.letters
    assert (letter.sender, letter.recipients) == (
        "me@there.test",
        (Recipient("new@far.test", "SUCCESS", "rfc822;ada@here.test"),),
    )
    assert (letter.how, letter.text, letter.quiet, letter.passed) == ("rule", None, False, (Phase.BACKUP,))
    assert letter.edits == (HeaderEdit("set", "X-Was", "ada@here.test"),)


def test_copies_are_silent_and_nobody_gets_two() -> None:
    text = "".join(
        (
            "[a : rule]\n" + rule("all mail", actions=["copy to audit@here.test, EVE@here.test, ada@here.test"]),
            "[b : rule]\n"
            + rule("all mail", actions=["copy to Audit@here.test", "add recipient bob@far.test, zoe@z.test"]),
            "[c : rule]\n" + rule("envelope recipient is ada@here.test", actions=["discard"]),
        )
    )
    copy, added = outcome(text, look()).letters
    assert [each.address for each in copy.recipients] == ["audit@here.test", "ada@here.test"], "eve gets it anyhow"
    assert copy.quiet and {each.notify for each in copy.recipients} == {"NEVER"}
    assert ([each.address for each in added.recipients], added.quiet) == (["zoe@z.test"], False)


def letter_of(found: Finding) -> EmailMessage:
    (letter,) = found.letters
    assert letter.text is not None and letter.quiet and letter.sender == ""
    return email.message_from_bytes(letter.text, policy=email.policy.default)


def test_somebody_is_notified() -> None:
    seen = look("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nFrom: Me <me@there.test>\n", size=21_000_000)
    row = 'notify admin@here.test subject "Large: ${subject}" text "${from} sent ${size}\\nto ${recipients}."'
    found = acts(row, seen=seen)
    said = letter_of(found)
    assert (said["Subject"], said["To"]) == ("Large: Grüße", "admin@here.test")
    assert said["From"] == '"Mail rules of mx.here.test" <postmaster@here.test>'
    assert said["Auto-Submitted"] == "auto-generated"
    assert said["Message-ID"] == f"<{ID}.rule.r@mx.here.test>"
    assert said.get_content().splitlines() == ["Me <me@there.test> sent 20.0M", f"to {', '.join(TO)}."]
    assert letter_of(acts(row, seen=seen))["Message-ID"] == said["Message-ID"], "a second run makes the same"


@pytest.mark.parametrize(
    ("header", "sender"),
    [
        ("Subject: x\n", ""),
        ("Auto-Submitted: auto-replied (vacation)\n", "me@there.test"),
        ("Precedence: bulk\n", "me@there.test"),
        ("List-Id: <l.there.test>\n", "me@there.test"),
    ],
)
def test_nobody_is_notified_of_what_a_program_sent(header: str, sender: str) -> None:
    found = acts("notify admin@here.test", seen=look(header, sender=sender))
    assert not found.letters and found.passed is not None
    assert "a program sent the message" in found.passed.verdict


def test_a_letter_s_text_is_the_configuration_s_lines() -> None:
    """What a stranger writes begins no line, whatever it looks like."""
    seen = look("Subject: a\\nb\nAuto-Submitted: no\n")
    said = letter_of(acts('notify admin@here.test text "1 ${subject}\\n.2"', seen=seen))
    assert said.get_content().splitlines() == ["1 a\\nb", ".2"]


def test_all_of_it_can_be_told() -> None:
    """Events are bounded, whatever the rules are."""
    text = "".join(
        f"[rule-{n} : rule]\n" + rule("all mail", actions=[f"add header X-{n}: {'y' * 90}"]) for n in range(50)
    )
    found = outcome(text, look())
    assert found.passed is not None and len(found.passed.headers) == 50
    assert len(found.passed.by) <= 600 and len(found.passed.verdict) <= 600


def test_applied_names_the_rule_and_its_place() -> None:
    applied = apply(one("all mail"), look(), (1,), local)
    assert isinstance(applied, list)
    assert [isinstance(each, Applied) and each.rule.name for each in applied] == ["r (kmq.conf:3)"]
