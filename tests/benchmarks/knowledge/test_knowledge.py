"""The knowledge benchmark: a model on other facts, the dense read, and the tables of its rows."""

import math

import pytest
import torch

from benchmarks.knowledge import reads
from benchmarks.knowledge.answers import Answered, summary, transferred
from benchmarks.knowledge.child import MEASURES
from benchmarks.knowledge.rows import PARTS, row, sheets
from memhop.errors import MemhopError
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.ops.ragged.frontier import Frontier, ragged_memory
from memhop.reproduce.record import as_text
from tests.benchmarks.conftest import Runner

TRIPLES = [("a", "likes", "b"), ("d", "likes", "c"), ("a", "owns", "d"), ("b", "owns", "c")]
RENAMED = [(subject.upper(), relation, target.upper()) for subject, relation, target in TRIPLES]
RECIPE = KnowledgeRecipe(word_dim=8, num_hops=2)


def small_model() -> KnowledgeModel:
    torch.manual_seed(1)
    kb = KnowledgeBase.from_triples(TRIPLES)
    questions = [Question("who owns what a likes", ("c",), ("a",))]
    return KnowledgeModel.untrained(kb, questions, RECIPE)


@pytest.mark.parametrize("order", [1, -1], ids=["same order", "relations in another order"])
def test_a_model_gives_the_same_answers_over_the_same_facts_of_other_names(order: int) -> None:
    model = small_model()
    kb = KnowledgeBase.from_triples(RENAMED[::order])
    assert kb.relations == model.kb.relations[::order]
    ours = model.answer("who owns what a likes", topics=["a"]).answers
    theirs = transferred(model, kb).answer("who owns what a likes", topics=["A"]).answers
    assert {name.upper(): share for name, share in ours} == pytest.approx(dict(theirs))
    assert len(ours) > 1


def test_other_relations_are_refused() -> None:
    kb = KnowledgeBase.from_triples([("a", "likes", "b"), ("b", "eats", "c")])
    with pytest.raises(MemhopError, match="same relations, got a difference: eats, owns"):
        transferred(small_model(), kb)


def test_times_and_shares_of_answers() -> None:
    found = [Answered(n / 1000, n / 2000, n % 4 == 0, n > 90) for n in range(100)]
    assert summary(found) == pytest.approx({
        "median_seconds": 0.0495, "slow_seconds": 0.099,
        "median_cpu_seconds": 0.02475, "slow_cpu_seconds": 0.0495,
        "hits": 25, "estimated": 9,
    })  # fmt: skip


def test_the_dense_read_of_a_case_by_hand() -> None:
    memory = ragged_memory(
        torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 0, 1]), torch.tensor([1, 2, 3, 3]), 4
    )
    frontier = Frontier(torch.tensor([0, 2]), torch.tensor([0, 2]), torch.tensor([0.25, 0.5]))
    query, keys = torch.tensor([[1.0]]), torch.tensor([[0.0], [math.log(3)]])
    inputs = reads.Inputs(query, keys, frontier, gradients=False)
    starts = torch.tensor([0, 0, 1, 2])
    # weights 0.25, 0.25 * 3 and 0.5 * 3, divided by their sum
    expected = torch.tensor([[0, 0.1, 0.3, 0.6]])
    torch.testing.assert_close(reads.dense(starts, memory, inputs), expected)
    for form in (reads.eager, reads.compiled):
        after, _ = form(inputs, memory)
        assert after.nodes.tolist() == [1, 2, 3]
        torch.testing.assert_close(after.weights, expected[0, 1:])


def test_a_form_with_other_results_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = ragged_memory(
        torch.arange(300) % 100, torch.arange(300) % 3, torch.arange(300) * 7 % 100, 100
    )
    inputs = reads.drawn(memory, 1, hub=5)
    assert len(inputs.frontier.nodes) == reads.ENTITIES
    assert inputs.frontier.nodes[0] == 5
    found = list(reads.compared("case", memory, inputs, 300))
    assert [one["form"] for one in found] == ["dense", "eager", "compiled"]
    assert all(one["error"] < 1e-6 for one in found)
    halved = inputs.frontier._replace(weights=inputs.frontier.weights.flip(0))

    def wrong(_: object, memory: object) -> object:
        return reads.compiled(inputs._replace(frontier=halved), memory)  # type: ignore[arg-type]

    monkeypatch.setattr(reads, "eager", wrong)
    with pytest.raises(MemhopError, match="case: eager differs by"):
        next(reads.compared("case", memory, inputs, 300))


def test_the_tables_of_rows() -> None:
    times = {"seconds": 2.0, "cpu_seconds": 1.0}
    rows = [
        row("load", "read the file", facts=1000, peak_bytes=5e8, **times),
        row(
            "answers", "all", questions=20, hits=95.0, estimated=10.0, median_seconds=0.02,
            slow_seconds=0.03, median_cpu_seconds=0.01, slow_cpu_seconds=0.015,
        ),
        *(row("reads", "1 question", form=form, slots=3000, error=1e-7, **times)
          for form in ("dense", "eager", "compiled")),
    ]  # fmt: skip
    rows[0]["peak_bytes"] = 500_000_000
    load, answers, read = sheets(as_text(rows))
    assert load.lines == [["read the file", "1.0", "2.0", "500"]]
    assert answers.lines == [["all", "20", "95.0", "10.0", "10.0", "15.0", "20.0", "30.0"]]
    assert read.lines == [["1 question", "3,000", "1,000", "1,000", "1,000", "1e-07"]]
    with pytest.raises(KeyError, match="no column second"):
        row("load", "x", second=1)
    assert tuple(MEASURES) == PARTS


@pytest.mark.slow
def test_the_benchmark_runs(run: Runner) -> None:
    done = run("knowledge", "--tiny", "--to", "knowledge.csv")
    assert done.status == 0
    assert [line for line in done.out.splitlines() if line.startswith("any topic")]
    assert max(map(len, done.out.splitlines())) <= 80
