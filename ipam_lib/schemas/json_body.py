"""Parse the JSON of a body (RFC 8259, and I-JSON, RFC 7493, where it is stricter)."""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from typing import Any, NoReturn

from ipam_lib.errors import InvalidJSON
from ipam_lib.text import json_problem

# Far more than any real body has, and far less than the recursion limit of the code that masks it for the log.
DEEPEST = 64


def parse_json(raw: bytes) -> object:
    """The value of a JSON text in UTF-8. Its strings may hold lone surrogates (`"\\ud800"`), which the fields reject.

    Raises InvalidJSON, with line and column if possible, for invalid JSON and for text that parsers read in different
    ways: other encodings, a byte order mark, a repeated name in an object, NaN and Infinity, numbers with thousands of
    digits, and more than `DEEPEST` levels of nesting.
    """
    if raw.startswith(codecs.BOM_UTF8):
        raise InvalidJSON("the body begins with a byte order mark; send UTF-8 without one")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"the body is not UTF-8: byte {error.start + 1} fits no character") from None
    if not text.strip(" \t\n\r"):
        raise InvalidJSON("the body is empty; expected one JSON object")
    try:
        value: object = _decode(text)
    except json.JSONDecodeError as error:
        raise InvalidJSON(f"the body is not valid JSON: {json_problem(error)}") from None
    except RecursionError:
        raise InvalidJSON(_TOO_DEEP) from None
    except ValueError:
        # int() refuses more than sys.get_int_max_str_digits() digits.
        raise InvalidJSON("the body holds a number with too many digits") from None
    if text.count("[") + text.count("{") > DEEPEST and _too_deep(value):
        raise InvalidJSON(_TOO_DEEP)
    return value


_TOO_DEEP = "the body is nested too deeply"

_STRING = r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
# A comma between the end of a value (a string, or a character that opens nothing) and a closing bracket; or a string.
_TRAILING_COMMA_OR_STRING = re.compile(
    rf'(?P<value>(?:{_STRING}|[^\s{{\[,:"])[ \t\n\r]*+),(?=[ \t\n\r]*+[}}\]])|{_STRING}', re.DOTALL
)


def _decode(text: str) -> object:
    """The value of a JSON text. A comma after the last member or element is allowed: the request bodies in the
    documentation of the earlier service have one."""
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        # A space in its place keeps the position of every other error.
        return _DECODER.decode(_TRAILING_COMMA_OR_STRING.sub(_without_comma, text))


def _without_comma(match: re.Match[str]) -> str:
    value = match["value"]
    return match[0] if value is None else f"{value} "


def _too_deep(value: Any) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return False
    return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        # Only an identifier is repeated: other names may contain line breaks or a secret.
        shown = f"'{twice}'" if twice.isidentifier() and len(twice) <= 40 else "a name"
        raise InvalidJSON(f"{shown} stands twice in one JSON object of the body")
    return content


def _no_constant(name: str) -> NoReturn:
    raise InvalidJSON(f"the body is not valid JSON: {name} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)
