"""Write the files of an exported text model, after a check in onnxruntime."""

import copy
import hashlib
import json
import random
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memhop import __version__
from memhop.atomic_write import atomic_write, atomic_write_bytes, check_writable
from memhop.checkpoint import STORIES
from memhop.errors import MemhopError
from memhop.export.graph import INPUTS, OUTPUTS, onnx_bytes
from memhop.ops.reference import slots_beyond
from memhop.text.encoding import Array, Encoded
from memhop.text.model import MemN2N
from memhop.text.reading import Question
from memhop.text.vocabulary import NIL, UNKNOWN, Vocabulary
from memhop.tokenizer import text_rules

FORMAT, SCHEMA = "memhop-onnx", 1
_TOLERANCE = 1e-5  # float32 rounding of probabilities, of at most 1, over some hops


def export_onnx(model: MemN2N, path: str | Path) -> tuple[Path, Path]:
    """Write a text model as an ONNX file, and its vocabulary and text rules as JSON next to it.

    The graph takes word ids: ``story`` [batch, sentences, words], ``question`` [batch, words] and
    ``lengths`` [batch], all int64 and of any sizes. It returns ``probabilities`` [batch, answers]
    and ``attention`` [batch, hops, sentences], float32. Before the files are written, onnxruntime
    must give the results of the model on a few stories. An existing ONNX file is replaced, an
    existing JSON file only if it is of an export.

    Args:
        model: a model without restarts.
        path: the ONNX file, ``NAME.onnx``; the other is ``NAME.json``.

    Returns:
        Both paths.

    Raises:
        MemhopError: another suffix, a file that cannot be written, a JSON file of something else,
            a missing package, other results in onnxruntime, or a model that does not fit into one
            file (2 GiB).
        ValueError: a model of several restarts.
    """
    path = Path(path)
    check_target(path)
    check_packages()
    content = onnx_bytes(model)
    _check(model, content)
    vocabulary = path.with_suffix(".json")
    description = describe(model)
    description["onnx"] = {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}
    with atomic_write(vocabulary) as out:  # both are on disk before the first is replaced
        out.write(_lines(description))
        atomic_write_bytes(path, content)
    return path, vocabulary


def check_target(path: Path) -> None:
    """Check the name of an ONNX file and its folder, before the work.

    Raises:
        MemhopError: another suffix than ``.onnx``, a folder that cannot be written to, or a file
            ``NAME.json`` that no export wrote.
    """
    if path.suffix != ".onnx":
        raise MemhopError(f"export: expected a file name that ends in .onnx, got {str(path)!r}")
    if not path.parent.is_dir():
        raise MemhopError(f"{path}: cannot be written: {path.parent} is no folder")
    check_writable(path.parent)
    vocabulary = path.with_suffix(".json")
    if vocabulary.is_file() and not _is_of_export(vocabulary):
        raise MemhopError(f"{vocabulary}: exists and is not of an export: choose another name")


def check_packages() -> None:
    """Check that the packages of ``memhop[onnx]`` are installed.

    Raises:
        MemhopError: one is missing.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            raise MemhopError(f"export needs {error.name}: pip install 'memhop[onnx]'") from error


def describe(model: MemN2N) -> dict[str, Any]:
    """Return what a program needs to ask the graph: sizes, words, answers and text rules."""
    vocabulary, hops = model.vocabulary, model.recipe.num_hops
    ids = range(UNKNOWN + 1, len(vocabulary))
    return {
        "format": FORMAT,
        "schema": SCHEMA,
        "kind": STORIES,
        "memhop_version": __version__,
        "inputs": {name: ["int64", *axes] for name, axes in INPUTS.items()},
        "outputs": {
            OUTPUTS[0]: ["float32", "batch", len(ids)],
            OUTPUTS[1]: ["float32", "batch", hops, "sentences"],
        },
        "max_sentences": model.sizes.memory_slots,
        "padding_id": NIL,
        "unknown_id": UNKNOWN,
        "word_ids": {vocabulary.word(id): id for id in ids},
        "answers": [vocabulary.spelling(id) for id in ids],
        "text": text_rules(),
    }


def _is_of_export(path: Path) -> bool:
    """Return whether a file begins as those of `_lines`."""
    start = _lines({"format": FORMAT}).removesuffix("\n}\n").encode()
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start
    except OSError as error:
        raise MemhopError(f"{path}: cannot be read: {error.strerror}") from error


def _lines(description: dict[str, Any]) -> str:
    """Return JSON with one line for each entry, in ASCII: a word may be a lone surrogate."""
    entries = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in description.items())
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _check(model: MemN2N, content: bytes) -> None:
    """Compare onnxruntime with the model in float64, on stories of several lengths.

    The error may be ``_TOLERANCE``, and four times that of the model in float32, since large
    weights make any order of the float32 operations inexact.
    """
    encoded, inputs = _sample(model)
    num_slots = inputs["story"].shape[1]
    exact = _results(copy.deepcopy(model).double(), encoded, num_slots)
    own = _results(model, encoded, num_slots)
    for got, expected, rounded in zip(run(content, inputs), exact, own, strict=True):
        error = np.abs(got - expected).max(initial=0)
        allowed = _TOLERANCE + 4 * np.abs(rounded - expected).max(initial=0)  # large weights
        if not error <= allowed:  # a NaN too
            raise MemhopError(
                f"export: expected onnxruntime within {allowed:.1e} of the model, got {error:.1e}"
            )


def _results(model: MemN2N, encoded: Encoded, num_slots: int) -> tuple[Array, Array]:
    """Return the probabilities and the attention of a model, as the graph does."""
    with torch.inference_mode():
        scores, attention = model(model.batch_of(encoded), need_weights=True)
        empty = slots_beyond(encoded.lengths, num_slots).unsqueeze(-2)
        attention = attention[..., :num_slots].masked_fill(empty, 0)
        probabilities = model.word_scores(scores.softmax(-1))
    return probabilities.cpu().numpy(), attention.cpu().numpy()


def run(content: bytes, inputs: dict[str, Array]) -> list[Any]:
    """Return the outputs of a graph in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return list(session.run(list(OUTPUTS), inputs))


def _sample(model: MemN2N) -> tuple[Encoded, dict[str, Array]]:
    """Return random stories of the lengths at which the graph may differ: none, one, half, full.

    Sentence n, of 12, has the key ``str(n)`` and up to two words more than the longest sentence of
    the training. A question or story is a list of keys.
    """
    most, longest = model.sizes.memory_slots, model.sizes.sentence_words
    known, rng = list(model.vocabulary), random.Random(0)
    words = {f"{n}": rng.choices(known, k=1 + n % (longest + 2)) for n in range(12)}
    words["0"] = [""]  # an unknown word
    lengths = sorted({0, 1, min(2, most), most // 2, most})
    stories = [Question(tuple(f"{(n + i) % 12}" for i in range(n)), f"{n % 12}") for n in lengths]
    encoded = model.encoder.encode(stories, words).at(model.tables.device)
    return encoded, padded(
        [[words[sentence] for sentence in one.story] for one in stories],
        [words[one.question] for one in stories],
        model.vocabulary,
    )


def padded(
    stories: list[list[list[str]]], questions: list[list[str]], vocabulary: Vocabulary
) -> dict[str, Array]:
    """Return the inputs of the graph: word ids of stories and questions, given as words."""
    sentences = max(map(len, stories), default=0)
    words = max((len(sentence) for story in stories for sentence in story), default=0)
    story = np.full((len(stories), sentences, words), NIL, np.int64)
    question = np.full((len(stories), max(map(len, questions), default=0)), NIL, np.int64)
    for b, (sentences_of, asked) in enumerate(zip(stories, questions, strict=True)):
        question[b, : len(asked)] = vocabulary.ids(asked)
        for i, sentence in enumerate(sentences_of):
            story[b, i, : len(sentence)] = vocabulary.ids(sentence)
    return {
        "story": story,
        "question": question,
        "lengths": np.array([*map(len, stories)], np.int64),
    }
