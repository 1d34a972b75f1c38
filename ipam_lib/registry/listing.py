"""Read registrations: pages of them, or those on one address. Nothing is changed. A secret stays encrypted."""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ipam_lib.errors import BadRequest
from ipam_lib.ids import uuid_spellings
from ipam_lib.models import Filter, Registration, State
from ipam_lib.registry.context import Context

_LISTED: Final = frozenset({State.LIVE, State.RELEASING})
_ID_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Page:
    """Registrations, lowest ID first. `cursor` asks for the next page; None after the last page."""

    registrations: Sequence[Registration]
    cursor: str | None


async def addresses(context: Context, wanted: Filter, *, limit: int, cursor: str | None = None) -> Page:
    """One page of the registrations that fit the filter, live or releasing, at most `limit`.

    The case of the cluster ID and the namespace ID does not matter. Pages are stable: no registration appears twice,
    even if others are added between two pages.

    Raises BadRequest if the cursor is not one of an earlier page, StorageUnavailable.
    """
    after = None if cursor is None else from_cursor(cursor, _ID_BYTES).hex()
    found: dict[str, Registration] = {}
    for cluster_id, namespace_id in itertools.product(_spellings(wanted.cluster_id), _spellings(wanted.namespace_id)):
        spelled = replace(wanted, cluster_id=cluster_id, namespace_id=namespace_id)
        page = await context.store.page(spelled, after=after, limit=limit + 1)
        found |= {one.id: one for one in page}
    first = [found[each] for each in sorted(found)[:limit]]
    return Page(first, to_cursor(bytes.fromhex(first[-1].id)) if len(found) > limit else None)


async def address(context: Context, spellings: Sequence[str], *, zone: str | None = None) -> list[Registration]:
    """The registrations on an address, live or releasing, lowest ID first: one for each zone that contains the address,
    and its duplicates. `spellings`: the address in each of its spellings.

    Raises StorageUnavailable.
    """
    found = await context.store.find_address(zone=zone, addresses=spellings)
    return [one for one in found if one.state in _LISTED]


def _spellings(uuid: str | None) -> tuple[str | None, ...]:
    return (None,) if uuid is None else uuid_spellings(uuid)


def to_cursor(position: bytes) -> str:
    """The cursor for a position in a list: an opaque text (base64)."""
    return base64.urlsafe_b64encode(position).decode()


def from_cursor(cursor: str, length: int) -> bytes:
    """The position that a cursor stands for. Raises BadRequest if `to_cursor` did not make it from `length` bytes."""
    try:
        position = base64.b64decode(cursor, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        position = b""
    if len(position) != length or to_cursor(position) != cursor:  # b64decode accepts some other endings
        raise invalid_cursor()
    return position


def invalid_cursor() -> BadRequest:
    """The error for a text that is not a cursor."""
    return BadRequest("invalid request: cursor is none of ours", {"cursor": ["is not a cursor of an earlier page"]})
