"""Checks a MongoDB server, and what this service's user may do on it. It changes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from pymongo.errors import OperationFailure, PyMongoError

from ipam_lib.errors import StorageUnavailable
from ipam_lib.findings import Finding, error, ok, stays_here, warning
from ipam_lib.storage import mongo_queries as queries
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.mongo import MongoStore
from ipam_lib.storage.mongo_connection import FIRST_ID

OLDEST: Final = (4, 4)
# What the service does, as MongoDB's privilege actions
# (https://www.mongodb.com/docs/manual/reference/privilege-actions/).
ACTIONS: Final = ("find", "insert", "update", "remove", "createIndex", "listIndexes")
_UNAUTHENTICATED: Final = {18, 8000}
_UNAUTHORIZED: Final = 13
_ADVICE_RIGHTS: Final = "give the user the role readWrite on the database (db.grantRolesToUser)"


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of this service's user.

    - `user`: None if the connection is not authenticated.
    - `refused`: the missing actions, by collection.
    - `told`: False if the server does not tell the rights, so that they were tried out.
    """

    user: str | None
    refused: Mapping[str, Sequence[str]]
    told: bool = True


class MongoProbe(MongoStore):
    """The store, with checks of its server. Call `open` first."""

    async def findings(self) -> list[Finding]:
        """All findings. What one check cannot find out does not stop the others."""
        found = [self._transport_security()]
        try:
            await self.ping()
        except StorageUnavailable as problem:
            return [*found, _unreachable(problem)]
        found.append(ok("mongodb.connection", f"{', '.join(_hosts(self._uri))} answers"))
        for look in (self._version, self._rights, self._indexes):
            try:
                found += await look()
            except StorageUnavailable as problem:
                found.append(error(f"mongodb.{look.__name__[1:]}", *_cause(problem)))
        return found

    def _transport_security(self) -> Finding:
        check = "mongodb.tls"
        if _uses_tls(self._uri):
            return ok(check, "TLS")
        if all(map(stays_here, _hosts(self._uri))):
            return ok(check, "no TLS, within this machine")
        advice = "give mongodb.uri with tls=true, and tlsCAFile where the authority is your own"
        return warning(check, "no TLS: what is stored can be read on its way", advice)

    async def _version(self) -> list[Finding]:
        check = "mongodb.version"
        about = await self.server()
        ferret = about.get("ferretdbVersion")
        if isinstance(ferret, str):
            advice = "use MongoDB, or FerretDB 2 or newer: two requests at once may get one address, or lose one"
            return [warning(check, f"FerretDB {ferret}: its updates are not atomic", advice)]
        version = str(about.get("version", ""))
        number = re.match(r"(\d+)\.(\d+)", version)
        if number is not None and (int(number[1]), int(number[2])) < OLDEST:
            return [
                error(check, f"version {version} is too old", f"update it to {'.'.join(map(str, OLDEST))} or newer")
            ]
        name = "FerretDB, which passes for MongoDB" if "ferretdb" in about else "MongoDB"
        return [ok(check, f"{name} {version}")]

    async def _rights(self) -> list[Finding]:
        check = "mongodb.rights"
        names = [f"{self._collection_name}{kind}" for kind in CollectionKind]
        rights = await self._told_rights(names) or await self._tried_rights()
        found: list[Finding] = []
        if rights.told and rights.user is None and not all(map(stays_here, _hosts(self._uri))):
            advice = "switch on access control on the server, and give mongodb.username and password_path"
            found.append(
                warning(check, "the server asks nobody who they are: whoever reaches it may do anything", advice)
            )
        if rights.refused:
            told = "; ".join(f"{', '.join(actions)} on {name}" for name, actions in rights.refused.items())
            return [*found, error(check, f"the user may not {told}", _ADVICE_RIGHTS)]
        who = f"the user {rights.user}" if rights.user else "the service"
        what = "read, write and make indexes" if rights.told else "read and write"
        message = f"{who} may {what} in the database {self._database_name}"
        if not rights.told:
            message += "; whether also make indexes, the server does not say"
        return [*found, ok(check, message)]

    async def _told_rights(self, names: Sequence[str]) -> Rights | None:
        """The rights as the server tells them; None if it does not."""
        try:
            async with self._database() as database:
                status = await database.command("connectionStatus", showPrivileges=True)
        except StorageUnavailable as problem:
            if isinstance(problem.__cause__, OperationFailure) and problem.__cause__.code != _UNAUTHORIZED:
                return None
            raise
        told = status.get("authInfo")
        about: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
        users = about.get("authenticatedUsers")
        if users is None:
            return None
        if not users:
            return Rights(None, {})
        privileges = about.get("authenticatedUserPrivileges")
        if not privileges:
            return None
        refused = {name: missing for name in names if (missing := _missing(privileges, self._database_name, name))}
        return Rights(str(users[0].get("user")), refused)

    async def _tried_rights(self) -> Rights:
        """The rights by requests that find, change and delete nothing."""
        refused: dict[str, list[str]] = {}
        for kind in CollectionKind:
            for action in ("find", "update", "remove", "listIndexes"):
                if not await self._try(kind, action):
                    refused.setdefault(f"{self._collection_name}{kind}", []).append(action)
        return Rights(None, refused, told=False)

    async def _try(self, kind: CollectionKind, action: str) -> bool:
        try:
            async with self._collection(kind) as collection:
                match action:
                    case "find":
                        await collection.find_one({"_id": FIRST_ID})
                    case "update":
                        await collection.update_one({"_id": FIRST_ID}, {"$set": {"revision": 0}})
                    case "remove":
                        await collection.delete_one({"_id": FIRST_ID})
                    case _:
                        await collection.index_information()
        except StorageUnavailable as problem:
            if isinstance(problem.__cause__, OperationFailure) and problem.__cause__.code == _UNAUTHORIZED:
                return False
            raise
        return True

    async def _indexes(self) -> list[Finding]:
        """The missing indexes of the collections that hold documents."""
        check = "mongodb.indexes"
        found: list[Finding] = []
        empty = True
        for kind, indexes in queries.COLLECTION_INDEXES.items():
            name = f"{self._collection_name}{kind}"
            async with self._collection(kind) as collection:
                present = await collection.index_information()
                documents = await collection.estimated_document_count()
            if not documents:
                continue
            empty = False
            clashing = [index for index in indexes if _clashes(index, present)]
            missing = [index.name for index in indexes if not queries.exists(index, present) and index not in clashing]
            found += [
                error(check, queries.clash(index, name, "IndexKeySpecsConflict"), "drop it, as said")
                for index in clashing
            ]
            if missing:
                message = f"{name} ({documents} documents) lacks {', '.join(missing)}"
                advice = "the service makes them when it starts; with many documents the first start takes longer"
                found.append(warning(check, message, advice))
            if kind is CollectionKind.REGISTRATIONS and queries.UNIQUE_INDEX.name in missing:
                found += await self._duplicates()
        if empty:
            return [ok(check, "nothing is stored yet: the service makes its indexes when it starts")]
        return found or [ok(check, "every index is there")]

    async def _duplicates(self) -> list[Finding]:
        """Addresses that are registered more than once, as databases of the earlier service may have them."""
        async with self._collection(CollectionKind.REGISTRATIONS) as collection:
            groups = await collection.aggregate(queries.DUPLICATES).to_list(None)
        if not groups:
            return []
        shown = ", ".join(f"{group['_id'].get('address')} in {group['_id'].get('zone')}" for group in groups[:5])
        more = f" and {len(groups) - 5} more" if len(groups) > 5 else ""
        advice = "nothing has to be done: the first registration of each counts, the others stay until they expire"
        return [warning("mongodb.duplicates", f"registered more than once: {shown}{more}", advice)]


def _missing(privileges: Sequence[Any], database: str, collection: str) -> list[str]:
    """The ACTIONS that no privilege gives (https://www.mongodb.com/docs/manual/reference/command/connectionStatus/)."""
    given: set[str] = set()
    for privilege in privileges:
        resource = privilege.get("resource", {})
        if resource.get("anyResource") or (
            resource.get("db") in ("", database) and resource.get("collection") in ("", collection)
        ):
            given.update(privilege.get("actions", ()))
    return [] if "anyAction" in given else [action for action in ACTIONS if action not in given]


def _clashes(index: queries.Index, present: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether an index of this name, or on these fields, exists in another form."""
    if queries.exists(index, present):
        return False
    keys = [(field, 1) for field in index.fields]
    return index.name in present or any([tuple(pair) for pair in info["key"]] == keys for info in present.values())


def _uses_tls(uri: str) -> bool:
    options = {name.lower(): values[-1].lower() for name, values in parse_qs(uri.partition("?")[2]).items()}
    given = options.get("tls", options.get("ssl"))
    # mongodb+srv means TLS unless it is switched off.
    return given == "true" if given is not None else uri.startswith("mongodb+srv:")


def _hosts(uri: str) -> list[str]:
    """The hosts in a connection string, without ports, user and password."""
    servers = re.split(r"[/?]", uri.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    return [re.sub(r":\d*$", "", server.replace("%2F", "/").replace("%2f", "/")) for server in servers.split(",")]


def _unreachable(problem: StorageUnavailable) -> Finding:
    return error("mongodb.connection", *_cause(problem))


def _cause(problem: StorageUnavailable) -> tuple[str, str]:
    """What is wrong, and what to do about it."""
    cause = problem.__cause__
    if isinstance(cause, OperationFailure):
        words = (cause.details or {}).get("codeName") or cause.code
        if cause.code in _UNAUTHENTICATED:
            advice = "are mongodb.username and the password in mongodb.password_path right, and is the user in admin?"
            return f"the server refuses the user or the password ({words})", advice
        if cause.code == _UNAUTHORIZED:
            return f"the user lacks a right ({words})", _ADVICE_RIGHTS
        return f"the server refused a request ({words})", "its own log says more"
    if isinstance(cause, PyMongoError):
        # Keep the addresses and the system's words; the driver goes on about time limits and topologies.
        words = re.split(r" \(configured timeouts|, Timeout: ", str(cause), maxsplit=1)[0]
        return words, "does it run, and are mongodb.uri, or host and port, and the TLS options right?"
    return problem.message, "does it run, and is it not overloaded?"
