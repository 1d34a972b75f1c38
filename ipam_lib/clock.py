"""The clock of the program. It is always injected, so a test can replay every order of events."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The wall clock, the monotonic clock, and waiting."""

    def now(self) -> datetime:
        """The wall clock: aware, UTC, whole milliseconds (the precision of a BSON date). It may jump in both
        directions."""
        ...

    def monotonic(self) -> float:
        """Seconds since a fixed moment. It never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


def whole_milliseconds(moment: datetime) -> datetime:
    """`moment` cut to the precision of a BSON date (https://bsonspec.org, type 0x09)."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class SystemClock:
    """The clock of the operating system."""

    def now(self) -> datetime:
        return whole_milliseconds(datetime.now(UTC))

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
