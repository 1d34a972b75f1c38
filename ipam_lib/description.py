"""The description of a prefix in NetBox: which services have its address. Pure: no input or output.

A registration stores in `described` which texts this program has written there, or may have written. What stands in
NetBox and is none of them was written by somebody else, and is left alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from string import Formatter
from typing import Final

from ipam_lib.models import Registration, Service, State

FIELDS: Final = ("service_name", "namespace_id", "cluster_id")
"""The fields that a template may have."""
DEFAULT_DESCRIPTION: Final = "{service_name} (cluster {cluster_id})"
LONGEST: Final = 200
"""The longest description of a prefix in NetBox, in Unicode code points."""
REMEMBERED: Final = 8
"""The number of texts that a registration stores. A request that NetBox carries out late may write an older one."""

# Control characters, invisible formatting (which may turn the direction of text), halves of surrogate pairs, and
# separators of lines: NetBox refuses some of them, and shows none.
_UNFIT: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class DescriptionTemplate:
    """A template such as `{service_name} (cluster {cluster_id})`; `{{` and `}}` stand for braces.

    Raises ValueError for a template that is not usable; its text says what a template must be.
    """

    def __init__(self, template: str) -> None:
        self.template = template
        self._parts: list[tuple[str, str | None]] = []
        try:
            parts = list(Formatter().parse(template))
        except ValueError:
            raise ValueError("must have each field in braces; {{ and }} stand for braces") from None
        for literal, name, spec, conversion in parts:
            if name is not None and (name not in FIELDS or spec or conversion):
                fields = ", ".join(f"{{{one}}}" for one in FIELDS)
                raise ValueError(f"must hold no other fields than {fields}; {{{{ and }}}} stand for braces")
            self._parts.append((literal, name))
        if not template.strip() or len(template) > LONGEST:
            raise ValueError(f'must have 1 to {LONGEST} characters, or be "" for no description')

    def text(self, services: Sequence[Service]) -> str:
        """The description for these services: the first one, and how many more there are. At most `LONGEST`
        characters; empty if there is no service."""
        if not services:
            return ""
        key, others = services[0].key, len(services) - 1
        # Each field is inserted as it is: a name of a service is never taken for a template.
        text = "".join(literal + (getattr(key, name) if name else "") for literal, name in self._parts)
        more = f" and {others} more" if others else ""
        return (_shortened(_clean(text), LONGEST - len(more)) + more).strip()

    def marked(self, registration: Registration) -> Registration:
        """The registration as it must be stored: due if it is live and its services have another text than the one that
        was written last."""
        text = self.text(registration.services) if registration.state is State.LIVE else ""
        if not text or registration.described[-1:] == (text,):
            return registration
        return replace(registration, description_due=True)


def with_text(described: Sequence[str], text: str) -> tuple[str, ...]:
    """The texts that a registration stores, with `text` as the last one."""
    return (*(one for one in described if one != text), text)[-REMEMBERED:]


def is_ours(description: str, described: Sequence[str]) -> bool:
    """Whether this description in NetBox may be replaced: it is empty, or a text that this program has written."""
    return description in ("", *described)


def _clean(text: str) -> str:
    """The text in one line, without invisible characters, and with single spaces: as NetBox stores it."""
    if not text.isprintable():  # else there is none of them, which is the usual case
        text = "".join(" " if unicodedata.category(one) in _UNFIT else one for one in text)
    return " ".join(text.split())


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
