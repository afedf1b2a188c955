"""Key-value memory networks (Miller et al. 2016, arXiv 1606.03126), the baseline.

The memory of a question are the facts (s_i, r_i, o_i) that paths of at most K facts from its topic
t reach. With a vector E of each entity and each word, and R[r] for the sum over the words of the
name of r plus a vector of its own,

    k_i = E[s_i] + R[r_i],    v_i = E[o_i],    q_1 = E[t] + sum_j E[w_j],
    q_{k+1} = H_k (q_k + sum_i softmax_i(q_k . k_i) v_i),    answer: softmax_e(q_{K+1} . B[e])

over all entities e. The reads are those of `memhop.ops.read`. The training is as that of the
tracking hops: Adam, the loss -log of the weight of the right answers, and the development part
chooses the epoch.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from memhop import ops
from memhop.errors import DivergedError
from memhop.knowledge.encoding import EncodedQuestion, memory_of
from memhop.knowledge.evaluation import Score, encode_all, first_answer
from memhop.knowledge.facts import KnowledgeBase
from memhop.knowledge.hops import PADDING
from memhop.knowledge.model import KnowledgeModel
from memhop.knowledge.questions import Question
from memhop.knowledge.recipe import KnowledgeRecipe
from memhop.rng import generator, seeded

INIT_STD = 0.1
_WEIGHTS, _EPOCHS = 0, 1  # the purposes of generators


class Trained(NamedTuple):
    """A finished training; the columns of its row.

    Attributes:
        hits, listed_hits: percentage of test questions whose first answer is right, and is the
            first one listed.
        valid_error, valid_loss: of the best epoch, on the development questions.
        epoch, epochs: the best epoch, and how many were run.
        parameters: number of weights.
    """

    hits: float
    listed_hits: float
    valid_error: float
    valid_loss: float
    epoch: int
    epochs: int
    parameters: int


class Batch(NamedTuple):
    """Some questions with their memories; int64.

    Attributes:
        words: [B, L], `PADDING` beyond the end.
        topics: [B, T], entities; the number of entities beyond the end.
        facts, objects: [B, N], numbers of the facts in reach, and their objects; 0 beyond the end.
        lengths: [B], the numbers of facts.
        is_answer: bool [B, number of entities].
    """

    words: Tensor
    topics: Tensor
    facts: Tensor
    objects: Tensor
    lengths: Tensor
    is_answer: Tensor


class KeyValueNetwork(nn.Module):
    """The network of the module's formulas, over the facts of ``base``."""

    def __init__(self, base: KnowledgeModel) -> None:
        super().__init__()
        recipe, kb = base.recipe, base.kb
        width, entities = recipe.word_dim, len(kb.entities)
        self.names = base.names
        self.subjects, self.relations = (
            torch.from_numpy(kb.facts[:, column].copy()) for column in (0, 1)
        )
        self.words = nn.Embedding(len(base.vocabulary), width, padding_idx=PADDING)
        self.entities = nn.Embedding(entities + 1, width, padding_idx=entities)
        self.own = nn.Parameter(torch.empty(len(kb.relations), width))
        self.updates = nn.Parameter(torch.eye(width).repeat(recipe.num_hops, 1, 1))
        self.output = nn.Parameter(torch.empty(entities, width))
        self.dropout = nn.Dropout(recipe.dropout)
        with torch.no_grad():
            nn.init.normal_(self.words.weight, std=INIT_STD)[PADDING] = 0
            nn.init.normal_(self.entities.weight, std=INIT_STD)[entities] = 0
            nn.init.normal_(self.own, std=INIT_STD)
            nn.init.normal_(self.output, std=INIT_STD)

    def forward(self, batch: Batch) -> Tensor:
        """Return the log-probability of each entity, [B, E]."""
        named = functional.embedding_bag(
            self.names.words, self.words.weight, self.names.offsets, mode="sum"
        )
        entities = self.entities.weight[:-1]
        keys = entities[self.subjects] + (named + self.own)[self.relations]
        query = self.dropout(self.words(batch.words)).sum(1) + self.entities(batch.topics).sum(1)
        slots = batch.facts, batch.objects
        for update in self.updates:
            read = ops.read(query, keys, entities, slots=slots, lengths=batch.lengths)
            query = (query + read) @ update
        log_weights: Tensor = (query @ self.output.mT).log_softmax(-1)
        return log_weights


class Reach:
    """The facts that paths of at most K facts from an entity reach."""

    def __init__(self, kb: KnowledgeBase, num_hops: int) -> None:
        self._num_hops = num_hops
        self._objects = torch.from_numpy(kb.facts[:, 2].copy())
        self._memory = memory_of(kb, inverse=False)
        # slots are in the order of the subjects
        self._fact_of_slot = torch.argsort(torch.from_numpy(kb.facts[:, 0].copy()), stable=True)

    def facts(self, topics: Sequence[int]) -> Tensor:
        """Return the numbers of the facts, in increasing order."""
        offsets = self._memory.offsets.tolist()
        entities, slots = set(topics), set[int]()
        for _ in range(self._num_hops):
            found = {
                slot for entity in entities for slot in range(offsets[entity], offsets[entity + 1])
            } - slots
            slots |= found
            entities = {int(self._memory.targets[slot]) for slot in found}
        return self._fact_of_slot[torch.tensor(sorted(slots), dtype=torch.int64)].sort().values

    def objects(self, facts: Tensor) -> Tensor:
        """Return the objects of facts."""
        return self._objects[facts]


class KeyValue:
    """A network with its questions, encoded as those of the tracking hops."""

    def __init__(
        self, kb: KnowledgeBase, questions: Sequence[Question], recipe: KnowledgeRecipe
    ) -> None:
        self.base = KnowledgeModel.untrained(kb, questions, recipe)
        self.network = KeyValueNetwork(self.base)
        self._reach = Reach(kb, recipe.num_hops)
        self._facts: dict[tuple[int, ...], Tensor] = {}

    def batches(
        self, questions: Sequence[EncodedQuestion], size: int
    ) -> Iterator[tuple[Sequence[EncodedQuestion], Batch]]:
        """Yield the questions in batches."""
        for start in range(0, len(questions), size):
            own = questions[start : start + size]
            yield own, self.batch(own)

    def batch(self, questions: Sequence[EncodedQuestion]) -> Batch:
        """Return the tensors of some questions."""
        count = len(self.base.kb.entities)
        facts = [self._facts_of(one.topics) for one in questions]
        words = [torch.tensor(one.words) for one in questions]
        topics = [torch.tensor(one.topics, dtype=torch.int64) for one in questions]
        is_answer = torch.zeros(len(questions), count, dtype=torch.bool)
        for row, one in zip(is_answer, questions, strict=True):
            row[list(one.answers)] = True
        padded = pad_sequence(facts, batch_first=True)
        return Batch(
            pad_sequence(words, batch_first=True, padding_value=PADDING),
            pad_sequence(topics, batch_first=True, padding_value=count),
            padded,
            self._reach.objects(padded),
            torch.tensor([len(own) for own in facts]),
            is_answer,
        )

    def _facts_of(self, topics: tuple[int, ...]) -> Tensor:
        if topics not in self._facts:
            self._facts[topics] = self._reach.facts(topics)
        return self._facts[topics]

    @torch.inference_mode()
    def first_answers(self, questions: Sequence[EncodedQuestion]) -> tuple[list[int], Score]:
        """Return the first answer of each question, and error and mean loss."""
        self.network.eval()
        first: list[int] = []
        loss = 0.0
        for _, batch in self.batches(questions, self.base.recipe.batch_size):
            log_weights = self.network(batch)
            loss += float(losses(log_weights, batch).sum())
            first += log_weights.argmax(-1).tolist()
        wrong = sum(one not in each.answers for one, each in zip(first, questions, strict=True))
        count = max(1, len(questions))
        return first, Score(100 * wrong / count, loss / count)


def losses(log_weights: Tensor, batch: Batch) -> Tensor:
    """Return -log of the weight of the right answers of each question, [B]."""
    right = log_weights.masked_fill(~batch.is_answer, -torch.inf).logsumexp(-1)
    return -right.masked_fill(~batch.is_answer.any(-1), 0.0)


def train(
    kb: KnowledgeBase,
    parts: Sequence[Sequence[Question]],
    *,
    recipe: KnowledgeRecipe,
    seed: int,
    on_epoch: Callable[[int, int, str], None] | None = None,
) -> Trained:
    """Train on the first of three parts; the second chooses the epoch, the third is the test."""
    with seeded(seed, _WEIGHTS):
        model = KeyValue(kb, parts[0], recipe)
    training, valid, test = (encode_all(model.base, part) for part in parts)
    training = [one for one in training if one.topics and one.answers]
    network = model.network
    optimizer = torch.optim.Adam(network.parameters(), recipe.learning_rate)
    best, best_epoch, kept = Score(float("inf"), float("inf")), 0, network.state_dict()
    epoch = 0
    while epoch < recipe.epochs and epoch - best_epoch < recipe.patience:
        order = generator(seed, _EPOCHS, epoch).permutation(len(training))
        shuffled = [training[number] for number in order]
        with seeded(seed, _EPOCHS, epoch):  # of the dropout
            loss = _run_epoch(model, shuffled, optimizer)
        epoch += 1
        if not loss < float("inf"):
            raise DivergedError(f"the loss became infinite in epoch {epoch}")
        scored = model.first_answers(valid)[1]
        if scored < best:
            best, best_epoch = scored, epoch
            kept = {name: weight.clone() for name, weight in network.state_dict().items()}
        if on_epoch is not None:
            on_epoch(epoch, recipe.epochs, f"loss {loss:.3f}")
    network.load_state_dict(kept)
    first, score = model.first_answers(test)
    listed = [first_answer(model.base, question) for question in parts[2]]
    listed_hits = sum(one in known for one, known in zip(first, listed, strict=True))
    return Trained(
        100 - score.error,
        100 * listed_hits / max(1, len(test)),
        *best,
        best_epoch,
        epoch,
        sum(weight.numel() for weight in network.parameters()),
    )


def _run_epoch(
    model: KeyValue, questions: Sequence[EncodedQuestion], optimizer: torch.optim.Optimizer
) -> float:
    """Train one epoch and return the mean loss."""
    recipe, network = model.base.recipe, model.network
    network.train()
    total = 0.0
    for _, batch in model.batches(questions, recipe.batch_size):
        each = losses(network(batch), batch)
        optimizer.zero_grad(set_to_none=True)
        each.mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.step()
        total += float(each.detach().sum())
    return total / len(questions)
