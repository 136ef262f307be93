"""User names: what can be one, and that none leads out of the mailboxes' folder."""

import os
import random

import pytest

from kmq.model.mailbox import folder, user_of

SAME = [
    ("alice", "alice"),
    ("Alice", "alice"),
    ("alice+lists", "alice"),
    ("alice+a+b", "alice"),
    ("alice+", "alice"),
    ("alice+../../etc", "alice"),
    ("a.b-c_d", "a.b-c_d"),
    ("o'neil", "o'neil"),
    ("jürgen", "jürgen"),
    ("用户", "用户"),
    ("x" * 64, "x" * 64),
]


@pytest.mark.parametrize(("local", "user"), SAME)
def test_a_local_part_means_a_user(local: str, user: str) -> None:
    assert user_of(local) == user


NOBODY = [
    "",
    "+lists",
    ".",
    "..",
    ".hidden",
    "../alice",
    "a/b",
    "/etc/passwd",
    "a\0b",
    "a\nb",
    "a\x7f",
    "a\x85b",
    "a b",
    "a\\b",
    "v%v.test",
    "v.test!v",
    "v@v.test",
    "{user}",
    "{domain}",
    "a:b",
    "a|b",
    "a*",
    "a\u202eb",
    "a\u2028b",
    "a\ud800b",
    "x" * 65,
    "ü" * 33,
]


@pytest.mark.parametrize("local", NOBODY)
def test_what_could_lead_elsewhere_is_nobodys_name(local: str) -> None:
    assert user_of(local) is None


def test_no_local_part_at_all_leads_out_of_the_root() -> None:
    chance = random.Random(20)
    signs = "ab./\\{}+\0\n%@:~ usrdomain-üß。／‥"
    made = 0
    for _ in range(20000):
        user = user_of("".join(chance.choices(signs, k=chance.randint(0, 8))))
        if user is None:
            continue
        made += 1
        whole = folder("/var/mail/{domain}/{user}", user, "example.org")
        assert os.path.normpath(whole) == whole
        assert os.path.dirname(whole) == "/var/mail/example.org"
        assert user_of(user) == user
    assert made > 500


def test_the_template_is_filled_in_once() -> None:
    assert folder("/m/{domain}/{user}/{user}", "alice", "example.org") == "/m/example.org/alice/alice"
    assert folder("/m/{domain}/{user}", "{domain}", "example.org") == "/m/example.org/{domain}"
