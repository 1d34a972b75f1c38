"""Encryption of the stored secrets of registrations, and a type that keeps secrets out of logs. No I/O.

Two schemes:

- `aes-siv` (the default): `siv1:` + base64(AES-256-SIV(key, secret)), RFC 5297 without associated data. It is
  authenticated, and deterministic, so that a plain index finds a registration by its secret. HKDF-SHA256 (RFC 5869)
  derives the key from `enc_key`, so that no key serves two algorithms. `siv1:` names all of this. Another algorithm or
  derivation must use another prefix.
- `legacy-ctr` (of the earlier service): base64(AES-CTR(enc_key, iv=enc_iv, secret)). It is not authenticated, and all
  secrets share one key stream, so that one known secret reveals all others. It is always read, and written only if the
  configuration says so. `registry/services.py` encrypts the secret again with every change of a registration.

The prefix tells the schemes apart: base64 has no colon.
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ipam_lib.errors import ConfigError, IPAMError

Scheme = Literal["aes-siv", "legacy-ctr"]

SIV_MARK = "siv1:"
_HKDF_INFO = b"ipam-api stored secrets siv1"
_SIV_KEY_BYTES = 64  # AES-256-SIV takes two keys of 32 bytes (RFC 5297, section 2.2)
_KEY_BYTES = (16, 24, 32)
_IV_BYTES = 16
# The longest secret: 64 characters of four bytes.
_CTR_STREAM_BYTES = 256


class SecretUnreadable(IPAMError):
    """A stored secret cannot be decrypted: another key, changed text, or an unknown scheme."""


class Secret:
    """Text that must not appear in a log, a traceback or an error. Only `reveal()` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text in the clear."""
        return self._text

    def __repr__(self) -> str:
        return "****"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return same_text(self._text, other._text)

    def __hash__(self) -> int:
        return hash(self._text)


def same_text(given: str, expected: str) -> bool:
    """Whether two texts are equal. The time does not depend on where they differ. For bearer tokens.

    Takes any text, lone surrogates included, because header values may hold them.
    """
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of a `secrets.json`, as bytes. The repr does not show them."""

    enc_key: bytes = field(repr=False)
    enc_iv: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if problems := _wrong_lengths(self.enc_key, self.enc_iv):
            raise ConfigError(problems)

    @classmethod
    def from_json(cls, text: str) -> KeySet:
        """The key set in the text of a `secrets.json`: `{"enc_key": "...", "enc_iv": "..."}`. Other names are ignored.

        Raises ConfigError with all problems. None of them shows a key.
        """
        try:
            content = json.loads(text)
        except RecursionError:
            raise ConfigError(["is nested too deeply"]) from None
        except ValueError as error:
            # Only the position, because an excerpt may show the key. Not chained, because the error holds the whole
            # text.
            where = f": line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise ConfigError([f"is not valid JSON{where}"]) from None
        if not isinstance(content, dict):
            raise ConfigError(['must hold one JSON object: {"enc_key": "...", "enc_iv": "..."}'])
        problems = []
        values = []
        for name in ("enc_key", "enc_iv"):
            match content.get(name):
                case str(value):
                    values.append(value.encode("utf-8", "surrogatepass"))
                case None:
                    problems.append(f"{name} is missing")
                case _:
                    problems.append(f"{name} must be a string")
        if problems:
            raise ConfigError(problems)
        return cls(*values)


def _wrong_lengths(enc_key: bytes, enc_iv: bytes) -> list[str]:
    problems = []
    if len(enc_key) not in _KEY_BYTES:
        problems.append(f"enc_key must be 16, 24 or 32 bytes long in UTF-8; it is {len(enc_key)}")
    if len(enc_iv) != _IV_BYTES:
        problems.append(f"enc_iv must be 16 bytes long in UTF-8; it is {len(enc_iv)}")
    return problems


class _Siv:
    """The scheme `aes-siv` with one key set."""

    def __init__(self, keys: KeySet) -> None:
        derived = HKDF(algorithm=SHA256(), length=_SIV_KEY_BYTES, salt=None, info=_HKDF_INFO).derive(keys.enc_key)
        self._aead = AESSIV(derived)

    def seal(self, secret: str) -> str:
        return SIV_MARK + b64encode(self._aead.encrypt(secret.encode(), None)).decode("ascii")

    def unseal(self, stored: str) -> str | None:
        """The secret; None if this key did not seal exactly this text."""
        try:
            secret = self._aead.decrypt(b64decode(stored[len(SIV_MARK) :], validate=True), None).decode()
        except (ValueError, InvalidTag):
            return None
        # base64 has several texts for the same bytes (unused bits of the last character). Only one was written.
        return secret if self.seal(secret) == stored else None


class _Ctr:
    """The scheme `legacy-ctr` with one key set."""

    def __init__(self, keys: KeySet) -> None:
        self._cipher = BlockCipher(AES(keys.enc_key), CTR(keys.enc_iv))
        # The key stream is the same for every secret (the weakness of this scheme), so it is computed once.
        self._stream = self._encrypt(bytes(_CTR_STREAM_BYTES))

    def _encrypt(self, content: bytes) -> bytes:
        stream = self._cipher.encryptor()
        return stream.update(content) + stream.finalize()

    def _xor(self, content: bytes) -> bytes:
        length = len(content)
        if length > _CTR_STREAM_BYTES:
            return self._encrypt(content)
        return (int.from_bytes(content) ^ int.from_bytes(self._stream[:length])).to_bytes(length)

    def seal(self, secret: str) -> str:
        return b64encode(self._xor(secret.encode())).decode("ascii")

    def unseal(self, stored: str) -> str | None:
        """The text that this key gives; None if it is no text. The scheme cannot tell a wrong key."""
        try:
            return self._xor(b64decode(stored, validate=True)).decode() or None
        except ValueError:
            return None


class Cipher:
    """Seals and unseals the secrets of registrations. Create one and keep it: a call then takes a few microseconds.

    - `scheme`: the scheme that `seal` writes.
    - `previous`: the key set before a rotation. Secrets sealed with it are still found and read; none are written.
    """

    def __init__(self, keys: KeySet, *, scheme: Scheme = "aes-siv", previous: KeySet | None = None) -> None:
        key_sets = (keys,) if previous is None else (keys, previous)
        self._siv = [_Siv(key_set) for key_set in key_sets]
        self._ctr = [_Ctr(key_set) for key_set in key_sets]
        self.scheme: Scheme = scheme
        written: _Siv | _Ctr = self._siv[0] if scheme == "aes-siv" else self._ctr[0]
        self._seal = written.seal
        sealers: list[_Siv | _Ctr] = [written, *self._siv, *self._ctr]
        self._sealers: list[Callable[[str], str]] = [sealer.seal for sealer in dict.fromkeys(sealers)]
        # With aes-siv, nothing writes the old scheme with the current key, so the previous key is more likely.
        self._ctr_by_likelihood = self._ctr[::-1] if scheme == "aes-siv" else self._ctr

    def seal(self, secret: str) -> str:
        """The text to store for a secret. The same secret always gives the same text."""
        return self._seal(secret)

    def candidates(self, secret: str) -> tuple[str, ...]:
        """Every text that may be stored for a secret, without repeats. The first is that of `seal`; then come AES-SIV
        and the old scheme, each with the current and then the previous key."""
        return tuple(dict.fromkeys(seal(secret) for seal in self._sealers))

    def unseal(self, stored: str) -> str:
        """The secret in a stored text.

        The old scheme cannot tell a wrong key. With a previous key, the key that gives printable characters is taken.
        Both may do so: one pair of keys in 256 for many secrets of 8 characters, one in 65,536 for those of 16. Then
        the previous key is taken if the scheme is `aes-siv`, which no longer writes the old scheme; else the current
        key.

        Raises SecretUnreadable. Its message holds neither the secret nor the stored text.
        """
        if stored.startswith(SIV_MARK):
            for siv in self._siv:
                if (secret := siv.unseal(stored)) is not None:
                    return secret
            raise SecretUnreadable("the stored secret was sealed under another key, or has been changed")
        if ":" in stored:
            raise SecretUnreadable("the stored secret is of a scheme that this version does not know")
        texts = [text for ctr in self._ctr_by_likelihood if (text := ctr.unseal(stored)) is not None]
        if not texts:
            raise SecretUnreadable("the stored secret was sealed under another key, or has been changed")
        return next(filter(str.isprintable, texts), texts[0])

    def is_current(self, stored: str) -> bool:
        """Whether `seal` would write this text now: its scheme, with the current key.

        If you have the secret, compare with `seal(secret)` instead: that is exact.
        """
        try:
            return self.seal(self.unseal(stored)) == stored
        except SecretUnreadable:
            return False
