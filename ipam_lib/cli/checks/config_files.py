"""Checks of the configuration: settings, files with secrets, certificate, port and log directory."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from ipam_lib.config import Inspection, MongoDBSection, ServerSection, settings_rows
from ipam_lib.errors import ConfigError
from ipam_lib.findings import Finding, error, ok, warning
from ipam_lib.web.listening_sockets import bind
from ipam_lib.web.tls import tls_context

SHORTEST_BEARER: Final = 16
EXPIRES_SOON: Final = timedelta(days=14)


def settings(config: Inspection) -> Iterator[Finding]:
    """Settings that are wrong, unknown or risky."""
    check = "settings"
    for problem in config.problems:
        yield error(check, problem, f"correct it in {config.source}")
    for told in config.warnings:
        yield warning(check, told, f"correct it in {config.source}")
    if not config.problems:
        yield ok(check, f"{config.source} can be used ({len(settings_rows())} settings known)")
    encryption = config.encryption_secrets
    if encryption is not None and encryption.scheme == "legacy-ctr":
        advice = "take encryption_secrets.scheme away when the earlier service is gone (docs/migration.md)"
        yield warning(check, "secrets are written in the earlier service's scheme, which is weak", advice)
    if encryption is not None and encryption.previous is not None:
        advice = "end the rotation with rotate-key, then take encryption_secrets.previous_path away"
        yield warning(check, "two keys are known: a rotation has not ended", advice)


def secret_files(config: Inspection) -> Iterator[Finding]:
    """Whether other users may read the files with secrets. `settings` checks their contents."""
    files = dict(config.secret_files)
    if isinstance(config.storage, MongoDBSection) and config.storage.uri_has_user():
        files["mongodb.uri"] = config.source
    for setting, path in files.items():
        yield _mode(setting, path)
    if config.auth is not None and config.auth.token is not None and len(config.auth.token.reveal()) < SHORTEST_BEARER:
        advice = "put a longer one there, such as `openssl rand -hex 24` prints"
        message = f"the bearer token in auth.token_path is shorter than {SHORTEST_BEARER} characters: it can be guessed"
        yield warning("secret_files", message, advice)
    secret = config.netbox.webhook_secret if config.netbox is not None else None
    if secret is not None and len(secret.reveal()) < SHORTEST_BEARER:
        message = f"the secret in netbox.webhook_secret_path is shorter than {SHORTEST_BEARER} characters"
        advice = "put a longer one there and into NetBox, such as `openssl rand -hex 32` prints"
        yield warning("secret_files", f"{message}: it can be guessed", advice)
    if secret is not None and config.server is not None and config.server.tls_client_ca is not None:
        message = "NetBox sends no client certificate with an event, so server.tls_client_ca refuses its events"
        yield warning("netbox.webhook", message, "let a reverse proxy that has a certificate pass the events on")


def _mode(setting: str, path: Path) -> Finding:
    check = "secret_files"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as problem:
        return error(check, f"{setting}: {path}: {problem.strerror}", "give the service's user the right to read it")
    if not os.access(path, os.R_OK):
        advice = "run this as the service's user, or give that user the right to read it"
        return error(check, f"{setting}: {path} cannot be read by this user", advice)
    others = [what for bit, what in ((0o007, "everybody"), (0o020, "its group, by writing,")) if mode & bit]
    if others:
        message = f"{setting}: {path} is open to {' and '.join(others)} (mode {mode:04o})"
        return warning(check, message.replace(",)", ")"), f"chmod 600 {path}")
    return ok(check, f"{setting}: {path} (mode {mode:04o})")


def server(section: ServerSection, now: datetime | None = None) -> Iterator[Finding]:
    """The certificate, the clients that may call, and the port."""
    yield _access(section)
    if section.tls_cert is not None:
        yield _certificate(section.tls_cert, section, now or datetime.now(UTC))
    yield _port(section)


def _certificate(cert: Path, section: ServerSection, now: datetime) -> Finding:
    check = "server.tls"
    try:
        tls_context(cert, section.tls_key, section.tls_client_ca)
        shown = x509.load_pem_x509_certificates(cert.read_bytes())[0]
    except ConfigError as problem:
        return error(check, problem.problems[0], "give a certificate and its key, both in PEM form")
    except (OSError, ValueError) as problem:
        return error(check, f"server.tls_cert: {cert}: {problem}", "give a certificate in PEM form")
    begins, ends = shown.not_valid_before_utc, shown.not_valid_after_utc
    if now >= ends:
        return error(check, f"the certificate in {cert} expired on {ends:%Y-%m-%d}", "renew it, and reload the service")
    if now < begins:
        return error(check, f"the certificate in {cert} is valid from {begins:%Y-%m-%d} on only", "is the clock right?")
    if ends - now < EXPIRES_SOON:
        return warning(
            check, f"the certificate in {cert} expires on {ends:%Y-%m-%d}", "renew it, and reload the service"
        )
    return ok(check, f"certificate and key belong together, valid until {ends:%Y-%m-%d}")


def _access(section: ServerSection) -> Finding:
    """How open the service is to clients."""
    check = "server.access"
    limits = [f"networks {', '.join(map(str, section.allowed_networks))}"] if section.allowed_networks else []
    if section.tls_client_ca is not None:
        names = f" with the names {', '.join(section.tls_client_names)}" if section.tls_client_names else ""
        limits.append(f"client certificates of {section.tls_client_ca}{names}")
    if limits:
        return ok(check, f"only clients of these may call: {'; '.join(limits)}")
    hosts = [section.host] if isinstance(section.host, str) else section.host
    if not {"0.0.0.0", "::"} & set(hosts):
        return ok(check, f"all clients that reach {', '.join(hosts)} may call")
    tls = "" if section.tls_cert is not None else " without TLS"
    return warning(
        check,
        f"it listens on all interfaces{tls}, and every client may register addresses",
        "set server.allowed_networks, or server.tls_client_ca",
    )


def _port(section: ServerSection) -> Finding:
    """Whether the service could listen on the port now."""
    check = "server.port"
    if section.port == 0:
        return ok(check, "the system chooses the port")
    try:
        for one in bind(section.host, section.port):
            with one:
                one.listen(1)
    except OSError as problem:
        place = problem.filename or section.host
        if problem.errno == errno.EADDRINUSE:
            advice = (
                "if it is this service, or its socket unit, that is as it should be; else choose another server.port"
            )
            return warning(check, f"{place} is in use", advice)
        if problem.errno in (errno.EACCES, errno.EPERM):
            advice = "choose a server.port above 1023, or use ipam-api.socket"
            return warning(check, f"this user may not listen on {place}", advice)
        return error(
            check, f"cannot listen on {place}: {problem.strerror}", "is server.host an address of this machine?"
        )
    hosts = section.host if isinstance(section.host, str) else ", ".join(section.host)
    return ok(check, f"{hosts} port {section.port} is free")


def log_directory(directory: Path) -> Finding:
    """Whether this user can write the log."""
    check = "logging.directory"
    nearest = next(one for one in (directory, *directory.absolute().parents) if one.exists())
    if not nearest.is_dir():
        return error(check, f"{nearest} is not a directory", "name another one in logging.directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        advice = "make it the service's own, name another one, or run this as the service's user"
        return warning(check, f"{_user()} may not write in {nearest}", advice)
    if nearest != directory:
        return ok(check, f"{directory} is not there yet: the service makes it")
    return ok(check, f"{directory} can be written")


def _user() -> str:
    try:
        return f"the user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"user {os.geteuid()}"
