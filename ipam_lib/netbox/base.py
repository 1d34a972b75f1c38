"""What the registry needs of NetBox, in its own words: containers, prefixes, and the few calls on them.

The REST client implements `NetBox`; the cache of zones implements `Zones`. Tests put doubles behind both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ipam_lib.models import IPFamily


@dataclass(frozen=True, slots=True)
class Container:
    """A container prefix of a zone. VRF None is the global table."""

    id: int
    prefix: str
    ip_family: IPFamily
    zone: str
    vrf_id: int | None = None
    tenant_id: int | None = None
    role_id: int | None = None
    custom_fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix as it stands in NetBox. `uuid` is its custom field `k8s_uuid`, `zone` its `k8s_zone`."""

    id: int
    prefix: str
    vrf_id: int | None = None
    status: str = "active"
    zone: str | None = None
    uuid: str | None = None

    @property
    def is_container(self) -> bool:
        """Whether other prefixes are meant to lie inside it."""
        return self.status == "container"


@dataclass(frozen=True, slots=True)
class PrefixChange:
    """What to write on a prefix: its `k8s_uuid`, and whether it is `reserved` or `active`."""

    id: int
    uuid: str
    reserved: bool

    @property
    def status(self) -> str:
        """The status in NetBox's words."""
        return "reserved" if self.reserved else "active"


class NetBox(ABC):
    """The calls on prefixes. `limit` is the longest that a call may take, in seconds, retries included.

    Every method raises NetBoxUnavailable (with `applied`) when NetBox does not answer properly in time, and
    NetBoxRejected when it refuses the request (its 400 or 403). Reads and deletions are repeated with jittered back-off
    within `limit`, since that is safe; creations are sent once.
    """

    @property
    def available(self) -> bool:
        """Whether a call has a chance: False while NetBox is known to be away, so that nothing is begun in vain."""
        return True

    @abstractmethod
    async def create_next(self, container: Container, *, uuid: str, limit: float) -> Prefix:
        """Create the lowest free host prefix of the container, complete in one call: length, tenant and role of the
        container, the constraint tag, `k8s_zone`, `k8s_uuid`, and the configured custom fields.

        Raises ContainerFull, ContainerGone.
        """

    @abstractmethod
    async def create_next_many(
        self, container: Container, uuids: Sequence[str], *, limit: float, reserved: bool = False
    ) -> list[Prefix]:
        """Create the lowest free host prefixes of the container, one for each of `uuids` (which differ), in one call:
        all or none. Returned in the order of `uuids`. With `reserved`, of that status.

        Raises ContainerFull when not all of them fit, ContainerGone.
        """

    @abstractmethod
    async def create_exact(self, container: Container, address: str, *, uuid: str, limit: float) -> Prefix:
        """Create the host prefix `address` with VRF, tenant and role of the container, complete like `create_next`.

        Raises DuplicatePrefix when NetBox has it already. That it does not raise proves nothing: NetBox's check races.
        """

    @abstractmethod
    async def covering(self, container: Container, address: str, *, limit: float) -> list[Prefix]:
        """Every prefix in the container's VRF that holds the address or is it, containers included."""

    @abstractmethod
    async def find_by_uuid(self, uuids: Sequence[str], *, limit: float) -> list[Prefix]:
        """Every prefix whose `k8s_uuid` is exactly one of `uuids`, in however many calls that takes."""

    @abstractmethod
    async def get_many(self, prefix_ids: Sequence[int], *, limit: float) -> list[Prefix]:
        """Those of these prefixes that exist."""

    @abstractmethod
    async def delete_many(self, prefix_ids: Sequence[int], *, limit: float) -> None:
        """Delete these prefixes, in bulk; one that is gone already counts as deleted."""

    @abstractmethod
    async def assign(self, prefix_id: int, uuid: str, *, limit: float) -> bool:
        """Write the `k8s_uuid` of a prefix. False when the prefix is gone."""

    @abstractmethod
    async def update_many(self, changes: Sequence[PrefixChange], *, limit: float) -> set[int]:
        """Write status and `k8s_uuid` of these prefixes, in bulk; the ids of those that exist."""

    @abstractmethod
    async def list_prefixes(self, container: Container, *, after: int, limit: float) -> list[Prefix]:
        """One page of what lies inside the container, in its VRF: ascending ids, those above `after`; empty at the
        end."""


class Zones(ABC):
    """The zones and their containers, from a cache: no method but `check` waits for NetBox."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """The zones, in the order of NetBox's choice set; none while they have never been loaded."""

    @abstractmethod
    async def check(self, zone: str) -> None:
        """Return when the zone exists. Asks NetBox once more, rate-limited, before it says that it does not.

        Raises UnknownZone, or NetBoxUnavailable while no zones have ever been loaded.
        """

    @abstractmethod
    def containers(self, zone: str, ip_family: IPFamily) -> Sequence[Container]:
        """The zone's containers of that family, in the order in which they are filled."""

    @abstractmethod
    def all_containers(self) -> Sequence[Container]:
        """The containers of every zone and family."""

    @abstractmethod
    def container_of(self, zone: str, address: str) -> Container | None:
        """The most specific container of the zone that holds the address, or None; also None where a container of
        another zone in the same VRF lies nearer to the address."""

    @abstractmethod
    async def refresh(self) -> bool:
        """Load from NetBox again, unless that was done a moment ago (then False)."""
