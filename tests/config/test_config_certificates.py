"""Certificates of receivers: what cannot be used is found beforehand, with its line and what would be right."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from kmq.config import Settings, load
from kmq.config.certificates import context_of, require
from kmq.errors import ConfigError

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = spool
[receiver]
tls_certificate = chain.pem
[mx : receiver]
listen = 127.0.0.1:25
tls_key = key.pem
[submission : mx]
listen = 127.0.0.1:587
"""


class Pair(NamedTuple):
    """A certificate and its key."""

    chain: bytes
    key: bytes


def pair(folder: Path, *options: str) -> Pair:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=a"]
    subprocess.run(
        [*command, *(options or ["-nodes"]), "-out", folder / "c", "-keyout", folder / "k"],
        check=True,
        capture_output=True,
    )
    return Pair((folder / "c").read_bytes(), (folder / "k").read_bytes())


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair, Pair]:
    """One, another, and one whose key is protected."""
    folder = tmp_path_factory.mktemp("tls")
    return pair(folder), pair(folder), pair(folder, "-passout", "pass:secret")


@pytest.fixture
def settings(tmp_path: Path, pairs: tuple[Pair, Pair, Pair]) -> Settings:
    """With files that are right, named relative to the configuration."""
    path = tmp_path / "kmq.conf"
    path.write_text(CONFIGURATION)
    (tmp_path / "chain.pem").write_bytes(pairs[0].chain)
    (tmp_path / "key.pem").write_bytes(pairs[0].key)
    return load(str(path))


def test_a_chain_and_its_key_are_fine(settings: Settings) -> None:
    require(settings)
    assert all(context_of(section) is not None for section in settings.receivers)


Broken = Callable[[Path, tuple[Pair, Pair, Pair]], object]

WRONG: list[tuple[str, Broken, str]] = [
    ("no certificate", lambda here, _: (here / "chain.pem").unlink(), r":5: .*tls_certificate = .*chain\.pem is not"),
    ("no key", lambda here, _: (here / "key.pem").unlink(), r":8: .*tls_key = .*key\.pem is not there"),
    ("empty", lambda here, _: (here / "chain.pem").write_bytes(b""), r":5: .*is no certificate"),
    ("garbage", lambda here, _: (here / "chain.pem").write_bytes(os.urandom(999)), r":5: .*is no certificate"),
    ("the key twice", lambda here, pairs: (here / "chain.pem").write_bytes(pairs[0].key), r":5: .*is no certificate"),
    ("no key in it", lambda here, pairs: (here / "key.pem").write_bytes(pairs[0].chain), r":8: .*does not do"),
    ("garbage as key", lambda here, _: (here / "key.pem").write_bytes(b"-----BEGIN"), r":8: .*does not do"),
    (
        "another's",
        lambda here, pairs: (here / "key.pem").write_bytes(pairs[1].key),
        r":8: .*key of another certificate",
    ),
    (
        "protected",
        lambda here, pairs: (
            (here / "chain.pem").write_bytes(pairs[2].chain),
            (here / "key.pem").write_bytes(pairs[2].key),
        ),
        r":8: .*protected by a passphrase",
    ),
    (
        "a folder",
        lambda here, _: ((here / "key.pem").unlink(), (here / "key.pem").mkdir()),
        r":8: .*cannot be read: Is a directory",
    ),
]


@pytest.mark.parametrize(("spoil", "told"), [pytest.param(*one[1:], id=one[0]) for one in WRONG])
def test_what_cannot_be_used_is_told_with_its_line(
    settings: Settings, tmp_path: Path, pairs: tuple[Pair, Pair, Pair], spoil: Broken, told: str
) -> None:
    spoil(tmp_path, pairs)
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/kmq\.conf{told}") as raised:
        require(settings)
    text = str(raised.value)
    assert len(text.splitlines()) == 2, "one for each receiver"
    assert "_ssl.c" not in text


def test_a_key_that_this_user_cannot_read_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "key.pem").unlink()
    (tmp_path / "key.pem").symlink_to("/proc/sys/vm/drop_caches")  # write-only, even for root
    with pytest.raises(ConfigError, match=r":8: .*cannot be read by this user"):
        require(settings)
