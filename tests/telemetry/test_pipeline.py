"""The log pipeline: two files and text, nothing secret, nothing that waits."""

from __future__ import annotations

import io
import json
import logging
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.telemetry import logs, pipeline, redaction
from ipam_lib.telemetry.pipeline import LogPipeline
from tests.support.processes import until


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the root logger back as it was, and forget the secrets."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(redaction, "_of_process", set())
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_about_requests_and_all_others_go_to_files_of_their_own(tmp_path: Path) -> None:
    stream = io.StringIO()
    log_pipeline = LogPipeline("info", directory=tmp_path / "logs", stream=stream)
    log_pipeline.start()
    token = logs.request_id.set("abc123")
    logging.getLogger("ipam_lib.registry").info("released %s", "10.0.0.1/32", extra={"zone": "inet"})
    logs.request_id.reset(token)
    logging.getLogger(logs.HTTP).info(
        "POST / 200", extra={"body": "{}", "status": 200, "request_id": "r1", "method": "POST", "path": "/"}
    )
    logging.getLogger("ipam_lib.registry").debug("not wanted")
    log_pipeline.stop()

    (app,) = lines(tmp_path / "logs" / "ipam-api.log")
    assert app["message"] == "released 10.0.0.1/32"
    assert app["level"] == "info"
    assert app["zone"] == "inet"
    assert app["request_id"] == "abc123"
    assert app["caller"].startswith("ipam_lib.registry:")
    assert app["timestamp"].endswith("Z")
    (http,) = lines(tmp_path / "logs" / "http.log")
    assert [*http][4:] == ["request_id", "status", "method", "path", "body"]
    assert "released 10.0.0.1/32" in stream.getvalue()
    assert "POST / 200" in stream.getvalue()


def test_no_known_secret_leaves_the_process(tmp_path: Path) -> None:
    stream = io.StringIO()
    redaction.remember(["netbox-token-1", "short"])
    log_pipeline = LogPipeline("info", directory=tmp_path, stream=stream)
    log_pipeline.start()
    token = redaction.of_request.set(("SuperSecret", "OtherSecret"))
    logger = logging.getLogger("ipam_lib.anything")
    try:
        raise ValueError("could not open SuperSecret with netbox-token-1")
    except ValueError:
        logger.exception("failed for %r and %s", {"secret": "OtherSecret"}, "short", extra={"field": "xSuperSecretx"})
    redaction.of_request.reset(token)
    log_pipeline.stop()
    written = stream.getvalue() + (tmp_path / "ipam-api.log").read_text()
    for secret in ("SuperSecret", "OtherSecret", "netbox-token-1"):
        assert secret not in written
    assert "short" in written
    assert "ValueError: could not open ********" in written


def test_a_directory_that_cannot_be_made_is_complained_about_and_the_service_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    stream = io.StringIO()
    log_pipeline = LogPipeline("info", directory=tmp_path / "file" / "logs", stream=stream)
    log_pipeline.start()
    logging.getLogger("ipam_lib").info("still here")
    log_pipeline.stop()
    assert "cannot make the log directory" in stream.getvalue()
    assert "still here" in stream.getvalue()


def test_a_full_disk_is_complained_about_once_a_minute_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, now, full = io.StringIO(), [0.0], [True]
    real = logging.FileHandler._open

    def open_or_fail(handler: logging.FileHandler) -> Any:
        if full[0]:
            raise OSError(28, "No space left on device")
        return real(handler)

    monkeypatch.setattr(logging.FileHandler, "_open", open_or_fail)
    log_pipeline = LogPipeline("info", directory=tmp_path, stream=stream, monotonic=lambda: now[0])
    log_pipeline.start()
    logger = logging.getLogger("ipam_lib")
    logger.info("one")
    logger.info("two")
    drained(log_pipeline)
    assert stream.getvalue().count("No space left on device") == 1
    now[0] = 61.0
    logger.info("three")
    drained(log_pipeline)
    assert stream.getvalue().count("No space left on device") == 2
    full[0] = False
    logger.info("four")
    log_pipeline.stop()
    assert [line["message"] for line in lines(tmp_path / "ipam-api.log")] == ["four"]


def drained(log_pipeline: LogPipeline) -> None:
    """Wait until everything queued so far has been written."""
    assert until(lambda: log_pipeline._queue.settled)


def test_a_pipe_that_nobody_reads_makes_nobody_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LONGEST_QUEUE", 100)
    released = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            released.wait()
            return super().write(text)

    stream = Stuck()
    log_pipeline = LogPipeline("info", directory=tmp_path, stream=stream)
    log_pipeline.start()
    logger = logging.getLogger("ipam_lib")
    for number in range(500):
        logger.info("line %d", number)
    assert log_pipeline.dropped >= 399
    released.set()
    drained(log_pipeline)
    logger.info("the last one")
    log_pipeline.stop()
    assert "log lines were dropped" in stream.getvalue()
    assert "the last one" in stream.getvalue()


def test_files_are_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LARGEST_FILE", 2_000)
    log_pipeline = LogPipeline("info", directory=tmp_path, stream=io.StringIO())
    log_pipeline.start()
    for number in range(100):
        logging.getLogger("ipam_lib").info("line %d", number)
    log_pipeline.stop()
    files = sorted(path.name for path in tmp_path.glob("ipam-api.log*"))
    assert len(files) == 1 + pipeline.FILES_KEPT or len(files) > 3
    assert all(path.stat().st_size <= 2_200 for path in tmp_path.glob("ipam-api.log*"))


def test_stopping_twice_is_fine_and_gives_the_text_back(tmp_path: Path) -> None:
    stream = io.StringIO()
    log_pipeline = LogPipeline("info", directory=tmp_path, stream=stream)
    log_pipeline.start()
    log_pipeline.stop()
    log_pipeline.stop()
    logging.getLogger("ipam_lib").info("after the end")
    assert "after the end" in stream.getvalue()


def test_records_gather_before_the_one_thread_is_handed_them() -> None:
    """It is woken once for all that were put in meanwhile, in their order."""
    gathering = pipeline._Gathering(longest=1_000, seconds=30.0)
    taken: list[str] = []

    def write() -> None:
        while (record := gathering.get()) is not None:
            taken.append(record.msg)

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(1_000):
        gathering.put_nowait(logging.makeLogRecord({"msg": str(number)}))
    assert taken == [], "it lets others gather"
    with pytest.raises(queue.Full):
        gathering.put_nowait(logging.makeLogRecord({}))
    gathering.put_nowait(None)
    writer.join(30)
    assert taken == [str(number) for number in range(1_000)], "the end is not waited for"
    with pytest.raises(queue.Empty):
        gathering.get(block=False)


def test_what_is_put_in_while_it_is_being_written_is_not_forgotten() -> None:
    gathering = pipeline._Gathering(longest=1_000_000, seconds=0.0)
    taken: list[str] = []

    def write() -> None:
        while (record := gathering.get()) is not None:
            taken.append(record.msg)

    def put(name: str) -> None:
        for number in range(2_000):
            gathering.put_nowait(logging.makeLogRecord({"msg": f"{name}{number}"}))

    writer = threading.Thread(target=write)
    putters = [threading.Thread(target=put, args=(name,)) for name in "abc"]
    for thread in (writer, *putters):
        thread.start()
    for thread in putters:
        thread.join(30)
    assert until(lambda: gathering.settled)
    gathering.put_nowait(None)
    writer.join(30)
    assert sorted(taken) == sorted(f"{name}{number}" for name in "abc" for number in range(2_000))
    assert [each for each in taken if each[0] == "a"] == [f"a{number}" for number in range(2_000)]
