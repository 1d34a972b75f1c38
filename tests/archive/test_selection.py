"""Which collections of an archive are taken for the service's."""

from __future__ import annotations

import pytest

from ipam_lib.archive import ArchiveError, CollectionEntry, Namespace, Prelude, select
from ipam_lib.storage.bulk_copy import CollectionKind

CONFIGURED = Namespace("ipam", "addresses")


def prelude(*names: str, kind: str = "collection") -> Prelude:
    return Prelude("7.0.5", "100.9.4", tuple(CollectionEntry(Namespace(*one.split(".", 1)), "", kind) for one in names))


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["ipam.addresses"], "ipam.addresses"),
        (["ipam.addresses", "other.addresses", "ipam.users"], "ipam.addresses"),
        (["other.addresses"], "other.addresses"),
        (["other.addresses", "other.users", "third.things"], "other.addresses"),
        (["other.registrations"], "other.registrations"),
        (["other.registrations", "other.registrations_pool"], "other.registrations"),
        (["other.registrations_pool"], "other.registrations_pool"),
        (["admin.addresses", "config.x", "local.y", ".oplog", "other.system.views", "other.z"], "other.z"),
        (["other.with.dots"], "other.with.dots"),
    ],
)
def test_the_configured_one_or_the_only_one(names: list[str], chosen: str) -> None:
    selection = select(prelude(*names), configured=CONFIGURED)
    assert str(selection.registrations) == chosen
    assert selection.kinds[selection.registrations] is CollectionKind.REGISTRATIONS
    assert sorted(map(str, (*selection.kinds, *selection.others))) == sorted(names)


def test_its_parts_come_with_it() -> None:
    names = [f"other.addresses{kind}" for kind in CollectionKind]
    selection = select(prelude(*names, "other.addresses_more", "third.addresses_pool"), configured=CONFIGURED)
    assert {str(name): kind for name, kind in selection.kinds.items()} == dict(zip(names, CollectionKind, strict=True))
    assert list(map(str, selection.others)) == ["other.addresses_more", "third.addresses_pool"]


def test_the_one_that_is_named() -> None:
    names = ("ipam.addresses", "other.things", "other.things_pool")
    selection = select(prelude(*names), configured=CONFIGURED, named=Namespace("other", "things"))
    assert set(selection.kinds.values()) == {CollectionKind.REGISTRATIONS, CollectionKind.POOL}
    for name in ("ipam.things", "other.things_pool"):
        with pytest.raises(ArchiveError, match=r"has no collection .*; it has ipam.addresses, other.things$"):
            select(prelude(*names), configured=CONFIGURED, named=Namespace(*name.split(".")))


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (prelude(), "no collection that could hold registrations"),
        (prelude("admin.system.users"), "no collection that could hold registrations"),
        (prelude("ipam.addresses", kind="view"), "no collection that could hold registrations"),
        (prelude("one.addresses", "two.addresses"), r"\(--from\): one.addresses, two.addresses"),
        (prelude("one.a", "one.b"), r"\(--from\): one.a, one.b"),
        (prelude(*(f"one.a{number}" for number in range(30))), "one.a9 and 20 more"),
    ],
)
def test_none_or_several(archive: Prelude, said: str) -> None:
    with pytest.raises(ArchiveError, match=said):
        select(archive, configured=CONFIGURED)


def test_one_that_is_named_in_an_archive_without_any() -> None:
    with pytest.raises(ArchiveError, match="it has none that could hold registrations"):
        select(prelude(), configured=CONFIGURED, named=CONFIGURED)
