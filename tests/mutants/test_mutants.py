"""Each step of the design left out, one at a time: the crash machine must notice, or, where no schedule of it comes to
the harm, the tests that the mutant names. A plain run tries all but those whose schedules are rare; the soak tries all.

A mutant is one replacement in the text of one module. The mutated tree is written to a directory of its own, and the
schedules or tests run over it in a process of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.soak import RecordAmount, amount

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """Replace `old`, which stands in `module` exactly once, with `new`; one of `schedules` from `seed` must be bad.

    rare: whether the bad schedules are so rare that only the soak looks for one. tests: what to give to pytest; one of
    these tests must fail, instead of a schedule.
    """

    name: str
    module: str
    old: str
    new: str
    seed: int = 0
    schedules: int = 1500
    latecomers: bool = False
    warm: bool = False
    picture: bool = False
    descriptions: bool = False
    rare: bool = False
    tests: str = ""


MUTANTS = [
    Mutant(
        "no second read after the insert",
        "registry/register.py",
        "if request.address is None and (done :=",
        'if request.address == "" and (done :=',
    ),
    Mutant(
        "a reused id",
        "registry/register.py",
        "id=context.new_id(),",
        "id=hashlib.sha256(repr((request.zone, request.address, request.key)).encode()).hexdigest()[:24],",
    ),
    Mutant(
        "no revision in the compare-and-set",
        "models.py",
        "revision=(self.revision or 0) + 1",
        "revision=self.revision or 1",
    ),
    Mutant(
        "a placeholder for each request",
        "models.py",
        'parts = "\\0".join((ip_family,',
        'parts = "\\0".join((str(next(COUNT)), ip_family,',
    ),
    Mutant("an unchecked lease", "registry/context.py", "if self.left() < limit or (", "if False and ("),
    Mutant(
        "writing past the deadline", "registry/writes.py", "if deadline.left() <= 0:", "if deadline.left() <= -1e9:"
    ),
    Mutant(
        "no look-up after a lost reply",
        "registry/create.py",
        "                if error.applied:\n",
        "                if error.applied and False:\n",
    ),
    Mutant(
        "the document always goes when a creation gives up",
        "registry/create.py",
        "if not self.maybe_created and not self.made:",
        "if True:",
    ),
    Mutant(
        "a prefix too many stays when the registration goes live",
        "registry/create.py",
        "await self._delete(others)",
        "pass",
    ),
    Mutant(
        "a collision on the unique index taken for success",
        "registry/create.py",
        "                if not await is_free():\n                    return StepResult.NEXT_CANDIDATE",
        "                return Registered(address, created=True)",
    ),
    Mutant(
        "no look before a given address is created",
        "registry/create.py",
        "mine, others = await self._look_before_creating(container)",
        "mine, others = None, []",
        rare=True,
    ),
    Mutant(
        "a take-over that does not look for what was made",
        "registry/register.py",
        "adopted = await creation.adopt()",
        "adopted = StepResult.NEXT_CANDIDATE",
    ),
    Mutant(
        "a take-over before the lease has run out",
        "registry/register.py",
        "_lease_is_over(context, blocking) and _is",
        "_is",
    ),
    Mutant(
        "a take-over that thinks nothing was made",
        "registry/register.py",
        "taken_over=True",
        "taken_over=False",
        seed=5_200,
    ),
    Mutant(
        "recovery before the longest request is over twice",
        "registry/recover.py",
        "timedelta(seconds=context.settings.longest_request)",
        "timedelta(seconds=-24)",
        seed=210,
    ),
    Mutant(
        "aborting without the compare-and-set",
        "registry/recover.py",
        "        if not await writes.replace(context, registration, aborting, context.deadline()):\n"
        "            return False\n",
        "        await writes.replace(context, registration, aborting, context.deadline())\n"
        "        aborting = await context.store.get(registration.id) or aborting\n",
    ),
    Mutant(
        "aborting deletes the document before the prefixes",
        "registry/recover.py",
        "    if to_delete:\n        await context.netbox.delete_many(to_delete",
        "    await writes.delete(context, registration, deadline)\n"
        "    if to_delete:\n        await context.netbox.delete_many(to_delete",
    ),
    Mutant(
        "releasing without the compare-and-set",
        "registry/release.py",
        "    if not await writes.replace(context, registration, changed, context.deadline()):\n",
        "    registration = await context.store.get(registration.id) or registration\n"
        "    changed = registration.changed(services=changed.services, state=changed.state)\n"
        "    if not await writes.replace(context, registration, changed, context.deadline()):\n",
    ),
    Mutant(
        "releasing deletes the document before the prefix",
        "registry/release.py",
        "    if to_delete:\n        await context.netbox.delete_many(to_delete",
        "    for registration in registrations:\n"
        "        await writes.delete(context, registration, deadline)\n"
        "    if to_delete:\n        await context.netbox.delete_many(to_delete",
    ),
    Mutant(
        "a service added to a registration that is being released",
        "registry/lookup.py",
        "one.state is State.LIVE and _same(",
        "one.state in (State.LIVE, State.RELEASING) and _same(",
    ),
    Mutant(
        "a refused update taken for success",
        "registry/services.py",
        "            if not await writes.replace(context, registration, registration.changed(**changes), deadline):\n"
        "                return None",
        "            await writes.replace(context, registration, registration.changed(**changes), deadline)",
        rare=True,
    ),
    Mutant(
        "reconcile forgets the prefixes without a registration",
        "registry/drift_repair.py",
        "        self.deletions += 1\n        await self.context.netbox.delete_many([prefix], limit=limit)\n",
        "        self.deletions += 1\n",
        latecomers=True,
    ),
    Mutant(
        "a creation in a list whose reply was lost taken for one that was not sent",
        "netbox/coalesce.py",
        "        except NetBoxError as error:\n            for waiter in batch:\n                waiter.fail(error)\n",
        "        except NetBoxError as error:\n            for waiter in batch:\n"
        "                waiter.fail(NetBoxUnavailable(applied=False))\n",
    ),
    Mutant(
        "one prefix of a list for all that wait",
        "netbox/coalesce.py",
        "waiter.succeed(prefix)",
        "waiter.succeed(made[0])",
        rare=True,
    ),
    Mutant(
        "a refused registration of a claimed address taken for success",
        "registry/create.py",
        "                if not await is_free():\n                    return StepResult.NEXT_CANDIDATE",
        "                return Registered(address, created=True)",
        warm=True,
    ),
    Mutant(
        "handing over before the registration is live",
        "registry/pool/worker.py",
        "elif holder is not None and holder.state is State.LIVE and self.context.netbox.available:",
        "elif holder is not None and self.context.netbox.available:",
        warm=True,
        seed=255,
    ),
    Mutant(
        "putting back what a creation has claimed that is under way",
        "registry/pool/claim.py",
        "holder is not None and (holder.state is not State.LIVE or same(holder.address, entry.address))",
        "holder is not None and holder.state is not State.CREATING and same(holder.address, entry.address)",
        warm=True,
        seed=70,
    ),
    Mutant(
        "never putting back",
        "registry/pool/worker.py",
        "report.put_back += await writes.pool_replace(self.context, entry, ready, deadline)",
        "pass",
        warm=True,
    ),
    Mutant(
        "a release that does not know the pool",
        "registry/release.py",
        "    entries = await claim.entries_of(context, registrations)",
        "    entries = {one.id: [] for one in registrations}",
        warm=True,
    ),
    Mutant(
        "draining without the state that says so",
        "registry/pool/worker.py",
        "                await self._replace(entry, entry.changed(PoolState.DROPPING))\n        elif",
        "                await drop.drop(self.context, [entry], self.context.deadline())\n        elif",
        warm=True,
    ),
    Mutant(
        "an entry dropped before its prefix",
        "registry/pool/drop.py",
        "    if to_delete:\n",
        "    for entry in going:\n        await writes.pool_delete(context, entry, deadline)\n    if to_delete:\n",
        warm=True,
    ),
    Mutant(
        "a list whose reply was lost taken for one that was not made",
        "registry/pool/refill.py",
        "        if error.applied:\n",
        "        if False:\n",
        warm=True,
    ),
    Mutant(
        "no look-up of what the pool was making",
        "registry/pool/drop.py",
        "found = await context.netbox.find_by_uuid([one.id for one in entries], limit=deadline.call_limit())",
        "found = []",
        warm=True,
    ),
    Mutant(
        "giving up what the pool is making at this moment",
        "registry/pool/drop.py",
        "entry.lease_until + extra_time < now",
        "entry.lease_until - extra_time < now",
        warm=True,
        seed=250,
    ),
    Mutant(
        "a cooldown that is over at once",
        "registry/pool/drop.py",
        "return entry.cooldown_until is None or entry.cooldown_until <= now",
        "return True",
        warm=True,
    ),
    Mutant(
        "an address that cools down without its entry's id on the prefix",
        "registry/release.py",
        "        await context.netbox.update_many(held, limit=deadline.call_limit())",
        "        pass",
        warm=True,
    ),
    Mutant(
        "the history is written before the service has left",
        "registry/release.py",
        "    if not await writes.replace(context, registration, changed, context.deadline()):\n",
        "    await address_history.record(context, [changed], context.deadline())\n"
        "    if not await writes.replace(context, registration, changed, context.deadline()):\n",
    ),
    Mutant(
        "a released document goes before its history is written",
        "registry/release.py",
        "    await address_history.record(context, registrations, deadline)\n",
        "    for registration in registrations:\n"
        "        await writes.delete(context, registration, deadline)\n"
        "    await address_history.record(context, registrations, deadline)\n",
        seed=245,
    ),
    Mutant(
        "a document removes its departed services before the history is written",
        "registry/address_history.py",
        "        await record(context, registrations, context.deadline())\n",
        "        for one in registrations:\n"
        "            await writes.replace(context, one, one.changed(departed=()), context.deadline())\n"
        "        await record(context, registrations, context.deadline())\n",
    ),
    Mutant(
        "the history is written under a fresh id each time",
        "registry/address_history.py",
        "_tenure(registration, gone.id, gone) for registration in registrations for gone",
        "_tenure(registration, context.new_id(), gone) for registration in registrations for gone",
    ),
    Mutant(
        "when a further service came is not written down",
        "registry/services.py",
        "since = context.clock.now() if present is None else present.since",
        "since = None if present is None else present.since",
    ),
    Mutant(
        "the history is read without a second look at the registrations",
        "registry/address_history.py",
        "        if standing == before:\n",
        "        if True:\n",
        rare=True,
    ),
    Mutant(
        "no look beside the creation",
        "netbox/space.py",
        "        await self.finish(look, limit)\n        occupancy",
        "        look.cancel()\n        occupancy",
        picture=True,
        seed=120_200,
    ),
    Mutant(
        "what a lost reply left is adopted without a look",
        "netbox/space.py",
        "        look = self._looks.pop(prefix.id) if prefix.id in self._looks else self.begin_look(container)\n",
        "        if prefix.id not in self._looks:\n            return None\n"
        "        look = self._looks.pop(prefix.id)\n",
        picture=True,
        seed=120_000,
    ),
    Mutant(
        "a prefix adopted that this holder has asked NetBox to delete",
        "registry/create.py",
        "        return [one for one in own if one.id not in self.deleted]",
        "        return own",
        tests="tests/registry/test_space.py -k asked_to_delete",
    ),
    Mutant(
        "an own creation not entered before it is sent",
        "netbox/occupancy.py",
        "        self._in_flight[number] += 1\n        if self._picture is not None:\n"
        "            self._picture.taken.add(number, number)",
        "        self._in_flight[number] += 1",
        tests="tests/netbox/test_occupancy.py",
    ),
    Mutant(
        "an own creation not entered when NetBox has it",
        "netbox/space.py",
        "        space.occupancy.created(prefix.id, prefix.prefix)\n",
        "",
        tests="tests/netbox/test_space.py -k has_created",
    ),
    Mutant(
        "a release entered before NetBox has it",
        "netbox/client.py",
        "        by_id = {prefix.id: prefix for prefix in prefixes}\n        # Ascending",
        "        by_id = {prefix.id: prefix for prefix in prefixes}\n        self.space.released(prefixes)\n"
        "        # Ascending",
        tests="tests/registry/test_space.py -k deletion_fails",
    ),
    Mutant(
        "the page before a failure taken for the whole",
        "netbox/container_space.py",
        '            problem = f"it could not be read: {error.detail or error}"\n',
        '            problem = f"it could not be read: {error.detail or error}"\n'
        "            self.occupancy.replace(self.occupancy._loading)\n",
        tests="tests/netbox/test_space.py -k a_load_that_breaks",
    ),
    Mutant(
        "a load that another one has overtaken taken for the whole",
        "netbox/occupancy.py",
        "        if loading is self._loading:\n",
        "        if True:\n",
        tests="tests/netbox/test_occupancy.py -k not_read_whole",
    ),
    Mutant(
        "a load forgets what this instance created meanwhile",
        "netbox/picture.py",
        "[*self._hosts, sorted(self._noted_hosts.values())]",
        "self._hosts",
        tests="tests/netbox/test_occupancy.py -k while_a_listing_was_read",
    ),
    Mutant(
        "an event that says that a prefix was deleted is believed",
        "netbox/event_queue.py",
        "for netbox_id, one in named.items() if netbox_id not in there)",
        "for netbox_id, one in named.items())",
        tests="tests/netbox/test_event_queue.py -k netbox_still_has",
    ),
    Mutant(
        "a hint is forgotten when its look fails",
        "netbox/event_queue.py",
        "                self._looks.add(netbox_id)\n                raise",
        "                raise",
        tests="tests/netbox/test_event_queue.py -k netbox_is_away",
    ),
    Mutant(
        "an IP address is freed though it was entered during the look",
        "netbox/occupancy.py",
        "            self._checked = {number for number in self._checked if not clipped[0] <= number <= clipped[1]}\n",
        "",
        tests="tests/netbox/test_event_queue.py -k comes_back",
    ),
    Mutant(
        "an event without a signature is taken",
        "web/webhook.py",
        "        raise WrongSignature\n",
        "",
        tests="tests/web/test_webhook.py -k wrong_signature_is_refused",
    ),
    Mutant(
        "a description is not due when the services change",
        "description.py",
        "if not text or registration.described[-1:] == (text,):",
        "if True:",
        descriptions=True,
    ),
    Mutant(
        "a description of somebody else is replaced",
        "description.py",
        'return description in ("", *described)',
        "return True",
        descriptions=True,
    ),
    Mutant(
        "a description is written before its text is stored",
        "registry/descriptions.py",
        "if described == registration.described:",
        "if True:",
        seed=300_000,
        descriptions=True,
    ),
    Mutant(
        "a prefix that another registration made keeps its description",
        "registry/owned_prefixes.py",
        "texts = (*receiver.described, *giver.described)",
        "texts = receiver.described",
        seed=300_000,
        descriptions=True,
    ),
    Mutant(
        "the hand-over replaces a description of somebody else",
        "registry/pool/worker.py",
        "description=text if ours else None",
        "description=text",
        warm=True,
        descriptions=True,
    ),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the crash machine and the tests need."""
    copy = tmp_path_factory.mktemp("mutants")
    ignored = shutil.ignore_patterns("__pycache__", "static", "build")
    for folder in ("ipam_lib", "netbox_simulator", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for file in ("build_zipapp.py", "ipam.py", "pyproject.toml"):
        shutil.copy(ROOT / file, copy)
    return copy


def run(tree: Path, mutant: Mutant) -> subprocess.CompletedProcess[str]:
    """Schedules over the tree as it stands, up to the first bad one, or the mutant's tests."""
    command = [sys.executable, "-B", "-m"]
    if mutant.tests:
        command += ["pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests.split()]
    else:
        command += ["tests.crash", "--first", f"--schedules={mutant.schedules}", f"--seed={mutant.seed}"]
        command += [
            f"--{option}" for option in ("latecomers", "warm", "picture", "descriptions") if getattr(mutant, option)
        ]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_text_that_a_mutant_replaces_is_there_once(mutant: Mutant) -> None:
    assert (ROOT / "ipam_lib" / mutant.module).read_text().count(mutant.old) == 1, "adapt the mutant to the module"


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.no_cover
def test_the_copied_tree_itself_is_good(tree: Path) -> None:
    done = run(tree, Mutant("none", "", "", "", schedules=40))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 schedules" in done.stdout
    # In a plain run the same tests run in the tree itself.
    for tests in amount(set(), {one.tests for one in MUTANTS if one.tests}):
        done = run(tree, Mutant("none", "", "", "", tests=tests))
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.no_cover
@pytest.mark.parametrize(
    "mutant", [one for one in MUTANTS if amount(not one.rare, True)], ids=lambda mutant: mutant.name
)
def test_each_mutant_is_caught(tree: Path, mutant: Mutant, record_amount: RecordAmount) -> None:
    module = tree / "ipam_lib" / mutant.module
    text = module.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.name}: its place in {mutant.module} has changed; mend the mutant"
    header = "import hashlib\nimport itertools\n\nCOUNT = itertools.count()\n"
    future = "from __future__ import annotations\n"
    try:
        module.write_text(text.replace(mutant.old, mutant.new).replace(future, future + header, 1))
        ran = run(tree, mutant)
    finally:
        module.write_text(text)
    assert ran.returncode == 1, f"not caught\n{ran.stdout}{ran.stderr}"
    assert "FAILED " in ran.stdout if mutant.tests else "seed " in ran.stdout, ran.stdout + ran.stderr
    record_amount("mutants caught", 1)
