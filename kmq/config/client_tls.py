"""What connectors need for TLS and for logging in: loaded to see whether it can be, before anybody depends on it.

Promise:  a file that cannot be used is found with the option that is to be mended and what would be right; nothing is
          asked of a terminal.
On crash: only reads.
Callers:  `certificates`, for kmqd's start, its reload and `kmq check`; phases.tls for the context itself.
"""

import ssl
from collections.abc import Iterator
from typing import NamedTuple

from kmq.config.sections import ConnectorSection
from kmq.errors import openssl_text

PASSWORD_LIMIT = 1024  #: bytes of a password

_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
#: For servers that nobody verifies: all that is not known to be broken.
_OPPORTUNISTIC = "DEFAULT:!aNULL:!eNULL:@SECLEVEL=1"


class Objection(NamedTuple):
    """Why a connector cannot be used. option: where to mend it; text: what is wrong; remedy: what would be right."""

    option: str
    text: str
    remedy: str


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
    with open(section.password_file, "rb") as file:
        line = file.read(PASSWORD_LIMIT).partition(b"\n")[0].rstrip(b"\r")
    if not line:
        raise ValueError("its first line is empty")
    return line.decode("utf-8")


def objections(section: ConnectorSection) -> Iterator[Objection]:
    """What of a connector's files cannot be used now."""
    unread = [name for name in ("tls_ca_file", "tls_certificate", "tls_key") if getattr(section, name)]
    for name in unread:
        wrong = _unread(section, name)
        if wrong is not None:
            yield wrong
            return
    if unread:
        yield from _unloaded(section)
    if section.password_file:
        yield from _without_password(section)


def _unread(section: ConnectorSection, name: str) -> Objection | None:
    try:
        with open(getattr(section, name), "rb") as file:
            file.read(1)
    except FileNotFoundError:
        return _of(section, name, "is not there", "name the file, or leave the option out")
    except PermissionError:
        return _of(section, name, "cannot be read by this user", "let the group of kmqd's user read it")
    except OSError as error:
        return _of(section, name, f"cannot be read: {error.strerror}", "name a file")
    return None


def _unloaded(section: ConnectorSection) -> Iterator[Objection]:
    if section.tls_ca_file:
        try:
            ssl.create_default_context(cafile=section.tls_ca_file)
        except OSError as error:
            text = f"has no certificates ({openssl_text(error)})"
            yield _of(section, "tls_ca_file", text, "a file in PEM is needed (-----BEGIN CERTIFICATE-----)")
            return
    try:
        client_context(client_tls(section))
    except _Encrypted:
        yield _of(section, "tls_key", "is protected by a passphrase", "openssl pkey writes a key without one")
    except OSError as error:
        text = f"does not do with tls_certificate ({openssl_text(error)})"
        yield _of(section, "tls_key", text, "name a certificate chain and its private key, both in PEM")


def _without_password(section: ConnectorSection) -> Iterator[Objection]:
    wrong = _unread(section, "password_file")
    if wrong is not None:
        yield wrong
        return
    try:
        password(section)
    except UnicodeDecodeError:
        yield _of(section, "password_file", "is no text", "write the password as UTF-8 in its first line")
    except ValueError as error:
        yield _of(section, "password_file", f"has no password: {error}", "write the password into its first line")


def _of(section: ConnectorSection, option: str, wrong: str, remedy: str) -> Objection:
    return Objection(option, f"{option} = {getattr(section, option)} {wrong}", remedy)


def _no_passphrase() -> str:
    raise _Encrypted("the key is protected by a passphrase")
