"""The table of error codes and the tree of errors agree."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipam_lib import errors
from ipam_lib.errors import CODES, IPAMError


def classes(root: type[IPAMError] = IPAMError) -> Iterator[type[IPAMError]]:
    yield root
    for one in root.__subclasses__():
        yield from classes(one)


def test_every_error_has_a_code_of_the_table() -> None:
    assert {one.code for one in classes()} <= CODES.keys()


def test_codes_are_words_for_programs_and_meanings_sentences_for_people() -> None:
    for code, row in CODES.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert 400 <= row.status < 600
        assert row.meaning[0].isupper()
        assert not row.meaning.endswith(".")


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = dict(re.findall(r"^[│├└─ ]*([A-Z]\w+)(?: +([a-z_]+))?(?: never.*)?$", errors.__doc__, re.MULTILINE))
    for one in classes():
        if one.__module__ != errors.__name__:
            continue
        code = one.__dict__.get("code", "")
        assert drawn[one.__name__] == code or (code == "" and not drawn[one.__name__]), one
