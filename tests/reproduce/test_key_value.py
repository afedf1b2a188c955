"""Key-value memory networks: the facts in reach, and the formulas computed by plain torch."""

import pytest
import torch

from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.reproduce import key_value
from memhop.reproduce.key_value import KeyValue, Reach, losses

TRIPLES = [
    ("a", "likes", "b"), ("b", "owns", "c"), ("c", "likes", "a"), ("a", "owns", "d"),
    ("e", "likes", "a"), ("b", "likes", "d"), ("d", "owns", "f"),
]  # fmt: skip
KB = KnowledgeBase.from_triples(TRIPLES)
QUESTIONS = [
    Question("what does a like and own", ("c", "d"), ("a",)),
    Question("who likes e", ("b",), ("e",)),
    Question("what does f own", ("a",), ("f",)),
]


@pytest.mark.parametrize(
    ("topic", "hops", "expected"),
    [("a", 1, [0, 3]), ("a", 2, [0, 1, 3, 5, 6]), ("a", 3, [0, 1, 2, 3, 5, 6]), ("f", 3, []),
     ("e", 2, [0, 3, 4])],
)  # fmt: skip
def test_the_facts_that_paths_reach(topic: str, hops: int, expected: list[int]) -> None:
    reach = Reach(KB, hops)
    facts = reach.facts(KB.find(topic))
    assert facts.tolist() == expected
    assert reach.objects(facts).tolist() == [KB.find(TRIPLES[n][2])[0] for n in expected]


def plain(model: KeyValue, question: Question) -> torch.Tensor:
    """Return the log-probabilities of a question by the formulas of the module, one by one."""
    network, base = model.network, model.base
    one = base.encoder.encode(question)
    words, entities = network.words.weight, network.entities.weight
    rows = {word: row for row, word in enumerate(base.vocabulary)}
    relations = [
        torch.stack([network.own[r], *(words[rows[word]] for word in KB.relation_words(r))]).sum(0)
        for r in range(len(KB.relations))
    ]
    query = torch.stack([entities[one.topics[0]], *(words[row] for row in one.words)]).sum(0)
    facts = Reach(KB, base.recipe.num_hops).facts(one.topics).tolist()
    for update in network.updates:
        read = torch.zeros_like(query)
        if facts:
            triples = [KB.facts[fact].tolist() for fact in facts]
            keys = torch.stack([entities[s] + relations[r] for s, r, _ in triples])
            read = (keys @ query).softmax(0) @ entities[[o for _, _, o in triples]]
        query = (query + read) @ update
    return (network.output @ query).log_softmax(0)


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_the_network_computes_the_formulas(hops: int) -> None:
    torch.manual_seed(hops)
    model = KeyValue(KB, QUESTIONS, KnowledgeRecipe(word_dim=8, num_hops=hops))
    with torch.no_grad():
        for weight in (model.network.updates, model.network.own, model.network.output):
            weight.add_(torch.randn_like(weight), alpha=0.3)
    model.network.eval()
    encoded = [model.base.encoder.encode(question) for question in QUESTIONS]
    batch = model.batch(encoded)
    found = model.network(batch)
    expected = torch.stack([plain(model, question) for question in QUESTIONS])
    torch.testing.assert_close(found, expected)
    right = [KB.find("c") + KB.find("d"), KB.find("b"), KB.find("a")]
    by_hand = [-expected[row, list(own)].exp().sum().log() for row, own in enumerate(right)]
    torch.testing.assert_close(losses(found, batch), torch.stack(by_hand))
    first, score = model.first_answers(encoded)
    assert first == expected.argmax(1).tolist()
    wrong = sum(one not in own for one, own in zip(first, right, strict=True))
    loss = float(torch.stack(by_hand).detach().mean())
    assert score == pytest.approx((100 * wrong / 3, loss))


def test_questions_without_a_right_answer_have_no_loss() -> None:
    none = torch.zeros(1, 1)
    batch = key_value.Batch(none, none, none, none, none, torch.tensor([[False, False]]))
    assert losses(torch.tensor([[-1.0, -2.0]]), batch).tolist() == [0.0]


def test_training_learns_paths_and_keeps_the_best_epoch() -> None:
    asked = [
        Question(f"what does {s} {r}", (o,), (s,)) for s, r, o in TRIPLES for _ in range(4)
    ]  # fmt: skip
    seen: list[tuple[int, int]] = []
    recipe = KnowledgeRecipe(num_hops=1, word_dim=16, epochs=60, batch_size=4, dropout=0)
    result = key_value.train(
        KB, [asked, asked[::4], asked[::4]], recipe=recipe, seed=3,
        on_epoch=lambda epoch, epochs, _: seen.append((epoch, epochs)),
    )  # fmt: skip
    assert result.hits == result.listed_hits == 100
    assert result.valid_error == 0
    assert seen == [(n + 1, 60) for n in range(result.epochs)]
    assert result.epoch <= result.epochs <= result.epoch + recipe.patience
