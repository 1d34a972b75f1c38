"""One log line for each answer, also for answers that aiohttp itself gives (to invalid HTTP)."""

from __future__ import annotations

import logging

from aiohttp import hdrs, web
from aiohttp.abc import AbstractAccessLogger

from ipam_lib.telemetry.body_masking import mask_body, mask_text
from ipam_lib.telemetry.logs import HTTP
from ipam_lib.web.access_control import CERTIFICATE
from ipam_lib.web.client_address import client_address, peer_address
from ipam_lib.web.responses import BODY, DATA, REASON, request_id_of

log = logging.getLogger(HTTP)


class AccessLogger(AbstractAccessLogger):
    """aiohttp calls it after it has written an answer."""

    @property
    def enabled(self) -> bool:
        """Whether the level of the log lets any such line through."""
        return log.isEnabledFor(logging.WARNING)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, seconds: float) -> None:
        """Log one answer. `seconds`: the time that it took. Errors that the client did not cause (5xx) are warnings.

        `reason` has the message of an error, `proxy` the peer if it forwarded the request, `certificate` the names in
        the client certificate.
        """
        level = logging.WARNING if response.status >= 500 else logging.INFO
        if not log.isEnabledFor(level):
            return
        # The path as the client sent it, percent-encoded. The query may hold secrets, so it is left out.
        path = mask_text(request.rel_url.raw_path)
        body = request.get(BODY)
        fields = {
            "request_id": request_id_of(request),
            "status": response.status,
            "method": request.method,
            "path": path,
            "ip": client_address(request),
            "response_time_ms": round(seconds * 1000, 3),
            "user_agent": mask_text(request.headers.get(hdrs.USER_AGENT, "")),
            "body": mask_body(body, valid=DATA in request) if body else "",
        }
        more = {"certificate": request.get(CERTIFICATE), "reason": response.get(REASON)}
        if (proxy := peer_address(request)) != fields["ip"]:
            more["proxy"] = proxy
        fields |= {name: value for name, value in more.items() if value is not None}
        log.log(level, "%s %s %d", request.method, path, response.status, extra=fields)
