"""``memhop export``: a trained model as files for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from memhop.cli.screen import print_line
from memhop.cli.settings import Run, choose_model, load_model
from memhop.export import export_onnx

app = typer.Typer()


@app.command()
def export(
    onnx: Annotated[
        Path, typer.Option(help="File for the graph, NAME.onnx. NAME.json is written next to it.")
    ],
    run: Run = None,
) -> None:
    """Write a model as an ONNX file that runs without memhop.

    The JSON file next to it has the vocabulary and the rules that split a text
    into sentences and words. docs/export.md describes both, and
    examples/onnx_answers.py answers with onnxruntime and NumPy alone. The files
    are written after onnxruntime has given the model's results on a few
    stories. Needs memhop[onnx].
    """
    for file in export_onnx(load_model(choose_model(run)), onnx):
        print_line(f"{file}  {file.stat().st_size:,} bytes")
