"""z of a swap and contrasts of two swaps, against counts by hand and a direct computation."""

import doctest
import math

import numpy as np
import pytest

from memhop.text.augmentation import classes, swap_search
from memhop.text.augmentation.features import TokenizedExample, features_of
from memhop.text.augmentation.symmetry_test import Cells, FeatureCounts

A, B, X, Y, SAID = ("a",), ("b",), ("x",), ("y",), ("said",)


def example(story: tuple[str, str], answer: tuple[str, ...]) -> TokenizedExample:
    """A number that makes the story one of its own, and a statement of a phrase."""
    return ((((story[1],),), (SAID, (story[0],))), (SAID,), (answer,))


def text() -> list[TokenizedExample]:
    """40 stories with a and x, 30 with b and y, 10 with a and y; one question in each."""
    pairs = [("a", X)] * 40 + [("b", Y)] * 30 + [("a", Y)] * 10
    return [example((word, str(i)), answer) for i, (word, answer) in enumerate(pairs)]


def z_of(counts: FeatureCounts, condition: tuple[str, ...], feature: tuple[str, ...]) -> float:
    """|z| of the swap (a b) in the cell of an answer and a phrase of the story."""
    cells = cell(counts, condition, feature)
    image = counts.image(((A, B),))
    return float(counts.z([(1, cells), (-1, cells.under(image))], 0)[0])


def cell(counts: FeatureCounts, answer: tuple[str, ...], phrase: tuple[str, ...]) -> Cells:
    answer_number = counts._index["answer", answer]
    condition = counts._row[answer_number, answer_number]
    return Cells(np.array([condition]), np.array([counts._index["story", phrase]]))


def test_z_is_that_of_the_formula() -> None:
    counts = FeatureCounts(text())
    assert z_of(counts, X, A) == pytest.approx(40 / math.sqrt(40))  # x with a: 40; with b: 0
    assert z_of(counts, Y, A) == pytest.approx((30 - 10) / math.sqrt(40))


def test_a_contrast_adds_the_evidence_of_two_pairs() -> None:
    counts = FeatureCounts(text())
    one = cell(counts, X, A)
    swap, partner = counts.image(((A, B),)), counts.image(((X, Y),))
    other = one.under(partner)
    signed = [(1, one), (-1, one.under(swap)), (-1, other), (1, other.under(swap))]
    # x with a 40, x with b 0, y with a 10, y with b 30: 40 - 0 - 10 + 30
    assert counts.z(signed, 0)[0] == pytest.approx(60 / math.sqrt(80))


def test_questions_of_one_story_count_as_one_observation() -> None:
    once = text()
    repeated = [once[0]] * 5 + once[1:]  # 5 questions about the first story
    before, after = (z_of(FeatureCounts(each), X, A) for each in (once, repeated))
    assert after == pytest.approx((39 + 5) / math.sqrt(39 + 25)) != before


def test_cells_leave_out_only_what_cannot_be_large() -> None:
    """Every cell with |z| above the bound is in the list, itself or as its image."""
    random = np.random.default_rng(0)
    words = "abxy"
    examples = [
        example((words[random.integers(2)], str(i)), (words[2 + random.integers(2)],))
        for i in range(300)
    ]
    examples += text()
    counts = FeatureCounts(examples)
    image = counts.image(((A, B),))
    rows, columns = np.indices(counts.totals.shape)
    every = Cells(rows.ravel(), columns.ravel())
    z = counts.z([(1, every), (-1, every.under(image))], 0)
    some = counts.cells(image, 2.0)
    listed = {*zip(*some, strict=True), *zip(*some.under(image), strict=True)}
    features = {number: f for f, number in counts._index.items()}
    for row, column in zip(*every.at(np.flatnonzero(z > 2)), strict=True):
        same = counts._row.get((column, column)), counts._given[row][0]  # (g, f) as (f, g)
        assert {(row, column), same} & listed or features[column][0] == "order"


def test_features_of_an_example_by_hand() -> None:
    one = (((A, B), (B, X)), (SAID, X), (B,))
    shown = set(features_of(one))
    assert {("question", X), ("answer", B), ("story", A), ("order", A, B)} <= shown
    assert {("answering", A), ("asked", B), ("last", 1, B), ("role", B, 1)} <= shown
    assert ("order", B, A) not in shown
    assert ("asked", A) not in shown
    assert not any(kind == "recent" for kind, *_ in shown)


@pytest.mark.parametrize("module", [classes, swap_search])
def test_examples_run(module: object) -> None:
    failed, tried = doctest.testmod(module, report=True)  # type: ignore[arg-type]
    assert tried
    assert not failed
