"""Lines of the log: readable, on one line each, with the request id."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipam_lib.telemetry import logs

log = logging.getLogger("ipam_lib.tests")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    written = io.StringIO()
    logs.set_up("info", written)
    yield written
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line(stream: io.StringIO) -> None:
    log.info("done with %s", "it", extra={"count": 3, "empty": ""})
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO ipam_lib\.tests: done with it count=3\n", stream.getvalue()
    )


def test_the_request_id_of_the_moment_is_on_every_line(stream: io.StringIO) -> None:
    token = logs.request_id.set("abc")
    try:
        log.info("inside")
        log.info("another", extra={"request_id": "own"})
    finally:
        logs.request_id.reset(token)
    log.info("outside")
    inside, another, outside = stream.getvalue().splitlines()
    assert inside.endswith(": inside request_id=abc")
    assert another.endswith(": another request_id=own")
    assert outside.endswith(": outside")


def test_nothing_breaks_the_line_or_the_terminal(stream: io.StringIO) -> None:
    log.info("a\nb\x1b[31m%s", "\u2028\ud800", extra={"path": "/x\r\ny\x9b"})
    assert stream.getvalue().count("\n") == 1
    assert r"a\x0ab\x1b[31m\x2028\xd800 path=/x\x0d\x0ay\x9b" in stream.getvalue()


def test_a_traceback_stands_below(stream: io.StringIO) -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        log.exception("failed", stack_info=True)
    text = stream.getvalue()
    assert ": failed\nTraceback" in text
    assert "ValueError: odd" in text
    assert "Stack (most recent call last)" in text


def test_levels(stream: io.StringIO) -> None:
    log.debug("not this")
    logging.getLogger("pymongo.topology").info("nor this")
    logging.getLogger("pymongo.topology").warning("but this")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("and this", UserWarning, stacklevel=1)
    assert "not this" not in stream.getvalue()
    assert "nor this" not in stream.getvalue()
    assert "but this" in stream.getvalue()
    assert "and this" in stream.getvalue()


def test_setting_up_again_does_not_double_the_lines(stream: io.StringIO) -> None:
    logs.set_up("warning", stream)
    log.warning("once")
    log.info("no")
    assert stream.getvalue().count("once") == 1
    assert "no\n" not in stream.getvalue()


def test_a_traceback_that_came_through_the_queue_stands_below_too(stream: io.StringIO) -> None:
    record = logging.LogRecord("ipam_lib.tests", logging.ERROR, "", 0, "failed", None, None)
    record.exc_text = "Traceback (most recent call last):\nValueError: odd"
    log.handle(record)
    assert stream.getvalue().endswith(": failed\nTraceback (most recent call last):\nValueError: odd\n")


def test_lines_for_the_journal_have_their_priority_and_no_time(
    stream: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        status = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.set_up("debug", journal)
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            log.log(level, "one line\nof it", extra={"count": 3})
        try:
            raise ValueError("odd")
        except ValueError:
            log.exception("failed")
        journal.seek(0)
        lines = journal.read().splitlines()
    assert lines[:5] == [rf"<{number}>ipam_lib.tests: one line\x0aof it count=3" for number in (7, 6, 4, 3, 2)]
    assert lines[5:7] == ["<3>ipam_lib.tests: failed", "<3>Traceback (most recent call last):"]
    assert lines[-1] == "<3>ValueError: odd"
    assert all(line.startswith("<3>") for line in lines[5:])
    assert stream.getvalue() == ""


def test_what_is_no_journal_gets_the_time(tmp_path: Path) -> None:
    with (tmp_path / "other").open("w") as other:
        status = os.fstat(other.fileno())
        here = f"{status.st_dev}:{status.st_ino}"
        assert logs.is_journal(other, {"JOURNAL_STREAM": here})
        assert not logs.is_journal(other, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        assert not logs.is_journal(other, {"JOURNAL_STREAM": "garbage"})
        assert not logs.is_journal(other, {})
        assert not logs.is_journal(io.StringIO(), {"JOURNAL_STREAM": here})
    assert not logs.is_journal(other, {"JOURNAL_STREAM": here})  # closed
    assert not logs.is_journal(sys.stderr, {"JOURNAL_STREAM": "1:1"})
