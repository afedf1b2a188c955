"""``memhop lm train``: train a language model on your own text."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import dropwhile, islice, takewhile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from memhop.checkpoint import LANGUAGE
from memhop.cli import file_jobs
from memhop.cli.file_jobs import FileJob
from memhop.cli.lm.evaluate import perplexity_json
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
    Device,
    Json,
    RecipeName,
    Resume,
    RunName,
    Seed,
    Threads,
    check_device,
    check_threads,
    chosen_settings,
    use,
)
from memhop.errors import MemhopError
from memhop.language_model import (
    EncodedText,
    LanguageRecipe,
    LanguageResult,
    Perplexity,
    Progress,
    WordVocabulary,
    count_lines,
    count_words,
    encode_text,
)
from memhop.language_model import train as train_model
from memhop.language_model.vocabulary import END
from memhop.lines import printable
from memhop.runs import free_name, newest_checkpoint, stopped_after

_NEEDED, _OPTIONAL = ("text",), ("valid", "test")
_STORED = {"valid": "--valid", "test": "--test", "recipe": "--recipe", "setting": "--set",
           "seed": "--seed"}  # fmt: skip
_HELD_OUT = 10  # one line of so many, without --valid
_EXAMPLE_WORDS = 4

app = typer.Typer()

TextFile = Annotated[
    Path | None, typer.Option(help="The training text: UTF-8, also .gz; white space splits words.")
]
ValidFile = Annotated[
    Path | None,
    typer.Option(
        help="Validation text, which chooses the epoch. Default: the last tenth of the lines of "
        "--text."
    ),
]
TestFile = Annotated[Path | None, typer.Option(help="Test text, scored once at the end.")]


class Texts(NamedTuple):
    """The texts of a training; ``valid`` may be the last lines of the file of ``train``."""

    vocabulary: WordVocabulary
    train: EncodedText
    valid: EncodedText
    test: EncodedText | None


@app.command()
def train(
    context: typer.Context,
    text: TextFile = None,
    valid: ValidFile = None,
    test: TestFile = None,
    recipe: RecipeName = "paper",
    setting: Changes = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    name: RunName = None,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Train a language model whose memory is the previous words.

    Case and punctuation stay as they are, and each line ends with the word <eos>. The vocabulary
    has the most frequent words of the training text (max_words of the recipe); other words are
    scored as <unk>. The training text contains some of these only if its words exceed max_words.
    """
    check_threads(threads)
    check_device(device)
    given = {"text": text, "valid": valid, "test": test}
    files = {option: path for option, path in given.items() if path is not None}
    file_jobs.check_regular(files.values())
    folder = named_folder(name if name is not None else free_name("lm"))
    if resume and name is None:
        raise MemhopError("--resume needs the --name of a run")
    check_free(folder, LANGUAGE, resume=resume)
    if resume and text is None:
        changed_threads = "threads" in given_options(context, _STORED)
        job = file_jobs.stored(folder, LanguageRecipe, _NEEDED, _OPTIONAL)
        job = job._replace(threads=threads) if changed_threads else job
    else:
        if text is None:
            raise MemhopError(f"lm train needs --text FILE, see {program()} lm train --help")
        named = {"paper": LanguageRecipe.paper, "best": LanguageRecipe.best}
        settings = chosen_settings(recipe, named, setting or [])
        job = FileJob(files, LanguageRecipe.from_json(settings), seed, threads)
    use(job.threads)
    texts = read_texts(job)
    result = run(job, texts, folder, resume, json, device)
    if json:
        print_json(result_json(folder, result))
    else:
        print_result(folder, job, texts, result)


def read_texts(job: FileJob[LanguageRecipe]) -> Texts:
    """Read the files, and print a line on the vocabulary and on each text."""
    path, valid, test = job.files["text"], job.files.get("valid"), job.files.get("test")
    train_lines, valid_lines = (None, None) if valid else split_lines(path)
    vocabulary = count_words(path, max_words=job.recipe.max_words, lines=train_lines)
    print_progress(f"vocabulary: {len(vocabulary):,} words, <unk> and <eos> among them")
    held_out = "--valid" if valid else "held out, last tenth"
    texts = Texts(
        vocabulary,
        read_text("--text", path, vocabulary, train_lines),
        read_text(held_out, valid or path, vocabulary, valid_lines),
        read_text("--test", test, vocabulary) if test else None,
    )
    if not (texts.train.tokens == vocabulary.unknown).any():
        print_progress("no word of the training text is read as <unk>: try --set max_words=N")
    return texts


def read_text(
    name: str, path: Path, vocabulary: WordVocabulary, lines: range | None = None
) -> EncodedText:
    """Read a text or some of its lines, and print its sizes; words are counted with ``<eos>``."""
    text = encode_text(path, vocabulary, lines=lines)
    share = percent(100 * text.unknown / len(text))
    unknown = f"{text.unknown:,} unknown ({share})"
    print_progress(f"{name}: {text.lines:,} lines, {len(text):,} words, {unknown}")
    return text


def split_lines(path: Path) -> tuple[range, range]:
    """Return the lines to train on, and the last tenth, which is held out.

    Raises:
        MemhopError: there are too few lines.
    """
    lines = count_lines(path)
    if lines < _HELD_OUT:
        expected = f"at least {_HELD_OUT} lines, the last tenth of which is held out"
        raise MemhopError(
            f"{printable(path)}: expected {expected}, got {lines}: give a --valid text"
        )
    kept = lines - lines // _HELD_OUT
    return range(kept), range(kept, lines)


def run(
    job: FileJob[LanguageRecipe],
    texts: Texts,
    folder: Path,
    resume: bool,
    json: bool,
    device: str,
) -> LanguageResult:
    """Train into a folder; say so if the training was finished before."""
    is_finished = newest_checkpoint(folder) is not None and stopped_after(folder) is None
    with claimed(folder, [folder], lambda: file_jobs.store(job, folder)):
        try:
            with progress(folder.name) as show:
                result = train_model(
                    texts.train,
                    texts.valid,
                    texts.test,
                    texts.vocabulary,
                    recipe=job.recipe,
                    seed=job.seed,
                    run=folder,
                    resume=resume,
                    on_progress=show,
                    device=device,
                )
        except KeyboardInterrupt:
            more = (" --json" if json else "") + ("" if device == "cpu" else f" --device {device}")
            command = f"lm train --resume --name {shlex.quote(folder.name)}{more}"
            raise Stopped(f"stopped; resume with: {program()} {command}") from None
    if is_finished:
        print_progress(f"{folder}: finished before, nothing was trained")
    return result


@contextmanager
def progress(name: str, each_epoch: bool = False) -> Iterator[Callable[[Progress], None]]:
    """Show a training on standard error, and where it resumes; see `epoch_progress`."""
    with epoch_progress(name, each_epoch) as show:
        held_out, is_first = "", True

        def shown(progress: Progress) -> None:
            nonlocal held_out, is_first
            if is_first and (progress.epoch, progress.step) != (1, 1):
                print_progress(f"resumes at step {progress.step} of epoch {progress.epoch}")
            is_first = False
            done = progress.epoch - 1 + progress.step / progress.steps
            if progress.valid_perplexity is None:
                done = min(done, progress.epoch - 0.001)  # the epoch ends with its validation
            else:
                held_out = f", held out perplexity {progress.valid_perplexity:,.1f}"
            show(done, progress.epochs, f"loss {progress.loss:.3f}{held_out}")

        yield shown


def print_result(
    folder: Path, job: FileJob[LanguageRecipe], texts: Texts, result: LanguageResult
) -> None:
    """Print the perplexities, the time, and the next commands."""
    print_line(f"{folder.name}: epoch {result.epoch} of {result.epochs} kept, "
               f"{duration(result.seconds)}")  # fmt: skip
    for kind, found in (("held out", result.valid), ("test", result.test)):
        if found is not None:
            print_line(scored_line(kind, found))
    print_line(f"in {folder}; try:", style="dim")
    name = shlex.quote(folder.name)
    commands = [f"lm predict {name} {first_words(texts)}"]
    commands += [f"lm eval {name} --text {shlex.quote(str(job.files[option]))}"
                 for option in ("test", "valid") if option in job.files][:1]  # fmt: skip
    for command in commands:
        print_line(f"  {program()} {command}", style="dim")


def first_words(texts: Texts) -> str:
    """Return the first words of the first line that has words, as an argument of a command."""
    words = map(texts.vocabulary.word_of, texts.train.tokens[:100].tolist())
    line = takewhile(lambda word: word != END, dropwhile(lambda word: word == END, words))
    text = " ".join(islice(line, _EXAMPLE_WORDS)) or "..."
    return f"{'-- ' if text.startswith('-') else ''}{shlex.quote(text)}"


def scored_line(kind: str, found: Perplexity) -> str:
    """Return a line on the perplexity of a text."""
    return f"  {kind} perplexity {found.perplexity:,.1f} over {found.scored:,} words"


def result_json(folder: Path, result: LanguageResult) -> dict[str, Any]:
    """Return a result as a JSON object."""
    return {
        "run": str(folder),
        "epoch": result.epoch,
        "epochs": result.epochs,
        "valid": perplexity_json(result.valid),
        "test": None if result.test is None else perplexity_json(result.test),
        "vocabulary": len(result.model.vocabulary),
        "parameters": result.model.num_parameters,
        "seconds": result.seconds,
        "cpu_seconds": result.cpu_seconds,
    }
