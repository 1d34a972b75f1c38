"""`GET /metrics`."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.web.service import service


async def test_metrics_count_requests_by_route_and_never_by_path() -> None:
    async with service() as running:
        await running.call("GET", "/healthz")
        await running.call("GET", "/healthz")
        await running.call("GET", "/some/secret-path")
        await running.call("POST", "/", {"secret": "SuperSecret"})
        raw = await running.raw(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"Content-Type: text/plain" in head
    text = body.decode()
    counted = {
        (sample.labels["route"], sample.labels["method"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "ipam_http_requests_total"
    }
    assert counted == {
        ("/healthz", "GET", "200"): 2,
        ("none", "GET", "404"): 1,
        ("/", "POST", "400"): 1,
    }
    assert "secret-path" not in text
    assert "SuperSecret" not in text
