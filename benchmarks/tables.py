"""Fill the tables in README and docs, and draw their plots, from the CSV rows.

A table that says ``Not measured yet.`` stays as it is until its CSV file exists.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.registry import (
    NOT_MEASURED,
    DocumentTable,
    Plot,
    drawn_by,
    find_benchmarks,
    tables_of,
)
from memhop.atomic_write import atomic_write
from memhop.data import TASK_NAMES, generate
from memhop.errors import MemhopError
from memhop.language_model import LanguageRecipe
from memhop.ops.fused.backends import BACKENDS, OPTIONS
from memhop.reproduce import babi, best_report, metaqa, pathquestion, ptb, table1_report
from memhop.reproduce.paper import LARGE, SMALL
from memhop.reproduce.record import Rows, document, make_folder, read_rows

_TABLE = re.compile(
    r"(?P<begin><!-- table: (?P<name>[a-z0-9_]+) -->\n)(?P<body>.*?)(?P<end><!-- end of table -->)",
    re.DOTALL,
)
_MAX_STATEMENTS = 12  # of a story that is shown


def fill(text: str, results: Path) -> str:
    """Return a document with each table made from the CSV files in ``results``."""
    known = document_tables()

    def filled(place: re.Match[str]) -> str:
        name = place["name"]
        if name not in known:
            raise MemhopError(f"no table {name!r}; known: {', '.join(known)}")
        table, rows = known[name], []
        file = results / f"{table.file}.csv"
        if table.file:
            if place["body"] == NOT_MEASURED and not file.exists():
                return place[0]
            rows = read_rows(file)
        try:
            return f"{place['begin']}{table.text(rows)}{place['end']}"
        except (LookupError, TypeError, ValueError) as error:
            raise MemhopError(f"{file}: expected the rows of its benchmark") from error

    return _TABLE.sub(filled, text)


def draw(results: Path, folder: Path) -> Iterator[Path]:
    """Draw the plots whose CSV files exist; yield the path of each."""
    for plot in plots().values():
        file = results / f"{plot.file}.csv"
        if not file.exists():
            continue
        try:
            svg = plot.svg(read_rows(file))
        except (LookupError, TypeError, ValueError) as error:
            raise MemhopError(f"{file}: expected the rows of its benchmark") from error
        make_folder(folder)
        with atomic_write(folder / plot.picture) as out:
            out.write(svg)
        yield folder / plot.picture


def plots() -> dict[str, Plot]:
    """Return the plots by name."""
    found = {
        "table1": Plot(
            "table1.svg",
            "table1",
            "Errors, ours and the paper's",
            drawn_by("memhop.reproduce.plot", "table1"),
        )
    }
    for benchmark in find_benchmarks().values():
        found |= getattr(benchmark, "PLOTS", {})
    return found


def document_tables() -> dict[str, DocumentTable]:
    """Return the tables and pictures that a document may hold, by name."""
    known = {name: DocumentTable(name, text) for name, text in _REPRODUCED.items()}
    for name, benchmark in find_benchmarks().items():
        known |= tables_of(name, benchmark)
    known["stories_shown"] = DocumentTable(None, _stories_shown)
    known["backends"] = DocumentTable(None, _backends)
    known["language_settings"] = DocumentTable(None, _language_settings)
    for name, plot in plots().items():
        line = f"![{plot.title}]({plot.picture})\n"
        known[f"plot_{name}"] = DocumentTable(plot.file, partial(_picture, line))
    return known


def _table1(paper: table1_report.Paper, rows: Rows) -> str:
    return document(rows, table1_report.sheet_of(rows, paper))


def _best(paper: table1_report.Paper, rows: Rows) -> str:
    return document(rows, best_report.sheet_of(rows, paper))


_REPRODUCED: dict[str, Callable[[Rows], str]] = {
    "babi": lambda rows: document(rows, babi.sheet(rows)),
    "table1": partial(_table1, SMALL),
    "table3": partial(_table1, LARGE),
    "table1_time": lambda rows: document(rows, table1_report.minutes(rows)),
    "best": partial(_best, SMALL),
    "best_10k": partial(_best, LARGE),
    "pathquestion": lambda rows: document(rows, pathquestion.sheet(rows)),
    "metaqa": lambda rows: document(rows, metaqa.sheet(rows)),
    "ptb": lambda rows: document(rows, ptb.sheet(rows)),
}


def _picture(line: str, rows: Rows) -> str:
    return line


def _backends(_: Rows) -> str:
    """List the options that each backend supports."""
    lines = [f"| | {' | '.join(BACKENDS)} |", f"|---|{':---:|' * len(BACKENDS)}"]
    devices = ["/".join(each.devices) or "all" for each in BACKENDS.values()]
    lines.append(f"| devices | {' | '.join(devices)} |")
    for key, option in OPTIONS.items():
        cells = ["yes" if key in each.options else "-" for each in BACKENDS.values()]
        lines.append(f"| {option.label} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _language_settings(_: Rows) -> str:
    """List the settings of a language model with the values of its named recipes."""
    paper, best = LanguageRecipe.paper().to_json(), LanguageRecipe.best().to_json()
    rows = [f"| `{name}` | {value} | {best[name]} |" for name, value in paper.items()]
    return "\n".join(["| setting | `paper` | `best` |", "|---|---|---|", *rows, ""])


def _stories_shown(_: Rows) -> str:
    """Generate a story of each task."""
    sheets = []
    for task, name in sorted(TASK_NAMES.items()):
        first = (next(generate(task, questions=2, seed=seed)) for seed in count())
        story = next(story for story in first if len(story.statements) <= _MAX_STATEMENTS)
        lines = "\n".join(line.replace("\t", "  ") for line in story.lines())
        sheets.append(f"**{task}, {name.replace('-', ' ')}**\n\n```text\n{lines}\n```\n")
    return "\n".join(sheets)
