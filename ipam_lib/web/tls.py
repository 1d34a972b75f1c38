"""The certificate and key of the server: load, check, and replace them while connections are open."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import NoReturn

from ipam_lib.errors import ConfigError

log = logging.getLogger(__name__)


def tls_context(cert: Path, key: Path | None, client_ca: Path | None = None) -> ssl.SSLContext:
    """A context for TLS 1.2 or newer with this certificate chain and key (PEM). The file `cert` may hold the key too.

    `client_ca`: the authorities (PEM) of client certificates. A client without one is accepted, because probes have
    none; `access_control` answers its requests. A client with a wrong or expired one fails the handshake. Raises
    ConfigError with the file and its problem.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    files = (("server.tls_cert", cert), ("server.tls_key", key), ("server.tls_client_ca", client_ca))
    for setting, path in files:
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
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError:
            raise ConfigError([f"server.tls_client_ca: no certificates in PEM form in {client_ca}"]) from None
        context.verify_mode = ssl.CERT_OPTIONAL
        # A resumed session would not check its certificate again.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


class _SSLObject(ssl.SSLObject):
    """Logs the reason of a failed handshake, which asyncio does not."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLCertVerificationError as error:
            log.warning("refused a client certificate: %s", error.verify_message)
            raise
        except ssl.SSLError as error:
            log.info("a TLS handshake failed: %s", error.reason)
            raise


class Certificate:
    """The certificate for new connections; it can be replaced. Open connections keep theirs.

    `context`: for the listening socket; it stays the same.

    Raises ConfigError like `tls_context`.
    """

    def __init__(self, cert: Path, key: Path | None, client_ca: Path | None = None) -> None:
        self._current = tls_context(cert, key, client_ca)
        self.context = tls_context(cert, key, client_ca)
        self.context.sslobject_class = _SSLObject
        # OpenSSL calls it for every handshake, also if the client names no server.
        self.context.sni_callback = self._choose

    def use(self, context: ssl.SSLContext) -> None:
        """Use this context (of `tls_context`) for new connections."""
        self._current = context

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        del name, context
        connection.context = self._current
