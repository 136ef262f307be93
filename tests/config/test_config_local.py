"""Connectors for local domains: what their options mean, and what cannot be meant."""

import re

import pytest

from kmq.config import read
from kmq.config.local_connector import Quota
from kmq.config.sections import OPTIONS, ConnectorSection
from tests.config.test_config_mistakes import MAIL, mistakes

KMQ = "[kmq]\nlocal_domains = here.test\n"
LMTP = "[store : connector]\ntype = lmtp\nusers = *\nsocket = /run/dovecot/lmtp\n"
PIPE = "[store : connector]\ntype = pipe\nusers = *\ncommand = /usr/bin/procmail -d {user}\n"
MBOX = "[store : connector]\ntype = mailbox\nmbox = /var/mail/{user}\n"


def connector(text: str) -> ConnectorSection:
    return read(KMQ + text, "kmq.conf", "/etc/kmq", "mx1.example.org").connectors[0]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1G", Quota(1 << 30, 0)),
        ("10000 messages", Quota(0, 10000)),
        ("1 message", Quota(0, 1)),
        ("1G, 10000 messages", Quota(1 << 30, 10000)),
        ("10000 messages, 1M", Quota(1 << 20, 10000)),
        ("", Quota(0, 0)),
    ],
)
def test_a_quota_is_of_bytes_of_messages_or_of_both(text: str, meant: Quota) -> None:
    assert connector(MAIL + f"quota = {text}\n").quota == meant


def test_each_type_of_connector_has_its_options() -> None:
    assert connector(LMTP).socket == "/run/dovecot/lmtp"
    assert connector(LMTP.replace("socket = /run/dovecot/lmtp", "hosts = store.test:24")).hosts == (("store.test", 24),)
    pipe = connector(PIPE + "recipients = all\n".replace("all", "one") + "time_limit = 30s\ncommands = 3\n")
    assert (pipe.command, pipe.time_limit, pipe.commands) == (("/usr/bin/procmail", "-d", "{user}"), 30.0, 3)
    assert connector(MBOX + "lock_timeout = 5s\n").lock_timeout == 5.0
    assert connector(MAIL + "catch_all = Boss\nusers = alice, boss\n").catch_all == "boss"


def test_options_of_local_connectors_stand_behind_those_of_all_in_the_manual() -> None:
    names = list(OPTIONS["connector"])
    assert names[0] == "type"
    assert names.index("mbox") > names.index("connection_idle")


TABLE = [
    # the section; the line of the mistake; what is told
    ("[store : connector]\ntype = mailbox\n", 1, r"write maildir = /var/mail/\{user\}, or mbox = /var/mail/\{user\}"),
    (MBOX + "maildir = /var/mail/{user}\n", 3, r"mbox stands beside maildir"),
    (MBOX + "create_folders = yes\n", 4, r"create_folders is for Maildirs; this connector has mbox"),
    (MBOX + "quota = 10 messages\n", 4, r"messages of an mbox are not counted: write a size alone"),
    (MBOX.replace("{user}", "all"), 3, r"one folder for all: write \{user\}"),
    (MAIL + "quota = 1G 10 messages\n", 4, r"'1G 10 messages' is no quota: write a size, .*1G, 10000 messages"),
    (MAIL + "quota = 1G, 2G\n", 4, r"is no quota"),
    (MAIL + "quota = 0 messages\n", 4, r"0 is too little: at least 1"),
    (MAIL + "over_quota = bounce\n", 4, r"'bounce' is not one of wait, return"),
    (MAIL + "catch_all = ../boss\n", 4, r"'../boss' is no user's name"),
    (MAIL + "users = *\ncatch_all = boss\n", 5, r"with users = \* everybody is somebody"),
    (MAIL + "socket = /run/dovecot/lmtp\n", 4, r"socket is for type = lmtp; this one is type = mailbox"),
    (MAIL + "time_limit = 1m\n", 4, r"time_limit is for type = pipe; this one is type = mailbox"),
    (MAIL + "lock_timeout = 0\n", 4, r"lock_timeout: 0 is too little: at least 1s"),
    (LMTP + "quota = 1G\n", 5, r"quota is for type = mailbox; this one is type = lmtp"),
    (LMTP.replace("users = *\n", ""), 1, r"users is missing: write users = passwd, file:"),
    (LMTP + "hosts = store.test:24\n", 4, r"socket stands beside hosts"),
    (
        LMTP.replace("socket = /run/dovecot/lmtp", "hosts = store.test"),
        4,
        r"LMTP is not spoken on port 25 \(RFC 2033 5",
    ),
    (LMTP.replace("socket = /run/dovecot/lmtp\n", ""), 1, r"socket is missing: write socket = /run/dovecot/lmtp"),
    (LMTP + "tls = must\n", 5, r"tls = must protects a line; a socket of this machine has none"),
    (LMTP + "senders = <>\n", 5, r"senders is for mail that goes elsewhere"),
    (PIPE.replace("command = /usr/bin/procmail -d {user}\n", ""), 1, r"write command = /usr/bin/procmail -m /etc"),
    (PIPE.replace("/usr/bin/", ""), 4, r"no shell looks for the program"),
    (PIPE.replace("{user}", "{usr}"), 4, r"\{usr\} means nothing: there are \{user\}, \{domain\}"),
    (PIPE.replace("procmail", "{user}"), 4, r"the program itself may not depend on the mail"),
    (PIPE + "recipients = all\n", 4, r"\{user\} is another for each recipient: write recipients = one"),
    (PIPE.replace("{user}", "x{recipient}") + "recipients = all\n", 4, r"\{recipient\} has to be a word of its own"),
]


@pytest.mark.parametrize(("text", "line", "told"), TABLE)
def test_a_mistake_is_told_with_its_line_and_what_would_be_right(text: str, line: int, told: str) -> None:
    found = mistakes(text)
    assert len(found) == 1, found
    assert found[0].startswith(f"kmq.conf:{line}: ")
    assert re.search(told, found[0]), found[0]
