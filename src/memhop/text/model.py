"""MemN2N, the model that answers questions about stories (arXiv 1503.08895, sections 2 and 4)."""

import warnings
from collections.abc import Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from memhop.checkpoint import (
    SCHEMA,
    STORIES,
    check_schema,
    from_json,
    from_tensors,
    part,
    read_checkpoint,
    to_json,
    to_tensors,
    write_checkpoint,
)
from memhop.errors import MemhopError, MemhopWarning, check_integer
from memhop.example import Example
from memhop.ops.inputs import MLP, BankHop
from memhop.ops.text.two_row_attention import TwoRowMemory
from memhop.pretrained import Pretrained
from memhop.pretrained.card import CardText
from memhop.pretrained.storable import check_storable
from memhop.recipe import Recipe
from memhop.runs import find_checkpoint
from memhop.text import one_question
from memhop.text.answer import Answer
from memhop.text.card import card_text
from memhop.text.encoding import Batch, Encoded, Encoder, Sizes, ages
from memhop.text.reading import (
    Question,
    SplitSentences,
    readable_pairs,
    readable_question,
    with_words,
)
from memhop.text.stored_examples import examples_from_files, examples_to_files
from memhop.text.vocabulary import NIL, UNKNOWN, Vocabulary
from memhop.tokenizer import answer_word, split_words

_WEIGHTS, _RECIPE, _VOCABULARY = "model.safetensors", "recipe.json", "vocabulary.json"
_RUNNERS_UP = 3
_WORDS_SHOWN = 3  # in the warning about an older model


class MemN2N(nn.Module, Pretrained):
    """End-to-end memory network over sentences.

    With x_i the i-th of the last N statements and q the question, as weighted bags of words
    (`memhop.text.encoding`): m_i = A x_i + T_A(age_i), c_i = C x_i + T_C(age_i), u = B q; each
    hop p = softmax_i(u . m_i), u <- u + sum_i p_i c_i; answer = argmax softmax(W u).

    As in the authors' code the ages are rows of the same tables as the words. T_A and T_C are
    therefore tied as A and C are, weighted as the last word of a sentence, and, with adjacent
    tying, rows of W too. The rows of a table are: nil (training keeps it at zero), the ages 1 to
    ``memory_slots``, the unknown word (zero too, so that it adds nothing to a sentence), the words
    of the vocabulary.

    With ``Recipe.heads`` the columns are split into heads with attention of their own, and with
    ``Recipe.hop_units`` a hop ends with an MLP, u <- u + V ReLU(W u + b); the paper has neither.

    Args:
        vocabulary: words and answers of the training text.
        recipe: settings; the model uses those above ``epochs``, and ``init_std``.
        sizes: longest sentence and memory of the training text.
        restarts: None, or R models on a leading axis of every weight.

    State dict: ``tables`` [(R,) K + 1, rows, memory_dim], E_0 .. E_K, with adjacent tying; with
    layer-wise tying [(R,) 4, rows, memory_dim], B, A, C, W, and ``hop_map`` [(R,) memory_dim,
    memory_dim], H; ``network.inner`` [(R,) K, memory_dim, hop_units], ``network.bias``
    [(R,) K, 1, hop_units] and ``network.outer`` [(R,) K, hop_units, memory_dim].
    """

    _kind = STORIES

    def __init__(
        self,
        vocabulary: Vocabulary,
        recipe: Recipe,
        sizes: Sizes,
        *,
        restarts: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.vocabulary, self.recipe = vocabulary, recipe
        self.sizes, self.restarts = sizes, restarts
        self.encoder = Encoder(vocabulary, recipe, sizes)
        self.examples: tuple[Example, ...] = ()  # training stories to show, saved with the model
        self._num_ages = sizes.memory_slots if recipe.temporal else 0
        hops, axes = recipe.num_hops, () if restarts is None else (restarts,)
        layerwise = recipe.tying == "layerwise"
        # indices of the tables: B, A of each hop, C of each hop, W
        self.table_indices = (0, list(range(hops)), list(range(1, hops + 1)), hops)
        if layerwise:
            self.table_indices = (0, [1] * hops, [2] * hops, 3)
        shape = (*axes, self.table_indices[-1] + 1, self.num_rows, recipe.memory_dim)
        self.tables = nn.Parameter(torch.empty(shape, device=device))
        self.hop_map: nn.Parameter | None = None
        if layerwise:
            square = (*axes, recipe.memory_dim, recipe.memory_dim)
            self.hop_map = nn.Parameter(torch.empty(square, device=device))
        self.network = _mlp_parameters(recipe, axes, device) if recipe.hop_units else None
        self.reset_parameters()

    @property
    def num_rows(self) -> int:
        """The number of rows of each table: nil, the ages, the unknown word, the words."""
        return self._num_ages + len(self.vocabulary)

    def reset_parameters(self) -> None:
        """Draw every weight from N(0, `init_std`), and set the reserved rows to zero."""
        if not any(parameter.is_meta for parameter in self.parameters()):
            for name, parameter in self.named_parameters():
                nn.init.normal_(parameter, std=self.init_std(name))
            self.zero_reserved_rows_()

    def init_std(self, weight: str) -> float:
        """Return the standard deviation of the initial values of a weight, by its name."""
        width, units = self.recipe.memory_dim, self.recipe.hop_units
        if weight == "network.inner":
            return float(width**-0.5)
        if weight == "network.outer":
            return float(0.5 * units**-0.5)
        return 0.0 if weight == "network.bias" else self.recipe.init_std

    @torch.no_grad()
    def zero_reserved_rows_(self) -> None:
        """Set nil and the unknown word to zero, as training does after every step."""
        self.tables[..., NIL, :] = 0
        self.tables[..., self._num_ages + UNKNOWN, :] = 0

    def forward(
        self, batch: Batch, *, softmax: bool = True, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Return the scores of all answers, [(R,) B, rows], and the attention of each hop.

        The rows are those of the tables; `word_scores` selects those of words.

        Args:
            batch: encoded questions.
            softmax: False leaves out the softmax of the memory (linear start).
            need_weights: also return the attention, [(R,) B, hops, N], the mean of the heads.
        """
        query, answers, attentions = self.read(batch, softmax)
        weights = torch.stack(attentions, dim=-3).mean(-2) if need_weights else None
        return query @ answers.mT, weights

    def read(self, batch: Batch, softmax: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the query after all hops, [(R,) B, memory_dim], W, and the attention of each."""
        b, a_of_hops, c_of_hops, w = self.table_indices
        count = 1 + max(b, *a_of_hops, *c_of_hops)
        bank, answers = batch.sentences.embed_and_select(self.tables, batch.chosen, count, w)
        num_sentences = bank.shape[-2] - self._num_ages - 1
        # a slot is the sum of two rows of a bank: its statement's and its age's
        age_rows = batch.ages.clamp(max=self._num_ages) + num_sentences
        memory = TwoRowMemory(
            bank, torch.stack([batch.slots, age_rows], dim=-2), batch.lengths,
            mask_rest=self.recipe.mask_empty_slots, heads=self.recipe.heads,
        )  # fmt: skip
        query = memory.look_up(b, batch.question)
        transform, relu = self.hop_map, self.recipe.relu
        pairs = zip(a_of_hops, c_of_hops, strict=True)
        hops = [BankHop(a, c, transform, relu, softmax) for a, c in pairs]
        mlps = []
        if self.network is not None:
            weights = (self.network[name].unbind(-3) for name in one_question.MLP_NAMES)
            mlps = [MLP(*of_hop) for of_hop in zip(*weights, strict=True)]
        query, attentions = memory.multi_hop(query, hops, mlps)
        return query, answers, attentions

    def word_scores(self, scores: Tensor) -> Tensor:
        """Return the scores of words, from word id 2 on, out of `forward`'s: [..., words].

        The softmax of the answers includes nil, ages and the unknown word, as in the authors'
        code, but these are never the answer.
        """
        return scores[..., self._num_ages + UNKNOWN + 1 :]

    def guesses(self, scores: Tensor) -> Tensor:
        """Return the word ids of the best answers by `forward`'s scores, [...]."""
        return self.word_scores(scores).argmax(-1) + UNKNOWN + 1

    def answer_rows(self, answers: Tensor) -> Tensor:
        """Return the table rows of answers, given by word ids; negative ids stay as they are."""
        return torch.where(answers < 0, answers, answers + self._num_ages)

    def batch_of(self, encoded: Encoded, rows: slice | Tensor = slice(None)) -> Batch:
        """Return a batch of encoded examples without noise."""
        lengths, slots, question = (
            tensor[rows] for tensor in (encoded.lengths, encoded.slots, encoded.question)
        )
        return Batch(encoded.sentences, slots, ages(lengths, slots.shape[-1]), lengths, question)

    def pick(self, restart: int) -> "MemN2N":
        """Return a copy of one of the restarts, without the leading axis."""
        device = self.tables.device
        model = MemN2N(self.vocabulary, self.recipe, self.sizes, device=device)
        model.load_state_dict({name: w[restart] for name, w in self.state_dict().items()})
        model.examples = self.examples
        return model.eval()

    def answer(self, story: str | Sequence[str], question: str) -> Answer:
        """Answer one question about a story.

        Args:
            story: sentences in order, oldest first; or one text, which `split_sentences` splits.
                May be empty. Sentences without a word take no slot of the memory.
            question: the question.

        Raises:
            MemhopError: a story or question of another type, or a question without a word.
            ValueError: a model of several restarts.
        """
        words = SplitSentences()
        return self._answers([readable_question(story, question, "answer", words)], words)[0]

    def answers(self, asked: Sequence[tuple[str | Sequence[str], str]]) -> list[Answer]:
        """Answer many pairs (story, question) at once; see `answer`."""
        words = SplitSentences()
        return self._answers(readable_pairs(asked, words), words)

    def _answers(self, asked: Sequence[Question], words: SplitSentences) -> list[Answer]:
        if self.restarts is not None:
            raise ValueError(f"answer: expected one model, got {self.restarts}; pick() one")
        read = [with_words(question, words) for question in asked]
        with torch.inference_mode():  # safe: an `Answer` has tensors of its own
            scores, attention = self._scores(read, words)
            probabilities = self.word_scores(scores.softmax(-1))
            best = probabilities.topk(min(1 + _RUNNERS_UP, probabilities.shape[-1]))
        answers = [[self.vocabulary.spelling(index + UNKNOWN + 1) for index in row]
                   for row in best.indices.tolist()]  # fmt: skip
        ranked = [
            [*zip(*row, strict=True)] for row in zip(answers, best.values.tolist(), strict=True)
        ]
        columns = map(self._columns, asked, read, attention.float().cpu(), repeat(words))
        return list(map(self._answer, asked, ranked, columns, repeat(words)))

    def _scores(self, asked: Sequence[Question], words: SplitSentences) -> tuple[Tensor, Tensor]:
        """Return the scores [B, rows] and the attention [B, hops, slots] of questions."""
        if len(asked) == 1 and type(self) is MemN2N and MemN2N.forward is _FORWARD:
            found = one_question.scores_of(self, asked[0], words)
            if found is not None:
                return found
        encoded = self.encoder.encode(asked, words).at(self.tables.device)
        scores, weights = self(self.batch_of(encoded), need_weights=True)
        assert weights is not None
        return scores, weights

    def _columns(
        self, asked: Question, read: Question, attention: Tensor, words: SplitSentences
    ) -> tuple[Tensor, int]:
        """Return the attention [hops, sentences] to all sentences of a story, and how many were
        truncated.
        """
        in_memory = min(len(read.story), self.sizes.memory_slots)
        truncated = len(read.story) - in_memory
        attention = attention[:, :in_memory]
        if len(read.story) == len(asked.story):
            return functional.pad(attention, (truncated, 0)), truncated
        places = [place for place, sentence in enumerate(asked.story) if words[sentence]]
        columns = attention.new_zeros(len(attention), len(asked.story))
        columns[:, places[truncated:]] = attention
        return columns, truncated

    def _answer(
        self,
        asked: Question,
        ranked: list[tuple[str, float]],
        columns: tuple[Tensor, int],
        words: SplitSentences,
    ) -> Answer:
        texts = map(words.__getitem__, (*asked.story, asked.question))
        return Answer(
            question=asked.question,
            answer=ranked[0][0],
            probability=ranked[0][1],
            runners_up=tuple(ranked[1:]),
            sentences=tuple(asked.story),
            attention=columns[0],
            unknown_words=self.vocabulary.unknown(chain.from_iterable(texts)),
            truncated=columns[1],
        )

    def to_files(self) -> dict[str, bytes]:
        """Return the files of a checkpoint: weights, recipe, vocabulary, example stories."""
        words = {"schema": SCHEMA, **self.sizes._asdict(), "words": self.vocabulary.to_json()}
        if self.vocabulary.spellings:
            words["spellings"] = self.vocabulary.spellings
        return {
            _WEIGHTS: to_tensors(self.state_dict()),
            _RECIPE: to_json({"schema": SCHEMA, "recipe": self.recipe.to_json()}),
            _VOCABULARY: to_json(words),
            **examples_to_files(self.examples),
        }

    def save(self, folder: str | Path) -> None:
        """Write the model to a new folder; `load` reads it."""
        write_checkpoint(Path(folder), self.to_files())

    @classmethod
    def load(cls, run: str | Path) -> Self:
        """Return the model of a run, given by its path or its name under ``runs/``.

        Raises:
            MemhopError: no such run, or corrupt files.

        Warns:
            MemhopWarning: the model was trained by a version that split text into other words.
        """
        folder = find_checkpoint(run, STORIES)
        return cls.from_files(read_checkpoint(folder), folder)

    @classmethod
    def from_files(cls, files: dict[str, bytes], folder: Path) -> Self:
        """Return the model in the files of a checkpoint; ``folder`` is named in errors."""
        recipe, vocabulary, sizes = read_settings(files, folder)
        model = cls(vocabulary, recipe, sizes, device="meta")
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        weights = from_tensors(part(files, _WEIGHTS, folder), shapes, folder / _WEIGHTS)
        model.load_state_dict(weights, assign=True)
        model.examples = examples_from_files(files, folder)
        if lost := [word for word in vocabulary if not _is_reachable(word)]:
            warnings.warn(_older_version(folder, lost), MemhopWarning, stacklevel=2)
        return model.eval()

    def _module(self) -> nn.Module:
        return self

    def _check_storable(self) -> None:
        if self.restarts is not None:
            raise MemhopError(f"expected one model, got {self.restarts}: pick() one")
        expected = MemN2N(self.vocabulary, self.recipe, self.sizes, device="meta")
        expected.examples = self.examples
        check_storable(self, expected)

    def _settings(self) -> dict[str, Any]:
        return {**self.recipe.to_json(), **self.sizes._asdict(), "words": len(self.vocabulary)}

    def _card_text(self) -> CardText:
        return card_text(self.examples)

    def extra_repr(self) -> str:
        slots = f"{self.sizes.memory_slots} slots"
        return f"{len(self.vocabulary)} words, {slots}, restarts={self.restarts}"


_FORWARD = MemN2N.forward


def read_settings(files: dict[str, bytes], folder: Path) -> tuple[Recipe, Vocabulary, Sizes]:
    """Return the recipe, vocabulary and sizes of a checkpoint, checked."""
    recipe = from_json(part(files, _RECIPE, folder), folder / _RECIPE)
    words = from_json(part(files, _VOCABULARY, folder), folder / _VOCABULARY)
    for name, content in ((_RECIPE, recipe), (_VOCABULARY, words)):
        check_schema(content, folder / name)
    try:
        settings = Recipe.from_json(recipe.get("recipe"))
        vocabulary = Vocabulary.from_json(words.get("words"), words.get("spellings"))
        sizes = Sizes(*(check_integer(f, words.get(f), 1, 1_000_000) for f in Sizes._fields))
    except MemhopError as error:
        raise MemhopError(f"{folder}: {error}") from error
    if len(vocabulary) < 3:
        raise MemhopError(f"{folder / _VOCABULARY}: expected at least 1 word, got none")
    return settings, vocabulary, sizes


def _is_reachable(word: str) -> bool:
    """Return whether the tokenizer can make this word of some text or answer."""
    return word.isalnum() or split_words(word) == [word] or answer_word(word) == word


def _older_version(folder: Path, words: Sequence[str]) -> str:
    shown = ", ".join(map(repr, words[:_WORDS_SHOWN])) + (", ..." if words[_WORDS_SHOWN:] else "")
    return (
        f"{folder}: trained by a version of memhop that split text differently: {len(words):,} of "
        f"its words no longer occur ({shown:.100}); train it again"
    )


def _mlp_parameters(
    recipe: Recipe, axes: tuple[int, ...], device: torch.device | str | None
) -> nn.ParameterDict:
    """Return the parameters of the MLPs; each tensor holds those of all hops."""
    width, units, lead = recipe.memory_dim, recipe.hop_units, (*axes, recipe.num_hops)
    shapes = ((width, units), (1, units), (units, width))
    return nn.ParameterDict(
        {
            name: nn.Parameter(torch.empty(*lead, *shape, device=device))
            for name, shape in zip(one_question.MLP_NAMES, shapes, strict=True)
        }
    )
