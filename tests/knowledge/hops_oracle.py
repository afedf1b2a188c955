"""The formulas of `memhop.knowledge.hops` in float64 NumPy, with a weight for every entity."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from memhop.knowledge import KnowledgeBase, KnowledgeModel, KnowledgeRecipe
from memhop.knowledge.encoding import EncodedQuestion, batch_of
from memhop.knowledge.hops import QuestionBatch
from memhop.ops.ragged.frontier import uniform_frontier

Floats = NDArray[np.float64]
WORDS = ("who", "made", "the", "film", "of", "where", "<topic>")


class OracleHop(NamedTuple):
    """A hop: x of all entities after it, p of each fact by (start, key, target), what it dropped.

    The same fact twice, which a fact with equal subject and object is with inverse facts, has two
    entries.
    """

    after: Floats
    reads: list[tuple[int, int, int, float]]
    dropped: float


class OracleHops(NamedTuple):
    """The hops of a question, t, and the attention of each hop over the words."""

    hops: list[OracleHop]
    last: Floats
    attention: Floats


def random_kb(seed: int, entities: int = 9, relations: int = 3, facts: int = 18) -> KnowledgeBase:
    """Return random facts; some entities are the subject of none."""
    rng = np.random.default_rng(seed)
    names = [f"e{number}" for number in range(entities)]
    triples = [
        (names[rng.integers(entities)], f"rel{rng.integers(relations)} of", names[target])
        for target in rng.integers(entities, size=facts)
    ]
    return KnowledgeBase.from_triples(triples)


def random_model(
    kb: KnowledgeBase, recipe: KnowledgeRecipe, seed: int = 0, std: float = 0.4
) -> KnowledgeModel:
    """Return a model in float64 with large random weights, in evaluation."""
    words = [word for relation in range(len(kb.relations)) for word in kb.relation_words(relation)]
    vocabulary = tuple(dict.fromkeys(("", "<unknown>", *WORDS, *words)))
    model = KnowledgeModel(kb, vocabulary, recipe)
    generator = torch.Generator().manual_seed(seed)
    model.network.double().eval()
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * std)
        model.network.words.weight[0] = 0
        model.network.scale.fill_(1.5)
    return model


def random_questions(model: KnowledgeModel, count: int, seed: int = 0) -> list[EncodedQuestion]:
    """Return questions of 1 to 7 words with 0 to 3 topics and answers."""
    rng = np.random.default_rng(seed)
    size = len(model.kb.entities)
    return [
        EncodedQuestion(
            tuple(rng.integers(1, len(model.vocabulary), size=rng.integers(1, 8)).tolist()),
            tuple(rng.permutation(size)[: rng.integers(0, 4)].tolist()),
            tuple(rng.permutation(size)[: rng.integers(0, 4)].tolist()),
            (),
            (),
        )
        for _ in range(count)
    ]


def double_batch(questions: list[EncodedQuestion]) -> QuestionBatch:
    """Return a batch whose topics have float64 weights."""
    topics = uniform_frontier([one.topics for one in questions], torch.float64)
    return batch_of(questions)._replace(topics=topics)


def softmax(scores: Floats) -> Floats:
    """Return the softmax over the last dimension."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(values: Floats) -> Floats:
    """Return the logistic function."""
    return np.asarray(1 / (1 + np.exp(-values)))


def oracle_hops(model: KnowledgeModel, question: EncodedQuestion) -> OracleHops:
    """Return the hops of a question; only the states of the GRU come from the model."""
    network, recipe, kb = model.network, model.recipe, model.kb
    weights = {name: one.numpy() for name, one in network.state_dict().items()}
    embedded = weights["words.weight"][list(question.words)]
    with torch.no_grad():
        states, final = network.read_words(
            torch.from_numpy(embedded)[None], torch.tensor([len(question.words)])
        )
    attention = softmax(weights["hop_queries"] @ states[0].numpy().T)
    queries = attention @ embedded
    state = final[0].numpy()
    gates = sigmoid(weights["back.weight"] @ state + weights["back.bias"])
    last = softmax(weights["stop.weight"] @ state + weights["stop.bias"])
    facts = oracle_facts(model, weights)
    topics = list(question.topics)
    x = np.zeros(len(kb.entities))
    x[topics] = 1 / max(1, len(topics))
    hops = []
    for k in range(recipe.num_hops):
        dropped = 0.0
        if k:
            x, dropped = oracle_prune(x, recipe)
        read = [fact for fact in facts if x[fact[0]] > 0]
        scores = [
            np.log(x[start]) + float(weights["scale"]) * queries[k] @ vector + bias
            for start, _, _, vector, bias in read
        ]
        shares = softmax(np.array(scores)) if read else np.zeros(0)
        x = np.zeros(len(kb.entities))
        for (_, _, target, _, _), share in zip(read, shares, strict=True):
            x[target] += share
        x[topics] *= gates[k]
        x = x / x.sum() if x.any() else x
        reads = [(*fact[:3], float(p)) for fact, p in zip(read, shares, strict=True)]
        hops.append(OracleHop(x, reads, dropped))
    return OracleHops(hops, last, attention)


def oracle_facts(
    model: KnowledgeModel, weights: dict[str, Floats]
) -> list[tuple[int, int, int, Floats, float]]:
    """Return start, key, target, R and b of all facts, and of the inverse ones."""
    kb = model.kb
    rows = {word: row for row, word in enumerate(model.vocabulary)}
    named = [
        sum((weights["words.weight"][rows[word]] for word in kb.relation_words(relation)), 0.0)
        for relation in range(len(kb.relations))
    ]
    facts = []
    for s, r, o in kb.facts.tolist():
        facts.append((s, r, o, named[r] + weights["relations"][r], 0.0))
        if model.recipe.inverse:
            key = len(kb.relations) + r
            vector = named[r] + weights["inverse"] + weights["relations"][key]
            facts.append((o, key, s, vector, float(weights["inverse_bias"])))
    return facts


def oracle_prune(x: Floats, recipe: KnowledgeRecipe) -> tuple[Floats, float]:
    """Return the largest weights of the entities, and the share of the others."""
    kept = np.zeros_like(x)
    largest = np.argsort(-x, kind="stable")[: recipe.max_entities]
    chosen = largest[x[largest] >= recipe.min_weight * x.max()]
    kept[chosen] = x[chosen]
    return kept, float((x.sum() - kept.sum()) / x.sum()) if x.any() else 0.0


def oracle_answer(found: OracleHops) -> Floats:
    """Return sum_k t_k x_k, for every entity."""
    return np.asarray(sum(t * hop.after for t, hop in zip(found.last, found.hops, strict=True)))
