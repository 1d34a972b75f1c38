"""Set up the logging of the service by its settings."""

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
    """The handler for Splunk, if it is enabled."""
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
    """Within the context, log lines go to standard error, the files, and Splunk if it is enabled.

    At its end the queue is written, and Splunk gets a few seconds for the rest.
    """
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
