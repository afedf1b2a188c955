"""The page with a store, in a real browser."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from memhop.web.models import ServedStore

from .browser import PHONE, Visit, chromium
from .conftest import HOSTILE, Client, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium"),
]

Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, store_client: Client) -> Iterator[Open]:
    """Return a function that opens the page; check at the end that it had no errors."""
    visits: list[Visit] = []

    def visit(fragment: str = "", **options: Any) -> Visit:
        visits.append(Visit(browser, store_client.address, **options))
        return visits[-1].open(fragment)

    yield visit
    for one in visits:
        one.check_clean()
        one.close()


def slots(page: Visit) -> list[list[str]]:
    """Return the ids of the rows of each hop."""
    found: list[list[str]] = page.page.eval_on_selector_all(
        "#slots section",
        "all => all.map(one => [...one.querySelectorAll('li button')].map(id => id.textContent))",
    )
    return found


def set_field(page: Visit, field: str, text: str) -> None:
    page.page.fill(field, text)
    page.wait_for_answer()


def test_it_starts_with_the_first_row(visit: Open) -> None:
    page = visit()
    page.wait_for_answer()
    assert page.page.inner_text("h1") == "Search a store"
    assert page.page.inner_text("#about") == "holds 5 rows of 4 numbers · reads 2 hops"
    assert page.page.input_value("#row") == "r"
    assert page.page.inner_text("#answer") == 'Row r\n\na red note\n\n{"n":0}'
    assert [one[0] for one in slots(page)] == ["r", "r"]
    titles = page.page.locator("#slots h2").all_inner_texts()
    assert titles == ["Hop 1: 5 rows with 100% of its attention",
                      "Hop 2: 5 rows with 100% of its attention"]  # fmt: skip
    weights = page.page.locator("#slots section >> nth=0 >> li b").all_inner_texts()
    assert weights == ["1.000", *["0.000"] * 4]
    share = page.page.locator("#slots .covered i >> nth=0")
    assert share.evaluate("one => getComputedStyle(one).getPropertyValue('--share')") == "1"
    for hidden in ("#story", "#lines", "#graph", "#vocabulary", "#reads-title"):
        assert page.page.is_hidden(hidden)
    assert page.page.locator("#examples button").count() == 5


def test_a_click_on_a_row_searches_with_it(visit: Open) -> None:
    page = visit()
    page.page.click("#examples button >> nth=2")
    page.wait_for_answer()
    assert page.page.input_value("#row") == "k"
    assert slots(page)[0][0] == "k"
    page.page.click("#slots bdi:text-is('7') >> nth=0")
    page.wait_for_answer()
    assert page.page.input_value("#row") == "7"
    assert page.page.inner_text("#answer .asked") == "green"
    page.page.go_back()
    expect(page.page.locator("#row")).to_have_value("k")
    page.wait_for_answer()
    assert slots(page)[0][0] == "k"
    page.page.click("#clear")
    page.wait_for_answer()
    assert page.page.input_value("#row") == ""
    assert page.page.inner_text("#answer") == "Choose a row or write a text."
    assert page.page.evaluate("document.activeElement.id") == "row"
    assert slots(page) == []


def test_a_query_is_a_row_or_a_text(visit: Open) -> None:
    page = visit()
    set_field(page, "#question", "something black")
    assert page.page.input_value("#row") == ""
    assert [one[0] for one in slots(page)] == ["k", "k"]
    assert page.page.inner_text("#answer") == "something black"
    set_field(page, "#row", "7")
    assert page.page.input_value("#question") == ""
    assert slots(page)[0][0] in {"7", str(2**62)}
    assert page.page.inner_text("#answer .faint") == "Row 7"
    set_field(page, "#row", "nothing")
    assert page.page.inner_text("#answer") == "No row with the id 'nothing'."
    assert slots(page) == []
    set_field(page, "#row", "r")
    assert slots(page)[0][0] == "r"


def test_a_store_without_rows_encoder_and_hops(visit: Open) -> None:
    page = visit("#model=empty")
    assert page.page.inner_text("#about") == "holds 0 rows of 4 numbers · reads 1 hop"
    assert page.page.is_hidden("#question")
    assert page.page.inner_text("#examples-about") == "This store has no row."
    page.page.click("#clear")
    page.wait_for_answer()
    assert page.page.inner_text("#answer") == "Choose a row."


def test_without_hops_the_rows_have_inner_products(
    browser: Browser, stores: dict[str, ServedStore]
) -> None:
    with running({"notes": stores["notes"]._replace(hops=None)}) as client:
        page = Visit(browser, client.address).open()
        page.wait_for_answer()
        assert page.page.inner_text("#slots h2") == "5 rows by inner product"
        scores = page.page.locator("#slots li b").all_inner_texts()
        assert (scores[0], scores[-1]) == ("1.000", "-1.000")
        page.check_clean()
        page.close()


def test_the_model_can_change_between_stories_and_stores(visit: Open) -> None:
    page = visit("#model=walks")
    page.enter("Mary went to the garden.", question="Where is Mary?")
    assert page.answer() == "garden"
    page.page.select_option("#model", "notes")
    page.wait_for_answer()
    assert page.page.is_hidden("#story")
    assert page.page.is_visible("#row")
    set_field(page, "#row", "k")
    assert slots(page)[0][0] == "k"
    page.page.select_option("#model", "walks")
    page.wait_for_answer()
    assert page.page.is_hidden("#slots")
    assert page.page.is_hidden("#row")
    page.enter("Mary went to the garden.", question="Where is Mary?")
    assert page.answer() == "garden"


def test_a_link_restores_the_query_and_the_server_never_gets_it(visit: Open) -> None:
    page = visit()
    set_field(page, "#row", "k")
    page.page.click("#share")
    again = visit("#" + page.page.url.partition("#")[2])
    again.wait_for_answer()
    assert again.page.input_value("#row") == "k"
    assert slots(again)[0][0] == "k"
    set_field(page, "#question", "black words")
    page.page.click("#share")
    text = visit("#" + page.page.url.partition("#")[2])
    text.wait_for_answer()
    assert text.page.inner_text("#answer") == "black words"
    for url in page.requests + again.requests + text.requests:
        assert "black" not in url.partition("#")[0]


def test_the_hops_are_announced_and_an_outdated_answer_is_marked(visit: Open) -> None:
    page = visit()
    set_field(page, "#row", "k")
    expect(page.page.locator("#heard")).to_contain_text("Hop 2: 5 rows with 100% of its attention")
    held: list[Route] = []
    page.page.route("**/api/store/search/row", lambda route: held.append(route))
    page.page.fill("#row", "r")
    page.page.wait_for_selector("body.stale")
    held.pop().continue_()
    page.wait_for_answer()
    assert slots(page)[0][0] == "r"
    assert page.page.query_selector("body.stale") is None


def test_rows_are_shown_as_text(visit: Open) -> None:
    page = visit()
    set_field(page, "#row", HOSTILE)
    assert page.page.inner_text("#answer .asked") == HOSTILE
    assert HOSTILE in slots(page)[0][0]
    assert page.page.locator("main img").count() == 0
    assert page.page.query_selector("main script") is None


@pytest.mark.parametrize("options", [{}, {"viewport": PHONE}, {"color_scheme": "dark"}])
def test_no_accessibility_violations(visit: Open, options: dict[str, Any]) -> None:
    page = visit(**options)
    page.wait_for_answer()
    assert page.violations() == []


def test_on_a_phone_the_page_fits_the_screen(visit: Open) -> None:
    page = visit(viewport=PHONE)
    set_field(page, "#row", HOSTILE)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_keyboard_reaches_everything(visit: Open) -> None:
    page = visit()
    page.wait_for_answer()
    page.page.focus("#model")
    reached = []
    for _ in range(5):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate(
            "document.activeElement.id || document.activeElement.closest('[id]').id"
        ))  # fmt: skip
    assert reached == ["row", "question", "clear", "share", "slots"]
