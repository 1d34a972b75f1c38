"""The simulator answers as real instances of five versions did: every committed exchange is sent to it, in order."""

from __future__ import annotations

import ipaddress
import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import pytest

from netbox_simulator import VERSIONS, NetBoxModel, Response
from netbox_simulator.catalog import BY_PATH, KINDS
from netbox_simulator.state import Prefix
from tests.netbox.transcripts import difference

DIRECTORY: Final = Path(__file__).parents[1] / "data" / "netbox-versions"
TOKENS: Final = {
    name: f"{number:040x}"
    for number, name in enumerate(("admin", "ipam", "nodelete", "viewonly", "readonly", "tagged", "wrong"), 10)
}
EVERYTHING: Final = ("view", "add", "change", "delete")
BASE: Final = "http://netbox.example.com"
RECORDED_BASE: Final = re.compile(r"http://127\.0\.0\.1:80\d\d")
CHILDREN: Final = 2500

# Why an exchange is not compared. Only what IPAM-API never sends may stand here.
LEFT_OUT: Final = {
    "next, empty list": "IPAM-API sends no empty list",
    "the same, asking for HTML": "IPAM-API asks for JSON",
    "a path outside the API that is not there": "IPAM-API stays inside the API",
}
# What the answers of two NetBoxes differ in: times, and the software around NetBox.
OF_THE_MACHINE: Final = {
    *("created", "last_updated", "hostname", "installed_apps", "installed-apps", "django-version", "csrf"),
}


def load(version: str) -> list[dict[str, Any]]:
    """The exchanges of a version."""
    exchanges: list[dict[str, Any]] = json.loads((DIRECTORY / f"{version}.json").read_text("utf-8"))["exchanges"]
    return exchanges


class Replay:
    """A model with the content that the instance had, and the exchanges with it."""

    def __init__(self, version: str) -> None:
        self.version = VERSIONS[version.rpartition(".")[0]]
        self.exchanges = load(version)
        self.model = NetBoxModel(version=self.version, tokens=[TOKENS["admin"]], rng=random.Random(1))
        self._by_note = {each["note"]: each for each in reversed(self.exchanges)}
        self._fill()
        self._make_users()

    def _rows(self, note: str) -> list[dict[str, Any]]:
        body = self._by_note[note]["response"]["json"]
        rows: list[dict[str, Any]] = body.get("results", [body])
        return rows

    def _uuids_of_children(self) -> dict[int, str]:
        """The `k8s_uuid` of children by id, as far as the recording shows them."""
        by_id = {}
        for exchange in self.exchanges:
            body = exchange["response"].get("json")
            for row in body["results"] if isinstance(body, dict) and "results" in body else ():
                if "prefix" in row and row.get("custom_fields", {}).get("k8s_uuid"):
                    by_id.setdefault(row["id"], row["custom_fields"]["k8s_uuid"])
        first = self._rows("list by id__gte, ordering=id, page 1")[0]["id"]
        query = parse_qsl(self._by_note["50 uuids in one URL, loose, ordering=id"]["request"]["path"])
        asked = [value for name, value in query if name.endswith("cf_k8s_uuid")]
        return by_id | {first + number: uuid for number, uuid in enumerate(asked)}

    def _fill(self) -> None:
        looked_up = {
            "choice-set": "choice set by name",
            "custom-field": "custom fields listing",
            "tag": "tag by name",
            "vrf": "vrf by name",
            "tenant": "tenant by name",
            "role": "role by name",
        }
        state = self.model.state
        for kind, note in looked_up.items():
            for shown in self._rows(note):
                given = self.version.given(shown, kind)
                values = {each.name: _stored(given[each.name]) for each in KINDS[kind].fields if each.name in given}
                state.put(kind, KINDS[kind].defaults() | values | {"id": shown["id"]})
        zones = {1: "inet", 2: "inet", 3: "hnet-private", 4: "hnet-public", 5: "tiny", 6: "hnet-public"}
        containers = {1: "83.118.168.0/24", 2: "2a0d:1::/64", 3: "10.10.0.0/16", 4: "10.20.0.0/16", 5: "10.40.0.0/30"}
        for prefix_id, text in {**containers, 6: "172.20.0.0/24"}.items():
            self._put(prefix_id, text, zones[prefix_id], status="container", vrf=None if prefix_id == 6 else 1)
        first = self._rows("list by id__gte, ordering=id, page 1")[0]["id"]
        uuids = self._uuids_of_children()
        address = ipaddress.ip_address("10.10.1.0")
        for number in range(CHILDREN):
            uuid = uuids.get(first + number, f"child-{number}")
            self._put(first + number, f"{address + number}/32", "hnet-private", uuid, vrf=1)

    def _put(self, prefix_id: int, text: str, zone: str, uuid: str | None = None, **values: Any) -> None:
        network = ipaddress.ip_network(text)
        fields = {"infra": None, "k8s_uuid": uuid, "k8s_zone": zone}
        stamp = "2026-11-27T21:21:52.000000Z"
        self.model.state.put_prefix(
            Prefix(
                id=prefix_id,
                family=network.version,
                first=int(network.network_address),
                length=network.prefixlen,
                tenant=1,
                role=1,
                custom_fields=fields,
                created=stamp,
                last_updated=stamp,
                **values,
            )
        )

    def _make_users(self) -> None:
        for name, rights, constraints in (
            ("ipam", {"ipam.prefix": EVERYTHING, "extras.customfieldchoiceset": ("view",), "extras.tag": ("view",)}, 0),
            ("nodelete", {"ipam.prefix": EVERYTHING[:3]}, None),
            ("viewonly", {"ipam.prefix": EVERYTHING[:1]}, None),
            ("readonly", {"ipam.prefix": EVERYTHING}, None),
            ("tagged", {"ipam.prefix": EVERYTHING}, [{"tags__name": "vitistack"}, {"status": "container"}]),
        ):
            user = self._admin("users", username=name, password="Svc-Passw0rd-123")["id"]
            for object_type, actions in rights.items():
                right = {"object_types": [object_type], "actions": actions, "constraints": constraints or None}
                self._admin("permissions", name=f"{name} {object_type}", users=[user], **right)
            self._admin("tokens", user=user, version=1, token=TOKENS[name], write_enabled=name != "readonly")

    def _admin(self, path: str, **body: Any) -> Any:
        headers = {"Authorization": f"Token {TOKENS['admin']}"}
        answer = self.model.handle("POST", f"/api/users/{path}/", headers=headers, body=body)
        assert answer.status == 201, answer.body
        return answer.json()

    def send(self, exchange: dict[str, Any]) -> Response:
        """The simulator's answer to a recorded request."""
        request = exchange["request"]
        headers = self._headers(request["as"], exchange["note"])
        recorded = exchange["response"].get("json")
        if exchange["response"]["status"] == 201 and recorded:
            # Ids in between went to requests that were refused, or not recorded.
            first = (recorded if isinstance(recorded, list) else [recorded])[0]["id"]
            path = "/".join(request["path"].split("/")[2:4])
            kind = BY_PATH[path].name if path in BY_PATH else "prefix"
            self.model.state.sequences[kind] = first - 1
        body = request["body"]
        return self.model.handle(request["method"], request["path"], headers=headers, body=body, base=BASE)

    def _headers(self, user: str, note: str) -> dict[str, str]:
        headers = {}
        if user == "v2":
            headers["Authorization"] = f"{'Token' if 'under Token' in note else 'Bearer'} nbt_KEYKEYKEYKEY.{'s' * 40}"
        elif user != "nobody":
            keyword = "Bearer" if note.startswith("keyword Bearer") else "Token"
            headers["Authorization"] = f"{keyword} {TOKENS[user]}"
        if "with Content-Type" in note or note == "next, not JSON":
            headers["Content-Type"] = "application/json"
        if "If-Match" in note:
            stale = "of nothing" in note or "old If-Match" in note
            headers["If-Match"] = 'W/"2020-01-01T00:00:00+00:00"' if stale else "*"
        return headers

    def check(self, exchange: dict[str, Any]) -> None:
        """Assert that the simulator answers as the instance did."""
        answer, recorded, note = self.send(exchange), exchange["response"], exchange["note"]
        assert answer.status == recorded["status"], f"{note}: {answer.body!r}"
        headers = {name.lower(): value for name, value in answer.headers.items()}
        for name in ("content-type", "api-version", "location"):
            expected = recorded["headers"].get(name)
            if name == "location" and expected:
                expected = RECORDED_BASE.sub(BASE, expected)
            if name != "content-type" or recorded.get("json"):
                assert headers.get(name) == expected, f"{note}: {name}"
        assert ("etag" in headers) == ("etag" in recorded["headers"]), f"{note}: etag"
        if "title" in recorded:
            assert f"<title>{recorded['title']}".encode() in answer.body, note
        elif "json" in recorded:
            wanted = _comparable(json.loads(RECORDED_BASE.sub(BASE, json.dumps(recorded["json"]))))
            actual = _comparable(_in_brief(answer.json(), wanted))
            assert actual == wanted, f"{note}:\n{difference(actual, wanted)}"


def _stored(value: Any) -> Any:
    """A value as the simulator stores it, made from what NetBox shows."""
    if isinstance(value, Mapping):
        return value["id"] if "id" in value else value.get("value")
    return value


def _in_brief(body: Any, wanted: Any) -> Any:
    """A page in the form of the trimmed recordings."""
    if isinstance(wanted, dict) and "last" in wanted:
        results = body["results"]
        return {
            **body,
            "results": results[: len(wanted["results"])],
            "last": {name: results[-1][name] for name in wanted["last"]},
        }
    return body


def _comparable(value: Any) -> Any:
    """The value without what differs from one NetBox to the next."""
    if isinstance(value, dict):
        return {name: None if name in OF_THE_MACHINE else _comparable(each) for name, each in value.items()}
    return [_comparable(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("version", [one.full for one in VERSIONS.values()])
def test_every_recorded_exchange(version: str) -> None:
    replay = Replay(version)
    compared = 0
    for exchange in replay.exchanges:
        if exchange["note"] not in LEFT_OUT:
            replay.check(exchange)
            compared += 1
    assert compared > 200


def test_what_is_left_out_was_recorded() -> None:
    recorded = {exchange["note"] for version in VERSIONS.values() for exchange in load(version.full)}
    assert recorded >= LEFT_OUT.keys()
    assert {path.stem for path in DIRECTORY.glob("*.json")} == {one.full for one in VERSIONS.values()}
