"""The history's part of a store, as one instance of the crash machine reaches it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from ipam_lib.models import Tenure
from ipam_lib.storage.base import Store
from ipam_lib.storage.history_store import HistoryPosition, HistoryStore

T = TypeVar("T")


class FaultyHistory(HistoryStore):
    """Every call is a point."""

    _inner: Store

    @abstractmethod
    async def _call(self, name: str, apply: Callable[[], Awaitable[T]], *, write: bool = False) -> T:
        """One call of the store."""

    async def history_insert(self, tenures: Sequence[Tenure]) -> None:
        name = f"history_insert {[one.id for one in tenures]}"
        await self._call(name, lambda: self._inner.history_insert(tenures), write=True)

    async def history_page(
        self, *, address: str, zone: str | None, before: HistoryPosition | None, limit: int
    ) -> list[Tenure]:
        find = self._inner.history_page
        return await self._call("history_page", lambda: find(address=address, zone=zone, before=before, limit=limit))

    async def history_prune(self, *, before: datetime, limit: int) -> int:
        prune = self._inner.history_prune
        return await self._call("history_prune", lambda: prune(before=before, limit=limit), write=True)
