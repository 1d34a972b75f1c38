"""Pages, orders and selections of fields of NetBox's list answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from netbox_simulator.state import State
from netbox_simulator.wire import ApiError, Reply, Request, Row

PAGE_SIZE = 50


def page(state: State, request: Request, ids: Sequence[int], render: Callable[[int], Row]) -> Reply:
    """One page of a list, by `limit` and `offset`, or by `start` (an id; then there is no count).

    `limit=0` and anything above MAX_PAGE_SIZE mean MAX_PAGE_SIZE; what is not a number counts as absent. `start` is
    new in NetBox 4.6.
    """
    start = request.value("start")
    limit = _limit(request, state.max_page_size)
    if start is not None and state.version.since("4.6"):
        return _page_from(request, ids, render, start, limit)
    offset = _number(request.value("offset")) or 0
    following = _link(request, limit, offset + limit) if offset + limit < len(ids) else None
    previous = _link(request, limit, offset - limit) if offset > 0 else None
    results = [render(each) for each in ids[offset : offset + limit]]
    return Reply(200, {"count": len(ids), "next": following, "previous": previous, "results": results})


def _page_from(request: Request, ids: Sequence[int], render: Callable[[int], Row], start: str, limit: int) -> Reply:
    if request.value("offset") is not None:
        raise ApiError(400, ["'start' and 'offset' are mutually exclusive."])
    if request.value("ordering"):
        raise ApiError(400, ["Ordering cannot be specified in conjunction with cursor-based pagination."])
    first = _number(start)
    if first is None:
        raise ApiError(400, ["Invalid 'start' parameter: must be a non-negative integer."])
    chosen = sorted(each for each in ids if each >= first)
    shown = chosen[:limit]
    following = None
    if len(chosen) > limit:
        following = _url(request, {"limit": str(limit), "start": str(shown[-1] + 1)})
    results = [render(each) for each in shown]
    return Reply(200, {"count": None, "next": following, "previous": None, "results": results})


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _limit(request: Request, largest: int) -> int:
    given = _number(request.value("limit"))
    if given is None:
        return min(PAGE_SIZE, largest)
    return largest if given == 0 else min(given, largest)


def _link(request: Request, limit: int, offset: int) -> str:
    return _url(request, {"limit": str(limit), "offset": str(offset) if offset > 0 else None})


def _url(request: Request, changes: dict[str, str | None]) -> str:
    pairs = [(name, value) for name, value in request.query if name not in changes]
    pairs += [(name, value) for name, value in changes.items() if value is not None]
    pairs.sort(key=lambda pair: pair[0])
    return f"{request.base}{request.path}?{urlencode(pairs)}"


def selected(state: State, request: Request, row: Row, brief: Sequence[str]) -> Row:
    """The object with only the fields that `fields`, `omit` or `brief` ask for. NetBox 3.7 knows only `brief`."""
    if request.value("brief"):
        return {name: row[name] for name in brief if name in row}
    if not state.version.since("4.2"):
        return row
    wanted = _names(request, "fields")
    if wanted is not None:
        return {name: value for name, value in row.items() if name in wanted}
    omitted = _names(request, "omit")
    if omitted is not None:
        return {name: value for name, value in row.items() if name not in omitted}
    return row


def _names(request: Request, parameter: str) -> set[str] | None:
    given = request.value(parameter)
    return set(given.split(",")) if given else None


def ordering(
    request: Request, known: Callable[[str], Callable[[int], Any] | None], ids: Sequence[int]
) -> Sequence[int]:
    """The ids sorted as `ordering` asks; an unknown name is ignored, and the default order stays."""
    given = request.value("ordering")
    if not given:
        return ids
    for name in reversed(given.split(",")):
        key = known(name.removeprefix("-"))
        if key is not None:
            ids = sorted(ids, key=key, reverse=name.startswith("-"))
    return ids
