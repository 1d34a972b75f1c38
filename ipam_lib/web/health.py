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
    """The answer of a service that is ready."""

    status = fields.String(required=True, metadata={"description": "`ready` or `not ready`.", "example": "ready"})
    storage = fields.String(required=True, metadata={"description": "`ok`, or what is wrong with it.", "example": "ok"})
    zones = fields.String(
        required=True,
        metadata={
            "description": "Where the zones are from: `netbox`, `storage`, or `not loaded`.",
            "example": "netbox",
        },
    )
    netbox = fields.String(
        required=True,
        metadata={"description": "`ok`, or `away`: then only new addresses cannot be given out.", "example": "ok"},
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


def readiness(*, storage: str | None, zones: str | None, netbox_available: bool) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer.

    `storage`: what is wrong with it, None when nothing is. `zones`: where they are from, None while there are none.
    That NetBox is away is no reason not to be ready: whatever is registered is served without it.
    """
    netbox = "ok" if netbox_available else "away"
    missing = [f"storage: {storage}"] if storage else []
    if zones is None:
        missing.append("zones: not loaded from NetBox yet")
    report = {"storage": storage or "ok", "zones": zones or "not loaded", "netbox": netbox}
    if missing:
        return 503, {"message": "not ready: " + "; ".join(missing), "status": "not ready", **report}
    return 200, {"status": "ready", **report}


def in_words(report: dict[str, Any]) -> str:
    """The body of such an answer as one line, for `systemctl status`."""
    away = "; NetBox is away" if report["netbox"] != "ok" else ""
    return f"{report.get('message', report['status'])}{away}"
