"""The recorded exchanges with a real NetBox, and how an answer of the simulator is compared with the recorded one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[1] / "data" / "netbox-transcripts"
# Placeholders of tokens, entity tags, and request ids.
REPLACED = re.compile(r'TOKEN(?:_[A-Z]+)*|W/"[^"]+"|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}')
RECORDED_BASE = re.compile(r"http://127\.0\.0\.1:800[01]")

# In the order in which they were recorded.
FILES = (
    *("00-populate", "01-status-and-auth", "02-choice-sets", "03-tags", "04-prefix-list-by-zone"),
    *("06-available-prefixes", "07-available-prefixes-exhaustion", "05-prefix-lookup", "08-post-prefix-specific"),
    *("09-patch-put", "10-bulk-patch-delete", "11-find-by-cf-and-tag", "12-etag-ifmatch-changelog"),
    *("11b-text-cf-exact-lookups", "13-minimal-permissions", "14-webhook", "20-page-size-cap", "18-what-blocks-space"),
    *("08b-global-table-not-unique", "23-unique-custom-field-and-request-id", "19-lookups-vrf-tenant-role"),
)

# What differs from one NetBox to the next, or from one minute to the next. Times are checked for their form.
TIMES = {"created", "last_updated", "date_joined", "time"}
OF_THE_MACHINE = {"hostname", "installed_apps", "django-version"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")
ETAG = re.compile(r'W/"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00"')
CUT_TO_TWO = "results cut to 2 in this file"
MAX_PAGE_SIZE = 1000


@dataclass(frozen=True)
class Exchange:
    """One recorded request and answer."""

    file: str
    index: int
    note: str
    request: dict[str, Any]
    response: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.file}[{self.index}] {self.request['method']} {self.request['path']} ({self.note})"


def load(file: str) -> list[Exchange]:
    """The exchanges of a file, in order."""
    data = json.loads((DIRECTORY / f"{file}.json").read_text("utf-8"))
    return [
        Exchange(file, index, each["note"], each["request"], each["response"])
        for index, each in enumerate(data["exchanges"])
    ]


@dataclass
class Comparison:
    """Turns recorded values into those of this run, and checks answers against the recording."""

    base: str
    tokens: dict[str, str]
    etags: dict[str, str] = field(default_factory=dict)
    request_ids: dict[str, str] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """A recorded text with base, tokens, entity tags and request ids of this run in place of the recorded ones."""
        known = self.tokens | self.etags | self.request_ids
        return REPLACED.sub(lambda match: known.get(match[0], match[0]), RECORDED_BASE.sub(self.base, text))

    def check(self, exchange: Exchange, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Assert that the answer is the recorded one, but for what differs from run to run."""
        recorded = exchange.response
        assert status == recorded["status"], f"{exchange.name}: {body!r}"
        self._check_headers(exchange, headers)
        if "json" in recorded:
            actual = json.loads(body)
            expected = json.loads(self.here(json.dumps(recorded["json"])))
            if exchange.note == CUT_TO_TWO:
                assert len(actual["results"]) == MAX_PAGE_SIZE, exchange.name
                actual["results"] = actual["results"][:2]
            same, wanted = _comparable(actual, expected), _comparable(expected, expected)
            assert same == wanted, f"{exchange.name}:\n{difference(same, wanted)}"
        elif "title" in recorded:
            assert f"<title>{recorded['title']}</title>".encode() in body, exchange.name
        else:
            assert body == b"", exchange.name

    def _check_headers(self, exchange: Exchange, headers: Mapping[str, str]) -> None:
        recorded = exchange.response["headers"]
        for name in ("Allow", "API-Version", "Content-Type"):
            if name in recorded:
                assert headers.get(name) == recorded[name], f"{exchange.name}: {name}"
        assert headers.get("Location") == (self.here(recorded["Location"]) if "Location" in recorded else None)
        assert ("ETag" in headers) == ("ETag" in recorded), f"{exchange.name}: ETag"
        if "ETag" in recorded:
            assert ETAG.fullmatch(headers["ETag"]), exchange.name
            self.etags.setdefault(recorded["ETag"], headers["ETag"])
            assert self.etags[recorded["ETag"]] == headers["ETag"], f"{exchange.name}: ETag"
        assert ("X-Request-ID" in headers) == ("X-Request-ID" in recorded), exchange.name
        if "X-Request-ID" in recorded:
            self.request_ids[recorded["X-Request-ID"]] = headers["X-Request-ID"]


def difference(actual: Any, expected: Any, where: str = "") -> str:
    """The first place where two JSON values differ, for the message of a failure."""
    if isinstance(actual, dict) and isinstance(expected, dict) and set(actual) == set(expected):
        pairs = [(f"{where}.{key}", actual[key], expected[key]) for key in expected]
    elif isinstance(actual, list) and isinstance(expected, list) and len(actual) == len(expected):
        pairs = [(f"{where}[{index}]", *pair) for index, pair in enumerate(zip(actual, expected, strict=True))]
    else:
        pairs = []
    inside = [difference(own, other, place) for place, own, other in pairs if own != other]
    return inside[0] if inside else f"{where}: {actual!r} instead of {expected!r}"


def _comparable(value: Any, expected: Any, name: str = "") -> Any:
    """The value without what differs from run to run, in the shape of what is expected."""
    if name in OF_THE_MACHINE:
        return "of the machine"
    if isinstance(value, dict):
        if "more_results" in expected if isinstance(expected, dict) else False:
            value = _cut(value, len(expected["results"]))
        members = expected if isinstance(expected, dict) else {}
        shown = {key: _comparable(each, members.get(key), key) for key, each in value.items()}
        # Entries of the changelog are numbered over everything that ever happened, recorded or not.
        return shown | (dict.fromkeys(("id", "url", "display_url")) if "prechange_data" in shown else {})
    if isinstance(value, list):
        others = expected if isinstance(expected, list) else []
        each_of = [
            _comparable(each, others[index] if index < len(others) else None, name) for index, each in enumerate(value)
        ]
        # NetBox gives the object types of a permission in the order of a table of its own.
        return sorted(each_of) if name == "object_types" else each_of
    if name in TIMES and isinstance(value, str):
        assert TIME.fullmatch(value), value
        return "a time"
    if name == "request_id":
        return "a request id"
    return value


def _cut(answer: dict[str, Any], whole: int) -> dict[str, Any]:
    """A list answer in the form of the trimmed recordings."""
    if "more_results" in answer:
        return answer
    brief = [{"id": each["id"], "prefix": each["prefix"]} for each in answer["results"][whole:]]
    return {**answer, "results": answer["results"][:whole], "more_results": brief}
