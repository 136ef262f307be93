"""The certificates that receivers show, and the files of connectors: loaded to see whether they can be, before anybody
depends on them.

Promise:  a certificate and key that cannot be used are found with the option that is to be mended and what would be
          right; nothing is asked of a terminal. Reading the settings does not come here: who lists the queue need
          not be able to read the key.
On crash: only reads.
Callers:  kmqd at its start and before a reload, `kmq check`; intake.smtpd for the context itself.
"""

import ssl
from collections.abc import Iterator

from kmq.config.client_tls import unusable_files
from kmq.config.sections import DEFAULT, ReceiverSection, Settings
from kmq.config.unusable import Unusable, unread, unusable_as
from kmq.errors import ConfigError, openssl_text


class _Encrypted(Exception):
    """OpenSSL wants a passphrase."""


def context_of(section: ReceiverSection) -> ssl.SSLContext | Unusable | None:
    """What a receiver speaks TLS with, 1.2 at least (RFC 8996); None without a certificate."""
    if not section.tls_certificate:
        return None
    lacking = _unread(section)
    if lacking:
        return lacking
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(section.tls_certificate, section.tls_key, password=_no_passphrase)
    except _Encrypted:
        return unusable_as(section, "tls_key", "is protected by a passphrase", "openssl pkey writes a key without one")
    except OSError as error:  # ssl.SSLError is one
        return _blame(section, error)
    return context


def unusable(settings: Settings) -> Iterator[tuple[str, Unusable]]:
    """(place, what is wrong) of each receiver and connector; place: "etc/kmq.conf:31: [mx : receiver]"."""
    for receiver in settings.receivers:
        found = context_of(receiver)
        if isinstance(found, Unusable):
            yield _place(settings, receiver.name, found), found
    for connector in settings.connectors:
        for wrong in unusable_files(connector):
            yield _place(settings, connector.name, wrong), wrong


def _place(settings: Settings, name: str, wrong: Unusable) -> str:
    origin = settings.origin(name, wrong.option)
    place = settings.path if origin.place == DEFAULT else origin.place
    return f"{place}: [{origin.heading}]"


def require(settings: Settings) -> None:
    """ConfigError, a line for each receiver or connector whose files cannot be used."""
    lines = [f"{place} {found.text}: {found.remedy}" for place, found in unusable(settings)]
    if lines:
        raise ConfigError("\n".join(lines))


def _unread(section: ReceiverSection) -> Unusable | None:
    """The first of the two files that this user cannot read."""
    without = "name the file, or leave both TLS options out"
    return unread(section, "tls_certificate", without) or unread(section, "tls_key", without)


def _blame(section: ReceiverSection, error: OSError) -> Unusable:
    """Which of the two OpenSSL does not like, which it says of neither."""
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        remedy = "name the key that tls_certificate was made for, the server's own certificate first in that file"
        return unusable_as(section, "tls_key", "is the key of another certificate", remedy)
    said = openssl_text(error)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(section.tls_certificate)
    except OSError:
        remedy = "a file in PEM is needed that begins with the server's certificate (-----BEGIN CERTIFICATE-----)"
        return unusable_as(section, "tls_certificate", f"is no certificate ({said})", remedy)
    remedy = "the private key in PEM is needed (-----BEGIN PRIVATE KEY-----), and a certificate that is strong enough"
    return unusable_as(section, "tls_key", f"does not do with its certificate ({said})", remedy)


def _no_passphrase() -> str:
    raise _Encrypted
