"""Certificates for tests, made by openssl: an authority, and what it issued: right, for another name, expired."""

import ssl
import subprocess
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Pair(NamedTuple):
    """A certificate and its key, as paths."""

    chain: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        """What a server shows it with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


class Authority:
    """Issues certificates in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _own(self) -> Pair:
        pair = Pair(self._folder / "ca.pem", self._folder / "ca.key")
        _openssl("req", "-x509", *_KEY, "-days", "2", "-subj", "/CN=authority", "-out", pair.chain, "-keyout", pair.key)
        return pair

    @property
    def certificate(self) -> Path:
        """What those who trust this authority have."""
        return self._own.chain

    def issue(self, *names: str, days: int = 2) -> Pair:
        """A certificate for host names; with -1 days it is over."""
        stem = f"{names[0]}-{days}"
        pair = Pair(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        if not pair.chain.exists():
            request, extensions = self._folder / f"{stem}.csr", self._folder / f"{stem}.ext"
            extensions.write_text("subjectAltName=" + ",".join(f"DNS:{name}" for name in names))
            _openssl("req", *_KEY, "-subj", f"/CN={names[0]}", "-out", request, "-keyout", pair.key)
            issued_by = ("-CA", self._own.chain, "-CAkey", self._own.key, "-CAcreateserial", "-extfile", extensions)
            _openssl("x509", "-req", "-in", request, *issued_by, "-days", str(days), "-out", pair.chain)
        return pair


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)
