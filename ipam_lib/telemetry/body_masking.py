"""Mask the secrets in the body of a request for the log, also in bodies that are not JSON and under misspelt names.

The value of every field whose name contains `secret` is masked. In text that is not JSON, the mask reaches from that
word to the next certain field name of the HTTP interface, or to the end.
"""

from __future__ import annotations

import json
import re
from typing import Any

MASK = "********"
LONGEST = 4096

# The word, and the characters between it and its value.
_WORD = re.compile(r"""secret(?:\\?["']?\s*[:=]\s*\\?["']?)?""", re.IGNORECASE)
_PLAIN = re.compile(r'("(?:new_)?secret"\s*:\s*)"[^"]*"')
_NAMES = {"secret", "new_secret"}
_FIELDS = (
    "address|ip_family|zone|service|service_name|namespace_id|cluster_id|retention_period_days"
    "|deny_external_cleanup|expires_at"
)
# The end of a JSON string, and the next field name of the HTTP interface.
_NEXT_FIELD = re.compile(rf'(?<!\\)"\s*,\s*"(?:{_FIELDS})"\s*:')
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_ESCAPE = re.compile(r"\\u00([0-7][0-9a-fA-F])")


def mask_text(text: str) -> str:
    """`text` in any format, with everything masked that may be the value of a secret."""
    # The usual case; a case-insensitive pattern is slow.
    if "\\" not in text and "\0" not in text and "secret" not in text.lower():
        return text
    # UTF-16 has NUL bytes between the letters, and JSON may spell the word \u0073ecret.
    plain = _ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), text.replace("\0", ""))
    parts: list[str] = []
    at = 0
    while word := _WORD.search(plain, at):
        parts.append(plain[at : word.end()])
        parts.append(MASK)
        following = _NEXT_FIELD.search(plain, word.end())
        if following is None:
            return "".join(parts)
        at = following.start()
    parts.append(plain[at:])
    return "".join(parts)


def _mask_plain(text: str) -> str | None:
    """A valid JSON text with its secrets masked, or None if a text search is not reliable.

    Without escapes, every quote begins or ends a string, so the name of a secret before a colon is a field name, and
    the next string is its whole value. Any other occurrence of the word makes the search unreliable.
    """
    if "\\" in text or not text.isascii():
        return None
    masked, count = _PLAIN.subn(rf'\1"{MASK}"', text)
    return masked if count == masked.lower().count("secret") else None


def mask_value(value: Any) -> Any:
    """A parsed JSON value with the secrets in it masked. Raises RecursionError for absurd nesting."""
    if isinstance(value, dict):
        masked = {}
        for key, inner in value.items():
            shown = key if key in _NAMES else mask_text(key)
            masked[shown] = MASK if shown is not key or key in _NAMES else mask_value(inner)
        return masked
    if isinstance(value, list):
        return [mask_value(inner) for inner in value]
    return mask_text(value) if isinstance(value, str) else value


def mask_body(body: bytes, *, valid: bool = False) -> str:
    """The body of a request for the log: masked, and at most 4,096 characters.

    `valid`: whether the body is known to be one JSON object.
    """
    text = body.decode("utf-8", "replace")
    if valid and (quickly := _mask_plain(text)) is not None:
        return quickly if len(quickly) <= LONGEST else quickly[:LONGEST] + "..."
    try:
        value = json.loads(text)
        masked = _ENCODER.encode(mask_value(value)) if isinstance(value, dict) else mask_text(text)
    except (ValueError, RecursionError):
        masked = mask_text(text)
    return masked if len(masked) <= LONGEST else masked[:LONGEST] + "..."
