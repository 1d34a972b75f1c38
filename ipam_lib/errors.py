"""The errors of the program as one tree, and the table of codes that clients tell them apart by.

IPAMError                        internal_error
├── BadRequest                   invalid_request
│   ├── InvalidJSON              invalid_json
│   ├── UnknownZone              unknown_zone
│   ├── AddressOutsideZone       address_outside_zone
│   └── NoContainers             no_containers
├── Unauthorized                 unauthorized
├── WrongSecret                  wrong_secret
├── WrongSignature               wrong_signature
├── NetworkNotAllowed            network_not_allowed
├── CertificateNotAllowed        certificate_not_allowed
├── NotFound                     not_registered
│   └── AnotherSecret
├── Conflict
│   ├── AddressTaken             address_taken
│   ├── AddressHeld              address_cooling_down
│   ├── SecretShared             secret_shared
│   ├── ZoneFull                 zone_full
│   ├── QuotaExceeded            quota_exceeded
│   └── StillInFlight            in_flight
├── RequestTooSlow               request_timeout
├── PayloadTooLarge              body_too_large
├── UnsupportedEncoding          compressed_body
├── TooManyAttempts              too_many_attempts
└── Unavailable                  try_again
    ├── TimeLimitReached         time_limit
    ├── StorageUnavailable       storage_unavailable
    └── NetBoxError              netbox_unavailable
        ├── NetBoxUnavailable
        ├── NetBoxRejected       netbox_refused
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
from typing import Final, NamedTuple


class ErrorCode(NamedTuple):
    """A row of the table: the HTTP status of a code, and what it means."""

    status: int
    meaning: str


CODES: Final[Mapping[str, ErrorCode]] = {
    "invalid_http": ErrorCode(400, "The request is not valid HTTP"),
    "invalid_json": ErrorCode(400, "The body is not one JSON object in UTF-8"),
    "invalid_request": ErrorCode(400, "A field or parameter is missing or wrong; `errors` has the details by name"),
    "unknown_zone": ErrorCode(400, "The zone does not exist; `message` lists the zones"),
    "address_outside_zone": ErrorCode(400, "The address is in no container prefix of the zone"),
    "no_containers": ErrorCode(400, "The zone has no container prefixes of this family"),
    "unauthorized": ErrorCode(401, "The bearer token is missing or wrong"),
    "wrong_secret": ErrorCode(403, "The address is registered with another secret"),
    "wrong_signature": ErrorCode(403, "The event of NetBox is not signed with the secret of the webhook"),
    "network_not_allowed": ErrorCode(403, "The client is in none of the allowed networks"),
    "certificate_not_allowed": ErrorCode(403, "The client certificate is missing, or none of its names is allowed"),
    "not_registered": ErrorCode(404, "The registration, the service or the cluster does not exist"),
    "unknown_path": ErrorCode(404, "The path does not exist"),
    "method_not_allowed": ErrorCode(405, "The path does not support this method; `Allow` lists the methods"),
    "request_timeout": ErrorCode(408, "The request did not arrive in time"),
    "address_taken": ErrorCode(409, "Something else in NetBox uses the address"),
    "address_cooling_down": ErrorCode(409, "The address was released a short while ago and is in its cooldown"),
    "secret_shared": ErrorCode(409, "Other services share the address, so `new_secret` cannot replace its secret"),
    "zone_full": ErrorCode(409, "The zone has no free address of this family"),
    "quota_exceeded": ErrorCode(409, "The cluster or the namespace has as many addresses in the zone as it may have"),
    "in_flight": ErrorCode(409, "An identical request is still running"),
    "body_too_large": ErrorCode(413, "The body is larger than 64 KiB"),
    "compressed_body": ErrorCode(415, "The body is compressed"),
    "expectation_failed": ErrorCode(417, "The `Expect` header is not `100-continue`"),
    "too_many_attempts": ErrorCode(429, "Too many wrong secrets came from this source; this one was not checked"),
    "internal_error": ErrorCode(500, "A bug; the body repeats the request ID of the log"),
    "not_ready": ErrorCode(503, "The instance cannot serve requests; `message` says what is missing"),
    "storage_unavailable": ErrorCode(503, "The storage is down, too slow or not prepared"),
    "netbox_unavailable": ErrorCode(503, "NetBox is down or too slow"),
    "netbox_refused": ErrorCode(503, "NetBox refused the call: wrong token, missing permission or missing set-up"),
    "time_limit": ErrorCode(503, "The request reached its time limit"),
    "too_many_connections": ErrorCode(503, "The instance has too many connections"),
    "try_again": ErrorCode(503, "Something changed during the request, or is not available"),
}
"""Every error answer has one of these codes. They are stable: codes may be added, never renamed."""


class IPAMError(Exception):
    """The root of the tree. `message`: the text for the client; it never contains a secret. `status`: of the code."""

    code = "internal_error"

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return CODES[self.code].status

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(IPAMError):
    """The request is not valid, or cannot be fulfilled as it is. `errors`: the problems of each field, by name."""

    code = "invalid_request"

    def __init__(self, message: str, errors: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(message)
        self.errors = errors


class InvalidJSON(BadRequest):
    """The body is not one JSON object in UTF-8."""

    code = "invalid_json"


class UnknownZone(BadRequest):
    """The zone is not in NetBox's choice set."""

    code = "unknown_zone"

    def __init__(self, zone: str, known: Sequence[str]) -> None:
        choices = ", ".join(f"'{name}'" for name in known)
        text = f"invalid zone '{zone}', must be one of: {choices}"
        super().__init__(text, {"zone": [text]})


class AddressOutsideZone(BadRequest):
    """No container prefix of the zone contains the address."""

    code = "address_outside_zone"

    def __init__(self, address: str, zone: str) -> None:
        text = f"the requested address {address} is not inside any container prefix of zone '{zone}'"
        super().__init__(text, {"address": [text]})


class NoContainers(BadRequest):
    """The zone has no container prefix of this family."""

    code = "no_containers"

    def __init__(self, zone: str, ip_family: str) -> None:
        text = f"zone '{zone}' has no container prefixes for {ip_family}"
        super().__init__(text, {"ip_family": [text]})


class Unauthorized(IPAMError):
    """The bearer token is missing or wrong."""

    code = "unauthorized"


class WrongSecret(IPAMError):
    """The address is registered under another secret."""

    code = "wrong_secret"

    def __init__(self) -> None:
        super().__init__("no matching address found with the provided secret, zone and address")


class WrongSignature(IPAMError):
    """The signature of an event is missing or wrong."""

    code = "wrong_signature"

    def __init__(self) -> None:
        super().__init__("the signature of the event is missing or wrong")


class NetworkNotAllowed(IPAMError):
    """The client is in none of the allowed networks."""

    code = "network_not_allowed"

    def __init__(self) -> None:
        super().__init__("requests from this network are not allowed")


class CertificateNotAllowed(IPAMError):
    """The client certificate is missing, or none of its names is allowed."""

    code = "certificate_not_allowed"


class NotFound(IPAMError):
    """There is no such registration or service."""

    code = "not_registered"


class AnotherSecret(NotFound):
    """The address is registered, but not under this secret. The answer is the same as for an address that is not
    registered."""

    def __init__(self) -> None:
        super().__init__(WrongSecret().message)


class Conflict(IPAMError):
    """The request conflicts with the current state."""


class AddressTaken(Conflict):
    """A prefix in NetBox that is not registered here covers the address."""

    code = "address_taken"

    def __init__(self, address: str, by: str) -> None:
        super().__init__(f"address {address} is already taken in NetBox by {by}, which is not registered here")


class AddressHeld(Conflict):
    """The address was released a short time ago and is in its cooldown."""

    code = "address_cooling_down"

    def __init__(self, address: str, until: datetime) -> None:
        super().__init__(f"address {address} was released a short while ago and is cooling down until {_moment(until)}")


class SecretShared(Conflict):
    """The secret can be replaced only while the requesting service is the only one on the address."""

    code = "secret_shared"

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the secret of {address} can only be replaced while the requesting service is the only one on it"
        )


class ZoneFull(Conflict):
    """Every container of the zone is full. `cooling`: the number of addresses in their cooldown. `until`: the end of
    the first of these cooldowns."""

    code = "zone_full"

    def __init__(self, zone: str, ip_family: str, *, cooling: int = 0, until: datetime | None = None) -> None:
        message = f"no free {ip_family} address left in zone '{zone}'"
        if cooling and until is not None:
            held = "1 address is cooling down" if cooling == 1 else f"{cooling} addresses are cooling down, the first"
            message += f"; {held} until {_moment(until)}"
        super().__init__(message)


class QuotaExceeded(Conflict):
    """The cluster or the namespace has as many addresses in the zone as its quota allows."""

    code = "quota_exceeded"

    def __init__(self, owner: str, owner_id: str, zone: str, limit: int) -> None:
        super().__init__(f"{owner} {owner_id} has as many addresses in zone '{zone}' as its quota allows: {limit}")


class StillInFlight(Conflict):
    """An identical request was still running at the deadline of this one."""

    code = "in_flight"

    def __init__(self) -> None:
        super().__init__("an identical request is still in flight; try again")


class RequestTooSlow(IPAMError):
    """The body did not arrive in time."""

    code = "request_timeout"


class UnsupportedEncoding(IPAMError):
    """The body is compressed. The service does not accept that: a few bytes could expand to gigabytes."""

    code = "compressed_body"


class PayloadTooLarge(IPAMError):
    """The body is larger than the limit."""

    code = "body_too_large"


class TooManyAttempts(IPAMError):
    """This source has sent too many wrong secrets; this one was not checked. `retry_after`: in seconds."""

    code = "too_many_attempts"

    def __init__(self, *, retry_after: int) -> None:
        super().__init__(f"too many wrong secrets; try again in {retry_after} s")
        self.retry_after = retry_after


class Unavailable(IPAMError):
    """The storage or NetBox does not answer, or the request took too long.

    - `detail`: the words of the other system. They are for the log and the administrator, never for the answer.
    - `retry_after`: in seconds.
    """

    code = "try_again"

    def __init__(self, message: str, *, detail: str = "", retry_after: int = 5) -> None:
        super().__init__(message)
        self.detail = detail
        self.retry_after = retry_after


class TimeLimitReached(Unavailable):
    """The request reached its time limit."""

    code = "time_limit"

    def __init__(self) -> None:
        super().__init__("the request took too long; try again")


class StorageUnavailable(Unavailable):
    """The storage did not answer, not in time, or refused.

    - `applied`: False only if the write certainly did not happen.
    - `condition`: what is wrong with the storage, for `/readyz`; the subject is the storage.
    """

    code = "storage_unavailable"

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

    code = "netbox_unavailable"


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

    code = "netbox_refused"


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
