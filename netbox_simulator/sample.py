"""Sample data: the choice set, custom fields, tag, tenant, role, VRF and containers that IPAM-API needs of a NetBox.

A file of zones, for `simulate-netbox --zones PATH`, is a JSON object:

    {"inet": {"ipv4": ["83.118.168.0/24"], "ipv6": ["2a0d:a00::/64"]},
     "office": {"ipv4": [{"prefix": "10.0.0.0/24", "vrf": "office", "tenant": "Acme", "role": "Servers"}]}}

Each zone becomes a choice of `k8s_zone_choices`. A container is its prefix, or an object with `prefix` and, if wanted,
`vrf`, `tenant` and `role` (names; created as needed; null for none, a `vrf` of null for the global table). What is not
given is the sample's: VRF `nhc`, tenant `NHN`, role `Kubernetes LB`.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netbox_simulator.catalog import KINDS
from netbox_simulator.journal import FileJournal, attach
from netbox_simulator.kinds import CHOICE_SET, CUSTOM_FIELD, ROLE, TAG, TENANT, VRF
from netbox_simulator.model import NetBoxModel
from netbox_simulator.state import PREFIX, Prefix, stamp
from netbox_simulator.validation import parse_network
from netbox_simulator.versions import Version

Zones = Mapping[str, Mapping[str, list[Any]]]

TAG_NAME = "vitistack"
CHOICES_NAME = "k8s_zone_choices"
_DEFAULTS = {VRF: "nhc", TENANT: "NHN", ROLE: "Kubernetes LB"}
_TEXT_FIELDS = ("k8s_uuid", "infra", "domain", "env", "purpose")
_SHARED_FIELDS = {"infra": "prod", "domain": "example.com", "env": "prod", "purpose": "kubernetes"}

SAMPLE_ZONES: Zones = {
    "inet": {
        "ipv4": ["83.118.168.0/24", "83.118.169.0/24"],
        "ipv6": ["2a0d:a00::/64", "2a0d:a00:0:1::/64"],
    },
    "hnet-public": {"ipv4": ["100.64.0.0/24"], "ipv6": ["2001:db8:1::/64"]},
    "hnet-private": {"ipv4": ["10.10.0.0/22"], "ipv6": ["fd00:10::/64"]},
}


def read_zones(path: Path) -> Zones:
    """The zones of a file. Raises OSError, or ValueError that says what is wrong with it."""
    return checked_zones(json.loads(path.read_text("utf-8")))


def checked_zones(data: Any) -> Zones:
    """`data` if it has the form of a file of zones. Raises ValueError that says what is wrong."""
    if not isinstance(data, Mapping) or not data:
        raise ValueError("zones: an object with a member for each zone is expected")
    for zone, families in data.items():
        if not isinstance(families, Mapping):
            raise ValueError(f"zone {zone}: an object with ipv4 and ipv6 is expected")  # noqa: TRY004
        for family, containers in families.items():
            if family not in ("ipv4", "ipv6") or not isinstance(containers, list):
                raise ValueError(f"zone {zone}: {family} is not ipv4 or ipv6 with a list of containers")
            for container in containers:
                _check_container(zone, family, container)
    return data


def _check_container(zone: str, family: str, container: Any) -> None:
    text = container.get("prefix") if isinstance(container, Mapping) else container
    try:
        network = ipaddress.ip_network(str(text))
    except ValueError as error:
        raise ValueError(f"zone {zone}: {error}") from None
    if f"ipv{network.version}" != family:
        raise ValueError(f"zone {zone}: {text} is not an {family} prefix")
    unknown = set(container) - {"prefix", VRF, TENANT, ROLE} if isinstance(container, Mapping) else set()
    if unknown:
        raise ValueError(f"zone {zone}: {text} has unknown members: {', '.join(sorted(unknown))}")


def populate(model: NetBoxModel, zones: Zones = SAMPLE_ZONES) -> None:
    """Fill an empty model with everything that IPAM-API needs, and these zones."""
    choices = _add(model, CHOICE_SET, name=CHOICES_NAME, extra_choices=[[zone, zone] for zone in zones])
    field = {"object_types": ["ipam.prefix"]}
    _add(model, CUSTOM_FIELD, name="k8s_zone", type="select", choice_set=choices, **field)
    for name in _TEXT_FIELDS:
        _add(model, CUSTOM_FIELD, name=name, **field)
    _add(model, TAG, name=TAG_NAME, slug=TAG_NAME, color="2196f3")
    for zone, families in zones.items():
        for containers in families.values():
            for container in containers:
                _add_container(model, zone, container)
    model.flush()


def sample_model(zones: Zones = SAMPLE_ZONES, **options: Any) -> NetBoxModel:
    """A model with the sample data; `options` are those of `NetBoxModel`."""
    model = NetBoxModel(**options)
    populate(model, zones)
    return model


def open_sample(
    path: Path, zones: Zones | None = SAMPLE_ZONES, *, version: Version | None = None, **options: Any
) -> tuple[NetBoxModel, FileJournal]:
    """A model that keeps its state at `path`. A new state gets the sample data, or nothing if `zones` is None.

    `version`: the NetBox version from now on; None for that of the state. `options` are those of `NetBoxModel`. Close
    the journal at the end. Raises StateInUseError when another process has it open, ValueError when the file is
    something else.
    """
    model = NetBoxModel(**options)
    journal = attach(model, path)
    if version is not None:
        model.state.version = version
        journal.rewrite(model.state)
    if zones is not None and not model.state.rows(CHOICE_SET):
        populate(model, zones)
    return model, journal


def _add(model: NetBoxModel, kind: str, **values: Any) -> int:
    state = model.state
    now = stamp(state.now())
    row = KINDS[kind].defaults() | values | {"id": state.next_id(kind), "created": now, "last_updated": now}
    state.put(kind, row)
    return int(row["id"])


def _named(model: NetBoxModel, kind: str, container: Mapping[str, Any]) -> int | None:
    """The id of the VRF, tenant or role that a container names, created if it is new."""
    name = container.get(kind, _DEFAULTS[kind])
    if name is None:
        return None
    rows = model.state.rows(kind)
    for row in rows.values():
        if row["name"] == name:
            return int(row["id"])
    if kind == VRF:
        return _add(model, VRF, name=name, rd=f"65000:{len(rows) + 1}", enforce_unique=True)
    return _add(model, kind, name=name, slug=re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"))


def _add_container(model: NetBoxModel, zone: str, given: Any) -> None:
    container: Mapping[str, Any] = given if isinstance(given, Mapping) else {"prefix": given}
    network = parse_network(container["prefix"])
    assert network is not None
    state = model.state
    now = stamp(state.now())
    state.put_prefix(
        Prefix(
            id=state.next_id(PREFIX),
            family=network[0],
            first=network[2],
            length=network[3],
            vrf=_named(model, VRF, container),
            tenant=_named(model, TENANT, container),
            role=_named(model, ROLE, container),
            status="container",
            custom_fields={"k8s_zone": zone, "k8s_uuid": None, **_SHARED_FIELDS},
            created=now,
            last_updated=now,
        )
    )
