"""The page as a user sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

T = TypeVar("T")

SECONDS = 30
ASIDE = (StaleElementReferenceException, NoSuchElementException)


@dataclass
class PageView:
    """The browser, looking at the site at this address."""

    chrome: Chrome
    url: str

    def open(self, path: str = "/", *, token: str | None = None) -> None:
        """Go there; with a token, as a tab in which it was typed in before."""
        self.chrome.get(self.url + "/healthz")
        if token is not None:
            self.chrome.execute_script("sessionStorage.setItem('ipam-api.token', arguments[0])", token)
        self.chrome.get(self.url + path)

    def until(self, seen: Callable[[], T], what: str = "") -> T:
        """What `seen` returns once that is true. Raises TimeoutException."""
        wait = WebDriverWait(self.chrome, SECONDS, poll_frequency=0.05, ignored_exceptions=ASIDE)
        return wait.until(lambda _: seen(), what)

    def find(self, selector: str) -> WebElement:
        """The first such element, once it is to be seen."""

        def seen() -> WebElement | None:
            element = self.chrome.find_element(By.CSS_SELECTOR, selector)
            return element if element.is_displayed() else None

        found = self.until(seen, f"{selector} is not to be seen")
        assert found is not None
        return found

    def all(self, selector: str) -> list[WebElement]:
        """All such elements that there are now."""
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What is to be read there."""
        return str(self.chrome.find_element(By.CSS_SELECTOR, selector).text)

    def texts(self, selector: str) -> list[str]:
        """What is to be read in each such element, all at one moment."""
        script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.innerText.trim())"
        return list(self.chrome.execute_script(script, selector))

    def wait_for(self, selector: str, words: str) -> str:
        """What is to be read there, once these words are among it."""
        self.until(lambda: words in self.text(selector), f"{words!r} does not come up in {selector}")
        return self.text(selector)

    def settled(self) -> None:
        """Wait until nothing is on its way."""
        self.until(lambda: not self.all("[aria-busy=true]"))

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def fill(self, selector: str, text: str) -> None:
        """Replace what stands in a field."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.chrome).send_keys(*keys).perform()

    def focused(self) -> str:
        """Id of the element that has the focus, else its text."""
        return str(self.script("const e = document.activeElement; return e.id || e.textContent.trim()"))

    def walk(self, most: int = 200, back: bool = False) -> list[str]:
        """Where Tab leads, one after the other, until it leaves the page or comes round."""
        seen: list[str] = []
        keys = ActionChains(self.chrome)
        for _ in range(most):
            if back:
                keys.key_down(Keys.SHIFT)
            keys.send_keys(Keys.TAB)
            if back:
                keys.key_up(Keys.SHIFT)
            keys.perform()
            name = self.focused()
            if self.script("return document.activeElement === document.body") or name in seen[:1]:
                break
            seen.append(name)
        return seen

    def script(self, text: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self.chrome.execute_script(text, *arguments)

    def module(self, text: str, *arguments: Any) -> Any:
        """What the body of a function returns that has our modules as `api` and `view`."""
        script = (
            "const done = arguments[arguments.length - 1], given = [...arguments].slice(0, -1);"
            "Promise.all([import('/assets/api.js'), import('/assets/view.js')])"
            f".then(([api, view]) => ((given) => {{ {text} }})(given))"
            ".then((found) => done({found}), (error) => done({error: String(error)}))"
        )
        answer = self.chrome.execute_async_script(script, *arguments)
        assert "error" not in answer, answer
        return answer["found"]

    def complaints(self, *, refusals: bool = False) -> list[str]:
        """What the browser's console holds since it was last looked at, warnings and errors. `refusals`: also that an
        answer was an error, which the browser notes by itself."""
        return [
            entry["message"]
            for entry in self.chrome.get_log("browser")
            if entry["level"] in {"WARNING", "SEVERE"} and (refusals or entry["source"] != "network")
        ]
