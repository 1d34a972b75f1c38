"""`serve` and `simulate-netbox` as processes: both stores, restart, kill, signals, and what is wrong at the start."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import BEARER, TOKEN, Process, call, ready, run, running, until, write_config

SERVICE = {
    "service_name": "ingress_inet",
    "namespace_id": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0",
    "cluster_id": "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878",
}
BODY: dict[str, Any] = {"zone": "inet", "ip_family": "ipv4", "secret": "SuperSecret", "service": SERVICE}


@pytest.fixture
def netbox(tmp_path: Path) -> Iterator[Process]:
    with running("simulate-netbox", "--port", "0", "--token", TOKEN, cwd=tmp_path) as process:
        assert process.url
        yield process


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The sections of a configuration that say where to store."""
    if request.param == "sqlite":
        return {"storage": {"sqlite": "registrations.sqlite"}}
    uri: str = request.getfixturevalue("mongodb_uri")
    return {"mongodb": {"uri": uri, "database": request.getfixturevalue("mongodb_database")}}


def prefixes(netbox: Process) -> list[dict[str, Any]]:
    """What NetBox holds beside the containers."""
    status, rows = call("GET", f"{netbox.url}/simulator/prefixes", headers={"Authorization": f"Token {TOKEN}"})
    assert status == 200
    return [row for row in rows if row["status"] != "container"]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_what_was_registered_is_there_after_a_restart(
    tmp_path: Path, netbox: Process, storage: dict[str, Any], end: signal.Signals
) -> None:
    config = write_config(tmp_path, netbox.url, storage)
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        status, content = call("POST", service.url, BODY)
        assert (status, content["message"]) == (200, "Address registered successfully")
        address = content["address"]
        [prefix] = prefixes(netbox)
        assert prefix["prefix"] == address
        assert prefix["tags"] == ["vitistack"]
        assert prefix["custom_fields"]["k8s_zone"] == "inet"
        assert len(prefix["custom_fields"]["k8s_uuid"]) == 24
        status = service.stop(end)
        assert status == (-signal.SIGKILL if end == signal.SIGKILL else 0)
        assert "SuperSecret" not in "\n".join(service.errors)
        assert TOKEN not in "\n".join(service.errors)
    with running("--config", str(config), "serve", cwd=tmp_path) as service:
        assert ready(service.url)
        updated = {"message": "Address updated successfully", "address": address}
        assert call("POST", f"{service.url}/v2/address", BODY) == (200, updated)
        assert call("POST", service.url, BODY | {"address": address}) == (200, updated)
        status, content = call("DELETE", service.url, BODY)
        assert (status, content["address"]) == (200, address)
        status, content = call(
            "DELETE",
            f"{service.url}/v2/cluster",
            {"cluster_id": SERVICE["cluster_id"]},
            {"Authorization": f"Bearer {BEARER}"},
        )
        assert (status, content["expired"], content["denied"]) == (200, 1, 0)
        assert service.stop() == 0
    assert [row["prefix"] for row in prefixes(netbox)] == [address]


def test_expired_addresses_go_from_both_sides(tmp_path: Path, netbox: Process, storage: dict[str, Any]) -> None:
    config = write_config(tmp_path, netbox.url, storage, cleanup={"interval_seconds": 1})
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        _, registered = call("POST", service.url, BODY)
        assert call("DELETE", service.url, BODY)[0] == 200
        service.wait_until(lambda: any("cleaned up" in line and "released=1" in line for line in service.errors))
        assert prefixes(netbox) == []
        assert call("DELETE", service.url, BODY)[0] == 404
        assert call("POST", service.url, BODY) == (
            200,
            {"message": "Address registered successfully", "address": registered["address"]},
        )


def test_identical_requests_at_once_give_one_address(tmp_path: Path, netbox: Process, storage: dict[str, Any]) -> None:
    config = write_config(tmp_path, netbox.url, storage)
    answers: list[tuple[int, Any]] = []
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        threads = [threading.Thread(target=lambda: answers.append(call("POST", service.url, BODY))) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [status for status, _ in answers] == [200] * 20
    assert len({content["address"] for _, content in answers}) == 1
    assert len(prefixes(netbox)) == 1


def test_while_netbox_is_away_what_is_registered_is_served(
    tmp_path: Path, netbox: Process, storage: dict[str, Any]
) -> None:
    config = write_config(tmp_path, netbox.url, storage)
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        _, registered = call("POST", service.url, BODY)
        assert service.stop() == 0
    netbox.stop(signal.SIGKILL)
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        status, content = call("GET", f"{service.url}/readyz")
        assert (status, content["status"], content["zones"]) == (200, "ready", "storage")
        assert content["zones_age_seconds"] >= 0
        assert any(told.startswith("zones: those kept in storage") for told in content["degraded"])
        status, content = call("POST", service.url, BODY)
        assert (status, content["address"]) == (200, registered["address"])
        other = BODY | {"service": SERVICE | {"service_name": "another"}}
        status, content = call("POST", service.url, other)
        assert status == 503
        assert "NetBox" in content["message"]
        assert call("DELETE", service.url, BODY)[0] == 200
        assert service.stop() == 0


@pytest.mark.mongodb
def test_the_socket_listens_while_storage_and_netbox_are_away(tmp_path: Path, unused_port: int) -> None:
    storage = {"mongodb": {"uri": f"mongodb://127.0.0.1:{unused_port}", "database": "x"}}
    config = write_config(tmp_path, f"http://127.0.0.1:{unused_port}", storage)
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert call("GET", f"{service.url}/healthz") == (200, {"status": "ok"})
        status, content = call("GET", f"{service.url}/readyz")
        assert status == 503
        assert "storage" in content["message"]
        assert "zones" in content["message"]
        status, content = call("POST", service.url, BODY)
        assert (status, content["message"]) == (503, "the storage is not ready yet; try again")
        assert service.stop() == 0
        assert not any("Traceback" in line for line in service.errors)


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port on which nothing listens, and nothing will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_request_in_flight_is_finished_before_the_process_leaves(tmp_path: Path) -> None:
    with running("simulate-netbox", "--port", "0", "--token", TOKEN, cwd=tmp_path) as netbox:
        config = write_config(tmp_path, netbox.url, {"storage": {"sqlite": "registrations.sqlite"}})
        with running("serve", "--config", str(config), cwd=tmp_path) as service:
            assert ready(service.url)
            control = {"Authorization": f"Token {TOKEN}"}
            fault = {"method": "POST", "path": "*/available-prefixes/", "action": "hang", "applied": "before"}
            assert call("POST", f"{netbox.url}/simulator/faults", fault, control)[0] == 201
            answers: list[tuple[int, Any]] = []
            client = threading.Thread(target=lambda: answers.append(call("POST", service.url, BODY)))
            client.start()
            assert until(lambda: call("GET", f"{netbox.url}/simulator/faults", headers=control)[1]["hanging"])
            service.process.send_signal(signal.SIGTERM)
            service.wait_until(lambda: any("finishing the requests in progress" in line for line in service.errors))
            assert call("DELETE", f"{netbox.url}/simulator/faults", None, control)[0] == 204
            assert service.wait() == 0
            client.join()
        assert answers[0][0] == 200
        assert [row["prefix"] for row in prefixes(netbox)] == [answers[0][1]["address"]]


def test_a_second_signal_ends_it_at_once(tmp_path: Path, netbox: Process) -> None:
    config = write_config(tmp_path, netbox.url, {"storage": {"sqlite": "registrations.sqlite"}})
    with running("serve", "--config", str(config), cwd=tmp_path) as service:
        assert ready(service.url)
        control = {"Authorization": f"Token {TOKEN}"}
        fault = {"method": "POST", "path": "*/available-prefixes/", "action": "hang", "applied": "never"}
        assert call("POST", f"{netbox.url}/simulator/faults", fault, control)[0] == 201

        def hangs() -> None:
            with pytest.raises(OSError):
                call("POST", service.url, BODY)

        client = threading.Thread(target=hangs)
        client.start()
        assert until(lambda: call("GET", f"{netbox.url}/simulator/faults", headers=control)[1]["hanging"])
        service.process.send_signal(signal.SIGTERM)
        service.wait_until(lambda: any("finishing the requests in progress" in line for line in service.errors))
        assert service.stop() == 1
        client.join()


def test_a_taken_port_is_one_line(tmp_path: Path, netbox: Process) -> None:
    config = write_config(tmp_path, netbox.url, {"storage": {"sqlite": "registrations.sqlite"}})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, err = run("serve", "--config", str(config), "--port", str(port), cwd=tmp_path)
        assert (status, out) == (1, "")
        assert err == f"ipam.py: cannot listen on 127.0.0.1 port {port}: another process listens there already"
        status, out, err = run("simulate-netbox", "--port", str(port), cwd=tmp_path)
        assert (status, out) == (1, "")
        assert err.startswith(f"ipam.py: cannot listen on 127.0.0.1 port {port}: ")
        assert len(err.splitlines()) == 1


def test_a_bad_configuration_lists_every_problem(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"netbox": {"url": 7}, "server": {"port": "x"}}))
    status, out, err = run("serve", cwd=tmp_path)
    assert (status, out) == (78, "")
    assert "netbox.url" in err
    assert "server.port" in err
    assert "Traceback" not in err
    status, _, err = run("serve", "--config", "nowhere.json", cwd=tmp_path)
    assert status == 78
    assert "nowhere.json" in err


def test_an_unknown_setting_is_a_warning(tmp_path: Path, netbox: Process) -> None:
    config = write_config(tmp_path, netbox.url, {"storage": {"sqlite": "registrations.sqlite"}}, frobnicate={"x": 1})
    with running("serve", cwd=tmp_path, env={"IPAM_CONFIG": str(config)}) as service:
        assert service.url
        assert any("WARNING" in line and "frobnicate" in line for line in service.errors)


def test_options_win_over_the_configuration(tmp_path: Path, netbox: Process) -> None:
    write_config(tmp_path, netbox.url, {"storage": {"sqlite": "registrations.sqlite"}}, server={"port": 1})
    options = ("--host", "127.0.0.2", "--port", "0", "--log-dir", "elsewhere")
    with running("serve", *options, cwd=tmp_path) as service:
        assert service.url.startswith("http://127.0.0.2:")
        assert call("GET", f"{service.url}/healthz")[0] == 200


def test_the_simulator_takes_zones_and_keeps_its_state(tmp_path: Path) -> None:
    zones = tmp_path / "zones.json"
    zones.write_text(json.dumps({"lab": {"ipv4": ["10.0.0.0/30"]}}))
    arguments = ("simulate-netbox", "--port", "0", "--zones", str(zones), "--state", "state", "--token", TOKEN)
    with running(*arguments, "--netbox-version", "4.2", cwd=tmp_path) as netbox:
        config = write_config(tmp_path, netbox.url, {"storage": {"sqlite": "registrations.sqlite"}})
        status, _, err = run(*arguments, cwd=tmp_path)
        assert status == 1
        assert "another process uses" in err
        with running("serve", "--config", str(config), cwd=tmp_path) as service:
            assert ready(service.url)
            status, content = call("POST", service.url, BODY)
            assert status == 400
            assert content["errors"]["zone"] == ["invalid zone 'inet', must be one of: 'lab'"]
            assert call("POST", service.url, BODY | {"zone": "lab"})[1]["address"] == "10.0.0.0/32"
        netbox.stop(signal.SIGKILL)
    with running(*arguments, cwd=tmp_path) as netbox:
        assert [row["prefix"] for row in prefixes(netbox)] == ["10.0.0.0/32"]
        headers = {"Authorization": f"Token {TOKEN}"}
        assert call("GET", f"{netbox.url}/api/status/", headers=headers)[1]["netbox-version"] == "4.2.9"
        assert netbox.stop() == 0
    zones.write_text('{"lab": {"ipv4": ["garbage"]}}')
    status, _, err = run(*arguments, cwd=tmp_path)
    assert status == 1
    assert "zone lab" in err


def test_the_simulator_makes_a_token_when_it_is_given_none(tmp_path: Path) -> None:
    with running("simulate-netbox", "--port", "0", cwd=tmp_path) as netbox:
        line: str = netbox.wait_until(lambda: next((line for line in netbox.lines if "token: " in line), None))
        token = line.removeprefix("token: ")
        status, _ = call("GET", f"{netbox.url}/api/status/", headers={"Authorization": f"Token {token}"})
        assert status == 200
        assert call("GET", f"{netbox.url}/api/status/", headers={"Authorization": f"Token {TOKEN}"})[0] == 403
