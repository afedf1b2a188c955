"""Texts as indices of words, against a reader that holds the whole text; errors and memory."""

import gzip
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from memhop import lines as lines_module
from memhop.errors import MemhopError
from memhop.language_model import (
    WordVocabulary,
    count_lines,
    count_words,
    encode_text,
    encode_words,
    words_of,
)
from memhop.language_model import text as module
from tests.seeds import seeds

VOCABULARY = WordVocabulary(["a", "<eos>", "é", "<unk>", "日本"])
PIECES = ["", "a", "A", "é", "日本", "bc", "<unk>", "<eos>", "\u2028", "\u00a0", "\ufeff"]
ENDS = ["\n", "\n", "\r\n", "\r", "\n\n", " \n", "\t", " ", " ", "  ", "\v", "\x85"]


def written(folder: Path, content: str | bytes, name: str = "text.txt") -> Path:
    file = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    file.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    return file


def expected_lines(data: bytes) -> list[list[str]]:
    """Return the words of each line; the whole text is held and decoded once."""
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    return [line.split() for line in text.removesuffix("\n").split("\n")] if text else []


def drawn_text(seed: int) -> bytes:
    """Return a text of words, white space of many kinds and line ends; some have a BOM."""
    draw = random.Random(seed)
    texts = draw.choices(PIECES, k=draw.randint(1, 40))
    content = "a" + "".join(text + draw.choice([*ENDS, ""]) for text in texts)
    return (("\ufeff" if draw.random() < 0.3 else "") + content).encode()


@pytest.mark.parametrize("seed", seeds(60, 2000))
def test_a_text_in_pieces_of_any_size_has_the_words_of_the_whole_text(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, draw = drawn_text(seed), random.Random(-seed)
    monkeypatch.setattr(lines_module, "PIECE_BYTES", draw.choice([1, 2, 3, 5, 8, 13, 1000]))
    file = written(tmp_path, data, draw.choice(["text.txt", "text.txt.gz", "T.GZ"]))
    expected = expected_lines(data)
    assert count_lines(file) == len(expected)
    first = draw.randint(0, len(expected))
    for lines in (None, range(len(expected)), range(first), range(first, len(expected))):
        chosen = expected if lines is None else expected[lines.start : lines.stop]
        tokens = [word for line in chosen for word in (*line, "<eos>")]
        if not any(chosen):
            with pytest.raises(MemhopError, match=r"expected at least one word.*, got none$"):
                encode_text(file, VOCABULARY, lines=lines)
            continue
        text = encode_text(file, VOCABULARY, lines=lines)
        assert text.tokens.dtype == np.int32
        assert text.tokens.tolist() == VOCABULARY.indices(tokens)
        assert text.unknown == sum(word not in VOCABULARY for word in tokens)
        assert (text.lines, len(text)) == (len(chosen), len(tokens))
        counted = {word: tokens.count(word) for word in tokens}
        assert count_words(file, lines=lines) == WordVocabulary.from_counts(counted)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a b\nc\n", "a b <eos> c <eos>"),
        ("a b\nc", "a b <eos> c <eos>"),
        ("a\n\nb\n", "a <eos> <eos> b <eos>"),
        ("a\n\r", "a <eos> <eos>"),
        ("\n a \r\n", "<eos> a <eos>"),
        ("a\rb\r\nc", "a <eos> b <eos> c <eos>"),
        ("\ufeffThe the\n", "The the <eos>"),
        ("a <unk> <eos> b\n", "a <unk> <eos> b <eos>"),
    ],
)
def test_each_line_ends_with_a_word(content: str, words: str, tmp_path: Path) -> None:
    file = written(tmp_path, content)
    vocabulary = count_words(file)
    text = encode_text(file, vocabulary)
    assert [vocabulary.word_of(index) for index in text.tokens] == words.split()
    assert text.unknown == 0


def test_the_words_of_a_prompt_have_an_end_for_each_finished_line() -> None:
    assert words_of("") == words_of(" \t ") == []
    assert words_of("a b ") == ["a", "b"]
    assert words_of("a\r\nb\r\n") == ["a", "<eos>", "b", "<eos>"]
    assert words_of("\ra") == ["<eos>", "a"]
    found = encode_words("a x\né", VOCABULARY)
    assert found.dtype == np.int32
    assert found.tolist() == [0, 3, 1, 2]
    assert encode_words("", VOCABULARY).shape == (0,)


@pytest.mark.parametrize("seed", range(20))
def test_a_finished_prompt_is_encoded_as_the_same_text(seed: int, tmp_path: Path) -> None:
    content = drawn_text(seed).decode("utf-8-sig") + "\n"
    text = encode_text(written(tmp_path, content), VOCABULARY)
    assert text.tokens.tolist() == encode_words(content, VOCABULARY).tolist()


CALLS: list[Callable[[Path], object]] = [
    lambda file: encode_text(file, VOCABULARY), count_words, count_lines,
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=["encode_text", "count_words", "count_lines"])
@pytest.mark.parametrize("piece_bytes", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\xff", "text.txt:1: expected UTF-8 text, got byte 0xff"),
        (b"a\r\nb\rc\n\nd\xe9 e", "text.txt:5: expected UTF-8 text, got byte 0xe9"),
        (b"a\r\xff", "text.txt:2: expected UTF-8 text, got byte 0xff"),
        (b"a\n\xe6\x97", "text.txt:2: expected UTF-8 text, got byte 0xe6"),
        (b"\xef\xbb\xbfa\n\xe6\x97", "text.txt:2: expected UTF-8 text, got byte 0xe6"),
        ("a\nb".encode("utf-16-le"), "text.txt:1: expected text, got the character NUL"),
        (b"a\r\n\rb\0", "text.txt:3: expected text, got the character NUL"),
    ],
)
def test_a_file_that_is_no_text_is_an_error_with_its_line(
    content: bytes,
    message: str,
    piece_bytes: int,
    call: Callable[[Path], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines_module, "PIECE_BYTES", piece_bytes)
    file = written(tmp_path, content)
    with pytest.raises(MemhopError) as caught:
        call(file)
    assert str(caught.value) == f"{tmp_path}{os.sep}{message}"


@pytest.mark.parametrize("content", ["", "\n", " \r\n\t\n", "\ufeff"])
def test_a_text_without_a_word_is_an_error(content: str, tmp_path: Path) -> None:
    file = written(tmp_path, content)
    for call in CALLS[:2]:
        with pytest.raises(MemhopError) as caught:
            call(file)
        assert str(caught.value) == f"{file}: expected at least one word, got none"


@pytest.mark.parametrize("call", CALLS, ids=["encode_text", "count_words", "count_lines"])
def test_a_file_that_cannot_be_read_is_an_error(
    call: Callable[[Path], object], tmp_path: Path
) -> None:
    corrupt = tmp_path / "corrupt.gz"
    corrupt.write_bytes(gzip.compress(b"a b c " * 100)[:-9])
    for file, message in (
        (tmp_path / "none.txt", "no such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (corrupt, "corrupt gzip file: "),
    ):
        with pytest.raises(MemhopError) as caught:
            call(file)
        assert str(caught.value).startswith(f"{file}: {message}")


@pytest.mark.parametrize("start", range(9))
def test_a_word_has_a_largest_length_wherever_it_begins(
    start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "PIECE_BYTES", 8)
    monkeypatch.setattr(module, "MAX_WORD_CHARACTERS", 8)
    before = ("a" * start)[:-2] + "\na" * (start > 1)
    assert encode_text(written(tmp_path, f"{before} {'b' * 8} c"), VOCABULARY).tokens[-2] == 3
    file = written(tmp_path, f"{before} {'b' * 9} c")
    with pytest.raises(MemhopError) as caught:
        encode_text(file, VOCABULARY)
    line = 1 + (start > 1)
    assert str(caught.value) == f"{file}:{line}: expected words of at most 8 characters, got more"


def test_a_word_without_an_end_is_not_read_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "PIECE_BYTES", 8)
    monkeypatch.setattr(module, "MAX_WORD_CHARACTERS", 8)
    file = written(tmp_path, b"a" * 100 + b"\xff")
    with pytest.raises(MemhopError, match="expected words of at most 8 characters"):
        encode_text(file, VOCABULARY)


@pytest.mark.parametrize("separator", ["\n", " "])
def test_a_large_text_takes_the_memory_of_its_tokens(separator: str, tmp_path: Path) -> None:
    """10 million words would take 40 MB of tokens, and less than 80 MB with all that is held."""
    draw, num_words = random.Random(0), 400_000
    names = [f"word{n}" for n in range(2000)]
    rows = [" ".join(draw.choices(names, k=20)) for _ in range(num_words // 20)]
    file = written(tmp_path, separator.join(rows))
    del rows
    vocabulary = count_words(file)
    tracemalloc.start()
    text = encode_text(file, vocabulary)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(text) == num_words + text.lines
    pieces = 40 * lines_module.PIECE_BYTES  # the words of a piece as Python objects
    assert peak < 1.2 * text.tokens.nbytes + pieces


def test_counting_holds_the_distinct_words_only(tmp_path: Path) -> None:
    file = written(tmp_path, "all of these words occur again " * 100_000)  # one line, 3 MB
    tracemalloc.start()
    assert len(count_words(file)) == 8
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * lines_module.PIECE_BYTES
