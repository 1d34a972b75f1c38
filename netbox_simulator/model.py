"""The simulated NetBox as one synchronous object: a request goes in, an answer comes out. No I/O of its own.

    model = NetBoxModel(tokens=["0123456789abcdef0123456789abcdef01234567"])
    answer = model.handle("GET", "/api/status/", headers={"Authorization": "Token 0123..."})

`handle` checks and writes in one go. `stage` stops between the two, where NetBox holds no lock: tests interleave
requests there, and so does the HTTP application when it simulates latency. With an injected clock and random source the
same calls give the same answers, byte for byte.
"""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

from netbox_simulator.access import NOT_PROVIDED, User, authenticate, ensure_admin
from netbox_simulator.changelog import Changelog
from netbox_simulator.events import Delivery, deliveries
from netbox_simulator.routes import ALLOCATE, Route, Router, check_right
from netbox_simulator.state import Change, Now, State
from netbox_simulator.versions import NEWEST, Version
from netbox_simulator.wire import (
    HTML_TYPE,
    JSON_TYPE,
    ApiError,
    Reply,
    Request,
    Response,
    Row,
    Unhandled,
    Write,
    html_page,
    make_request,
)

_VARY = "HX-Request, Accept-Language, Cookie, origin"
NO_OPERATION = "unknown"
MAX_DELIVERIES = 20_000


class Journal(Protocol):
    """Where changes are written down so that they survive the process."""

    def write(self, changes: list[Change], state: State) -> None:
        """Write the changes of one request, all or nothing, and return when they are safe."""
        ...

    def rewrite(self, state: State) -> None:
        """Forget what was written, and write the whole state."""
        ...


@dataclass(slots=True)
class Staged:
    """A request that was checked. `response` is None while its write remains to be done by `commit`."""

    operation: str
    response: Response | None
    _commit: Callable[[], Response] | None = None

    def commit(self) -> Response:
        """Do the write, if there is one, and give the answer. To be called once."""
        if self.response is None:
            assert self._commit is not None
            self.response = self._commit()
        return self.response


class NetBoxModel:
    """A NetBox with everything it holds.

    `tokens` (40 hex digits, or `nbt_KEY.SECRET`) belong to the superuser. `now` gives aware UTC times. `journal`
    gets each change before the answer is sent. `calls` counts the requests by operation. `deliveries` holds what event
    rules send, until the HTTP layer takes it.
    `version` is the NetBox version that it answers as.
    """

    def __init__(
        self,
        *,
        tokens: Iterable[str] = (),
        now: Now | None = None,
        rng: random.Random | None = None,
        enforce_global_unique: bool = True,
        journal: Journal | None = None,
        version: Version = NEWEST,
    ) -> None:
        self.state = State(now, rng, enforce_global_unique=enforce_global_unique, version=version)
        self.changelog = Changelog()
        self.tokens = frozenset(tokens)
        self.journal = journal
        self.calls: Counter[str] = Counter()
        self.deliveries: deque[Delivery] = deque(maxlen=MAX_DELIVERIES)
        self.router = Router(self.state, self.changelog)
        ensure_admin(self.state)
        self.flush()

    def add_tokens(self, tokens: Iterable[str]) -> None:
        """Let these tokens in too, as the superuser."""
        self.tokens |= frozenset(tokens)

    def handle(
        self,
        method: str,
        path: str,
        *,
        query: str | Mapping[str, str] | tuple[tuple[str, str], ...] = (),
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        base: str = "http://netbox.invalid",
        remote: str = "127.0.0.1",
    ) -> Response:
        """Answer one request at once. `body` is bytes, or anything that JSON can say."""
        request = make_request(method, path, query=query, headers=headers, body=body, base=base, remote=remote)
        return self.stage(request).commit()

    def operation(self, request: Request) -> str:
        """What the request is counted as, such as `prefixes.allocate`; `unknown` for what no view serves."""
        route = self.router.resolve(request.path)
        method = "GET" if request.method == "HEAD" else request.method
        return route.views[method][0] if route is not None and method in route.views else NO_OPERATION

    def exclusive(self, request: Request) -> bool:
        """Whether NetBox holds its advisory lock over the whole of this request."""
        return self.operation(request) == ALLOCATE

    def stage(self, request: Request) -> Staged:
        """Check a request. Reads and refusals are answered; a write is left to `Staged.commit`."""
        operation = self.operation(request)
        self.calls[operation] += 1
        request_id = self.state.request_id()
        version = self.state.version
        if not version.since("4.6"):
            request = replace(
                request, headers={name: value for name, value in request.headers.items() if name != "if-match"}
            )
        route = self.router.resolve(request.path)
        if route is None:
            return Staged(operation, self._lost(request, request_id))

        def guarded(step: Callable[[], Reply | Write]) -> Reply | Write:
            try:
                return step()
            except ApiError as error:
                return Reply(error.status, error.payload, error.headers)
            except Unhandled as error:
                return Reply(500, error.payload(self.state.version.full, self.state.version.python))

        username = ""

        def serve() -> Reply | Write:
            nonlocal username
            user = self._user(request, route)
            username = user.name
            return self._view(request, route, user, request_id)

        outcome = guarded(serve)
        if isinstance(outcome, Reply):
            return Staged(operation, _response(version, request, route, outcome, request_id))
        write = outcome

        def commit() -> Response:
            reply = guarded(write)
            assert isinstance(reply, Reply)
            changes = self.flush()
            self.deliveries += deliveries(self.router.prefixes, changes, request, request_id, username)
            return _response(version, request, route, reply, request_id)

        return Staged(operation, None, commit)

    def _view(self, request: Request, route: Route, user: User, request_id: str) -> Reply | Write:
        method = "GET" if request.method == "HEAD" else request.method
        check_right(self.state, user, route, method)
        if method == "OPTIONS":
            kinds = {"renders": [JSON_TYPE, "text/html"], "parses": [JSON_TYPE, "multipart/form-data"]}
            return Reply(200, {"name": route.title, "description": "", **kinds})
        if method not in route.views:
            raise ApiError(405, {"detail": f'Method "{request.method}" not allowed.'})
        data = _decoded(request) if method != "GET" else None
        return route.views[method][1](user, request, data, request_id)

    def _user(self, request: Request, route: Route) -> User:
        try:
            return authenticate(self.state, request, self.tokens)
        except ApiError as error:
            if route.anonymous and error.payload == {"detail": NOT_PROVIDED}:
                return User(0, "", superuser=False, writes=False)
            raise

    def _lost(self, request: Request, request_id: str) -> Response:
        """The answer for a path that NetBox does not have: an HTML page, or a redirect to the path with its slash."""
        headers = {"Content-Type": HTML_TYPE, "Vary": _VARY, "Content-Language": "en"}
        slashed = f"{request.path}/"
        reads = request.method in ("GET", "HEAD")
        if (reads or not self.state.version.since("4.5")) and self.router.resolve(slashed) is not None:
            query = "&".join(f"{name}={value}" for name, value in request.query)
            location = f"{slashed}?{query}" if query else slashed
            return Response(301, headers | {"Location": location}, b"")
        headers["X-Request-ID"] = request_id
        if self.state.version.since("4.4"):
            headers["API-Version"] = self.state.version.name
        return Response(404, headers, html_page("Page Not Found", "The page you requested does not exist."))

    def flush(self) -> list[Change]:
        """Hand what changed to the journal, and return it."""
        changes = self.state.take_changes()
        if self.journal is not None and changes:
            self.journal.write(changes, self.state)
        return changes

    def dump(self) -> Row:
        """Everything it holds, as JSON values (not the changelog and the counters)."""
        return self.state.dump()

    def load(self, dump: Mapping[str, Any]) -> None:
        """Replace everything by what `dump` gave, and forget changelog and counters."""
        self.state.load(dump)
        ensure_admin(self.state)
        self.changelog.clear()
        self.calls.clear()
        if self.journal is not None:
            self.journal.rewrite(self.state)


def _decoded(request: Request) -> Any:
    """The decoded body; an empty one counts as an empty object. Raises ApiError 415 or 400."""
    if not request.body:
        return {}
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != JSON_TYPE:
        raise ApiError(415, {"detail": f'Unsupported media type "{content_type}" in request.'})
    try:
        return json.loads(request.body.decode("utf-8"), parse_constant=_refuse_constant)
    except ValueError as error:
        raise ApiError(400, {"detail": f"JSON parse error - {error}"}) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"Out of range float values are not JSON compliant: {name!r}")


def _response(version: Version, request: Request, route: Route, reply: Reply, request_id: str) -> Response:
    is_json = request.headers.get("content-type", "").startswith(JSON_TYPE)
    headers = {"Vary": _VARY, "X-Request-ID": request_id, "Content-Language": "en"}
    if version.since("4.4") or is_json:
        headers["API-Version"] = version.name
    if reply.status != 500:
        headers["Allow"] = route.allow
    elif not version.since("4.4") and not is_json:
        return Response(500, headers | {"Content-Type": HTML_TYPE}, html_page("Server Error", "See the exception."))
    if reply.status == 404 and not version.since("4.2"):
        reply = Reply(404, {"detail": "Not found."})
    headers |= {name: value for name, value in reply.headers.items() if name != "ETag" or version.since("4.6")}
    if reply.payload is None:
        return Response(reply.status, headers, b"")
    headers["Content-Type"] = JSON_TYPE
    body = json.dumps(reply.payload, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(reply.status, headers, b"" if request.method == "HEAD" else body)
