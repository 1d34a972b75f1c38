"""Things that go wrong on purpose: what a broken NetBox, proxy or network does to chosen requests."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

ACTIONS = ("status", "html", "garbage", "disconnect", "delay", "hang")
APPLIED = ("never", "before", "after")

# What the fault does to the request itself unless it says so.
_USUAL = {"delay": "after"}


@dataclass(slots=True)
class Fault:
    """One fault, for the next `times` requests that match (after letting `skip` of them pass).

    `method` (`*` for any), `path` (a shell pattern, matched against the path without its query) and `contains` (a text
    in the body) choose the requests. `action`:

    - `status`: answer `status` with the JSON `{"detail": ...}`; `html`: the same with an HTML page;
    - `garbage`: answer 200 with a body that is not JSON;
    - `disconnect`: cut the connection without an answer;
    - `delay`: wait `seconds` first;
    - `hang`: no answer until the faults are cleared.

    `applied` says what becomes of the request: `never` served; served `before` the fault (its reply is what gets lost);
    or served `after` it (a latecomer; only with `delay` and `hang`). `never` by default, `after` for a delay.
    """

    action: str
    method: str = "*"
    path: str = "*"
    contains: str = ""
    times: int = 1
    skip: int = 0
    status: int = 500
    seconds: float = 0.0
    applied: str = ""

    def __post_init__(self) -> None:
        self.applied = self.applied or _USUAL.get(self.action, "never")
        if self.action not in ACTIONS:
            raise ValueError(f"action must be one of {', '.join(ACTIONS)}")
        if self.applied not in APPLIED:
            raise ValueError(f"applied must be one of {', '.join(APPLIED)}")
        if self.applied == "after" and self.action not in ("delay", "hang"):
            raise ValueError("only a delay or a hang can be followed by the request")
        if self.action == "delay" and self.applied == "never":
            raise ValueError("a delayed request is always served")

    def matches(self, method: str, path: str, body: bytes) -> bool:
        """Whether the fault means this request."""
        if self.method not in ("*", method) or not fnmatchcase(path, self.path):
            return False
        return self.contains.encode() in body


class Faults:
    """The faults that wait for their requests, in the order in which they were added."""

    def __init__(self) -> None:
        self.pending: list[Fault] = []
        self.hit = 0
        self.hanging = 0
        self._released = asyncio.Event()

    def add(self, fault: Fault) -> None:
        """Have one more thing go wrong."""
        self.pending.append(fault)

    def take(self, method: str, path: str, body: bytes) -> Fault | None:
        """The fault for this request, used up once; None when it is to go well."""
        for fault in self.pending:
            if fault.matches(method, path, body):
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                if fault.times <= 0:
                    self.pending.remove(fault)
                self.hit += 1
                return fault
        return None

    async def hang(self) -> None:
        """Wait until the faults are cleared."""
        self.hanging += 1
        try:
            await self._released.wait()
        finally:
            self.hanging -= 1

    def clear(self) -> None:
        """Forget the faults, and let go of the requests that hang."""
        self.pending.clear()
        self._released.set()
        self._released = asyncio.Event()

    def as_json(self) -> dict[str, Any]:
        """What waits, what hangs, and how many requests were hit so far."""
        return {"pending": [asdict(fault) for fault in self.pending], "hanging": self.hanging, "hit": self.hit}
