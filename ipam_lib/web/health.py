"""Whether the process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from marshmallow import Schema, fields

from ipam_lib.errors import IPAMError

log = logging.getLogger(__name__)

SECONDS_FOR_STORAGE: Final = 2.0


class HealthSchema(Schema):
    """The answer of a process that lives."""

    status = fields.String(required=True, metadata={"description": "Always `ok`.", "example": "ok"})


class ReadySchema(Schema):
    """The answer of a service that is ready, in whatever state it otherwise is."""

    status = fields.String(required=True, metadata={"description": "`ready` or `not ready`.", "example": "ready"})
    storage = fields.String(required=True, metadata={"description": "`ok`, or what is wrong with it.", "example": "ok"})
    zones = fields.String(
        required=True,
        metadata={
            "description": "Where the zones are from: `netbox`, `storage`, or `not loaded`.",
            "example": "netbox",
        },
    )
    zones_age_seconds = fields.Integer(
        required=True,
        allow_none=True,
        metadata={
            "description": "How long ago they were loaded from NetBox, by whichever process; null without any.",
            "example": 42,
            "x-nullable": True,
        },
    )
    netbox = fields.String(
        required=True, metadata={"description": "`ok`, or `away`: it does not answer.", "example": "ok"}
    )
    degraded = fields.List(
        fields.String(),
        required=True,
        metadata={
            "description": "What is not as it should be although the service works, and what that means; empty when "
            "all is well. Each begins with the part that it is about: `netbox`, `zones` or `background`.",
            "example": [],
        },
    )


class NotReadySchema(ReadySchema):
    """The answer of a service that is not ready, or not yet."""

    message = fields.String(
        required=True,
        metadata={"description": "What is missing.", "example": "not ready: zones: not loaded from NetBox yet"},
    )


@dataclass(slots=True)
class StorageProbe:
    """Asks the storage whether it answers: one question at a time, however many want to know, since a question that
    hangs may hold a thread."""

    ping: Callable[[], Awaitable[None]]
    seconds: float = SECONDS_FOR_STORAGE
    _asking: asyncio.Task[bool] | None = field(default=None, init=False)

    async def answers(self) -> bool:
        """Whether it does, within `seconds`."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        done, _ = await asyncio.wait((self._asking,), timeout=self.seconds)
        return bool(done) and self._asking.result()

    async def close(self) -> None:
        """Let go of a question that is still open."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait((self._asking,))

    async def _ask(self) -> bool:
        try:
            await self.ping()
        except IPAMError as error:
            log.debug("the storage does not answer: %s", error.message)
            return False
        except Exception:
            log.exception("a bug: the storage cannot be asked whether it answers")
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthState:
    """How the parts of the service are doing.

    `storage`: what is wrong with it, None when nothing is. `zones`: where they are from (`netbox` or `storage`), None
    while there are none; `zones_age_seconds`: how long ago they were loaded from NetBox; `zones_trouble`: why the last
    load failed (see `netbox.zones.ZoneCache`), None when it did not. `netbox_away`: whether NetBox does not answer.
    `pool`: whether addresses are kept ahead of demand. `background`: whether the workers live.
    """

    storage: str | None = None
    zones: str | None = "netbox"
    zones_age_seconds: float | None = 0.0
    zones_trouble: str | None = None
    netbox_away: bool = False
    pool: bool = False
    background: bool = True

    def missing(self) -> list[str]:
        """What keeps the service from its work."""
        found = [f"storage: {self.storage}"] if self.storage else []
        if self.zones is None:
            found.append(f"zones: not loaded from NetBox yet{_REASONS.get(self.zones_trouble or '', '')}")
        return found

    def degraded(self) -> list[str]:
        """What is not as it should be, and what that means."""
        found = []
        if self.netbox_away:
            new = "come out of the pool while it lasts" if self.pool else "are not given out until it is back"
            found.append(f"netbox: away; what is registered is served, new addresses {new}")
        if self.zones is not None and self.zones_trouble is not None:
            kept = "those kept in storage" if self.zones == "storage" else "as they were last loaded"
            found.append(f"zones: {kept}, not refreshed{_REASONS[self.zones_trouble]}")
        if not self.background:
            found.append("background: a worker has died; nothing is cleaned up or recovered until the service restarts")
        return found


_REASONS: Final = {
    "away": ": NetBox does not answer",
    "refused": ": NetBox refuses; is its token still good, and may it read choice sets and prefixes?",
    "odd": ": NetBox answers something else than was expected; the log has more",
}


def readiness(condition: HealthState) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer.

    That NetBox is away is no reason not to be ready: whatever is registered is served without it.
    """
    age = condition.zones_age_seconds
    report = {
        "storage": condition.storage or "ok",
        "zones": condition.zones or "not loaded",
        "zones_age_seconds": None if age is None else int(age),
        "netbox": "away" if condition.netbox_away else "ok",
        "degraded": condition.degraded(),
    }
    if missing := condition.missing():
        return 503, {"message": "not ready: " + "; ".join(missing), "status": "not ready", **report}
    return 200, {"status": "ready", **report}


def in_words(report: dict[str, Any]) -> str:
    """The body of such an answer as one line, for `systemctl status`."""
    return "; ".join([report.get("message", report["status"]), *report["degraded"]])
