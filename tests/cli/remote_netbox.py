"""A simulated NetBox in a process of its own, as commands find one, and its administrator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.processes import TOKEN, Process, call, running

SERVICE_TOKEN = "b" * 40
RIGHTS = {
    "ipam.prefix": ["view", "add", "change", "delete"],
    "extras.customfieldchoiceset": ["view"],
    "extras.tag": ["view"],
    "ipam.ipaddress": ["view"],
    "ipam.iprange": ["view"],
}


class RemoteNetBox:
    """See the module. `url` is where it is."""

    def __init__(self, process: Process) -> None:
        self.url = process.url
        self.process = process

    def reset(self) -> None:
        """As it was when it was started, without faults and latency."""
        self.admin("POST", "/simulator/reset")
        self.admin("PUT", "/simulator/latency", {"latency_ms": 0})

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """The superuser's request, which must succeed."""
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        status, content = call(method, f"{self.url}{path}", body, headers)
        assert status < 300, (method, path, status, content)
        return content

    def fault(self, action: str, **options: Any) -> None:
        """Have something go wrong, as often as it is asked for unless `times` says otherwise; see `Fault`."""
        self.admin("POST", "/simulator/faults", {"action": action, "times": 1000, **options})

    def user(self, **rights: Any) -> str:
        """A user with just these rights (`ipam__prefix=["view"]`), and its token."""
        return self.user_with({name.replace("__", "."): actions for name, actions in rights.items()})

    def user_with(self, rights: dict[str, Any], **token: Any) -> str:
        """The same; `token` are fields of the token."""
        user = self.admin("POST", "/api/users/users/", {"username": "ipam-svc", "password": "Svc-Passw0rd-123"})
        for number, (object_type, actions) in enumerate(rights.items()):
            body = {"name": f"right {number}", "object_types": [object_type], "actions": actions, "users": [user["id"]]}
            self.admin("POST", "/api/users/permissions/", body)
        self.admin("POST", "/api/users/tokens/", {"user": user["id"], "version": 1, "token": SERVICE_TOKEN, **token})
        return SERVICE_TOKEN

    def definition(self, kind: str, name: str) -> dict[str, Any]:
        """A choice set, custom field or tag of this name, as it is there."""
        found: list[dict[str, Any]] = self.admin("GET", f"/api/extras/{kind}/?name={name}")["results"]
        [one] = found
        return one

    def everything(self) -> Any:
        """All there is but prefixes, and how many of those."""
        kinds = ("custom-field-choice-sets", "custom-fields", "tags")
        return [self.admin("GET", f"/api/extras/{kind}/?limit=0") for kind in kinds], self.prefixes()

    def prefixes(self) -> Any:
        """Every prefix, in brief."""
        return self.admin("GET", "/simulator/prefixes")


@contextmanager
def remote_netbox(directory: Path, *options: str) -> Iterator[RemoteNetBox]:
    """One that is gone at the end."""
    with running("simulate-netbox", "--port", "0", "--token", TOKEN, *options, cwd=directory) as process:
        yield RemoteNetBox(process)
