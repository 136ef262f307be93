"""Maps of addresses in the configuration: what they may be, and the mistakes with line and remedy."""

import pytest

from kmq.config import Settings, read, show
from kmq.config.address_maps import AddressMap, MapLine
from kmq.config.address_maps import read as read_lines
from kmq.errors import ConfigError

BASE = """\
[kmq]
hostname = mx.example.org
[mx : receiver]
listen = 127.0.0.1:2525
submission = yes
[isp : connector]
type = smarthost
address_spaces = *
hosts = 127.0.0.1:2526
[home : connector]
type = mailbox
maildir = /m/{user}
"""


def settings(text: str) -> Settings:
    return read(BASE + text, "kmq.conf", "/etc/kmq", "mx")


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as told:
        settings(text)
    return str(told.value)


def test_lines_and_files_make_a_map() -> None:
    (section,) = settings(
        "[outside : rewrite]\nconnectors = isp\nsenders =\n  Alice@Example.LAN alice.l@Example.org\n"
        "  bob@ bob@example.org\n"
        "  @*.example.lan @example.org\n  file:generic\n"
    ).rewrites
    assert section.name == "outside"
    assert section.connectors == ("isp",)
    assert section.senders == AddressMap(
        (
            MapLine("alice@example.lan", "alice.l@example.org"),
            MapLine("bob@", "bob@example.org"),
            MapLine("@*.example.lan", "@example.org"),
        ),
        ("/etc/kmq/generic",),
    )
    assert section.recipients == AddressMap()


def test_rewrite_alone_is_for_all_connectors_and_a_base_when_others_are_named() -> None:
    alone = settings("[rewrite]\naddresses = @example.lan @example.org\n").rewrites
    assert [(one.name, one.connectors) for one in alone] == [("rewrite", ())]
    named = settings("[rewrite]\naddresses = @example.lan @example.org\n[a : rewrite]\nconnectors = isp\n").rewrites
    assert [(one.name, one.addresses.lines[0].pattern) for one in named] == [("a", "@example.lan")]
    assert settings("").rewrites == ()


def test_what_is_printed_gives_the_same_settings() -> None:
    one = settings("[a : rewrite]\nsenders = bob@ bob@example.org, file:generic\n")
    again = read(show(one), "kmq.conf", "/somewhere/else", "mx")
    assert again.rewrites == one.rewrites
    assert again.receivers[0].submission is True


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("connectors = isb", "there is no connector 'isb': there are isp, home; did you mean 'isp'?"),
        ("connectors = home", "home is of type mailbox"),
        ("senders = alice@example.lan", "is no pattern and replacement: write user@example.lan"),
        ("senders = a@b c@d e@f", "is no pattern and replacement"),
        ("senders = alice bob@example.org", "'alice' has no @"),
        ("senders = @ bob@example.org", "is no mail address"),
        ("senders = @exa_mple!.lan @example.org", "is no domain name"),
        ("senders = a b@example.lan c@example.org", "is no pattern and replacement"),
        ("recipients = a..b@example.lan c@example.org", "is no mail address"),
        ("recipients = @example.lan c", "'c' is no mail address"),
        ("addresses = @example.lan @", "the domain is empty"),
        ("addresses = file:", "behind file: stands the path of a file"),
        ("adresses = @example.lan @example.org", "there is no such option; did you mean 'addresses'?"),
    ],
)
def test_a_mistake_is_told_with_its_line(line: str, text: str) -> None:
    told = complaint(f"[a : rewrite]\n{line}\n")
    assert told.startswith("kmq.conf:14: [a : rewrite] ")
    assert text in told


def test_submission_is_a_switch() -> None:
    assert settings("").receivers[0].submission is True
    assert read(BASE.replace("submission = yes\n", ""), "k", "/", "mx").receivers[0].submission is False
    with pytest.raises(ConfigError, match=r"kmq\.conf:5: .*'on' is not one of yes, no"):
        read(BASE.replace("submission = yes", "submission = on"), "kmq.conf", "/", "mx")


def test_a_file_has_comments_and_empty_lines() -> None:
    text = "# at home\n\nalice@example.lan  alice@example.org # she\n\t@example.lan\t@example.org\n"
    assert [one.pattern for one in read_lines(text)] == ["alice@example.lan", "@example.lan"]
    with pytest.raises(ValueError, match="line 3: 'oops' is no pattern"):
        read_lines("# x\n\noops\n")
