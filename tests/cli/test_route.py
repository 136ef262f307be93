"""`kmq route`: the way of mail, with the line that decides each step; and what `kmq check` says of aliases."""

import json
import os

import pytest

from kmq.model.event import Expanded, Failed
from tests.cli.conftest import Place
from tests.waiting import free_port

MORE = """
[wise : connector]
type = smarthost
address_spaces = *
hosts = wise.example
senders = boss@example.org
clients = 10.0.0.0/8

[unfilled : connector]
type = smarthost
address_spaces = later.example
"""

ALIASES = """\
staff: ada, bob@far.example
owner-staff: ada
dead: nobody
pipe: "|/bin/cat"
many: :include:{folder}/many
"""


@pytest.fixture
def routed(place: Place) -> Place:
    folder = place.path.parent
    (folder / "aliases").write_text(ALIASES.format(folder=folder))
    (folder / "many").write_text("\n".join(f"m{n}@far.example" for n in range(100)))
    for user in ("ada", "root"):
        (folder / "mail" / user / "new").mkdir(parents=True)
    place.configure(port=free_port())
    text = place.path.read_text().replace("[mx :", "alias_files = aliases\n\n[mx :", 1)
    place.path.write_text(text + MORE)
    return place


def test_an_alias_is_followed_to_its_ends(routed: Place) -> None:
    folder = routed.path.parent
    status, out, _ = routed.run("route", "Staff", "--sender", "s@x.example")
    assert status == 0
    assert out.splitlines() == [
        "Staff@example.org",
        "  rcpt        taken in",
        f"  alias       {folder}/aliases:1 staff -> ada, bob@far.example",
        "ada@example.org",
        f"  rule        {routed.path}:4 [kmq] local_domains = example.org -> [boxes : connector]",
        f"  next hop    {folder}/mail/ada (mailbox, connector boxes)",
        "  from        owner-staff@example.org",
        "bob@far.example",
        f"  rule        {routed.path}:13 [isp : connector] address_spaces = *",
        "  next hop    smtp.isp.example:587 (smart host, connector isp)",
        "  from        owner-staff@example.org",
    ]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("a@far.example",), 0, "next hop    smtp.isp.example:587"),
        (("a@far.example", "--sender", "BOSS@example.org", "--client", "10.1.2.3"), 0, "next hop    wise.example:25"),
        (("a@far.example", "--sender", "boss@example.org"), 0, "next hop    smtp.isp.example:587"),
        (("postmaster",), 0, "mail/postmaster (mailbox, connector boxes)"),
        (("root",), 0, "mail/root (mailbox, connector boxes)"),
        (("abuse",), 0, "[kmq] postmaster: abuse@example.org -> postmaster@example.org"),
        (("zoe",), 1, "refused     550 5.1.1 No such user here"),
        (("dead",), 1, "refused     550 5.1.1 No such user here: dead@example.org -> nobody@example.org"),
        (("pipe",), 1, "aliases:4: '|/bin/cat' is a command"),
        (("many",), 0, "and 80 more addresses (--json shows all)"),
    ],
)
def test_the_way_of_an_address(routed: Place, words: tuple[str, ...], status: int, said: str) -> None:
    found, out, _ = routed.run("route", *words)
    assert found == status
    assert said in out


def test_nobody_serves_it_and_says_why(routed: Place) -> None:
    routed.path.write_text(
        routed.path.read_text().replace(
            "[isp : connector]\ntype = smarthost\naddress_spaces = *",
            "[isp : connector]\ntype = smarthost\naddress_spaces = x.y",
        )
    )
    status, out, _ = routed.run("route", "a@later.example")
    assert status == 1
    assert "[unfilled : connector] address_spaces = later.example would serve the domain, but has no hosts yet" in out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("a b",), "'a b@example.org' is no address"),
        (("a@",), "is no address"),
        (("staff", "--client", "10.1"), "10.1"),
        (("staff", "--sender", "x y@z"), "is no address"),
        (("a\x1b[2J@x",), "is no address"),
    ],
)
def test_what_is_no_address_is_told(routed: Place, words: tuple[str, ...], why: str) -> None:
    status, out, err = routed.run("route", *words)
    assert (status, out) == (2, "")
    assert why in err
    assert "\x1b" not in err


def test_programs_get_all_of_it(routed: Place) -> None:
    status, out, _ = routed.run("--json", "route", "many")
    legs = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [leg["Step"] for leg in legs[:2]] == ["rcpt", "alias"]
    assert len(legs) == 102
    assert (
        legs[-1].items()
        >= {
            "Address": "m99@far.example",
            "Step": "next hop",
            "Rule": f"{routed.path}:13 [isp : connector] address_spaces = *",
            "GoesTo": "smtp.isp.example:587",
            "FromAddress": "",
            "DeliveryType": "SmartHostConnectorDelivery",
            "NextHopDomain": "smtp.isp.example:587",
            "NextHopConnector": "isp",
        }.items()
    )


# --- kmq check --------------------------------------------------------------------------------------------------------


def test_check_tells_of_aliases_that_lead_nowhere(routed: Place) -> None:
    folder = routed.path.parent
    aliases = folder / "aliases"
    with aliases.open("a") as file:
        file.write(f"half: nobody, ada\nx@other.example: ada\ngone: :include:{folder}/none\nroot: ada\nroot: bob\n")
    aliases.chmod(0o666)
    (folder / "many").write_text("a@x.example\nno address\n")
    _, out, _ = routed.run("check")
    told = [line for line in out.splitlines() if str(folder) in line and line.startswith("note")]
    assert [line.replace(str(folder), "F")[7:] for line in told if "spool" not in line and "kmq.conf" not in line] == [
        "alias file F/aliases can be written by everybody",
        "F/aliases:4: '|/bin/cat' is a command, and mail goes to addresses alone: write an address that stands for it",
        "F/aliases:10: root stands in F/aliases:9 already; this line does not count",
        "F/many:2: 'no address' is no address (blanks, quotes and backslashes stand in quotes): write name,"
        " or name@example.org",
        "included file F/none: No such file or directory",
        "F/aliases:3: mail for dead goes back to its sender: No such user here: dead@example.org -> nobody@example.org",
        "F/aliases:7: x@other.example is in no local domain, so nobody asks for it",
        "F/aliases:8: mail for gone waits: F/none cannot be read: No such file or directory",
    ]
    assert f"chmod o-w {aliases}" in out


def test_check_tells_of_files_that_are_missing_or_broken(routed: Place) -> None:
    folder = routed.path.parent
    (folder / "aliases").write_text("this is none\n")
    routed.path.write_text(routed.path.read_text().replace("maildir =", "users = file:users\nmaildir =", 1))
    _, out, _ = routed.run("check")
    assert f"note   {folder}/aliases:1: 'this is none' has no colon" in out
    assert f"note   users {folder}/users: No such file or directory" in out
    os.unlink(folder / "aliases")
    (folder / "users").write_text("../evil\n")
    _, out, _ = routed.run("check")
    assert f"note   alias file {folder}/aliases: No such file or directory" in out
    assert f"note   users {folder}/users: line 1: '../evil' is no user" in out


def test_a_smart_host_that_is_we_ourselves_is_wrong(routed: Place) -> None:
    port = free_port()
    routed.configure(port=port, hosts=f"127.0.0.1:{port}")
    status, out, _ = routed.run("check")
    assert status == 78
    (told,) = (line for line in out.splitlines() if line.startswith("WRONG"))
    assert f"[isp : connector] 127.0.0.1:{port} is our own receiver [mx]" in told


# --- show and history -------------------------------------------------------------------------------------------------


def test_a_message_shows_what_became_of_an_alias(routed: Place) -> None:
    name = routed.bag.lay(
        Expanded(rcpt="0", child="69212ad0-0000a1f3", rule="/etc/aliases:1 staff"),
        Expanded(rcpt="1", child="", rule="/etc/aliases:2 all"),
        Failed(rcpt="2", attempt=1, reply="550 5.1.1 No such user here"),
        to=("staff@example.org", "all@example.org", "zoe@example.org", "bob@example.net"),
    )
    _, out, _ = routed.run("show", name)
    assert "staff@example.org  Expanded" in out
    assert "/etc/aliases:1 staff; goes on as 69212ad0-0000a1f3" in out
    _, out, _ = routed.run("history", name)
    assert "expanded   staff@example.org: /etc/aliases:1 staff; goes on as 69212ad0-0000a1f3" in out
    assert "expanded   all@example.org: /etc/aliases:2 all; all that it stands for were recipients already" in out
    _, out, _ = routed.run("mailq")
    assert "bob@example.net" in out
    assert "staff@example.org" not in out
