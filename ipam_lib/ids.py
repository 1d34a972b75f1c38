"""IDs of registrations, and the spellings of UUIDs."""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Callable


def uuid_spellings(text: str) -> tuple[str, ...]:
    """The texts under which a UUID may be stored: as given, in lower case, in upper case. The services store a UUID as
    the client wrote it."""
    return tuple(dict.fromkeys((text, text.lower(), text.upper())))


def object_ids(seconds: Callable[[], float] = time.time) -> Callable[[], str]:
    """A source of new ObjectIds as 24 hex digits, made without MongoDB's driver: the seconds since 1970, a random
    number for each process, and a counter with a random start.

    https://www.mongodb.com/docs/manual/reference/bson-types/#objectid
    """
    process = b""
    process_id = 0
    counter = itertools.count(secrets.randbits(24))

    def new_id() -> str:
        nonlocal process, process_id
        if process_id != os.getpid():
            process_id, process = os.getpid(), secrets.token_bytes(5)
        parts = (int(seconds()).to_bytes(4, "big"), process, (next(counter) % (1 << 24)).to_bytes(3, "big"))
        return b"".join(parts).hex()

    return new_id
