"""KnowledgeModel: answers questions over facts, hop by hop."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from memhop.checkpoint import (
    KNOWLEDGE,
    SCHEMA,
    check_schema,
    from_json,
    from_tensors,
    part,
    read_checkpoint,
    to_json,
    to_tensors,
    write_checkpoint,
)
from memhop.errors import MemhopError, check_integer, shown
from memhop.knowledge.answer import FactRead, HopRead, KnowledgeAnswer
from memhop.knowledge.encoding import (
    RESERVED,
    EncodedQuestion,
    Encoder,
    batch_of,
    memory_of,
    vocabulary_of,
)
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.hops import QuestionBatch, Tracked, TrackingHops
from memhop.knowledge.paths import HopReads, supports
from memhop.knowledge.questions import Question, parse_question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.knowledge.topics import TopicFinder
from memhop.ops.ragged.frontier import Frontier, mixture, rows_of
from memhop.pretrained import Pretrained
from memhop.pretrained.card import CardText
from memhop.pretrained.storable import check_attributes, check_storable
from memhop.runs import find_checkpoint

WEIGHTS, RECIPE, VOCABULARY = "model.safetensors", "knowledge.json", "vocabulary.json"
SAME_WEIGHT = 1e-5  # relative difference below which two answers tie
ANSWER_SHARE = 0.1  # of the weight of the strongest answer, from which on an entity is an answer
MAX_ANSWERS, RUNNERS_UP, FACTS_SHOWN = 50, 3, 5
BATCH = 64
_SUMMARY = (
    "A `KnowledgeModel` of memhop: it answers questions over its own facts (subject, relation, "
    "object) hop by hop, and shows the facts that each hop read."
)


class Ranked(NamedTuple):
    """The entities that a question reached, strongest first, with their probabilities."""

    entities: np.ndarray
    probabilities: np.ndarray


class KnowledgeModel(Pretrained):
    """A question answerer over a knowledge base, with `TrackingHops`.

    Attributes:
        kb: the facts.
        recipe: the settings.
        vocabulary: the words of questions and relations.
        network: the weights.

    `memhop.knowledge.train` makes a trained one.
    """

    _kind = KNOWLEDGE

    def __init__(
        self,
        kb: KnowledgeBase,
        vocabulary: Sequence[str],
        recipe: KnowledgeRecipe,
        *,
        finder: TopicFinder | None = None,
        device: str = "cpu",
    ) -> None:
        self.kb, self.recipe, self.vocabulary = kb, recipe, tuple(vocabulary)
        self.network = self._new_network(device)
        self.encoder = Encoder(kb, vocabulary, finder or TopicFinder(kb))
        self.memory = memory_of(kb, recipe.inverse)
        self.names = self.encoder.relation_names()
        self._starts = rows_of(self.memory.offsets).numpy()

    def _new_network(self, device: str) -> TrackingHops:
        directions = 2 if self.recipe.inverse else 1
        with torch.device(device):  # "meta" before weights are loaded: nothing is allocated
            network = TrackingHops(
                len(self.vocabulary), directions * len(self.kb.relations), self.recipe
            )
        return network.float()  # whatever torch's default dtype is

    def answer(
        self, question: str, *, topics: Sequence[str] | None = None, facts: int = FACTS_SHOWN
    ) -> KnowledgeAnswer:
        """Return the answer to a question, and the facts that each hop read.

        Args:
            question: a text; a topic may be in square brackets.
            topics: names of the entities that the question is about; None finds them in it.
            facts: the largest number of facts of a hop in the answer.

        Raises:
            MemhopError: a question without a word, or a wrong number of facts.
        """
        check_integer("facts", facts, 1)
        asked = parse_question(question)
        if isinstance(topics, str):
            raise MemhopError(f"topics: expected a list of names, got {shown(topics)}")
        if topics is not None:
            asked = asked._replace(topics=tuple(topics))
        encoded = self.encoder.encode(asked)
        [(tracked, [ranked])] = self.ranked([encoded])
        return self._answer(asked, encoded, tracked, ranked, facts)

    @torch.inference_mode()
    def ranked(
        self, questions: Sequence[EncodedQuestion], batch_size: int = BATCH
    ) -> Iterator[tuple[Tracked, list[Ranked]]]:
        """Yield for each batch of questions its hops, and the ranked answers of each question.

        Answers of equal weight, up to rounding, are in the order of the facts.
        """
        self.network.eval()
        for start in range(0, len(questions), batch_size):
            tracked = self.track(batch_of(questions[start : start + batch_size]))
            ends = [hop.after for hop in tracked.hops]
            yield tracked, ranked_rows(mixture(ends, tracked.last, self.memory.num_nodes))

    def track(self, batch: QuestionBatch) -> Tracked:
        """Return the hops of a batch; differentiable."""
        tracked: Tracked = self.network(batch, self.memory, self.names)
        return tracked

    def _answer(
        self,
        asked: Question,
        encoded: EncodedQuestion,
        tracked: Tracked,
        ranked: Ranked,
        facts: int,
    ) -> KnowledgeAnswer:
        labels = self.kb.labels
        pairs = [
            (labels[entity], float(share))
            for entity, share in zip(*(one[: 2 * MAX_ANSWERS] for one in ranked), strict=True)
        ]
        pairs = pairs if encoded.asks else []
        least = ANSWER_SHARE * pairs[0][1] if pairs else 0.0
        count = min(MAX_ANSWERS, sum(share >= least for _, share in pairs))
        first = Ranked(*(one[:count] for one in ranked))
        hops = self._hops(encoded, tracked, first, facts) if pairs else ()
        return KnowledgeAnswer(
            asked.text,
            tuple(pairs[:count]),
            tuple(pairs[count : count + RUNNERS_UP]),
            tuple(labels[topic] for topic in encoded.topics),
            hops,
            encoded.unknown_words,
            encoded.unknown_entities,
            max(float(hop.dropped[0]) for hop in tracked.hops),
            encoded.asks,
        )

    def _hops(
        self, encoded: EncodedQuestion, tracked: Tracked, answers: Ranked, facts: int
    ) -> tuple[HopRead, ...]:
        """Return the hops up to the one that gave most of the answers."""
        entities = np.sort(answers.entities)
        weights = [weights_of(hop.after, entities) for hop in tracked.hops]
        given = tracked.last[0].double().numpy() * [one.sum() for one in weights]
        count = int(given.argmax()) + 1
        given_by_last = weights[count - 1]
        words = [self.vocabulary[row] for row in encoded.words]
        reads = [self._reads(hop.reads.slots, hop.reads.weights) for hop in tracked.hops[:count]]
        shares = supports(reads, entities, given_by_last / given_by_last.sum())
        return tuple(
            HopRead(
                tuple(self._facts(hop.reads.slots.numpy(), read.weights, support, facts)),
                int((read.weights > 0).sum()),
                float(hop.dropped[0]),
                tuple(zip(words, attention.tolist(), strict=True)),
            )
            for hop, read, support, attention in zip(
                tracked.hops, reads, shares, tracked.attention[0], strict=False
            )
        )

    def _reads(self, slots: Tensor, weights: Tensor) -> HopReads:
        numbers = slots.numpy()
        targets = self.memory.targets.numpy()[numbers]
        return HopReads(self._starts[numbers], targets, weights.double().numpy())

    def _facts(
        self, slots: np.ndarray, weights: np.ndarray, support: np.ndarray, most: int
    ) -> Iterator[FactRead]:
        order = np.lexsort((-weights, -support))[:most]
        for place in order[(weights > 0)[order]]:
            slot = slots[place]
            key = int(self.memory.keys[slot])
            start, target = self._starts[slot], int(self.memory.targets[slot])
            is_inverse = key >= len(self.kb.relations)
            subject, object_ = (target, start) if is_inverse else (start, target)
            yield FactRead(
                self.kb.labels[subject],
                self.kb.relation_labels[key % len(self.kb.relations)],
                self.kb.labels[object_],
                is_inverse,
                float(weights[place]),
                float(support[place]),
            )

    def to_files(self, weights: Mapping[str, Tensor] | None = None) -> dict[str, bytes]:
        """Return the files of a checkpoint: weights (None: its own), settings, words and facts."""
        return {
            WEIGHTS: to_tensors(self.network.state_dict() if weights is None else weights),
            RECIPE: to_json({"schema": SCHEMA, "recipe": self.recipe.to_json()}),
            VOCABULARY: to_json({"schema": SCHEMA, "words": list(self.vocabulary)}),
            **self.kb.to_files(),
        }

    def save(self, folder: str | Path) -> None:
        """Write the model with its facts to a new folder; `load` reads it."""
        write_checkpoint(Path(folder), self.to_files(), KNOWLEDGE)

    @classmethod
    def load(cls, run: str | Path) -> Self:
        """Return the model of a run, given by its path or its name under ``runs/``.

        Raises:
            MemhopError: no such run, a run of another kind, or corrupt files.
        """
        folder = find_checkpoint(run, KNOWLEDGE)
        return cls.from_files(read_checkpoint(folder), folder)

    @classmethod
    def from_files(cls, files: dict[str, bytes], folder: Path) -> Self:
        """Return the model in the files of a checkpoint; ``folder`` is named in errors."""
        settings = from_json(part(files, RECIPE, folder), folder / RECIPE)
        words = from_json(part(files, VOCABULARY, folder), folder / VOCABULARY)
        for name, content in ((RECIPE, settings), (VOCABULARY, words)):
            check_schema(content, folder / name)
        try:
            recipe = KnowledgeRecipe.from_json(settings.get("recipe"))
        except MemhopError as error:
            raise MemhopError(f"{folder / RECIPE}: {error}") from error
        kb = KnowledgeBase.from_files(files, folder)
        model = cls(kb, checked_words(words.get("words"), folder), recipe, device="meta")
        shapes = {name: tensor.shape for name, tensor in model.network.state_dict().items()}
        weights = from_tensors(part(files, WEIGHTS, folder), shapes, folder / WEIGHTS)
        model.network.load_state_dict(weights, assign=True)
        return model

    def _module(self) -> nn.Module:
        return self.network

    def _check_storable(self) -> None:
        expected = type(self)(self.kb, self.vocabulary, self.recipe, device="meta")
        check_storable(self.network, expected.network)
        check_attributes(type(self).__name__, self, expected, ignored=["network"])

    def _settings(self) -> dict[str, Any]:
        sizes = {"entities": len(self.kb.entities), "relations": len(self.kb.relations)}
        return {**self.recipe.to_json(), **sizes, "facts": len(self.kb.facts)}

    def _card_text(self) -> CardText:
        topic, question = self.kb.labels[0], f"what is the {self.kb.relation_labels[0]}?"
        lines = [
            "from memhop.knowledge import KnowledgeModel", "",
            "model = KnowledgeModel.from_pretrained(NAME)",
            f"print(model.answer({question!a}, topics=[{topic!a}]).answer)",
        ]  # fmt: skip
        return CardText(_SUMMARY, "\n".join(lines), "question-answering")

    @classmethod
    def untrained(
        cls,
        kb: KnowledgeBase,
        questions: Sequence[Question],
        recipe: KnowledgeRecipe,
        finder: TopicFinder | None = None,
    ) -> "KnowledgeModel":
        """Return a model with new weights and the vocabulary of the questions and relations."""
        finder = finder or TopicFinder(kb)
        found = (finder.find(question).words for question in questions)
        return cls(kb, vocabulary_of(kb, found), recipe, finder=finder)


def ranked_rows(frontier: Frontier) -> list[Ranked]:
    """Return the nodes of each query, strongest first; weights of zero are left out."""
    weights, nodes = frontier.weights.double().numpy(), frontier.nodes.numpy()
    cuts = frontier.offsets[1:-1].numpy()
    return [
        ranked_row(*own) for own in zip(np.split(weights, cuts), np.split(nodes, cuts), strict=True)
    ]


def ranked_row(weights: np.ndarray, nodes: np.ndarray) -> Ranked:
    """Return the nodes of one query; those of equal weight in increasing order.

    >>> ranked_row(np.array([0.5, 1.0, 0.5, 0.0]), np.array([9, 2, 4, 1])).entities.tolist()
    [2, 4, 9]
    """
    order = np.argsort(-weights, kind="stable")
    order = order[weights[order] > 0]
    falling = weights[order]
    falls = np.diff(falling, prepend=falling[:1]) < -SAME_WEIGHT * falling
    order = order[np.lexsort((nodes[order], falls.cumsum()))]
    return Ranked(nodes[order], weights[order] / max(weights.sum(), np.finfo(float).tiny))


def weights_of(frontier: Frontier, nodes: np.ndarray) -> np.ndarray:
    """Return the weights of nodes, which increase, on the frontier of a single query."""
    own, weights = frontier.nodes.numpy(), frontier.weights.double().numpy()
    is_listed = np.isin(own, nodes)
    found = np.zeros(len(nodes))
    found[np.searchsorted(nodes, own[is_listed])] = weights[is_listed]
    return found


def checked_words(words: object, folder: Path) -> list[str]:
    """Return the vocabulary from untrusted JSON."""
    known = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
    if tuple(known[: len(RESERVED)]) != RESERVED or words != list(dict.fromkeys(known)):
        raise MemhopError(f"{folder / VOCABULARY}: corrupt: expected distinct words")
    return known
