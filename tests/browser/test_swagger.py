"""Swagger UI over the demo: "Try it out" works as it stands, and shows what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.page_view import PageView
from tests.support.browser import resize
from tests.support.processes import Process, ready, running


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    directory = tmp_path_factory.mktemp("demo")
    with running("demo", "--data", str(directory / "data"), "--port", "0", cwd=directory) as process:
        assert ready(process.url)
        yield process


@pytest.fixture
def look(chrome: Chrome, demo: Process) -> Iterator[PageView]:
    page_view = PageView(chrome, demo.url)
    resize(chrome, 1280)
    page_view.complaints()
    page_view.open("/swagger/index.html")
    page_view.find(".opblock")
    yield page_view
    assert page_view.complaints() == []


class Operation:
    """An operation, opened, with "Try it out" pressed."""

    def __init__(self, look: PageView, method: str, path: str) -> None:
        self.look = look
        blocks = look.all(f".opblock-{method}")
        self.block = next(block for block in blocks if self._path(block) == path)
        self._find(".opblock-summary-control").click()
        self._find(".try-out__btn").click()

    @staticmethod
    def _path(block: WebElement) -> str:
        return block.find_element(By.CSS_SELECTOR, "[data-path]").get_attribute("data-path") or ""

    def _find(self, selector: str) -> WebElement:
        def seen() -> WebElement | None:
            element = self.block.find_element(By.CSS_SELECTOR, selector)
            return element if element.is_displayed() else None

        found = self.look.until(seen, selector)
        assert found is not None
        return found

    @property
    def body(self) -> dict[str, Any]:
        """What stands in the field of the body."""
        return dict(json.loads(self._find(".body-param textarea").get_property("value")))

    @body.setter
    def body(self, content: dict[str, Any]) -> None:
        field = self._find(".body-param textarea")
        field.send_keys(Keys.CONTROL + "a")
        field.send_keys(json.dumps(content))

    def execute(self) -> tuple[str, dict[str, Any]]:
        """Status and body of the answer that is shown."""
        self._find(".execute").click()
        status = self._find(".live-responses-table .response .response-col_status").text.split()[0]
        shown = self._find(".live-responses-table .response .highlight-code, .live-responses-table .response pre").text
        return status, json.loads(shown[shown.index("{") : shown.rindex("}") + 1])


def test_the_title_the_information_and_the_way_back(look: PageView) -> None:
    assert look.text(".info .title").startswith("IPAM-API")
    assert look.texts(".opblock-tag a span") == ["Register and expire", "Read", "The service itself"]
    assert look.find(".top nav a").get_attribute("href") == look.url + "/"


def test_register_then_expire_with_what_the_fields_hold(look: PageView) -> None:
    register = Operation(look, "post", "/")
    assert register.body["zone"] == "inet"
    assert register.execute() == ("200", {"message": "Address registered successfully", "address": "83.118.168.0/32"})
    expire = Operation(look, "delete", "/")
    assert expire.body == register.body
    assert expire.execute() == (
        "200",
        {"message": "Service expiration set successfully", "address": "83.118.168.0/32"},
    )


def test_a_refusal_is_shown(look: PageView) -> None:
    register = Operation(look, "post", "/v2/address")
    register.body = register.body | {"zone": "nowhere"}
    status, content = register.execute()
    assert status == "400"
    assert "must be one of: 'inet'" in content["message"]
    assert content["errors"]["zone"]


def test_what_needs_the_token_says_so(look: PageView) -> None:
    status, content = Operation(look, "delete", "/v2/cluster").execute()
    assert (status, content) == ("401", {"code": "unauthorized", "message": "the bearer token is missing or wrong"})


def test_it_is_dark_where_that_is_preferred_and_not_wider_than_the_screen(look: PageView) -> None:
    assert not look.all("html.dark-mode")
    resize(look.chrome, 390, dark=True)
    look.find("html.dark-mode")
    assert look.script("return document.documentElement.scrollWidth") <= 390
    resize(look.chrome, 1280)
    look.until(lambda: not look.all("html.dark-mode"))
