"""Mask known secrets in every log line, in each form in which a text may hold them.

No code should log a secret. If a library puts one into an exception, or a bug into a message, it is masked before the
line leaves the process: secrets of the configuration always, secrets of a request in the lines of that request.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final
from urllib.parse import quote, quote_plus

from ipam_lib.telemetry.body_masking import MASK

SHORTEST: Final = 6
"""Shorter texts are not masked: they occur in other words too. Every secret of a request is longer."""

_of_request: ContextVar[list[str]] = ContextVar("secrets_of_request")
_of_process: set[str] = set()

LINE: Final = "_json_line"
"""The attribute of a record for its JSON line."""
_FROZEN: Final = "_frozen"
# The attributes of a record that are not its fields.
STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", LINE, _FROZEN}
_PLAIN: Final = (int, float, bool, type(None))


def forms(secret: str) -> tuple[str, ...]:
    """The forms of a secret in a text: plain, in JSON, in a repr, percent-encoded.

    The longest first, so that no replacement cuts another form.
    """
    if secret.isascii() and secret.isalnum():
        return (secret,)
    quoted = repr(secret)[1:-1]
    spelled = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quoted,
        quoted.replace("\\'", "'"),
        ascii(secret)[1:-1],
        quote(secret, safe="", errors="replace"),
        quote(secret, errors="replace"),
        quote_plus(secret, errors="replace"),
    }
    return tuple(sorted(spelled, key=len, reverse=True))


def add_secrets(secrets: Iterable[str]) -> None:
    """Mask these in every line from now on."""
    _of_process.update(form for secret in secrets if len(secret) >= SHORTEST for form in forms(secret))


def start_request() -> None:
    """Give the request of the current task a set of secrets of its own, which all tasks of the request share."""
    _of_request.set([])


def set_request_secrets(*secrets: object) -> None:
    """Mask these in the lines of the current request, except short ones and values that are not text."""
    held = [one for one in secrets if isinstance(one, str) and len(one) >= SHORTEST]
    _of_request.get().extend(form for secret in held for form in forms(secret))


def redact(text: str) -> str:
    """`text` without any known secret."""
    return _replaced(text) if _suspect(text) else text


def _suspect(text: str) -> bool:
    for secret in _of_request.get(()):
        if secret in text:
            return True
    for secret in _of_process:  # noqa: SIM110 - a generator would take longer than the search
        if secret in text:
            return True
    return False


def _replaced(text: str) -> str:
    for secret in sorted((*_of_request.get(()), *_of_process), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _redacted(value: Any) -> Any:
    """A field of a record without any known secret, as text or as a structure of texts."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        return {redact(str(key)): _redacted(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(inner) for inner in value]
    try:
        return redact(str(value))
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        # The arguments do not fit the message. They are not redacted, so the line must not show them.
        return f"a bug: this line lacks its values: {record.msg}"


def freeze_and_redact(record: logging.LogRecord) -> logging.LogRecord:
    """Turn message, fields and traceback of a record into redacted text, in the task that logged it. Never raises.

    A second call does nothing.
    """
    fields = record.__dict__
    if _FROZEN in fields:
        return record
    fields[_FROZEN] = True
    texts = [_message(record)]
    record.msg, record.args = texts[0], None
    if record.exc_info and not record.exc_text:
        record.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
    record.exc_info = None
    if record.exc_text:
        texts.append(record.exc_text)
    if record.stack_info:
        texts.append(record.stack_info)
    structured = False
    for name, value in fields.items():
        if isinstance(value, str):
            if name not in STANDARD:
                texts.append(value)
        elif not isinstance(value, _PLAIN) and name not in STANDARD:
            structured = True
    # Nearly every line is without secrets; one search through all of its texts is enough for it.
    if structured or _suspect("\0".join(texts)):
        _redact_fields(record)
    return record


def _redact_fields(record: logging.LogRecord) -> None:
    record.msg = redact(record.msg)
    if record.exc_text:
        record.exc_text = redact(record.exc_text)
    if record.stack_info:
        record.stack_info = redact(record.stack_info)
    for name, value in record.__dict__.items():
        if name not in STANDARD and not isinstance(value, _PLAIN):
            record.__dict__[name] = _redacted(value)
