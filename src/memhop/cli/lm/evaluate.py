"""``memhop lm eval``: the perplexity of texts."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from memhop.checkpoint import LANGUAGE
from memhop.cli.screen import percent, print_json, print_table, print_wrapped
from memhop.cli.settings import Json, LanguageRun, Threads, load_newest, use
from memhop.errors import MemhopError
from memhop.language_model import LanguageModel, Perplexity, encode_text
from memhop.language_model import evaluate as evaluate_model
from memhop.lines import printable

app = typer.Typer()


@app.command("eval")
def evaluate(
    run: LanguageRun = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(help="Required: a UTF-8 text, also .gz; give it repeatedly."),
    ] = None,
    protocol: Annotated[
        Literal["contiguous", "paper"],
        typer.Option(
            help="'contiguous' scores every word; 'paper' not the first, which fill the memory."
        ),
    ] = "contiguous",
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Print how well a model predicts texts (perplexity).

    Each line ends with the word <eos>, which is scored too. A word that the model does not know is
    scored as <unk> and counted as unknown.
    """
    use(threads)
    if not text:
        raise typer.BadParameter("expected a text", param_hint="--text")
    model = load_newest(run, LANGUAGE, LanguageModel.load)
    results = [(path, perplexity(model, path, protocol)) for path in text]
    if json:
        print_json([{"file": str(path), **perplexity_json(result)} for path, result in results])
        return
    columns = ("file", "words scored", "unknown", "protocol", "perplexity")
    print_table(columns, [row(path.name, result) for path, result in results])
    if unscored := results[0][1].unscored:
        print_wrapped(f"the first {unscored:,} words of each text fill the memory: not scored")


def perplexity(
    model: LanguageModel, path: Path, protocol: Literal["contiguous", "paper"]
) -> Perplexity:
    """Return the perplexity of a file."""
    text = encode_text(path, model.vocabulary)
    try:
        return evaluate_model(model, text, protocol=protocol)
    except MemhopError as error:
        raise MemhopError(f"{printable(path)}: {error}") from None


def row(name: str, result: Perplexity) -> list[str]:
    """Return the cells of a file."""
    share = percent(100 * result.unknown / result.scored)
    unknown = f"{result.unknown:,} ({share})"
    return [name, f"{result.scored:,}", unknown, result.protocol, f"{result.perplexity:,.1f}"]


def perplexity_json(result: Perplexity) -> dict[str, Any]:
    """Return a perplexity as a JSON object."""
    names = ("perplexity", "loss", "scored", "unscored", "unknown", "protocol")
    return {name: getattr(result, name) for name in names}
