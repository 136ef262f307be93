"""Values: what each kind takes, what it refuses, and that a refusal says what would be right."""

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from kmq.config import kinds, people

GOOD = [
    (kinds.whole(), "20", 20),
    (kinds.whole(0), "0", 0),
    (kinds.share(), "0.1", 0.1),
    (kinds.share(), "1", 1.0),
    (kinds.duration(), "300", 300.0),
    (kinds.duration(), "5m", 300.0),
    (kinds.duration(), "5 m", 300.0),
    (kinds.duration(), "20ms", 0.02),
    (kinds.duration(), "1.5h", 5400.0),
    (kinds.duration(), "5d", 432000.0),
    (kinds.duration(), "2w", 1209600.0),
    (kinds.duration(), "0", 0.0),
    (kinds.size(), "25M", 25 * 1024 * 1024),
    (kinds.size(), "64k", 65536),
    (kinds.size(), "2 G", 2 << 30),
    (kinds.size(), "998", 998),
    (kinds.choice("journal", "files"), "files", "files"),
    (kinds.path(), "/var/spool/kmq", Path("/var/spool/kmq")),
    (kinds.file(), "", ""),
    (kinds.maildir(), "/var/mail/{domain}/{user}", "/var/mail/{domain}/{user}"),
    (kinds.maildir(), "mail/{user}/Maildir", "mail/{user}/Maildir"),
    (kinds.domain(), "MX.Example.Org", "mx.example.org"),
    (kinds.domain(), "bücher.example", "xn--bcher-kva.example"),
    (kinds.domains(), "Example.org, example.NET,\nexample.org", ("example.org", "example.net")),
    (kinds.domains(), "", ()),
    (kinds.spaces(), "*, *.Example.org, example.org", ("*", "*.example.org", "example.org")),
    (kinds.networks(), "127.0.0.0/8, ::1, 10.1.2.3", tuple(map(ip_network, ("127.0.0.0/8", "::1/128", "10.1.2.3/32")))),
    (kinds.networks(), "0.0.0.0/0", (ip_network("0.0.0.0/0"),)),
    (kinds.listeners(), "0.0.0.0:25, [::]:25", (("0.0.0.0", 25), ("::", 25))),
    (kinds.listeners(), "\n127.0.0.1:2525\n[0:0::1]:2525", (("127.0.0.1", 2525), ("::1", 2525))),
    (kinds.hosts(), "smtp.isp.example:587", (("smtp.isp.example", 587),)),
    (kinds.hosts(), "mailhub, [2001:db8::1], 192.0.2.1:26", (("mailhub", 25), ("2001:db8::1", 25), ("192.0.2.1", 26))),
    (kinds.hosts(), "b.example, a.example", (("b.example", 25), ("a.example", 25))),
    (people.users(), "*", "*"),
    (people.users(), "existing", "existing"),
    (people.users(), "Alice, bob", ("alice", "bob")),
    (kinds.address(), "postmaster", "postmaster"),
    (kinds.address(), "Ada@Example.ORG", "Ada@example.org"),
]


@pytest.mark.parametrize(("kind", "text", "value"), GOOD)
def test_a_value_is_what_its_text_means(kind: kinds.Kind[object], text: str, value: object) -> None:
    assert kind.parse(text) == value


BAD = [
    # kind, text, what the operator is told
    (kinds.whole(), "", "digits alone"),
    (kinds.whole(), "many", "digits alone"),
    (kinds.whole(), "-1", "digits alone"),
    (kinds.whole(), "1.5", "digits alone"),
    (kinds.whole(), "1_000", "digits alone"),
    (kinds.whole(), "٣", "digits alone"),
    (kinds.whole(), "0", "at least 1"),
    (kinds.whole(1, 64), "65", "at most 64"),
    (kinds.share(), "10%", "0.1"),
    (kinds.share(), "1.1", "at most 1"),
    (kinds.share(), "nan", "0.1"),
    (kinds.duration(), "5 minutes", "such as 5m"),
    (kinds.duration(), "m", "such as 5m"),
    (kinds.duration(), "-5m", "such as 5m"),
    (kinds.duration(), "1e3", "such as 5m"),
    (kinds.duration(), "1.2.3", "such as 5m"),
    (kinds.duration("1s"), "999ms", "at least 1s"),
    (kinds.duration("0", "90d"), "91d", "at most 90d"),
    (kinds.size(), "25MB", "such as 25M"),
    (kinds.size(), "1.5M", "such as 25M"),
    (kinds.size("64K"), "1K", "at least 64K"),
    (kinds.size("0", "2G"), "3G", "at most 2G"),
    (kinds.choice("journal", "files"), "jornal", "did you mean 'journal'"),
    (kinds.choice("never", "may", "must"), "yes", "never, may, must"),
    (kinds.path(), "", "a path is needed"),
    (kinds.path(), "~/spool", "whole path"),
    (kinds.path(), "/a\n/b", "one line"),
    (kinds.maildir(), "/var/mail", "{user}"),
    (kinds.maildir(), "/var/mail/{usr}", "neither {user} nor {domain}"),
    (kinds.maildir(), "/var/mail/{user}/../../etc", "leaves its root"),
    (kinds.maildir(), "../{user}", "leaves its root"),
    (kinds.maildir(), "/{user}", "put a folder ahead"),
    (kinds.maildir(), "/./{user}/x", "put a folder ahead"),
    (kinds.domain(), "mx.example.org.", "ends in a dot"),
    (kinds.domain(), "mx..example.org", "no domain name"),
    (kinds.domain(), "mx example", "no domain name"),
    (kinds.domain(), "a/b", "no domain name"),
    (kinds.domain(), "", "empty"),
    (kinds.spaces(), "example.*", "*.example.org"),
    (kinds.spaces(), "*example.org", "*.example.org"),
    (kinds.networks(), "localhost", "no network"),
    (kinds.networks(), "10.0.0.0/33", "no network"),
    (kinds.networks(), "10.1.2.3/8", "write 10.0.0.0/8"),
    (kinds.networks(), "2001:db8::1/64", "write 2001:db8::/64"),
    (kinds.networks(), "::ffff:10.0.0.0/104", "write it as IPv4"),
    (kinds.listeners(), "localhost:25", "0.0.0.0:25"),
    (kinds.listeners(), "*:25", "0.0.0.0:25"),
    (kinds.listeners(), "127.0.0.1", "127.0.0.1:25"),
    (kinds.listeners(), "127.0.0.1:", "port is missing"),
    (kinds.listeners(), "127.0.0.1:0", "from 1 to 65535"),
    (kinds.listeners(), "127.0.0.1:70000", "from 1 to 65535"),
    (kinds.listeners(), "127.0.0.1:smtp", "from 1 to 65535"),
    (kinds.listeners(), "::1:25", "brackets"),
    (kinds.listeners(), "[::1:25", "[2001:db8::1]:25"),
    (kinds.listeners(), "[::1]25", "[2001:db8::1]:25"),
    (kinds.listeners(), "[127.0.0.1]:25", "[2001:db8::1]:25"),
    (kinds.hosts(), "300.1.2.3", "no IPv4 address"),
    (kinds.hosts(), "smtp.isp.example;587", "no domain name"),
    (kinds.hosts(), "smtp.isp.example:", "port is missing"),
    (people.users(), "alice, ../bob", "no user's name"),
    (people.users(), "alice, *", "alone"),
    (people.users(), ".hidden", "no user's name"),
    (people.users(), "alice+lists", "no user's name"),
    (kinds.address(), "@example.org", "no mail address"),
    (kinds.address(), "a b@example.org", "no mail address"),
]


@pytest.mark.parametrize(("kind", "text", "told"), BAD)
def test_a_wrong_value_is_refused_with_what_would_be_right(kind: kinds.Kind[object], text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        kind.parse(text)


@pytest.mark.parametrize(
    ("kind", "text", "whole"),
    [
        (kinds.path(), "spool", Path("/etc/kmq/spool")),
        (kinds.path(), "/spool", Path("/spool")),
        (kinds.file(), "key.pem", "/etc/kmq/key.pem"),
        (kinds.file(), "", ""),
        (kinds.maildir(), "mail/{user}", "/etc/kmq/mail/{user}"),
        (kinds.maildir(), "", ""),
    ],
)
def test_a_relative_path_counts_from_the_configurations_folder(
    kind: kinds.Kind[object], text: str, whole: object
) -> None:
    assert kind.anchor is not None
    assert kind.anchor(kind.parse(text), "/etc/kmq") == whole


@pytest.mark.parametrize(("host", "port", "text"), [("mx.example", 25, "mx.example:25"), ("::1", 587, "[::1]:587")])
def test_an_endpoint_is_written_as_it_is_read(host: str, port: int, text: str) -> None:
    assert kinds.write_endpoint(host, port) == text
    assert kinds.hosts().parse(text) == ((host, port),)
