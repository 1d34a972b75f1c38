"""Checks a MongoDB server, and what this service's user may do on it. It changes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import OperationFailure, PyMongoError

from ipam_lib.errors import StorageUnavailable
from ipam_lib.findings import Finding, error, ok, stays_here, warning
from ipam_lib.storage import mongo_queries as queries
from ipam_lib.storage.bulk_copy import CollectionKind
from ipam_lib.storage.mongo import MongoStore
from ipam_lib.storage.mongo_connection import FIRST_ID, UNAUTHENTICATED, UNAUTHORIZED
from ipam_lib.storage.mongo_uri import hosts, uses_tls

OLDEST: Final = (4, 4)
# What the service does, as MongoDB's privilege actions
# (https://www.mongodb.com/docs/manual/reference/privilege-actions/).
ACTIONS: Final = ("find", "insert", "update", "remove", "createIndex", "listIndexes")
# Measured with FerretDB 2 on two processors.
_FERRETDB_LIMIT: Final = (
    "it builds a unique index in a time that grows with the square of the documents (15 s for 8,000, ten minutes for"
    " 50,000) and answers little else meanwhile"
)
_ADVICE_FERRETDB: Final = (
    "use MongoDB if the database of the earlier service, or a backup to be restored, has more than 20,000 registrations"
)
_ADVICE_USER: Final = "give mongodb.username and mongodb.password_path, or user and password in mongodb.uri"
_ADVICE_RIGHTS: Final = "give the user the role readWrite on the database (db.grantRolesToUser)"


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of this service's user.

    - `user`: None if there is none, or the server does not tell.
    - `refused`: the missing actions, by collection.
    - `anonymous`: whether the connection has no user; None if the server does not tell.
    """

    user: str | None
    refused: Mapping[str, Sequence[str]]
    anonymous: bool | None = False


class MongoProbe(MongoStore):
    """The store, with checks of its server. Call `open` first."""

    async def findings(self) -> list[Finding]:
        """All findings. What one check cannot find out does not stop the others."""
        found = [self._transport_security()]
        try:
            await self.ping()
        except StorageUnavailable as problem:
            return [*found, _unreachable(problem)]
        found.append(ok("mongodb.connection", f"{', '.join(hosts(self._uri))} answers"))
        for check in (self._version, self._rights, self._indexes):
            try:
                found += await check()
            except StorageUnavailable as problem:
                found.append(error(f"mongodb.{check.__name__[1:]}", *_cause(problem)))
            if any(one.check == "mongodb.rights" and one.status == "error" for one in found):
                break  # looking at the indexes needs these rights
        return found

    def _transport_security(self) -> Finding:
        check = "mongodb.tls"
        if uses_tls(self._uri):
            return ok(check, "TLS")
        if all(map(stays_here, hosts(self._uri))):
            return ok(check, "no TLS, within this machine")
        advice = "give mongodb.uri with tls=true, and tlsCAFile where the authority is your own"
        return warning(check, "no TLS: what is stored can be read on its way", advice)

    async def _version(self) -> list[Finding]:
        check = "mongodb.version"
        about = await self.server()
        ferret = about.get("ferretdbVersion")
        if isinstance(ferret, str):
            advice = "use MongoDB: two requests at once may get one address, or lose one"
            return [warning(check, f"FerretDB {ferret}: its updates are not atomic", advice)]
        version = str(about.get("version", ""))
        number = re.match(r"(\d+)\.(\d+)", version)
        if number is not None and (int(number[1]), int(number[2])) < OLDEST:
            return [
                error(check, f"version {version} is too old", f"update it to {'.'.join(map(str, OLDEST))} or newer")
            ]
        if "ferretdb" in about:
            return [
                warning(check, f"FerretDB, which passes for MongoDB {version}: {_FERRETDB_LIMIT}", _ADVICE_FERRETDB)
            ]
        return [ok(check, f"MongoDB {version}")]

    async def _rights(self) -> list[Finding]:
        check = "mongodb.rights"
        names = [f"{self._collection_name}{kind}" for kind in CollectionKind]
        rights = await self._told_rights(names)
        refused = "; ".join(f"{', '.join(actions)} on {name}" for name, actions in rights.refused.items())
        if refused and rights.anonymous:
            message = f"the server has access control, and the configuration names no user: refused are {refused}"
            return [error(check, message, _ADVICE_USER)]
        if refused:
            return [error(check, f"the user may not {refused}", _ADVICE_RIGHTS)]
        found: list[Finding] = []
        if rights.anonymous and not all(map(stays_here, hosts(self._uri))):
            message = "the server has no access control: every client that reaches it can read and change everything"
            found.append(warning(check, message, f"switch it on in the server, then {_ADVICE_USER}"))
        subject = f"the user {rights.user}" if rights.user else "the service"
        actions = "read and write" if rights.anonymous is None else "read, write and make indexes"
        message = f"{subject} may {actions} in the database {self._database_name}"
        if rights.anonymous is None:
            message += "; whether also make indexes, the server does not say"
        return [*found, ok(check, message)]

    async def _told_rights(self, names: Sequence[str]) -> Rights:
        """The rights as the server tells them. Without a user, and if it does not tell, they are tried."""
        try:
            async with self._database("connectionStatus") as database:
                status = await database.command("connectionStatus", showPrivileges=True)
        except StorageUnavailable as problem:
            if not isinstance(problem.__cause__, OperationFailure):
                raise
            return Rights(None, await self._tried_rights(), anonymous=None)
        about = status.get("authInfo")
        about = about if isinstance(about, Mapping) else {}
        users, privileges = about.get("authenticatedUsers"), about.get("authenticatedUserPrivileges")
        if users and privileges:
            refused = {name: missing for name in names if (missing := _missing(privileges, self._database_name, name))}
            return Rights(str(users[0].get("user")), refused)
        return Rights(None, await self._tried_rights(), anonymous=None if users is None or users else True)

    async def _tried_rights(self) -> Mapping[str, Sequence[str]]:
        """The actions that the server refuses, by collection: tried with requests that find, change and delete
        nothing."""
        refused: dict[str, list[str]] = {}
        for kind in CollectionKind:
            for action in ("find", "update", "remove", "listIndexes"):
                if not await self._try(kind, action):
                    refused.setdefault(f"{self._collection_name}{kind}", []).append(action)
        return refused

    async def _try(self, kind: CollectionKind, action: str) -> bool:
        try:
            async with self._collection(kind, action) as collection:
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
            if isinstance(problem.__cause__, OperationFailure) and problem.__cause__.code == UNAUTHORIZED:
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
            async with self._collection(kind, "listIndexes") as collection:
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
        async with self._collection(CollectionKind.REGISTRATIONS, "aggregate") as collection:
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


def _unreachable(problem: StorageUnavailable) -> Finding:
    return error("mongodb.connection", *_cause(problem))


def _cause(problem: StorageUnavailable) -> tuple[str, str]:
    """What is wrong, and what to do about it."""
    cause = problem.__cause__
    if isinstance(cause, OperationFailure):
        if cause.code in UNAUTHENTICATED:
            advice = "are mongodb.username and the password in mongodb.password_path right, and is the user in admin?"
            return f"the server {problem.condition} ({problem.detail})", advice
        if cause.code == UNAUTHORIZED:
            return f"the user lacks a right ({problem.detail})", _ADVICE_RIGHTS
        return f"the server {problem.condition} ({problem.detail})", "the server's log says more"
    if isinstance(cause, PyMongoError):
        # Keep the addresses and the system's words; the driver goes on about time limits and topologies.
        words = re.split(r" \(configured timeouts|, Timeout: ", str(cause), maxsplit=1)[0]
        return words, "does it run, and are mongodb.uri, or host and port, and the TLS options right?"
    return problem.message, "does it run, and is it not overloaded?"
