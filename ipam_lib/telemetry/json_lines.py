"""One JSON object a line: what stands in the log files, and in the events that Splunk gets."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from ipam_lib.telemetry.logs import HTTP, extras
from ipam_lib.telemetry.redaction import LINE

_HTTP_FIELDS = ("request_id", "status", "method", "path", "ip", "response_time_ms", "user_agent", "body", "reason")


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The line as a mapping: `timestamp`, `level`, `message`, `caller` and the record's own fields; of a line about a
    request, its fields in the order of the documentation."""
    moment = datetime.fromtimestamp(record.created, UTC)
    fields: dict[str, Any] = {
        "timestamp": f"{moment:%Y-%m-%dT%H:%M:%S}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "message": record.getMessage(),
        "caller": f"{record.name}:{record.lineno}",
    }
    own = extras(record)
    if record.name == HTTP:
        fields.update((name, own.pop(name)) for name in _HTTP_FIELDS if name in own)
    fields.update((name, value) for name, value in own.items() if name not in fields)
    if record.exc_text:
        fields["exception"] = record.exc_text
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields


def dump(fields: dict[str, Any]) -> str:
    """JSON on one line; what JSON cannot hold becomes text."""
    return json.dumps(fields, ensure_ascii=False, default=str, separators=(",", ":"))


def json_line(record: logging.LogRecord) -> str:
    """The line as JSON; made once for all destinations of a record."""
    line: str | None = record.__dict__.get(LINE)
    if line is None:
        line = dump(fields_of(record))
        record.__dict__[LINE] = line
    return line


class JSONFormatter(logging.Formatter):
    """Formats a record as `fields_of` says."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        return json_line(record)
