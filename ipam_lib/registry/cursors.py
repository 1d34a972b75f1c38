"""The opaque texts that ask for the page after another: where that one ended, as bytes in base64."""

from __future__ import annotations

import base64
import binascii

from ipam_lib.errors import BadRequest


def to_cursor(place: bytes) -> str:
    """The cursor of a place."""
    return base64.urlsafe_b64encode(place).decode()


def from_cursor(cursor: str, length: int) -> bytes:
    """The place that a cursor stands for. Raises BadRequest for what no `to_cursor` made of so many bytes."""
    try:
        place = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        place = b""
    if len(place) != length or to_cursor(place) != cursor:  # b64decode passes over some odd endings
        raise no_cursor()
    return place


def no_cursor() -> BadRequest:
    """What to raise for a cursor that is none."""
    return BadRequest("invalid request: cursor is none of ours", {"cursor": ["is not a cursor of an earlier page"]})
