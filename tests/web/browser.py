"""Drive the page in headless Chromium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import axe_playwright_python
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}


def chromium() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@cache
def axe() -> str:
    """Return the script of axe-core, which checks the accessibility of a page."""
    file = Path(axe_playwright_python.__file__).with_name("axe.min.js")
    return file.read_text(encoding="utf-8")


@contextmanager
def launched_browser(path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # containers have no user namespaces for the sandbox; the browser opens only our page
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A tab with the page; it records the requests and errors of the page."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        context = browser.new_context(**({"viewport": DESKTOP} | options))
        context.set_default_timeout(20_000)
        self.address = address
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self._add_error(message.type, message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(dialog.message))

    def _add_error(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.errors.append(text)

    def open(self, fragment: str = "") -> "Visit":
        """Open the page and wait until it is ready."""
        self.page.goto(self.address + fragment)
        self.page.wait_for_selector("body[data-ready]")
        return self

    def enter(self, *sentences: str, question: str) -> None:
        """Set story and question, and wait for the answer."""
        # a browser pastes a thousand lines slowly: set the value and send the event
        for field, text in (("#story", "\n".join(sentences)), ("#question", question)):
            self.page.eval_on_selector(
                field,
                "(field, text) => { field.value = text; "
                "field.dispatchEvent(new Event('input', { bubbles: true })); }",
                text,
            )
        self.wait_for_answer()

    def wait_for_answer(self) -> None:
        """Wait for the answer to the current text."""
        self.page.wait_for_selector("body[data-state=answered]")

    def paste(self, field: str, text: str) -> None:
        """Insert a text at the caret, as Ctrl-V does."""
        self.page.focus(field)
        is_default = self.page.evaluate(
            """([field, text]) => {
                const data = new DataTransfer();
                data.setData('text', text);
                const options = { clipboardData: data, bubbles: true, cancelable: true };
                return document.querySelector(field).dispatchEvent(
                    new ClipboardEvent('paste', options));
            }""",
            [field, text],
        )
        if is_default:  # the page did not handle the event
            self.page.keyboard.insert_text(text)
        self.wait_for_answer()

    def answer(self) -> str:
        return self.page.inner_text("#answer .best")

    def read_lines(self) -> list[int]:
        """Return the lines that a hop read most."""
        rows = self.page.query_selector_all("#lines .row")
        return [i + 1 for i, row in enumerate(rows) if "read" in (row.get_attribute("class") or "")]

    def violations(self) -> list[tuple[str, str, str]]:
        """Return the violations of accessibility: rule, impact and the first element."""
        self.page.evaluate(axe())
        found = self.page.evaluate("axe.run().then(results => results.violations)")
        return [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in found]

    def check_clean(self) -> None:
        """Check that the page loaded only from its server and had no errors."""
        assert self.errors == []
        assert {urlsplit(url).netloc for url in self.requests} == {urlsplit(self.address).netloc}

    def close(self) -> None:
        self.page.context.close()
