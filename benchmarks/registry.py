"""Find the benchmarks: the modules of this package that define ``measure``.

A benchmark is one file. It defines

- ``measure(...)``: a generator that yields lists of rows. Its docstring is the help of the command
  and its parameters are the options; the runner adds ``--to`` unless ``measure`` has it.
- ``sheets(rows)``: the tables of the rows, with every value a string. A document holds them between
  ``<!-- table: NAME -->`` and ``<!-- end of table -->``; they come from ``results/NAME.csv``.

It may define

- ``NAME``, if the name of the module cannot be the name of the command.
- ``sort_key(row)``, if the rows come in another order than that of the file.
- ``TABLES``, in place of the table ``NAME``, and ``PLOTS``, by the names that documents use.
"""

import pkgutil
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import benchmarks
from memhop.reproduce.record import Rows, document

NOT_MEASURED = "Not measured yet.\n"


class DocumentTable(NamedTuple):
    """A table of a document: its CSV file, if any, and its text from the rows."""

    file: str | None
    text: Callable[[Rows], str]


class Plot(NamedTuple):
    """A picture: the SVG file, its CSV file, its title, its SVG text from the rows."""

    picture: str
    file: str
    title: str
    svg: Callable[[Rows], str]


def drawn_by(module: str, draw: str) -> Callable[[Rows], str]:
    """Return a function that draws rows as SVG; it imports what needs ``memhop[plot]``."""

    def svg(rows: Rows) -> str:
        from memhop.reproduce import plot

        return plot.svg(getattr(import_module(module), draw), rows)

    return svg


def find_benchmarks() -> dict[str, ModuleType]:
    """Return the benchmarks by name."""
    modules = (
        import_module(f"benchmarks.{found.name}")
        for found in pkgutil.iter_modules(benchmarks.__path__)
        if not found.name.startswith("_")
    )
    return {
        getattr(module, "NAME", module.__name__.rpartition(".")[2]): module
        for module in modules
        if hasattr(module, "measure")
    }


def tables_of(name: str, benchmark: ModuleType) -> dict[str, DocumentTable]:
    """Return the tables that documents may hold of a benchmark, by name."""

    def text(rows: Rows) -> str:
        return document(rows, *benchmark.sheets(rows))

    tables: dict[str, DocumentTable] = getattr(
        benchmark, "TABLES", {name: DocumentTable(name, text)}
    )
    return tables
