"""Text for people and for JSON: terminal-safe text, plurals, names of JSON types, positions of JSON errors, times."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Final

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_JSON_TYPES: Final = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
}


def printable(text: str) -> str:
    """`text` on one line; control characters, which a terminal would obey, are escaped as `\\x1b`."""
    if text.isprintable():
        return text
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


def plural(number: int, noun: str) -> str:
    """A number and its noun: `1 service`, `2 services`, `2 addresses`."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending * (number != 1)}"


def json_type(value: object) -> str:
    """The JSON type of a value, with its article: `an object`, `a number`, `null`."""
    return _JSON_TYPES.get(type(value), "null")


def json_problem(error: json.JSONDecodeError) -> str:
    """The position of a JSON error, and what the parser expected there. It never repeats the text."""
    reason = error.msg[:1].lower() + error.msg[1:].removesuffix(" at").rstrip(": ")
    return f"{reason} at line {error.lineno}, column {error.colno}"


def json_time(moment: datetime | None) -> str | None:
    """A time as RFC 3339 in UTC with milliseconds, `2026-11-25T00:50:49.291Z`; None stays None."""
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
