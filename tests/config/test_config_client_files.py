"""Files of connectors: what cannot be used is found beforehand, with its line and what would be right."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kmq.config import Settings, load
from kmq.config.certificates import require
from kmq.errors import ConfigError
from tests.certificates import Authority, Pair

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = spool
[isp : connector]
type = smarthost
address_spaces = *
hosts = smtp.isp.example:465
tls = implicit
tls_ca_file = ca.pem
tls_certificate = chain.pem
tls_key = key.pem
auth_user = me@isp.example
password_file = password
"""


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Pair, Pair]:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return authority, authority.issue("mx.example.org"), authority.issue("other.example.org")


@pytest.fixture
def settings(tmp_path: Path, issued: tuple[Authority, Pair, Pair]) -> Settings:
    """With files that are right, named relative to the configuration."""
    authority, mine, _ = issued
    path = tmp_path / "kmq.conf"
    path.write_text(CONFIGURATION)
    (tmp_path / "ca.pem").write_bytes(authority.certificate.read_bytes())
    (tmp_path / "chain.pem").write_bytes(mine.chain.read_bytes())
    (tmp_path / "key.pem").write_bytes(mine.key.read_bytes())
    (tmp_path / "password").write_text("secret\n")
    return load(str(path))


def told(settings: Settings) -> str:
    with pytest.raises(ConfigError) as wrong:
        require(settings)
    assert wrong.value.exit_status == 78
    return str(wrong.value)


def test_what_is_right_is_taken(settings: Settings) -> None:
    require(settings)


@pytest.mark.parametrize(
    ("name", "line", "option"),
    [("ca.pem", 9, "tls_ca_file"), ("chain.pem", 10, "tls_certificate"), ("key.pem", 11, "tls_key")],
)
def test_a_file_that_is_not_there(name: str, line: int, option: str, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / name).unlink()
    assert told(settings) == (
        f"{tmp_path}/kmq.conf:{line}: [isp : connector] {option} = {tmp_path}/{name} is not there:"
        " name the file, or leave the option out"
    )


def broken_key(folder: Path, other: Pair) -> None:
    (folder / "key.pem").write_bytes(other.key.read_bytes())


def broken_authority(folder: Path, _: Pair) -> None:
    (folder / "ca.pem").write_text("nothing\n")


def no_password(folder: Path, _: Pair) -> None:
    (folder / "password").write_text("\nsecret\n")


def garbled_password(folder: Path, _: Pair) -> None:
    (folder / "password").write_bytes(b"\xff\xfe\n")


def password_gone(folder: Path, _: Pair) -> None:
    (folder / "password").unlink()


@pytest.mark.parametrize(
    ("harm", "line", "words"),
    [
        (broken_key, 11, ["tls_key = ", "does not do with tls_certificate = ", "both in PEM"]),
        (broken_authority, 9, ["tls_ca_file = ", "has no certificates (", "a file in PEM is needed"]),
        (no_password, 13, ["password_file = ", "has an empty first line: write the password into its first line"]),
        (garbled_password, 13, ["is no text: write the password as UTF-8"]),
        (password_gone, 13, ["is not there: write the password into a file of this name"]),
    ],
)
def test_what_cannot_be_used(
    harm: Callable[[Path, Pair], None],
    line: int,
    words: list[str],
    settings: Settings,
    issued: tuple[Authority, Pair, Pair],
    tmp_path: Path,
) -> None:
    harm(tmp_path, issued[2])
    found = told(settings)
    assert found.startswith(f"{tmp_path}/kmq.conf:{line}: [isp : connector] ")
    assert all(word in found for word in words), found
    assert "secret" not in found
