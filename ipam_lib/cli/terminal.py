"""Output of the commands: tables, times, colours, questions, progress, JSON.

Only results go to standard output. Questions, warnings and progress go to standard error. Text from outside is made
printable first, because a terminal obeys control characters.
"""

from __future__ import annotations

import argparse
import getpass
import io
import json
import os
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

from ipam_lib.cli.exit_codes import CommandError, UsageError
from ipam_lib.text import printable

Colour = Literal["red", "green", "yellow", "bold"]

_CODES: Final[dict[str, str]] = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_GAP: Final = "  "
_SHORTEST_SUMMARY: Final = 12
_SECONDS_BETWEEN_PROGRESS: Final = 0.1


def set_up() -> None:
    """Let standard output and standard error print any text: characters that their encoding lacks become escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def has_terminal(stream: TextIO) -> bool:
    """Whether the stream is a terminal."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def paint(text: str, colour: Colour, stream: TextIO | None = None) -> str:
    """The text in a colour, if the stream (by default standard output) is a terminal with colours and NO_COLOR is not
    set (https://no-color.org)."""
    stream = stream or sys.stdout
    if not has_terminal(stream) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def local_time(moment: datetime) -> str:
    """A time in the local zone, with its offset: `2026-11-25 01:50:49+01:00`."""
    try:
        local = moment.astimezone()
    except (OverflowError, OSError, ValueError):  # datetime has no local time near its largest value
        local = moment.astimezone(UTC)
    return local.isoformat(sep=" ", timespec="seconds")


# -- tables --------------------------------------------------------------------------------------------------------


def width_of(text: str) -> int:
    """The number of terminal columns that a text takes."""
    plain = _ESCAPE.sub("", text)
    if plain.isascii():
        return len(plain)
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in plain
    )


def cut(text: str, width: int) -> str:
    """The text, cut to the width with an ellipsis if it is wider."""
    if width_of(text) <= width:
        return text
    while width_of(text) >= width:
        text = text[:-1]
    return text + "…"


def terminal_width(stream: TextIO | None = None) -> int | None:
    """The columns of the terminal behind the stream (by default standard output); None if it is no terminal, because a
    file has no width."""
    if not has_terminal(stream or sys.stdout):
        return None
    return max(20, shutil.get_terminal_size().columns)


class Table:
    """A table whose rows are printed as they arrive.

    - The first rows given set the widths of the columns. A wider cell in a later row pushes its line out.
    - If the table is wider than the terminal, each row becomes a block of `HEADING  cell` lines, so that names and ids
      are never cut.
    - `summary`: whether the last column may be cut instead. Its cells must not be painted then.
    """

    def __init__(self, *headings: str, width: int | None = None, summary: bool = False) -> None:
        self._headings = headings
        self._width = width
        self._summary = summary
        self._widths: list[int] | None = None
        self._stacked = False

    def lines(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        """The lines of these rows; before the first rows also the headings."""
        first = self._widths is None
        if self._widths is None:
            if not rows:
                return
            self._widths = [max(map(width_of, column)) for column in zip(self._headings, *rows, strict=True)]
            self._fit()
            if not self._stacked:
                yield self._line([paint(heading, "bold") for heading in self._headings])
        for number, row in enumerate(rows):
            if self._stacked:
                if number or not first:
                    yield ""
                yield from self._block(row)
            else:
                yield self._line(row)

    def _fit(self) -> None:
        """Choose between cutting the last column and stacking, if the table is wider than the terminal."""
        assert self._widths is not None
        excess = sum(self._widths) + len(_GAP) * (len(self._widths) - 1) - (self._width or 0)
        if self._width is None or excess <= 0:
            self._summary = False
        elif self._summary and self._widths[-1] - excess >= _SHORTEST_SUMMARY:
            self._widths[-1] -= excess
        else:
            self._stacked = True

    def _line(self, row: Sequence[str]) -> str:
        assert self._widths is not None
        if self._summary:
            row = [*row[:-1], cut(row[-1], self._widths[-1])]
        padded = (cell + " " * (width - width_of(cell)) for cell, width in zip(row, self._widths, strict=True))
        return _GAP.join(padded).rstrip()

    def _block(self, row: Sequence[str]) -> Iterator[str]:
        label = max(map(len, self._headings))
        for heading, cell in zip(self._headings, row, strict=True):
            if cell:
                yield f"{paint(heading.ljust(label), 'bold')}{_GAP}{cell}"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO | None = None) -> None:
    """Print a whole table to the stream (by default standard output)."""
    stream = stream or sys.stdout
    for line in Table(*headings, width=terminal_width(stream)).lines(rows):
        print(line, file=stream)


# -- JSON ----------------------------------------------------------------------------------------------------------


def print_json(value: Any) -> None:
    """Print a value as JSON, indented, on standard output."""
    print(json.dumps(value, indent=2))


def print_result(text: str, arguments: argparse.Namespace) -> None:
    """Print the result of a change as text, unless the command prints JSON. If the command did not ask (see
    `commands.Command.unasked`), say on standard error too what it did."""
    if arguments.format == "text":
        print(text)
    if arguments.unasked and not arguments.dry_run:
        say(f"{text} (done without a question, because there is no terminal)")


# -- questions -----------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Print something that is no result, on standard error."""
    print(text, file=sys.stderr)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    say(f"{paint('warning:', 'yellow', sys.stderr)} {printable(text)}")


def can_ask() -> bool:
    """Whether there is a terminal for questions."""
    return has_terminal(sys.stdin) and has_terminal(sys.stderr)


def confirm(question: str, *, yes: bool = False) -> None:
    """Return if the user agrees: `yes` is set, or the answer on the terminal begins with y.

    Raises UsageError if there is no terminal, CommandError if the answer is no.
    """
    if yes:
        return
    if not can_ask():
        raise UsageError(f"{question} There is no terminal to ask on: add --yes to go on")
    sys.stderr.write(f"{printable(question)} [y/N] ")
    sys.stderr.flush()
    if not sys.stdin.readline().strip().lower().startswith("y"):
        raise CommandError("nothing was changed")


def read_secret(given: str | None, what: str, *, twice: bool = False) -> str:
    """A secret, read in a way that keeps it out of the list of processes.

    - `given`: the value of the option. None asks on the terminal, or reads standard input if that is no terminal. `-`
      reads standard input. Any other value is the secret.
    - `what`: its name, for the question and the errors.
    - `twice`: whether to ask a second time, for a new secret.

    Raises UsageError if the secret is empty or not text in UTF-8.
    """
    if given is None and has_terminal(sys.stdin):
        text = getpass.getpass(f"{what}: ")
        if twice and getpass.getpass(f"{what}, again: ") != text:
            raise UsageError("the two are not the same; nothing was changed")
    elif given in (None, "-"):
        try:
            text = sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise UsageError(f"{what}: standard input is not UTF-8") from None
    else:
        assert given is not None
        text = given
    if not text:
        raise UsageError(f"{what}: there is none; give it on standard input, or on a terminal when asked")
    if "\0" in text or any("\ud800" <= one <= "\udfff" for one in text):
        raise UsageError(f"{what}: it must be text in UTF-8, without NUL")
    return text


# -- progress ------------------------------------------------------------------------------------------------------


class Progress:
    """A line on standard error that is overwritten, if that is a terminal; otherwise nothing."""

    def __init__(self) -> None:
        self._shown = False
        self._next = 0.0
        self._active = has_terminal(sys.stderr)

    def show(self, text: str | Callable[[], str], *, now: bool = False) -> None:
        """Replace the line by this text, at most ten times a second unless `now` is set."""
        moment = time.monotonic()
        if not self._active or (moment < self._next and not now):
            return
        self._next = moment + _SECONDS_BETWEEN_PROGRESS
        line = cut(printable(text if isinstance(text, str) else text()), (terminal_width(sys.stderr) or 80) - 1)
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Remove the line, so that something else can be printed."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress line that is removed at the end."""
    shown = Progress()
    try:
        yield shown
    finally:
        shown.clear()
