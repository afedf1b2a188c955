"""Vocabulary of a language model: the words of the training text by count, and their indices."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from memhop import checkpoint
from memhop.errors import MemhopError, check_integer, shown

UNKNOWN_WORD, END = "<unk>", "<eos>"  # as in the preprocessed Penn Treebank
MAX_WORDS = 1_000_000
MAX_WORD_CHARACTERS = 2**16


class WordVocabulary:
    """Distinct words with the indices 0, 1, ...; immutable.

    It has ``<unk>``, which any other word is scored as, and ``<eos>``, the end of a line. Words
    keep their case. ``len`` is the number of rows of an embedding table.

    Args:
        words: distinct words without white space, ``<unk>`` and ``<eos>`` among them, at most
            1,000,000.

    Attributes:
        words: the words in the order of their indices.
        unknown, end: the indices of ``<unk>`` and ``<eos>``.

    Raises:
        MemhopError: other words.

    >>> vocabulary = WordVocabulary(["the", "<eos>", "cat", "<unk>"])
    >>> vocabulary.index("cat"), vocabulary.index("dog"), vocabulary.unknown, vocabulary.end
    (2, 3, 3, 1)
    >>> vocabulary.word_of(0), "dog" in vocabulary, len(vocabulary)
    ('the', False, 4)
    """

    def __init__(self, words: Sequence[str]) -> None:
        if len(words) > MAX_WORDS:
            raise MemhopError(
                f"vocabulary: expected at most {MAX_WORDS:,} words, got {len(words):,}"
            )
        for word in words:
            if not isinstance(word, str) or word.split() != [word]:
                raise MemhopError(
                    f"vocabulary: expected a word without white space, got {shown(word)}"
                )
        self.words = tuple(words)
        self._indices = {word: index for index, word in enumerate(words)}
        if len(self._indices) < len(words):
            repeats = len(words) - len(self._indices)
            raise MemhopError(f"vocabulary: expected distinct words, got {repeats:,} repeated")
        for word in (UNKNOWN_WORD, END):
            if word not in self._indices:
                raise MemhopError(f"vocabulary: expected the word {word}, got none")
        self.unknown, self.end = self._indices[UNKNOWN_WORD], self._indices[END]

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], *, max_words: int | None = None, min_count: int = 1
    ) -> "WordVocabulary":
        """Return the words by count, the most frequent first; equal counts keep their order.

        ``<unk>`` and ``<eos>`` have the places of their counts, 0 if they have none, and are never
        dropped.

        Args:
            counts: how often each word occurs, in the order of first appearance.
            max_words: the largest size, ``<unk>`` and ``<eos>`` included; None: 1,000,000.
            min_count: words that occur less often are dropped.

        Raises:
            MemhopError: a setting out of range, or a word with white space.

        >>> counts = {"a": 1, "dog": 2, "cat": 3, "<eos>": 2}
        >>> WordVocabulary.from_counts(counts).words
        ('cat', 'dog', '<eos>', 'a', '<unk>')
        >>> WordVocabulary.from_counts(counts, max_words=3).words
        ('cat', '<eos>', '<unk>')
        """
        size = MAX_WORDS if max_words is None else max_words
        spare = check_integer("max_words", size, 2, MAX_WORDS) - 2
        check_integer("min_count", min_count, 1)
        kept = []
        all_counts = {**counts} | {word: counts.get(word, 0) for word in (UNKNOWN_WORD, END)}
        for word, count in sorted(all_counts.items(), key=itemgetter(1), reverse=True):
            if word in (UNKNOWN_WORD, END):
                kept.append(word)
            elif spare and count >= min_count:
                kept.append(word)
                spare -= 1
        return cls(kept)

    def index(self, word: str) -> int:
        """Return the index of a word, that of ``<unk>`` for a word outside the vocabulary."""
        return self._indices.get(word, self.unknown)

    def indices(self, words: Sequence[str]) -> list[int]:
        """Return the index of each word, see `index`.

        >>> WordVocabulary(["<unk>", "<eos>", "cat"]).indices(["the", "cat", "<eos>"])
        [0, 2, 1]
        """
        find, unknown = self._indices.get, self.unknown
        return [find(word, unknown) for word in words]

    def word_of(self, index: int) -> str:
        """Return the word with this index.

        Raises:
            IndexError: no word has it.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"no word has index {index}: indices go from 0 to {len(self) - 1}")
        return self.words[index]

    def to_json(self) -> bytes:
        """Return the content of ``vocabulary.json`` in a checkpoint; `from_json` reads it.

        >>> WordVocabulary.from_json(WordVocabulary(["<unk>", "<eos>"]).to_json(), Path("v.json"))
        WordVocabulary(2 words)
        """
        return checkpoint.to_json({"words": list(self.words)})

    @classmethod
    def from_json(cls, content: bytes, path: Path) -> "WordVocabulary":
        """Return a vocabulary from untrusted bytes; ``path`` is named in errors.

        Raises:
            MemhopError: not the result of `to_json`.
        """
        words = checkpoint.from_json(content, path).get("words")
        if not isinstance(words, list):
            raise MemhopError(f"{path}: expected a list of words, got {shown(words)}")
        try:
            return cls(words)
        except MemhopError as error:
            raise MemhopError(f"{path}: {error}") from None

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._indices

    def __eq__(self, other: object) -> bool:
        return self.words == other.words if isinstance(other, WordVocabulary) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.words)

    def __repr__(self) -> str:
        return f"WordVocabulary({len(self):,} words)"
