"""A Go client that oapi-codegen generates from /openapi.json works against a running service, and reads every code."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.errors import CODES, StorageUnavailable
from ipam_lib.models import Registered, Request
from ipam_lib.netbox.base import Container
from ipam_lib.registry import Context, Registry
from ipam_lib.storage.sqlite import SQLiteStore
from tests.storage.samples import NOW
from tests.support.clock import FakeClock
from tests.support.not_run import skip_loudly
from tests.support.plain_netbox import PlainNetBox, PlainZones
from tests.support.processes import REPOSITORY
from tests.web.service import TOKEN, FakeStore, Service, service
from tests.web.test_codes import RAISED

GENERATOR = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.5.0"
# With its modules in the cache of the module proxy, a minute; a first build on a busy machine takes longer.
SECONDS_TO_BUILD = 900
# No operation answers these, or only after a wait of seconds; they have the same schema (tests/web/test_codes.py).
NOT_TRIED = {"invalid_http", "request_timeout", "too_many_connections", "expectation_failed", "compressed_body"}

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of tests/go_client over the generated client."""
    go = shutil.which("go")
    if go is None:
        skip_loudly("Go client", "no `go` on PATH; install Go 1.24 or newer")
    directory = tmp_path_factory.mktemp("go")
    shutil.copytree(REPOSITORY / "tests" / "go_client", directory, dirs_exist_ok=True)
    (directory / "openapi.json").write_text(json.dumps(asyncio.run(_specification())))
    for command in (["run", GENERATOR, "-config", "oapi-codegen.yaml", "openapi.json"], ["build", "-o", "client", "."]):
        done = subprocess.run(
            [go, *command], cwd=directory, capture_output=True, text=True, timeout=SECONDS_TO_BUILD, env=os.environ
        )
        if "dial tcp" in done.stderr or "no such host" in done.stderr:
            skip_loudly("Go client", "its modules cannot be downloaded")
        assert done.returncode == 0, done.stderr[-4000:]
    return directory / "client"


async def _specification() -> object:
    async with service() as running:
        return (await running.call("GET", "/openapi.json"))[1]


async def told(client: Path, running: Service, *commands: str) -> list[str]:
    """What the client prints for these commands."""
    process = await asyncio.create_subprocess_exec(
        str(client), running.url, TOKEN, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate("\n".join(commands).encode())
    assert process.returncode == 0, err.decode()
    return out.decode().splitlines()


async def test_it_registers_repeats_lists_and_expires(client: Path, tmp_path: Path) -> None:
    store, clock = SQLiteStore(tmp_path / "ipam.db"), FakeClock(NOW, auto=False)
    await store.open()
    containers = [Container(1, "10.0.0.0/8", "ipv4", "inet", 7)]
    ids = (f"{n:024x}" for n in itertools.count(1_000_000))
    cipher = Cipher(KeySet(b"0123456789abcdef", b"fedcba9876543210"))
    registry = Registry(
        Context(store, PlainNetBox(containers), PlainZones(containers), cipher, clock, lambda: next(ids))
    )
    async with service(real=registry, clock=clock, store=store) as running:
        lines = await told(
            client, running, "register web", "register web", "list", "expire web", "list", "expire other"
        )
    assert lines == [
        "Address registered successfully 10.0.0.0/32",
        "Address updated successfully 10.0.0.0/32",
        "10.0.0.0/32 web false",
        "Service expiration set successfully 10.0.0.0/32",
        "10.0.0.0/32 web true",
        "404 not_registered",
    ]


async def test_it_reads_every_code(client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: dict[str, Exception] = RAISED | {"internal_error": ValueError("odd")}
    # A registration answers any other code.
    not_registered = raised.pop("not_registered")

    async def register(request: Request, *, deadline: float | None = None) -> Registered:
        raise raised[request.key.service_name]

    expected = [f"{CODES[code].status} {code}" for code in raised]
    commands = [f"register {code}" for code in raised]
    elsewhere = {
        "expire other": "404 not_registered",
        "body {": "400 invalid_json",
        "body {}": "400 invalid_request",
        "body " + "x" * 70_000: "413 body_too_large",
        "zones": "401 unauthorized",
        "request GET /nowhere": "404 unknown_path",
        "request PUT /": "405 method_not_allowed",
        "request POST /netbox/webhook": "403 wrong_signature",
    }
    async with service(webhook_secret="s3cret") as running:
        monkeypatch.setattr(running.registry, "register", register)
        running.registry.error = not_registered
        assert await told(client, running, *commands, *elsewhere) == [*expected, *elsewhere.values()]
    async with service(store=FakeStore(trouble=StorageUnavailable())) as running:
        assert await told(client, running, "request GET /readyz") == ["503 not_ready"]
    assert {*raised, *(line.split()[1] for line in elsewhere.values()), "not_ready"} == CODES.keys() - NOT_TRIED
