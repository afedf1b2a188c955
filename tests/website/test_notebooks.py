"""The notebooks run, and store outputs of the same kinds.

``python -m tests.website.test_notebooks`` runs them and stores their outputs.
"""

from itertools import chain
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="needs memhop[docs]")
nbformat = pytest.importorskip("nbformat", reason="needs memhop[docs]")
pytest.importorskip("ipykernel", reason="needs memhop[docs]")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
Kinds = list[list[tuple[str, list[str]]]]


def executed(file: Path, folder: Path) -> Any:
    """Return a notebook with new outputs; its cells run in a folder. A cell that fails raises."""
    notebook = nbformat.read(file, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    return notebook


def kinds(notebook: Any) -> Kinds:
    """Return the types of the outputs of each code cell, with their formats."""
    return [
        [(output.output_type, sorted(output.get("data", ()))) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_and_stores_its_outputs(file: Path, tmp_path: Path) -> None:
    stored = nbformat.read(file, as_version=4)
    assert kinds(executed(file, tmp_path)) == kinds(stored)
    assert not list(tmp_path.iterdir())


def test_the_notebooks_are_found_and_draw_pictures() -> None:
    assert [file.stem for file in NOTEBOOKS] == ["layer", "stories_and_facts"]
    for file in NOTEBOOKS:
        stored = kinds(nbformat.read(file, as_version=4))
        assert ("execute_result", ["text/html", "text/plain"]) in chain.from_iterable(stored)


@pytest.mark.slow
def test_a_notebook_with_an_error_fails(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, tmp_path / "wrong.ipynb")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        executed(tmp_path / "wrong.ipynb", tmp_path)


if __name__ == "__main__":
    for file in NOTEBOOKS:
        notebook = executed(file, file.parent)
        for cell in notebook.cells:
            cell.metadata = {}  # when it ran
        nbformat.write(notebook, file)
