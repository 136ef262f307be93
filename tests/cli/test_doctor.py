"""`kmq doctor`: what is wrong around a mail server is found, and said with its remedy."""

import errno
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kmq.admin import doctor, doctor_disk, doctor_machine, doctor_names, doctor_reach
from kmq.admin.doctor_names import Answers, Said
from kmq.admin.verdict import Grade, Verdict
from kmq.config import load
from kmq.spool.disk import Disk
from kmq.spool.layout import FOLDERS, prepare
from tests.certificates import Authority
from tests.cli.conftest import Place
from tests.fake_dns import FakeDNS
from tests.fakes import EvilHop
from tests.waiting import free_port

OURS = "198.51.100.7"


@pytest.fixture
def dns() -> Iterator[FakeDNS]:
    with FakeDNS(
        zone={"mx.example.org": ["A 198.51.100.7"], "example.org": ["MX 10 mx.example.org."]}
    ).threaded() as one:
        yield one


@pytest.fixture
def site(place: Place, dns: FakeDNS) -> Iterator[Place]:
    """A spool as kmqd makes it, a resolver of our own, and a smart host that answers."""
    prepare(Disk(place.spool))
    for name, mode in FOLDERS.items():
        os.chmod(place.spool / name, mode)
    with EvilHop().threaded() as hop:
        place.configure(port=free_port(), hosts=f"127.0.0.1:{hop.port}")
        text = place.path.read_text()
        place.path.write_text(text.replace("[kmq]\n", f"[kmq]\ndns_servers = 127.0.0.1:{dns.port}\n"))
        yield place


def said(verdicts: Iterator[Verdict]) -> str:
    return "\n".join(f"{one.grade.name} {one.what} | {one.remedy}" for one in verdicts)


def test_a_machine_is_looked_at_as_a_whole(site: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_names, "addresses", lambda: ["198.51.100.7"])
    status, out, err = site.run("doctor")
    assert err == ""
    for text in (
        "ok       configuration ",
        "ok       a sync of the spool's disk takes ",
        "ok       permissions of folders and sockets",
        "ok       resolver 127.0.0.1:",
        "ok       hostname mx.example.org leads to 198.51.100.7",
        "ok       example.org has its mail brought to mx.example.org",
        "says 220 evil.test ESMTP",
        "aiosmtpd ",
    ):
        assert text in out, out
    assert out.splitlines()[-1].startswith("0 errors, "), out
    assert status == 0


def test_errors_make_the_exit_status_1_and_programs_read_objects(site: Place) -> None:
    os.chmod(site.spool / "queue", 0o755)
    status, out, _ = site.run("--json", "doctor")
    lines = [json.loads(line) for line in out.splitlines()]
    (wrong,) = [line for line in lines if line["Status"] == "error"]
    assert status == 1
    assert wrong["Found"].endswith("queue has mode 0755: more than 0700") and wrong["Remedy"].startswith("chmod 0700 ")


def test_a_part_that_fails_does_not_hide_the_others(site: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> Iterator[Verdict]:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(doctor_machine, "examine", broken)
    found = said(doctor.examine(load(str(site.path))))
    assert "NOTE a part of the examination failed: RuntimeError: no such luck" in found
    assert "GOOD a sync of" in found and "says 220" in found


# --- disk -------------------------------------------------------------------------------------------------------------

MOUNTS = """\
22 1 {root} / / rw,relatime - ext4 /dev/a rw
31 22 {here} / {spool} rw,noatime shared:1 - {kind} /dev/b rw,{options}
32 22 {here} /other /else rw - {kind} /dev/b rw
"""


def mounts(path: Path, kind: str = "ext4", options: str = "errors=remount-ro") -> str:
    device = os.stat(path).st_dev
    here = f"{os.major(device)}:{os.minor(device)}"
    return MOUNTS.format(root="0:999", here=here, spool=path, kind=kind, options=options)


def test_the_mount_of_the_spool_is_found(tmp_path: Path) -> None:
    found = doctor_disk.mount_of(tmp_path / ".", mounts(tmp_path))
    assert found is not None
    assert (found.point, found.kind) == (str(tmp_path), "ext4")
    assert "noatime" in found.options and "errors=remount-ro" in found.options
    assert doctor_disk.mount_of(tmp_path, "") is None


@pytest.mark.parametrize(("option", "grade"), [("barrier=0", "WRONG"), ("nobarrier", "WRONG"), ("discard", "GOOD")])
def test_a_mount_that_promises_less(option: str, grade: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = mounts(tmp_path, options=option)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert said(doctor_disk._mount(tmp_path)).startswith(grade)


def test_a_sync_leaves_nothing(tmp_path: Path) -> None:
    assert doctor_disk.sync_time(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_disk, "sync_time", lambda _: 0.25)
    assert said(doctor_disk._sync(tmp_path)).startswith("NOTE a sync of the spool's disk takes 250.0 ms")

    def refused(_: Path) -> float:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(doctor_disk, "sync_time", refused)
    assert "cannot be seen: Permission denied" in said(doctor_disk._sync(tmp_path))


def test_a_socket_that_too_many_may_use(site: Place) -> None:
    path = site.spool / "run" / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))
        os.chmod(path, 0o777)
        assert stat.S_IMODE(path.stat().st_mode) == 0o777
        assert "control.sock has mode 0777: more than 0600" in said(doctor_disk.permissions(load(str(site.path))))


# --- machine ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "says"),
    [(0, "GOOD the clock is kept right"), (5, "NOTE nothing keeps the clock right"), (None, "does not say")],
)
def test_the_clock(state: int | None, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine, "_adjtimex", lambda: state)
    assert says in said(iter([doctor_machine.clock()]))


def test_too_few_open_files(site: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(str(site.path))
    monkeypatch.setattr(doctor_machine, "_file_limit", lambda _: (1024, "for programs of this user"))
    assert said(doctor_machine.files(settings)).startswith("NOTE 1,024 open files for programs of this user; ")
    monkeypatch.setattr(doctor_machine, "_file_limit", lambda _: (65536, "for programs of this user"))
    assert said(doctor_machine.files(settings)).startswith("GOOD ")


def test_what_is_set_aside_is_told(site: Place) -> None:
    for name in ("69212ad0-00000001.env", "69212ad0-00000001.eml", "69212ad0-00000002.reason", "README.md"):
        (site.spool / "poison" / name).touch()
    assert "NOTE 2 set aside in poison/" in said(doctor_machine.kmqd(load(str(site.path))))


# --- names ------------------------------------------------------------------------------------------------------------

HOST = "mx.example.org"
NOTHING: Answers = {(HOST, "A"): Said(()), (HOST, "AAAA"): Said(())}


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({(HOST, "A"): Said((OURS,))}, f"GOOD hostname {HOST} leads to {OURS}"),
        (
            {(HOST, "A"): Said(("203.0.113.9",))},
            "NOTE hostname mx.example.org leads to 203.0.113.9, and we go out from",
        ),
        ({(HOST, "A"): Said((), "SERVFAIL")}, "NOTE hostname mx.example.org: the DNS does not answer: SERVFAIL"),
        ({}, "NOTE hostname mx.example.org is not in the DNS"),
    ],
)
def test_our_name(answers: Answers, says: str) -> None:
    assert said(doctor_names.of_host(HOST, [OURS], NOTHING | answers)).startswith(says)


@pytest.mark.parametrize(
    ("address", "answers", "says"),
    [
        (
            "8.8.8.8",
            {("8.8.8.8.in-addr.arpa", "PTR"): Said((HOST,)), (HOST, "A"): Said(("8.8.8.8",))},
            "GOOD 8.8.8.8 is",
        ),
        (
            "8.8.8.8",
            {("8.8.8.8.in-addr.arpa", "PTR"): Said((HOST,))},
            "NOTE 8.8.8.8 is called mx.example.org, which does",
        ),
        ("8.8.8.8", {("8.8.8.8.in-addr.arpa", "PTR"): Said(())}, "NOTE 8.8.8.8 has no name (PTR)"),
        ("8.8.8.8", {("8.8.8.8.in-addr.arpa", "PTR"): Said((), "timed out")}, "NOTE 8.8.8.8: the DNS does not say"),
        ("10.0.0.1", {}, "GOOD we go out from 10.0.0.1, a private address"),
    ],
)
def test_the_name_of_our_address(address: str, answers: Answers, says: str) -> None:
    assert said(iter([doctor_names.of_address(address, HOST, NOTHING | answers)])).startswith(says)


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({("example.org", "MX"): Said((HOST,))}, "GOOD example.org has its mail brought to mx.example.org"),
        ({("example.org", "MX"): Said(("a.net",)), ("a.net", "A"): Said((OURS,))}, "GOOD example.org"),
        (
            {("example.org", "MX"): Said(("a.net",))},
            "NOTE example.org has its mail brought to a.net, which is not this",
        ),
        ({("example.org", "MX"): Said(())}, "NOTE example.org has no mail servers (MX)"),
        (
            {("example.org", "MX"): Said((), "REFUSED")},
            "NOTE example.org: the DNS does not say its mail servers: REFUSED",
        ),
    ],
)
def test_the_mail_servers_of_a_local_domain(answers: Answers, says: str) -> None:
    assert said(iter([doctor_names.of_domain("example.org", HOST, [OURS], NOTHING | answers)])).startswith(says)


def test_a_resolver_that_does_not_answer(site: Place, dns: FakeDNS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_names, "PATIENCE", 0.3)
    dns.faults["*"] = "timeout"
    began = time.monotonic()
    found = said(doctor_names.examine(load(str(site.path))))
    assert "NOTE resolver 127.0.0.1:" in found and "does not answer" in found
    assert "the DNS does not answer" in found
    assert time.monotonic() - began < 20


# --- servers ----------------------------------------------------------------------------------------------------------


@contextmanager
def server(word: bytes, times: int = 1) -> Iterator[int]:
    """Says this to whoever connects, and nothing more until they go; so many times, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(times):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(word)
                    if word:
                        connection.recv(100)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (b"220 mx ESMTP\r\n", "GOOD server 127.0.0.1:{port} says 220 mx ESMTP"),
        (b"554 5.7.1 you are on a list\r\n", "NOTE server 127.0.0.1:{port} says 554 5.7.1 you are on a list"),
        (b"", "WRONG server 127.0.0.1:{port} cannot be reached: it closes the connection without a word"),
        (b"x" * 10_000, "WRONG server 127.0.0.1:{port} cannot be reached: it says an endless line"),
    ],
)
def test_a_smart_host(word: bytes, says: str, place: Place) -> None:
    with server(word) as port:
        place.configure(hosts=f"127.0.0.1:{port}")
        found = said(doctor_reach.servers(load(str(place.path)), ""))
    assert found.startswith(says.format(port=port))


def test_a_server_of_two_connectors_is_asked_as_each_of_them_does(place: Place) -> None:
    """One of them begins with TLS, which this server does not speak."""
    with server(b"220 mx ESMTP\r\n", times=2) as port:
        other = f"\n[other : connector]\ntype = smarthost\naddress_spaces = other.test\nhosts = 127.0.0.1:{port}\n"
        place.configure(hosts=f"127.0.0.1:{port}")
        with place.path.open("a") as configuration:
            configuration.write(other + "tls = implicit\n")
        found = said(doctor_reach.servers(load(str(place.path)), ""))
    assert f"GOOD server 127.0.0.1:{port} says 220 mx ESMTP" in found
    assert f"WRONG server 127.0.0.1:{port} does not begin with TLS: wrong version number" in found


def test_a_server_that_cannot_be_reached_or_says_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_reach, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port, closed = silent.getsockname()[1], free_port()
        place.configure(hosts=f"127.0.0.1:{port}, 127.0.0.1:{closed}")
        found = said(doctor_reach.servers(load(str(place.path)), ""))
    assert f"WRONG server 127.0.0.1:{port} cannot be reached: no greeting within 0.2 s" in found
    assert f"WRONG server 127.0.0.1:{closed} cannot be reached: " in found


def test_the_servers_of_a_domain_elsewhere(site: Place, dns: FakeDNS) -> None:
    dns.zone |= {"far.test": ["MX 10 mx.far.test."], "mx.far.test": ["A 127.0.0.1"]}
    found = said(doctor_reach.servers(load(str(site.path)), "far.test"))
    assert "server mx.far.test:25" in found or "server mx.far.test" in found
    dns.faults["gone.test"] = "servfail"
    assert "WRONG the mail servers of gone.test cannot be found: SERVFAIL" in said(
        doctor_reach.servers(load(str(site.path)), "gone.test")
    )


# --- certificates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "grade", "says"),
    [(0, "WRONG", "ended on"), (2, "NOTE", "ends on"), (100, "GOOD", "is good until"), (-1, "WRONG", "begins on")],
)
def test_how_long_a_certificate_is_good(days: int, grade: str, says: str) -> None:
    now = 1_800_000_000.0
    begin = now - 86400 if days >= 0 else now + 86400
    verdict = doctor_reach._good_until("chain.pem", begin, now + days * 86400 if days >= 0 else now + 9e6, now)
    assert verdict.grade.name == grade and says in verdict.what


def test_the_end_of_a_real_certificate_is_read(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("mx.example.org")
    begin, end = doctor_reach.validity(Path(pair.chain).read_text())
    assert begin <= time.time() < end
    assert abs(end - begin - 2 * 86400) < 7200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nMIL/////\n-----END CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----",
    ],
)
def test_what_is_no_certificate(text: str) -> None:
    with pytest.raises(ValueError, match="it"):
        doctor_reach.validity(text)


def test_grades_have_the_words_of_the_manual() -> None:
    from kmq.cli.doctor import WORDS

    assert list(WORDS.values()) == ["ok", "warning", "error"] and set(WORDS) == set(Grade)


# --- what kmqd does not do by itself any more -------------------------------------------------------------------------


def test_back_pressure_grace_holds_and_a_stopped_expiry_are_told() -> None:
    assert said(doctor_machine.held_back({})) == ""
    assert said(doctor_machine.held_back({"back_pressure": 1})).startswith("NOTE back pressure is medium")
    text = said(doctor_machine.held_back({"back_pressure": 2, "grace_holds": 3, "expiry_stopped": 1}))
    assert "WRONG back pressure is high" in text and "kmq pressure" in text
    assert "WRONG 3 queues are held (grace hold): their" in text and "kmq resume --queue" in text
    assert "WRONG expiry is stopped" in text and "kmq expire" in text
