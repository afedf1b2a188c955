"""Vocabulary: the words of the training text and their ids."""

from collections.abc import Iterable, Iterator, Mapping

from memhop.errors import MemhopError
from memhop.tokenizer import answer_word, fold_case, spelled_answer, split_words

NIL = 0  # padding
UNKNOWN = 1  # any word outside the vocabulary
MAX_WORDS = 1_000_000

# With a capital, so that no word can be one of these.
_NAMES = ("(No word)", "(Unknown word)")


class Vocabulary:
    """Words with ids from 2 on, in order of first appearance; immutable.

    Id 0 (``NIL``) is padding and id 1 (``UNKNOWN``) any other word; ``len`` counts both, and is the
    number of rows of an embedding table.

    >>> vocabulary = Vocabulary.from_texts(["Mary took the ball.", "Where is Mary?"])
    >>> vocabulary.ids(["mary", "lost", "the", "ball"])
    [2, 1, 4, 5]
    >>> vocabulary.word(2), vocabulary.word(1), len(vocabulary)
    ('mary', '(Unknown word)', 8)
    """

    def __init__(
        self, words: Iterable[str] = (), spellings: Mapping[str, str] | None = None
    ) -> None:
        """Give ids to ``words`` in order; repeated words are skipped.

        Args:
            words: lower-case words; an answer may consist of several, separated by blanks.
            spellings: how to show words with capitals, such as ``{"mary": "Mary"}``.

        Raises:
            MemhopError: a word that is empty, not lower-case or has white space other than single
                blanks; more than ``MAX_WORDS`` words; or a spelling of another word.
        """
        self._ids: dict[str, int] = {}
        for word in words:
            if word not in self._ids:
                self._check(word)
                self._ids[word] = len(_NAMES) + len(self._ids)
        self._words = (*_NAMES, *self._ids)
        self.spellings = dict(spellings or {})
        for word, spelling in self.spellings.items():
            if word not in self._ids or not _is_spelling(spelling, word):
                raise MemhopError(
                    f"vocabulary: expected a spelling of {word!r:.60}, got {spelling!r:.60}"
                )

    @classmethod
    def from_texts(cls, sentences: Iterable[str]) -> "Vocabulary":
        """Return the vocabulary of sentences, which are split by `split_words`.

        >>> list(Vocabulary.from_texts(["John went home.", "John slept."]))
        ['john', 'went', 'home', 'slept']
        """
        return cls(word for sentence in sentences for word in split_words(sentence))

    def ids(self, words: Iterable[str]) -> list[int]:
        """Return the id of each word, ``UNKNOWN`` for a word outside the vocabulary.

        >>> Vocabulary(["ball"]).ids(split_words("The ball?"))
        [1, 2]
        """
        return [self._ids.get(word, UNKNOWN) for word in words]

    def unknown(self, words: Iterable[str]) -> tuple[str, ...]:
        """Return the words outside the vocabulary, each once, in order.

        >>> Vocabulary(["ball"]).unknown(["the", "ball", "the"])
        ('the',)
        """
        return tuple(word for word in dict.fromkeys(words) if word not in self._ids)

    def word(self, id: int) -> str:
        """Return the word with this id; for 0 and 1 a description.

        >>> Vocabulary(["ball"]).word(2)
        'ball'
        """
        if not 0 <= id < len(self):
            raise IndexError(f"no word has id {id}: ids go from 0 to {len(self) - 1}")
        return self._words[id]

    def spelling(self, id: int) -> str:
        """Return the word with this id in the spelling of the training text; see `word`.

        >>> Vocabulary(["mary"], {"mary": "Mary"}).spelling(2)
        'Mary'
        """
        word = self.word(id)
        return self.spellings.get(word, word)

    def to_json(self) -> list[str]:
        """Return the words from id 2 on, for a JSON file; `from_json` reads them.

        >>> Vocabulary(["mary", "ball"]).to_json()
        ['mary', 'ball']
        """
        return list(self)

    @classmethod
    def from_json(cls, data: object, spellings: object = None) -> "Vocabulary":
        """Return a vocabulary from the result of `to_json` and its spellings, both untrusted.

        Raises:
            MemhopError: not a list of distinct lower-case words, more than ``MAX_WORDS`` words, or
                spellings of other words.

        >>> Vocabulary.from_json(["mary", "ball"]).ids(["ball"])
        [3]
        """
        if not isinstance(data, list):
            raise MemhopError(f"vocabulary: expected a list of words, got {_kind(data)}")
        for word in data:
            if not isinstance(word, str):
                raise MemhopError(f"vocabulary: expected strings, got {_kind(word)}")
        spellings = {} if spellings is None else spellings
        if not isinstance(spellings, dict):
            raise MemhopError(
                f"vocabulary: expected spellings as an object, got {_kind(spellings)}"
            )
        for spelling in spellings.values():
            if not isinstance(spelling, str):
                raise MemhopError(
                    f"vocabulary: expected spellings as strings, got {_kind(spelling)}"
                )
        vocabulary = cls(data, spellings)
        if len(vocabulary._ids) != len(data):
            repeats = len(data) - len(vocabulary._ids)
            raise MemhopError(f"vocabulary: expected distinct words, got {repeats} repeated")
        return vocabulary

    def _check(self, word: str) -> None:
        if not word or " ".join(word.lower().split()) != word:
            shown = repr(word if len(word) <= 40 else f"{word[:40]}...")
            raise MemhopError(f"vocabulary: expected lower-case words, single blanks, got {shown}")
        if len(self._ids) == MAX_WORDS:
            raise MemhopError(f"vocabulary: expected at most {MAX_WORDS:,} words, got more")

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (self._words, self.spellings) == (other._words, other.spellings)

    def __hash__(self) -> int:
        return hash(self._words)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self._ids)} words)"


def _is_spelling(spelling: str, word: str) -> bool:
    is_clean = spelled_answer(spelling) == spelling
    return is_clean and word in (fold_case(spelling), answer_word(spelling))


def _kind(value: object) -> str:
    return type(value).__name__
