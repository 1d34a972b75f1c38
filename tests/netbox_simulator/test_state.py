"""The state of the simulator outlives its process, however that ends; and sample data and files of zones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netbox_simulator import (
    SAMPLE_ZONES,
    FileJournal,
    NetBoxModel,
    StateInUseError,
    attach,
    checked_zones,
    open_sample,
    read_zones,
    sample_model,
)
from netbox_simulator.journal import FORMAT

TOKEN = "0123456789abcdef0123456789abcdef01234567"
HEADERS = {"Authorization": f"Token {TOKEN}"}
PREFIXES = "/api/ipam/prefixes/"
ROOT = Path(__file__).parents[2]


def call(model: NetBoxModel, method: str, path: str, body: Any = None) -> Any:
    answer = model.handle(method, path, headers=HEADERS, body=body)
    assert answer.status < 300, answer.body
    return answer.json() if answer.body else None


def change(model: NetBoxModel) -> None:
    """A change of every sort."""
    first = call(model, "POST", f"{PREFIXES}1/available-prefixes/", {"prefix_length": 32, "tags": [1]})
    call(model, "POST", f"{PREFIXES}1/available-prefixes/", [{"prefix_length": 32}, {"prefix_length": 31}])
    call(model, "POST", PREFIXES, {"prefix": "2a0d:a00::ffff:1/128", "vrf": 1, "custom_fields": {"k8s_uuid": "u1"}})
    call(model, "PATCH", f"{PREFIXES}{first['id']}/", {"description": "changed", "status": "reserved"})
    call(model, "DELETE", f"{PREFIXES}{first['id'] + 1}/")
    call(model, "POST", "/api/extras/tags/", {"name": "another", "slug": "another"})
    call(model, "DELETE", "/api/extras/tags/2/")


def test_the_state_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "directory" / "netbox.json"
    model, journal = open_sample(path, tokens=[TOKEN])
    change(model)
    before = model.dump()
    journal.close()
    again, journal = open_sample(path, tokens=[TOKEN])
    assert again.dump() == before
    # Ids go on where they were, also after the last ones were deleted.
    last = max(again.state.prefixes.rows)
    call(again, "DELETE", f"{PREFIXES}{last}/")
    journal.close()
    third, journal = open_sample(path, tokens=[TOKEN])
    created = call(third, "POST", PREFIXES, {"prefix": "83.118.168.77/32", "vrf": 1})
    assert created["id"] == last + 1
    assert call(third, "GET", f"{PREFIXES}?cf_k8s_uuid=u1&fields=id")["count"] == 0
    journal.close()
    assert path.stat().st_mode & 0o077 == 0, "it holds tokens"


def test_a_line_cut_short_is_dropped(tmp_path: Path) -> None:
    """A crash may leave any number of bytes of the last line; what was answered before it is whole."""
    path = tmp_path / "netbox.json"
    model, journal = open_sample(path, tokens=[TOKEN])
    call(model, "POST", PREFIXES, {"prefix": "83.118.168.1/32", "vrf": 1})
    whole = path.read_bytes()
    before = model.dump()
    call(model, "POST", PREFIXES, {"prefix": "83.118.168.2/32", "vrf": 1})
    last_line = path.read_bytes()[len(whole) :]
    journal.close()
    for length in (0, 1, len(last_line) // 2, len(last_line) - 1):
        path.write_bytes(whole + last_line[:length])
        again, journal = open_sample(path, tokens=[TOKEN])
        assert again.dump() == before
        journal.close()


CHILD = """
import sys
from pathlib import Path
from netbox_simulator import open_sample
model, journal = open_sample(Path(sys.argv[1]), {"z": {"ipv4": ["10.0.0.0/16"]}}, tokens=["t"])
while True:
    answer = model.handle("POST", "/api/ipam/prefixes/1/available-prefixes/",
                          headers={"Authorization": "Token t"}, body={"prefix_length": 32})
    print(answer.json()["prefix"], flush=True)
"""


def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "netbox.json"
    answered: set[str] = set()
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as child:
            assert child.stdout is not None
            for _ in range(25):
                answered.add(child.stdout.readline().strip())
            child.kill()
            # What it printed before it died was answered too; a last line may be cut short.
            answered.update(line.strip() for line in child.stdout.readlines() if line.endswith("\n"))
        model, journal = open_sample(path, tokens=["t"])
        there = {row.text for row in model.state.prefixes.rows.values()}
        assert answered <= there
        assert len(there) <= len(answered) + 1 + 3, "at most one unanswered for each death, and the container"
        journal.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "netbox.json"
    _, journal = open_sample(path)
    with pytest.raises(StateInUseError, match=r"netbox\.json"):
        open_sample(path)
    journal.close()
    open_sample(path)[1].close()


def test_something_else_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "precious.json"
    for content in ('{"my": "data"}\n', "[]\n", "not JSON\n"):
        path.write_text(content)
        with pytest.raises(ValueError):
            attach(NetBoxModel(), path)
        assert path.read_text() == content
    # The lock was given back each time.
    path.unlink()
    attach(NetBoxModel(), path).close()


def test_the_journal_is_rewritten_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netbox_simulator.journal._LINES", 5)
    path = tmp_path / "netbox.json"
    model, journal = open_sample(path, tokens=[TOKEN])
    longest = 0
    for _ in range(20):
        prefix = call(model, "POST", f"{PREFIXES}1/available-prefixes/", {"prefix_length": 32})
        call(model, "DELETE", f"{PREFIXES}{prefix['id']}/")
        longest = max(longest, len(path.read_bytes().splitlines()))
    assert longest == 6
    assert json.loads(path.read_bytes().splitlines()[0])["format"] == FORMAT
    before = model.dump()
    journal.close()
    assert open_and_dump(path) == before


def open_and_dump(path: Path) -> Any:
    model, journal = open_sample(path)
    journal.close()
    return model.dump()


def test_a_disk_that_fails_once_loses_nothing_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "netbox.json"
    failing = False

    def sync(descriptor: int) -> None:
        if failing:
            raise OSError("no space left")
        os.fsync(descriptor)

    model = sample_model(tokens=[TOKEN])
    journal = FileJournal(path, sync=sync)
    journal.rewrite(model.state)
    model.journal = journal
    failing = True
    with pytest.raises(OSError, match="no space left"):
        model.handle("POST", PREFIXES, headers=HEADERS, body={"prefix": "83.118.168.1/32", "vrf": 1})
    failing = False
    call(model, "POST", PREFIXES, {"prefix": "83.118.168.2/32", "vrf": 1})
    journal.close()
    assert open_and_dump(path) == model.dump()


def test_dump_and_load() -> None:
    model = sample_model(tokens=[TOKEN])
    change(model)
    dump = json.loads(json.dumps(model.dump()))
    other = NetBoxModel(tokens=[TOKEN])
    other.load(dump)
    assert other.dump() == model.dump()
    listing = f"{PREFIXES}?limit=0"
    assert call(other, "GET", listing) == call(model, "GET", listing)


def test_sample_data_has_what_ipam_api_needs() -> None:
    model = sample_model(tokens=[TOKEN])
    choices = call(model, "GET", "/api/extras/custom-field-choice-sets/?name=k8s_zone_choices")["results"][0]
    assert [value for value, _ in choices["extra_choices"]] == ["inet", "hnet-public", "hnet-private"]
    assert call(model, "GET", "/api/extras/tags/?name=vitistack")["count"] == 1
    fields = call(model, "GET", "/api/extras/custom-fields/?object_type=ipam.prefix")["results"]
    assert {each["name"]: each["type"]["value"] for each in fields} == {
        "k8s_zone": "select",
        **dict.fromkeys(("k8s_uuid", "infra", "domain", "env", "purpose"), "text"),
    }
    for zone, families in SAMPLE_ZONES.items():
        for family, containers in families.items():
            query = f"{PREFIXES}?cf_k8s_zone={zone}&status=container&family={family[-1]}"
            found = call(model, "GET", query)["results"]
            assert [each["prefix"] for each in found] == containers
            for each in found:
                assert each["vrf"]["name"] == "nhc"
                assert each["tenant"] is not None
                assert each["role"] is not None
    vrf = call(model, "GET", "/api/ipam/vrfs/1/")
    assert vrf["enforce_unique"] is True
    assert any(len(containers) > 1 for containers in SAMPLE_ZONES["inet"].values())


def test_zones_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "zones.json"
    zones = {
        "office": {
            "ipv4": ["10.0.0.0/24", {"prefix": "10.0.0.0/24", "vrf": "office", "tenant": "Acme & Sons", "role": None}],
            "ipv6": [{"prefix": "fd00::/64", "vrf": None}],
        }
    }
    path.write_text(json.dumps(zones))
    model = sample_model(read_zones(path), tokens=[TOKEN])
    found = call(model, "GET", f"{PREFIXES}?cf_k8s_zone=office&status=container")["results"]
    seen = [tuple(each[name]["name"] if each[name] else None for name in ("vrf", "tenant", "role")) for each in found]
    assert seen == [
        (None, "NHN", "Kubernetes LB"),
        ("nhc", "NHN", "Kubernetes LB"),
        ("office", "Acme & Sons", None),
    ]
    assert call(model, "GET", "/api/tenancy/tenants/?name=Acme %26 Sons".replace(" ", "+"))["results"][0]["slug"] == (
        "acme-sons"
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], "an object"),
        ({}, "an object"),
        ({"inet": []}, "ipv4 and ipv6"),
        ({"inet": {"ipv5": []}}, "ipv5"),
        ({"inet": {"ipv4": "10.0.0.0/8"}}, "list of containers"),
        ({"inet": {"ipv4": ["10.0.0.1/8"]}}, "host bits"),
        ({"inet": {"ipv4": ["fd00::/8"]}}, "not an ipv4 prefix"),
        ({"inet": {"ipv4": [{"vrf": "x"}]}}, "None"),
        ({"inet": {"ipv4": [{"prefix": "10.0.0.0/8", "vfr": "x"}]}}, "vfr"),
    ],
)
def test_wrong_zones_say_what_is_wrong(wrong: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checked_zones(wrong)


def test_importing_the_simulator_is_light() -> None:
    """The simulator runs as a process of its own: it needs neither the database driver nor the schemas."""
    code = (
        "import sys, netbox_simulator; "
        "print([name for name in ('motor', 'pymongo', 'marshmallow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
