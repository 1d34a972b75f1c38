"""What the registry needs of NetBox: containers, prefixes, and the calls on them.

`client.NetBoxClient` implements `NetBox`, `zones.ZoneCache` implements `Zones`. Tests implement both with test doubles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

from ipam_lib.addresses import network
from ipam_lib.models import IPFamily


@dataclass(frozen=True, slots=True)
class Container:
    """A container prefix of a zone. VRF None is the global table. `custom_fields`: its custom fields but `k8s_zone`."""

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
    """A prefix as it stands in NetBox. `uuid` is its custom field `k8s_uuid`, `zone` its `k8s_zone`. Comparisons ignore
    the description."""

    id: int
    prefix: str
    vrf_id: int | None = None
    status: str = "active"
    zone: str | None = None
    uuid: str | None = None
    description: str = field(default="", compare=False)

    @property
    def is_container(self) -> bool:
        """Whether it is a prefix that other prefixes are created in."""
        return self.status == "container"


@dataclass(frozen=True, slots=True)
class PrefixChange:
    """A change of a prefix: its new `k8s_uuid`, whether its status becomes `reserved` or `active`, and its new
    description. None: not changed."""

    id: int
    uuid: str | None = None
    reserved: bool | None = None
    description: str | None = None

    @property
    def status(self) -> str | None:
        """The new status as NetBox names it."""
        return None if self.reserved is None else "reserved" if self.reserved else "active"


NO_DESCRIPTIONS: Mapping[str, str] = MappingProxyType({})

OccupantKind = Literal["prefix", "IP address", "IP range"]


@dataclass(frozen=True, slots=True)
class Occupant:
    """An object in NetBox that takes addresses from `first` to `last`, both inclusive, as integers.

    `text`: how NetBox writes it (`83.118.168.1/24`). `updated`: when it was last changed, by NetBox's clock. `own`:
    whether it is a prefix with a `k8s_uuid`.
    """

    netbox_id: int
    first: int
    last: int
    kind: OccupantKind = "prefix"
    text: str = ""
    updated: datetime | None = None
    own: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.text} (NetBox id {self.netbox_id})"

    def covers(self, address: str) -> bool:
        """Whether it takes this address."""
        return self.first <= int(network(address).network_address) <= self.last


@dataclass(frozen=True, slots=True)
class SpaceUse:
    """The use of a container, in numbers of addresses. Each address counts once.

    `own`: in prefixes with a `k8s_uuid`, and creations under way. `prefixes`: in other child prefixes. `ip_addresses`:
    in no prefix, but an IP address or in an IP range. `utilized`: the container is marked as utilized in NetBox.
    `ip_addresses_known`: whether IP addresses and IP ranges were read; if not, they are in `unused`. `as_of`: the time
    of the reading of NetBox that this shows.
    """

    size: int
    own: int
    prefixes: int
    ip_addresses: int
    utilized: bool = False
    ip_addresses_known: bool = True
    as_of: datetime | None = None

    @property
    def unused(self) -> int:
        """Addresses that nothing takes."""
        return self.size - self.own - self.prefixes - self.ip_addresses

    @property
    def free(self) -> int:
        """Addresses that can be the next free address: none in a utilized container."""
        return 0 if self.utilized else self.unused


class NetBox(ABC):
    """The calls on prefixes. `limit` is the longest time for a call, in seconds, repetitions included.

    Every method raises NetBoxUnavailable (with `applied`) when NetBox does not answer properly in time, and
    NetBoxRejected when it refuses the request (its 400 or 403). Reads, changes and deletions may be sent twice without
    harm, so they are repeated with jittered back-off within `limit`. Creations are sent once.

    A list that a method returns is complete. If NetBox's answers do not prove that, the method raises
    NetBoxUnavailable: the caller may delete or report what a list lacks.
    """

    @property
    def available(self) -> bool:
        """False while NetBox is known to be away: a call would fail at once."""
        return True

    def space_use(self, container: Container, inner: Sequence[Container] = ()) -> SpaceUse | None:
        """The use of a container as read last, without a request. None while it is not known completely.

        `inner`: the containers inside it. For `own`, their addresses do not count: they are in `prefixes`.
        """
        return None

    async def read_space(self, container: Container) -> str | None:
        """Read what is taken in a container, for `space_use`. Returns why this is not known completely afterwards, and
        None if it is. An error is such a reason; nothing is raised."""
        return "this is not read"

    @abstractmethod
    async def create_next(self, container: Container, *, uuid: str, limit: float, description: str = "") -> Prefix:
        """Create the lowest free host prefix of the container, complete in one call: length, tenant and role of the
        container, the constraint tag, `k8s_zone`, `k8s_uuid`, the configured custom fields, and the description.

        Raises ContainerFull, ContainerGone.
        """

    @abstractmethod
    async def create_next_many(
        self,
        container: Container,
        uuids: Sequence[str],
        *,
        limit: float,
        reserved: bool = False,
        descriptions: Mapping[str, str] = NO_DESCRIPTIONS,
    ) -> list[Prefix]:
        """Create the lowest free host prefixes of the container, one for each of `uuids` (which differ), in one call:
        all or none. Returned in the order of `uuids`. With `reserved`, of that status. `descriptions`: by uuid.

        Raises ContainerFull when not all of them fit, ContainerGone.
        """

    @abstractmethod
    async def create_exact(
        self, container: Container, address: str, *, uuid: str, limit: float, description: str = ""
    ) -> Prefix:
        """Create the host prefix `address` with VRF, tenant and role of the container, complete like `create_next`.

        Raises DuplicatePrefix when NetBox has it already. NetBox's check races, so success does not prove that the
        prefix is the only one.
        """

    @abstractmethod
    async def conflict(self, container: Container, prefix: Prefix, *, limit: float) -> Occupant | None:
        """The other object in NetBox that takes the address of a prefix inside the container; None if there is none.
        Objects that were entered before the creation of the prefix are found. A registration goes live only after this
        check."""

    @abstractmethod
    async def covering(self, container: Container, address: str, *, limit: float) -> list[Prefix]:
        """Every prefix in the container's VRF that contains the address or equals it, containers included."""

    @abstractmethod
    async def find_by_uuid(self, uuids: Sequence[str], *, limit: float) -> list[Prefix]:
        """Every prefix whose `k8s_uuid` is exactly one of `uuids`."""

    @abstractmethod
    async def get_many(self, prefix_ids: Sequence[int], *, limit: float) -> list[Prefix]:
        """Those of these prefixes that exist."""

    @abstractmethod
    async def delete_many(self, prefixes: Sequence[Prefix], *, limit: float) -> None:
        """Delete these prefixes, in bulk. A prefix that is gone already counts as deleted."""

    @abstractmethod
    async def assign(self, prefix_id: int, uuid: str, *, limit: float) -> bool:
        """Write the `k8s_uuid` of a prefix. False when the prefix is gone."""

    @abstractmethod
    async def update_many(self, changes: Sequence[PrefixChange], *, limit: float) -> set[int]:
        """Make these changes, in bulk. Returns the ids of the prefixes that exist."""

    @abstractmethod
    async def list_prefixes(self, container: Container, *, after: int, limit: float) -> list[Prefix]:
        """One page of what lies inside the container, in its VRF: ids above `after`, ascending; empty at the end."""


class Zones(ABC):
    """The zones and their containers, from a cache. Only `check` and `refresh` wait for NetBox."""

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """The zones, in the order of NetBox's choice set; empty before the first load."""

    @abstractmethod
    async def check(self, zone: str) -> None:
        """Return when the zone exists. Before it raises, it asks NetBox once more, rate-limited.

        Raises UnknownZone, or NetBoxUnavailable before the first load.
        """

    @abstractmethod
    def containers(self, zone: str, ip_family: IPFamily) -> Sequence[Container]:
        """The zone's containers of that family, in the order in which addresses are taken from them."""

    @abstractmethod
    def all_containers(self) -> Sequence[Container]:
        """The containers of every zone and family."""

    @abstractmethod
    def container_of(self, zone: str, address: str) -> Container | None:
        """The most specific container of the zone that contains the address. None if there is none, or if a container
        of another zone in the same VRF is more specific. A new prefix at the address takes VRF, tenant and role of this
        container (`payloads.creation`)."""

    @abstractmethod
    async def refresh(self) -> bool:
        """Load from NetBox again. Returns False, without a load, if the last one began a few seconds ago.

        Raises NetBoxError when the load fails.
        """
