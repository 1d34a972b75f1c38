"""The health of the process (`/healthz`), and its readiness to serve requests (`/readyz`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from marshmallow import Schema, fields

from ipam_lib.errors import IPAMError, StorageUnavailable
from ipam_lib.netbox.zones import LoadFailure, LoadFailureKind
from ipam_lib.web.middlewares import SERVICES

log = logging.getLogger(__name__)

SECONDS_FOR_STORAGE: Final = 2.0


class HealthSchema(Schema):
    """The answer of `/healthz`."""

    status = fields.String(required=True, metadata={"description": "Always `ok`.", "example": "ok"})


class ReadySchema(Schema):
    """The answer of a service that is ready."""

    status = fields.String(required=True, metadata={"description": "`ready` or `not ready`.", "example": "ready"})
    storage = fields.String(required=True, metadata={"description": "`ok`, or its problem.", "example": "ok"})
    zones = fields.String(
        required=True,
        metadata={
            "description": "Source of the zones: `netbox`, `storage`, or `not loaded`.",
            "example": "netbox",
        },
    )
    zones_age_seconds = fields.Integer(
        required=True,
        allow_none=True,
        metadata={
            "description": "Seconds since any process loaded them from NetBox; null without zones.",
            "example": 42,
            "x-nullable": True,
        },
    )
    netbox = fields.String(
        required=True,
        metadata={
            "description": "`ok`; `away`: NetBox does not answer; `refused`: it refuses requests or lacks a "
            "definition; `unexpected`: its answer does not fit the request.",
            "example": "ok",
        },
    )
    degraded = fields.List(
        fields.String(),
        required=True,
        metadata={
            "description": "Problems of a ready service, and their effects; empty without problems. Each begins with "
            "the part that has the problem: `netbox`, `zones` or `background`.",
            "example": [],
        },
    )


class NotReadySchema(ReadySchema):
    """The answer of a service that is not ready."""

    code = fields.String(required=True, metadata={"description": "`not_ready`.", "example": "not_ready"})
    message = fields.String(
        required=True,
        metadata={"description": "What is missing.", "example": "not ready: zones: not loaded from NetBox yet"},
    )


NO_ANSWER: Final = "does not answer"


@dataclass(slots=True)
class StorageProbe:
    """Pings the storage. Concurrent callers share one ping, because a ping that hangs may hold a thread."""

    ping: Callable[[], Awaitable[None]]
    seconds: float = SECONDS_FOR_STORAGE
    _pinging: asyncio.Task[str | None] | None = field(default=None, init=False)

    async def problem(self) -> str | None:
        """The problem of the storage; None if it answers within `seconds`."""
        pinging = self._pinging
        if pinging is None or pinging.done():
            pinging = self._pinging = asyncio.create_task(self._ping())
        # Another caller may replace the attribute during the wait, so only the local variable is read after it.
        done, _ = await asyncio.wait((pinging,), timeout=self.seconds)
        return pinging.result() if done and not pinging.cancelled() else NO_ANSWER

    async def close(self) -> None:
        """Cancel a ping in progress."""
        if self._pinging is not None:
            self._pinging.cancel()
            await asyncio.wait((self._pinging,))

    async def _ping(self) -> str | None:
        try:
            await self.ping()
        except IPAMError as error:
            log.debug("the storage does not answer: %s", error.message)
            return error.condition if isinstance(error, StorageUnavailable) else NO_ANSWER
        except Exception:
            log.exception("a bug: the ping of the storage failed with an unexpected error")
            return NO_ANSWER
        return None


PROBE: Final = web.AppKey("probe", StorageProbe)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthState:
    """The state of the parts of the service.

    `storage`: its problem, None for none. `zones`: their source (`netbox` or `storage`), None without zones.
    `zones_age_seconds`: seconds since they were loaded from NetBox. `zones_trouble`: the reason why the last load
    failed (see `netbox.zones.LoadFailure`), None if it succeeded. `netbox_away`: whether NetBox does not answer.
    `netbox_problems`: what NetBox refuses. `pool`: whether there is a warm pool. `background`: whether all
    workers run.
    """

    storage: str | None = None
    zones: str | None = "netbox"
    zones_age_seconds: float | None = 0.0
    zones_trouble: LoadFailure | None = None
    netbox_away: bool = False
    netbox_problems: Sequence[str] = ()
    pool: bool = False
    background: bool = True

    @property
    def netbox(self) -> str:
        """`ok`, or what is wrong with NetBox: see `LoadFailureKind`."""
        if self.netbox_away:
            return "away"
        return "ok" if self.zones_trouble is None else self.zones_trouble.kind

    def missing(self) -> list[str]:
        """The reasons why the service cannot serve requests."""
        found = [f"storage: {self.storage}"] if self.storage else []
        if self.zones is None:
            found.append(f"zones: not loaded from NetBox yet{self._reason()}")
        return found

    def degraded(self) -> list[str]:
        """The problems of a service that can serve requests, and their effects."""
        found = []
        if self.netbox == "away":
            new = "come out of the pool while it lasts" if self.pool else "are not given out until it is back"
            found.append(f"netbox: away; what is registered is served, new addresses {new}")
        if self.zones is not None and self.zones_trouble is not None:
            kept = "those kept in storage" if self.zones == "storage" else "as they were last loaded"
            found.append(f"zones: {kept}, not refreshed{self._reason()}")
        found += [f"netbox: {problem}" for problem in self.netbox_problems]
        if not self.background:
            found.append("background: a worker has died; nothing is cleaned up or recovered until the service restarts")
        return found

    def _reason(self) -> str:
        if self.zones_trouble is None:
            return ""
        return f": {_REASONS[self.zones_trouble.kind]} ({self.zones_trouble.detail})"


_REASONS: Final[Mapping[LoadFailureKind, str]] = {
    "away": "NetBox does not answer properly",
    "refused": "NetBox refuses, or lacks something",
    "unexpected": "NetBox's answer was not expected",
}


async def health_state(app: web.Application) -> HealthState:
    """The state of the parts of the service now."""
    services = app[SERVICES]
    storage = await app[PROBE].problem()
    if storage is None and not services.prepared:
        storage = services.preparation
    return HealthState(
        storage=storage,
        zones=(services.zones.source or "storage") if services.zones.loaded else None,
        zones_age_seconds=services.zones.age_seconds,
        zones_trouble=services.zones.trouble,
        netbox_away=services.netbox.away,
        netbox_problems=[
            *netbox_problems(services.zones.field_problems, services.netbox.refused_field),
            *(
                f"the token may not view {kind}: new addresses do not avoid them (netbox.ip_addresses)"
                for kind in (services.space.refused if services.space is not None else ())
            ),
        ],
        pool=services.pools,
        background=services.alive(),
    )


def netbox_problems(found: Sequence[str], refused: str | None) -> Sequence[str]:
    """Why NetBox refuses new prefixes: found in its definitions, else by its latest refusal."""
    return found or ([refused] if refused else [])


def readiness(state: HealthState) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer of `/readyz`.

    A service without NetBox is ready: it serves all existing registrations.
    """
    age = state.zones_age_seconds
    report = {
        "storage": state.storage or "ok",
        "zones": state.zones or "not loaded",
        "zones_age_seconds": None if age is None else int(age),
        "netbox": state.netbox,
        "degraded": state.degraded(),
    }
    if missing := state.missing():
        message = "not ready: " + "; ".join(missing)
        return 503, {"code": "not_ready", "message": message, "status": "not ready", **report}
    return 200, {"status": "ready", **report}


def in_words(report: dict[str, Any]) -> str:
    """The body of an answer of `/readyz` as one line, for `systemctl status`."""
    return "; ".join([report.get("message", report["status"]), *report["degraded"]])
