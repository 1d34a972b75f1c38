"""A browser for all of these tests, and a site for it to look at."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

import pytest
from selenium.webdriver import Chrome

from tests.browser.page_view import PageView
from tests.browser.site import Site, site
from tests.support.browser import chromium, installed, resize
from tests.support.not_run import skip_loudly


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    programs = installed()
    if programs is None:
        skip_loudly("browser tests", "no chromium and chromedriver on the path (Debian: chromium, chromium-driver)")
    with chromium(*programs, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="session")
def _site() -> Iterator[Site]:
    with site() as made:
        yield made


@pytest.fixture
def place(_site: Site) -> Site:
    """A service without registrations."""
    _site.clear()
    return _site


@pytest.fixture
def look(chrome: Chrome, place: Site) -> Iterator[PageView]:
    """The browser as if it were new. Whatever a test does, the console must stay empty: no error, and nothing that the
    page's policy had to stop."""
    page_view = PageView(chrome, place.url)
    resize(chrome, 1280)
    page_view.open()
    page_view.script("sessionStorage.clear()")
    page_view.complaints()
    yield page_view
    chrome.set_network_conditions(offline=False, latency=0, throughput=-1)
    assert page_view.complaints() == []
    shown = page_view.text("body")
    assert not [slip for slip in ("undefined", "null", "NaN", "[object") if slip in shown], shown


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core (https://github.com/dequelabs/axe-core), as a script."""
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
