"""The fields of a request. No JSON type is coerced into another, and every text can be stored and logged.

Each field checks its value in one step, without marshmallow's validators, which are slow. Its metadata has the same
rules for the specification.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, ValidationError, fields, missing
from marshmallow.constants import EXCLUDE

from ipam_lib.addresses import HOST_LENGTH, host_address
from ipam_lib.models import UUID_PATTERN
from ipam_lib.text import json_type

_UUID = re.compile(UUID_PATTERN)
_MESSAGES: dict[str, str | list[Any] | dict[Any, Any]] = {"required": "is missing", "null": "must not be null"}


class StrictSchema(Schema):
    """An object. Unknown names are ignored: older and newer clients send them."""

    error_messages = {"type": "must be an object"}  # noqa: RUF012 - marshmallow reads it from the class

    class Meta:
        unknown = EXCLUDE


class Text(fields.String):
    """A string of `shortest` to `longest` characters (Unicode code points).

    It must not contain NUL, which ends strings in C libraries, or lone surrogates, which UTF-8 cannot encode.
    `optional`: an empty string and null mean the same as an absent field; clients use all three.
    """

    default_error_messages = _MESSAGES
    # For the specification (ECMA 262): every valid value matches; some matching values are not valid.
    pattern = r"^[^\u0000]*$"

    def __init__(
        self, shortest: int, longest: int, *, optional: bool = False, metadata: dict[str, Any], **options: Any
    ) -> None:
        if "enum" not in metadata:
            bounds = {"minLength": 0 if optional else shortest, "maxLength": longest}
            metadata = bounds | {"pattern": self.pattern} | metadata
        super().__init__(metadata=metadata, required=not optional, allow_none=optional, **options)
        self.shortest = shortest
        self.longest = longest
        self.optional = optional
        self.wrong_length = f"must be {shortest} to {longest} characters long"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if type(value) is not str:
            raise ValidationError(f"must be a string, not {json_type(value)}")
        if not value and self.optional:
            return missing
        if not self.shortest <= len(value) <= self.longest:
            raise ValidationError(self.wrong_length)
        if "\0" in value:
            raise ValidationError("must not hold a NUL character")
        if not value.isascii() and _has_surrogate(value):
            raise ValidationError("must not hold a lone surrogate")
        return self.checked(value, data)

    def checked(self, text: str, data: Mapping[str, Any] | None) -> str:
        """The loaded value of `text`. `data`: the object that contains the field. Raises ValidationError."""
        return text


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


class Name(Text):
    """A text of printable characters."""

    pattern = r"^[^\u0000-\u001f\u007f-\u00a0\u00ad]*$"

    def checked(self, text: str, data: Mapping[str, Any] | None) -> str:
        if not text.isprintable():
            raise ValidationError("must hold printable characters only")
        return text


class UUIDText(Text):
    """A UUID as text (RFC 9562, section 4), in upper or lower case, which is kept."""

    pattern = f"^{_UUID.pattern}$"

    def __init__(self, *, metadata: dict[str, Any], **options: Any) -> None:
        super().__init__(36, 36, metadata={"format": "uuid"} | metadata, **options)
        self.wrong_length = "must be a UUID, such as 0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878"

    def checked(self, text: str, data: Mapping[str, Any] | None) -> str:
        if _UUID.fullmatch(text) is None:
            raise ValidationError(self.wrong_length)
        return text


class Family(Text):
    """`ipv4` or `ipv6`."""

    def __init__(self, *, metadata: dict[str, Any], **options: Any) -> None:
        super().__init__(4, 4, metadata={"enum": list(HOST_LENGTH)} | metadata, **options)
        self.wrong_length = "must be 'ipv4' or 'ipv6'"

    def checked(self, text: str, data: Mapping[str, Any] | None) -> str:
        if text not in HOST_LENGTH:
            raise ValidationError(self.wrong_length)
        return text


class HostAddress(Text):
    """One host address, loaded as canonical text. It must have the family of the field `ip_family`."""

    pattern = r"^([0-9a-fA-F:.]+(/(32|128))?)?$"

    def __init__(self, *, metadata: dict[str, Any], **options: Any) -> None:
        super().__init__(2, 100, metadata=metadata, **options)
        self.wrong_length = "is not an IP address (expected A, A/32 or A/128)"

    def checked(self, text: str, data: Mapping[str, Any] | None) -> str:
        family = None if data is None else data.get("ip_family")
        try:
            return host_address(text, family if family == "ipv4" or family == "ipv6" else None)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class Days(fields.Integer):
    """An integer number of days from 0 to `most`. 7.0 is an error, as for the Go clients. null means absent."""

    default_error_messages = _MESSAGES

    def __init__(self, most: int, *, metadata: dict[str, Any], **options: Any) -> None:
        super().__init__(metadata={"minimum": 0, "maximum": most} | metadata, allow_none=True, **options)
        self.most = most

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        if type(value) is not int:
            what = "a fraction" if type(value) is float else json_type(value)
            raise ValidationError(f"must be an integer, not {what}")
        if not 0 <= value <= self.most:
            raise ValidationError(f"must be 0 to {self.most}")
        return value


class Flag(fields.Boolean):
    """`true` or `false`. null means absent."""

    default_error_messages = _MESSAGES

    def __init__(self, *, metadata: dict[str, Any], **options: Any) -> None:
        super().__init__(metadata=metadata, allow_none=True, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if type(value) is not bool:
            raise ValidationError(f"must be true or false, not {json_type(value)}")
        return value
