"""Logging in: every mechanism, what is chosen, what a refusal tells, and where passwords and tokens come from."""

import asyncio
import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmq.phases.mechanisms import CramMd5, Login, Secret, XOAuth2, choose, trouble_of
from kmq.phases.token import _printed
from tests.certificates import Authority, Pair
from tests.fakes import EvilHop
from tests.phases.sending import LOOPS, kinds, outcome, section, smtp, until, work

ALL = "PLAIN LOGIN CRAM-MD5 XOAUTH2"
BOTH = Secret("me", "geheim", "ya29.token")


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return LOOPS[request.param]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("localhost")


class Desk:
    """A server with users, and connectors that log in there."""

    def __init__(self, authority: Authority, pair: Pair, folder: Path) -> None:
        self.authority, self.pair, self.folder = authority, pair, folder

    def hop(self, **options: Any) -> EvilHop:
        given: dict[str, Any] = {"tls": self.pair.server(), "users": {"me": "geheim"}, "mechanisms": ALL}
        return EvilHop(**(given | options))

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def options(self, **more: Any) -> dict[str, Any]:
        given = {"tls": "must", "tls_ca_file": str(self.authority.certificate), "address_families": "ipv4"}
        return given | {"auth_user": "me"} | more

    async def says(self, hop: EvilHop, **options: Any) -> str:
        """`D`, or why the server was not to be had."""
        phase = smtp(section(("localhost", hop.port), **self.options(**options)))
        found = await outcome(phase, work("a@b.test"))
        await phase.close(1)
        return str(found.unavailable) if found.unavailable is not None else kinds(found)


@pytest.fixture
def desk(authority: Authority, pair: Pair, tmp_path: Path) -> Desk:
    return Desk(authority, pair, tmp_path)


def asked(hop: EvilHop) -> list[str]:
    """The AUTH commands, without their arguments."""
    return [line.split(b" ")[1].decode() for line in hop.commands if line.startswith(b"AUTH")]


# --- the mechanisms ---------------------------------------------------------------------------------------------------


def test_cram_md5_answers_as_its_rfc_does() -> None:
    """RFC 2195 2: user tim, secret tanstaaftanstaaf."""
    said = CramMd5(Secret("tim", "tanstaaftanstaaf")).answer(b"<1896.697170952@postoffice.reston.mci.net>")
    assert said == b"tim b913a602c7eda7a495b4e6e7334d3890"


def test_xoauth2_speaks_as_its_document_does() -> None:
    """Google's example; a token that is refused is answered with nothing, so that the server says its last word."""
    mechanism = XOAuth2(Secret("someuser@example.com", token="ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"))
    assert mechanism.first is not None
    assert base64.b64encode(mechanism.first).startswith(
        b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRm"
    )
    mechanism.first = None
    assert mechanism.answer(b'{"status":"401","schemes":"bearer mac","scope":"https://mail.google.com/"}') == b""
    assert mechanism.told == "status 401, schemes bearer mac, scope https://mail.google.com/"


def test_what_is_no_json_is_told_as_it_is_and_bounded() -> None:
    assert trouble_of(b"no\x1b[2Jway") == "no\\x1b[2Jway"
    assert trouble_of(b"[1]") == "[1]"
    assert len(trouble_of(b'{"a":"' + b"x" * 5000 + b'"}')) < 1000


def test_a_server_that_asks_for_ever_hears_an_end() -> None:
    login = Login(BOTH)
    assert [login.answer(b"?") for _ in range(3)] == [b"me", b"geheim", None]


@pytest.mark.parametrize(
    ("wanted", "offered", "secret", "secured", "found"),
    [
        ("auto", ALL, BOTH, True, ["xoauth2", "cram-md5", "plain", "login"]),
        ("auto", ALL, Secret("me", "geheim"), True, ["cram-md5", "plain", "login"]),
        ("auto", ALL, Secret("me", token="t"), True, ["xoauth2"]),
        ("auto", "LOGIN NTLM", BOTH, True, ["login"]),
        ("auto", ALL, BOTH, False, ["cram-md5"]),
        ("auto", "PLAIN XOAUTH2", BOTH, False, []),
        ("plain", ALL, BOTH, False, []),
        ("plain", ALL, BOTH, True, ["plain"]),
        ("cram-md5", "PLAIN", BOTH, True, []),
        ("xoauth2", ALL, Secret("me", "geheim"), True, []),
    ],
)
def test_the_strongest_way_that_both_know_comes_first_and_nothing_shows_a_secret_in_clear(
    wanted: str, offered: str, secret: Secret, secured: bool, found: list[str]
) -> None:
    assert choose(wanted, offered.split(), secret, secured) == found


# --- over a connection ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["plain", "login", "cram-md5", "xoauth2"])
def test_every_way_leads_in(way: str, run: Callable[[Any], Any], desk: Desk) -> None:
    async def story() -> None:
        async with desk.hop() as hop:
            given = {"token_file" if way == "xoauth2" else "password_file": desk.file("secret", "geheim\n")}
            assert await desk.says(hop, auth=way, **given) == "D"
            assert asked(hop) == [way.upper()]
            shown = b"".join(hop.commands)
            assert (base64.b64encode(b"geheim") in shown) == (way == "login")

    run(story())


@pytest.mark.parametrize("way", ["plain", "xoauth2"])
def test_a_long_secret_waits_for_its_turn(way: str, desk: Desk) -> None:
    """RFC 4954 4: what would make AUTH longer than a command may be is said behind an empty challenge."""
    long = "t" * 700

    async def story() -> None:
        async with desk.hop(users={"me": long}) as hop:
            given = {"token_file" if way == "xoauth2" else "password_file": desk.file("secret", long)}
            assert await desk.says(hop, auth=way, **given) == "D"
            assert f"AUTH {way.upper()}".encode() in hop.commands

    asyncio.run(story())


def test_a_refusal_tells_the_way_and_what_the_server_said(desk: Desk) -> None:
    async def story() -> None:
        async with desk.hop() as hop:
            told = await desk.says(hop, auth="cram-md5", password_file=desk.file("p", "wrong"))
            assert told.startswith("451 4.4.0 localhost[127.0.0.1]:")
            assert told.endswith(" said: 535 5.7.8 who are you? (AUTH CRAM-MD5)")
            assert not hop.messages

    asyncio.run(story())


def test_a_refused_token_tells_what_its_json_says(desk: Desk) -> None:
    async def story() -> None:
        async with desk.hop() as hop:
            told = await desk.says(hop, auth="xoauth2", token_file=desk.file("t", "expired"))
            what = "status 400, schemes Bearer, scope https://mail.google.com/"
            assert told.endswith(f" said: 535 5.7.8 who are you? (AUTH XOAUTH2: {what})")
            assert hop.commands[-2:] == [b"", b"QUIT"] or hop.commands[-1] == b""

    asyncio.run(story())


def test_what_is_refused_for_good_is_tried_by_the_next_way(desk: Desk) -> None:
    """A server may offer CRAM-MD5 and keep digests of passwords that do not do for it."""

    async def story() -> None:
        password = desk.file("p", "geheim")
        async with desk.hop(auth={"CRAM-MD5": "535 5.7.8 no"}) as hop:
            assert await desk.says(hop, password_file=password) == "D"
            assert asked(hop) == ["CRAM-MD5", "PLAIN"]
        everything = {"CRAM-MD5": "504 5.5.4 no", "PLAIN": "504 5.5.4 nor so", "LOGIN": "534 5.7.9 too weak"}
        async with desk.hop(auth=everything) as hop:
            told = await desk.says(hop, password_file=password)
            assert (
                "said: 534 5.7.9 too weak (AUTH LOGIN; AUTH CRAM-MD5: 504 5.5.4 no; AUTH PLAIN: 504 5.5.4 nor so)"
                in told
            )

    asyncio.run(story())


def test_a_password_that_is_wrong_is_shown_once(desk: Desk) -> None:
    """Servers count failed logins, and slow down with each."""

    async def story() -> None:
        async with desk.hop() as hop:
            told = await desk.says(hop, password_file=desk.file("p", "wrong"))
            assert "(AUTH PLAIN; AUTH CRAM-MD5: 535" in told
            assert asked(hop) == ["CRAM-MD5", "PLAIN"]

    asyncio.run(story())


def test_a_server_that_has_no_time_is_not_asked_by_other_ways(desk: Desk) -> None:
    async def story() -> None:
        async with desk.hop(auth={"CRAM-MD5": "454 4.7.0 later"}) as hop:
            told = await desk.says(hop, password_file=desk.file("p", "geheim"))
            assert "said: 454 4.7.0 later (AUTH CRAM-MD5)" in told
            assert asked(hop) == ["CRAM-MD5"]

    asyncio.run(story())


@pytest.mark.parametrize("challenge", ["334 !!!", "334 " + base64.b64encode(b"again").decode()])
def test_a_challenge_without_sense_or_end_is_given_up(challenge: str, desk: Desk) -> None:
    async def story() -> None:
        async with desk.hop(auth={"LOGIN": challenge}) as hop:
            told = await desk.says(hop, auth="login", password_file=desk.file("p", "geheim"))
            assert told.startswith("451 4.4.0")
            assert not hop.messages

    asyncio.run(story())


def test_a_server_without_our_way_is_told_apart(desk: Desk) -> None:
    async def story() -> None:
        password = desk.file("p", "geheim")
        async with desk.hop(mechanisms="GSSAPI NTLM") as hop:
            told = await desk.says(hop, password_file=password)
            assert "451 4.7.4" in told
            assert "no way to log in" in told
            assert "GSSAPI, NTLM" in told
            assert asked(hop) == []

    asyncio.run(story())


def test_no_password_goes_in_clear_and_a_digest_may(desk: Desk) -> None:
    """`auth = cram-md5` is the one that the configuration lets go without TLS."""

    async def story() -> None:
        password = desk.file("p", "geheim")
        async with desk.hop(tls=None) as hop:
            told = await desk.says(hop, tls="never", auth="plain", password_file=password)
            assert "no password goes over a connection without TLS" in told
            assert asked(hop) == []
            assert await desk.says(hop, tls="never", auth="cram-md5", password_file=password) == "D"
            assert await desk.says(hop, tls="never", password_file=password) == "D"
            assert asked(hop) == ["CRAM-MD5"] * 2

    asyncio.run(story())


def test_each_of_several_hosts_is_tried(desk: Desk) -> None:
    async def story() -> None:
        async with desk.hop(users={"me": "other"}) as first, desk.hop() as second:
            hosts = [("localhost", first.port), ("localhost", second.port)]
            phase = smtp(section(*hosts, **desk.options(password_file=desk.file("p", "geheim"))))
            assert kinds(await outcome(phase, work("a@b.test"))) == "D"
            assert asked(first)
            assert not first.messages
            assert len(second.messages) == 1
            await phase.close(1)

    asyncio.run(story())


# --- where the token comes from ---------------------------------------------------------------------------------------


def script(text: str) -> tuple[str, ...]:
    return "/bin/sh", "-c", text


def test_a_token_is_read_anew_for_each_connection(desk: Desk) -> None:
    async def story() -> None:
        async with desk.hop() as hop:
            token = desk.file("t", "old\n")
            assert "535" in await desk.says(hop, auth="xoauth2", token_file=token)
            desk.file("t", "geheim\n")
            assert await desk.says(hop, auth="xoauth2", token_file=token) == "D"

    asyncio.run(story())


def test_a_program_prints_the_token(run: Callable[[Any], Any], desk: Desk) -> None:
    async def story() -> None:
        async with desk.hop() as hop:
            command = script("echo geheim; echo and more")
            assert await desk.says(hop, auth="xoauth2", token_command=command) == "D"

    run(story())


def test_one_run_does_for_connections_that_are_opened_together(desk: Desk) -> None:
    runs = desk.folder / "runs"

    async def story() -> None:
        async with desk.hop() as hop:
            text = f"printf x >> {runs}; sleep 0.5; echo geheim"
            options = desk.options(auth="xoauth2", token_command=script(text))
            phase = smtp(section(("localhost", hop.port), **options))
            found = await asyncio.gather(*(outcome(phase, work("a@b.test")) for _ in range(5)))
            assert [kinds(one) for one in found] == ["D"] * 5
            assert hop.connections > 1
            await phase.close(1)

    asyncio.run(story())
    assert runs.read_text() == "x"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo no network here >&2; exit 1", "it ended with status 1: no network here"),
        ("echo", "its first line is no token"),
        ("echo two words", "its first line is no token"),
        ("head -c 100000 /dev/zero", "it says more than any token is long"),
        ("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "it says more than any token is long"),
    ],
)
def test_a_program_without_token_lets_mail_wait(text: str, told: str, desk: Desk) -> None:
    async def story() -> None:
        async with desk.hop() as hop:
            found = await desk.says(hop, auth="xoauth2", token_command=script(text))
            assert found.startswith("451 4.3.5 ")
            assert found.endswith(told)
            assert asked(hop) == []

    asyncio.run(story())


def test_a_program_that_does_not_end_is_not_waited_for(run: Callable[[Any], Any], desk: Desk) -> None:
    async def story() -> None:
        async with desk.hop() as hop:
            command = ("/bin/sleep", "600")
            found = await desk.says(hop, auth="xoauth2", token_command=command, token_timeout=0.3)
            assert found.endswith("token_command /bin/sleep 600: it was not done within 0.3 s")

    run(story())


def test_a_program_is_ended_with_what_it_began(run: Callable[[Any], Any], desk: Desk) -> None:
    """Its child holds the pipe; both are gone when nobody waits for the token any more."""
    pids = desk.folder / "pids"
    text = f"sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"

    async def story() -> None:
        asked = asyncio.create_task(_printed(script(text), 300.0))
        await until(pids.exists, "the program has begun", 60)
        asked.cancel()
        await asyncio.wait((asked,))
        assert asked.cancelled()

    run(story())
    for pid in map(int, pids.read_text().split()):
        assert _is_gone(pid)


def _is_gone(pid: int) -> bool:
    """No such process any more, or one that only waits to be reaped."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_a_program_that_is_not_there_is_told(desk: Desk) -> None:
    async def story() -> None:
        async with desk.hop() as hop:
            found = await desk.says(hop, auth="xoauth2", token_command=("/nowhere/token",))
            assert found.endswith("token_command /nowhere/token: No such file or directory")

    asyncio.run(story())
