"""JSON lines: the lines of the log files, and the events for Splunk."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from ipam_lib.telemetry.logs import extras, timestamp
from ipam_lib.telemetry.redaction import LINE

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, default=str, separators=(",", ":"))


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The line as a mapping: `timestamp`, `level`, `message`, `caller`, and the fields of the record in their order."""
    fields: dict[str, Any] = {
        "timestamp": timestamp(record),
        "level": record.levelname.lower(),
        "message": record.getMessage(),
        "caller": f"{record.name}:{record.lineno}",
    }
    for name, value in extras(record).items():
        fields.setdefault(name, value)
    if record.exc_text:
        fields["exception"] = record.exc_text
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields


def dump(fields: dict[str, Any]) -> str:
    """JSON on one line. Values without a JSON type become text."""
    return _ENCODER.encode(fields)


def json_line(record: logging.LogRecord) -> str:
    """The record as JSON, made once for all destinations."""
    line: str | None = record.__dict__.get(LINE)
    if line is None:
        line = record.__dict__[LINE] = dump(fields_of(record))
    return line


class JSONFormatter(logging.Formatter):
    """Formats a record as one JSON line."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        return json_line(record)
