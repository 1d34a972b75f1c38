"""The certificate and key of the server: load, check, and replace them while connections are open."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from ipam_lib.errors import ConfigError


def tls_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """A context for TLS 1.2 or newer with this certificate chain and key (PEM). The file `cert` may hold the key too.

    Raises ConfigError with the file and its problem.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for setting, path in (("server.tls_cert", cert), ("server.tls_key", key)):
        if path is None:
            continue
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigError([f"{setting}: cannot read {path}: {error.strerror}"]) from None

    def no_password() -> NoReturn:
        raise ConfigError([f"server.tls_key: {key or cert} is encrypted; give a key without a passphrase"])

    try:
        context.load_cert_chain(cert, key, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"server.tls_key: the key in {key or cert} does not belong to the certificate in {cert}"
        else:
            problem = f"server.tls_cert, server.tls_key: no certificate and key in PEM form in {cert}"
            problem += f" and {key}" if key else ""
        raise ConfigError([problem]) from None
    return context


class Certificate:
    """The certificate for new connections; it can be replaced. Open connections keep theirs.

    `context`: for the listening socket; it stays the same.

    Raises ConfigError like `tls_context`.
    """

    def __init__(self, cert: Path, key: Path | None) -> None:
        self._current = tls_context(cert, key)
        self.context = tls_context(cert, key)
        # OpenSSL calls it for every handshake, also if the client names no server.
        self.context.sni_callback = self._choose

    def use(self, context: ssl.SSLContext) -> None:
        """Use this context (of `tls_context`) for new connections."""
        self._current = context

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        del name, context
        connection.context = self._current
