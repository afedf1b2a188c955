"""The page, in a real browser."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Route, expect

from memhop.example import Example
from memhop.recipe import Recipe
from memhop.text.encoding import Sizes
from memhop.text.model import MemN2N
from memhop.text.vocabulary import Vocabulary
from memhop.web.models import Served

from .browser import PHONE, Visit, chromium
from .conftest import Client, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium"),
]

STORY = ("Mary went to the garden.", "John moved to the office.", "Mary moved to the kitchen.")
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


Open = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, client: Client) -> Iterator[Open]:
    """Return a function that opens the page; check at the end that it had no errors."""
    visits: list[Visit] = []

    def visit(fragment: str = "", **options: Any) -> Visit:
        visits.append(Visit(browser, client.address, **options))
        return visits[-1].open(fragment)

    yield visit
    for one in visits:
        one.check_clean()
        one.close()


def test_it_starts_with_an_example_and_its_answer(visit: Open) -> None:
    page = visit()
    page.wait_for_answer()
    assert page.page.input_value("#story").count("\n") >= 1
    assert page.page.input_value("#question").startswith("Where is ")
    assert page.page.inner_text("#answer .right, #answer .wrong")
    assert page.page.inner_text("#about") == (
        "knows 19 words · remembers 10 sentences · 1.5% error on its test questions"
    )


def test_the_answer_and_the_read_lines_follow_edits(visit: Open) -> None:
    page = visit()
    page.enter(*STORY, question="Where is Mary?")
    assert page.answer() == "kitchen"
    assert page.read_lines() == [3]
    assert page.page.inner_text("#reads").count("Mary moved to the kitchen.") == 3
    page.page.focus("#story")
    page.page.keyboard.press("Control+End")
    page.page.keyboard.type("\nMary went to the office.")
    page.wait_for_answer()
    assert page.answer() == "office"
    assert page.read_lines() == [4]
    page.page.fill("#question", "Where is John?")  # as typed
    page.wait_for_answer()
    assert (page.answer(), page.read_lines()) == ("office", [2])


@pytest.mark.parametrize("width", [1280, 853, 390])
def test_bars_are_on_the_line_of_their_sentence(visit: Open, width: int) -> None:
    page = visit(viewport={"width": width, "height": 700})
    for line in ODD_LINES:
        page.enter(line, *STORY, question="Where is Mary?")
        rows = page.page.query_selector_all("#lines .row")
        assert [len(row.query_selector_all(".cell")) for row in rows][1:] == [3, 3, 3]
        assert abs(text_and_rows(page)) < 3, line


ODD_LINES = ["", " ", "Mary went to the garden " * 9, "Unbreakable" * 30, "a" + " " * 200,
             "\t" * 40 + "b", "Mary\twent " * 20, "\u6f22\u5b57" * 90, "\u05d0\u05d1 " * 90,
             "\U0001f600" * 90]  # fmt: skip


def text_and_rows(page: Visit) -> float:
    """Return the height of the text, without a minimum, minus the height of the rows."""
    higher: float = page.page.evaluate(
        """() => {
            const story = document.getElementById('story');
            const lines = document.getElementById('lines');
            story.style.height = lines.style.minHeight = '0';
            const rows = lines.offsetHeight - parseFloat(getComputedStyle(lines).paddingBottom);
            const higher = story.scrollHeight - rows;
            story.style.height = lines.style.minHeight = '';
            return higher;
        }"""
    )
    return higher


def test_a_model_with_many_hops_leaves_space_for_the_text(
    browser: Browser, served: dict[str, Served]
) -> None:
    known = served["own/qa1"].model
    many = MemN2N(known.vocabulary, Recipe(num_hops=10), known.sizes)
    with running({"many": Served("many", many, None)}) as client:
        for width in (1280, 390):
            page = Visit(browser, client.address, viewport={"width": width, "height": 700}).open()
            page.enter("Tom sold the zebra.", question="Who has it?")
            assert page.page.locator("#lines .row").first.locator(".cell").count() == 10
            assert page.page.evaluate("document.getElementById('story').clientWidth") > width / 4
            assert page.page.evaluate("document.documentElement.scrollWidth") <= width
            page.close()


def test_unknown_words_are_underlined_and_explained(visit: Open) -> None:
    page = visit()
    page.enter("Mary went to the zoo.", "The zebra, John said!", question="Where is the zoo ?")
    marks = page.page.eval_on_selector_all("mark", "all => all.map(one => one.textContent)")
    assert marks == ["zoo.", "zebra,", "said!", "zoo"]
    assert page.page.inner_text("#answer .caution") == (
        "Never seen in training, so the model ignores them: zoo, zebra, said"
    )
    page.enter(*STORY, question="Where is Mary?")
    assert page.page.query_selector("mark, #answer .caution") is None


def test_each_click_shows_a_new_example(visit: Open) -> None:
    page = visit()
    stories = set()
    for _ in range(4):
        with page.page.expect_response("**/api/example**"):
            page.page.click("#examples button")
        page.wait_for_answer()
        stories.add(page.page.input_value("#story"))
        assert page.page.inner_text("#answer .right, #answer .wrong")
    assert len(stories) > 1
    page.page.fill("#question", "Where is John?")
    page.wait_for_answer()
    assert page.page.query_selector("#answer .right, #answer .wrong") is None


def test_a_late_example_does_not_replace_typed_text(visit: Open) -> None:
    page = visit()

    def delay(route: Route) -> None:
        time.sleep(0.5)
        route.continue_()

    page.page.route("**/api/example**", delay)
    with page.page.expect_response("**/api/example**"):
        page.page.click("#examples button")
        page.enter(*STORY, question="Where is John?")
    page.page.wait_for_timeout(200)
    assert page.page.input_value("#story") == "\n".join(STORY)
    assert page.answer() == "office"


def test_the_back_button_restores_the_text_before_an_example(visit: Open) -> None:
    page = visit()
    page.enter(*STORY, question="Where is Mary?")
    with page.page.expect_response("**/api/example**"):
        page.page.click("#examples button")
    page.wait_for_answer()
    assert page.page.input_value("#story") != "\n".join(STORY)
    page.page.go_back()
    expect(page.page.locator("#story")).to_have_value("\n".join(STORY))
    page.wait_for_answer()
    assert page.answer() == "kitchen"


def test_a_link_restores_story_and_question_and_the_server_never_gets_them(
    visit: Open,
) -> None:
    page = visit()
    page.enter(*STORY, "Ärger & <b>.", question="Where is Mary?")
    page.page.click("#share")
    link = page.page.url
    assert page.page.inner_text("#copied")
    again = visit(link.partition("/#")[2] and "#" + link.partition("#")[2])
    again.wait_for_answer()
    assert again.page.input_value("#story").split("\n") == [*STORY, "Ärger & <b>."]
    assert again.page.input_value("#question") == "Where is Mary?"
    assert again.answer() == "kitchen"
    for url in page.requests + again.requests:
        assert "garden" not in url.partition("#")[0]
    again.page.evaluate(
        "location.hash = '#story=John+went+to+the+garden.&question=Where+is+John%3F'"
    )
    expect(again.page.locator("#story")).to_have_value("John went to the garden.")
    again.wait_for_answer()
    assert again.answer() == "garden"


def test_markup_is_shown_as_text(visit: Open) -> None:
    page = visit(f"#story={quote(HOSTILE)}&question={quote(HOSTILE)}&model={quote(HOSTILE)}")
    page.wait_for_answer()
    assert page.page.input_value("#story") == HOSTILE
    assert page.page.inner_text("#answer .faint") == "The model knows no word of this question."
    page.enter(*STORY, HOSTILE, f"Mary {HOSTILE}", question=f"{HOSTILE} Where is Mary?")
    assert page.page.query_selector("main img, main script") is None
    assert "onerror=alert(1)><script>alert(2)" in page.page.inner_text("#answer .caution")


def test_another_model_answers_with_its_own_words_and_hops(visit: Open) -> None:
    page = visit()
    page.enter(*STORY, question="Where is Mary?")
    page.page.select_option("#model", "own/qa1")
    page.wait_for_answer()
    assert page.page.inner_text("#answer .faint") == "The model knows no word of this question."
    page.enter("Tom sold the zebra.", question="Who has it?")
    assert page.page.inner_text("#about") == "knows 7 words · remembers 10 sentences"
    assert page.page.locator("#lines .row").first.locator(".cell").count() == 2
    page.page.wait_for_selector("body[data-tasks='0']")
    assert "none of the tasks" in page.page.inner_text("#examples-about")


def test_a_link_to_a_missing_model_is_reported(visit: Open) -> None:
    page = visit("#model=secret&story=Mary+went+to+the+garden.&question=Where+is+Mary%3F")
    page.wait_for_answer()
    assert page.page.inner_text("#notes") == (
        "The server does not have the model secret of the link: walks answers."
    )
    assert visit("#model=own%2Fqa1").page.input_value("#model") == "own/qa1"


@pytest.mark.parametrize(
    ("story", "problem"),
    [
        ("word " * 300, "A sentence has at most 1000 characters, line 1 has 1499."),
        ("word " * 100_000, "A sentence has at most 1000 characters, line 1 has 499999."),
        ("Mary left.\n" * 3000, "A story has at most 1000 sentences, this has 3000."),
    ],
    ids=["line", "paste", "lines"],
)
def test_too_long_input_gets_a_sentence_and_the_page_continues(
    visit: Open, story: str, problem: str
) -> None:
    page = visit()
    page.enter(*STORY, question="Where is Mary?")
    page.enter(story, question="Where is Mary?")
    assert page.page.inner_text("#problem") == problem
    assert page.page.inner_text("#answer .faint") == "No answer."
    assert page.page.query_selector(".cell, #reads li") is None
    page.enter(*STORY, question="Where is Mary?")
    assert page.page.is_hidden("#problem")
    assert page.answer() == "kitchen"
    page.enter(*STORY, question=" ?! ")
    assert page.page.inner_text("#answer") == "Ask a question."
    page.enter("", question="Where is Mary?")
    assert page.page.inner_text("#answer").startswith("Write a story")
    assert page.page.query_selector(".best, .cell, #reads li") is None


def test_an_offline_server_is_reported_and_asked_again(
    browser: Browser, served: dict[str, Served]
) -> None:
    with running(served) as client:
        page = Visit(browser, client.address).open()
        page.enter(*STORY, question="Where is Mary?")
    page.page.fill("#question", "Where is John?")
    page.page.wait_for_selector("#problem:not([hidden])")
    assert page.page.inner_text("#problem") == "The server does not answer. Is it still running?"
    with running(served, port=client.port):
        page.wait_for_answer()
        assert page.answer() == "office"
        assert page.page.is_hidden("#problem")
    page.close()


@pytest.mark.parametrize("path", ["answer", "models", "tasks", "example"])
def test_requests_are_repeated_after_an_overload(visit: Open, path: str) -> None:
    page = visit("#model=walks")
    overloads: list[dict[str, Any]] = [
        {"status": 429, "json": {"detail": "too many questions are waiting: try again"}}
    ]

    def overload(route: Route) -> None:
        if overloads:
            route.fulfill(**overloads.pop())
        else:
            route.continue_()

    page.page.route(f"**/api/{path}**", overload)
    page.page.reload(wait_until="commit")
    page.page.wait_for_selector("body[data-ready]")
    page.page.click("#examples button")
    page.wait_for_answer()
    assert overloads == []
    assert page.page.is_hidden("#problem")
    assert page.answer()
    assert [text for text in page.errors if "429" in text]
    page.errors.clear()


def test_a_pasted_paragraph_gets_one_line_per_sentence(visit: Open) -> None:
    page = visit()
    page.enter("", question="Where is Mary?")
    page.paste("#story", " ".join(STORY))
    assert page.page.input_value("#story").split("\n") == list(STORY)
    assert page.answer() == "kitchen"
    page.page.keyboard.press("Control+z")
    page.wait_for_answer()
    assert page.page.input_value("#story") == " ".join(STORY)
    assert page.page.inner_text("#notes") == "Each line is read as one sentence."
    page.page.keyboard.press("Control+z")
    page.wait_for_answer()
    assert page.page.input_value("#story") == ""


def test_a_question_stays_on_one_line_and_can_be_undone(visit: Open) -> None:
    page = visit()
    page.enter(*STORY, question="Mary?")
    page.page.focus("#question")
    page.page.keyboard.press("Home")
    page.paste("#question", "Where\n is\n")
    assert page.page.input_value("#question") == "Where is Mary?"
    assert page.page.evaluate("document.getElementById('question').selectionStart") == 9
    page.page.keyboard.press("Control+z")
    assert page.page.input_value("#question") == "Mary?"


def test_the_answer_is_announced_once_and_not_at_every_key(visit: Open) -> None:
    page = visit()
    page.enter(*STORY, question="Where is")
    page.page.wait_for_timeout(1000)
    page.page.evaluate(
        "window.announced = []; new MutationObserver(() => announced.push(heard.textContent))"
        ".observe(document.getElementById('heard'), { childList: true })"
    )
    page.page.focus("#question")
    page.page.keyboard.press("End")
    page.page.keyboard.type(" Mary now today", delay=30)
    page.wait_for_answer()
    expect(page.page.locator("#heard")).to_contain_text("kitchen")
    page.page.wait_for_timeout(800)
    assert len(page.page.evaluate("announced")) <= 2
    assert page.page.locator("[aria-live], [role=status], [role=alert]").count() == 4


def test_500_sentences_are_answered_and_truncation_is_reported(visit: Open) -> None:
    page = visit()
    page.enter(*STORY * 166, *STORY[:2], question="Where is John?")
    assert page.answer() == "office"
    assert (
        "The memory holds 10 sentences: the 490 oldest sentences are not read."
        in page.page.inner_text("#notes")
    )
    assert page.page.locator("#lines .truncated").count() == 490
    assert page.read_lines()[0] > 490
    page.page.click("#reads button")
    assert page.page.evaluate("document.activeElement.id") == "story"
    chosen = page.page.evaluate(
        "document.getSelection().toString() || ((s) => s.value.slice(s.selectionStart,"
        "s.selectionEnd))(document.getElementById('story'))"
    )
    assert chosen in STORY


@pytest.mark.parametrize("options", [{}, {"viewport": PHONE}, {"color_scheme": "dark"}])
def test_no_accessibility_violations(visit: Open, options: dict[str, Any]) -> None:
    page = visit(**options)
    page.enter(*STORY, "A zebra slept.", *STORY * 3, question="Where is Mary?")
    assert page.violations() == []


def test_on_a_phone_the_page_fits_the_screen(visit: Open) -> None:
    page = visit(viewport=PHONE)
    page.enter(*STORY, "Unbreakable" * 20, question="Where is Mary?")
    assert page.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_dark_and_light_colour_schemes(visit: Open) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        page = visit(color_scheme=scheme)
        colour = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
        backgrounds.append(sum(map(int, colour.removeprefix("rgb(").rstrip(")").split(","))) / 3)
    assert backgrounds[0] > 200
    assert backgrounds[1] < 60


def test_the_keyboard_reaches_everything(visit: Open) -> None:
    page = visit()
    page.wait_for_answer()
    reached = []
    for _ in range(9):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate(
            "document.activeElement.id || document.activeElement.parentElement.id ||"
            "document.activeElement.parentElement.parentElement.id"
        ))  # fmt: skip
    assert reached[:3] == ["model", "story", "question"]
    assert set(reached[3:]) >= {"reads", "share", "examples"}
    page.page.focus("#examples button")
    before = page.page.input_value("#story")
    for _ in range(5):
        with page.page.expect_response("**/api/example**"):
            page.page.keyboard.press("Enter")
    page.wait_for_answer()
    assert page.page.input_value("#story") != before
    page.page.focus("#question")
    page.page.keyboard.press("Enter")
    assert "\n" not in page.page.input_value("#question")


def test_the_answer_arrives_within_100_ms_of_the_last_key(visit: Open) -> None:
    page = visit()
    page.enter(*STORY * 16, *STORY[:2], question="Where is Mary?")
    # other tests run at the same time: take the best of some rounds
    assert min(statistics.median(page.page.evaluate(KEYS)) for _ in range(4)) < 100


KEYS = """async () => {
    const story = document.getElementById('story'), waits = [];
    for (let i = 0; i < 9; i++) {
        story.value = story.value.replace(/(kitchen|garden)(?=[^]{0,40}$)/, (was) =>
            was === 'kitchen' ? 'garden' : 'kitchen');
        const start = performance.now();
        story.dispatchEvent(new Event('input', { bubbles: true }));
        while (document.body.dataset.state !== 'answered')
            await new Promise((resume) => requestAnimationFrame(resume));
        waits.push(performance.now() - start);
    }
    return waits;
}"""


@pytest.mark.parametrize("delay", [0, 30])
def test_typed_sentences_get_one_line_each(visit: Open, delay: int) -> None:
    page = visit()
    page.enter("", question="Where is Mary?")
    page.page.focus("#story")
    page.page.keyboard.type(" ".join(STORY) + " Mary went to ", delay=delay)
    page.page.keyboard.type("the office.", delay=delay)
    page.wait_for_answer()
    lines = [*STORY, "Mary went to the office."]
    assert page.page.input_value("#story").split("\n") == lines
    assert (page.answer(), page.read_lines()) == ("office", [4])
    page.page.keyboard.press("Control+Home")
    page.page.keyboard.type("John left. ", delay=delay)
    page.wait_for_answer()
    assert page.page.input_value("#story").split("\n") == ["John left.", *lines]
    assert page.page.evaluate("document.getElementById('story').selectionStart") == 11


def test_a_split_that_is_undone_stays_undone(visit: Open) -> None:
    page = visit()
    page.enter("", question="Where is Mary?")
    page.page.focus("#story")
    page.page.keyboard.type("Mr. M")
    page.wait_for_answer()
    assert page.page.input_value("#story") == "Mr.\nM"
    page.page.keyboard.press("Control+z")
    page.wait_for_answer()
    page.page.keyboard.press("End")
    page.page.keyboard.type("ary went to the office.")
    page.wait_for_answer()
    assert page.page.input_value("#story") == "Mr. Mary went to the office."
    again = visit("#" + link_of(page))
    again.wait_for_answer()
    assert again.page.input_value("#story") == "Mr. Mary went to the office."
    splits_again_after_clear(page)


def splits_again_after_clear(page: Visit) -> None:
    """Check that sentences are split again after Clear."""
    page.page.click("#clear")
    page.wait_for_answer()
    page.page.keyboard.type("Mary left. John left.")
    page.wait_for_answer()
    assert page.page.input_value("#story") == "Mary left.\nJohn left."


def test_lines_joined_by_the_user_stay_joined(visit: Open) -> None:
    page = visit()
    page.enter("Mr.", "Mary went to the office.", question="Where is Mary?")
    page.page.focus("#story")
    page.page.keyboard.press("Control+End")
    page.page.keyboard.press("Home")
    page.page.keyboard.press("Backspace")
    page.page.keyboard.type(" ")
    page.wait_for_answer()
    assert page.page.input_value("#story") == "Mr. Mary went to the office."
    assert page.page.locator("#lines .row").first.locator(".cell").count() == 3
    splits_again_after_clear(page)


def link_of(page: Visit) -> str:
    page.page.click("#share")
    return page.page.url.partition("#")[2]


BABI = (
    "1 Mary went to the garden.\n2 John moved to the office.\n3 Where is Mary? \tgarden\t1\n"
    "4 Mary moved to the kitchen.\n5 Where is Mary?\tkitchen\t4\n1 John left.\n"
)


@pytest.mark.parametrize("text", [BABI, BABI.replace("\t", "   ")], ids=["tabs", "blanks"])
def test_a_pasted_babi_story_is_split(visit: Open, text: str) -> None:
    page = visit()
    page.page.click("#clear")
    page.wait_for_answer()
    page.paste("#story", text)
    assert page.page.input_value("#story").split("\n") == [*STORY]
    assert page.page.input_value("#question") == "Where is Mary?"
    assert (page.answer(), page.page.inner_text("#answer .right")) == ("kitchen", "\u2713 right")
    assert page.page.inner_text("#notes") == (
        "The line numbers were removed. The text has 2 stories: this is the first one. "
        "The text has 2 questions: the last one is answered."
    )
    page.page.click("#found button >> nth=0")
    page.wait_for_answer()
    assert page.page.input_value("#story").split("\n") == [*STORY[:2]]
    assert (page.answer(), page.page.inner_text("#answer .right")) == ("garden", "\u2713 right")
    pressed = "all => all.map(one => one.getAttribute('aria-pressed'))"
    assert page.page.eval_on_selector_all("#found button", pressed) == ["true", "false"]
    page.page.go_back()
    expect(page.page.locator("#story")).to_have_value("\n".join(STORY))
    page.wait_for_answer()
    assert page.page.inner_text("#answer .right") == "\u2713 right"


def test_typed_babi_lines_are_split_and_a_question_is_moved_when_the_caret_leaves(
    visit: Open,
) -> None:
    page = visit()
    page.page.click("#clear")
    page.wait_for_answer()
    page.page.keyboard.type("1 Mary went to the garden.\n2 Where is Mary?", delay=20)
    page.wait_for_answer()
    assert page.page.input_value("#story").split("\n") == [
        "Mary went to the garden.",
        "Where is Mary?",
    ]
    assert page.page.input_value("#question") == ""
    page.page.keyboard.type("\n3 Mary went to the office.", delay=20)
    page.wait_for_answer()
    assert page.page.input_value("#story").split("\n") == [STORY[0], "Mary went to the office."]
    assert page.page.input_value("#question") == "Where is Mary?"
    assert page.answer() == "office"
    page.page.keyboard.type("\nWhere is John?", delay=20)
    page.page.focus("#question")
    page.wait_for_answer()
    assert page.page.input_value("#question") == "Where is John?"
    assert page.page.input_value("#story").split("\n") == [STORY[0], "Mary went to the office."]


def test_a_question_is_moved_when_the_caret_leaves_during_a_request(visit: Open) -> None:
    page = visit()
    page.enter(*STORY, question="Where is Mary?")
    page.page.focus("#story")
    page.page.keyboard.press("Control+End")
    page.page.keyboard.insert_text("\nWhere is John")
    page.wait_for_answer()
    held: list[Route] = []
    page.page.route("**/api/read", lambda route: held.append(route), times=1)
    with page.page.expect_request("**/api/read"):  # fails after some seconds, and never hangs
        page.page.keyboard.insert_text("?")
    while not held:
        page.page.wait_for_timeout(10)
    page.page.focus("#question")
    held[0].continue_()
    page.wait_for_answer()
    assert page.page.input_value("#question") == "Where is John?"
    assert page.page.input_value("#story").split("\n") == list(STORY)


def test_an_outdated_answer_is_marked_until_the_new_one_arrives(visit: Open) -> None:
    page = visit()
    page.enter(*STORY, question="Where is Mary?")
    assert page.page.query_selector("body.stale") is None
    held: list[Route] = []
    page.page.route("**/api/answer", lambda route: held.append(route))
    page.page.fill("#question", "Where is John?")
    page.page.wait_for_selector("body.stale")
    assert page.page.inner_text("#stale") == (
        "Asking \u2026 This answer is for the text before your last change."
    )
    assert page.page.get_attribute("#answer", "aria-busy") == "true"
    page.page.click("#reads button >> nth=0")  # of the old answer: its line is still there
    held.pop().continue_()
    page.wait_for_answer()
    assert page.answer() == "office"
    assert page.page.query_selector("body.stale") is None
    assert page.page.is_hidden("#stale")
    assert page.page.get_attribute("#answer", "aria-busy") == "false"


def test_bars_stay_with_their_sentences_during_a_request(visit: Open) -> None:
    page = visit()
    page.enter(*STORY, question="Where is Mary?")
    held: list[Route] = []
    page.page.route("**/api/answer", lambda route: held.append(route), times=1)
    page.page.focus("#story")
    page.page.keyboard.press("Control+Home")
    page.page.keyboard.type("John left.\n")
    page.page.wait_for_selector("body.stale")
    assert page.read_lines() == [4]
    assert page.page.locator("#lines .row").first.locator(".cell").count() == 0
    held.pop().continue_()
    page.wait_for_answer()
    assert page.read_lines() == [4]


def test_a_restarted_server_with_other_models(browser: Browser, served: dict[str, Served]) -> None:
    with running(served) as client:
        page = Visit(browser, client.address).open()
        page.enter(*STORY, question="Where is Mary?")
    page.page.fill("#question", "Where is John?")
    page.page.wait_for_selector("body.stale")
    assert page.page.inner_text("#stale").startswith("The server does not answer.")
    other = Served("other", served["walks"].model, None)
    with running({"other": other}, port=client.port):
        expect(page.page.locator("#model")).to_have_value("other")
        page.page.wait_for_selector("body[data-tasks='1']")
        page.wait_for_answer()
        assert page.answer() == "office"
        assert page.page.is_hidden("#problem")
    page.close()


def test_clear_empties_the_page_and_the_back_button_restores_it(visit: Open) -> None:
    page = visit()
    page.enter(*STORY, question="Where is Mary?")
    page.page.click("#clear")
    page.wait_for_answer()
    assert page.page.input_value("#story") == page.page.input_value("#question") == ""
    assert page.page.inner_text("#answer") == "Write a story and ask a question."
    assert page.page.is_hidden("#reads-title")
    assert page.page.evaluate("document.activeElement.id") == "story"
    page.page.go_back()
    expect(page.page.locator("#story")).to_have_value("\n".join(STORY))
    page.wait_for_answer()
    assert page.answer() == "kitchen"


def test_a_long_story_scrolls_to_the_read_lines_but_not_while_typing(visit: Open) -> None:
    page = visit()
    page.enter("Mary went to the office.", *["John left."] * 100, *STORY, question="Where is Mary?")
    in_view = """() => {
        const frame = document.querySelector('.scroll').getBoundingClientRect();
        const row = document.querySelector('#lines .row.read').getBoundingClientRect();
        return row.top > frame.top - 1 && row.bottom < frame.bottom + 1;
    }"""
    assert page.read_lines() == [104]
    assert page.page.evaluate(in_view)
    page.page.focus("#story")
    page.page.keyboard.press("Control+Home")
    page.page.keyboard.type("John left.\n")
    page.wait_for_answer()
    assert page.read_lines() == [105]
    assert not page.page.evaluate(in_view)
    assert page.page.evaluate("document.querySelector('.scroll').scrollTop") < 100
    page.page.click("#reads button")
    assert page.page.evaluate(in_view)


def test_a_model_without_known_tasks_shows_its_words_and_stories(
    browser: Browser, served: dict[str, Served]
) -> None:
    words = ["Tom sold the zebra.", "Ann bought it."]
    model = MemN2N(Vocabulary.from_texts([*words, "who has it"]), Recipe(), Sizes(4, 1))
    words[1] = "Ann bought it. She slept."  # one statement of the training
    model.examples = (
        Example(tuple(words), "Who has it?", "ann"),
        Example(("Tom sold it.",), "Who sold it?", "tom"),
    )
    with running({"own": Served("own", model, None)}) as client:
        page = Visit(browser, client.address).open()
        page.wait_for_answer()
        assert page.page.input_value("#story").split("\n") == words
        assert page.page.inner_text("#answer .right, #answer .wrong")
        assert page.page.get_attribute("#story", "placeholder") == words[0]
        assert page.page.inner_text("#about") == "knows 9 words · remembers 1 sentence"
        assert page.page.inner_text("#notes").splitlines() == [
            "Each line is read as one sentence.",
            "The memory holds 1 sentence: the oldest one is not read.",
        ]
        expect(page.page.locator("#vocabulary-words")).to_contain_text("zebra")
        page.page.click("text=Who sold it?")
        page.wait_for_answer()
        assert page.page.input_value("#story") == "Tom sold it."
        page.check_clean()
        page.close()


def test_text_of_an_input_method_is_not_changed(visit: Open) -> None:
    page = visit()
    page.enter("", question="Where is Mary?")
    page.page.focus("#story")
    session = page.page.context.new_cdp_session(page.page)
    session.send(
        "Input.imeSetComposition",
        {"text": "Mary left. John", "selectionStart": 15, "selectionEnd": 15},
    )
    page.page.wait_for_timeout(100)
    page.wait_for_answer()
    assert page.page.input_value("#story") == "Mary left. John"
    session.send("Input.insertText", {"text": "Mary left. John"})
    page.page.keyboard.type(" left.")
    page.wait_for_answer()
    assert page.page.input_value("#story") == "Mary left.\nJohn left."
