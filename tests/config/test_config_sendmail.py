"""[sendmail]: its defaults, and its mistakes with their lines."""

import re
from pathlib import Path

import pytest

from kmq.config import read
from kmq.errors import ConfigError


def test_the_socket_lies_in_the_run_directory_unless_it_is_named() -> None:
    def socket(text: str) -> str:
        return read(text, "kmq.conf", "/etc/kmq", "mx.example.org").sendmail.socket

    assert socket("") == "/var/spool/kmq/run/submit.sock"
    assert socket("[kmq]\nrun_directory = /run/kmq\n") == "/run/kmq/submit.sock"
    assert socket("[sendmail]\nsocket = elsewhere.sock\n") == "/etc/kmq/elsewhere.sock"
    assert socket("[sendmail]\nsocket =\n") == ""


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[sendmail]\nsocket = /var/spool/kmq/run/queue.sock\n", 2, "is for kmqd itself: name another"),
        ("[kmq]\nrun_directory = /r\n[sendmail]\nsocket = /r/../r/control.sock\n", 4, "is for kmqd itself"),
        ("[sendmail]\nsocket = ~/sock\n", 2, "there are no home folders here"),
        ("[sendmail]\ntrusted_users = a b\n", 2, "'a b' is no user of this machine"),
        ("[sendmail]\nmessages_per_minute = 0\n", 2, "0 is too little: at least 1"),
        ("[sendmail]\nsessions = 10\nsessions_per_user = 11\n", 3, "is more than sessions = 10"),
        ("[sendmail]\nline_limit = 100\n", 2, "100 is too little: at least 998"),
        ("[sendmail]\nlisten = 127.0.0.1:25\n", 2, "it belongs in a section of kind receiver"),
        ("[sendmail : receiver]\nlisten = 127.0.0.1:25\n", 1, "sendmail is a kind of section"),
        ("[web : sendmail]\n", 1, "there is one [sendmail]"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        read(text, "kmq.conf", "/etc/kmq", "mx.example.org")
    assert wrong.value.exit_status == 78
    assert re.search(rf"^kmq\.conf:{line}: .*{re.escape(said)}", str(wrong.value), re.MULTILINE), str(wrong.value)


def test_a_receiver_may_be_called_submission() -> None:
    text = "[submission : receiver]\nlisten = 127.0.0.1:587\nsubmission = yes\n"
    assert read(text, "kmq.conf", str(Path("/")), "mx.example.org").receivers[0].name == "submission"
