"""What an alias stands for in the end: nested, looped, included, owned, and whoever is always there."""

from pathlib import Path

import pytest

from kmq.model.envelope import Recipient
from kmq.routing import expanding
from kmq.routing.expanding import Expansion
from tests.routing.serving import fate, routes

ALIASES = """
staff: ada, bob, carl@far.example
Office: staff, dora@far.example
boss: \\ada, boss@far.example
ada: \\ada, ada@phone.example
bob@b.example: bob@a.example
self: self@a.example, x@far.example
only: only
round: about
about: round
halfround: about, ada@b.example
carl: charles
charles: carl, copy@far.example
dead: nobody, nobody2
half: nobody, bob
list: ada@b.example, inner, out@far.example
owner-list: carl@far.example
inner: bob@b.example
owner-inner: bob
@b.example: @a.example
"""

FATES = [
    ("staff@a.example", ["ada@a.example", "ada@phone.example", "bob@a.example", "carl@far.example"]),
    ("STAFF@A.example", ["ada@a.example", "ada@phone.example", "bob@a.example", "carl@far.example"]),
    ("staff+x@a.example", ["ada@a.example", "ada@phone.example", "bob@a.example", "carl@far.example"]),
    ('"staff"@a.example', ["ada@a.example", "ada@phone.example", "bob@a.example", "carl@far.example"]),
    (
        "office@a.example",
        ["ada@a.example", "ada@phone.example", "bob@a.example", "carl@far.example", "dora@far.example"],
    ),
    ("boss@a.example", ["ada@a.example", "boss@far.example"]),
    ("ada@a.example", ["ada@a.example", "ada@phone.example"]),
    ("bob@a.example", "boxes a.example"),
    ("bob@b.example", ["bob@a.example"]),
    ("carl@a.example", ["carl@a.example", "copy@far.example"]),  # it comes back to itself, and has a mailbox
    ("self@a.example", ["x@far.example"]),  # it names itself, and has none
    ("round@a.example", "550 5.4.6 The alias leads back to itself: round@a.example -> about@a.example"),
    ("only@a.example", "550 5.4.6 The alias leads back to itself: only@a.example -> only@a.example"),
    ("halfround@a.example", ["ada@b.example", "ada@phone.example"]),
    ("dead@a.example", "550 5.1.1 No such user here: dead@a.example -> nobody@a.example"),
    ("half@a.example", ["nobody@a.example", "bob@a.example"]),  # nobody's part fails by itself
    ("zoe@b.example", "550 5.1.1 No such user here: zoe@b.example -> zoe@a.example"),
    ("staff@b.example", ["ada@b.example", "ada@phone.example", "bob@a.example", "carl@far.example"]),
    (
        "list@a.example",
        [
            "ada@b.example by owner-list@a.example",
            "ada@phone.example by owner-list@a.example",
            "bob@a.example by owner-inner@a.example",
            "out@far.example by owner-list@a.example",
        ],
    ),
    ("owner-list@a.example", ["carl@far.example"]),
    ("nobody@a.example", "550 5.1.1 No such user here"),
    ("whoever@far.example", "isp hub.example:25"),
]


@pytest.mark.parametrize(("address", "expected"), FATES)
def test_an_alias_stands_for_addresses(tmp_path: Path, address: str, expected: list[str] | str) -> None:
    found = fate(routes(tmp_path, ALIASES), address)
    if isinstance(expected, str):
        assert isinstance(found, str)
        assert found.startswith(expected)
    else:
        assert found == expected


@pytest.mark.parametrize("address", [address for address, expected in FATES if "far" not in address])
def test_whoever_has_an_alias_is_taken_in(tmp_path: Path, address: str) -> None:
    made = routes(tmp_path, ALIASES)
    assert (made.accepts(address) is None) is (address != "nobody@a.example")


def test_what_came_of_an_alias_is_not_expanded_again(tmp_path: Path) -> None:
    ways = routes(tmp_path, ALIASES).ways("", None)  # type: ignore[arg-type]
    found = ways.decide(Recipient("ada@a.example", original="staff@a.example"))
    assert not isinstance(found, Expansion)
    lost = ways.decide(Recipient("nobody@a.example", original="half@a.example"))
    assert str(lost) == "550 5.1.1 No such user here"


def test_the_rule_names_the_line_and_the_steps_tell_the_way(tmp_path: Path) -> None:
    found = routes(tmp_path, ALIASES).ways("", None).decide(Recipient("office@a.example"))  # type: ignore[arg-type]
    assert isinstance(found, Expansion)
    assert found.rule == f"{tmp_path}/aliases:3 office"
    assert [(step.address, step.targets) for step in found.steps][:2] == [
        ("office@a.example", "staff, dora@far.example"),
        ("staff@a.example", "ada, bob, carl@far.example"),
    ]


@pytest.mark.timeout(20)
def test_aliases_that_name_each_other_cost_what_their_text_costs(tmp_path: Path) -> None:
    """Each of 18 steps leads to three: four hundred million ways, 57 addresses."""
    lines = [f"{name}{n}: a{n + 1}, b{n + 1}, c{n + 1}" for n in range(18) for name in "abc"]
    made = routes(tmp_path, "\n".join([*lines, "a18: a@far.example", "b18: b@far.example", "c18: a@far.example"]))
    assert fate(made, "a0@a.example") == ["a@far.example", "b@far.example"]


def test_depth_and_number_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "\n".join(f"s{n}: s{n + 1}" for n in range(30))
        + "\ns30: ada\nmany: "
        + ", ".join(f"u{n}@x.y" for n in range(9))
    )
    made = routes(tmp_path, text)
    assert str(fate(made, "s0@a.example")).startswith("451 4.3.5 more than 20 aliases lead from one to the next")
    assert fate(made, "s12@a.example") == ["ada@a.example"]
    monkeypatch.setattr(expanding, "LIMIT", 8)
    assert fate(made, "many@a.example") == "451 4.3.5 the alias stands for more than 8 addresses"


def test_a_target_that_is_none_defers_the_alias_with_its_line(tmp_path: Path) -> None:
    made = routes(tmp_path, 'in: pipe, ada\npipe: "|/bin/cat"\n')
    assert made.accepts("in@a.example") is None
    assert str(fate(made, "in@a.example")).startswith(f"451 4.3.5 {tmp_path}/aliases:2: '|/bin/cat' is a command")


# --- included files ---------------------------------------------------------------------------------------------------


def test_an_included_file_is_read_when_it_is_needed(tmp_path: Path) -> None:
    members = tmp_path / "members"
    made = routes(tmp_path, f"list: :include:{members}, dora@far.example\n")
    assert fate(made, "list@a.example") == f"451 4.3.0 {members} cannot be read: No such file or directory"
    members.write_text("ada\nbob, zoe@far.example\nthis is none\n")
    assert fate(made, "list@a.example") == ["ada@a.example", "bob@a.example", "zoe@far.example", "dora@far.example"]
    members.write_text("carl\n")
    assert fate(made, "list@a.example") == ["carl@a.example", "dora@far.example"]


def test_an_included_file_is_followed_through_no_link_and_no_fifo(tmp_path: Path) -> None:
    import os

    (tmp_path / "secret").write_text("root:x:0:0\n")
    (tmp_path / "link").symlink_to("secret")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("link", "fifo", "folder"):
        found = fate(routes(tmp_path, f"list: :include:{tmp_path}/{name}\n"), "list@a.example")
        assert str(found).startswith(f"451 4.3.0 {tmp_path}/{name} cannot be read")
        assert "x:0:0" not in str(found)


def test_files_that_include_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "one").write_text(f":include:{tmp_path}/two\nada\n")
    (tmp_path / "two").write_text(f":include:{tmp_path}/one\nbob\n")
    assert fate(routes(tmp_path, f"l: :include:{tmp_path}/one\n"), "l@a.example") == ["bob@a.example", "ada@a.example"]


# --- who is always there ----------------------------------------------------------------------------------------------

ADA = "postmaster = ada@a.example"
FAR = "postmaster = ops@far.example"
NOBODY = "postmaster = nobody@a.example"

ALWAYS = [
    # aliases, users, [kmq] postmaster, address, fate
    ("", "ada, bob", "", "postmaster@b.example", "boxes b.example"),
    ("", "ada, bob", "", "postmaster", "boxes a.example"),
    ("", "ada, bob", "", "abuse@b.example", ["postmaster@a.example"]),
    ("", "ada, bob", "", "Root@a.example", ["postmaster@a.example"]),
    ("", "ada, bob", ADA, "postmaster@b.example", ["ada@a.example"]),
    ("", "ada, bob", ADA, "postmaster", ["ada@a.example"]),
    ("", "ada, bob", ADA, "root+cron@b.example", ["ada@a.example"]),
    ("", "ada, bob", FAR, "root@a.example", ["ops@far.example"]),
    ("", "ada, bob", FAR, "postmaster", ["ops@far.example"]),
    ("", "ada, bob", NOBODY, "postmaster@a.example", "boxes a.example"),
    ("", "ada, bob", NOBODY, "abuse@a.example", ["postmaster@a.example"]),
    ("", "ada, bob", NOBODY, "Nobody@a.example", ["postmaster@a.example"]),
    ("x: nobody\n", "ada, bob", NOBODY, "x@a.example", ["postmaster@a.example"]),
    ("@a.example: bob\n", "ada, bob", NOBODY, "nobody@a.example", ["bob@a.example"]),
    ("", "ada, root", ADA, "root@a.example", "boxes a.example"),  # root has a mailbox
    ("", "*", ADA, "root@a.example", ["ada@a.example"]),  # everybody has one, so nobody's is meant
    ("", "*", "", "root@a.example", ["postmaster@a.example"]),
    ("root: bob\nabuse@b.example: carl@far.example\n", "ada, bob", ADA, "root@b.example", ["bob@b.example"]),
    ("root: bob\nabuse@b.example: carl@far.example\n", "ada, bob", ADA, "abuse@b.example", ["carl@far.example"]),
    ("postmaster: root\nroot: bob\n", "ada, bob", ADA, "postmaster@a.example", ["bob@a.example"]),
    ("postmaster: root\nroot: bob\n", "ada, bob", "", "abuse@a.example", ["bob@a.example"]),
    ("postmaster: root\nroot: bob\n", "ada, bob", "", "postmaster", ["bob@a.example"]),
    ("mailer-daemon: postmaster\nx: root\n", "ada, bob", "", "mailer-daemon@a.example", ["postmaster@a.example"]),
    ("mailer-daemon: postmaster\nx: root\n", "ada, bob", "", "x@a.example", ["postmaster@a.example"]),
]


@pytest.mark.parametrize(("aliases", "users", "kmq", "address", "expected"), ALWAYS)
def test_somebody_is_always_there(
    tmp_path: Path, aliases: str, users: str, kmq: str, address: str, expected: list[str] | str
) -> None:
    made = routes(tmp_path, aliases, users=users, kmq=kmq)
    assert made.accepts(address) is None
    assert fate(made, address) == expected


def test_a_maildir_made_for_want_of_anybody_better_does_not_stand_in_the_way(tmp_path: Path) -> None:
    for user in ("postmaster", "ada", "root"):
        (tmp_path / "mail" / "a.example" / user / "new").mkdir(parents=True)
    made = routes(tmp_path, users="existing", kmq=ADA)
    assert fate(made, "postmaster@a.example") == ["ada@a.example"]
    assert fate(made, "root@a.example") == "boxes a.example", "root has a mailbox of his own"
    assert fate(made, "root@b.example") == ["ada@a.example"]


def test_without_local_domains_the_bare_postmaster_is_the_configured_one(tmp_path: Path) -> None:
    from kmq.config import read
    from kmq.routing.table import Routes

    text = "[kmq]\nhostname = mx.x\n{}\n[i : connector]\ntype = smarthost\nhosts = hub\naddress_spaces = *\n"
    assert fate(Routes(read(text.format(FAR), "k", "/", "m")), "postmaster") == ["ops@far.example"]
    assert fate(Routes(read(text.format(""), "k", "/", "m")), "postmaster") == "i hub:25"
