"""Whoever gets what is for nobody of a domain, by the connector; and who has a mailbox that is a file."""

from pathlib import Path

import pytest

from kmq.admin.itinerary import Kind, Mail, itinerary
from kmq.config import read
from kmq.routing.table import Routes
from tests.routing.serving import CONFIGURATION, fate
from tests.routing.serving import routes as made_routes


def routes(folder: Path, aliases: str | None = "", users: str = "ada, bob") -> Routes:
    return made_routes(folder, aliases, users=f"{users}\ncatch_all = ada")


def test_unknown_names_go_to_the_one_who_gets_them(tmp_path: Path) -> None:
    made = routes(tmp_path)
    for address in ("nobody@a.example", "Some.Body+x@b.example", '"../x"@a.example'):
        assert made.accepts(address) is None
        assert fate(made, address) == [f"ada@{address.rpartition('@')[2]}"]
    assert fate(made, "bob@a.example") == fate(made, "ada@a.example"), "who is somebody has his own mail"
    assert fate(made, "x@far.example") != ["ada@far.example"]


def test_those_who_are_always_there_are_nobody_s_rest(tmp_path: Path) -> None:
    for name in ("postmaster", "root", "abuse"):
        assert fate(routes(tmp_path), f"{name}@a.example") != ["ada@a.example"]


def test_an_alias_goes_before_and_so_does_that_of_the_domain(tmp_path: Path) -> None:
    made = routes(tmp_path, "info: bob\n@b.example: bob\n")
    assert fate(made, "info@a.example") == ["bob@a.example"]
    assert fate(made, "nobody@b.example") == ["bob@b.example"]
    assert fate(made, "nobody@a.example") == ["ada@a.example"]


def test_mail_that_an_unreadable_alias_may_be_about_waits(tmp_path: Path) -> None:
    made = routes(tmp_path, None)
    assert made.accepts("nobody@a.example") is None
    assert str(fate(made, "nobody@a.example")).startswith("451 4.3.0")


def test_with_existing_mailboxes_the_disk_is_asked_first(tmp_path: Path) -> None:
    (tmp_path / "mail/a.example/bob/new").mkdir(parents=True)
    (tmp_path / "mail/a.example/ada/new").mkdir(parents=True)
    made = routes(tmp_path, users="existing")
    assert fate(made, "nobody@a.example") == ["ada@a.example"]
    assert isinstance(fate(made, "bob@a.example"), str)


def test_one_who_is_nobody_himself_leads_to_nobody(tmp_path: Path) -> None:
    made = routes(tmp_path, users="bob")
    assert str(fate(made, "nobody@a.example")).startswith("550 5.4.6")


def test_the_way_names_the_line_that_decides(tmp_path: Path) -> None:
    text = CONFIGURATION.format(aliases="", users="ada\ncatch_all = ada", kmq="", more="")
    legs = list(itinerary(read(text, "kmq.conf", str(tmp_path), "mx"), "nobody@a.example", Mail()))
    assert [leg.kind for leg in legs] == [Kind.RCPT, Kind.ALIAS, Kind.HOP]
    line = text.split("\n").index("catch_all = ada") + 1
    assert legs[1].rule == f"kmq.conf:{line} [boxes : connector] catch_all: @a.example"
    assert legs[2].goes_to == f"{tmp_path}/mail/a.example/ada"


STORES = [
    ("mailbox\nmbox = /var/mail/{domain}/{user}", "/var/mail/here.test/alice"),
    ("lmtp\nsocket = /run/dovecot/lmtp", "/run/dovecot/lmtp"),
    ("lmtp\nhosts = store.test:24, [2001:db8::1]:2424", "store.test:24, [2001:db8::1]:2424"),
    ("pipe\ncommand = /usr/bin/procmail -d '{user} x'", "/usr/bin/procmail -d '{user} x'"),
]


@pytest.mark.parametrize(("store", "goes_to"), STORES)
def test_the_way_ends_where_the_connector_brings_it(store: str, goes_to: str) -> None:
    text = f"[kmq]\nlocal_domains = here.test\n[store : connector]\nusers = alice\ntype = {store}\n"
    settings = read(text, "kmq.conf", "/etc/kmq", "mx")
    (_, leg) = itinerary(settings, "alice+x@here.test", Mail())
    assert (leg.goes_to, leg.type) == (goes_to, store.partition("\n")[0])
    refused = [leg.kind for leg in itinerary(settings, "bob@here.test", Mail())]
    assert refused[-1] is Kind.REFUSED


def test_where_an_mbox_has_to_exist_the_file_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "alice").write_bytes(b"")
    text = f"[kmq]\nlocal_domains = here.test\n[store : connector]\ntype = mailbox\nmbox = {tmp_path}/{{user}}\n"
    made = Routes(read(text, "kmq.conf", "/etc/kmq", "mx"))
    assert made.accepts("alice@here.test") is None
    assert str(made.accepts("bob@here.test")).startswith("550 5.1.1")
