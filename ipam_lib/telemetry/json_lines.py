"""One JSON object a line: what stands in the log files, and in the events that Splunk gets."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from ipam_lib.telemetry.logs import HTTP, extras, timestamp
from ipam_lib.telemetry.redaction import LINE

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, default=str, separators=(",", ":"))
_quoted: Final = json.encoder.encode_basestring
# What a record has of its own accord, and the fields of an answered request.
_HTTP_SIZE: Final = len(logging.makeLogRecord({}).__dict__) + 8
_HTTP_FIELDS = ("request_id", "status", "method", "path", "ip", "response_time_ms", "user_agent", "body", "reason")


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The line as a mapping: `timestamp`, `level`, `message`, `caller` and the record's own fields; of a line about a
    request, its fields in the order of the documentation."""
    fields: dict[str, Any] = {
        "timestamp": timestamp(record),
        "level": record.levelname.lower(),
        "message": record.getMessage(),
        "caller": f"{record.name}:{record.lineno}",
    }
    own = extras(record)
    if record.name == HTTP:
        for name in _HTTP_FIELDS:
            if name in own:
                fields[name] = own.pop(name)
    for name, value in own.items():
        if name not in fields:
            fields[name] = value
    if record.exc_text:
        fields["exception"] = record.exc_text
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields


def dump(fields: dict[str, Any]) -> str:
    """JSON on one line; what JSON cannot hold becomes text."""
    return _ENCODER.encode(fields)


def _http_line(record: logging.LogRecord) -> str | None:
    """The line about a request, without the machinery that others need; None for one that is not as they usually
    are."""
    own = record.__dict__
    if len(own) != _HTTP_SIZE or record.exc_text or record.stack_info:
        return None
    try:
        return (
            f'{{"timestamp":"{timestamp(record)}","level":"{record.levelname.lower()}","message":{_quoted(record.msg)},'
            f'"caller":"{HTTP}:{record.lineno}","request_id":{_quoted(own["request_id"])},"status":{own["status"]:d},'
            f'"method":{_quoted(own["method"])},"path":{_quoted(own["path"])},"ip":{_quoted(own["ip"])},'
            f'"response_time_ms":{own["response_time_ms"]!r},"user_agent":{_quoted(own["user_agent"])},'
            f'"body":{_quoted(own["body"])}}}'
        )
    except (KeyError, TypeError, ValueError):
        return None


def json_line(record: logging.LogRecord) -> str:
    """The line as JSON; made once for all destinations of a record."""
    line: str | None = record.__dict__.get(LINE)
    if line is None:
        line = (_http_line(record) if record.name == HTTP else None) or dump(fields_of(record))
        record.__dict__[LINE] = line
    return line


class JSONFormatter(logging.Formatter):
    """Formats a record as `fields_of` says."""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        return json_line(record)
