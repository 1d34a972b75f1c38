"""The earlier service's sequence of calls, behind an HTTP handler of the same kind and over the same storage.

Written from a description of what it does:

- to register: GET the choice set, GET the containers of the zone, read the registration, GET available-prefixes of the
  container, POST available-prefixes, insert, PUT the prefix with `k8s_uuid`;
- to register again: the two GETs, a read and a write;
- to expire: the same two GETs (it checks the request before it does anything), a read and a write.

Its mistakes are left out, and so is the time that its own program takes. It has the indexes of this service, which it
lacks in truth.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

from ipam_lib.crypto import Cipher
from ipam_lib.ids import object_ids
from ipam_lib.models import Registration, Service, ServiceKey
from ipam_lib.storage.base import Store


class EarlierService:
    """The handlers. `store` and `session` are open."""

    def __init__(self, store: Store, session: aiohttp.ClientSession, netbox: str, token: str, cipher: Cipher) -> None:
        self._store = store
        self._session = session
        self._api = f"{netbox}/api"
        self._headers = {"Authorization": f"Token {token}"}
        self._cipher = cipher
        self._new_id = object_ids()

    def app(self) -> web.Application:
        """The application. `/read-and-write` is the part of an expiration that asks storage only."""
        app = web.Application()
        app.router.add_post("/", self.register)
        app.router.add_delete("/", self.expire)
        app.router.add_delete("/read-and-write", self.read_and_write)
        return app

    async def register(self, request: web.Request) -> web.Response:
        """Register, or register again."""
        body = await request.json()
        containers = await self._check(body)
        found = await self._read(body)
        if found is not None:
            await self._write(found, found.services[0])
            return _answer(found.address)
        for container in containers:
            if await self._netbox("GET", f"ipam/prefixes/{container['id']}/available-prefixes/"):
                break
        else:
            raise web.HTTPConflict
        made = await self._netbox("POST", f"ipam/prefixes/{container['id']}/available-prefixes/", {"prefix_length": 32})
        registration = Registration(
            id=self._new_id(),
            zone=body["zone"],
            ip_family=body["ip_family"],
            address=made["prefix"],
            secret=self._cipher.seal(body["secret"]),
            services=(Service(_key(body), body["service"].get("retention_period_days", 0)),),
            netbox_id=made["id"],
        )
        await self._store.insert(registration)
        fields = {"k8s_uuid": registration.id, "k8s_zone": registration.zone}
        await self._netbox("PUT", f"ipam/prefixes/{made['id']}/", {"prefix": made["prefix"], "custom_fields": fields})
        return _answer(registration.address)

    async def expire(self, request: web.Request) -> web.Response:
        """Expire a service."""
        await self._check(await request.json())
        return await self.read_and_write(request)

    async def read_and_write(self, request: web.Request) -> web.Response:
        """The same without NetBox."""
        body = await request.json()
        found = await self._read(body)
        if found is None:
            raise web.HTTPNotFound
        days = body["service"].get("retention_period_days", 0)
        await self._write(found, replace(found.services[0], expires_at=datetime.now(UTC) + timedelta(days=days)))
        return _answer(found.address)

    async def _check(self, body: dict[str, Any]) -> list[Any]:
        """Whether the zone is one; its containers."""
        choices = await self._netbox("GET", "extras/custom-field-choice-sets/?name=k8s_zone_choices")
        if body["zone"] not in [value for value, _ in choices["results"][0]["extra_choices"]]:
            raise web.HTTPBadRequest
        containers = await self._netbox("GET", f"ipam/prefixes/?cf_k8s_zone={body['zone']}&status=container")
        found: list[Any] = containers["results"]
        return found

    async def _read(self, body: dict[str, Any]) -> Registration | None:
        found = await self._store.find_service(
            secrets=[self._cipher.seal(body["secret"])],
            zone=body["zone"],
            ip_family=body["ip_family"],
            service=_key(body),
        )
        return found[0] if found else None

    async def _write(self, found: Registration, service: Service) -> None:
        if not await self._store.replace(found, found.changed(services=(service,))):
            raise web.HTTPConflict

    async def _netbox(self, method: str, path: str, body: Any = None) -> Any:
        async with self._session.request(
            method, f"{self._api}/{path}", json=body, headers=self._headers, raise_for_status=True
        ) as answer:
            return await answer.json()


def _key(body: dict[str, Any]) -> ServiceKey:
    service = body["service"]
    return ServiceKey(service["service_name"], service["namespace_id"], service["cluster_id"])


def _answer(address: str) -> web.Response:
    return web.json_response({"message": "done", "address": address})
