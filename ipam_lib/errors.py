"""Everything that can go wrong, as one tree. A class carries the HTTP status of its answer; its text is the message.

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

StoreConflict                    never leaves the registry
ConfigError                      for the command line
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime


class IPAMError(Exception):
    """Root of the tree. `message` is for the caller of the service: it never holds a secret."""

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadRequest(IPAMError):
    """The request cannot be understood or fulfilled as it stands. `errors` maps field names to what is wrong with
    each."""

    status = 400

    def __init__(self, message: str, errors: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(message)
        self.errors = errors


class UnknownZone(BadRequest):
    """The zone is no choice of NetBox's choice set."""

    def __init__(self, zone: str, known: Sequence[str]) -> None:
        choices = ", ".join(f"'{name}'" for name in known)
        text = f"invalid zone '{zone}', must be one of: {choices}"
        super().__init__(text, {"zone": [text]})


class AddressOutsideZone(BadRequest):
    """The address lies in none of the zone's container prefixes."""

    def __init__(self, address: str, zone: str) -> None:
        text = f"the requested address {address} is not inside any container prefix of zone '{zone}'"
        super().__init__(text, {"address": [text]})


class NoContainers(BadRequest):
    """The zone has no container prefix of that family."""

    def __init__(self, zone: str, ip_family: str) -> None:
        text = f"zone '{zone}' has no container prefixes for {ip_family}"
        super().__init__(text, {"ip_family": [text]})


class Unauthorized(IPAMError):
    """The bearer token is missing or wrong."""

    status = 401


class WrongSecret(IPAMError):
    """The address is registered here under another secret."""

    status = 403

    def __init__(self) -> None:
        super().__init__("no matching address found with the provided secret, zone and address")


class NotFound(IPAMError):
    """No such registration or service."""

    status = 404


class AnotherSecret(NotFound):
    """The address is registered here, but not under this secret. The answer is that to an address that is not
    registered at all."""

    def __init__(self) -> None:
        super().__init__(WrongSecret().message)


class Conflict(IPAMError):
    """What is asked for clashes with what is there."""

    status = 409


class AddressTaken(Conflict):
    """Something in NetBox, not registered here, covers the address."""

    def __init__(self, address: str, by: str) -> None:
        super().__init__(f"address {address} is already taken in NetBox by {by}, which is not registered here")


class AddressHeld(Conflict):
    """The address was released a short while ago, and is not handed out again yet."""

    def __init__(self, address: str, until: datetime) -> None:
        super().__init__(f"address {address} was released a short while ago and is cooling down until {_moment(until)}")


class SecretShared(Conflict):
    """The secret can only be replaced while exactly one service, the requesting one, is registered on the address."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"the secret of {address} can only be replaced while the requesting service is the only one on it"
        )


class ZoneFull(Conflict):
    """Every container of the zone is exhausted. `cooling`: how many addresses were released but are not to be handed
    out yet, the first of them from `until` on."""

    def __init__(self, zone: str, ip_family: str, *, cooling: int = 0, until: datetime | None = None) -> None:
        message = f"no free {ip_family} address left in zone '{zone}'"
        if cooling and until is not None:
            held = "1 address is cooling down" if cooling == 1 else f"{cooling} addresses are cooling down, the first"
            message += f"; {held} until {_moment(until)}"
        super().__init__(message)


class StillInFlight(Conflict):
    """An identical request was still under way when the wait for it ended."""

    def __init__(self) -> None:
        super().__init__("an identical request is still in flight; try again")


class RequestTooSlow(IPAMError):
    """The body did not arrive in time."""

    status = 408


class UnsupportedEncoding(IPAMError):
    """The body is compressed: a few bytes of that can stand for gigabytes."""

    status = 415


class PayloadTooLarge(IPAMError):
    """The body is larger than the service reads."""

    status = 413


class TooManyAttempts(IPAMError):
    """There were too many wrong secrets from this source; this one was not looked at. `retry_after` is in seconds."""

    status = 429

    def __init__(self, *, retry_after: int) -> None:
        super().__init__(f"too many wrong secrets; try again in {retry_after} s")
        self.retry_after = retry_after


class Unavailable(IPAMError):
    """Something that the service needs does not answer; nothing is half done. `retry_after` is in seconds."""

    status = 503

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StorageUnavailable(Unavailable):
    """The storage did not answer, or not in time. `applied` is False only when the write surely did not happen."""

    def __init__(self, message: str = "storage is unavailable; try again", *, applied: bool = True) -> None:
        super().__init__(message)
        self.applied = applied


class NetBoxError(Unavailable):
    """NetBox did not do what was asked. `detail` holds NetBox's own words: for the log, never for the answer."""

    def __init__(self, message: str, *, detail: str = "", retry_after: int = 5) -> None:
        super().__init__(message, retry_after=retry_after)
        self.detail = detail


class NetBoxUnavailable(NetBoxError):
    """NetBox could not be reached, was too slow, or answered nonsense.

    `applied` is False only when the request surely was not carried out (the connection was refused, or it was never
    sent); otherwise it may have been, or may yet be: look for its `k8s_uuid` before doing anything else. `timed_out`
    says that NetBox may still be at it.
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
    """NetBox understood the request and refused it (400 or 403): wrong token, missing right, or missing set-up."""


class DuplicatePrefix(NetBoxRejected):
    """NetBox already has this prefix in the VRF (its check has a race: its silence proves nothing)."""


class ContainerFull(NetBoxError):
    """The container has not as many free addresses as were asked for; nothing was created."""


class ContainerGone(NetBoxError):
    """The container is no longer in NetBox (or not visible to the token)."""


class StoreConflict(Exception):
    """The unique index on zone and address refused a write: another registration stands there."""


class ConfigError(Exception):
    """The configuration cannot be used. `problems` lists every one found, each with what to do about it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
