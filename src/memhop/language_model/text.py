"""Texts as sequences of words: read files in pieces, count words, encode them as indices."""

import os
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memhop.errors import MemhopError
from memhop.language_model.vocabulary import (
    END,
    MAX_WORD_CHARACTERS,
    UNKNOWN_WORD,
    WordVocabulary,
)
from memhop.lines import fault, printable, text_pieces


@dataclass(frozen=True, eq=False)
class EncodedText:
    """A text as the indices of its words.

    Attributes:
        tokens: int32 ``[words]``, the words of the text in order, ``<eos>`` at the end of each
            line.
        unknown_places: int64 ``[unknown]``, the places of those that are scored as ``<unk>`` but
            are another word in the text.
        lines: the number of lines.
    """

    tokens: NDArray[np.int32]
    unknown_places: NDArray[np.int64]
    lines: int

    @property
    def unknown(self) -> int:
        """The number of words that are scored as ``<unk>`` but are another word."""
        return len(self.unknown_places)

    def __len__(self) -> int:
        return len(self.tokens)


def words_of(text: str) -> list[str]:
    """Return the words of a text, with ``<eos>`` for each line end.

    White space separates words; their case and punctuation stay. A last line without a line end is
    not finished: it has no ``<eos>``.

    >>> words_of("The cat sat .\\nThe dog")
    ['The', 'cat', 'sat', '.', '<eos>', 'The', 'dog']
    """
    first, *others = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    words = first.split()
    for line in others:
        words.append(END)
        words += line.split()
    return words


def encode_words(text: str, vocabulary: WordVocabulary) -> NDArray[np.int32]:
    """Return the indices of `words_of` a text as int32 ``[words]``; there may be none.

    >>> encode_words("the dog", WordVocabulary(["the", "<unk>", "<eos>"])).tolist()
    [0, 1]
    """
    return np.array(vocabulary.indices(words_of(text)), dtype=np.int32)


def count_lines(path: str | os.PathLike[str]) -> int:
    """Return the number of lines of a text; the last one needs no line end.

    Raises:
        MemhopError: as `encode_text`, but a text without words is no error.
    """
    return sum(piece.count("\n") for _, piece in _ended_pieces(Path(path)))


def count_words(
    path: str | os.PathLike[str],
    *,
    max_words: int | None = None,
    min_count: int = 1,
    lines: range | None = None,
) -> WordVocabulary:
    """Return the vocabulary of a text, the most frequent words first.

    The file is read in pieces of 64 KiB: only the distinct words are held.

    Args:
        path: as in `encode_text`.
        max_words: the largest size, ``<unk>`` and ``<eos>`` included; None: 1,000,000.
        min_count: words that occur less often are dropped.
        lines: as in `encode_text`.

    Raises:
        MemhopError: as `encode_text`, or a setting out of range.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "text.txt")
    ...     _ = file.write_text("the cat sat\\nthe dog sat\\nthe end\\n")
    ...     count_words(file, min_count=2).words
    ('the', '<eos>', 'sat', '<unk>')
    """
    counts: Counter[str] = Counter()
    for words, _ in _word_pieces(Path(path), lines):
        counts.update(words)
    return WordVocabulary.from_counts(counts, max_words=max_words, min_count=min_count)


def encode_text(
    path: str | os.PathLike[str], vocabulary: WordVocabulary, *, lines: range | None = None
) -> EncodedText:
    """Return a text as indices of words, as in section 5 of arXiv 1503.08895.

    White space separates words, and each line ends with ``<eos>``: the preprocessed Penn Treebank
    has 42,068 lines and 887,521 words, hence 929,589 tokens. A blank line is one ``<eos>``. Case
    and punctuation stay. The file is read in pieces of 64 KiB; a line may have any length.

    Args:
        path: a UTF-8 text, also ``.gz``; LF, CRLF or CR end a line, the last one needs none.
        vocabulary: other words become ``<unk>``.
        lines: read these lines only, counted from 0; None: all.

    Raises:
        MemhopError: the file cannot be read, is not UTF-8, has a word of more than 65,536
            characters, or the lines have no word.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "text.txt")
    ...     _ = file.write_text("the cat sat\\nthe dog sat\\n")
    ...     text = encode_text(file, WordVocabulary(["<unk>", "<eos>", "the", "cat", "sat"]))
    >>> text.tokens.tolist(), text.unknown, text.lines
    ([2, 3, 4, 1, 2, 0, 4, 1], 1, 2)
    """
    tokens = array("i")  # grows by a sixteenth: a list of arrays would double when joined
    unknown_places = array("q")
    num_lines = 0
    for words, line_ends in _word_pieces(Path(path), lines):
        indices = vocabulary.indices(words)
        if indices.count(vocabulary.unknown) > words.count(UNKNOWN_WORD):
            unknown_places.extend(
                place
                for place, (index, word) in enumerate(zip(indices, words, strict=True), len(tokens))
                if index == vocabulary.unknown and word != UNKNOWN_WORD
            )
        tokens.extend(indices)
        num_lines += line_ends
    places = np.frombuffer(unknown_places, dtype=np.int64)
    return EncodedText(np.frombuffer(tokens, dtype=np.int32), places, num_lines)


def _word_pieces(path: Path, lines: range | None) -> Iterator[tuple[list[str], int]]:
    """Yield the next words of a text, ``<eos>`` included, and how many lines end in them.

    Raises:
        MemhopError: as `encode_text`.
    """
    begun, has_words = "", False  # a word that the next piece continues
    for number, piece in _ended_pieces(path):
        words: list[str] = []
        line_ends = 0
        *ended, last = (begun + piece).split("\n")
        for line_number, line in enumerate(ended, number - 1):
            if lines is None or line_number in lines:
                words += line.split()
                words.append(END)
                line_ends += 1
        begun = ""
        if last and (lines is None or number - 1 + len(ended) in lines):
            words += last.split()
            begun = "" if last[-1].isspace() else words.pop()
        longest = max(len(begun), len(words[0]) if words else 0)  # others are within a piece
        if longest > MAX_WORD_CHARACTERS:
            message = f"expected words of at most {MAX_WORD_CHARACTERS:,} characters, got more"
            raise fault(path, number, message)
        has_words = has_words or len(words) > line_ends
        yield words, line_ends
    if not has_words:
        where = "" if lines is None else f" in lines {lines.start + 1:,} to {lines.stop:,}"
        raise MemhopError(f"{printable(path)}: expected at least one word{where}, got none")


def _ended_pieces(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the pieces of `text_pieces`; the last line has a line end too."""
    number, piece = 1, "\n"
    for number, piece in text_pieces(path):
        yield number, piece
    if piece[-1] != "\n":
        yield number + piece.count("\n"), "\n"
