"""What the clients know: each service that wants an address is a lane; its answers say what it is entitled to."""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.storm.site import TAKEN


@dataclass(eq=False, slots=True)
class Group:
    """The lanes of one cluster. A deletion of the cluster counts as under way from when it is sent until it can do
    nothing any more."""

    cluster_id: str
    lanes: list[Lane] = field(default_factory=list)
    deletions: int = 0
    under_way: int = 0


@dataclass(eq=False, slots=True)
class Lane:
    """One service that wants an address, and what its answers entitle it to.

    `held`: the address that it was answered last. `may_expire`: from when an expiration (with no retention) was sent
    until a registration is acknowledged. `gone`: it was answered that it holds nothing, or that it does so no longer.
    `retained`: it expires after its retention. `unsettled`: until when (`time.monotonic()`) an unanswered request of
    each kind may still have an effect.
    """

    kind: str
    group: Group
    secret: str
    zone: str
    family: str
    asked: str | None = None
    deny: bool = False
    retention: int = 0
    renames: bool = False
    name: str = ""
    held: str | None = None
    may_expire: bool = False
    retained: bool = False
    gone: bool = True
    renaming_to: str | None = None
    unsettled: dict[str, float] = field(default_factory=dict)
    history: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    namespace_id: str = "467579ae-b8d5-4524-9ce8-bcb66ee02ce0"

    @property
    def sure(self) -> bool:
        """Whether the answers say that it holds its address, and nothing that was sent can have ended that."""
        return self.held is not None and not self.may_expire and not self.gone

    @property
    def mark(self) -> int:
        """A number to give to `undisturbed_since` later."""
        return -1 if self.group.under_way else self.group.deletions

    def undisturbed_since(self, mark: int) -> bool:
        """Whether no deletion of its cluster can have ended anything since the mark was taken."""
        return self.deny or mark == self.group.deletions

    @property
    def key(self) -> tuple[str, str, str]:
        """What its service is known by."""
        return self.name, self.namespace_id, self.group.cluster_id

    @property
    def secrets(self) -> set[str]:
        """The secrets under which its registration may stand."""
        return {self.secret, *([self.renaming_to] if self.renaming_to else [])}

    def body(self, **changes: Any) -> dict[str, Any]:
        """Its request."""
        service: dict[str, Any] = {
            "service_name": self.name,
            "namespace_id": self.namespace_id,
            "cluster_id": self.group.cluster_id,
        }
        if self.retention:
            service["retention_period_days"] = self.retention
        if self.deny:
            service["deny_external_cleanup"] = True
        body = {"zone": self.zone, "ip_family": self.family, "secret": self.secret, "service": service}
        return body | ({"address": self.asked} if self.asked else {}) | changes

    def settled_but_for(self, kind: str) -> float:
        """Seconds until no unanswered request of another kind can have an effect any more; 0 when none can."""
        return max([0.0, *(until - time.monotonic() for what, until in self.unsettled.items() if what != kind)])


def make_lanes(random: Random, number: int) -> tuple[list[Lane], list[Group]]:
    """So many lanes of all kinds: most want the next free address; others share one, fight for one, want one that
    another client has, or one of a zone that is too small for all of them."""
    groups = [Group(str(uuid.UUID(int=random.getrandbits(128), version=4))) for _ in range(max(2, number // 8))]
    lanes: list[Lane] = []

    def add(kind: str, **fields: Any) -> Lane:
        fields = {"secret": f"SuperSecret-{len(lanes)}", "zone": "inet", "family": "ipv4"} | fields
        lane = Lane(kind, random.choice(groups), name=f"service-{len(lanes)}", **fields)
        lane.group.lanes.append(lane)
        lanes.append(lane)
        return lane

    def exact() -> str:
        addresses.append(f"10.2.0.{len(addresses) + 1}/32")
        return addresses[-1]

    addresses: list[str] = []
    add("taken", zone="exact", asked=TAKEN[0])
    add("taken", zone="exact", asked=TAKEN[1])
    while len(lanes) < number:
        draw = random.random()
        if draw < 0.12:
            address, secret = exact(), f"SharedSecret-{len(lanes)}"
            for member in range(random.randint(3, 6)):
                # The first stays for ever, so that the others always share.
                add("stays" if member == 0 else "shares", zone="exact", asked=address, secret=secret, deny=member == 0)
        elif draw < 0.2:
            address = exact()
            for _ in range(random.randint(2, 4)):
                add("rival", zone="exact", asked=address)
        elif draw < 0.3:
            add("exact", zone="exact", asked=exact())
        elif draw < 0.45:
            add("tiny", zone="tiny")
        elif draw < 0.6:
            add("renames", renames=True, family=random.choice(("ipv4", "ipv6")))
        else:
            zone, family = random.choice((("inet", "ipv4"), ("inet", "ipv4"), ("inet", "ipv6"), ("exact", "ipv6")))
            retention = random.choice((0, 0, 0, 7))
            add("next", zone=zone, family=family, retention=retention, deny=random.random() < 0.2)
    del lanes[number:]
    for group in groups:
        group.lanes = [lane for lane in group.lanes if lane in lanes]
    return lanes, [group for group in groups if group.lanes]


@dataclass(slots=True)
class Ledger:
    """Everything that was answered, and what was wrong with it."""

    lanes: list[Lane]
    groups: list[Group]
    answers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    slowest: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self.answers.total()

    def visitor(self, random: Random) -> Lane:
        """A new lane of a service that comes once. There is room for any number of them."""
        group, number = random.choice(self.groups), len(self.lanes)
        zone = random.choice(("inet", "exact"))
        lane = Lane("visitor", group, f"VisitorSecret-{number}", zone, "ipv6", name=f"visitor-{number}")
        group.lanes.append(lane)
        self.lanes.append(lane)
        return lane

    def note(self, lanes: Iterable[Lane], text: str) -> None:
        """Remember what happened to lanes, for the report of a problem."""
        moment = f"{time.monotonic() - self.began:8.3f} {text}"
        for lane in lanes:
            lane.history.append(moment)

    def problem(self, text: str, *lanes: Lane) -> None:
        """Something that must not be; with what happened to these lanes before."""
        past = [f"\n    {lane.name} ({lane.kind}): {line}" for lane in lanes for line in lane.history]
        self.problems.append(text + "".join(past))

    def hold(self, lane: Lane, address: str, *, sure: bool) -> None:
        """A registration was acknowledged. `sure`: no expiration can have come after it."""
        if lane.sure and lane.held != address:
            self.problem(f"lost: {lane.name} had {lane.held}, was answered {address}", lane)
        if lane.asked is not None and address != lane.asked:
            self.problem(f"wrong answer: {lane.name} asked for {lane.asked}, was answered {address}", lane)
        lane.held, lane.may_expire, lane.retained, lane.gone = address, not sure, False, False
        for other in self.lanes:
            if (
                sure
                and other.sure
                and other.held == address
                and other.zone == lane.zone
                and other.secret != lane.secret
            ):
                self.problem(f"twice: {address} was given to {other.name} and to {lane.name}", other, lane)

    def release(self, lane: Lane) -> None:
        """It was answered that the lane holds nothing, or nothing any more."""
        lane.held, lane.may_expire, lane.retained, lane.gone = None, False, False, True

    def summary(self, title: str, extra: Mapping[str, Any] | None = None) -> str:
        """The summary for people."""
        kinds = Counter(problem.split(":")[0] for problem in self.problems)
        named = {kind: kinds.pop(kind, 0) for kind in ("lost", "twice", "leaked", "wrong answer", "not settled")}
        named["other"] = kinds.total()
        seconds = time.monotonic() - self.began
        lines = [
            f"{title}: {self.requests} requests in {seconds:.0f} s, the slowest took {self.slowest:.2f} s",
            *(f"{number:8} {answer}" for answer, number in self.answers.most_common()),
            *(f"{name}: {value}" for name, value in (extra or {}).items()),
            ", ".join(f"{number} {kind}" for kind, number in named.items()),
        ]
        return "\n".join(lines)
