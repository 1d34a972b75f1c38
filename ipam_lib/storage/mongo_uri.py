"""What a connection string of MongoDB says: its hosts, its TLS options, and whether the TLS files can be used.

https://www.mongodb.com/docs/manual/reference/connection-string-options/. PyMongo's own parser is not used, because it
asks DNS for the hosts of a `mongodb+srv` URI.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

from ipam_lib.errors import ConfigError


def options(uri: str) -> dict[str, str]:
    """The options of a connection string. Their names are case-insensitive, and in lower case here."""
    return {name.lower(): values[-1] for name, values in parse_qs(uri.partition("?")[2]).items()}


def uses_tls(uri: str) -> bool:
    """Whether connections use TLS."""
    given = options(uri)
    chosen = given.get("tls", given.get("ssl"))
    if chosen is not None:
        return chosen.lower() == "true"
    # mongodb+srv means TLS unless it is switched off, and so does every option with a TLS file.
    return uri.startswith("mongodb+srv:") or any(name.startswith("tls") for name in given)


def hosts(uri: str) -> list[str]:
    """The hosts of a connection string, without ports, user and password."""
    servers = re.split(r"[/?]", uri.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    return [re.sub(r":\d*$", "", server.replace("%2F", "/").replace("%2f", "/")) for server in servers.split(",")]


def check_tls_files(uri: str) -> None:
    """Raises ConfigError with every TLS file of a connection string that cannot be used, and why.

    PyMongo would raise errors that name no file, and would ask for the password of an encrypted key on the terminal.
    """
    if problems := list(_problems(options(uri))):
        raise ConfigError([f"mongodb.uri: {problem}" for problem in problems])


def _problems(given: dict[str, str]) -> Iterator[str]:
    for option, content in (("tlsCAFile", "certificate"), ("tlsCRLFile", "revocation list")):
        if path := given.get(option.lower()):
            words = _read(path)
            if isinstance(words, bytes):
                words = _authority_problem(path, content)
            if words:
                yield f"{option}: {path} {words}"
    if path := given.get("tlscertificatekeyfile"):
        words = _read(path)
        if isinstance(words, bytes):
            words = _key_problem(path, words, given.get("tlscertificatekeyfilepassword"))
        if words:
            yield f"tlsCertificateKeyFile: {path} {words}"


def _read(path: str) -> bytes | str:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "cannot be read: this is no path"


def _authority_problem(path: str, content: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError):
        return f"holds no {content} in PEM form"
    return ""


class _PasswordMissing(Exception):
    pass


def _key_problem(path: str, pem: bytes, password: str | None) -> str:
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        return "holds no certificate in PEM form"
    if b"PRIVATE KEY-----" not in pem:
        return "holds no private key in PEM form: the certificate and its key must both be in this file"

    def ask() -> str:
        if password is None:
            raise _PasswordMissing
        return password

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(path, password=ask)
    except _PasswordMissing:
        return "holds an encrypted key, and mongodb.uri has no tlsCertificateKeyFilePassword"
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return "holds a key that does not belong to its certificate"
        if password is not None and b"ENCRYPTED" in pem:
            return "holds a key that tlsCertificateKeyFilePassword does not decrypt"
        return "holds no certificate and key that can be used"
    except (OSError, ValueError) as error:
        return f"cannot be used: {error}"
    return ""
