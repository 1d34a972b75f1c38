"""The table of settings as text, for the documentation and the man page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ipam_lib.config.sections import SECTIONS, Setting, settings_of
from ipam_lib.config.settings import STORAGE


@dataclass(frozen=True, slots=True)
class Row:
    """One setting, as text. `default` is empty for none, `required` is empty for an optional setting."""

    name: str
    kind: str
    default: str
    required: str
    help: str


def settings_rows() -> list[Row]:
    """All settings, in the order of the documentation."""
    return list(_rows())


def _rows() -> Iterator[Row]:
    yield _row("storage", STORAGE)
    for section_name, section in SECTIONS.items():
        for name, about in settings_of(section).items():
            yield _row(f"{section_name}.{name}", about)


def _row(name: str, about: Setting) -> Row:
    default = "" if about.default in (None, "", ()) else about.kind.shown(about.default)
    return Row(name, about.kind.name, default, about.required or "", about.help)


def settings_table() -> str:
    """The settings as a table in Markdown."""
    lines = ["| Setting | Kind | Default | What |", "|---|---|---|---|"]
    for row in settings_rows():
        default = f"`{row.default}`" if row.default else ""
        if row.required:
            default = f"{default} required {row.required}".strip().replace("required always", "required")
        cells = (f"`{row.name}`", row.kind, default, row.help)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
