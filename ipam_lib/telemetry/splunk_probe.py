"""Check Splunk's HTTP Event Collector and its token, without sending an event.

The collector answers a body without data with code 5 if the token is valid, and with another code if not:
https://docs.splunk.com/Documentation/Splunk/latest/Data/TroubleshootHTTPEventCollector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from ipam_lib.findings import Finding, error, ok, stays_here, warning

NO_DATA: Final = 5
SECONDS: Final = 10.0
_ADVICE_ADDRESS: Final = "is splunk.url the address of the collector, with its port (8088, as a rule)?"


async def probe(url: str, token: str, *, seconds: float = SECONDS) -> list[Finding]:
    """The findings. `seconds`: the time limit of one request."""
    found = [_transport_security(url)]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds), trust_env=False) as session:
        try:
            status, said = await _ask(session, "GET", f"{url}/services/collector/health")
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            return [*found, error("splunk.health", f"{url}: {_problem_text(problem)}", _ADVICE_ADDRESS)]
        found.append(_health(url, status, said))
        headers = {"Authorization": f"Splunk {token}", "Content-Type": "application/json"}
        try:
            status, said = await _ask(session, "POST", f"{url}/services/collector/event", headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            return [*found, error("splunk.token", f"{url}: {_problem_text(problem)}", _ADVICE_ADDRESS)]
        return [*found, _token(status, said)]


def _transport_security(url: str) -> Finding:
    parts = urlsplit(url)
    if parts.scheme == "https":
        return ok("splunk.tls", "TLS, with the system's authorities")
    if stays_here(parts.hostname or ""):
        return ok("splunk.tls", "no TLS, within this machine")
    advice = "let splunk.url begin with https://"
    return warning("splunk.tls", "no TLS: the token and the logs can be read on their way", advice)


async def _ask(
    session: aiohttp.ClientSession, method: str, url: str, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, Any]]:
    """Status and JSON object of the answer; an empty object if it has none."""
    async with session.request(method, url, headers=headers, allow_redirects=False) as answer:
        raw = await answer.content.read(64 * 1024)
    try:
        said = json.loads(raw)
    except ValueError:
        said = None
    return answer.status, said if isinstance(said, dict) else {}


def _health(url: str, status: int, said: Mapping[str, Any]) -> Finding:
    if status == 200:
        return ok("splunk.health", f"{url} is well")
    told = f"{url} answers {status}{_text(said)}"
    if status == 503:
        return warning("splunk.health", told, "it is busy: events wait, and are dropped when that lasts")
    return error("splunk.health", told, _ADVICE_ADDRESS)


def _token(status: int, said: Mapping[str, Any]) -> Finding:
    check = "splunk.token"
    if said.get("code") == NO_DATA or status == 200:
        return ok(check, "the collector takes the token")
    if status in (401, 403):
        return error(check, f"the collector refuses the token{_text(said)}", "put a valid one into splunk.token_path")
    return warning(check, f"whether it takes the token cannot be told: {status}{_text(said)}", "try again later")


def _text(said: Mapping[str, Any]) -> str:
    text = said.get("text")
    return f" ({text})" if isinstance(text, str) else ""


def _problem_text(problem: Exception) -> str:
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    if isinstance(problem, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {problem.certificate_error}"
    return str(problem) or type(problem).__name__
