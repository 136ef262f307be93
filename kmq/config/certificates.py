"""The certificates that receivers show: loaded to see whether they can be, before anybody depends on them.

Promise:  a certificate and key that cannot be used are found with the option that is to be mended and what would be
          right; nothing is asked of a terminal. Reading the settings does not come here: who lists the queue need
          not be able to read the key.
On crash: only reads.
Callers:  kmqd at its start and before a reload, `kmq check`; intake.smtpd for the context itself.
"""

import ssl
from collections.abc import Iterator
from typing import NamedTuple

from kmq.config.sections import DEFAULT, ReceiverSection, Settings
from kmq.errors import ConfigError, openssl_text


class Unusable(NamedTuple):
    """Why STARTTLS cannot be offered. option: where to mend it; text: what is wrong; remedy: what would be right."""

    option: str
    text: str
    remedy: str


class _Encrypted(Exception):
    """OpenSSL wants a passphrase."""


def context_of(section: ReceiverSection) -> ssl.SSLContext | Unusable | None:
    """What a receiver speaks TLS with, 1.2 at least (RFC 8996); None without a certificate."""
    if not section.tls_certificate:
        return None
    unread = _unread(section)
    if unread:
        return unread
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(section.tls_certificate, section.tls_key, password=_no_passphrase)
    except _Encrypted:
        return _of("tls_key", section, "is protected by a passphrase", "openssl pkey writes a key without one")
    except OSError as error:  # ssl.SSLError is one
        return _blame(section, error)
    return context


def unusable(settings: Settings) -> Iterator[tuple[str, Unusable]]:
    """(place, what is wrong) of each receiver; place: "etc/kmq.conf:31: [mx : receiver]"."""
    for section in settings.receivers:
        found = context_of(section)
        if isinstance(found, Unusable):
            origin = settings.origin(section.name, found.option)
            place = settings.path if origin.place == DEFAULT else origin.place
            yield f"{place}: [{origin.heading}]", found


def require(settings: Settings) -> None:
    """ConfigError, a line for each receiver whose certificate cannot be used."""
    lines = [f"{place} {found.text}: {found.remedy}" for place, found in unusable(settings)]
    if lines:
        raise ConfigError("\n".join(lines))


def _of(option: str, section: ReceiverSection, wrong: str, remedy: str) -> Unusable:
    return Unusable(option, f"{option} = {getattr(section, option)} {wrong}", remedy)


def _unread(section: ReceiverSection) -> Unusable | None:
    """The first of the two files that this user cannot read."""
    for option in ("tls_certificate", "tls_key"):
        try:
            with open(getattr(section, option), "rb") as file:
                file.read(1)
        except FileNotFoundError:
            return _of(option, section, "is not there", "name the file, or leave both TLS options out")
        except PermissionError:
            return _of(option, section, "cannot be read by this user", "let the group of kmqd's user read it")
        except OSError as error:
            return _of(option, section, f"cannot be read: {error.strerror}", "name a file in PEM")
    return None


def _blame(section: ReceiverSection, error: OSError) -> Unusable:
    """Which of the two OpenSSL does not like, which it says of neither."""
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        remedy = "name the key that tls_certificate was made for, the server's own certificate first in that file"
        return _of("tls_key", section, "is the key of another certificate", remedy)
    said = openssl_text(error)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(section.tls_certificate)
    except OSError:
        remedy = "a file in PEM is needed that begins with the server's certificate (-----BEGIN CERTIFICATE-----)"
        return _of("tls_certificate", section, f"is no certificate ({said})", remedy)
    remedy = "the private key in PEM is needed (-----BEGIN PRIVATE KEY-----), and a certificate that is strong enough"
    return _of("tls_key", section, f"does not do with its certificate ({said})", remedy)


def _no_passphrase() -> str:
    raise _Encrypted
