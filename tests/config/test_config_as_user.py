"""Connectors that deliver as the user, and the mistakes with line and remedy."""

import pytest

from kmq.config import read
from kmq.config.connector import ConnectorSection
from kmq.errors import ConfigError

BASE = "[kmq]\nhostname = mx.example.org\nlocal_domains = example.org\n[home : connector]\n"


def connector(text: str) -> ConnectorSection:
    return read(BASE + text, "kmq.conf", "/etc/kmq", "mx").connectors[0]


@pytest.mark.parametrize(
    "text",
    [
        "type = mailbox\nas_user = maildir\nusers = passwd\n",
        "type = mailbox\nas_user = maildir\nusers = alice, bob\nquota = 1G, 5 messages\ncreate_folders = yes\n",
        "type = mailbox\nas_user = mbox\nusers = passwd\nquota = 1G\nlock_timeout = 1m\n",
        "type = pipe\nas_user = command\ndeliver_command = procmail\nusers = passwd\ntime_limit = 1m\n",
    ],
)
def test_what_is_enough(text: str) -> None:
    assert connector(text).deliver_socket == "/run/kmq-deliver.sock"


def test_who_says_nothing_is_not_asked_for() -> None:
    assert connector("type = mailbox\nmaildir = /m/{user}\n").as_user == "no"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("as_user = yes\n", "kmq.conf:5: [home : connector] as_user: 'yes' is not one of no, maildir, mbox, command"),
        ("type = pipe\nas_user = mbox\nusers = *\n", "as_user = mbox is for type = mailbox; this one is type = pipe"),
        ("type = mailbox\nas_user = command\ndeliver_command = x\nusers = *\n", "as_user = command is for type = pipe"),
        ("type = smarthost\naddress_spaces = *\nas_user = maildir\n", "is for type = mailbox; this one is type = smar"),
        ("type = mailbox\nas_user = maildir\nmaildir = /m/{user}\nusers = *\n", "maildir is not for as_user = maildir"),
        (
            "type = mailbox\nas_user = mbox\nmbox = /m/{user}\nusers = *\n",
            "mbox is not for as_user = mbox: kmq-deliver(",
        ),
        (
            "type = pipe\nas_user = command\ndeliver_command = x\ncommand = /bin/x\nusers = *\n",
            "command is not for as_u",
        ),
        ("type = pipe\nas_user = command\nusers = *\n", "deliver_command is missing: write deliver_command = procmail"),
        ("type = pipe\nas_user = command\ndeliver_command = /bin/x\nusers = *\n", "'/bin/x' is no name: letters"),
        ("type = mailbox\nmaildir = /m/{user}\ndeliver_command = x\n", "deliver_command is for as_user = command"),
        ("type = pipe\nas_user = command\ndeliver_command = x\nusers = *\nrecipients = all\n", "has no one user"),
        ("type = mailbox\nas_user = mbox\nusers = *\nquota = 5 messages\n", "messages of an mbox are not counted"),
        ("type = mailbox\nas_user = maildir\n", "users = existing looks for folders, and kmqd sees no user's"),
        (
            "type = mailbox\nas_user = maildir\nusers = *\ndeliver_socket =\n",
            "deliver_socket is missing: write deliver_",
        ),
    ],
)
def test_mistakes_name_line_and_remedy(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        connector(text)
    assert told in str(wrong.value)
