"""Other addresses on the way out: in the envelope and in the header, by connector, and nothing else is touched."""

import os
import time
from pathlib import Path

import pytest

from kmq.config.address_maps import AddressMap, line
from kmq.config.rewrite import RewriteSection
from kmq.model.reply import Reply
from kmq.phases.allotment import Allotment
from kmq.phases.header_stream import HeaderStream, without_return_path
from kmq.phases.rewriting import Rewriter, Rewriting, shown
from kmq.phases.smtp import Smtp
from tests.fakes import EXTENSIONS, EvilHop
from tests.phases.sending import against, kinds, outcome, section, smtp, until, work


def lines(*texts: str) -> AddressMap:
    return AddressMap(tuple(map(line, texts)))


def rewriter(**maps: AddressMap) -> Rewriter:
    found = Rewriting([RewriteSection(name="outside", **maps)]).of("isp")
    assert isinstance(found, Rewriter)
    return found


TABLE = lines(
    "alice@example.lan alice.liddell@example.org",
    "root@ hostmaster@example.org",
    "@example.lan @example.org",
    "@*.example.lan @example.org",
    "@b.sub.lan someone@example.org",
    "news+list@example.lan list@example.org",
    "@xn--mller-kva.lan @example.org",
)


@pytest.mark.parametrize(
    ("address", "other"),
    [
        ("alice@example.lan", "alice.liddell@example.org"),
        ("Alice@example.lan", "alice.liddell@example.org"),
        ("alice+friends@example.lan", "alice.liddell@example.org"),
        ("bob@example.lan", "bob@example.org"),
        ("Bob+x@example.lan", "Bob+x@example.org"),
        ("bob@host.example.lan", "bob@example.org"),
        ("bob@a.b.example.lan", "bob@example.org"),
        ("root@host.example.lan", "hostmaster@example.org"),
        ("root@anywhere.test", "hostmaster@example.org"),
        ("news+list@example.lan", "list@example.org"),
        ("news+more@example.lan", "news+more@example.org"),
        ("x@b.sub.lan", "someone@example.org"),
        ("bob@müller.lan", "bob@example.org"),
        ('"a b"@example.lan', '"a b"@example.org'),
        ("bob@notexample.lan", "bob@notexample.lan"),
        ("bob@example.org", "bob@example.org"),
        ("bob@[192.0.2.1]", "bob@[192.0.2.1]"),
        ("postmaster", "postmaster"),
        ("", ""),
    ],
)
def test_the_most_precise_pattern_counts(address: str, other: str) -> None:
    found = rewriter(addresses=TABLE)
    assert found.sender(address) == other
    assert found.recipient(address) == other


def test_what_was_replaced_is_not_looked_up_again() -> None:
    found = rewriter(addresses=lines("a@x.test b@x.test", "b@x.test a@x.test"))
    assert (found.sender("a@x.test"), found.sender("b@x.test")) == ("b@x.test", "a@x.test")


def test_senders_and_recipients_have_maps_of_their_own_ahead_of_the_common_one() -> None:
    found = rewriter(
        senders=lines("a@x.test s@y.test"), recipients=lines("a@x.test r@y.test"), addresses=lines("@x.test @z.test")
    )
    assert (found.sender("a@x.test"), found.recipient("a@x.test")) == ("s@y.test", "r@y.test")
    assert (found.sender("b@x.test"), found.recipient("b@x.test")) == ("b@z.test", "b@z.test")
    header = b"From: a@x.test\r\nTo: a@x.test, b@x.test\r\n"
    assert found.header(header) == b"From: s@y.test\r\nTo: r@y.test, b@z.test\r\n"


def test_addresses_of_the_header_are_replaced_where_they_stand() -> None:
    header = (
        b"Received: from x.example.lan by alice@example.lan; a@example.lan\r\n"
        b'From: "alice@example.lan (hi)" <alice@example.lan> (alice@example.lan)\r\n'
        b"Reply-To: friends: bob @ example . lan, x@y.test;,\r\n\tcarol\r\n"
        b"Return-Receipt-To: <Alice@EXAMPLE.lan>\r\nX-From: alice@example.lan\r\nCC:alice@example.lan\r\n"
    )
    assert rewriter(addresses=TABLE).header(header) == (
        b"Received: from x.example.lan by alice@example.lan; a@example.lan\r\n"
        b'From: "alice@example.lan (hi)" <alice.liddell@example.org> (alice@example.lan)\r\n'
        b"Reply-To: friends: bob@example.org, x@y.test;,\r\n\tcarol\r\n"
        b"Return-Receipt-To: <alice.liddell@example.org>\r\nX-From: alice@example.lan\r\n"
        b"CC:alice.liddell@example.org\r\n"
    )


def test_sections_count_in_their_order_and_for_their_connectors() -> None:
    found = Rewriting(
        [
            RewriteSection(name="a", connectors=("isp",), addresses=lines("a@x.test first@y.test")),
            RewriteSection(name="b", addresses=lines("@x.test @z.test")),
        ]
    )
    isp, other = found.of("isp"), found.of("other")
    assert isinstance(isp, Rewriter)
    assert isinstance(other, Rewriter)
    assert (isp.sender("a@x.test"), isp.sender("b@x.test")) == ("first@y.test", "b@z.test")
    assert other.sender("a@x.test") == "a@z.test"
    assert Rewriting().of("isp") is None
    assert Rewriting([RewriteSection(name="a", connectors=("other",), addresses=TABLE)]).of("isp") is None


def test_what_changes_can_be_shown() -> None:
    assert shown(rewriter(senders=TABLE), "alice@example.lan", "x@example.lan") == (
        "alice@example.lan -> alice.liddell@example.org"
    )
    assert shown(rewriter(senders=TABLE), "x@y.test", "z@y.test") == ""


# --- files -----------------------------------------------------------------------------------------------------------


def from_file(path: Path) -> Rewriting:
    return Rewriting([RewriteSection(name="a", senders=AddressMap(files=(str(path),)))])


def look_again(path: Path) -> None:
    """As if the file had been written a while ago, and a look were due."""
    before = time.time() - 5
    os.utime(path, (before, before))


def test_a_file_is_read_again_when_it_changes_and_keeps_what_was_good(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("kmq.routing.watched.LOOKS", 0.0)
    path = tmp_path / "generic"
    path.write_text("a@x.test first@y.test\n")
    look_again(path)
    found = from_file(path)

    def sender() -> str:
        made = found.of("isp")
        assert isinstance(made, Rewriter)
        return made.sender("a@x.test")

    assert sender() == "first@y.test"
    path.write_text("a@x.test second-one@y.test\n")
    look_again(path)
    assert sender() == "second-one@y.test"
    path.write_text("a@x.test third@y.test\noops\n")
    look_again(path)
    assert sender() == "second-one@y.test", "a file with a mistake changes nothing"
    path.unlink()
    assert sender() == "second-one@y.test"
    found.configure([RewriteSection(name="a", senders=AddressMap(files=(str(path),)))])
    assert sender() == "second-one@y.test", "nor does a reload"


@pytest.mark.parametrize("text", [None, "oops\n", "\xff"])
def test_without_a_good_file_mail_waits(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "generic"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    found = from_file(path).of("isp")
    assert isinstance(found, Reply)
    assert str(found).startswith("451 4.3.5 [a] cannot tell which addresses to write: see ")


def test_lines_and_files_of_an_option_are_one_table(tmp_path: Path) -> None:
    path = tmp_path / "generic"
    path.write_text("root@ hostmaster@y.test\na@x.test file@y.test\n")
    maps = AddressMap((line("@x.test @z.test"), line("a@x.test line@y.test")), (str(path),))
    made = Rewriting([RewriteSection(name="a", addresses=maps)]).of("isp")
    assert isinstance(made, Rewriter)
    assert made.sender("root@x.test") == "hostmaster@y.test", "the most precise pattern, wherever it stands"
    assert made.sender("a@x.test") == "line@y.test", "of two lines with one pattern the first"


# --- on the wire -----------------------------------------------------------------------------------------------------

TEXT = b"From: Alice <alice@example.lan>\r\nTo: bob@example.lan, c@y.test\r\n\r\nalice@example.lan\r\n"
AS_SENT = b"From: Alice <alice.liddell@example.org>\r\nTo: bob@example.org, c@y.test\r\n\r\nalice@example.lan\r\n"


def rewriting_smtp(hop: EvilHop, **maps: AddressMap) -> Smtp:
    return Smtp(
        {"isp": section(hop.address)}, "kmq.test", Allotment(5), None, Rewriting([RewriteSection(name="a", **maps)])
    )


def test_envelope_and_header_go_out_with_other_addresses() -> None:
    async def story(hop: EvilHop, _: Smtp) -> None:
        phase = rewriting_smtp(hop, addresses=TABLE)
        one = work("bob@example.lan", "c@y.test", text=TEXT, sender="alice@example.lan")
        assert kinds(await outcome(phase, one)) == "DD"
        (message,) = hop.messages
        assert message.lines[0] == b"MAIL FROM:<alice.liddell@example.org> SIZE=%d" % len(AS_SENT)
        assert message.lines[1:3] == [b"RCPT TO:<bob@example.org>", b"RCPT TO:<c@y.test>"]
        assert message.body == AS_SENT
        assert one.head.sender == "alice@example.lan", "notices go to the sender as he wrote"
        assert kinds(await outcome(phase, work("c@y.test", sender=""))) == "D"
        assert hop.messages[1].lines[0].startswith(b"MAIL FROM:<> ")
        await phase.close(1)

    against(EvilHop(), story)


@pytest.mark.parametrize("extensions", [EXTENSIONS, tuple(one for one in EXTENSIONS if one != "8BITMIME")])
@pytest.mark.parametrize("tail", [b"plain.\r\n.dot\r\n" * 40_000, "grün\r\n".encode() * 60_000, b""])
def test_a_large_message_goes_through_with_its_header_changed(tmp_path: Path, extensions, tail) -> None:
    text = TEXT.replace(b"\r\n\r\n", b"\r\n" + b"X-Fill: y\r\n" * 9000 + b"\r\n") + tail

    async def story(hop: EvilHop, _: Smtp) -> None:
        phase = rewriting_smtp(hop, addresses=TABLE)
        one = work("bob@example.lan", text=text, file=tmp_path / "x.eml", sender="alice@example.lan")
        assert kinds(await outcome(phase, one)) == "D"
        (message,) = hop.messages
        assert b" SIZE=%d" % len(message.body) in message.lines[0]
        assert message.body.startswith(AS_SENT.partition(b"\r\n\r\n")[0])
        if b"BODY=8BITMIME" in message.lines[0] or tail.isascii():
            assert message.body.endswith(tail)
        else:
            assert message.body.isascii()
        await phase.close(1)

    against(EvilHop(extensions=extensions), story)


def test_a_large_message_that_is_all_header(tmp_path: Path) -> None:
    text = TEXT.partition(b"\r\n\r\n")[0] + b"\r\n" + b"X-Fill: y\r\n" * 9000

    async def story(hop: EvilHop, _: Smtp) -> None:
        phase = rewriting_smtp(hop, addresses=TABLE)
        one = work("bob@example.lan", text=text, file=tmp_path / "x.eml", sender="alice@example.lan")
        assert kinds(await outcome(phase, one)) == "D"
        assert hop.messages[0].body.endswith(b"\r\nX-Fill: y\r\n")
        assert b" SIZE=%d" % len(hop.messages[0].body) in hop.messages[0].lines[0]
        await phase.close(1)

    against(EvilHop(), story)


def test_while_a_file_is_missing_nothing_goes_out(tmp_path: Path) -> None:
    path = tmp_path / "generic"

    async def story(hop: EvilHop, _: Smtp) -> None:
        phase = rewriting_smtp(hop, addresses=AddressMap(files=(str(path),)))
        found = await outcome(phase, work("bob@example.lan"))
        assert found.unavailable is not None
        assert found.unavailable.enhanced == "4.3.5"
        assert not hop.connections
        path.write_text("@example.lan @example.org\n")
        found = await outcome(phase, work("bob@example.lan"))
        await until(lambda: phase._rewriting.of("isp").__class__ is Rewriter, "the file is taken")
        assert kinds(await outcome(phase, work("bob@example.lan"))) == "D"
        assert hop.messages[0].lines[1] == b"RCPT TO:<bob@example.org>"
        await phase.close(1)

    against(EvilHop(), story)


def test_a_connector_without_rewriting_sends_as_it_lies() -> None:
    async def story(hop: EvilHop, _: Smtp) -> None:
        phase = smtp(section(hop.address))
        assert kinds(await outcome(phase, work("bob@example.lan", text=TEXT, sender="alice@example.lan"))) == "D"
        assert hop.messages[0].body == TEXT
        await phase.close(1)

    against(EvilHop(), story)


# --- the stream of a header ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    "text", [TEXT, b"From: a\r\n", b"", b"no header\r\n", b"\r\ntext\r\n", b"A: b\r\ntext\r\n\r\nC: d\r\n"]
)
def test_a_header_changes_however_it_is_cut(text: bytes, step: int) -> None:
    stream = HeaderStream(lambda header: header.upper())
    out = b"".join(stream.feed(text[at : at + step]) for at in range(0, len(text), step)) + stream.end()
    assert len(out) == len(text)
    assert out.upper() == text.upper()
    end = out.upper().find(b"\r\n\r\n") if text is TEXT else None
    assert end is None or (out[:end] == text[:end].upper() and out[end:] == text[end:])
    assert stream.over


def test_text_behind_the_header_is_not_kept() -> None:
    stream = HeaderStream(lambda header: header)
    assert stream.feed(TEXT[:-5]) == TEXT[:-5]
    assert stream.over


def test_an_endless_header_is_not_kept() -> None:
    stream = HeaderStream(lambda header: header)
    out = sum(len(stream.feed(b"X: y\r\n" * 1000)) for _ in range(100)) + len(stream.end())
    assert out == 600_000
    assert stream.over


def test_older_return_paths_go() -> None:
    assert without_return_path(b"A: Return-Path: x\r\nRETURN-PATH : <a>\r\n b\r\nReturn-Path: <c>\r\nB: c\r\n") == (
        b"A: Return-Path: x\r\nB: c\r\n"
    )
