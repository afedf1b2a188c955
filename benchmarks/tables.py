"""The tables in README and docs, made from the rows of the benchmarks: no number typed twice.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``. One that says
``Not measured yet.`` goes on saying so until there are rows for it.
"""

import re
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from benchmarks import answer, attention, length, serving, step, stories, transfer
from benchmarks.hop import tables
from benchmarks.hop.run import PARTS
from memhop.data import TASK_NAMES, generate
from memhop.errors import MemhopError
from memhop.reproduce import table1_summary
from memhop.reproduce.paper import LARGE, SMALL
from memhop.reproduce.record import measured_on, read_rows

_PLACE = re.compile(
    r"(?P<begin><!-- table: (?P<name>[a-z0-9_]+) -->\n)(?P<body>.*?)(?P<end><!-- end of table -->)",
    re.DOTALL,
)
_SHOWN = 12  # statements of a story, at the most
NOT_MEASURED = "Not measured yet.\n"


class Table(NamedTuple):
    """The name of the CSV file that a table is made from, if from any, and how."""

    file: str | None
    made_from: Callable[[list[dict[str, str]]], str]


def fill(text: str, results: Path) -> str:
    """A document with every table in it made anew from the CSV files in ``results``."""

    def made(place: re.Match[str]) -> str:
        name = place["name"]
        if name not in TABLES:
            raise MemhopError(f"no table {name!r}; known: {', '.join(TABLES)}")
        rows: list[dict[str, str]] = []
        if TABLES[name].file:
            file = results / f"{TABLES[name].file}.csv"
            if place["body"] == NOT_MEASURED and not file.exists():
                return place[0]
            rows = read_rows(file)
        return f"{place['begin']}{TABLES[name].made_from(rows)}{place['end']}"

    return _PLACE.sub(made, text)


def _babi(rows: list[dict[str, str]]) -> str:
    lines = [
        "| bAbI task (1k) | test error | the paper's | mean of all restarts | seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        paper = SMALL["pe-ls-rn"][int(row["task"]) - 1]
        errors = (float(row["test_error"]), paper, float(row["mean_test_error"]))
        cells = [row["task"], *(f"{error:.1f}" for error in errors), f"{float(row['seconds']):.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    first = rows[0]
    note = (
        f"In %, of all {int(first['test_questions']):,} test questions; the restart of "
        f"{first['restarts']} with the lowest training error, seed {first['seed']}. "
        f"The paper's: Table 1, PE LS RN. {measured_on(first)}"
    )
    return "\n".join([*lines, "", note, ""])


def _sheet(
    made_from: Callable[[list[dict[str, str]]], tables.Sheet], rows: list[dict[str, str]]
) -> str:
    return f"{tables.markdown(made_from(rows))}\n{measured_on(rows[0])}\n"


def _importing(rows: list[dict[str, str]]) -> str:
    row = rows[0]
    beyond, torch = float(row["beyond_torch_seconds"]), float(row["import_torch_seconds"])
    return (
        f"`import memhop` takes {beyond:.2f} s beyond the {torch:.2f} s of `import torch` "
        f"(medians of {row['rounds']} fresh interpreters). {measured_on(row)}\n"
    )


def _hop(part: str, rows: list[dict[str, str]]) -> str:
    sheets = [sheet for sheet in tables.SHEETS[part](rows) if sheet.lines]
    if not sheets:
        return NOT_MEASURED
    own = [row for row in rows if row["part"].startswith(part)]
    below = " ".join(text for text in (tables.notes_of(own), measured_on(own[0])) if text)
    return "\n".join([*map(tables.markdown, sheets), f"{below}\n"])


def _stories_shown(_: list[dict[str, str]]) -> str:
    """One story of each kind, generated now."""
    parts = []
    for task, name in sorted(TASK_NAMES.items()):
        first = (next(generate(task, questions=2, seed=seed)) for seed in count())
        story = next(story for story in first if len(story.statements) <= _SHOWN)
        lines = "\n".join(line.replace("\t", "  ") for line in story.lines())
        parts.append(f"**{task}, {name.replace('-', ' ')}**\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


def _picture(file: str, title: str, _: list[dict[str, str]]) -> str:
    return f"![{title}]({file})\n"


TABLES = {
    "babi": Table("babi", _babi),
    "import": Table("import", _importing),
    "table1": Table("table1", partial(table1_summary.report, SMALL)),
    "table3": Table("table3", partial(table1_summary.report, LARGE)),
    "table1_time": Table("table1_time", partial(_sheet, table1_summary.minutes)),
    "best": Table("best", partial(table1_summary.report, SMALL)),
    "best_10k": Table("best_10k", partial(table1_summary.report, LARGE)),
    "answer": Table("answer", partial(_sheet, answer.sheet)),
    "attention": Table("attention", attention.markdown),
    "serve": Table("serve", partial(_sheet, serving.sheet)),
    "step": Table("step", partial(_sheet, step.sheet)),
    "length": Table("length", partial(_sheet, length.sheet)),
    "transfer": Table("transfer", partial(_sheet, transfer.sheet)),
    "stories_shown": Table(None, _stories_shown),
    "stories": Table("stories", partial(_sheet, stories.sheet)),
    "plot_length": Table("length", partial(_picture, "length.svg", "Error along the statements")),
    **{f"hop_{part}": Table(PARTS[part].file, partial(_hop, part)) for part in PARTS},
    "plot_table1": Table("table1", partial(_picture, "table1.svg", "Errors, ours and the paper's")),
    "plot_floor": Table("hop_speed", partial(_picture, "hop_floor.svg", "Time over the floor")),
    "plot_scaling": Table(
        "hop_scaling", partial(_picture, "hop_scaling.svg", "Time and memory as sizes grow")
    ),
}
