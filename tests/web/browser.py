"""A real browser on the page: Chromium, driven without a window."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}


def chromium() -> str | None:
    """The path of a Chromium of this system."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def browsing(path: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # a container has no user namespaces for the sandbox; only our own page is visited
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """One tab with the page in it; what the page asked for and complained of is noted."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        context = browser.new_context(**({"viewport": DESKTOP} | options))
        context.set_default_timeout(20_000)
        self.address = address
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda said: self._complain(said.type, said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def _complain(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def open(self, fragment: str = "") -> "Visit":
        """Open the page and wait until it is ready."""
        self.page.goto(self.address + fragment)
        self.page.wait_for_selector("body[data-ready]")
        return self

    def tell(self, *sentences: str, question: str) -> None:
        """Put in a story and a question, and wait for the answer."""
        # a browser itself takes long to paste a thousand lines: the page is told of the result
        for field, text in (("#story", "\n".join(sentences)), ("#question", question)):
            self.page.eval_on_selector(
                field,
                "(field, text) => { field.value = text; "
                "field.dispatchEvent(new Event('input', { bubbles: true })); }",
                text,
            )
        self.settle()

    def settle(self) -> None:
        """Wait for the answer to what now stands on the page."""
        self.page.wait_for_selector("body[data-state=answered]")

    def paste(self, field: str, text: str) -> None:
        """Put a text in at the cursor, as Ctrl-V does."""
        self.page.focus(field)
        taken = self.page.evaluate(
            """([field, text]) => {
                const data = new DataTransfer();
                data.setData('text', text);
                const options = { clipboardData: data, bubbles: true, cancelable: true };
                return document.querySelector(field).dispatchEvent(
                    new ClipboardEvent('paste', options));
            }""",
            [field, text],
        )
        if taken:  # the page left it to the browser
            self.page.keyboard.insert_text(text)
        self.settle()

    def answer(self) -> str:
        return self.page.inner_text("#answer .best")

    def read_lines(self) -> list[int]:
        """The lines that some hop read most."""
        rows = self.page.query_selector_all("#lines .row")
        return [i + 1 for i, row in enumerate(rows) if "read" in (row.get_attribute("class") or "")]

    def is_clean(self) -> None:
        """Nothing was loaded from elsewhere, and the page had no complaint."""
        assert self.complaints == []
        assert {urlsplit(url).netloc for url in self.asked} == {urlsplit(self.address).netloc}

    def close(self) -> None:
        self.page.context.close()
