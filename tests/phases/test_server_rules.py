"""Server rules as a step: what they find out about a message, and what becomes of one that cannot be seen."""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmq.config import Settings, read
from kmq.model.envelope import Head, Recipient, Source
from kmq.model.event import Deferred, Failed, HeaderEdit, Passed, Suspended
from kmq.phases.body import BodyDamaged
from kmq.phases.examining import Examiners
from kmq.phases.inspection import Finding, Matter
from kmq.phases.rules import apply, rules_of
from kmq.phases.rules_deeds import Asking, finding
from kmq.phases.rules_header import Header, header_of
from kmq.phases.rules_letters import Office
from kmq.phases.rules_tests import Look
from kmq.phases.server_rules import SHARE, ServerRules
from kmq.phases.work import Body
from kmq.run.share import LARGEST
from tests.phases import bombs
from tests.phases.bombs import TEXT, attachment, multipart, zipped

ID = "6b03141c-00000001"
EXE = "[programs : rule]\ncondition = attachment is *.exe\naction = reject no programs\n"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    return tmp_path


def configured(text: str) -> Settings:
    return read(f"[kmq]\nhostname = mx.here.test\n{text}", "kmq.conf", "/", "mx")


def matter_of(text: bytes, *, path: str = "", how: str = "smtp", earlier: tuple[Passed, ...] = ()) -> Matter:
    head = Head(
        ID, sha256(text).hexdigest(), "", "a@a.test", [Recipient("b@b.test")], len(text), source=Source(how=how)
    )
    body = Body(None if path else text, path, len(text))
    return Matter(head, body, (0,), earlier, 1, lambda address: True)


def inspected(spool: Path, rules: str, matter: Matter) -> Finding:
    """What the step finds, with real examiners, in the loop that workers have."""

    async def whole() -> Finding:
        found = configured(rules)
        step = ServerRules(found, Examiners(found.content, str(spool)))
        try:
            return await step.inspect(matter)
        finally:
            await step.close()

    return uvloop.run(asyncio.wait_for(whole(), 120))


def reply_of(found: Finding) -> str:
    (event,) = found.events
    assert isinstance(event, Failed | Deferred)
    return event.reply


# --- what is found out -----------------------------------------------------------------------------------------------


def test_attachments_are_the_examiner_s(spool: Path) -> None:
    text = multipart(TEXT, attachment("bill.zip", zipped(("docs/Setup.exe", b"MZ"))))
    assert reply_of(inspected(spool, EXE, matter_of(text))) == "550 5.7.1 no programs"
    assert inspected(spool, EXE, matter_of(multipart(TEXT, attachment("a.txt", b"x")))).events == []


def test_mail_without_attachment_costs_no_examiner(tmp_path: Path) -> None:
    """There is no folder for one, so that none can be begun."""
    plain = b"From: a@a.test\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
    assert inspected(tmp_path, EXE, matter_of(plain)).events == []
    assert reply_of(inspected(tmp_path, EXE, matter_of(multipart(TEXT)))).startswith("451 4.3.0 ")


def test_a_large_message_s_header_is_read(spool: Path) -> None:
    text = b"Subject: large\r\n\r\n" + b"x" * 200_000
    path = spool / "m.eml"
    path.write_bytes(text)
    rule = "[r : rule]\ncondition = subject is large\naction = add header X-S: ${subject}\n"
    found = inspected(spool, rule, matter_of(text, path=str(path)))
    assert found.passed is not None and found.passed.headers == (HeaderEdit("add", "X-S", "large"),)
    path.write_bytes(b"other")
    with pytest.raises(BodyDamaged):
        inspected(spool, EXE, matter_of(text, path=str(path)))
    path.unlink()
    with pytest.raises(OSError, match="No such file"):
        inspected(spool, rule, matter_of(text, path=str(path)))


def test_rules_see_the_header_as_it_goes_out(spool: Path) -> None:
    """What phases ahead have changed, and the score that a filter of ours gave."""
    spam = Passed(headers=(HeaderEdit("set", "Subject", "[spam] x"), HeaderEdit("remove", "X-Old")), score=9.5)
    rule = (
        "[r : rule]\ncondition =\n  subject is [spam] x\n  header x-old not exists\n  spam score over 9\n"
        "action = discard\n"
    )
    text = b"Subject: x\r\nX-Old: y\r\nX-Spam-Score: 0\r\n\r\n"
    assert inspected(spool, rule, matter_of(text)).events == []
    assert len(inspected(spool, rule, matter_of(text, earlier=(spam,))).events) == 1


def test_no_rule_answers_a_rule() -> None:
    found = configured(EXE)
    step = ServerRules(found, Examiners(found.content, "/nowhere"))
    assert step.concerns(matter_of(b""))
    assert not step.concerns(matter_of(b"", how="rule"))


# --- a message in several shares -------------------------------------------------------------------------------------

SHARES = (
    "[copy : rule]\ncondition = envelope recipient is r1400@b.test, r1500@b.test\naction = copy to audit@b.test\n"
    "[move : rule]\ncondition = envelope recipient is *5@b.test\naction = redirect to new@b.test\n"
)


def share_of(rcpt: range, earlier: tuple[Passed, ...] = (), count: int = 2000) -> Matter:
    text = b"Subject: x\r\n\r\n"
    to = [Recipient(f"r{number}@b.test") for number in range(count)]
    head = Head(ID, "", "", "a@a.test", to, len(text))
    return Matter(head, Body(text, "", len(text)), tuple(rcpt), earlier, 1, lambda address: True)


def test_copies_of_a_message_in_shares_are_made_once_and_nobody_is_lost(spool: Path) -> None:
    assert SHARE == LARGEST
    sent = [inspected(spool, SHARES, share_of(range(at, at + 500))).letters for at in (0, 500, 1000, 1500)]
    copies = [[one for one in letters if one.quiet] for letters in sent]
    moved = [[one for one in letters if not one.quiet] for letters in sent]
    assert list(map(len, copies)) == [0, 0, 1, 0], "with the first whom the rule is about"
    assert list(map(len, moved)) == [1, 1, 1, 1], "recipients go on with it, so it is made in each"
    assert not any(one.once for letters in sent for one in letters)


def test_who_goes_through_later_makes_no_second_copy(spool: Path) -> None:
    rule = SHARES.replace("r1400", "r1").replace("r1500", "r2")
    first = inspected(spool, rule, share_of(range(2), count=3))
    assert len(first.letters) == 1 and first.passed is not None
    first.passed.step = "rules"
    later = share_of(range(2, 3), (first.passed,), count=3)
    assert inspected(spool, rule, later).letters == []


def test_what_the_rules_changed_for_others_is_not_changed_again(spool: Path) -> None:
    rule = "[r : rule]\ncondition = all mail\naction = set header Subject: [out] ${subject}\n"
    spam = Passed(step="spam", headers=(HeaderEdit("set", "Subject", "y"),))
    others = Passed(step="rules", rcpt="0-1", headers=(HeaderEdit("set", "Subject", "[out] y"),))
    elsewhere = Passed(step="milter", rcpt="0-1", headers=(HeaderEdit("set", "Subject", "z"),))
    found = inspected(spool, rule, share_of(range(2, 3), (spam, others, elsewhere), count=3))
    assert found.passed is not None and found.passed.headers == (HeaderEdit("set", "Subject", "[out] y"),)


def test_who_was_held_and_let_go_is_not_held_again_beside_others(spool: Path) -> None:
    rule = "[r : rule]\ncondition = all mail\naction = hold\n"
    before = Passed(step="rules", rcpt="1-2")
    (held,) = inspected(spool, rule, share_of(range(3), (before,), count=3)).events
    assert isinstance(held, Suspended) and held.rcpt == "0"


# --- what cannot be seen ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["hold", "reject", "accept"])
def test_what_cannot_be_seen_follows_the_policy(spool: Path, policy: str) -> None:
    found = inspected(spool, f"[content]\nbeyond_limits = {policy}\n{EXE}", matter_of(bombs.many_parts(2000)))
    assert found.passed is not None and found.passed.verdict.startswith("limits: ")
    if policy == "hold":
        (held,) = found.events
        assert isinstance(held, Suspended) and held.by == "[content] beyond_limits"
    elif policy == "reject":
        assert reply_of(found).startswith("550 5.7.1 The message cannot be examined")
    else:
        assert found.events == []


def test_attachment_rules_behind_say_what_becomes_of_it(spool: Path) -> None:
    more = "[exe : attachment]\nnames = *.exe\n"
    found = inspected(spool, more + EXE, matter_of(bombs.many_parts(2000)))
    assert found.events == [] and found.passed is not None and found.passed.verdict.startswith("limits: ")


@pytest.mark.parametrize(
    "made", [bombs.nested_messages, bombs.many_headers, bombs.long_header, bombs.folds, bombs.encoded_words]
)
def test_mail_that_is_made_to_hurt_has_an_answer(spool: Path, made: Callable[[], bytes]) -> None:
    """Each header is looked at as far as it goes, whatever it is; the rules come to an end with it."""
    rules = (
        "[a : rule]\ncondition =\n  subject matches (x+x+)+y\n  from is @evil.test\n  header x-long contains z\n"
        "match = any\naction = discard\n"
    )
    found = inspected(spool, rules, matter_of(made()))
    assert found.passed is not None and found.events == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary(max_size=300).map(lambda octets: octets.replace(b"\0", b"")))
def test_any_bytes_are_a_message(octets: bytes) -> None:
    rules = rules_of(
        configured(
            "[a : rule]\nmatch = any\ncondition =\n  from is @a.test\n  subject matches a.*b\n  to contains x\n"
            "  spam score over 1\n  all mail\n"
            'action =\n  set header Subject: ${subject} ${from} ${to}\n  notify a@b.test text "${subject}\\n${to}"\n'
        )
    )
    header: Header = header_of(Body(b"Subject: " + octets, "", len(octets) + 9), ())
    look = Look(matter_of(octets).head, header, ())
    applied = apply(rules, look, (0,), lambda address: True)
    assert isinstance(applied, list)
    found = finding(Asking(look, 1, Office("p@here.test", "here.test")), applied)
    assert found.passed is not None
    (edit,) = found.passed.headers
    assert edit.value.isascii() and "\n" not in edit.value.replace("\r\n ", "")
    for letter in found.letters:
        head, _, _ = (letter.text or b"").partition(b"\r\n\r\n")
        assert len(head.replace(b"\r\n ", b"").split(b"\r\n")) == 9
