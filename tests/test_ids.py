"""Ids of registrations."""

from __future__ import annotations

import os

import pytest
from bson import ObjectId

from ipam_lib.ids import object_ids


def test_they_are_object_ids_of_now() -> None:
    new_id = object_ids(lambda: 1_800_000_000.9)
    made = ObjectId(new_id())
    assert made.generation_time.timestamp() == 1_800_000_000


def test_they_never_repeat_and_rise_within_a_second() -> None:
    new_id = object_ids(lambda: 1_800_000_000)
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert all(len(each) == 24 for each in ids)
    assert object_ids(lambda: 1_800_000_000)()[8:18] != ids[0][8:18]


def test_the_counter_wraps_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipam_lib.ids.secrets.randbits", lambda bits: (1 << bits) - 1)
    new_id = object_ids()
    assert [new_id()[18:], new_id()[18:]] == ["ffffff", "000000"]


def test_a_forked_process_has_ids_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    new_id = object_ids(lambda: 1_800_000_000)
    before = new_id()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert new_id()[8:18] != before[8:18]
