"""Lines of the log: readable, on one line each, with the request id."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator

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
