"""What connectors need for TLS and for logging in: loaded to see whether it can be, before anybody depends on it.

Promise:  a file that cannot be used is found with the option that is to be mended and what would be right; nothing is
          asked of a terminal.
On crash: only reads.
Callers:  `certificates`, for kmqd's start, its reload and `kmq check`; phases.tls for the context itself.
"""

import os
import ssl
from collections.abc import Iterator
from typing import NamedTuple

from kmq.config.sections import ConnectorSection
from kmq.config.unusable import Unusable, unread, unusable_as
from kmq.errors import openssl_text

PASSWORD_LIMIT = 1024  #: bytes of a password
TOKEN_LIMIT = 16 << 10  #: bytes of an access token, and of what its program may say beside it

_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
#: For servers that nobody verifies: all that is not known to be broken.
_OPPORTUNISTIC = "DEFAULT:!aNULL:!eNULL:@SECLEVEL=1"

_WITHOUT = "name the file, or leave the option out"


class ClientTls(NamedTuple):
    """All that makes two contexts differ. The files are paths or ""."""

    verified: bool
    minimum: str
    ca_file: str
    certificate: str
    key: str


class _Encrypted(ValueError):
    """OpenSSL wants a passphrase."""


def verifies(section: ConnectorSection) -> bool:
    """Whether the server's certificate has to be right."""
    if section.tls_verify == "auto":
        return section.tls in ("must", "implicit")
    return section.tls_verify == "name"


def client_tls(section: ConnectorSection) -> ClientTls:
    """What a connector wants of TLS."""
    return ClientTls(
        verifies(section), section.tls_minimum, section.tls_ca_file, section.tls_certificate, section.tls_key
    )


def client_context(wanted: ClientTls) -> ssl.SSLContext:
    """What a connector speaks TLS with; OSError (ssl.SSLError is one) or ValueError when its files cannot be used."""
    context = ssl.create_default_context(cafile=wanted.ca_file or None)
    if not wanted.verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers(_OPPORTUNISTIC)
    context.minimum_version = _MINIMUM[wanted.minimum]
    if wanted.certificate:
        context.load_cert_chain(wanted.certificate, wanted.key, password=_no_passphrase)
    return context


def password(section: ConnectorSection) -> str:
    """The first line of password_file; OSError or ValueError when there is none."""
    return _first_line(section.password_file, PASSWORD_LIMIT).decode("utf-8")


def read_token(section: ConnectorSection) -> str:
    """The token of token_file; OSError or ValueError when there is none."""
    return token_in(_first_line(section.token_file, TOKEN_LIMIT))


def token_in(text: bytes) -> str:
    """The token in the first line of what was read or printed (RFC 6750 2.1: visible ASCII)."""
    token = text.partition(b"\n")[0].strip()
    if not token or not all(0x21 <= octet < 0x7F for octet in token):
        raise ValueError("its first line is no token")
    return token.decode("ascii")


def _first_line(path: str, limit: int) -> bytes:
    with open(path, "rb") as file:
        line = file.read(limit).partition(b"\n")[0].rstrip(b"\r")
    if not line:
        raise ValueError("its first line is empty")
    return line


def unusable_files(section: ConnectorSection) -> Iterator[Unusable]:
    """What of a connector's files cannot be used now."""
    named = [name for name in ("tls_ca_file", "tls_certificate", "tls_key") if getattr(section, name)]
    wrong = [found for name in named if (found := unread(section, name, _WITHOUT))]
    if wrong:
        yield wrong[0]
    elif named:
        yield from _unloaded(section)
    if section.password_file:
        yield from _without_password(section)
    if section.token_file:
        yield from _without_token(section)
    if section.token_command and not os.access(section.token_command[0], os.X_OK):
        text = f"token_command = {' '.join(section.token_command)} names a program that this user cannot run"
        yield Unusable("token_command", text, "name one that is there and may be run")


def _unloaded(section: ConnectorSection) -> Iterator[Unusable]:
    if section.tls_ca_file:
        try:
            ssl.create_default_context(cafile=section.tls_ca_file)
        except OSError as error:
            wrong = f"has no certificates ({openssl_text(error)})"
            remedy = "a file in PEM is needed (-----BEGIN CERTIFICATE-----)"
            yield unusable_as(section, "tls_ca_file", wrong, remedy)
            return
    try:
        client_context(client_tls(section))
    except _Encrypted:
        remedy = "openssl pkey writes a key without one"
        yield unusable_as(section, "tls_key", "is protected by a passphrase", remedy)
    except OSError as error:
        wrong = f"does not do with tls_certificate = {section.tls_certificate} ({openssl_text(error)})"
        yield unusable_as(section, "tls_key", wrong, "name a certificate chain and its private key, both in PEM")


def _without_password(section: ConnectorSection) -> Iterator[Unusable]:
    wrong = unread(section, "password_file", "write the password into a file of this name")
    if wrong is not None:
        yield wrong
        return
    try:
        password(section)
    except UnicodeDecodeError:
        yield unusable_as(section, "password_file", "is no text", "write the password as UTF-8 into its first line")
    except ValueError:
        remedy = "write the password into its first line"
        yield unusable_as(section, "password_file", "has an empty first line", remedy)


def _without_token(section: ConnectorSection) -> Iterator[Unusable]:
    wrong = unread(section, "token_file", "let whoever renews the token write it into a file of this name")
    if wrong is not None:
        yield wrong
        return
    try:
        read_token(section)
    except (ValueError, OSError):
        yield unusable_as(section, "token_file", "has no token in its first line", "write the access token into it")


def _no_passphrase() -> str:
    raise _Encrypted("the key is protected by a passphrase")
