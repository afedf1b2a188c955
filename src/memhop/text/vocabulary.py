"""Words and their numbers."""

from collections.abc import Iterable, Iterator, Mapping

from memhop.errors import MemhopError
from memhop.tokenizer import answer_word, fold_case, spelled_answer, split_words

NIL = 0  # padding: the row of every table that is held at zero
UNKNOWN = 1  # any word that training never showed
MAX_WORDS = 1_000_000

# A word is always lower-case, so no text, whatever it says, can spell one of these.
_NAMES = ("(No word)", "(Unknown word)")


class Vocabulary:
    """The words of some texts, numbered from 2 in order of first appearance.

    Id 0 (``NIL``) is the padding word and id 1 (``UNKNOWN``) stands for every word not in here;
    both count in ``len``, which is the number of rows an embedding table needs. A vocabulary
    does not change once made.

    >>> vocabulary = Vocabulary.from_texts(["Mary took the ball.", "Where is Mary?"])
    >>> vocabulary.ids(["mary", "lost", "the", "ball"])
    [2, 1, 4, 5]
    >>> vocabulary.word(2), vocabulary.word(1), len(vocabulary)
    ('mary', '(Unknown word)', 8)
    """

    def __init__(
        self, words: Iterable[str] = (), spellings: Mapping[str, str] | None = None
    ) -> None:
        """Number ``words`` as they come; a repeated one keeps its first number.

        Args:
            words: lower-case words; an answer may be of several.
            spellings: how to show words that have capitals, such as ``{"mary": "Mary"}``.

        Raises:
            MemhopError: a word is empty, not lower-case or holds other white space than single
                blanks, or there are more than ``MAX_WORDS``; or a spelling is not of its word.
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
                raise MemhopError(f"vocabulary: {spelling!r:.60} is no spelling of {word!r:.60}")

    @classmethod
    def from_texts(cls, sentences: Iterable[str]) -> "Vocabulary":
        """The words of all sentences, each sentence split by `split_words`.

        >>> list(Vocabulary.from_texts(["John went home.", "John slept."]))
        ['john', 'went', 'home', 'slept']
        """
        return cls(word for sentence in sentences for word in split_words(sentence))

    def ids(self, words: Iterable[str]) -> list[int]:
        """One id for each word, ``UNKNOWN`` where it is not in the vocabulary.

        >>> Vocabulary(["ball"]).ids(split_words("The ball?"))
        [1, 2]
        """
        return [self._ids.get(word, UNKNOWN) for word in words]

    def unknown(self, words: Iterable[str]) -> tuple[str, ...]:
        """The words that are not in the vocabulary, each once, in order.

        >>> Vocabulary(["ball"]).unknown(["the", "ball", "the"])
        ('the',)
        """
        return tuple(word for word in dict.fromkeys(words) if word not in self._ids)

    def word(self, id: int) -> str:
        """The word with this id; for 0 and 1 a description that no text can spell.

        >>> Vocabulary(["ball"]).word(2)
        'ball'
        """
        if not 0 <= id < len(self):
            raise IndexError(f"no word has id {id}: ids go from 0 to {len(self) - 1}")
        return self._words[id]

    def spelling(self, id: int) -> str:
        """The word with this id as training texts spell it; see `word`.

        >>> Vocabulary(["mary"], {"mary": "Mary"}).spelling(2)
        'Mary'
        """
        word = self.word(id)
        return self.spellings.get(word, word)

    def to_json(self) -> list[str]:
        """The words from id 2 on, for a JSON file; `from_json` reads them back.

        >>> Vocabulary(["mary", "ball"]).to_json()
        ['mary', 'ball']
        """
        return list(self)

    @classmethod
    def from_json(cls, data: object, spellings: object = None) -> "Vocabulary":
        """Rebuild what `to_json` gave, and `spellings`, from data that is not trusted.

        Raises:
            MemhopError: not a list of distinct lower-case words, more than ``MAX_WORDS`` of them,
                or no spellings of these words.

        >>> Vocabulary.from_json(["mary", "ball"]).ids(["ball"])
        [3]
        """
        if not isinstance(data, list):
            raise MemhopError(f"vocabulary: needs a list of words, got {_kind(data)}")
        for word in data:
            if not isinstance(word, str):
                raise MemhopError(f"vocabulary: needs strings, got {_kind(word)}")
        spellings = {} if spellings is None else spellings
        if not isinstance(spellings, dict):
            raise MemhopError(f"vocabulary: needs an object of spellings, got {_kind(spellings)}")
        for spelling in spellings.values():
            if not isinstance(spelling, str):
                raise MemhopError(f"vocabulary: needs strings as spellings, got {_kind(spelling)}")
        vocabulary = cls(data, spellings)
        if len(vocabulary._ids) != len(data):
            repeats = len(data) - len(vocabulary._ids)
            raise MemhopError(f"vocabulary: needs distinct words, got {repeats} repeated")
        return vocabulary

    def _check(self, word: str) -> None:
        if not word or " ".join(word.lower().split()) != word:
            shown = repr(word if len(word) <= 40 else f"{word[:40]}...")
            raise MemhopError(f"vocabulary: needs lower-case words, single blanks, got {shown}")
        if len(self._ids) == MAX_WORDS:
            raise MemhopError(f"vocabulary: needs at most {MAX_WORDS:,} words, got more")

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
