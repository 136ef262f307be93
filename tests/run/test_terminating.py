"""Terminating: who is told what, when, by which wish (RFC 3461); and what becomes of what nobody may be told of."""

from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import msgspec
import pytest
from flufl.bounce import all_failures

from kmq.config.sections import QueueSection
from kmq.model import envelope, hop, recipients
from kmq.model.envelope import Head, Recipient, Source
from kmq.model.event import Deferred, Delayed, Delivered, Event, Expanded, Failed
from kmq.model.frame import HEAD_LIMIT, RAW_LIMIT, Assign, Child, encode
from kmq.phases.replies import TEXT_LIMIT
from kmq.phases.work import Body
from kmq.run.expansion import without_success
from kmq.run.job import Job
from kmq.run.notice import Office
from kmq.run.schedule import Schedules
from kmq.run.share import LARGEST, TAKEN_OUT
from kmq.run.terminating import Notices, concerns, delay_of, notices_of

ID = "69212ad0-0000a1f3"
BODY = b"Received: from a\r\nMessage-ID: <hello@x.test>\r\nSubject: hello\r\n\r\nthe text\r\n"
FAR = hop.parse("SmartHostConnectorDelivery;far;far")
MAILBOX = hop.parse("SmtpDeliveryToMailbox;here.test;mailboxes")
OFFICE = Office("mx.here.test", "postmaster@here.test", 50_000, "postmaster", Schedules(QueueSection()))
HOST = "mx.b.test[192.0.2.1]:25"


def job(
    *to: Recipient | str,
    sender: str = "s@x.test",
    body: bytes = BODY,
    assign: dict[str, Any] | None = None,
    **more: Any,
) -> Job:
    found = [one if isinstance(one, Recipient) else Recipient(one) for one in to or ("a@b.test",)]
    more = {"created": "2026-11-22T05:50:11.123Z", "size": len(body), **more}
    head = Head(id=ID, sha256="", sender=sender, recipients=found, **more)
    rcpt = recipients.as_text(range(len(found)))
    order = Assign(1, ID, str(FAR), rcpt, 1, **(assign or {}))
    return Job(order, head, Body(body, "", len(body)), 0)


def letters(made: Notices) -> list[tuple[Head, EmailMessage]]:
    """The messages that were made, as the queue and the sender read them."""
    found, at = [], 0
    for child in made.children:
        assert isinstance(child, Child)
        tail, body = made.raw[at : at + child.tail], made.raw[at + child.tail : at + child.tail + child.body]
        at += child.tail + child.body
        head = envelope.read_head(envelope.head_line("69212ad1-0000a1f4", "ab", tail))
        assert head is not None
        parsed = BytesParser(policy=policy.default).parsebytes(body)
        assert isinstance(parsed, EmailMessage)
        assert not parsed.defects
        assert head.size == len(body)
        found.append((head, parsed))
    assert at == len(made.raw)
    return found


def groups(parsed: EmailMessage) -> list[dict[str, str]]:
    """The fields of each recipient, as a program reads them."""
    _, report, _ = parsed.iter_parts()
    found = report.get_payload()
    assert isinstance(found, list)
    return [dict(one.items()) for one in found][1:]  # type: ignore[union-attr]


def text_of(parsed: EmailMessage) -> str:
    first, _, _ = parsed.iter_parts()
    assert isinstance(first, EmailMessage)
    return " ".join(str(first.get_content()).split())


def failed(rcpt: str = "0", reply: str = "550 5.1.1 no such user") -> Failed:
    return Failed(rcpt=rcpt, attempt=1, reply=reply, host=HOST)


def deferred(rcpt: str = "0", reply: str = "450 4.2.1 busy") -> Deferred:
    return Deferred(rcpt=rcpt, attempt=1, reply=reply, host=HOST)


def delivered(rcpt: str = "0", reply: str = "250 2.0.0 Ok") -> Delivered:
    return Delivered(rcpt=rcpt, attempt=1, reply=reply, host=HOST)


def asking(notify: str, address: str = "a@b.test", **more: str) -> Recipient:
    return Recipient(address, notify=notify, **more)


# --- who is told what -------------------------------------------------------------------------------------------------


def test_delivered_mail_whose_sender_asked_for_nothing_concerns_nobody() -> None:
    assert not concerns(job("a@b.test", "b@b.test"), [delivered("0-1")])
    assert not concerns(job(), [deferred()])


@pytest.mark.parametrize("sender", ["s@x.test", ""])
def test_of_what_is_replayed_quietly_nobody_hears(sender: str) -> None:
    """Neither the sender, whatever he asked for, nor the postmaster; that it takes longer is not asked again."""
    wish = asking("SUCCESS,FAILURE,DELAY")
    warned = {"warn": True}
    quiet = job(wish, sender=sender, replayed="69212ad0-0000a1f2", quiet=True, assign=warned)
    for events in ([failed()], [delivered()], [failed("0", "550 5.4.6 loop")]):
        made = notices_of(quiet, events, MAILBOX, (0,), OFFICE)
        assert (made.children, made.raw, made.events, made.unnoticed) == ([], b"", [], False)
    made = notices_of(quiet, [deferred()], FAR, (), OFFICE)
    assert made.children == [] and made.events == [Delayed(rcpt="0", reply="450 4.2.1 busy")]
    late = job(wish, sender=sender, quiet=True, assign={"delay": "451 4.4.1 refused"})
    made = delay_of(late, FAR, OFFICE)
    assert made.children == [] and made.events == [Delayed(rcpt="0", reply="451 4.4.1 refused")]
    assert notices_of(job(wish, sender="s@x.test", replayed="69212ad0-0000a1f2"), [failed()], FAR, (), OFFICE).children


#: NOTIFY -> the actions of which its sender hears.
WISHES = [
    ("", {"failed", "delayed"}),
    ("NEVER", set()),
    ("SUCCESS", {"relayed"}),
    ("FAILURE", {"failed"}),
    ("DELAY", {"delayed"}),
    ("success,failure", {"failed", "relayed"}),
    ("SUCCESS,FAILURE,DELAY", {"failed", "delayed", "relayed"}),
]


@pytest.mark.parametrize(("notify", "heard"), WISHES)
def test_notify_says_what_the_sender_hears(notify: str, heard: set[str]) -> None:
    told = set()
    for event in (failed(), deferred(), delivered()):
        one = job(asking(notify), assign={"warn": True})
        made = notices_of(one, [event], FAR, [0], OFFICE)
        told |= {group["Action"] for _, parsed in letters(made) for group in groups(parsed)}
        assert not made.unnoticed
    assert told == heard


def test_one_result_of_many_kinds_makes_a_notice_of_each_and_events_name_theirs() -> None:
    one = job(asking("SUCCESS"), "b@b.test", "c@b.test", asking("NEVER", "d@b.test"), assign={"warn": True})
    events: list[Event] = [delivered("0"), failed("1"), deferred("2"), failed("3", "552 5.2.2 full")]
    made = notices_of(one, events, FAR, [0], OFFICE)
    actions = [[group["Action"] for group in groups(parsed)] for _, parsed in letters(made)]
    assert actions == [["failed"], ["delayed"], ["relayed"]]
    assert [getattr(event, "notice", "") for event in events] == ["2", "0", "", ""]
    (late,) = made.events
    assert isinstance(late, Delayed)
    assert (late.rcpt, late.notice, late.reply) == ("2", "1", "450 4.2.1 busy")


# --- delays -----------------------------------------------------------------------------------------------------------


def test_a_delay_says_that_nothing_is_lost_and_until_when_it_is_tried() -> None:
    made = notices_of(job(assign={"warn": True}), [deferred()], FAR, [], OFFICE)
    ((head, parsed),) = letters(made)
    (fields,) = groups(parsed)
    assert (fields["Action"], fields["Status"]) == ("delayed", "4.2.1")
    assert fields["Will-Retry-Until"] == "Fri, 27 Nov 2026 05:50:11 -0000"
    assert fields["Diagnostic-Code"] == "smtp; 450 4.2.1 busy"
    assert parsed["Subject"] == "Your message is delayed, but not lost"
    assert "least of all send it again" in text_of(parsed)
    assert "The last answer of the server mx.b.test[192.0.2.1]:25 was: 450 4.2.1 busy" in text_of(parsed)
    assert (head.sender, head.parent) == ("", ID)
    temporary, permanent = all_failures(parsed)
    assert (temporary, permanent) == ({b"a@b.test"}, set())


def test_deferrals_in_their_time_are_told_to_nobody() -> None:
    made = notices_of(job(), [deferred()], FAR, [], OFFICE)
    assert (made.children, made.events) == ([], [])


def test_a_hop_out_of_reach_is_told_with_the_reply_of_its_queue() -> None:
    one = job("a@b.test", "b@b.test", assign={"delay": "451 4.4.1 connect to x: timed out"})
    made = delay_of(one, FAR, OFFICE)
    ((_, parsed),) = letters(made)
    assert [group["Diagnostic-Code"] for group in groups(parsed)] == ["X-kmq; 451 4.4.1 connect to x: timed out"] * 2
    assert [(event.rcpt, event.notice) for event in made.events if isinstance(event, Delayed)] == [("0-1", "0")]


@pytest.mark.parametrize("more", [{"sender": ""}, {"sender": "no address"}])
def test_who_cannot_be_told_of_a_delay_is_not_asked_again(more: dict[str, str]) -> None:
    made = delay_of(job(assign={"delay": "451 x"}, **more), FAR, OFFICE)
    assert (made.children, made.unnoticed) == ([], False)
    assert [type(event) for event in made.events] == [Delayed]


# --- success ----------------------------------------------------------------------------------------------------------


def test_a_mailbox_of_ours_is_delivered() -> None:
    made = notices_of(job(asking("SUCCESS")), [delivered()], MAILBOX, [], OFFICE)
    ((_, parsed),) = letters(made)
    (fields,) = groups(parsed)
    assert (fields["Action"], fields["Status"]) == ("delivered", "2.0.0")
    assert parsed["Subject"] == "Your message was delivered"
    assert all_failures(parsed) == (set(), set())


def test_a_hop_that_knows_dsn_tells_for_itself() -> None:
    made = notices_of(job(asking("SUCCESS")), [delivered()], FAR, [], OFFICE)
    assert made.children == []


def test_a_hop_that_does_not_is_told_as_relayed() -> None:
    made = notices_of(job(asking("SUCCESS"), asking("SUCCESS", "b@b.test")), [delivered("0-1")], FAR, [1], OFFICE)
    ((_, parsed),) = letters(made)
    (fields,) = groups(parsed)
    assert (fields["Final-Recipient"], fields["Action"]) == ("rfc822; b@b.test", "relayed")
    assert fields["Remote-MTA"] == "dns; mx.b.test"
    assert all_failures(parsed) == (set(), set())


def test_an_alias_of_several_is_expanded_and_its_members_tell_of_failures_alone() -> None:
    one = job(asking("SUCCESS,FAILURE", "list@here.test"))
    event = Expanded(rcpt="0", child="0", rule="aliases:3", several=True)
    ((_, parsed),) = letters(notices_of(one, [event], hop.SUBMISSION, [], OFFICE))
    assert [group["Action"] for group in groups(parsed)] == ["expanded"]
    assert event.notice == "0"
    asked = ["SUCCESS,FAILURE", "SUCCESS", "success,DELAY", "NEVER", ""]
    assert [without_success(notify) for notify in asked] == ["FAILURE", "NEVER", "DELAY", "NEVER", ""]


def test_an_alias_of_one_address_passes_the_wish_on() -> None:
    event = Expanded(rcpt="0", child="0", rule="aliases:3")
    assert notices_of(job(asking("SUCCESS")), [event], hop.SUBMISSION, [], OFFICE).children == []


# --- what goes back ---------------------------------------------------------------------------------------------------


def returned(one: Job, event: Event | None = None, office: Office = OFFICE) -> tuple[str, bytes, Head]:
    made = notices_of(one, [event or failed()], FAR, [0], office)
    ((head, parsed),) = letters(made)
    *_, last = parsed.iter_parts()
    raw = made.raw[made.children[0].tail :]
    return last.get_content_type(), raw, head


def test_ret_full_brings_the_message_back_as_it_was() -> None:
    kind, raw, head = returned(job(ret="FULL"))
    assert kind == "message/rfc822"
    assert b"\r\n\r\n" + BODY + b"\r\n--kmq-" in raw
    assert not head.eight_bit


def test_an_8_bit_message_comes_back_with_all_its_bits() -> None:
    body = BODY + b"Gr\xfc\xdfe\r\n.\r\n"
    kind, raw, head = returned(job(ret="FULL", body=body, eight_bit=True))
    assert kind == "message/rfc822"
    assert body in raw
    assert (head.eight_bit, head.dots, head.smtputf8) == (True, True, False)


def test_an_international_message_comes_back_encoded() -> None:
    """RFC 6532 3.7: message/global may be encoded, so the notice needs nothing of the servers on its way."""
    body = BODY.replace(b"hello\r\n", "привет\r\n".encode())
    kind, raw, head = returned(job(ret="FULL", body=body, eight_bit=True, smtputf8=True))
    assert kind == "message/global"
    assert raw.isascii()
    assert not head.eight_bit


@pytest.mark.parametrize(("ret", "limit"), [("HDRS", 50_000), ("", 50_000), ("FULL", len(BODY) - 1), ("FULL", 0)])
def test_else_the_header_comes_back(ret: str, limit: int) -> None:
    kind, raw, _ = returned(job(ret=ret), office=OFFICE._replace(size_limit=limit))
    assert kind == "text/rfc822-headers"
    assert b"the text" not in raw


def test_ret_full_is_for_failures_alone() -> None:
    """RFC 3461 4.3."""
    kind, raw, _ = returned(job(asking("SUCCESS"), ret="FULL"), delivered())
    assert kind == "text/rfc822-headers"
    assert b"the text" not in raw


def test_a_large_message_is_read_up_to_the_limit_and_no_further(tmp_path: Any) -> None:
    body = BODY + b"x" * 70 + b"\r\n"
    path = tmp_path / "m.eml"
    path.write_bytes(body + b"grown since\r\n")
    one = job(ret="FULL", body=body)
    one.body = Body(None, str(path), len(body))
    kind, raw, _ = returned(one)
    assert kind == "text/rfc822-headers", "it is not what was accepted"
    path.write_bytes(body)
    kind, raw, _ = returned(one)
    assert kind == "message/rfc822"
    assert body in raw
    path.unlink()
    assert returned(one)[0] == "text/rfc822-headers"


def test_the_boundary_is_in_nothing_that_the_sender_wrote() -> None:
    body = BODY + b"--kmq-" + ID.encode() + b"\r\nContent-Type: text/plain\r\n\r\nforged\r\n"
    ((_, parsed),) = letters(notices_of(job(ret="FULL", body=body), [failed()], FAR, [], OFFICE))
    assert len(list(parsed.iter_parts())) == 3


def test_it_threads_with_the_message() -> None:
    ((_, parsed),) = letters(notices_of(job(), [failed()], FAR, [], OFFICE))
    assert (parsed["In-Reply-To"], parsed["References"]) == ("<hello@x.test>", "<hello@x.test>")


@pytest.mark.parametrize("value", ["", "<a b@x>", "no brackets", "<a@x> <b@x>", "<" + "y" * 1000 + "@x>", "<\xfc@x>"])
def test_a_message_id_that_is_none_goes_nowhere(value: str) -> None:
    body = b"Message-ID: %b\r\n\r\ntext\r\n" % value.encode("latin-1")
    ((_, parsed),) = letters(notices_of(job(body=body), [failed()], FAR, [], OFFICE))
    assert (parsed["In-Reply-To"], parsed["References"]) == (None, None)


def test_an_international_sender_is_told_in_his_own_letters() -> None:
    """RFC 6533: the way to him takes UTF-8, so nothing is escaped."""
    body = BODY.replace(b"hello\r\n", "привет\r\n".encode())
    one = job("пример@b.test", sender="отправитель@x.test", body=body, smtputf8=True, eight_bit=True)
    made = notices_of(one, [failed()], FAR, [], OFFICE)
    ((head, parsed),) = letters(made)
    assert (head.smtputf8, head.eight_bit) == (True, True)
    assert [part.get_content_type() for part in parsed.iter_parts()] == [
        "text/plain",
        "message/global-delivery-status",
        "message/global-headers",
    ]
    assert "Final-Recipient: utf-8; пример@b.test\r\n".encode() in made.raw
    assert "Subject: привет\r\n".encode() in made.raw


# --- nobody may be told -----------------------------------------------------------------------------------------------


def test_a_notice_that_fails_ends_as_a_copy_for_the_postmaster() -> None:
    one = job(sender="", source=Source(how="dsn"), parent="69212acf-00000001")
    event = failed()
    made = notices_of(one, [event], FAR, [], OFFICE)
    ((head, parsed),) = letters(made)
    assert (head.sender, head.recipients, head.source.how) == ("", [Recipient("postmaster@here.test")], "copy")
    assert (event.notice, made.unnoticed) == ("0", False)
    assert parsed["X-kmq-Undeliverable"] == ID
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert "69212acf-00000001" in text_of(parsed)
    *_, last = parsed.iter_parts()
    assert last.get_content_type() == "message/rfc822", "all of it, since nobody else has it"


def test_a_copy_that_fails_makes_nothing_more_wherever_it_has_been() -> None:
    one = job(sender="", source=Source(how="dsn"))
    made = notices_of(one, [failed()], FAR, [], OFFICE)
    copied = made.raw[made.children[0].tail :]
    for how in ("copy", "alias", "smtp"):
        body = b"Received: from elsewhere\r\n" + copied
        again = notices_of(job(sender="", source=Source(how=how), body=body), [failed()], FAR, [], OFFICE)
        assert (again.children, again.unnoticed) == ([], True)


@pytest.mark.parametrize(("way", "unnoticed"), [("poison", True), ("drop", False)])
def test_other_ways_for_what_nobody_may_be_told_of(way: str, unnoticed: bool) -> None:
    made = notices_of(job(sender=""), [failed()], FAR, [], OFFICE._replace(undeliverable=way))
    assert (made.children, made.unnoticed) == ([], unnoticed)


def test_a_sender_that_is_no_address_is_nobody() -> None:
    made = notices_of(job(sender="a@b\r\nBcc: victim@x.test"), [failed()], FAR, [], OFFICE)
    ((head, _),) = letters(made)
    assert head.recipients == [Recipient("postmaster@here.test")]
    assert b"victim" not in made.raw


def test_a_sender_who_wants_to_hear_nothing_hears_nothing() -> None:
    made = notices_of(job(asking("NEVER")), [failed()], FAR, [], OFFICE)
    assert (made.children, made.unnoticed) == ([], False)


# --- other people's parsers -------------------------------------------------------------------------------------------


def test_a_parser_that_is_not_ours_finds_who_failed() -> None:
    one = job("a@b.test", "b@b.test", asking("FAILURE", "c@b.test", orcpt="rfc822;C+2Bx@b.test"), ret="FULL")
    made = notices_of(one, [failed("0"), failed("1-2", "552 5.2.2 full")], FAR, [], OFFICE)
    ((_, parsed),) = letters(made)
    temporary, permanent = all_failures(parsed)
    assert temporary == set()
    assert permanent >= {b"a@b.test", b"b@b.test"}
    assert len(permanent) == 3


def test_what_is_given_up_is_read_as_permanent() -> None:
    one = job(assign={"expire": "451 4.4.1 connect to x: timed out"})
    made = notices_of(one, [failed(reply="451 4.4.1 connect to x: timed out")], FAR, [], OFFICE)
    ((_, parsed),) = letters(made)
    assert [group["Status"] for group in groups(parsed)] == ["5.4.7"]
    assert all_failures(parsed) == (set(), {b"a@b.test"})


def test_what_an_operator_took_out_is_told_without_a_word_about_operators_or_time() -> None:
    one = job(Recipient("a@b.test"), asking("NEVER", "b@b.test"), assign={"expire": TAKEN_OUT})
    made = notices_of(one, [failed("0-1", TAKEN_OUT)], FAR, [], OFFICE)
    ((head, parsed),) = letters(made)
    assert [(group["Status"], group["Final-Recipient"]) for group in groups(parsed)] == [("5.3.0", "rfc822; a@b.test")]
    text = parsed.as_string()
    assert "taken out of the queue" in text
    assert not any(word in text.lower() for word in ("operator", "uid", "administrator", "days"))
    assert head.recipients[0].address == "s@x.test"


def test_results_bear_their_notices_over_the_wire() -> None:
    one = job(asking("SUCCESS"))
    events: list[Event] = [delivered()]
    notices_of(one, events, MAILBOX, [], OFFICE)
    done = one.result(events=events)
    assert msgspec.json.decode(done.events[0])["notice"] == "0"


def test_the_largest_share_with_the_longest_replies_goes_into_one_frame() -> None:
    """A server may have a thousand signs to say to each, none of them plain."""
    one = job(*(Recipient(f"{'u' * 60}{number}@b.test", orcpt=f"rfc822;{'o' * 480}") for number in range(LARGEST)))
    said = "\N{EURO SIGN}" * TEXT_LIMIT
    host = f"{'m' * 60}.{'x' * 60}.{'y' * 60}.{'z' * 60}.test[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
    events: list[Event] = [
        Failed(rcpt=str(index), attempt=1, reply=f"550 5.1.1 {index} {said}", host=host, tls="T" * 60)
        for index in range(LARGEST)
    ]
    made = notices_of(one, events, FAR, (), OFFICE)
    assert not made.unnoticed and len(made.children) == 1
    assert len(made.raw) <= RAW_LIMIT
    assert len(encode(one.result(events))) <= HEAD_LIMIT
