"""``memhop lm predict``: the next word of a text, and the words that each hop read."""

from pathlib import Path
from typing import Annotated, Any

import typer

from memhop.checkpoint import LANGUAGE
from memhop.cli.screen import (
    percent,
    print_json,
    print_line,
    print_table,
    print_wrapped,
    program,
    stdout,
)
from memhop.cli.settings import Json, LanguageRun, Threads, load_newest, use
from memhop.cli.svg_file import write_svg
from memhop.errors import MemhopError, shown
from memhop.language_model import LanguageModel, Prediction
from memhop.picture.labels import listed, shortened
from memhop.runs import named_run

app = typer.Typer()
_WORD_WIDTH = 50  # columns of a word in the table


@app.command()
def predict(
    run: LanguageRun = None,
    text: Annotated[str | None, typer.Argument(help="The text to continue, in quotes.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="Next words to print.")] = 5,
    svg: Annotated[Path | None, typer.Option(help="File for the picture.")] = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Predict the next word of a text.

    Print the most probable words, and how much each hop read of each word before. A single value is
    the text, for the newest run. Write it as the training text is written: white space separates
    words, and case matters; <eos>, or a line end within the quotes, ends a line. A word that the
    model does not know is read as <unk> and named.
    """
    use(threads)
    if text is None:  # one value is the text
        run, text = None, run
    if text is None or (run is None and named_run(text)):
        after = f" after the run {shown(text)}" if text else ""
        raise MemhopError(f"lm predict needs a text{after}, see {program()} lm predict --help")
    model = load_newest(run, LANGUAGE, LanguageModel.load)
    prediction = model.predict(text, min(count, len(model.vocabulary)))
    if svg is not None:
        write_svg(svg, prediction.picture().svg(prediction.title()))
    if json:
        print_json(prediction_json(prediction))
    else:
        print_prediction(prediction)


def print_prediction(prediction: Prediction) -> None:
    """Print the next words with their probabilities, and the words that each hop read."""
    rows = [[shortened(word, _WORD_WIDTH, "..."), percent(100 * share)]
            for word, share in prediction.candidates]  # fmt: skip
    print_table(("next word", "probability"), rows)
    if prediction.unknown_words:
        print_wrapped(f"never seen in training, read as <unk>: {listed(prediction.unknown_words)}",
                      "red")  # fmt: skip
    in_memory = len(prediction.words)
    if prediction.truncated:
        words = in_memory + prediction.truncated
        print_line(f"the last {in_memory:,} of {words:,} words are in memory")
    print_line("")
    drawn = prediction.picture()
    stdout().print(drawn)
    visible = sum(isinstance(line, int) for line in drawn.visible_slots())
    if visible < in_memory:
        print_line(f"the {visible} words with the largest shares, of {in_memory:,}", "dim")


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as a JSON object."""
    candidates = [{"word": word, "probability": share} for word, share in prediction.candidates]
    return prediction._asdict() | {
        "candidates": candidates,
        "attention": prediction.attention.tolist(),
    }
