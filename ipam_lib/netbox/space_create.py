"""Creation of host prefixes at addresses that the picture of the container chooses (see `space`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from ipam_lib.clock import Clock
from ipam_lib.errors import ContainerFull, DuplicatePrefix, NetBoxUnavailable
from ipam_lib.netbox.base import NO_DESCRIPTIONS, Container, Prefix
from ipam_lib.netbox.space import AddressSpace, Choice

log = logging.getLogger(__name__)

CHOICES: Final = 5
"""How often addresses are chosen for one creation at the most, while other instances take them."""


class PrefixCreator(Protocol):
    """Creations in NetBox: one prefix for each of `uuids`, in their order, all or none. `limit`: the longest time, in
    seconds. `descriptions`: by uuid. They raise NetBoxUnavailable and NetBoxRejected."""

    async def create_free(
        self,
        container: Container,
        uuids: Sequence[str],
        *,
        limit: float,
        reserved: bool,
        descriptions: Mapping[str, str],
    ) -> list[Prefix]:
        """At addresses that NetBox chooses. Raises ContainerFull, ContainerGone."""

    async def create_given(
        self,
        container: Container,
        addresses: Sequence[str],
        uuids: Sequence[str],
        *,
        limit: float,
        reserved: bool,
        descriptions: Mapping[str, str],
    ) -> list[Prefix]:
        """At these addresses. Raises DuplicatePrefix."""


class SpaceCreator:
    """Creates prefixes, and keeps the picture in step. In each case a look at what came in between begins beside the
    creation; `AddressSpace.conflict` waits for it."""

    def __init__(self, space: AddressSpace, creator: PrefixCreator, clock: Clock) -> None:
        self._space = space
        self._creator = creator
        self._clock = clock

    async def create_next(
        self,
        container: Container,
        uuids: Sequence[str],
        *,
        limit: float,
        reserved: bool = False,
        descriptions: Mapping[str, str] = NO_DESCRIPTIONS,
    ) -> list[Prefix]:
        """Create the lowest free host prefixes: at the addresses that the picture chooses, or, without a picture, at
        those that NetBox chooses.

        Raises ContainerFull, ContainerGone, NetBoxUnavailable, NetBoxRejected.
        """
        end = self._clock.monotonic() + limit
        for left in reversed(range(CHOICES)):
            choice = await self._choose(container, len(uuids), end)
            look = self._space.begin_look(container)
            try:
                with self._space.creating(container, choice.addresses if choice else ()):
                    limit = end - self._clock.monotonic()
                    if choice is None or choice.by_netbox:
                        made = await self._creator.create_free(
                            container, uuids, limit=limit, reserved=reserved, descriptions=descriptions
                        )
                    else:
                        made = await self._creator.create_given(
                            container,
                            choice.addresses,
                            uuids,
                            limit=limit,
                            reserved=reserved,
                            descriptions=descriptions,
                        )
                    for prefix in made:
                        self._space.created(container, prefix, look)
                return made
            except DuplicatePrefix as error:
                # Another instance, or another system, was faster. A look shows what it has created.
                log.info("an address of container %s was taken meanwhile; choosing again", container.prefix)
                self._space.collided(container)
                if not left:
                    detail = f"chosen addresses were taken meanwhile, {CHOICES} times"
                    raise NetBoxUnavailable(detail=detail, applied=False) from error
                await self._space.finish(self._space.begin_look(container), end - self._clock.monotonic())
        raise AssertionError("unreachable")

    async def create_exact(
        self, container: Container, address: str, *, uuid: str, limit: float, description: str = ""
    ) -> Prefix:
        """Create a host prefix at the address that a request names. Raises as `PrefixCreator.create_given`."""
        self._space.reserve_exactly(container, address)
        look = self._space.begin_look(container)
        with self._space.creating(container, [address]):
            [prefix] = await self._creator.create_given(
                container, [address], [uuid], limit=limit, reserved=False, descriptions={uuid: description}
            )
            self._space.created(container, prefix, look)
        return prefix

    async def _choose(self, container: Container, count: int, end: float) -> Choice | None:
        """Addresses that the picture chooses; None without a picture. A container that seems to be full is read again
        first, since what others have deleted does not show in between."""
        try:
            return self._space.choose(container, count)
        except ContainerFull:
            if not await self._space.reload(container, end - self._clock.monotonic()):
                raise
        return self._space.choose(container, count)
