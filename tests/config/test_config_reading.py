"""From a file to settings: defaults, inheritance, values for one machine, references, and which file is read."""

import dataclasses
import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest

from kmq.config import EMBEDDED, ConnectorSection, ReceiverSection, Settings, embedded, load, load_or_embedded, read
from kmq.errors import ConfigError


def settings(text: str, machine: str = "mx1.example.org") -> Settings:
    return read(text, "kmq.conf", "/etc/kmq", machine)


def receiver(found: Settings, name: str) -> ReceiverSection:
    return next(one for one in found.receivers if one.name == name)


def connector(found: Settings, name: str) -> ConnectorSection:
    return next(one for one in found.connectors if one.name == name)


WHOLE = """
[kmq]
hostname = MX.example.org
spool = spool
local_domains = Example.org, bücher.example
receivers = 2
postmaster = ada

[queue]
retry_interval = 10m
retry_jitter = 0.25

[receiver]                      ; defaults of every receiver
relay_from = 127.0.0.0/8, ::1
size_limit = 25M

[mx : receiver]
listen = 0.0.0.0:25, [::]:25

[submission : mx]
listen = 0.0.0.0:587
size_limit = 50M
tls_certificate = tls/chain.pem
tls_key = /etc/ssl/key.pem

[mailboxes : connector]
type = mailbox
maildir = ${kmq:spool}/mail/{user}
users = existing

[isp : connector]
type = smarthost
hosts = smtp.isp.example:587, [2001:db8::1]
address_spaces = partner.example, *.partner.example
cost = 10
"""


def test_values_come_typed_in_seconds_bytes_and_addresses() -> None:
    found = settings(WHOLE)
    assert found.kmq.hostname == "mx.example.org"
    assert found.kmq.spool == Path("/etc/kmq/spool")
    assert found.kmq.run_directory == Path("/etc/kmq/spool/run")
    assert found.kmq.local_domains == ("example.org", "xn--bcher-kva.example")
    assert (found.kmq.receivers, found.kmq.workers) == (2, 2)
    assert found.kmq.postmaster == "ada@example.org"
    assert (found.queue.retry_interval, found.queue.retry_jitter) == (600.0, 0.25)
    assert [one.name for one in found.receivers] == ["mx", "submission"]
    assert receiver(found, "mx").listen == (("0.0.0.0", 25), ("::", 25))
    assert receiver(found, "mx").relay_from == (ip_network("127.0.0.0/8"), ip_network("::1"))
    isp = connector(found, "isp")
    assert isp.hosts == (("smtp.isp.example", 587), ("2001:db8::1", 25))
    assert isp.address_spaces == ("partner.example", "*.partner.example")
    assert (isp.cost, isp.helo, isp.tls) == (10, "mx.example.org", "may")
    assert connector(found, "mailboxes").maildir == "/etc/kmq/spool/mail/{user}"


def test_a_section_takes_from_its_parents_what_it_does_not_say() -> None:
    found = settings(WHOLE)
    assert receiver(found, "mx").size_limit == 25 << 20
    submission = receiver(found, "submission")
    assert submission.size_limit == 50 << 20
    assert submission.relay_from == receiver(found, "mx").relay_from
    assert submission.tls_certificate == "/etc/kmq/tls/chain.pem"
    assert submission.tls_key == "/etc/ssl/key.pem"


def test_the_defaults_are_those_of_the_manual() -> None:
    found = settings("")
    queue = found.queue
    assert queue.durability == "journal"
    assert (queue.queue_database_batch_size, queue.queue_database_batch_timeout) == (40, 0.003)
    assert (queue.queue_database_logging_file_size, queue.checkpoint_size) == (8 << 20, 32 << 20)
    assert (queue.checkpoint_interval, queue.effects_delay, queue.phase_limit) == (10.0, 0.05, 300.0)
    assert (queue.retry_interval, queue.retry_interval_max, queue.connection_retry_interval) == (300.0, 3600.0, 60.0)
    assert (queue.retry_profile, queue.retry_jitter) == ("rfc", 0.1)
    assert (queue.message_lifetime, queue.delay_warning, queue.mass_expiry) == (None, None, 20)
    assert (queue.bounce_size_limit, queue.undeliverable_notices) == (50 << 10, "postmaster")
    assert (queue.per_hop, queue.worker_slots, queue.poison_threshold) == (20, 200, 2)
    assert (queue.minimum_free, queue.minimum_free_inodes, queue.small_body) == (500 << 20, 1000, 64 << 10)
    assert found.kmq.spool == Path("/var/spool/kmq")
    assert found.kmq.run_directory == Path("/var/spool/kmq/run")
    assert found.kmq.hostname == "mx1.example.org"
    assert found.kmq.postmaster == "postmaster@mx1.example.org"
    assert (found.receivers, found.connectors) == ((), ())


def test_a_child_may_stand_before_its_parent() -> None:
    found = settings("[a : b]\nlisten = 127.0.0.1:25\n[b : receiver]\nsessions = 7\nsessions_per_client = 2\n")
    assert [(one.name, one.sessions) for one in found.receivers] == [("a", 7)]


def test_a_section_from_which_others_inherit_may_be_a_pattern() -> None:
    text = """
[strict : connector]
type = smarthost
tls = must
[a : strict]
hosts = a.example
address_spaces = a.example
[b : strict]
hosts = b.example
address_spaces = b.example
"""
    found = settings(text)
    assert [(one.name, one.tls) for one in found.connectors] == [("a", "must"), ("b", "must")]


def test_a_complete_section_is_active_though_others_inherit_from_it() -> None:
    found = settings("[a : receiver]\nlisten = 127.0.0.1:25\n[b : a]\nlisten = 127.0.0.1:587\n")
    assert [one.name for one in found.receivers] == ["a", "b"]


BY_HOST = """
[receiver]
sessions = 100
sessions[mx1] = 200
sessions_per_client = 1

[mx : receiver]
listen = 0.0.0.0:25
listen[mx1] = 10.0.0.1:25
listen[MX2.example.org] = 10.0.0.2:25
listen[mx2] = 10.0.0.3:25

[near : mx]
listen = 127.0.0.1:2525
sessions = 50
"""


@pytest.mark.parametrize(
    ("machine", "listen"),
    [
        ("mx1.example.org", "10.0.0.1"),
        ("mx1", "10.0.0.1"),
        ("mx2.example.org", "10.0.0.2"),  # the full name wins over the short one
        ("MX2.Example.Org", "10.0.0.2"),
        ("mx2.example.net", "10.0.0.3"),
        ("mx3", "0.0.0.0"),
    ],
)
def test_a_value_for_this_machine_wins_over_the_plain_one(machine: str, listen: str) -> None:
    assert receiver(settings(BY_HOST, machine), "mx").listen[0][0] == listen


def test_a_nearer_section_wins_over_a_value_for_this_machine_in_its_parent() -> None:
    found = settings(BY_HOST, "mx1")
    assert receiver(found, "near").listen == (("127.0.0.1", 2525),)
    assert (receiver(found, "mx").sessions, receiver(found, "near").sessions) == (200, 50)


def test_a_machine_with_a_short_name_knows_its_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda name: f"{name}.example.org")
    assert receiver(settings(BY_HOST, "mx2"), "mx").listen == (("10.0.0.2", 25),)


def test_references_see_what_the_inheriting_section_sees() -> None:
    text = """
[kmq]
spool = /srv/${machine:name}
[base : connector]
type = mailbox
maildir = ${kmq:spool}/${cost}/{user}
[a : base]
cost = 3
"""
    found = settings(text)
    assert connector(found, "a").maildir == "/srv/mx1.example.org/3/{user}"
    assert connector(found, "base").maildir == "/srv/mx1.example.org/1/{user}"


def test_a_reference_reaches_defaults_and_kinds() -> None:
    text = "[receiver]\nsize_limit = 7M\n[mx : receiver]\nlisten = 127.0.0.1:25\n[queue]\nper_hop = ${worker_slots}\n"
    found = settings(text + "minimum_free = ${receiver:size_limit}\n")
    assert (found.queue.per_hop, found.queue.minimum_free) == (200, 7 << 20)


def test_a_dollar_sign_is_written_twice() -> None:
    found = settings("[kmq]\nspool = /srv/$$HOME\n")
    assert found.kmq.spool == Path("/srv/$HOME")
    assert found.kmq.run_directory == Path("/srv/$HOME/run")


def test_every_value_knows_where_it_comes_from() -> None:
    found = settings(WHOLE)
    line = WHOLE.splitlines().index("size_limit = 25M") + 1
    assert found.origin("mx", "size_limit") == (f"kmq.conf:{line}", "mx : receiver", "25M")
    assert found.origin("submission", "relay_from").heading == "submission : mx"
    assert found.origin("queue", "per_hop") == ("default", "queue", "20")
    assert found.origin("isp", "").place == f"kmq.conf:{WHOLE.splitlines().index('[isp : connector]') + 1}"


def test_settings_are_frozen() -> None:
    found = settings(WHOLE)
    for section in (found, found.kmq, found.queue, found.receivers[0], found.connectors[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, dataclasses.fields(section)[0].name, "other")


# --- which file ------------------------------------------------------------------------------------------------------


def test_the_file_named_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.conf").write_text("[kmq]\nhostname = a.example\n")
    (tmp_path / "b.conf").write_text("[kmq]\nhostname = b.example\n")
    monkeypatch.setenv("KMQ_CONF", str(tmp_path / "b.conf"))
    assert load(str(tmp_path / "a.conf")).kmq.hostname == "a.example"
    assert load().kmq.hostname == "b.example"
    monkeypatch.setenv("KMQ_CONF", "")
    monkeypatch.setattr("kmq.config.reading.SYSTEM_PATH", str(tmp_path / "etc.conf"))
    with pytest.raises(ConfigError, match=r"etc\.conf: .* -c FILE or in \$KMQ_CONF"):
        load()


def test_a_relative_spool_counts_from_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "kmq.conf").write_text("[kmq]\nspool = ../spool\n")
    monkeypatch.chdir(tmp_path)
    found = load("etc/kmq.conf")
    assert found.path == "etc/kmq.conf"
    assert found.kmq.spool == tmp_path / "etc" / ".." / "spool"


@pytest.mark.parametrize("content", [b"[kmq]\nhostname = \xff\n", None])
def test_what_is_no_text_file_is_told(tmp_path: Path, content: bytes | None) -> None:
    name = tmp_path / "kmq.conf"
    if content is None:
        name.mkdir()
    else:
        name.write_bytes(content)
    with pytest.raises(ConfigError, match=r"kmq\.conf:(2: byte 0xff is not UTF-8| cannot be read)"):
        load(str(name))


def test_the_embedded_configuration_serves_this_machine_alone(tmp_path: Path) -> None:
    found = embedded(str(tmp_path))
    assert found.kmq.spool == tmp_path / "spool"
    assert receiver(found, "smtp").listen == (("127.0.0.1", 2525),)
    mailboxes = connector(found, "mailboxes")
    assert mailboxes.maildir == str(tmp_path / "spool/mail/{user}")
    assert mailboxes.users == ("alice", "bob", "postmaster", "root")
    assert connector(found, "smarthost").hosts == ()
    assert "hosts = smtp.example.org:587" in EMBEDDED
    (warning,) = found.warnings
    assert "waits in the Unreachable queue" in warning


def test_its_path_may_be_handed_on_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = embedded()
    assert load(found.path) == found
    assert found.kmq.spool == tmp_path / "spool"


def test_the_spool_of_a_trial_is_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KMQ_CONF", raising=False)
    monkeypatch.setattr("kmq.config.reading.SYSTEM_PATH", str(tmp_path / "etc.conf"))
    with pytest.raises(ConfigError):
        load_or_embedded()
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "FORMAT").write_text("1\n")
    assert load_or_embedded() == embedded()
    (tmp_path / "my.conf").write_text("[kmq]\nhostname = mine.example\n")
    assert load_or_embedded("my.conf").kmq.hostname == "mine.example"
    monkeypatch.setenv("KMQ_CONF", "my.conf")
    assert load_or_embedded().kmq.hostname == "mine.example"
    monkeypatch.delenv("KMQ_CONF")
    (tmp_path / "etc.conf").write_text("[kmq]\nhostname = installed.example\n")
    assert load_or_embedded().kmq.hostname == "installed.example"


def test_a_start_brings_in_nothing_that_is_slow(python: str, tree: Path) -> None:
    """`sendmail` and `mailq` are started thousands of times a day, and each reads the configuration."""
    slow = "'asyncio', 'socket', 'difflib', 'email', 'logging', 'msgspec', 'uvloop'"
    program = f"import sys, kmq.config; kmq.config.load('etc/kmq.conf'); print(sorted({{{slow}}} & set(sys.modules)))"
    started = subprocess.run([python, "-c", program], cwd=tree, capture_output=True, text=True)
    assert started.stdout == "[]\n", started.stderr


def test_drop_directories_are_in_the_spool_or_elsewhere_or_nowhere() -> None:
    usual = read("[kmq]\nspool = /s\n", "kmq.conf", "/etc/kmq")
    assert (usual.pickup.directory, usual.replay.directory) == ("/s/pickup", "/s/replay")
    own = read("[kmq]\nspool = /s\n[pickup]\ndirectory = out\n[replay]\ndirectory =\n", "kmq.conf", "/etc/kmq")
    assert (own.pickup.directory, own.replay.directory) == ("/etc/kmq/out", "")
