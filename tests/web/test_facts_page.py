"""The page with a model of facts, in a real browser."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.web.models import ServedFacts

from .browser import PHONE, Visit, chromium
from .conftest import Client, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium"),
]

SAME = "which films have the same director as Jaws?"
STORY = ("Mary went to the garden.", "John moved to the office.")
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, facts_client: Client) -> Iterator[Open]:
    """Return a function that opens the page; check at the end that it had no errors."""
    visits: list[Visit] = []

    def visit(fragment: str = "#model=films", **options: Any) -> Visit:
        visits.append(Visit(browser, facts_client.address, **options))
        return visits[-1].open(fragment)

    yield visit
    for one in visits:
        one.check_clean()
        one.close()


def ask(page: Visit, question: str) -> None:
    page.page.fill("#question", question)
    page.wait_for_answer()


def facts(page: Visit) -> list[list[str]]:
    """Return the texts of the facts of each hop."""
    found: list[list[str]] = page.page.eval_on_selector_all(
        "#facts section",
        "all => all.map(one => [...one.querySelectorAll('li span')].map(fact => fact.textContent))",
    )
    return found


def test_it_starts_with_an_example_and_its_answer(visit: Open) -> None:
    page = visit()
    page.wait_for_answer()
    assert page.page.inner_text("h1") == "Ask about facts"
    last = page.page.locator("#examples button").last.inner_text()
    assert page.page.input_value("#question") == last
    assert page.page.inner_text("#answer .right") == "\u2713 right"
    assert page.page.inner_text("#about") == (
        "knows 21 facts about 24 entities · reads up to 2 hops · 2.5% error on its test questions"
    )
    for hidden in ("#story", "#reads-title", "#lines"):
        assert page.page.is_hidden(hidden)
    assert page.page.locator("#examples button").count() == 6


def test_the_answers_and_the_facts_of_each_hop(visit: Open) -> None:
    page = visit()
    ask(page, SAME)
    assert set(page.answer().split(", ")) == {"Duel", "Lincoln"}
    shares = page.page.locator("#answer .shares dt").all_inner_texts()
    assert set(shares) == {"Duel", "Lincoln"}
    assert page.page.inner_text("#answer .topics") == "In the question: Jaws"
    first, second = facts(page)
    assert first[0] == "Jaws \u2500directed_by\u2192 Steven Spielberg"
    assert set(second) == {
        f"Steven Spielberg \u2190directed_by\u2500 {film}" for film in ("Jaws", "Duel", "Lincoln")
    }
    assert page.page.inner_text("#facts section >> nth=0 >> h3") == "Hop 1 read 3 facts"
    words = page.page.locator("#facts section >> nth=0 >> .attended").all_inner_texts()
    assert words == [*SAME.removesuffix(" Jaws?").split(), "\u2039entity\u203a"]
    path = page.page.locator("#facts li.on-path span").evaluate_all(
        "all => all.filter((one) => !one.matches('.relation')).map((one) => one.textContent)"
    )
    assert path[0] == first[0]
    assert {one.split()[-1] for one in path[1:]} == {"Duel", "Lincoln"}
    ask(page, "who directed Alien?")
    assert page.answer() == "Ridley Scott"
    assert len(facts(page)) == 1
    assert page.page.query_selector("#answer .right, #answer .wrong") is None


def test_the_graph_is_an_image_of_the_server(visit: Open) -> None:
    page = visit()
    ask(page, SAME)
    image = page.page.locator("#graph img")
    expect(image).to_have_js_property("complete", True)
    width, height = image.evaluate("one => [one.naturalWidth, one.naturalHeight]")
    assert width > 500
    assert height > 100
    source = image.get_attribute("src") or ""
    assert source.startswith("data:image/svg+xml,")
    assert "Steven%20Spielberg" in source
    assert page.page.query_selector("main svg") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_graph_has_the_colours_of_the_page(visit: Open, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    ask(page, SAME)
    expect(page.page.locator("#graph img")).to_have_js_property("complete", True)
    lightness = page.page.evaluate(
        """async () => {
            const image = document.querySelector('#graph img');
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
            let sum = 0, count = 0;
            for (let i = 0; i < pixels.length; i += 4)
                if (pixels[i + 3] > 200 && Math.abs(pixels[i] - pixels[i + 2]) < 20)
                    [sum, count] = [sum + pixels[i], count + 1];
            return sum / count;
        }"""
    )
    assert (lightness > 128) is (scheme == "dark")  # of the text


def test_without_an_answer_the_page_says_why(visit: Open) -> None:
    page = visit()
    ask(page, "who directed Solaris?")
    assert page.page.inner_text("#answer .faint") == (
        "No answer: no entity of the facts in the question."
    )
    assert page.page.inner_text("#answer .caution") == (
        "Never seen in training, so the model ignores it: solaris"
    )
    assert page.page.is_hidden("#graph")
    assert page.page.is_hidden("#path-title")
    assert facts(page) == []
    ask(page, "[Solaris] by who directed?")
    assert page.page.locator("#answer .caution").all_inner_texts()[-1] == (
        "No entity of the facts: Solaris"
    )
    ask(page, " ?! ")
    assert page.page.inner_text("#answer") == "Ask a question."
    ask(page, "a" * 1001)
    assert page.page.inner_text("#problem") == (
        "A question has at most 1000 characters, this has 1001."
    )
    ask(page, SAME)
    assert page.page.is_hidden("#problem")
    assert "Duel" in page.answer()


def test_examples_and_the_back_button(visit: Open) -> None:
    page = visit()
    ask(page, SAME)
    page.page.click("#examples button >> nth=1")
    page.wait_for_answer()
    example = page.page.inner_text("#examples button >> nth=1")
    assert page.page.input_value("#question") == example
    assert page.page.inner_text("#answer .right") == "\u2713 right"
    page.page.go_back()
    expect(page.page.locator("#question")).to_have_value(SAME)
    page.wait_for_answer()
    assert "Duel" in page.answer()
    page.page.click("#clear")
    assert page.page.input_value("#question") == ""
    assert page.page.evaluate("document.activeElement.id") == "question"


def test_a_wrong_answer_is_compared_with_all_right_ones(visit: Open) -> None:
    page = visit("#model=walks")
    examples = [
        {"question": SAME, "answers": ["Solaris", "Stalker"]},
        {"question": "who directed Alien?", "answers": ["Solaris", "Ridley Scott"]},
    ]
    page.page.route("**/api/kb/examples**", lambda route: route.fulfill(json=examples))
    page.page.select_option("#model", "films")
    page.page.click("#examples button >> nth=0")
    page.wait_for_answer()
    assert page.page.inner_text("#answer .wrong") == "\u2717 the right answer: Solaris, Stalker"
    page.page.click("#examples button >> nth=1")
    page.wait_for_answer()
    assert page.page.inner_text("#answer .right") == "\u2713 right"


def test_relations_are_listed(visit: Open) -> None:
    page = visit()
    page.page.click("#vocabulary summary")
    expect(page.page.locator("#vocabulary-words li")).to_have_count(3)
    assert page.page.locator("#vocabulary-words li").first.inner_text() == (
        "directed_by, as in Jaws \u2192 Steven Spielberg"
    )


def test_the_model_can_change_between_stories_and_facts(visit: Open) -> None:
    page = visit("#model=walks")
    page.enter(*STORY, question="Where is Mary?")
    assert page.answer() == "garden"
    page.page.select_option("#model", "films")
    page.wait_for_answer()
    assert page.page.is_hidden("#story")
    assert page.page.inner_text("#answer .faint").startswith("No answer: no entity")
    ask(page, SAME)
    assert page.page.is_visible("#graph")
    assert page.page.is_hidden("#reads-title")
    page.page.select_option("#model", "walks")
    page.wait_for_answer()
    assert page.page.is_hidden("#graph")
    assert page.page.is_visible("#story")
    assert page.page.input_value("#story") == "\n".join(STORY)
    ask(page, "Where is John?")
    assert page.answer() == "office"
    assert page.read_lines() == [2]


def test_a_link_restores_the_question_and_the_server_never_gets_it(visit: Open) -> None:
    page = visit()
    ask(page, SAME)
    page.page.click("#share")
    link = page.page.url
    assert "story" not in link
    again = visit("#" + link.partition("#")[2])
    again.wait_for_answer()
    assert again.page.input_value("#question") == SAME
    assert "Duel" in again.answer()
    for url in page.requests + again.requests:
        assert "director" not in url.partition("#")[0]


def test_the_answer_is_announced(visit: Open) -> None:
    page = visit()
    ask(page, "who directed Alien?")
    expect(page.page.locator("#heard")).to_contain_text("Ridley Scott, ")
    assert page.page.locator("[aria-live], [role=status], [role=alert]").count() == 4


def test_an_outdated_answer_is_marked(visit: Open) -> None:
    page = visit()
    ask(page, SAME)
    held: list[Route] = []
    page.page.route("**/api/kb/answer", lambda route: held.append(route))
    page.page.fill("#question", "who directed Alien?")
    page.page.wait_for_selector("body.stale")
    assert page.page.is_visible("#graph")
    held.pop().continue_()
    page.wait_for_answer()
    assert page.answer() == "Ridley Scott"
    assert page.page.query_selector("body.stale") is None


def test_names_of_the_facts_are_shown_as_text(browser: Browser) -> None:
    kb = KnowledgeBase.from_triples(
        [(HOSTILE, f"[b]{HOSTILE}", "a\x1b\n" + HOSTILE), ("\u05d0\u05d1", "x", "\u6f22")]
    )
    asked = Question(f"what is the b of [{HOSTILE}]?")
    model = KnowledgeModel.untrained(kb, [asked], KnowledgeRecipe(num_hops=1, word_dim=4))
    with running({HOSTILE: ServedFacts(HOSTILE, model, None)}) as client:
        page = Visit(browser, client.address).open()
        ask(page, f"b [{HOSTILE}]")
        assert HOSTILE in page.answer()
        assert HOSTILE in facts(page)[0][0]
        expect(page.page.locator("#graph img")).to_have_js_property("complete", True)
        assert page.page.locator("#graph img").evaluate("one => one.naturalWidth") > 100
        assert page.page.locator("main img").count() == 1
        assert page.page.query_selector("main script") is None
        page.page.click("#vocabulary summary") if page.page.is_hidden("#vocabulary-words") else None
        expect(page.page.locator("#vocabulary-words")).to_contain_text("onerror")
        page.check_clean()
        page.close()


@pytest.mark.parametrize("options", [{}, {"viewport": PHONE}, {"color_scheme": "dark"}])
def test_no_accessibility_violations(visit: Open, options: dict[str, Any]) -> None:
    page = visit(**options)
    ask(page, f"{SAME} and Solaris")
    assert page.violations() == []


def test_on_a_phone_the_page_fits_the_screen_and_the_graph_scrolls(visit: Open) -> None:
    page = visit(viewport=PHONE)
    ask(page, SAME)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    graph = "document.getElementById('graph')"
    assert page.page.evaluate(f"{graph}.scrollWidth > {graph}.clientWidth")


def test_the_keyboard_reaches_everything(visit: Open) -> None:
    page = visit()
    ask(page, SAME)
    page.page.focus("#model")
    reached = []
    for _ in range(6):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate(
            "document.activeElement.id || document.activeElement.parentElement.id"
        ))  # fmt: skip
    assert reached[:4] == ["question", "clear", "share", "graph"]
    assert "examples" in reached
