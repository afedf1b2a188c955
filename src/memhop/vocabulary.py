"""Words and their numbers, and how a text becomes sentences and a sentence becomes words."""

import re
from collections.abc import Iterable, Iterator

from memhop.errors import MemhopError

NIL = 0  # padding: the row of every table that is held at zero
UNKNOWN = 1  # any word that training never showed
MAX_WORDS = 1_000_000

# A word is always lower-case, so no text, whatever it says, can spell one of these.
_NAMES = ("(No word)", "(Unknown word)")
_SENTENCE_END = ".!?"
_AFTER_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def split_sentences(text: str) -> list[str]:
    """Split a text at line ends and after ``.``, ``!`` or ``?`` followed by white space.

    A piece without a word (blank, or only end punctuation) is dropped. An abbreviation in the
    middle of a line ends a sentence too: only a line break or a rewrite can tell otherwise.

    >>> split_sentences("Mary took the ball.  It cost 3.50!\\n\\nWhere is Mary ?")
    ['Mary took the ball.', 'It cost 3.50!', 'Where is Mary ?']
    """
    pieces = (piece for line in text.splitlines() for piece in _AFTER_SENTENCE.split(line))
    return [piece.strip() for piece in pieces if split_words(piece)]


def split_words(sentence: str) -> list[str]:
    """Lower-case one sentence, drop its end punctuation, split it at white space.

    Joined by spaces and split again, the words stay as they are. A comma list is one word.

    >>> split_words("Daniel carries Apple,milk .")
    ['daniel', 'carries', 'apple,milk']
    """
    words = sentence.lower().split()
    while words:
        words[-1] = words[-1].rstrip(_SENTENCE_END)
        if words[-1]:
            break
        words.pop()
    return words


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

    def __init__(self, words: Iterable[str] = ()) -> None:
        """Number ``words`` as they come; a repeated one keeps its first number.

        Raises:
            MemhopError: a word is empty, not lower-case or holds other white space than single
                blanks (an answer may be of several words), or there are more than ``MAX_WORDS``.
        """
        self._ids: dict[str, int] = {}
        for word in words:
            if word not in self._ids:
                self._check(word)
                self._ids[word] = len(_NAMES) + len(self._ids)
        self._words = (*_NAMES, *self._ids)

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

    def word(self, id: int) -> str:
        """The word with this id; for 0 and 1 a description that no text can spell.

        >>> Vocabulary(["ball"]).word(2)
        'ball'
        """
        if not 0 <= id < len(self):
            raise IndexError(f"no word has id {id}: ids go from 0 to {len(self) - 1}")
        return self._words[id]

    def to_json(self) -> list[str]:
        """The words from id 2 on, for a JSON file; `from_json` reads them back.

        >>> Vocabulary(["mary", "ball"]).to_json()
        ['mary', 'ball']
        """
        return list(self)

    @classmethod
    def from_json(cls, data: object) -> "Vocabulary":
        """Rebuild what `to_json` gave, from data that is not trusted.

        Raises:
            MemhopError: not a list of distinct words as `split_words` writes them, or more
                than ``MAX_WORDS`` of them.

        >>> Vocabulary.from_json(["mary", "ball"]).ids(["ball"])
        [3]
        """
        if not isinstance(data, list):
            raise MemhopError(f"vocabulary: needs a list of words, got {type(data).__name__}")
        for word in data:
            if not isinstance(word, str):
                raise MemhopError(f"vocabulary: needs strings, got {type(word).__name__}")
        vocabulary = cls(data)
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
        return self._words == other._words

    def __hash__(self) -> int:
        return hash(self._words)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self._ids)} words)"
