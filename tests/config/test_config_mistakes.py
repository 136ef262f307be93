"""Wrong configurations: each mistake with file, line, what is wrong, and what would be right; all of them at once."""

import random
import re

import pytest

from kmq.config import read
from kmq.errors import ConfigError
from tests.config.test_config_reading import WHOLE

MX = "[mx : receiver]\nlisten = 127.0.0.1:25\n"
ISP = "[isp : connector]\ntype = smarthost\naddress_spaces = *\nhosts = smtp.isp.example\n"
DNS = "[world : connector]\ntype = dns\naddress_spaces = *\n"
GUID = "guid = 4520E633-d83d-411a-bbe4-6a84648674ee\n"
MAIL = "[mail : connector]\ntype = mailbox\nmaildir = /var/mail/{user}\n"


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as wrong:
        read(text, "kmq.conf", "/etc/kmq", "mx1.example.org")
    assert wrong.value.exit_status == 78
    return str(wrong.value).splitlines()


TABLE = [
    # what stands in the file; the line of the mistake; what is told
    ("[queue]\nper_hopp = 3\n", 2, r"\[queue\] per_hopp: there is no such option; did you mean 'per_hop'"),
    ("[queue]\nfoo = 3\n", 2, r"foo: there is no such option; queue has durability, "),
    ("[queue]\nlisten = 127.0.0.1:25\n", 2, r"listen: .* belongs in a section of kind receiver"),
    ("[queue]\nsize limit = 3\n", 2, r"size limit: there is no such option"),
    ("[receiver]\nlistn = 127.0.0.1:25\n", 2, r"\[receiver\] listn: .* did you mean 'listen'"),
    ("[quue]\n", 1, r"\[quue\] is no kind of section: .* did you mean 'queue'"),
    ("[mx]\nlisten = 127.0.0.1:25\n", 1, r"\[mx\] is no kind of section: write one of .*\[mx : receiver\]"),
    ("[DEFAULT]\nper_hop = 3\n", 1, r"no kind of section"),
    ("[mx : reciever]\n", 1, r"no section 'reciever'; did you mean 'receiver'"),
    ("[a : b]\n[b : c]\n[c : a]\n", 1, r"\[a : b\] inherits from itself: a : b : c : a"),
    ("[a : a]\n", 1, r"inherits from itself: a : a"),
    ("[other : queue]\n", 1, r"there is one \[queue\]"),
    ("[queue : receiver]\n", 1, r"queue is a kind of section"),
    ("[machine : receiver]\n", 1, r"the name machine is taken"),
    (MX + "[mx : receiver]\n", 3, r"\[mx : receiver\] has the name of \[mx : receiver\] in line 1"),
    (MX + "[mx : connector]\n", 3, r"names are unique"),
    ("[queue]\nper_hop = 3\nper_hop = 4\n", 3, r"per_hop stands in \[queue\] already, line 2"),
    ("[queue]\nper_hop[a] = 3\nper_hop[A] = 4\n", 3, r"already, line 2"),
    ("per_hop = 3\n", 1, r"before the first \[section\]"),
    ("[queue\n", 1, r"no heading"),
    ("[queue]\nper_hop\n", 2, r"neither \[heading\] nor option = value"),
    ("[queue]\nretry_interval = soon\n", 2, r"retry_interval: 'soon' is no duration: .* such as 5m"),
    ("[queue]\nretry_interval[elsewhere] = soon\n", 2, r"no duration"),
    ("[receiver]\nsize_limit = huge\n" + MX + "size_limit = 1M\n", 2, r"\[receiver\] size_limit: 'huge' is no size"),
    ("[back_pressure]\nspool_space = 1G, 500M\n", 2, r"four figures are needed \(medium, high, .*or off"),
    ("[back_pressure]\nspool_space = 500M, 1G, 750M, 2G\n", 2, r"in no order: .* from much to little"),
    ("[back_pressure]\nsubmission_queue = 100, 50, 60, 10\n", 2, r"in no order: .* rising"),
    ("[back_pressure]\nsubmission_queue = many, 2, 3, 4\n", 2, r"'many' is no whole number"),
    ("[back_pressure]\nown_memory = 72, 175, 73, 71\n", 2, r"'175' is no percentage: write 72%"),
    ("[back_pressure]\nlog_space =\n", 2, r"four figures are needed"),
    ("[other : back_pressure]\n", 1, r"there is one \[back_pressure\]"),
    ("[queue]\ngrace_hold = never\n", 2, r"'never' is no whole number"),
    ("[queue]\ndurability = jornal\n", 2, r"did you mean 'journal'"),
    ("[kmq]\nspool = /srv/$HOME\n", 2, r"spool: a \$ stands alone: .*\$\$"),
    ("[kmq]\nspool = /srv/${HOME}\n", 2, r"\$\{HOME\} names no option"),
    ("[kmq]\nspool = /srv/${queue:nothing}\n", 2, r"queue:nothing\} names no option"),
    ("[kmq]\nspool = /srv/${a:b:c}\n", 2, r"\$\{option\} or \$\{section:option\}"),
    ("[kmq]\nspool = ${run_directory}/..\n", 2, r"spool refers to itself"),
    ("[mail : connector]\ntype = mailbox\nmaildir = /var/mail/${user}\n", 3, r"write \{user\} without \$"),
    ("[queue]\nretry_interval = 2h\n", 2, r"retry_interval is longer than retry_interval_max"),
    ("[mx : receiver]\n", 1, r"listen is missing: write listen = 0\.0\.0\.0:25"),
    (ISP + "guid = isp\n", 5, r"guid: 'isp' is no GUID; one such as 4520e633-"),
    (ISP + f"guid = {'0' * 32}\n", 5, r"guid: the GUID of zeros stands for no connector"),
    (ISP + GUID + DNS + GUID, 9, r"\[isp\] bears the same guid: leave one out"),
    ("[queue]\nqueue_max_idle_time = 2h\n", 2, r"queue_max_idle_time: 2h is too much: at most 1h"),
    (
        "[isp : connector]\n",
        1,
        r"type is missing: write type = smarthost, dns, mailbox, lmtp, pipe, agent, foreign, discard or error",
    ),
    ("[isp : connector]\ntype = smarthost\n", 1, r"address_spaces is missing"),
    ("[mail : connector]\ntype = mailbox\n", 1, r"maildir is missing: write maildir = /var/mail/\{user\}"),
    ("[isp : connector]\ntype = smtp\n", 2, r"'smtp' is not one of smarthost, dns, mailbox"),
    (DNS.replace("address_spaces = *\n", ""), 1, r"address_spaces is missing"),
    (DNS + "hosts = smtp.isp.example\n", 4, r"hosts is for type = smarthost or lmtp; this one is type = dns"),
    (DNS + "tls = implicit\n", 4, r"tls = implicit is for smart hosts: .* write tls = must"),
    (DNS + "tls_verify = name\n", 4, r"worse than not to look at it: write tls = must, or tls_failure = wait"),
    (DNS + "tls_minimum = 1.1\n", 4, r"'1\.1' is not one of 1\.2, 1\.3"),
    (DNS + "tls_certificate = /c.pem\n", 4, r"tls_certificate is set and tls_key is not: write both or neither"),
    (DNS + "forbidden_addresses = lan\n", 4, r"'lan' is no network"),
    (DNS + "port = 0\n", 4, r"0 is too little"),
    (DNS + "auth_user = me\npassword_file = /p\ntls = must\n", 4, r"auth_user is for type = smarthost"),
    (ISP + "auth_user = me\ntls = must\n", 5, r"auth_user is set and password_file is not"),
    (ISP + "password_file = /p\n", 5, r"password_file is set and auth_user is not"),
    (ISP + "auth_user = me\npassword_file = /p\n", 5, r"auth_user needs tls = must or implicit: with tls = may"),
    ("[kmq]\ndns_servers = resolver.example.org\n", 2, r"the address of a resolver is needed, not a name"),
    ("[kmq]\ndns_servers = 192.0.2.53:99999\n", 2, r"port '99999' is not a number"),
    ("[kmq]\ndns_timeout = 0\n", 2, r"0 is too little: at least 100ms"),
    (ISP + "maildir = /var/mail/{user}\n", 5, r"maildir is for type = mailbox; this one is type = smarthost"),
    (ISP + "connections = 3\nconnections_per_domain = 4\n", 6, r"connections_per_domain is more than connections = 3"),
    (DNS + "connections_per_host = many\n", 4, r"'many' is no whole number"),
    (DNS + "connections = 0\n", 4, r"0 is too little: at least 1"),
    (ISP + "messages_per_minute = 5/s\n", 5, r"messages_per_minute: '5/s' is no whole number: write digits alone"),
    (ISP + "messages_per_minute = 5\nmessages_per_minute_per_domain = 6\n", 6, r"more than messages_per_minute = 5"),
    (ISP + "slow_down = sometimes\n", 5, r"slow_down: 'sometimes' is not one of yes, no"),
    ("[queue]\npriority_connections = 20, 80\n", 2, r"does not have three numbers: write .* as 15, 75, 10"),
    ("[queue]\npriority_connections = 0, 90, 10\n", 2, r"0 is too little: at least 1"),
    ("[queue]\npriority_queuing = yes\nhigh_priority_lifetime = 20m\n", 1, r"high_priority_delay_warning is not bef"),
    (MX + "priority_from = friends\n", 3, r"'friends' is not one of trusted, everybody, nobody"),
    (MX + "unlimited_clients = localhost\n", 3, r"'localhost' is no network"),
    (
        MX + "connections_per_minute = 5\nclient_connections_per_minute = 6\n",
        4,
        r"client_connections_per_minute is more than connections_per_minute = 5",
    ),
    (MAIL + "hosts = smtp.isp.example\n", 4, r"hosts is for type = smarthost"),
    (MAIL.replace("/{user}", "/{user}/../x"), 3, r"leaves its root"),
    (MX + "tls_key = /k.pem\n", 3, r"tls_key is set and tls_certificate is not"),
    (MX + "tls_certificate = /c.pem\n", 3, r"tls_certificate is set and tls_key is not"),
    (MX + "sessions = 10\n", 1, r"sessions_per_client is more than sessions = 10"),
    (MX + "[b : receiver]\nlisten = 127.0.0.1:25\n", 4, r"127\.0\.0\.1:25 cannot be listened on: \[mx\] listens on"),
    (MX + "[b : receiver]\nlisten = 0.0.0.0:25\n", 4, r"0\.0\.0\.0:25 cannot be listened on: \[mx\] listens on"),
    (MX + "[b : mx]\nsessions = 100\n", 2, r"\[b : mx\] 127\.0\.0\.1:25 cannot be listened on"),
    ("[mx : receiver]\nlisten = [::1]:25, [0::1]:25\n", 2, r"\[::1\]:25 cannot be listened on"),
    ("[kmq]\nhostname = my_host.\n", 2, r"ends in a dot"),
    ("[pickup]\nmessages_per_minute = 0\n", 2, r"0 is too little: at least 1"),
    ("[replay]\nmessages_per_minute = 20001\n", 2, r"20001 is too much: at most 20000"),
    ("[pickup]\nheader_size = 1M\n", 2, r"1M is too much: at most 96K"),
    ("[replay]\nheader_size = 64K\n", 2, r"header_size: .* belongs in a section of kind pickup"),
    ("[pickup]\nowners = app user\n", 2, r"'app user' is no user of this machine: write a name as in /etc/passwd"),
    (
        "[kmq]\noperators_group = adm, kmq\n",
        2,
        r"'adm, kmq' is no group of this machine: write one name as in /etc/group",
    ),
    ("[kmq]\nviewers_group = every body\n", 2, r"viewers_group: 'every body' is no group of this machine"),
    ("[pickup]\ndirectory = ~/mail\n", 2, r"there are no home folders here"),
    ("[kmq]\nspool = /s\n[pickup]\ndirectory = /s\n", 4, r"/s has the spool in it: name a directory beside it"),
    ("[kmq]\nspool = /s\n[replay]\ndirectory = /\n", 4, r"/ has the spool in it"),
    ("[kmq]\nspool = /s\n[pickup]\ndirectory = /s/queue\n", 4, r"/s/queue is in the spool, where only pickup and"),
    ("[kmq]\nspool = /s\n[replay]\ndirectory = /s/x/../pickup/\n", 4, r"is the directory of \[pickup\] already"),
]


@pytest.mark.parametrize(("text", "line", "told"), TABLE)
def test_a_mistake_is_told_with_its_line_and_what_would_be_right(text: str, line: int, told: str) -> None:
    found = mistakes(text)
    assert len(found) == 1, found
    assert found[0].startswith(f"kmq.conf:{line}: ")
    assert re.search(told, found[0]), found[0]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_lines() -> None:
    text = (
        "lost = 1\n[queue]\nper_hop = x\nper_hop = 1\nfoo = 1\n[mx]\n[isp : connector]\ntype = smtp\n[a : receiver]\n"
    )
    assert [line.split(": ")[0] for line in mistakes(text)] == [f"kmq.conf:{line}" for line in (1, 3, 4, 5, 6, 8, 9)]


def test_whatever_stands_in_the_file_is_settings_or_mistakes_with_lines() -> None:
    chance = random.Random(20)
    pieces = re.findall(r"\w+|\s|[^\w\s]", WHOLE)
    sound = 0
    for _ in range(1500):
        torn = pieces.copy()
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(torn))
            torn[place : place + chance.randint(0, 2)] = chance.choices([*pieces, "${", "$", "\0", "é", "9" * 400], k=1)
        try:
            read("".join(torn), "kmq.conf", "/etc/kmq", "mx1.example.org")
            sound += 1
        except ConfigError as wrong:
            assert re.fullmatch(r"(kmq\.conf(:\d+)?: .+\n)+", f"{wrong}\n"), str(wrong)
    assert 0 < sound < 1500


def test_a_mistake_that_many_inherit_is_told_once() -> None:
    text = "[receiver]\nsize_limit = ${nothing}\n" + MX + "[b : receiver]\nlisten = 127.0.0.1:2\n"
    assert len(mistakes(text)) == 1


def test_listeners_that_can_be_bound_together_are_no_mistake() -> None:
    text = "[a : receiver]\nlisten = 0.0.0.0:25, [::]:25, 127.0.0.1:587\n"
    found = read(text + "[b : receiver]\nlisten = 127.0.0.2:587, [::1]:587\n", "kmq.conf", "/etc/kmq")
    assert sum(len(one.listen) for one in found.receivers) == 5


def test_a_machine_without_a_usable_name_is_told_which_option_helps() -> None:
    with pytest.raises(
        ConfigError, match=r"^kmq\.conf: hostname is not set, and its default does not do: '\(none\)' is no domain name"
    ):
        read("", "kmq.conf", "/etc/kmq", "(none)")
    assert read("[kmq]\nhostname = a.example\n", "kmq.conf", "/etc/kmq", "(none)").kmq.hostname == "a.example"


DOUBTS = [
    (MX + "relay_from = 0.0.0.0/0\n", 3, r"an open relay"),
    (MX + "relay_from = ::/0\n", 3, r"an open relay"),
    (MX + "recipient_limit = 10\n", 3, r"less than 100"),
    (ISP.replace("smtp.isp.example", ""), 4, r"mail for \* waits in the Unreachable queue"),
    ("[kmq]\n", 1, r"no receiver and no connector"),
    (MAIL, 2, r"local_domains is empty: no mail comes"),
    (MAIL + "address_spaces = a.example\n", 2, r"local_domains is empty: no mail comes"),
    (MX + ISP.replace("smtp.isp.example", "127.0.0.1"), 6, r"127\.0\.0\.1:25 is our own receiver \[mx\]"),
    (MX + ISP.replace("smtp.isp.example", "localhost"), 6, r"localhost:25 is our own receiver \[mx\]"),
    (MX.replace("127.0.0.1", "0.0.0.0") + ISP.replace("smtp.isp.example", "127.0.0.2"), 6, r"our own receiver"),
    (MX.replace("127.0.0.1", "[::]") + ISP.replace("smtp.isp.example", "[::1]"), 6, r"\[::1\]:25 is our own receiver"),
    (MX.replace("127.0.0.1", "192.0.2.1") + ISP.replace("smtp.isp.example", "mx1.example.org"), 6, r"our own receiver"),
    (MX + "[kmq]\nlocal_domains = a.example\n", 4, r"no connector of type mailbox serves a\.example"),
    ("[kmq]\nlocal_domains = a.example\n" + MAIL + ISP.replace("*", "a.example"), 8, r"never to this connector"),
    (
        "[kmq]\nlocal_domains = a.example\n" + MAIL + "[gone : connector]\ntype = error\naddress_spaces = a.example\n",
        8,
        r"never to this connector",
    ),
    (
        "[kmq]\nlocal_domains = a.example\n" + MAIL + "[b : mail]\naddress_spaces = b.example\n",
        7,
        r"not in local_domains",
    ),
    ("[kmq]\nhostname = mx\n" + ISP, 2, r"no full name"),
    (DNS + "connections_per_host = 1\n", 4, r"connections_per_host is less than workers = 2: each worker may have one"),
]


@pytest.mark.parametrize(("text", "line", "told"), DOUBTS)
def test_what_is_allowed_and_hardly_meant_is_a_warning(text: str, line: int, told: str) -> None:
    (warning,) = read(text, "kmq.conf", "/etc/kmq", "mx1.example.org").warnings
    assert warning.startswith(f"kmq.conf:{line}: ["), warning
    assert re.search(told, warning), warning


def test_a_sound_configuration_has_no_warnings() -> None:
    text = "[kmq]\nlocal_domains = a.example, b.a.example\n" + MX + "relay_from = 10.0.0.0/8\n" + ISP + MAIL
    text = text.replace("smtp.isp.example", "smtp.isp.example, 127.0.0.1:2525, 127.0.0.2, [::1], mx.example")
    assert read(text + "address_spaces = a.example, *.a.example\n", "kmq.conf", "/etc/kmq", "mx.example").warnings == ()
