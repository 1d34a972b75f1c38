"""`demo`: nothing to set up, and what was registered is there again."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.cli import demo
from ipam_lib.cli.exit_codes import CommandError
from ipam_lib.config import Settings
from ipam_lib.schemas import REGISTER_EXAMPLE
from tests.support.processes import Process, call, run, running


def demo_of(directory: Path, *more: str) -> tuple[str, ...]:
    return ("demo", "--data", str(directory), "--port", "0", *more)


def curl_lines(process: Process) -> list[str]:
    """The lines to paste, once all is printed."""
    process.wait_until(lambda: "Stop with Ctrl-C." in process.lines)
    return [line.strip() for line in process.lines if line.startswith("  curl ")]


def paste(line: str) -> tuple[int, Any]:
    """What a shell makes of a line: status and JSON body."""
    if shutil.which("curl") is None:
        words = subprocess.run(
            ["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        headers = dict([words[words.index("-H") + 1].split(": ", 1)]) if "-H" in words else {}
        return call(words[2], words[3], json.loads(words[words.index("-d") + 1]), headers)
    done = subprocess.run(
        ["sh", "-c", line + " -s -w '%{http_code}'"], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout[-3:]), json.loads(done.stdout[:-3])


def test_the_printed_lines_work_as_they_stand(tmp_path: Path) -> None:
    with running(*demo_of(tmp_path / "data"), cwd=tmp_path) as process:
        register, expire, cluster = curl_lines(process)
        assert paste(register) == (
            200,
            {"message": "Address registered successfully", "address": "83.118.168.0/32"},
        )
        assert paste(register)[1]["message"] == "Address updated successfully"
        assert paste(expire) == (
            200,
            {"message": "Service expiration set successfully", "address": "83.118.168.0/32"},
        )
        status, content = paste(cluster)
        assert (status, content["expired"]) == (200, 1)
        for path in ("/", "/readyz", "/swagger/index.html", "/swagger/doc.json"):
            assert call("GET", process.url + path)[0] == 200
        assert process.stop() == 0


@pytest.mark.parametrize("zone", ["inet", "hnet-public", "hnet-private"])
def test_every_zone_has_both_families(tmp_path: Path, zone: str) -> None:
    with running(*demo_of(tmp_path / "data"), cwd=tmp_path) as process:
        for family in ("ipv4", "ipv6"):
            body = REGISTER_EXAMPLE | {"zone": zone, "ip_family": family}
            status, content = call("POST", process.url, body)
            assert status == 200
            assert (":" in content["address"]) == (family == "ipv6")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_started_again_the_address_is_still_theirs(tmp_path: Path, end: signal.Signals) -> None:
    arguments = demo_of(tmp_path / "data")
    other = REGISTER_EXAMPLE | {"service": REGISTER_EXAMPLE["service"] | {"service_name": "another"}}
    with running(*arguments, cwd=tmp_path) as process:
        token = next(line for line in process.lines if line.startswith("Bearer token: ")) if process.url else ""
        first = call("POST", process.url, REGISTER_EXAMPLE)[1]["address"]
        process.stop(end)
    with running(*arguments, cwd=tmp_path) as process:
        assert call("POST", process.url, REGISTER_EXAMPLE) == (
            200,
            {"message": "Address updated successfully", "address": first},
        )
        # NetBox knows too that it is taken.
        assert call("POST", process.url, other)[1] == {
            "message": "Address registered successfully",
            "address": "83.118.168.1/32",
        }
        process.wait_until(lambda: token in process.lines)
        assert not any("WARNING" in line for line in process.errors)
        process.stop(end)
    with running(*arguments, "--reset", cwd=tmp_path) as process:
        assert call("POST", process.url, other)[1] == {
            "message": "Address registered successfully",
            "address": "83.118.168.0/32",
        }
        process.wait_until(lambda: "Stop with Ctrl-C." in process.lines)
        assert token not in process.lines


def test_keys_and_tokens_are_the_users_own(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(*demo_of(data), cwd=tmp_path) as process:
        curl_lines(process)
        for name in demo.SECRETS:
            assert stat.S_IMODE((data / name).stat().st_mode) == 0o600
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        keys = json.loads((data / "secrets.json").read_text())
        assert "\n".join(process.errors).count(keys["enc_key"]) == 0
        # What the demo runs on is a configuration like any other.
        settings, warnings = Settings.load(data / "config.json")
        assert warnings == []
        assert settings.auth.token is not None
        status, _, err = run(*demo_of(data), cwd=tmp_path)
        assert status == 1
        assert err == f"ipam.py: another demo uses {data} already; stop it, or choose another --data"


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, out, err = run("demo", "--data", "data", "--port", str(port), cwd=tmp_path)
    assert (status, out) == (1, "")
    assert err == f"ipam.py: cannot listen on 127.0.0.1 port {port}: another process listens there already"


def test_the_simulators_port_may_be_taken_by_the_next_run(tmp_path: Path) -> None:
    arguments = demo_of(tmp_path / "data")
    with running(*arguments, cwd=tmp_path) as process:
        curl_lines(process)
        process.stop()
    port = demo.last_port(tmp_path / "data")
    assert port > 0
    with socket.create_server(("127.0.0.1", port)), running(*arguments, cwd=tmp_path) as process:
        assert call("POST", process.url, REGISTER_EXAMPLE)[0] == 200


def test_a_directory_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, out, err = run(*demo_of(tmp_path / "file"), cwd=tmp_path)
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "cannot keep data in" in err
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "netbox.state").write_text("garbage\n")
    status, _, err = run(*demo_of(tmp_path / "data"), cwd=tmp_path)
    assert status == 1
    assert "--reset starts anew" in err
    assert len(err.splitlines()) == 1


def test_reset_removes_only_what_the_demo_made(tmp_path: Path) -> None:
    for name in (*demo.OURS, "letters.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "logs").mkdir()
    demo.reset(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"letters.txt", "logs"}
    demo.reset(tmp_path)


def test_where_the_data_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert demo.default_directory({}) == tmp_path / ".local/share/ipam-api/demo"
    assert demo.default_directory({"XDG_DATA_HOME": "relative"}) == tmp_path / ".local/share/ipam-api/demo"
    assert demo.default_directory({"XDG_DATA_HOME": "/data"}) == Path("/data/ipam-api/demo")

    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(CommandError, match="--data"):
        demo.default_directory({})


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"netbox": 7}', '{"netbox": {"url": "http://x:y"}}'])
def test_a_last_port_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert demo.last_port(tmp_path) == 0
