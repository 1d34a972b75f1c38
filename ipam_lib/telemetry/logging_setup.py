"""The logging of a serving process, from its start to its end, as the settings want it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TextIO

from ipam_lib.config import Settings
from ipam_lib.telemetry import redaction
from ipam_lib.telemetry.pipeline import LogPipeline
from ipam_lib.telemetry.splunk import SplunkHandler, SplunkSettings


def make_splunk(settings: Settings) -> SplunkHandler | None:
    """The destination for Splunk, when that is enabled."""
    splunk = settings.splunk
    if not splunk.enable or splunk.url is None or splunk.token is None:
        return None
    return SplunkHandler(
        SplunkSettings(
            url=splunk.url,
            token=splunk.token.reveal(),
            index=splunk.index,
            source=splunk.source,
            sourcetype_app=splunk.sourcetype_app,
            sourcetype_http=splunk.sourcetype_http,
        )
    )


@asynccontextmanager
async def run_logging(settings: Settings, stream: TextIO | None = None) -> AsyncIterator[LogPipeline]:
    """While this lasts, every log line goes to standard error, to the files, and to Splunk when that is enabled. What
    is queued at the end is written; Splunk gets a few seconds for the rest."""
    redaction.add_secrets(settings.secrets())
    splunk = make_splunk(settings)
    pipeline = LogPipeline(
        settings.logging.level,
        directory=settings.logging.directory,
        sinks=[splunk] if splunk else [],
        stream=stream,
    )
    pipeline.start()
    try:
        if splunk:
            await splunk.start()
        yield pipeline
    finally:
        await asyncio.to_thread(pipeline.stop)
        if splunk:
            await splunk.stop()
