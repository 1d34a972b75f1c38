"""The log files: rotated, each line whole, whatever happens to the disk or the file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from ipam_lib.telemetry.rotating_files import LogFile

Make = Callable[..., LogFile]


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, complaints: list[str]) -> Iterator[Make]:
    made: list[LogFile] = []

    def build(**options: Any) -> LogFile:
        file = LogFile(tmp_path / "a.log", complaints.append, **options)
        file.setFormatter(logging.Formatter("%(message)s"))
        made.append(file)
        return file

    yield build
    for file in made:
        file.close()


def write(file: LogFile, *texts: str) -> None:
    for text in texts:
        file.handle(logging.LogRecord("a", logging.INFO, "", 0, text, None, None))
    file.flush()


def test_lines_are_kept_until_they_are_flushed(tmp_path: Path, make: Make) -> None:
    file = make()
    file.handle(logging.LogRecord("a", logging.INFO, "", 0, "one", None, None))
    assert not (tmp_path / "a.log").exists()
    file.flush()
    assert (tmp_path / "a.log").read_text() == "one\n"


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_files_are_rotated_and_the_oldest_go(tmp_path: Path, make: Make, at_once: int) -> None:
    file = make(largest=100, kept=3)
    texts = [f"line {number:04}" for number in range(90)]
    for first in range(0, len(texts), at_once):
        write(file, *texts[first : first + at_once])
    names = ["a.log.3", "a.log.2", "a.log.1", "a.log"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    kept = [(tmp_path / name).read_text().splitlines() for name in names]
    assert [line for lines in kept for line in lines] == texts[-sum(map(len, kept)) :]
    assert [len(lines) for lines in kept] == [10, 10, 10, 10]


def test_a_line_longer_than_a_file_has_one_to_itself(tmp_path: Path, make: Make) -> None:
    file = make(largest=10, kept=5)
    write(file, "x" * 50, "y", "z" * 50)
    assert (tmp_path / "a.log.2").read_text() == "x" * 50 + "\n"
    assert (tmp_path / "a.log.1").read_text() == "y\n"
    assert (tmp_path / "a.log").read_text() == "z" * 50 + "\n"


def test_a_file_that_was_moved_or_removed_is_begun_anew(tmp_path: Path, make: Make) -> None:
    file = make()
    write(file, "one")
    (tmp_path / "a.log").rename(tmp_path / "moved")
    write(file, "two")
    (tmp_path / "a.log").unlink()
    write(file, "three")
    assert (tmp_path / "moved").read_text() == "one\n"
    assert (tmp_path / "a.log").read_text() == "three\n"


def test_half_a_line_of_a_process_that_was_killed_is_ended(tmp_path: Path, make: Make) -> None:
    (tmp_path / "a.log").write_text("whole\nhal")
    write(make(), "next")
    assert (tmp_path / "a.log").read_text() == "whole\nhal\nnext\n"


def test_a_disk_that_fills_up_in_the_middle_of_a_line_costs_that_line_only(
    tmp_path: Path, make: Make, complaints: list[str]
) -> None:
    file = make()
    write(file, "one")

    class Filling:
        """The rest of the disk: six bytes."""

        def __init__(self, inner: Any) -> None:
            self._inner, self._room = inner, 6

        def write(self, content: memoryview) -> int:
            if not self._room:
                raise OSError(28, "No space left on device")
            taken: int = self._inner.write(content[: self._room])
            self._room -= taken
            return taken

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    file._file = cast(BinaryIO, Filling(file._file))
    write(file, "another one")
    assert complaints == [
        f"cannot write {tmp_path / 'a.log'}: No space left on device; 1 lines are missing there so far"
    ]
    write(file, "three")
    assert (tmp_path / "a.log").read_text() == "one\nanothe\nthree\n"
    assert file.failed == 1


def test_a_directory_that_has_gone_is_complained_about_and_tried_again(
    tmp_path: Path, make: Make, complaints: list[str]
) -> None:
    directory = tmp_path / "logs"
    file = LogFile(directory / "a.log", complaints.append)
    write(file, "lost")
    assert len(complaints) == 1
    directory.mkdir()
    write(file, "there")
    file.close()
    assert (directory / "a.log").read_text() == "there\n"


def test_two_processes_may_write_to_the_same_file(tmp_path: Path, make: Make) -> None:
    one, other = make(largest=200, kept=50), make(largest=200, kept=50)
    for number in range(40):
        write(one, f"one {number:04}")
        write(other, f"two {number:04}")
    written = "".join(path.read_text() for path in tmp_path.iterdir()).splitlines()
    assert sorted(written) == sorted(f"{name} {number:04}" for name in ("one", "two") for number in range(40))
    assert all(os.stat(path).st_size <= 210 for path in tmp_path.iterdir())
