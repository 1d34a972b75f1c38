"""Which prefixes in NetBox belong to a registration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from ipam_lib.addresses import is_host, same
from ipam_lib.models import PoolEntry, Registration
from ipam_lib.netbox.base import Prefix
from ipam_lib.registry.context import Context, Deadline


def is_releasable(prefix: Prefix, registration: Registration, entries: Iterable[PoolEntry] = ()) -> bool:
    """Whether the prefix still belongs to the registration: it has the same address, and its `k8s_uuid` is the
    registration's ID, the ID of one of its pool entries, or empty (the earlier service wrote it in a second step). A
    container never belongs to a registration.

    The address may be a network of the earlier service. It is released like an address; after a cooldown the pool drops
    its entry, which never becomes `ready`.
    """
    return (
        same(prefix.prefix, registration.address)
        and prefix.uuid in (registration.id, None, "", *(entry.id for entry in entries))
        and not prefix.is_container
    )


async def prefixes_of(
    context: Context,
    registrations: Sequence[Registration],
    deadline: Deadline,
    entries: Mapping[str, Sequence[PoolEntry]] = MappingProxyType({}),
) -> dict[str, list[Prefix]]:
    """The prefixes of each registration in NetBox: those with the NetBox ID that it names, and those with its ID as
    `k8s_uuid`. With `entries`, also the prefixes that its pool entries name. By registration ID.

    Raises Unavailable.
    """
    found: dict[str, dict[int, Prefix]] = {registration.id: {} for registration in registrations}
    by_netbox_id: dict[int, list[str]] = {}
    for registration in registrations:
        named = {registration.netbox_id, *(entry.netbox_id for entry in entries.get(registration.id, ()))}
        for netbox_id in sorted(one for one in named if one):
            by_netbox_id.setdefault(netbox_id, []).append(registration.id)
    if by_netbox_id:
        for prefix in await context.netbox.get_many(list(by_netbox_id), limit=deadline.call_limit()):
            for owner in by_netbox_id[prefix.id]:
                found[owner][prefix.id] = prefix
    for prefix in await context.netbox.find_by_uuid(list(found), limit=deadline.call_limit()):
        if prefix.uuid in found:
            found[prefix.uuid][prefix.id] = prefix
    return {key: list(prefixes.values()) for key, prefixes in found.items()}


def transferred(receiver: Registration, netbox_id: int, giver: Registration) -> Registration:
    """The receiver of a prefix that another registration created. The description of the prefix names the services of
    that registration, so it is due."""
    texts = (*receiver.described, *giver.described)
    return receiver.changed(netbox_id=netbox_id, described=texts, description_due=bool(texts))


def own_prefixes(prefixes: Iterable[Prefix], registration_id: str) -> list[Prefix]:
    """The prefixes that a creation under this ID made: host prefixes with this `k8s_uuid`; lowest NetBox ID first."""
    return sorted(
        (one for one in prefixes if one.uuid == registration_id and not one.is_container and is_host(one.prefix)),
        key=lambda prefix: prefix.id,
    )
