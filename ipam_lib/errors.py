"""The exceptions of the service, as one tree. A class has the HTTP status of its answer; its text is the message.

IPAMError                        500
├── BadRequest                   400
│   ├── UnknownZone
│   ├── AddressOutsideZone
│   └── NoContainers
├── Unauthorized                 401
├── WrongSecret                  403
├── NotFound                     404
│   └── AnotherSecret
├── Conflict                     409
│   ├── AddressTaken
│   ├── AddressHeld
│   ├── SecretShared
│   ├── ZoneFull
│   └── StillInFlight
├── RequestTooSlow               408
├── PayloadTooLarge              413
├── UnsupportedEncoding          415
├── TooManyAttempts              429
└── Unavailable                  503
    ├── StorageUnavailable
    └── NetBoxError
        ├── NetBoxUnavailable
        ├── NetBoxRejected
        │   └── DuplicatePrefix
        ├── ContainerFull
        └── ContainerGone

StoreConflict                    for the registry only
ConfigError                      for the command line
└── CannotListen
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime


class IPAMError(Exception):
    """The root of the tree. `message`: the text for the client; it never contains a secret."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(IPAMError):
    """The request is not valid, or cannot be fulfilled as it is. `errors`: the problems of each field, by name."""

    status = 400

    def __init__(self, message: str, errors: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(message)
        self.errors = errors


class UnknownZone(BadRequest):
    """The zone is not in NetBox's choice set."""

    def __init__(self, zone: str, known: Sequence[str]) -> None:
        choices = ", ".join(f"'{name}'" for name in known)
        text = f"invalid zone '{zone}', must be one of: {choices}"
        super().__init__(text, {"zone": [text]})


class AddressOutsideZone(BadRequest):
    """No container prefix of the zone contains the address."""

    def __init__(self, address: str, zone: str) -> None:
        text = f"the requested address {address} is not inside any container prefix of zone '{zone}'"
        super().__init__(text, {"address": [text]})


class NoContainers(BadRequest):
    """The zone has no container prefix of this family."""

    def __init__(self, zone: str, ip_family: str) -> None:
        text = f"zone '{zone}' has no container prefixes for {ip_family}"
        super().__init__(text, {"ip_family": [text]})


class Unauthorized(IPAMError):
    """The bearer token is missing or wrong."""

    status = 401


class WrongSecret(IPAMError):
    """The address is registered under another secret."""

    status = 403

    def __init__(self) -> None:
        super().__init__("no matching address found with the provided secret, zone and address")


class NotFound(IPAMError):
    """There is no such registration or service."""

    status = 404


class AnotherSecret(NotFound):
    """The address is registered, but not under this secret. The answer is the same as for an address that is not
    registered."""

    def __init__(self) -> None:
        super().__init__(WrongSecret().message)


class Conflict(IPAMError):
    """The request conflicts with the current state."""

    status = 409


class AddressTaken(Conflict):
    """A prefix in NetBox that is not registered here covers the address."""

    def __init__(self, address: str, by: str) -> None:
        super().__init__(f"address {address} is already taken in NetBox by {by}, which is not registered here")


class AddressHeld(Conflict):
    """The address was released a short time ago and is in its cooldown."""

    def __init__(self, address: str, until: datetime) -> None:
        super().__init__(f"address {address} was released a short while ago and is cooling down until {_moment(until)}")


class SecretShared(Conflict):
    """The secret can be replaced only while the requesting service is the only one on the address."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the secret of {address} can only be replaced while the requesting service is the only one on it"
        )


class ZoneFull(Conflict):
    """Every container of the zone is full. `cooling`: the number of addresses in their cooldown. `until`: the end of
    the first of these cooldowns."""

    def __init__(self, zone: str, ip_family: str, *, cooling: int = 0, until: datetime | None = None) -> None:
        message = f"no free {ip_family} address left in zone '{zone}'"
        if cooling and until is not None:
            held = "1 address is cooling down" if cooling == 1 else f"{cooling} addresses are cooling down, the first"
            message += f"; {held} until {_moment(until)}"
        super().__init__(message)


class StillInFlight(Conflict):
    """An identical request was still running at the deadline of this one."""

    def __init__(self) -> None:
        super().__init__("an identical request is still in flight; try again")


class RequestTooSlow(IPAMError):
    """The body did not arrive in time."""

    status = 408


class UnsupportedEncoding(IPAMError):
    """The body is compressed. The service does not accept that: a few bytes could expand to gigabytes."""

    status = 415


class PayloadTooLarge(IPAMError):
    """The body is larger than the limit."""

    status = 413


class TooManyAttempts(IPAMError):
    """This source has sent too many wrong secrets; this one was not checked. `retry_after`: in seconds."""

    status = 429

    def __init__(self, *, retry_after: int) -> None:
        super().__init__(f"too many wrong secrets; try again in {retry_after} s")
        self.retry_after = retry_after


class Unavailable(IPAMError):
    """The storage or NetBox does not answer, or the request took too long.

    - `detail`: the words of the other system. They are for the log and the administrator, never for the answer.
    - `retry_after`: in seconds.
    """

    status = 503

    def __init__(self, message: str, *, detail: str = "", retry_after: int = 5) -> None:
        super().__init__(message)
        self.detail = detail
        self.retry_after = retry_after


class StorageUnavailable(Unavailable):
    """The storage did not answer, not in time, or refused.

    - `applied`: False only if the write certainly did not happen.
    - `condition`: what is wrong with the storage, for `/readyz`; the subject is the storage.
    """

    def __init__(
        self,
        message: str = "storage is unavailable; try again",
        *,
        applied: bool = True,
        detail: str = "",
        condition: str = "does not answer",
    ) -> None:
        super().__init__(message, detail=detail)
        self.applied = applied
        self.condition = condition


class NetBoxError(Unavailable):
    """NetBox did not carry out a request."""


class NetBoxUnavailable(NetBoxError):
    """NetBox could not be reached, was too slow, or sent an invalid answer.

    `applied`: False only if NetBox certainly did not carry out the request: the connection was refused, or nothing was
    sent. Otherwise the caller must search for the `k8s_uuid` before it does anything else. `timed_out`: whether NetBox
    may still work on the request.
    """

    def __init__(
        self,
        message: str = "NetBox is unavailable; try again",
        *,
        detail: str = "",
        applied: bool = True,
        timed_out: bool = False,
        retry_after: int = 5,
    ) -> None:
        super().__init__(message, detail=detail, retry_after=retry_after)
        self.applied = applied
        self.timed_out = timed_out


class NetBoxRejected(NetBoxError):
    """NetBox refused the request (400 or 403): wrong token, missing permission, or missing setup."""


class DuplicatePrefix(NetBoxRejected):
    """NetBox already has this prefix in the VRF. Its check has a race, so no error does not prove that it is free."""


class ContainerFull(NetBoxError):
    """The container has fewer free addresses than the request asks for; NetBox created nothing."""


class ContainerGone(NetBoxError):
    """The container is not in NetBox any more, or the token may not see it."""


class StoreConflict(Exception):
    """The unique index refused a write: another document has this zone and address."""


class ConfigError(Exception):
    """The configuration is not valid. `problems`: every problem found, each with what to do about it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class CannotListen(ConfigError):
    """The address cannot be listened on at this moment. The configuration may be right: another process has the port,
    or the network interface is not up yet."""


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
