"""A configuration over one store, and its commands, run in this process or as processes of their own."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.cli import main as cli
from ipam_lib.crypto import Cipher, KeySet
from ipam_lib.storage.documents import Document
from tests.storage.backends import Backend
from tests.support.processes import write_config

LEGACY_KEYS = (Path(__file__).parents[1] / "data" / "legacy" / "secrets.json").read_text()
NEW_KEYS = json.dumps({"enc_key": "n" * 32, "enc_iv": "i" * 16})
NO_NETBOX = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON value."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Standard output in lines."""
        return self.out.splitlines()


class Installation:
    """See the module. Its keys are those of the earlier service's samples."""

    def __init__(
        self,
        directory: Path,
        backend: Backend,
        storage: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.directory = directory
        self.backend = backend
        self.storage = storage
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.configure()

    def configure(self, netbox_url: str = NO_NETBOX, **sections: Any) -> Path:
        """Write the configuration anew."""
        sections = {"logging": {"directory": "logs"}} | sections
        self.config = write_config(self.directory, netbox_url, self.storage, **sections)
        (self.directory / "secrets.json").write_text(LEGACY_KEYS)
        (self.directory / "new.json").write_text(NEW_KEYS)
        return self.config

    def keys(self, **encryption: str) -> None:
        """Have the section `encryption_secrets` say this."""
        content = json.loads(self.config.read_text())
        content["encryption_secrets"] = encryption
        self.config.write_text(json.dumps(content))

    def cipher(self, file: str = "secrets.json", **options: Any) -> Cipher:
        """What seals with the keys in a file."""
        return Cipher(KeySet.from_json((self.directory / file).read_text()), **options)

    def run(self, *arguments: str, stdin: str | bytes = "") -> Outcome:
        """Run a command in this process; its standard input is no terminal."""
        given = io.BytesIO(stdin.encode() if isinstance(stdin, str) else stdin)
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given, "utf-8"))
        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        self._capsys.readouterr()
        try:
            status = cli.main(["--config", str(self.config), *arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
            logging.captureWarnings(False)
        said = self._capsys.readouterr()
        return Outcome(status, said.out, said.err)

    def seed(self, *documents: Document) -> None:
        """Put documents there as they are."""
        self.backend.seed(documents)

    def raw(self, registration_id: str) -> Document:
        """A document as it stands there."""
        found = self.backend.raw(registration_id)
        assert found is not None
        return found

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of the log."""
        path = self.directory / "logs" / "ipam-api.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def everything_written(self) -> str:
        """The text of all log files."""
        return "".join(path.read_text() for path in sorted((self.directory / "logs").glob("*")))


def document(number: int, **fields: Any) -> Document:
    """A document of the earlier service's form, with the least that a command needs."""
    return {
        "_id": f"{0x6C000000_00000000_00000000 + number:024x}",
        "zone": "inet",
        "address": f"192.0.2.{number}/32",
        "ip_family": "ipv4",
        "netbox_id": number,
        "services": [],
        **fields,
    }


def by_address(documents: Iterable[Document]) -> dict[str, Document]:
    """Documents by their address."""
    return {one["address"]: one for one in documents}
