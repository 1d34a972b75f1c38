"""The history's part of the store in memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime

from ipam_lib.models import Tenure
from ipam_lib.storage.documents import Document
from ipam_lib.storage.history_store import HistoryPosition, HistoryStore, to_document, to_tenure


class MemoryHistory(HistoryStore):
    """Tenures as documents, by id."""

    @abstractmethod
    def _history(self) -> dict[str, Document]:
        """The tenures; raises StorageUnavailable while the store is closed."""

    async def history_insert(self, tenures: Sequence[Tenure]) -> None:
        for one in tenures:
            self._history().setdefault(one.id, to_document(one))

    async def history_page(
        self, *, address: str, zone: str | None, before: HistoryPosition | None, limit: int
    ) -> list[Tenure]:
        places = sorted(
            (HistoryPosition(document["until"], one) for one, document in self._history().items()), reverse=True
        )
        found = [to_tenure(self._history()[place.id]) for place in places if before is None or place < before]
        return [one for one in found if one.address == address and zone in (None, one.zone)][:limit]

    async def history_prune(self, *, before: datetime, limit: int) -> int:
        places = sorted(HistoryPosition(document["until"], one) for one, document in self._history().items())
        doomed = [place.id for place in places if place.until < before][:limit]
        for one in doomed:
            del self._history()[one]
        return len(doomed)
