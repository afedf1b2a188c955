"""``memhop kb train``: train a knowledge model on questions over your own facts."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from memhop.checkpoint import KNOWLEDGE
from memhop.cli import file_jobs
from memhop.cli.file_jobs import FileJob
from memhop.cli.run_folder import check_free, claimed, given_options, named_folder
from memhop.cli.screen import (
    Stopped,
    duration,
    epoch_progress,
    percent,
    print_json,
    print_line,
    print_progress,
    program,
)
from memhop.cli.settings import (
    Changes,
    Json,
    Resume,
    RunName,
    Seed,
    Threads,
    changed_settings,
    check_threads,
    read_settings,
    use,
)
from memhop.errors import MemhopError
from memhop.knowledge import (
    KnowledgeBase,
    KnowledgeRecipe,
    KnowledgeResult,
    Progress,
    Question,
    read_facts,
    read_questions,
)
from memhop.knowledge import train as train_model
from memhop.knowledge.training import unusable
from memhop.runs import free_name

_NEEDED, _OPTIONAL = ("facts", "questions"), ("aliases", "valid", "test")
_STORED = {"aliases": "--aliases", "valid": "--valid", "test": "--test", "recipe": "--recipe",
           "setting": "--set", "seed": "--seed"}  # fmt: skip

app = typer.Typer()

FactsFile = Annotated[
    Path | None,
    typer.Option(help="The facts: .tsv, .csv, .jsonl, .nt (N-Triples) or MetaQA's .txt; also .gz."),
]
AliasFile = Annotated[
    Path | None, typer.Option(help="Other names of entities: a .tsv file, entity and name.")
]
QuestionFile = Annotated[
    Path | None,
    typer.Option(help="Training questions with answers: .jsonl, or .tsv with answers joined by |."),
]
ValidFile = Annotated[
    Path | None,
    typer.Option(help="Held-out questions, which choose the epoch. Default: some of --questions."),
]
TestFile = Annotated[Path | None, typer.Option(help="Test questions.")]
RecipeFile = Annotated[
    Path | None, typer.Option(help="JSON file of settings; the others have defaults.")
]


@app.command()
def train(
    context: typer.Context,
    facts: FactsFile = None,
    questions: QuestionFile = None,
    valid: ValidFile = None,
    test: TestFile = None,
    aliases: AliasFile = None,
    recipe: RecipeFile = None,
    setting: Changes = None,
    seed: Seed = 0,
    threads: Threads = 1,
    name: RunName = None,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Train on questions with answers over your own facts.

    No path is given: the model learns from the answers which facts to read in each hop.
    """
    check_threads(threads)
    given = {
        "facts": facts,
        "aliases": aliases,
        "questions": questions,
        "valid": valid,
        "test": test,
    }
    files = {option: path for option, path in given.items() if path is not None}
    file_jobs.check_regular(files.values())
    folder = named_folder(name if name is not None else free_name("kb"))
    if resume and name is None:
        raise MemhopError("--resume needs the --name of a run")
    check_free(folder, KNOWLEDGE, resume=resume)
    if resume and facts is None and questions is None:
        changed_threads = "threads" in given_options(context, _STORED)
        job = file_jobs.stored(folder, KnowledgeRecipe, _NEEDED, _OPTIONAL)
        job = job._replace(threads=threads) if changed_threads else job
        use(job.threads)
    else:
        for option in _NEEDED:
            if option not in files:
                raise MemhopError(
                    f"kb train needs --{option} FILE, see {program()} kb train --help"
                )
        settings = read_settings(recipe) if recipe else {}
        changed = KnowledgeRecipe.from_json(settings | changed_settings(setting or []))
        job = FileJob(files, changed, seed, threads)
        use(threads)
    result = run(job, folder, resume, json)
    if json:
        print_json(result_json(folder, result))
    else:
        print_result(folder, job, result)


def run(job: FileJob[KnowledgeRecipe], folder: Path, resume: bool, json: bool) -> KnowledgeResult:
    """Read the files, and train into a folder."""
    kb = read_facts(job.files["facts"], aliases=job.files.get("aliases"))
    parts = {name: questions_of(job, name) for name in ("questions", "valid", "test")}
    print_progress(described(kb, {name: len(part) for name, part in parts.items()}))
    for name, part in parts.items():
        for line in faults_of(kb, name, part):
            print_progress(line)
    with claimed(folder, [folder], lambda: file_jobs.store(job, folder)):
        try:
            with progress(folder.name) as show:
                return train_model(
                    kb,
                    parts["questions"],
                    parts["test"],
                    valid_questions=parts["valid"],
                    recipe=job.recipe,
                    seed=job.seed,
                    run=folder,
                    resume=resume,
                    on_progress=show,
                )
        except KeyboardInterrupt:
            more = " --json" if json else ""
            command = f"kb train --resume --name {shlex.quote(folder.name)}{more}"
            raise Stopped(f"stopped; resume with: {program()} {command}") from None


def questions_of(job: FileJob[KnowledgeRecipe], name: str) -> list[Question]:
    """Return the questions of a file, none if it is not given."""
    return read_questions(job.files[name]) if name in job.files else []


def faults_of(kb: KnowledgeBase, name: str, questions: Sequence[Question]) -> Iterator[str]:
    """Yield lines on the questions of a file that cannot be answered, or not be learned from."""
    if not questions:  # the file is not given
        return
    effect = "left out" if name == "questions" else "wrong in any case"
    reasons = "name no entity of the facts", "have no answer in the facts"
    for count, reason in zip(unusable(kb, questions), reasons, strict=True):
        if 0 < count < len(questions) or (count and name != "questions"):
            yield f"--{name}: {count:,} of {len(questions):,} questions {reason}: {effect}"


def described(kb: KnowledgeBase, counts: dict[str, int]) -> str:
    """Return a line on the facts and the questions."""
    entities, relations = f"{len(kb.entities):,} entities", f"{len(kb.relations):,} relations"
    parts = [f"{len(kb):,} facts on {entities} and {relations}"]
    if kb.duplicates:
        parts.append(f"{kb.duplicates:,} repeated facts dropped")
    names = {"questions": "training questions", "valid": "held out", "test": "test questions"}
    parts += [f"{count:,} {names[name]}" for name, count in counts.items() if count]
    return ", ".join(parts)


@contextmanager
def progress(name: str) -> Iterator[Callable[[Progress], None]]:
    """Show a training on standard error."""
    with epoch_progress(name) as show:

        def shown(progress: Progress) -> None:
            metric = progress.metric
            held_out = ""
            if metric.valid_error is not None:
                held_out = f", held out {percent(metric.valid_error)} wrong"
            show(progress.epoch, progress.epochs, f"loss {metric.loss:.3f}{held_out}")

        yield shown


def print_result(folder: Path, job: FileJob[KnowledgeRecipe], result: KnowledgeResult) -> None:
    """Print the errors, the time, and the next commands."""
    text = f"{folder.name}: "
    if result.test is not None:
        text += f"test error {percent(100 - result.test.hits)}, "
    if result.valid is not None:
        text += f"held out {percent(result.valid.error)} wrong, "
    epochs = f"epoch {result.epoch} of {result.epochs} kept"
    print_line(f"{text}{epochs}, {duration(result.seconds)}")
    print_line(f"in {folder}; try:", style="dim")
    example = next((one.text for one in questions_of(job, "questions")), "...")
    name = shlex.quote(folder.name)
    print_line(f"  {program()} kb ask {name} {shlex.quote(example)}", style="dim")
    if "test" in job.files:
        print_line(
            f"  {program()} kb eval {name} --test {shlex.quote(str(job.files['test']))}",
            style="dim",
        )


def result_json(folder: Path, result: KnowledgeResult) -> dict[str, Any]:
    """Return a result as a JSON object."""
    return {
        "run": str(folder),
        "epoch": result.epoch,
        "epochs": result.epochs,
        "valid": None if result.valid is None else result.valid._asdict(),
        "test": None if result.test is None else asdict(result.test),
        "seconds": result.seconds,
    }
