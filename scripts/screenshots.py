"""The pictures in docs/screenshots: the pages over sample data, in a real browser.

python -m scripts.screenshots [--out DIRECTORY]    takes them anew
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from ipam_lib.clock import whole_milliseconds
from ipam_lib.models import ServiceKey, Tenure
from tests.browser.site import site
from tests.storage.samples import registration
from tests.storage.samples import service as service_of
from tests.support.browser import chromium, installed, resize
from tests.support.processes import BEARER, TOKEN, Process, call, ready, running, until, write_config
from tests.web.service import TOKEN as TOKEN_OF_SITE

DIRECTORY: Final = Path(__file__).parents[1] / "docs" / "screenshots"
LARGEST: Final = 250_000
SECONDS: Final = 30
_NAMES = uuid.UUID("8d5c6f0e-3b77-4a0f-9f0a-7a1c55d3a7b4")
# Addresses to keep ahead of demand, in each family of a zone; and services to register: zone, family, how many.
POOLS: Final = {"inet": 48, "hnet-private": 96}
FAMILIES: Final = 2
# What other systems have in NetBox, in the VRF of the sample: gateways, a DHCP range, a subnet.
OTHERS: Final = (
    ("prefixes", {"prefix": "83.118.169.192/26"}),
    ("ip-ranges", {"start_address": "83.118.169.128/24", "end_address": "83.118.169.159/24"}),
    *(("ip-addresses", {"address": one}) for one in ("83.118.168.1/24", "83.118.169.1/24", "100.64.0.1/24")),
    ("ip-addresses", {"address": "10.10.0.1/22"}),
    ("prefixes", {"prefix": "10.10.2.0/23"}),
)
SAMPLE: Final = (
    ("inet", "ipv4", 187),
    ("inet", "ipv6", 41),
    ("hnet-public", "ipv4", 239),
    ("hnet-public", "ipv6", 12),
    ("hnet-private", "ipv4", 131),
    ("hnet-private", "ipv6", 9),
)
SERVICES: Final = ("ingress", "gateway", "registry", "grafana", "postgres-rw", "kafka-bootstrap", "mqtt", "vault")


def identity(*words: object) -> str:
    """A UUID that is the same every time."""
    return str(uuid.uuid5(_NAMES, " ".join(map(str, words))))


def service(zone: str, number: int) -> dict[str, Any]:
    """The service that is registered as this number of a zone."""
    cluster = number % 7
    return {
        "service_name": f"{SERVICES[number % len(SERVICES)]}-{zone.partition('-')[0]}-{number:03}",
        "namespace_id": identity("namespace", cluster, number % 5),
        "cluster_id": identity("cluster", cluster),
        "retention_period_days": (0, 0, 7, 14)[number % 4],
        "deny_external_cleanup": number % 9 == 0,
    }


def register(url: str) -> None:
    """Register the sample: some addresses shared, and some services on their way out.

    Raises RuntimeError when the service refuses one.
    """
    for zone, family, many in SAMPLE:
        for number in range(many):
            body: dict[str, Any] = {
                "zone": zone,
                "ip_family": family,
                "secret": f"a-secret-of-{zone}-{number}",
                "service": service(zone, number),
            }
            answer = accepted("POST", url, body)
            if number % 6 == 1:
                neighbour = service(zone, number + 1) | {"service_name": f"{SERVICES[number % 8]}-canary"}
                accepted("POST", url, body | {"address": answer["address"], "service": neighbour})
            if number % 11 == 3:
                body["service"]["retention_period_days"] = 7
                accepted("DELETE", url, body)


def accepted(method: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
    """What the service answers. Raises RuntimeError when that is a refusal."""
    status, content = call(method, url, body)
    if status != 200:
        raise RuntimeError(f"{method} {body}: {status} {content}")
    return dict(content)


@contextmanager
def serving(directory: Path) -> Iterator[Process]:
    """The service over a NetBox simulator and the sample."""
    with running("simulate-netbox", "--port", "0", "--token", TOKEN, cwd=directory) as netbox:
        for kind, fields in OTHERS:
            headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
            status, content = call("POST", f"{netbox.url}/api/ipam/{kind}/", {"vrf": 1, **fields}, headers)
            if status != 201:
                raise RuntimeError(f"{fields}: {status} {content}")
        sections = {"url": netbox.url, "token_path": "netbox.secret", "warm_addresses": POOLS}
        config = write_config(directory, netbox.url, {"storage": {"sqlite": "registrations.sqlite"}}, netbox=sections)
        with running("serve", "--config", str(config), cwd=directory) as process:
            if not ready(process.url):
                raise RuntimeError(f"the service is not ready: {process.errors}")
            # A pool is only filled anew when a quarter is gone.
            until(lambda: _total(process.url, "reserved") >= 0.75 * FAMILIES * sum(POOLS.values()))
            register(process.url)
            # What is used is counted anew every 15 seconds.
            until(lambda: _total(process.url, "used") == sum(many for _, _, many in SAMPLE))
            yield process


def _total(url: str, name: str) -> int:
    zones = call("GET", f"{url}/v2/zones", headers={"Authorization": f"Bearer {BEARER}"})[1]["zones"]
    return sum(use[name] for zone in zones for use in zone["families"])


def take_history(chrome: Chrome, out: Path) -> None:
    """A picture of an address that several services had. Its history is written directly: it takes days to arise."""
    now = whole_milliseconds(datetime.now(UTC))
    ends = [now - timedelta(days=days, minutes=days * 7) for days in (0, 12, 59, 211)]
    past = [
        Tenure(
            id=f"{number:024x}",
            registration_id=f"{number:024x}",
            zone="inet",
            ip_family="ipv4",
            address="83.118.168.10/32",
            key=ServiceKey(f"{SERVICES[number]}-inet", identity("namespace", number), identity("cluster", number % 2)),
            since=ends[number + 1] + timedelta(hours=30) if number + 1 < len(ends) else None,
            until=ends[number],
        )
        for number in range(1, len(ends))
    ]
    holder = service_of(
        "ingress-inet",
        namespace=identity("namespace", 0),
        cluster=identity("cluster", 0),
        since=ends[1] + timedelta(hours=30),
    )
    holds = registration(9, address="83.118.168.10/32", services=(holder,))
    with site() as place:
        place.add(holds)
        place.do(place.store.history_insert(past))
        camera = Camera(chrome, place.url, out, token=TOKEN_OF_SITE)
        camera.open("/#history=83.118.168.10", width=1280, height=900)
        camera.wait_for("dialog .history")
        camera.take("history")


class Camera:
    """Takes pictures of the pages at an address."""

    def __init__(self, chrome: Chrome, url: str, out: Path, *, token: str = BEARER) -> None:
        self._token = token
        self._chrome = chrome
        self._url = url
        self._out = out

    def open(self, path: str, *, width: int, height: int, dark: bool = False) -> None:
        """Go to a page, with the token where it belongs."""
        resize(self._chrome, width, height, dark=dark, scale=1.5)
        self._chrome.get("about:blank")
        self._chrome.get(self._url + "/healthz")
        self._chrome.execute_script("sessionStorage.setItem('ipam-api.token', arguments[0])", self._token)
        self._chrome.get(self._url + path)

    def wait_for(self, selector: str) -> None:
        """Wait until there is such an element, and nothing is on its way."""
        wait = WebDriverWait(self._chrome, SECONDS)
        wait.until(lambda chrome: chrome.find_elements(By.CSS_SELECTOR, selector))
        wait.until(lambda chrome: not chrome.find_elements(By.CSS_SELECTOR, "[aria-busy=true]"))

    def click(self, selector: str) -> None:
        """Press what the selector finds first."""
        self._chrome.find_element(By.CSS_SELECTOR, selector).click()

    def take(self, name: str, *, top: str | None = None) -> None:
        """Take the picture, and make it small. `top`: what to have at the upper edge."""
        script = "document.querySelector(arguments[0]).scrollIntoView({behavior: 'instant'})"
        if top:
            self._chrome.execute_script(script, top)
        self._chrome.execute_script("document.activeElement.blur()")
        path = self._out / f"{name}.png"
        self._chrome.save_screenshot(str(path))
        if shutil.which("pngquant"):
            command = ["pngquant", "--force", "--speed", "1", "--strip", "--skip-if-larger", "--output", path, path]
            # 98: it would have become larger.
            if subprocess.run(command, check=False).returncode not in (0, 98):
                raise RuntimeError(f"pngquant failed on {path}")
        print(f"{path}: {path.stat().st_size // 1000} kB")


def main() -> int:
    """Take them. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Take the pictures in docs/screenshots again.")
    parser.add_argument("--out", type=Path, default=DIRECTORY, help="where to put them (docs/screenshots)")
    out: Path = parser.parse_args().out
    programs = installed()
    if programs is None:
        print("screenshots: chromium and chromedriver are needed", file=sys.stderr)
        return 1
    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="screenshots-") as directory,
        serving(Path(directory)) as process,
        chromium(*programs, Path(directory, "profile")) as chrome,
    ):
        camera = Camera(chrome, process.url, out)
        for name, dark in (("page-light", False), ("page-dark", True)):
            camera.open("/", width=1280, height=1000, dark=dark)
            camera.wait_for(".registrations")
            camera.take(name)
        camera.open("/#zone=inet&limit=25", width=1280, height=900)
        camera.wait_for(".registrations")
        camera.take("registrations", top="#registrations-title")
        take_history(chrome, out)
        camera.open("/", width=390, height=844)
        camera.wait_for(".registrations")
        camera.take("page-narrow", top="#zones-title")
        camera.open("/swagger/index.html", width=1280, height=900)
        camera.wait_for(".opblock-post")
        camera.take("swagger")
    large = [path.name for path in out.glob("*.png") if path.stat().st_size > LARGEST]
    if large:
        print(f"screenshots: larger than {LARGEST // 1000} kB: {', '.join(large)}; is pngquant there?", file=sys.stderr)
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())
