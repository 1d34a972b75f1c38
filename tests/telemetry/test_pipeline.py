"""The log pipeline: two files and text, nothing secret, nothing that waits."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipam_lib.telemetry import logs, redaction
from ipam_lib.telemetry.pipeline import LogPipeline

LONG = 30.0


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the root logger back as it was, and forget the secrets."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(redaction, "_of_process", set())
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


Make = Callable[..., LogPipeline]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Make]:
    """A function that starts a pipeline over `tmp_path`; each is stopped at the end."""
    made: list[LogPipeline] = []

    def make(**options: Any) -> LogPipeline:
        pipeline = LogPipeline("info", **{"directory": tmp_path, "stream": io.StringIO(), **options})
        pipeline.start()
        made.append(pipeline)
        return pipeline

    yield make
    for pipeline in made:
        pipeline.stop(0.1)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_about_requests_and_all_others_go_to_files_of_their_own(tmp_path: Path, started: Make) -> None:
    stream = io.StringIO()
    pipeline = started(directory=tmp_path / "logs", stream=stream)
    token = logs.request_id.set("abc123")
    logging.getLogger("ipam_lib.registry").info("released %s", "10.0.0.1/32", extra={"zone": "inet"})
    logs.request_id.reset(token)
    logging.getLogger(logs.HTTP).info(
        "POST / 200", extra={"request_id": "r1", "status": 200, "method": "POST", "path": "/", "body": "{}"}
    )
    logging.getLogger("ipam_lib.registry").debug("not wanted")
    pipeline.stop()

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


def test_no_known_secret_leaves_the_process(tmp_path: Path, started: Make) -> None:
    stream = io.StringIO()
    redaction.add_secrets(["netbox-token-1", "short"])
    pipeline = started(stream=stream)
    token = redaction._of_request.set(["SuperSecret", "OtherSecret"])
    logger = logging.getLogger("ipam_lib.anything")
    try:
        raise ValueError("could not open SuperSecret with netbox-token-1")
    except ValueError:
        logger.exception("failed for %r and %s", {"secret": "OtherSecret"}, "short", extra={"field": "xSuperSecretx"})
    redaction._of_request.reset(token)
    pipeline.stop()
    written = stream.getvalue() + (tmp_path / "ipam-api.log").read_text()
    for secret in ("SuperSecret", "OtherSecret", "netbox-token-1"):
        assert secret not in written
    assert "short" in written
    assert "ValueError: could not open ********" in written


def test_a_line_whose_values_do_not_fit_is_written_without_them(
    tmp_path: Path, started: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.StringIO()
    pipeline = started(stream=stream)
    logging.getLogger("ipam_lib").info("%d of them", "SuperSecret")
    pipeline.stop()
    assert "a bug: this line lacks its values: %d of them" in stream.getvalue()
    assert "a bug" in lines(tmp_path / "ipam-api.log")[0]["message"]
    assert "SuperSecret" not in stream.getvalue() + "".join(capsys.readouterr())


def test_a_directory_that_cannot_be_made_is_complained_about_and_the_service_goes_on(
    tmp_path: Path, started: Make
) -> None:
    (tmp_path / "file").write_text("in the way")
    stream = io.StringIO()
    pipeline = started(directory=tmp_path / "file" / "logs", stream=stream)
    logging.getLogger("ipam_lib").info("still here")
    pipeline.stop()
    assert "cannot make the log directory" in stream.getvalue()
    assert "still here" in stream.getvalue()


def test_a_full_disk_is_complained_about_once_a_minute_and_tried_again(tmp_path: Path, started: Make) -> None:
    stream, now = io.StringIO(), [0.0]
    path = tmp_path / "ipam-api.log"
    path.symlink_to("/dev/full")
    pipeline = started(stream=stream, monotonic=lambda: now[0])
    logger = logging.getLogger("ipam_lib")
    for text in ("one", "two"):
        logger.info(text)
        assert pipeline.flush(LONG)
    assert stream.getvalue().count(os.strerror(errno.ENOSPC)) == 1
    now[0] = 61.0
    logger.info("three")
    assert pipeline.flush(LONG)
    assert stream.getvalue().count(os.strerror(errno.ENOSPC)) == 2
    assert "3 lines are missing there so far" in stream.getvalue()
    assert pipeline.dropped == {"queue": 0, "stderr": 0, "files": 3, "bug": 0, "splunk": 0}
    path.unlink()
    logger.info("four")
    pipeline.stop()
    assert [line["message"] for line in lines(path)] == ["four"]
    assert all(text in stream.getvalue() for text in ("one", "two", "three", "four"))


def test_a_directory_in_the_place_of_a_file_costs_that_file_only(tmp_path: Path, started: Make) -> None:
    (tmp_path / "ipam-api.log").mkdir()
    stream = io.StringIO()
    pipeline = started(stream=stream)
    logging.getLogger("ipam_lib").info("still here")
    logging.getLogger(logs.HTTP).info("GET / 200")
    pipeline.stop()
    assert "cannot write" in stream.getvalue()
    assert "still here" in stream.getvalue()
    assert [line["message"] for line in lines(tmp_path / "http.log")] == ["GET / 200"]


class Pipe:
    """A pipe without a reader, as standard error."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.stream = os.fdopen(writer, "w")

    def read_all(self) -> str:
        """What has been written, once the writer has closed."""
        with os.fdopen(self.reader) as reader:
            return reader.read()


def test_a_pipe_that_nobody_reads_makes_nobody_wait(tmp_path: Path, started: Make) -> None:
    pipe = Pipe()
    pipeline = started(stream=pipe.stream, longest_queue=1000)
    logger = logging.getLogger("ipam_lib")
    for number in range(5000):
        logger.info("line %d %s", number, "x" * 200)
    assert pipeline.dropped["queue"] >= 3000
    reading: list[str] = []
    thread = threading.Thread(target=lambda: reading.append(pipe.read_all()))
    thread.start()
    assert pipeline.flush(LONG)
    logger.info("the last one")
    pipeline.stop(LONG)
    pipe.stream.close()
    thread.join()
    (text,) = reading
    assert "log lines were dropped" in text
    assert "the last one" in text
    assert lines(tmp_path / "ipam-api.log")[-1]["message"] == "the last one"


def test_a_pipe_that_nobody_reads_does_not_keep_the_process_from_ending(started: Make) -> None:
    pipe = Pipe()
    pipeline = started(stream=pipe.stream)
    logger = logging.getLogger("ipam_lib")
    for _ in range(1000):
        logger.info("x" * 200)
    assert not pipeline.flush(0.2)
    pipeline.stop(0.2)
    logger.info("this goes nowhere, and waits for nobody")
    # Let go of the thread that waits there.
    os.close(pipe.reader)
    assert pipeline.flush(LONG)
    pipe.stream.close()


def test_a_reader_that_has_gone_costs_its_own_lines_only(tmp_path: Path, started: Make) -> None:
    pipe = Pipe()
    os.close(pipe.reader)
    pipeline = started(stream=pipe.stream)
    logging.getLogger("ipam_lib").info("one")
    pipeline.stop()
    pipe.stream.close()
    assert pipeline.dropped == {"queue": 0, "stderr": 1, "files": 0, "bug": 0, "splunk": 0}
    assert [line["message"] for line in lines(tmp_path / "ipam-api.log")] == ["one"]


def test_a_bug_in_one_destination_does_not_end_the_log(tmp_path: Path, started: Make) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise KeyError(record.getMessage())

    stream = io.StringIO()
    pipeline = started(stream=stream, sinks=[Broken()])
    for text in ("one", "two"):
        logging.getLogger("ipam_lib").info(text)
        assert pipeline.flush(LONG)
    pipeline.stop()
    assert [line["message"] for line in lines(tmp_path / "ipam-api.log")] == ["one", "two"]
    assert stream.getvalue().count("a bug: a line could not be written: KeyError") == 1
    assert pipeline.dropped["bug"] == 2


def test_stopping_twice_is_fine_and_gives_the_text_back(started: Make) -> None:
    stream = io.StringIO()
    pipeline = started(stream=stream)
    pipeline.stop()
    pipeline.stop()
    token = redaction._of_request.set(["SuperSecret"])
    logging.getLogger("ipam_lib").info("after the end of SuperSecret")
    redaction._of_request.reset(token)
    assert "after the end of ********" in stream.getvalue()


def test_every_line_is_there_in_its_order_from_many_threads(tmp_path: Path, started: Make) -> None:
    pipeline = started()
    logger = logging.getLogger("ipam_lib")

    def work(name: int) -> None:
        for number in range(300):
            logger.info("%d %d", name, number)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipeline.stop(LONG)
    written = [[int(word) for word in line["message"].split()] for line in lines(tmp_path / "ipam-api.log")]
    for name in range(4):
        assert [number for thread_name, number in written if thread_name == name] == list(range(300))
