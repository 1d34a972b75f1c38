"""IP addresses and IP ranges answer as the recorded NetBox instances did (tests/data/netbox-space)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from netbox_simulator import NetBoxModel

RECORDINGS = sorted((Path(__file__).parents[1] / "data" / "netbox-space").glob("*.json"))
ADMIN, NOBODY = "a" * 40, "b" * 40
NOW = datetime(2026, 11, 28, tzinfo=UTC)
# What is told of an object, besides hosts, times and what one version has and another has not.
COMPARED = ("id", "address", "start_address", "end_address", "size", "status", "role", "family", "display")


def comparable(answer: Any) -> Any:
    if isinstance(answer, dict) and "results" in answer:
        return {"count": answer["count"], "results": [comparable(one) for one in answer["results"]]}
    if isinstance(answer, dict) and "id" in answer:
        vrf = answer.get("vrf") and answer["vrf"]["id"]
        return {name: answer[name] for name in COMPARED if name in answer} | ({"vrf": vrf} if "vrf" in answer else {})
    return answer


def fields_of(path: str) -> set[str] | None:
    query = dict(pair.split("=") for pair in urlsplit(path).query.split("&") if pair)
    return set(query["fields"].split(",")) if "fields" in query else None


def only(answer: Any, fields: set[str] | None) -> Any:
    """What was asked for: NetBox 3.7 ignores `fields` and answers whole objects."""
    if fields is None or not isinstance(answer, dict) or "results" not in answer:
        return answer
    kept = [{name: value for name, value in one.items() if name in fields} for one in answer["results"]]
    # Without `ordering`, 4.2 sorts by network and mask, the others by address.
    kept.sort(key=lambda one: one["id"])
    return answer | {"results": kept}


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_the_recorded_exchanges(recording: Path) -> None:
    model = NetBoxModel(tokens=[ADMIN], now=lambda: NOW)
    admin = {"Authorization": f"Token {ADMIN}"}
    for path, body in (
        ("ipam/vrfs", {"name": "nhc", "rd": "65000:1"}),
        ("users/users", {"username": "nobody", "password": "nobody"}),
        ("users/tokens", {"user": 2, "version": 1, "token": NOBODY}),
    ):
        assert model.handle("POST", f"/api/{path}/", headers=admin, body=body).status == 201
    exchanges = json.loads(recording.read_text())
    assert len(exchanges) == 20
    for exchange in exchanges:
        url = urlsplit(exchange["path"])
        token = NOBODY if exchange["status"] == 403 else ADMIN
        answer = model.handle(
            exchange["method"],
            url.path,
            query=url.query,
            headers={"Authorization": f"Token {token}"},
            body=exchange["body"],
        )
        fields = fields_of(exchange["path"])
        assert answer.status == exchange["status"], exchange["note"]
        found = comparable(only(answer.json(), fields))
        assert found == comparable(only(exchange["answer"], fields)), exchange["note"]
