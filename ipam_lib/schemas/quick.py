"""What a schema makes of a good object, without the machinery that it needs for all others.

Every request passes here, and marshmallow takes longer over a body than the storage takes to find the registration. The
schema's own fields do the checking, so there is no second set of rules; whatever they refuse is left to the schema,
which has the words for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from marshmallow import Schema, ValidationError, fields, missing

_HOOKS: Final = ("pre_load", "validates", "validates_schema")


class _Member(NamedTuple):
    name: str
    required: bool
    allow_none: bool
    load: Callable[[Any, str, Mapping[str, Any]], Any]


class QuickLoader:
    """Loads what `schema` loads, but for what its `post_load` makes of it.

    Raises TypeError for a schema that asks for more than its fields' own checks.
    """

    def __init__(self, schema: Schema) -> None:
        if any(schema._hooks[hook] for hook in _HOOKS):
            raise TypeError(f"{type(schema).__name__} checks more than its fields do")
        self._members = [_member(name, field) for name, field in schema.load_fields.items()]

    def load(self, data: object) -> dict[str, Any] | None:
        """The content of a good object; None for any other."""
        try:
            return self._load(data)
        except ValidationError:
            return None

    def _load(self, data: object) -> dict[str, Any]:
        if type(data) is not dict:
            raise ValidationError("left to the schema")
        content: dict[str, Any] = {}
        for name, required, allow_none, load in self._members:
            value = data.get(name, missing)
            if value is missing:
                if required:
                    raise ValidationError("left to the schema")
            elif value is None:
                if not allow_none:
                    raise ValidationError("left to the schema")
                content[name] = None
            elif (loaded := load(value, name, data)) is not missing:
                content[name] = loaded
        return content


def _member(name: str, field: Any) -> _Member:
    plain = field.data_key is None and field.attribute is None and field.load_default is missing
    if not plain or field.validators or field.pre_load or field.post_load:
        raise TypeError(f"field {name} is more than its own check")
    load = field._deserialize
    if isinstance(field, fields.Nested):
        inner = QuickLoader(field.schema)

        def load(value: Any, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
            return inner._load(value)

    return _Member(name, field.required, field.allow_none is True, load)
