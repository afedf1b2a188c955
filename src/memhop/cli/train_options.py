"""The options of ``memhop train`` that no other command has."""

from pathlib import Path
from typing import Annotated

import typer

from memhop.cli import completion
from memhop.training.loop import MOST_RESTARTS

Joint = Annotated[
    bool, typer.Option("--joint", help="One model for all tasks, instead of one for each.")
]
TrainFile = Annotated[Path | None, typer.Option(help="Your own training file, in the bAbI format.")]
TestFile = Annotated[Path | None, typer.Option(help="Your own test file.")]
RecipeName = Annotated[
    str,
    typer.Option(
        help="'paper', 'best', or a JSON file of settings (settings not in it: defaults).",
        autocompletion=completion.recipes,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change one setting of the recipe."),
]
Restarts = Annotated[
    int,
    typer.Option(min=1, max=MOST_RESTARTS, help="Models from random starts; the best is kept."),
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same threads: same model.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1.")]
RunName = Annotated[
    str | None,
    typer.Option(
        help="Name of the run under runs/ (default: a new name).",
        autocompletion=completion.run_names,
    ),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Resume the run --name; data and settings come from the run."),
]
NoExamples = Annotated[
    bool,
    typer.Option(
        "--no-examples",
        help="Do not store example stories in the run (default: up to three, shown by memhop "
        "serve).",
    ),
]
