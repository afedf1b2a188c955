"""Measure retrieval hop by hop over frozen vectors, on the questions of PathQuestion."""

import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

import typer

from benchmarks.pathquestion import (
    FILES,
    SPLITS,
    Parts,
    PathQuestion,
    Triple,
    read_facts,
    read_questions,
    right_facts,
    split,
)
from memhop.cli.reproduce import Tiny
from memhop.errors import MemhopError
from memhop.reproduce.processes import one_thread
from memhop.reproduce.record import Row, Rows, Sheet, provenance
from memhop.retrieval import Encoder, Memory, Questions, RetrievalModel, recall, train

SEEDS = (0, 1, 2)
FORMS = {
    "single-shot": "a sentence for each fact, one read by the question",
    "passages": "a sentence for each fact, read hop by hop",
    "sentence keys": "key: the sentence, value: the object",
    "facts": "key: subject and relation, value: the object",
}
Case = tuple[str, str, str]  # split, form, what is trained on
FACT_CASES: tuple[Case, ...] = (
    ("path", "single-shot", "nothing"),
    ("path", "facts", "nothing"),
    ("path", "facts", "answers"),
    ("path", "facts", "gold facts"),
)
SENTENCE_CASES: tuple[Case, ...] = (
    ("random", "facts", "gold facts"),
    ("path", "sentence keys", "gold facts"),
    ("random", "sentence keys", "gold facts"),
    ("path", "passages", "gold facts"),
    ("random", "passages", "gold facts"),
    ("path", "single-shot", "gold facts"),
    ("random", "single-shot", "gold facts"),
)
# the memory of PQL-3H is five times as large
CASES = {"PQ-2H": FACT_CASES + SENTENCE_CASES, "PQL-3H": FACT_CASES}
MAX_EPOCHS, TINY_EPOCHS = 100, 2

Folder = Annotated[Path, typer.Option("--data", help="Folder with the PathQuestion files.")]
EncoderName = Annotated[
    str,
    typer.Option("--encoder", metavar="MODULE:FUNCTION", help="Texts to an array [n, dim]."),
]


class DataSet(NamedTuple):
    """Questions with their vectors, and memories of the same facts.

    Attributes:
        name: as in `FILES`.
        asked: the questions of the file.
        splits: the parts of each kind of split and seed.
        memories: the memory of each form.
        tracked: the questions with their topics, for facts and sentence keys.
        whole: the questions as they are, for passages.
        right: all right facts of each question and hop.
    """

    name: str
    asked: list[PathQuestion]
    splits: dict[tuple[str, int], Parts]
    memories: dict[str, Memory]
    tracked: Questions
    whole: Questions
    right: list[list[list[Triple]]]

    @property
    def num_hops(self) -> int:
        return len(self.asked[0].path)

    def questions(self, form: str, known: str) -> Questions:
        """Return the questions of a form with what is known: "answers", "gold facts", "all"."""
        vectors = self.tracked if form in ("facts", "sentence keys") else self.whole
        gold: list[Any] = [one.path for one in self.asked] if known == "gold facts" else self.right
        if form == "single-shot":
            gold = [hops[-1:] for hops in gold]
        answers = [[one.path[-1][2]] for one in self.asked]
        return Questions(
            vectors.vectors,
            topics=vectors.topics,
            gold=None if known == "answers" else gold,
            answers=answers if known == "answers" else None,
            texts=[one.text for one in self.asked],
        )


def measure(
    data: Folder, encoder: EncoderName, tiny: Tiny = False
) -> Iterator[list[dict[str, Any]]]:
    """Train hops over frozen vectors; recall of each hop."""
    encode = load_encoder(encoder)
    seeds = SEEDS[:1] if tiny else SEEDS
    found = {name: files for name, files in FILES.items() if (data / files[0]).exists()}
    if not found:
        names = " or ".join(questions for questions, _ in FILES.values())
        raise MemhopError(f"{data}: expected {names} in it, got neither")
    with one_thread():
        for name, (questions, facts) in found.items():
            loaded = load(name, data / questions, data / facts, encode)
            for case in CASES[name]:
                for seed in seeds:
                    yield rows_of(loaded, case, seed, TINY_EPOCHS if tiny else MAX_EPOCHS)


def sort_key(row: Row) -> tuple[int, int, int, int]:
    """Return the place of a row in the file."""
    case = CASES[row["data"]].index((row["split"], row["form"], row["trained_on"]))
    return list(FILES).index(row["data"]), case, int(row["seed"]), int(row["hop"])


def load_encoder(name: str) -> Encoder:
    """Return the function MODULE:FUNCTION; names go to it as words."""
    module, _, function = name.partition(":")
    try:
        encode = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise MemhopError(f"--encoder: expected MODULE:FUNCTION, got {name!r}: {error}") from error
    return lambda texts: encode([as_words(text) for text in texts])


def as_words(name: str) -> str:
    """Return a name with spaces between its words.

    >>> as_words("__film__cinematographer__film")
    'film cinematographer film'
    """
    return " ".join(name.replace("_", " ").split())


def load(name: str, questions: Path, facts: Path, encoder: Encoder) -> DataSet:
    """Read and encode a set of questions and its facts."""
    triples, asked = read_facts(facts), read_questions(questions)
    of_facts = Memory.of_facts(triples, encoder)
    passages = Memory.of_passages(map(" ".join, triples), encoder, ids=triples)
    sentence_keys = Memory(passages.keys, of_facts.values, ids=triples)
    texts, topics = [one.text for one in asked], [one.topic for one in asked]
    return DataSet(
        name,
        asked,
        {(by, seed): split(asked, by, seed) for by in SPLITS for seed in SEEDS},
        {"single-shot": passages, "passages": passages, "sentence keys": sentence_keys,
         "facts": of_facts},
        Questions.of_texts(texts, encoder, topics=topics),
        Questions.of_texts(texts, encoder),
        right_facts(triples, asked),
    )  # fmt: skip


def rows_of(loaded: DataSet, case: Case, seed: int, epochs: int) -> list[dict[str, Any]]:
    """Train a model, if anything is trained; return a row for each hop."""
    by, form, trained_on = case
    parts, memory, start = loaded.splits[by, seed], loaded.memories[form], time.perf_counter()
    num_hops, trained = 1 if form == "single-shot" else loaded.num_hops, 0
    if trained_on == "nothing":
        model = RetrievalModel(memory.keys.shape[1], memory.values.shape[1], num_hops)
    else:
        known = loaded.questions(form, trained_on)
        result = train(
            memory, known.select(parts.train), valid=known.select(parts.valid),
            num_hops=num_hops, seed=seed, epochs=epochs,
        )  # fmt: skip
        model, trained = result.model, len(result.epochs)
    seconds = time.perf_counter() - start
    all_right, listed = (
        recall(model, memory, loaded.questions(form, known).select(parts.test))
        for known in ("all", "gold facts")
    )
    return [
        {
            "data": loaded.name, "split": by, "form": form, "trained_on": trained_on, "seed": seed,
            "hop": loaded.num_hops - num_hops + hop + 1, "facts": len(memory),
            "questions": len(parts.train), "test_questions": len(parts.test),
            **{f"recall_at_{k}": 100 * share for k, share in all_right[hop].items()},
            **{f"listed_at_{k}": 100 * share for k, share in listed[hop].items()},
            "epochs": trained, "seconds": round(seconds, 1), **provenance(),
        }
        for hop in range(num_hops)
    ]  # fmt: skip


def sheets(rows: Rows) -> list[Sheet]:
    """Return a line for each case with the means of its seeds."""
    hops = range(1, 1 + max(int(row["hop"]) for row in rows))
    columns = ("questions", "split", "form", "trained on", *(f"hop {hop}" for hop in hops),
               "listed fact", "seconds")  # fmt: skip
    lines = []
    for name in FILES:
        for case in CASES[name]:
            own = [row for row in rows if row["data"] == name
                   and (row["split"], row["form"], row["trained_on"]) == case]  # fmt: skip
            if own:
                last = max(int(row["hop"]) for row in own)
                cells = [_shares(own, hop, "recall") for hop in hops]
                seconds = fmean(float(row["seconds"]) for row in own)
                lines.append([name, *case, *cells, _shares(own, last, "listed"), f"{seconds:.0f}"])
    seeds = len({row["seed"] for row in rows})
    forms = "; ".join(f"{form}: {words}" for form, words in FORMS.items())
    note = (
        f"Recall at 1 and 5 in %, test questions, mean of {seeds} seeds. Right are all facts on a "
        "path from the topic with the relations of the question; in the column of the listed fact, "
        f"only the one that the file lists for the last hop. Seconds of a training. Forms: {forms}."
    )
    return [Sheet("Facts found by each hop", columns, lines, note)]


def _shares(rows: Rows, hop: int, name: str) -> str:
    """Return the mean recall at 1 and 5 of a hop; "-" if it is not measured."""
    own = [row for row in rows if int(row["hop"]) == hop]
    if not own:
        return "-"
    return " / ".join(f"{fmean(float(row[f'{name}_at_{k}']) for row in own):.1f}" for k in (1, 5))
