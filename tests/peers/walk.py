"""A user who moves through the site with a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

_SECONDS = 20

_FETCH = """
const [path, method, done] = arguments;
fetch(path, {method, headers: {Accept: "application/json"}})
  .then(async answer => done({status: answer.status, json: await answer.json()}))
  .catch(error => done({error: String(error)}));
"""

_UNREADABLE = """
const parts = colour => colour.match(/[0-9.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
  .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const paper = element => {
  for (let e = element; e; e = e.parentElement) {
    const colour = parts(getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const contrast = element => {
  const [a, b] = [light(parts(getComputedStyle(element).color)), light(paper(element))];
  return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
};
return [...document.querySelectorAll("main *")]
  .filter(e => [...e.childNodes].some(n => n.nodeType === Node.TEXT_NODE && n.data.trim()))
  .filter(e => contrast(e) < 4.5).map(e => e.outerHTML);
"""


class Walk:
    """A browser at the site.

    Args:
        driver: The browser.
        site: The site's address, without a slash at the end.
    """

    def __init__(self, driver: webdriver.Chrome, site: str) -> None:
        self.driver = driver
        self.site = site

    def go(self, path: str) -> None:
        """Open an address of the site, or any other address."""
        self.driver.get(path if path.startswith("http") else self.site + path)

    @property
    def at(self) -> str:
        """The path and query at the site, or the whole address of another site."""
        return self.driver.current_url.removeprefix(self.site)

    @property
    def heading(self) -> str:
        """The page's heading."""
        return self.driver.find_element(By.TAG_NAME, "h1").text

    @property
    def text(self) -> str:
        """The text of the page."""
        return self.driver.find_element(By.TAG_NAME, "main").text

    def press(self, label: str) -> None:
        """Click the link or button with this label, as soon as it exists."""
        labelled = f"//a[text()='{label}'] | //button[text()='{label}']"

        def pressed() -> bool:
            self.driver.find_element(By.XPATH, labelled).click()
            return True

        self.wait_for(pressed, label)

    def arrive(self, path: str) -> None:
        """Wait until the browser is at a path of the site."""
        self.arrive_where(path.__eq__)

    def arrive_where(self, right: Callable[[str], bool]) -> None:
        """Wait until the browser's address satisfies a condition (see ``at``)."""
        self.wait_for(lambda: right(self.at), "arrive")

    def see(self, heading: str, path: str = "") -> None:
        """Wait until the page of this heading is shown, at a path of the site if one is named.

        A click may return before the next page is there, which may have the path of the one before.
        """
        self.wait_for(lambda: self.heading == heading and path in ("", self.at), heading)

    def see_signed_out(self, heading: str) -> None:
        """Wait for the site's home page after a sign-out at the provider, which returns the state."""
        self.wait_for(lambda: self.heading == heading and self.at.startswith("/?state="), heading)

    def sign_in(self, username: str, password: str) -> None:
        """Fill in the page of the demo's provider."""
        self.driver.find_element(By.NAME, "username").send_keys(username)
        self.driver.find_element(By.NAME, "password").send_keys(password)
        self.press("Sign in and allow")

    def fetch(self, path: str, method: str = "GET") -> dict[str, Any]:
        """Return the result of a script's request: ``status`` and ``json``, or ``error``."""
        answer: dict[str, Any] = self.driver.execute_async_script(_FETCH, path, method)
        return answer

    def faults_of_looks(self) -> list[str]:
        """Return texts without contrast (WCAG 2.2 AA), and whether the page is too wide."""
        found: list[str] = self.driver.execute_script(_UNREADABLE)
        width, shown = self.driver.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        return found + ([f"{width} pixels in {shown}"] if width > shown else [])

    def wait_for(self, done: Callable[[], bool], goal: str) -> None:
        """Wait until a condition is true; the goal is a text for the error."""
        wait = WebDriverWait(
            self.driver, _SECONDS, 0.05, (NoSuchElementException, StaleElementReferenceException)
        )
        wait.until(lambda _: done(), f"{goal}, at {self.at}")
