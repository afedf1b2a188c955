"""Train the language models of section 5 of arXiv 1503.08895 on the Penn Treebank.

The text is the preprocessed one of Mikolov et al. (Interspeech 2010): 10,000 words, rare ones
replaced by ``<unk>``. It belongs to the Linguistic Data Consortium (LDC99T42), and memhop has no
copy of it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from memhop.checkpoint import read_checkpoint
from memhop.errors import MemhopError
from memhop.language_model import (
    EncodedText,
    LanguageModel,
    LanguageRecipe,
    LanguageResult,
    Progress,
    WordVocabulary,
    count_words,
    encode_text,
    evaluate,
    train,
)
from memhop.language_model.training_run import LanguageRun, identity_of
from memhop.reproduce.record import Row, Rows, Sheet, check_equal, provenance
from memhop.resume import read_training
from memhop.runs import newest_checkpoint, stopped_after

TOKENS = {"train": 929_589, "valid": 73_760, "test": 82_430}  # with <eos>, one a line
WORDS = 10_000
PUBLISHED = {
    (2, 100): (128, 121), (3, 100): (129, 122), (4, 100): (127, 120), (5, 100): (127, 118),
    (6, 100): (122, 115), (7, 100): (120, 114), (6, 25): (125, 118), (6, 50): (121, 114),
    (6, 75): (122, 114), (6, 125): (120, 112), (6, 150): (121, 114), (7, 200): (118, 111),
}  # fmt: skip
"""Perplexities of the validation and the test text by hops and words in memory; Table 2, v5."""
BEST = "best"
RECIPES = ("paper", BEST)
COLUMNS = (
    "row", "recipe", "protocol", "hops", "words", "memory_dim", "parameters", "seed", "epoch",
    "epochs", "valid", "test", "valid_scored", "test_scored", "unknown", "precision", "matmul",
    "seconds", "cpu_seconds", "finished", "tiny",
)  # fmt: skip
TINY = {"memory_dim": 8, "epochs": 2}
TINY_LINES = 250  # of each text
_ROW = re.compile(r"(\d{1,6})x(\d{1,6})")

OnProgress = Callable[[Progress], None]


class Unit(NamedTuple):
    """One training; ``row`` is HOPSxWORDS, or `BEST` for the sizes of the best recipe."""

    row: str
    recipe: str
    protocol: str
    precision: str
    seed: int


class Texts(NamedTuple):
    """The three texts, encoded with the vocabulary of the first."""

    vocabulary: WordVocabulary
    train: EncodedText
    valid: EncodedText
    test: EncodedText


class EnoughEpochs(KeyboardInterrupt):
    """Stops a training as Ctrl-C does: after a checkpoint."""


def file_of(folder: Path, part: str) -> Path:
    """Return the file of a part: ``train``, ``valid`` or ``test``."""
    return folder / f"ptb.{part}.txt"


def read_texts(folder: Path, tiny: bool) -> Texts:
    """Read the three texts; ``tiny`` reads their first lines only.

    Raises:
        MemhopError: a file is missing, or is no text.
    """
    for part in TOKENS:
        if not file_of(folder, part).is_file():
            raise MemhopError(
                f"{file_of(folder, part)}: no such file: expected the preprocessed Penn Treebank, "
                "whose text the LDC licenses (LDC99T42); memhop has no copy"
            )
    lines = range(TINY_LINES) if tiny else None
    vocabulary = count_words(file_of(folder, "train"), lines=lines)
    texts = [encode_text(file_of(folder, part), vocabulary, lines=lines) for part in TOKENS]
    return Texts(vocabulary, *texts)


def different_counts(texts: Texts) -> Iterator[str]:
    """Yield a line for each count that is not that of the Penn Treebank."""
    if len(texts.vocabulary) != WORDS:
        yield f"vocabulary: expected {WORDS:,} words, got {len(texts.vocabulary):,}"
    for (part, expected), text in zip(TOKENS.items(), texts[1:], strict=True):
        if len(text) != expected:
            yield f"ptb.{part}.txt: expected {expected:,} words with <eos>, got {len(text):,}"


def parse_rows(text: str) -> list[str]:
    """Return the names of rows in a list, each once.

    >>> parse_rows("6x50, best,6x50")
    ['6x50', 'best']
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name != BEST and not _ROW.fullmatch(name):
            raise MemhopError(
                f"--rows: expected HOPSxWORDS, such as 6x50, or {BEST!r}, got {name!r}"
            )
    return names


def units_of(
    names: Sequence[str], recipe: str, protocol: str | None, precision: str | None, seed: int
) -> list[Unit]:
    """Return the trainings of rows; None is the protocol or the precision of the recipe."""
    if recipe not in RECIPES:
        raise MemhopError(f"--recipe: expected {' or '.join(RECIPES)}, got {recipe!r}")
    units = []
    for name in names:
        own = BEST if name == BEST else recipe
        given = _named(own)
        unit = Unit(
            name, own, protocol or given.protocol, precision or given.output_precision, seed
        )
        recipe_of(unit, tiny=False)  # raises for sizes out of range
        units.append(unit)
    return units


def _named(recipe: str, **changes: Any) -> LanguageRecipe:
    named = LanguageRecipe.best if recipe == BEST else LanguageRecipe.paper
    return named(**changes)


def recipe_of(unit: Unit, tiny: bool) -> LanguageRecipe:
    """Return the settings of a training."""
    changes: dict[str, Any] = {"protocol": unit.protocol, "output_precision": unit.precision}
    if sizes := _ROW.fullmatch(unit.row):
        changes |= {"num_hops": int(sizes[1]), "num_words": int(sizes[2])}
    return _named(unit.recipe, **changes, **(TINY if tiny else {}))


def unit_of(row: Row) -> Unit:
    """Return the training of a row."""
    return Unit(row["row"], row["recipe"], row["protocol"], row["precision"], int(row["seed"]))


def due(units: Sequence[Unit], rows: Rows, max_epochs: int | None) -> list[Unit]:
    """Return the trainings without a finished row, or with fewer than ``max_epochs`` epochs.

    With 0 epochs, which only scores the trainings as they are, these are all unfinished ones.
    """
    found = {unit_of(row): row for row in rows}

    def is_due(unit: Unit) -> bool:
        row = found.get(unit)
        if row is None or not max_epochs:
            return row is None or row["finished"] != "True"
        return row["finished"] != "True" and int(row["epochs"]) < max_epochs

    return [unit for unit in units if is_due(unit)]


def merged(rows: Rows, row: dict[str, str]) -> list[dict[str, str]]:
    """Return rows with one more, which replaces that of the same training, in their order."""
    others = [dict(one) for one in rows if unit_of(one) != unit_of(row)]
    return sorted([*others, row], key=sort_key)


def sort_key(row: Row) -> tuple[object, ...]:
    """Return the place of a row in the file: that of the published one, then by its sizes."""
    sizes = int(row["hops"]), int(row["words"])
    places = [*PUBLISHED]
    place = places.index(sizes) if sizes in places else len(places)
    unit = unit_of(row)
    return RECIPES.index(unit.recipe), unit.protocol, place, sizes, unit


def check_rows(file: Path | None, texts: Texts, rows: Rows) -> None:
    """Check that the rows to resume from are of these texts."""
    for row in rows:
        unscored = int(row["words"]) if row["protocol"] == "paper" else 0
        counted = int(row["test_scored"]) + unscored
        check_equal(file, "words of the test text", counted, len(texts.test))


def run_of(runs: Path, unit: Unit, tiny: bool) -> Path:
    """Return the folder of the checkpoints of a training."""
    names = [unit.row, unit.recipe, unit.protocol, unit.precision, str(unit.seed)]
    return runs / "-".join([*names, *(["tiny"] if tiny else [])])


def row_of(
    unit: Unit, texts: Texts, run: Path, *, max_epochs: int | None, tiny: bool,
    on_progress: OnProgress | None = None,
) -> dict[str, Any] | None:  # fmt: skip
    """Train, or resume, and return the row; None before the end of an epoch.

    Args:
        unit: the training.
        texts: of `read_texts`.
        run: folder of the checkpoints.
        max_epochs: stop after so many epochs; 0 does not train, and scores the run as it is.
        tiny: train a model of seconds.
        on_progress: called after every step.

    Raises:
        MemhopError: the run is another training.
        KeyboardInterrupt: after a checkpoint.
    """
    recipe = recipe_of(unit, tiny)
    identity = identity_of(texts[1:], texts.vocabulary, recipe, unit.seed)
    LanguageRun.open(run, identity, resume=True)
    stopped = stopped_after(run) if newest_checkpoint(run) else (0, recipe.epochs)
    result = None
    if max_epochs is None or stopped is None or stopped[0] < max_epochs:

        def watch(progress: Progress) -> None:
            if on_progress is not None:
                last = progress.epochs if max_epochs is None else max_epochs
                on_progress(replace(progress, epochs=min(progress.epochs, last)))
            ended = progress.valid_perplexity is not None and progress.epoch == max_epochs
            if ended and progress.epoch < progress.epochs:
                raise EnoughEpochs

        with suppress(EnoughEpochs):
            result = train(
                *texts[1:], texts.vocabulary, recipe=recipe, seed=unit.seed, run=run, resume=True,
                on_progress=watch,
            )  # fmt: skip
    finished = result is not None
    result = result or scored(run, texts)
    return None if result is None else _row(unit, result, finished, tiny)


def scored(run: Path, texts: Texts) -> LanguageResult | None:
    """Score the best model of an unfinished training; None before the end of an epoch.

    Raises:
        MemhopError: the run is corrupt.
    """
    checkpoint = newest_checkpoint(run)
    if checkpoint is None:
        return None
    training = read_training(read_checkpoint(checkpoint), checkpoint)
    names = "best_epoch", "epoch", "seconds", "cpu_seconds"
    if any(not isinstance(training.get(name), int | float) for name in names):
        raise MemhopError(f"{checkpoint}: corrupt training.json")
    if not training["epoch"]:
        return None
    model = LanguageModel.load(run)
    protocol = model.recipe.protocol
    return LanguageResult(
        model,
        evaluate(model, texts.valid, protocol=protocol),
        evaluate(model, texts.test, protocol=protocol),
        *(training[name] for name in names),
    )


def _row(unit: Unit, result: LanguageResult, finished: bool, tiny: bool) -> dict[str, Any]:
    recipe, valid, test = result.model.recipe, result.valid, result.test
    assert test is not None
    return {
        "row": unit.row,
        "recipe": unit.recipe,
        "protocol": unit.protocol,
        "hops": recipe.num_hops,
        "words": recipe.num_words,
        "memory_dim": recipe.memory_dim,
        "parameters": result.model.num_parameters,
        "seed": unit.seed,
        "epoch": result.epoch,
        "epochs": result.epochs,
        "valid": valid.perplexity,
        "test": test.perplexity,
        "valid_scored": valid.scored,
        "test_scored": test.scored,
        "unknown": valid.unknown + test.unknown,
        "precision": unit.precision,
        "matmul": recipe.matmul_precision,
        "seconds": round(result.seconds, 1),
        "cpu_seconds": round(result.cpu_seconds, 1),
        "finished": finished,
        "tiny": tiny,
        **provenance(),
    }


def summary_of(row: Row) -> str:
    """Return a few words on a row."""
    unit = unit_of(row)
    stopped = "" if row["finished"] == "True" else " (stopped)"
    epochs = f"{row['epochs']} epoch{'' if row['epochs'] == '1' else 's'}"
    return (
        f"{unit.row} {unit.recipe} {unit.protocol}: {float(row['valid']):.1f} / "
        f"{float(row['test']):.1f} after {epochs}{stopped}"
    )


def sheet(rows: Rows, is_released: bool = True) -> Sheet:
    """Return the perplexities, those of the paper's recipe next to the published ones.

    Args:
        rows: of `row_of`.
        is_released: whether the text is the Penn Treebank; of another text, only ours are shown.
    """
    columns = ("row", "recipe", "protocol", "output", "epochs", "valid", "test", "CPU h")
    seeds = sorted({row["seed"] for row in rows}, key=int)
    lines = []
    for row in rows:
        published = published_of(row) if is_released else None
        cells = [
            f"{float(row[name]):.1f}" + (f" ({published[place]})" if published else "")
            for place, name in enumerate(("valid", "test"))
        ]
        lines.append([
            row["row"] + (f", seed {row['seed']}" if len(seeds) > 1 else ""),
            row["recipe"], row["protocol"], row["precision"],
            row["epochs"] + ("" if row["finished"] == "True" else "*"), *cells,
            f"{float(row['cpu_seconds']) / 3600:.1f}",
        ])  # fmt: skip
    note = (
        "Rows: hops x words in memory. Perplexity, exp of the mean of -log p over all scored "
        f"words, <eos> included: {_counts(rows, 'valid_scored')} of the validation and "
        f"{_counts(rows, 'test_scored')} of the test text. {_comparison(rows, is_released)}One "
        f"training each, seed {', '.join(seeds)}, and of it "
        'the epoch with the lowest validation loss. Protocol "paper": random positions are '
        "trained, and the first words, which fill the memory, are not scored; "
        '"contiguous": all positions are trained in each epoch, and all words scored. '
        "Output: the precision of the output layer's matrix products in training."
    )
    if any(row["matmul"] != "highest" for row in rows):
        note += ' The recipe "best" lets torch round the inputs of all products to bfloat16.'
    if any(row["finished"] != "True" for row in rows):
        note += " *: stopped after so many epochs, before the end of the training."
    return Sheet("", columns, lines, note)


def published_of(row: Row) -> tuple[int, int] | None:
    """Return the published perplexities of the validation and the test text, or None.

    The recipe `BEST` has none: it is not that of the paper.
    """
    return None if row["recipe"] == BEST else PUBLISHED.get((int(row["hops"]), int(row["words"])))


def _comparison(rows: Rows, is_released: bool) -> str:
    """Return sentences on the published perplexities, with a space at the end."""
    if not is_released:
        return "The text is not that of the paper, so no published values are shown. "
    protocols = {row["protocol"] for row in rows if published_of(row)}
    if not protocols:
        return ""
    of_protocol = ' of the protocol "paper"' if protocols != {"paper"} else ""
    return (
        f"In parentheses: the published one{of_protocol}, Table 2 of arXiv 1503.08895 (v5), which "
        "also has an RNN, 133 and 129, an LSTM, 120 and 115, and an SCRN, 120 and 115. "
    )


def _counts(rows: Rows, column: str) -> str:
    """Return the number of scored words, or its range."""
    counts = sorted({int(row[column]) for row in rows})
    return " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1])))
