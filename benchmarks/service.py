"""The service against the earlier one's sequence of calls, and against what it cannot do without. Over HTTP, with the
same client, in the same process, over the same NetBox and the same storage, in turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import site
from benchmarks.figures import LESS, MORE, Figure, in_turns, say
from benchmarks.netbox import TOKEN
from benchmarks.wire import Client, throughput

ALTERNATING: Final = 20_000
# Zones of one /16 each. Those of one kind are filled alike, so that both sides find the same.
NEAR_EMPTY: Final = ("ours", "earlier", "created", "warm")
FRAGMENTED: Final = ("ours-fragmented", "earlier-fragmented")
_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: rounds, requests in a round, clients, and requests of each client in a round."""

    rounds: int = 8
    requests: int = 15
    slow_rounds: int = 3
    slow_requests: int = 1
    clients: int = 32
    each: int = 3
    children: int = ALTERNATING
    time_scale: float = 1.0

    @property
    def burst(self) -> int:
        """How many addresses all clients together take in a round."""
        return self.clients * self.each


QUICK: Final = Effort(rounds=2, requests=8, slow_rounds=2, clients=32, each=1, children=5_000, time_scale=0.1)


def zones() -> dict[str, Any]:
    """The zones of the NetBox, each with one /16."""
    names = (*NEAR_EMPTY, *FRAGMENTED)
    return {name: {"ipv4": [f"172.{16 + number}.0.0/16"]} for number, name in enumerate(names)}


@contextmanager
def running(
    directory: Path, storage: Mapping[str, Any], name: str, effort: Effort, forget: Callable[[], None]
) -> Iterator[Comparison]:
    """A NetBox, and two hosts over one storage: without a pool, and with one. `forget`: see `Comparison`."""
    directory.mkdir(parents=True)
    children = {name: [effort.children, 2] for name in FRAGMENTED}
    with ExitStack() as stack:
        filled = {"zones": zones(), "children": children, "time_scale": effort.time_scale}
        netbox = stack.enter_context(site.netbox(directory, filled))
        # Twice what a round takes: the burst is served from the pool, not from the refill.
        warm = {"warm": max(effort.burst, effort.requests) * 2}
        plain = site.write_config(directory / "plain", netbox, storage)
        pooled = site.write_config(directory / "pooled", netbox, storage, warm_addresses=warm)
        urls = stack.enter_context(site.host(plain))
        pooled_urls = stack.enter_context(site.host(pooled))
        comparison = Comparison(urls, pooled_urls, netbox, warm["warm"], effort, name, forget)
        stack.callback(comparison.close)
        yield comparison


@dataclass(slots=True)
class Comparison:
    """The measurements over one storage. `forget` is called between them, when nothing that was registered is needed
    any more: a storage that looks through everything for each query would measure how much there has been before."""

    urls: Mapping[str, str]
    pooled_urls: Mapping[str, str]
    netbox: str
    warm: int
    effort: Effort
    storage: str
    forget: Callable[[], None]
    _clients: dict[str, Client] = field(default_factory=dict)

    def client(self, url: str) -> Client:
        """The one connection to this server."""
        if url not in self._clients:
            token = f"Token {TOKEN}" if url == self.netbox else f"Bearer {site.BEARER}"
            self._clients[url] = Client(url, {"Authorization": token})
        return self._clients[url]

    def close(self) -> None:
        """Hang up everywhere."""
        for client in self._clients.values():
            client.close()

    # -- requests --------------------------------------------------------------------------------------------------

    @staticmethod
    def body(zone: str) -> dict[str, Any]:
        """A request of a new service."""
        number = next(_NUMBERS)
        service = {
            "service_name": f"service-{number}",
            "namespace_id": "467579ae-b8d5-4524-9ce8-bcb66ee02ce0",
            "cluster_id": "0f3c7805-6b1d-4387-b8c4-b8c5d0e9b878",
        }
        return {"zone": zone, "ip_family": "ipv4", "secret": f"secret-of-{number}", "service": service}

    def _new(self, url: str, zone: str, number: int) -> list[float]:
        client = self.client(url)
        return client.timed([client.request("POST", "/", self.body(zone)) for _ in range(number)])

    def _again(self, url: str, requests: Sequence[tuple[str, str, Any]]) -> list[float]:
        client = self.client(url)
        return client.timed([client.request(*one) for one in requests])

    def _registered(self, url: str, zone: str, number: int) -> list[Any]:
        bodies = [self.body(zone) for _ in range(number)]
        for body in bodies:
            self.client(url).ask("POST", "/", body)
        return bodies

    # -- figures ---------------------------------------------------------------------------------------------------

    def figures(self) -> Iterator[Figure]:
        """All of them, each as it is measured."""
        yield from self.again()
        self.forget()
        yield from self.next_free()
        self.forget()
        yield from self.fragmented()
        self.forget()
        yield self.many_clients()
        yield from self.from_the_pool()

    def again(self) -> Iterator[Figure]:
        """Register again, and expire."""
        ours, earlier, bare = self.urls["ours"], self.urls["earlier"], self.urls["bare"]
        number = self.effort.requests
        mine, theirs = self._registered(ours, "ours", number), self._registered(earlier, "earlier", number)
        turns = in_turns(
            self.effort.rounds,
            f"{self.storage}: register again",
            ours=lambda: self._again(ours, [("POST", "/", one) for one in mine]),
            earlier=lambda: self._again(earlier, [("POST", "/", one) for one in theirs]),
        )
        yield Figure(
            "register again, p50",
            self.storage,
            turns.side("ours", "register again", "ms"),
            turns.side("earlier", "the earlier sequence of calls", "ms"),
            1 / 20,
        )
        self.client(bare).ask("POST", "/read/of", mine[0])
        many = number * 10
        turns = in_turns(
            self.effort.rounds,
            f"{self.storage}: register again against a read",
            ours=lambda: self._again(ours, [("POST", "/", mine[0])] * many),
            read=lambda: self._again(bare, [("POST", "/read", mine[0])] * many),
        )
        yield Figure(
            "register again / (a read + an empty handler)",
            self.storage,
            turns.side("ours", "register again", "ms"),
            turns.side("read", "an aiohttp handler that does one storage read, nothing else", "ms"),
            1.5,
        )
        # With a retention: cleanup, which goes on meanwhile, is not to take away what is being measured.
        for one in (*mine, *theirs):
            one["service"]["retention_period_days"] = 30
        expire = [("DELETE", "/", one) for one in mine]
        turns = in_turns(
            self.effort.rounds,
            f"{self.storage}: expire",
            ours=lambda: self._again(ours, expire),
            earlier=lambda: self._again(earlier, [("DELETE", "/", one) for one in theirs]),
            storage=lambda: self._again(earlier, [("DELETE", "/read-and-write", one) for one in theirs]),
        )
        mine_side = turns.side("ours", "expire", "ms")
        yield Figure(
            "expire, p50", self.storage, mine_side, turns.side("earlier", "the earlier sequence of calls", "ms"), 1 / 10
        )
        yield Figure(
            "expire / (a read + a write + a handler)",
            self.storage,
            mine_side,
            turns.side("storage", "an aiohttp handler that does a storage read and a write", "ms"),
        )

    def next_free(self) -> Iterator[Figure]:
        """Register the next free address in a near-empty container."""
        number = self.effort.requests
        containers = self.client(self.netbox).ask("GET", "/api/ipam/prefixes/?cf_k8s_zone=created&status=container")
        create = f"/api/ipam/prefixes/{containers['results'][0]['id']}/available-prefixes/"
        complete = {
            "prefix_length": 32,
            "status": "active",
            "custom_fields": {"k8s_zone": "created", "k8s_uuid": "656000000000000000000001"},
        }
        turns = in_turns(
            self.effort.rounds,
            f"{self.storage}: register next",
            ours=lambda: self._new(self.urls["ours"], "ours", number),
            earlier=lambda: self._new(self.urls["earlier"], "earlier", number),
            create=lambda: self._again(self.netbox, [("POST", create, complete)] * number),
        )
        ours = turns.side("ours", "register next", "ms")
        yield Figure(
            "register next, near-empty container, p50",
            self.storage,
            ours,
            turns.side("earlier", "the earlier sequence of calls", "ms"),
            1 / 3,
        )
        yield Figure(
            "register next / one NetBox create",
            self.storage,
            ours,
            turns.side("create", "POST available-prefixes", "ms"),
            1.15,
        )

    def fragmented(self) -> Iterator[Figure]:
        """The same where every other address is taken."""
        number = self.effort.requests
        mine, theirs = FRAGMENTED
        children = f"{self.effort.children:,} alternating children"
        # Filling the pool keeps NetBox busy, too.
        self._fill()
        site.until(lambda: self._has_picture(mine), "a picture of the fragmented container")
        turns = in_turns(
            self.effort.slow_rounds,
            f"{self.storage}: register next among {children}, and in a near-empty container",
            fragmented=lambda: self._new(self.urls["ours"], mine, number),
            empty=lambda: self._new(self.urls["ours"], "ours", number),
        )
        yield Figure(
            f"register next, {children} / near-empty container",
            self.storage,
            turns.side("fragmented", f"register next among {children}", "ms"),
            turns.side("empty", "register next in a near-empty container", "ms"),
            1.5,
        )
        number = self.effort.slow_requests
        turns = in_turns(
            self.effort.slow_rounds,
            f"{self.storage}: register next among {children}",
            ours=lambda: self._new(self.urls["ours"], mine, number),
            earlier=lambda: self._new(self.urls["earlier"], theirs, number),
        )
        yield Figure(
            f"register next, {children}, p50",
            self.storage,
            turns.side("ours", "register next", "ms"),
            turns.side("earlier", "the earlier sequence of calls", "ms"),
            1 / 100,
        )

    def _has_picture(self, zone: str) -> bool:
        """Whether the service knows what is taken in the containers of a zone."""
        zones = self.client(self.urls["ours"]).ask("GET", "/v2/zones")["zones"]
        [found] = [one for one in zones if one["zone"] == zone]
        return all(one["as_of"] is not None for one in found["families"])

    def many_clients(self) -> Figure:
        """Many clients at once."""
        with self._connected(self.urls["ours"]) as ours, self._connected(self.urls["earlier"]) as earlier:
            turns = in_turns(
                self.effort.slow_rounds,
                f"{self.storage}: {self.effort.clients} clients",
                ours=lambda: [self._burst(ours, "ours")],
                earlier=lambda: [self._burst(earlier, "earlier")],
            )
        return Figure(
            f"register next, {self.effort.clients} clients, pool off",
            self.storage,
            turns.side("ours", "register next", "addresses/s"),
            turns.side("earlier", "the earlier sequence of calls", "addresses/s"),
            5,
            MORE,
        )

    def from_the_pool(self) -> Iterator[Figure]:
        """The same with the warm pool. Before each turn of either it is full, and nothing is left to be handed over."""
        number = self.effort.requests
        url, earlier = self.pooled_urls["ours"], self.urls["earlier"]

        def pooled() -> list[float]:
            self._fill()
            return self._new(url, "warm", number)

        def plain() -> list[float]:
            self._fill()
            return self._new(earlier, "earlier", number)

        turns = in_turns(self.effort.rounds // 2 or 1, f"{self.storage}: warm pool", ours=pooled, earlier=plain)
        yield Figure(
            "register next, warm pool, p50",
            self.storage,
            turns.side("ours", "register next", "ms"),
            turns.side("earlier", "the earlier sequence of calls", "ms"),
            1 / 30,
            LESS,
        )
        with self._connected(url) as ours_many, self._connected(earlier) as earlier_many:

            def pooled_burst() -> list[float]:
                self._fill()
                return [self._burst(ours_many, "warm")]

            def plain_burst() -> list[float]:
                self._fill()
                return [self._burst(earlier_many, "earlier")]

            turns = in_turns(
                self.effort.slow_rounds,
                f"{self.storage}: {self.effort.clients} clients, warm pool",
                ours=pooled_burst,
                earlier=plain_burst,
            )
        yield Figure(
            f"register next, {self.effort.clients} clients, warm pool",
            self.storage,
            turns.side("ours", "register next", "addresses/s"),
            turns.side("earlier", "the earlier sequence of calls", "addresses/s"),
            50,
            MORE,
        )

    @contextmanager
    def _connected(self, url: str) -> Iterator[list[Client]]:
        with ExitStack() as stack:
            yield [stack.enter_context(Client(url)) for _ in range(self.effort.clients)]

    def _burst(self, clients: Sequence[Client], zone: str) -> float:
        return throughput(clients, lambda client: client.request("POST", "/", self.body(zone)), self.effort.each)

    def _fill(self) -> None:
        """Wait until the pool has come to rest: full, and nothing under way."""
        client = self.client(self.pooled_urls["bare"])

        def is_full() -> bool:
            states = client.ask("GET", "/pool")
            # It is refilled when a quarter is missing.
            enough = states.pop("ready", 0) >= self.warm - self.warm // 4
            return enough and not any(states.values())

        if not is_full():
            say(f"{self.storage}: the pool is being filled")
            site.until(is_full, "the pool to be full")
        self.forget()
