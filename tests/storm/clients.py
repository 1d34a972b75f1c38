"""Clients of the service, one for each lane: they register, register again, share, fight, rename and expire, ask
several times at once, try again like the webhooks in the field, and hold every answer against what the lane is entitled
to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import aiohttp

from tests.storm.lanes import Group, Lane, Ledger
from tests.storm.site import Server
from tests.support.processes import BEARER

MORE_PATIENCE: Final = 20.0
"""Seconds after the longest answer after which a client hangs up; never reached, since every answer comes earlier."""

IN_FLIGHT: Final = "an identical request is still in flight; try again"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `status` is None when the connection ended without an answer, 0 when it was never made."""

    status: int | None
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """The message of the answer."""
        return str(self.content.get("message", ""))

    @property
    def again(self) -> bool:
        """Whether the client should try again."""
        return self.status in (None, 0, 429, 503) or (self.status == 409 and self.message == IN_FLIGHT)


@dataclass(slots=True)
class Clients:
    """The clients of some services. They go on while `raging` says so.

    `aftermath`: seconds after which a request that took too long, or met a storage that did not answer, has no effect
    any more; `after_death`: the same for one whose service was killed, which leaves at most one write on its way.
    `longest_answer`: seconds within which each must come. `trouble`: whether 503 is an answer to be expected.
    `cooldown`: whether released addresses must cool down.
    """

    services: Sequence[Server]
    ledger: Ledger
    random: Random
    raging: Callable[[], bool]
    aftermath: float
    after_death: float
    longest_answer: float
    trouble: bool
    cooldown: bool = False
    over: bool = False
    _session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Clients:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=self.longest_answer + MORE_PATIENCE),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    # -- one request -------------------------------------------------------------------------------------------------

    async def send(
        self,
        lanes: Sequence[Lane],
        what: str,
        method: str,
        path: str,
        body: Any,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request to one of the services; what is wrong with any answer is noted."""
        assert self._session is not None
        service = self.random.choice(self.services)
        began = time.monotonic()
        self.ledger.note(lanes, f"{what} -> {service.name}")
        problem = ""
        try:
            async with self._session.request(method, service.url + path, json=body, headers=headers) as response:
                answer, problem = _understood(response.status, response.headers, await response.read())
                if answer.status == 503 and not self.trouble:
                    problem = "there is no trouble"
        except aiohttp.ClientConnectorError:
            answer = Answer(0)
        except (aiohttp.ClientError, OSError) as error:
            answer = Answer(None, {"message": repr(error)})
        if not answer.status and not service.away(began):
            problem = "the service was there all the time"
        took = time.monotonic() - began
        self.ledger.slowest = max(self.ledger.slowest, took)
        if took > self.longest_answer:
            problem = f"it took {took:.1f} s"
        said = {None: "no answer", 0: "not connected"}.get(answer.status, f"{answer.status} {_kind(answer.message)}")
        self.ledger.answers[said] += 1
        self.ledger.note(lanes, f"{what} = {answer.status} {answer.content} from {service.name} after {took:.3f} s")
        if problem:
            self.ledger.problem(f"wrong answer: {what}: {answer.status} {answer.content}: {problem}", *lanes)
        return answer

    async def post(self, lane: Lane, what: str, **changes: Any) -> Answer:
        """A registration."""
        path = self.random.choice(("/", "/v2/address"))
        return await self.send([lane], what, "POST", path, lane.body(**changes))

    async def delete(self, lane: Lane, what: str, **changes: Any) -> Answer:
        """An expiration."""
        path = self.random.choice(("/", "/v2/service"))
        body = lane.body(**changes)
        if self.random.random() < 0.5:
            # What was registered then counts, which is the same.
            body["service"].pop("retention_period_days", None)
        return await self.send([lane], what, "DELETE", path, body)

    # -- until it is answered ----------------------------------------------------------------------------------------

    async def until_answered(
        self, lane: Lane, kind: str, attempt: Callable[[], Awaitable[bool]], patience: float = 120.0
    ) -> bool:
        """Try again until `attempt` says that there was an answer; False when the storm was over first."""
        until = time.monotonic() + patience
        for number in range(10_000):
            if await attempt():
                return True
            if self.over and time.monotonic() > until:
                self.ledger.problem(f"not settled: {lane.name}: {kind} is not answered", lane)
                return False
            await asyncio.sleep(min(0.05 * 2 ** min(number, 5), 1.0) * (0.5 + self.random.random()))
        raise AssertionError("unreachable")

    def _unknown(self, lane: Lane, kind: str, answers: Sequence[Answer]) -> None:
        """Where an answer is missing, the request may have an effect for some time yet."""
        seconds = max(self.effect_after(answer) for answer in answers)
        lane.unsettled[kind] = max(lane.unsettled.get(kind, 0.0), time.monotonic() + seconds)

    def effect_after(self, answer: Answer) -> float:
        """Seconds for which a request may still have an effect after this came back."""
        if answer.status is None:
            return self.after_death
        if answer.status == 503 and "NetBox" not in answer.message:
            return self.aftermath
        return 0.0

    async def register(self, lane: Lane, copies: int = 1) -> bool:
        """Register until that is answered, several times at once if so wanted."""

        async def attempt() -> bool:
            mark = lane.mark
            lane.gone = False
            answers = await asyncio.gather(*(self.post(lane, "register") for _ in range(copies)))
            self._unknown(lane, "register", answers)
            return self._registered(lane, answers, sure=lane.undisturbed_since(mark))

        return await self.until_answered(lane, "register", attempt)

    def _registered(self, lane: Lane, answers: Sequence[Answer], *, sure: bool) -> bool:
        """Take in the answers to identical requests; whether they settle it."""
        given = {str(answer.content.get("address")) for answer in answers if answer.status == 200}
        if len(given) > 1 and sure:
            self.ledger.problem(f"twice: {lane.name}: one request, several addresses: {sorted(given)}", lane)
        for address in given:
            self.ledger.hold(lane, address, sure=sure)
        if given:
            return True
        # A 429 is as good as a 403 here: another service has the address.
        refused = [answer for answer in answers if not answer.again or (answer.status == 429 and lane.kind == "rival")]
        for answer in refused:
            if not self._refusal_is_right(lane, answer):
                self.ledger.problem(f"wrong answer: {lane.name}: {answer.status} {answer.message}", lane)
        if lane.sure and any(answer.status == 429 for answer in answers):
            self.ledger.problem(f"locked out: {lane.name} holds {lane.held}, but has to wait for others' guesses", lane)
        if refused:
            if lane.sure:
                self.ledger.problem(f"lost: {lane.name} had {lane.held}, was answered {refused[0].message}", lane)
            self.ledger.release(lane)
        return bool(refused)

    def _refusal_is_right(self, lane: Lane, answer: Answer) -> bool:
        match answer.status:
            case 403 | 429:
                return lane.kind == "rival"
            case 409 if "already taken" in answer.message:
                return lane.kind == "taken"
            case 409 if "no free" in answer.message:
                return lane.kind == "tiny"
            case 409 if "cooling down until" in answer.message:
                return self.cooldown
        return False

    async def expire(self, lane: Lane) -> bool:
        """Let it expire (after its retention) until that is answered."""
        if not lane.retention and lane.held is not None:
            lane.may_expire = True

        async def attempt() -> bool:
            answer = await self.delete(lane, "expire")
            self._unknown(lane, "expire", [answer])
            if answer.status == 200:
                address = answer.content.get("address")
                if lane.held not in (None, address) and not lane.may_expire:
                    self.ledger.problem(f"lost: {lane.name} had {lane.held}, but {address} expires", lane)
                if not lane.retention:
                    self.ledger.release(lane)
                else:
                    lane.held, lane.retained, lane.gone = str(address), True, False
                return True
            if answer.status == 404 or (answer.status == 429 and lane.kind == "rival"):
                if lane.sure:
                    self.ledger.problem(f"lost: {lane.name} had {lane.held}, but nothing is to expire", lane)
                self.ledger.release(lane)
                return True
            if not answer.again:
                self.ledger.problem(f"wrong answer: {lane.name}: expire: {answer.status} {answer.message}", lane)
            return not answer.again

        return await self.until_answered(lane, "expire", attempt)

    async def rename(self, lane: Lane) -> bool:
        """Replace the secret, until a registration is known to stand under the new one."""
        lane.renaming_to = lane.renaming_to or f"{lane.secret.split('/')[0]}/{self.random.randrange(10**9)}"

        async def attempt() -> bool:
            mark = lane.mark
            lane.gone = False
            answer = await self.post(lane, "rename", new_secret=lane.renaming_to)
            self._unknown(lane, "rename", [answer])
            if not self._registered(lane, [answer], sure=lane.undisturbed_since(mark)):
                return False
            # A new registration takes the secret as it is; an update replaces it.
            return answer.message == "Address updated successfully"

        if not await self.until_answered(lane, "rename", attempt):
            return False
        assert lane.renaming_to is not None
        lane.secret, lane.renaming_to = lane.renaming_to, None
        return True

    async def expire_cluster(self, group: Group) -> None:
        """Delete a cluster, until that is answered, and until nothing of it can have an effect any more."""
        group.deletions += 1
        group.under_way += 1
        for lane in group.lanes:
            if not lane.deny:
                lane.may_expire = True
        settled, answer = 0.0, Answer(0)
        body, headers = {"cluster_id": group.cluster_id}, {"Authorization": f"Bearer {BEARER}"}
        for _ in range(10_000):
            answer = await self.send(group.lanes, "expire the cluster", "DELETE", "/v2/cluster", body, headers)
            settled = max(settled, time.monotonic() + self.effect_after(answer))
            if not answer.again or self.over:
                break
            await asyncio.sleep(0.2)
        if answer.status == 200 and answer.content["expired"] + answer.content["denied"] > len(group.lanes):
            self.ledger.problem(f"wrong answer: {answer.content}, but there are only {len(group.lanes)} services")
        elif not answer.again and answer.status not in (200, 404):
            self.ledger.problem(f"wrong answer: expire the cluster: {answer.status} {answer.message}")
        await asyncio.sleep(max(0.0, settled - time.monotonic()))
        group.under_way -= 1

    # -- what must be refused ----------------------------------------------------------------------------------------

    async def probe(self, lane: Lane) -> None:
        """Ask for what must be refused: of an address that a lane surely holds all the time."""
        wrong = {"secret": "not the secret", "address": lane.asked}
        probes: dict[str, tuple[Callable[[], Awaitable[Answer]], int]] = {
            "to replace a shared secret": (lambda: self.post(lane, "steal", new_secret="stolen-secret"), 409)
        }
        if lane.kind == "stays":
            probes = {
                "with a wrong secret": (lambda: self.post(lane, "register with a wrong secret", **wrong), 403),
                "to expire with a wrong secret": (
                    lambda: self.delete(lane, "expire with a wrong secret", **wrong),
                    404,
                ),
                "in a zone that is none": (lambda: self.post(lane, "register in no zone", zone="nowhere"), 400),
                "with a wrong type": (lambda: self.post(lane, "register with a number", secret=12345678), 400),
            }
        what = self.random.choice(list(probes))
        ask, status = probes[what]
        answer = await ask()
        if not answer.again and answer.status != status:
            self.ledger.problem(f"wrong answer: {lane.name} asked {what}: {answer.status} {answer.message}", lane)

    # -- lives -------------------------------------------------------------------------------------------------------

    async def live(self, lane: Lane, most: int) -> None:
        """The life of a lane while the storm rages, at most so many steps."""
        # A client may still probe its address, so the address is never given back.
        stays = [one for one in self.ledger.lanes if one.kind == "stays" and one.asked == lane.asked]
        for _ in range(most):
            if not self.raging():
                return
            draw = self.random.random()
            if draw < 0.3 and lane.kind != "stays" and not lane.settled_but_for("expire"):
                await self.expire(lane)
                # Now and then long enough for the address to be given back.
                await asyncio.sleep(self.random.choice((0.0, 0.3, 1.5, 2.5)))
            elif draw < 0.5 and lane.renames and lane.sure and not lane.settled_but_for("rename"):
                await self.rename(lane)
            elif draw < 0.5 and any(one.sure for one in stays):
                await self.probe(lane)
            elif not lane.settled_but_for("register") and lane.renaming_to is None:
                await self.register(lane, copies=self.random.choice((1, 1, 1, 2, 3, 5)))
            await asyncio.sleep(self.random.choice((0.0, 0.02, 0.1, 0.3, 1.0)))

    async def visit(self) -> None:
        """One new service after the other that registers, and asks no second time: what an unanswered request leaves
        behind, only recovery will clear up."""
        while self.raging():
            lane = self.ledger.visitor(self.random)
            mark = lane.mark
            lane.gone = False
            answers = await asyncio.gather(*(self.post(lane, "visit") for _ in range(self.random.choice((1, 1, 2)))))
            self._unknown(lane, "visit", answers)
            self._registered(lane, answers, sure=lane.undisturbed_since(mark))
            if lane.held is not None and self.random.random() < 0.7 and not lane.settled_but_for("expire"):
                await self.expire(lane)
            await asyncio.sleep(self.random.choice((0.0, 0.1, 0.5)))

    async def delete_clusters(self) -> None:
        """Delete a cluster now and then."""
        while self.raging():
            await asyncio.sleep(self.random.uniform(0.2, 1.5))
            await self.expire_cluster(self.random.choice(self.ledger.groups))

    async def finish(self, lane: Lane) -> None:
        """When the storm is over: settle what was left unanswered, then register or expire once more, so that it is
        known exactly what the lane must hold, or that it must not hold anything (visitors stay as they are)."""
        if lane.kind == "visitor":
            return
        await asyncio.sleep(lane.settled_but_for("rename"))
        if lane.renaming_to is not None:
            await self.rename(lane)
        await asyncio.sleep(lane.settled_but_for(""))
        if lane.kind != "stays" and self.random.random() < 0.35:
            await self.expire(lane)
        else:
            await self.register(lane)


def _understood(status: int, headers: Mapping[str, str], raw: bytes) -> tuple[Answer, str]:
    """The answer, and what is wrong with it in itself."""
    try:
        content = json.loads(raw)
    except ValueError:
        return Answer(status), f"not JSON: {raw[:200]!r}"
    if not isinstance(content, dict) or not isinstance(content.get("message"), str):
        return Answer(status), f"no message: {raw[:200]!r}"
    if status == 200 and "address" not in content and "cluster_id" not in content:
        return Answer(status, content), "no address"
    if status in (429, 503) and not headers.get("Retry-After", "").isdecimal():
        return Answer(status, content), "no Retry-After"
    return Answer(status, content), "a bug of the service" if status == 500 else ""


def _kind(message: str) -> str:
    """A message without what differs from one request to the next."""
    words = message.replace("'", " ").split()
    return " ".join("..." if any(sign in word for sign in "/:0123456789") else word for word in words)[:100]
