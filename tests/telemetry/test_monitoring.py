"""docs/metrics.md, docs/alerts.yml and docs/grafana-dashboard.json are held to what the program shows.

python -m tests.telemetry.test_monitoring    writes the table in docs/metrics.md anew
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from ipam_lib.models import PoolState
from ipam_lib.registry import PoolReport, QuotaUse, Statistics
from ipam_lib.registry.zone_usage import FamilyUse, ZoneUse
from ipam_lib.storage.pool_store import PoolKey
from ipam_lib.storage.usage import Usage
from ipam_lib.telemetry.metrics import Metrics
from tests.support.not_run import skip_loudly
from tests.support.processes import REPOSITORY, running

DOCS = REPOSITORY / "docs"
PAGE = DOCS / "metrics.md"
DASHBOARD = DOCS / "grafana-dashboard.json"
START, END = "<!-- metrics: generated, see tests/telemetry/test_monitoring.py -->\n", "<!-- end of metrics -->\n"
# What Prometheus itself adds.
OF_THE_PROCESS = "process_"
OF_PROMETHEUS = {"up", "instance", "job", "le"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


def text_of_the_program(directory: Path) -> str:
    """What a serving process shows at `/metrics`."""
    with (
        running("demo", "--data", str(directory), "--port", "0", cwd=directory.parent) as demo,
        urllib.request.urlopen(f"{demo.url}/metrics", timeout=30) as answer,
    ):
        return str(answer.read().decode())


def text_with_everything() -> str:
    """Of each metric that has labels, a sample."""
    metrics = Metrics()
    metrics.request("/", "POST", 200, 0.1)
    metrics.netbox_call("create_next", "ok", 0.1)
    metrics.storage_call("insert", "ok", 0.1)
    metrics.pool_kept(PoolReport(made=1))
    metrics.registered("inet", "ipv4")
    metrics.refused("network_not_allowed")
    metrics.event("prefix", "accepted")
    metrics.round_done("cleanup", ok=True, at=1.0)
    metrics.add_callback_gauge("http_requests_in_flight", "In flight", lambda: 1)
    metrics.add_callback_counter("log_dropped_lines", "Lost", "where", lambda: {"queue": 0})
    metrics.add_callback_counter("quota_refusals", "Refused", "quota", lambda: {"cluster": 0})
    place = ("inet", "ipv4")
    metrics.counted(
        Statistics(
            0.0,
            [ZoneUse("inet", [FamilyUse("ipv4", 256, 1, 1, [], 254, 0, 0, datetime(2026, 1, 1, tzinfo=UTC))])],
            {place: Usage({"live": 1}, 1, 1)},  # type: ignore[dict-item]
            {PoolKey("inet", "ipv4", PoolState.READY): 1},
            {place: 5},  # type: ignore[dict-item]
            [QuotaUse("cluster", "inet", 10, 9, 1)],
        )
    )
    return metrics.text().decode()


def families(text: str) -> dict[str, Metric]:
    """The metrics in a text, by name; a counter's without `_total`."""
    return {family.name: family for family in text_string_to_metric_families(text)}


def labels() -> dict[str, list[str]]:
    """The labels of each metric, in the order of the program."""
    return {
        name: list(dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le"))
        for name, family in families(text_with_everything()).items()
    }


def table(text: str) -> str:
    """The table of the metrics."""
    known = labels()
    rows = ["| Metric | Kind | Labels | What |", "|---|---|---|---|"]
    for name, family in sorted(families(text).items()):
        if name.startswith(OF_THE_PROCESS):
            continue
        shown = name + ("_total" if family.type == "counter" else "")
        named = ", ".join(f"`{label}`" for label in known.get(name, []))
        rows.append(f"| `{shown}` | {family.type} | {named} | {family.documentation} |")
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    return text_of_the_program(tmp_path_factory.mktemp("metrics") / "data")


def test_every_metric_is_documented(shown: str) -> None:
    page = PAGE.read_text("utf-8")
    assert page.partition(START)[2].partition(END)[0] == table(shown), "run: python -m tests.telemetry.test_monitoring"


def expressions_of_the_alerts() -> Iterator[str]:
    """What the alerts ask for."""
    text = (DOCS / "alerts.yml").read_text("utf-8")
    for block in re.findall(r"expr: (?:>-\n)?(.*?)\n {8}(?:for|labels):", text, re.DOTALL):
        yield " ".join(block.split())


def expressions_of_the_dashboard() -> Iterator[str]:
    """What the dashboard asks for."""
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield re.sub(r"label_values\((\w+), (\w+)\)", r"count by (\2) (\1)", variable["definition"])


def asked(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics in an expression, each with the labels that it is chosen by."""
    for name, chosen in re.findall(r"\b((?:ipam|process)_\w+|up)\b(?:\{(.*?)\})?", expression):
        yield name, set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', chosen))


@pytest.mark.parametrize(
    "expression",
    dict.fromkeys([*expressions_of_the_alerts(), *expressions_of_the_dashboard()]),
    ids=lambda one: one[:60],
)
def test_what_is_asked_for_exists(shown: str, expression: str) -> None:
    known = labels()
    samples = {
        family.name + suffix: {*known.get(family.name, []), *(("le",) if suffix == "_bucket" else ())}
        for family in families(shown).values()
        for suffix in SUFFIXES[family.type]
    }
    found = list(asked(expression))
    assert found
    for name, chosen in found:
        if name not in OF_PROMETHEUS:
            assert name in samples, f"there is no metric {name}"
            assert chosen <= samples[name] | OF_PROMETHEUS, f"{name} has no label {chosen - samples[name]}"
    of_all = set().union(*(samples.get(name, set()) for name, _ in found)) | OF_PROMETHEUS
    for grouped in re.findall(r"\b(?:by|without) \(([^)]*)\)", expression):
        assert {one.strip() for one in grouped.split(",")} <= of_all, grouped


def test_the_dashboard_and_the_alerts_show_every_metric() -> None:
    """A metric that no alert and no dashboard uses need not exist."""
    everything = [*expressions_of_the_alerts(), *expressions_of_the_dashboard()]
    named = {name for expression in everything for name, _ in asked(expression)}
    for family in families(text_with_everything()).values():
        if family.name.startswith(OF_THE_PROCESS):
            continue
        assert any(family.name + suffix in named for suffix in SUFFIXES[family.type]), family.name


@pytest.fixture
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        skip_loudly("tests of the alerts", "there is no promtool; install prometheus")
    return program


def test_the_alerts_are_rules_and_go_off_when_they_should(promtool: str) -> None:
    for arguments in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]):
        done = subprocess.run([promtool, *arguments], cwd=DOCS, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = set(re.findall(r"- alert: (\w+)", (DOCS / "alerts.yml").read_text("utf-8")))
    tried = set(re.findall(r'alertname(?:: |=")(\w+)', (DOCS / "alerts.test.yml").read_text("utf-8")))
    assert tried == alerts


def test_prometheus_has_nothing_against_the_metrics(promtool: str, shown: str) -> None:
    for text in (shown, text_with_everything()):
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        found = table(text_of_the_program(Path(made) / "data"))
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(START)
    PAGE.write_text(before + START + found + END + rest.partition(END)[2], "utf-8")
