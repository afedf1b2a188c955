"""``memhop answer``: answer all questions of a file, into a file."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import memhop
from memhop.atomic_write import check_new
from memhop.checkpoint import STORIES, manifest_of, to_json
from memhop.cli.answer_file import answer_file
from memhop.cli.answers import answer_json, place_json
from memhop.cli.screen import Stopped, count_progress, percent, print_line, print_progress
from memhop.cli.settings import Threads, choose_model, complete_model, load_model, use
from memhop.cli.training_jobs import checksum
from memhop.data.record_writers import check_json_lines
from memhop.data.records import Record, read_records
from memhop.errors import MemhopError
from memhop.lines import printable
from memhop.text.answer import Answer
from memhop.text.model import MemN2N

_DIGITS = 6  # after the point of a probability or a weight

app = typer.Typer()


@app.command()
def answer(
    run: Annotated[
        str,
        typer.Argument(help="A model, as for memhop ask.", autocompletion=complete_model),
    ],
    file: Annotated[
        Path,
        typer.Argument(help="Questions with stories: .jsonl, .csv, .tsv, also with .gz, or bAbI."),
    ],
    to: Annotated[Path, typer.Option(help="New file for the answers, in JSON Lines.")],
    attention: Annotated[
        bool,
        typer.Option("--attention", help="Also write the sentences and the attention of each hop."),
    ] = False,
    batch_size: Annotated[
        int, typer.Option(min=1, max=100_000, help="Questions that are answered at once.")
    ] = 512,
    threads: Threads = 1,
) -> None:
    """Answer all questions of a file.

    Write a line for each, with the line of the question, the answer, and whether it is correct if
    FILE has the right answers. First all of FILE is checked. If it is interrupted, the same command
    resumes; the answers are then in a file that ends in .part. The memory in use does not grow
    with FILE.
    """
    use(threads)
    check_json_lines(to)
    check_new(to)
    model = load_model(choose_model(run))
    total = _count(file)
    source = {
        "model": hashlib.sha256(to_json(manifest_of(model.to_files(), STORIES))).hexdigest(),
        "questions": checksum(file),
        "attention": attention,
        "batch_size": batch_size,
        "threads": threads,
        "memhop": memhop.__version__,
        "torch": torch.__version__,
    }
    with answer_file(to, source, batch_size, total) as answers, count_progress("answers") as show:
        if answers.lines:
            print_progress(f"resumes after {answers.lines:,} of {total:,} answers")
        records = islice(read_records(file, needs_answers=False), answers.lines, None)
        try:
            while batch := list(islice(records, batch_size)):
                answers.write(list(answer_lines(model, batch, attention)))
                show(answers.lines, total)
        except KeyboardInterrupt:
            done = f"{answers.lines:,} of {total:,} answers"
            raise Stopped(f"stopped after {done}; the same command resumes") from None
        if answers.lines != total or checksum(file) != source["questions"]:
            raise MemhopError(f"{printable(file)}: changed while its questions were answered")
    text = f"{printable(to)}: {total:,} answer{'' if total == 1 else 's'}"
    if answers.verdicts:
        share = percent(100 * answers.correct / answers.verdicts)
        text += f", {answers.correct:,} of {answers.verdicts:,} are correct ({share})"
    print_line(text)


def answer_lines(model: MemN2N, records: Sequence[Record], attention: bool) -> Iterator[str]:
    """Yield the answer to each record as a JSON object on one line."""
    asked = [(record.example.story, record.example.question) for record in records]
    for record, given in zip(records, model.answers(asked), strict=True):
        yield _JSON.encode(place_json(record) | _fields(record, given, attention))


def _fields(record: Record, given: Answer, attention: bool) -> dict[str, Any]:
    fields = answer_json(given, record.example.answer or None)
    fields["probability"] = round(given.probability, _DIGITS)
    if attention:
        fields["attention"] = [[round(one, _DIGITS) for one in hop] for hop in fields["attention"]]
    else:
        del fields["attention"], fields["sentences"]
    del fields["runners_up"]
    return fields


def _count(file: Path) -> int:
    """Return the number of questions of a file, all of which are well formed."""
    if file.exists() and not file.is_file():
        raise MemhopError(f"{printable(file)}: expected a file, got a folder or a pipe")
    return sum(1 for _ in read_records(file, needs_answers=False))


_JSON = json.JSONEncoder(ensure_ascii=False)
