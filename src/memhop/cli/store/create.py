"""``memhop store create``: make an empty store."""

from typing import Annotated

import torch
import typer

from memhop.cli.screen import print_json, print_line, program
from memhop.cli.settings import Json
from memhop.cli.store.folder import described, is_store, open_store
from memhop.cli.store.options import Folder
from memhop.errors import MemhopError, shown

DTYPES = ("float32", "bfloat16", "float16", "int8")

app = typer.Typer()


@app.command()
def create(
    folder: Folder,
    dim: Annotated[int, typer.Option(min=1, help="Numbers of a vector.")],
    dtype: Annotated[
        str,
        typer.Option(
            help="Of the stored numbers: float32, bfloat16, float16, or int8 with a "
            "scale for each row."
        ),
    ] = "float32",
    json: Json = False,
) -> None:
    """Create an empty store.

    It is a folder for vectors with ids, texts, payloads and times. Add records to it with memhop
    store add. A folder that exists must be empty.
    """  # fmt: skip
    if dtype not in DTYPES:
        raise MemhopError(f"--dtype: expected one of {', '.join(DTYPES)}, got {shown(dtype)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        got = (
            f"a store: {program()} store add adds records to it" if is_store(folder) else "another"
        )
        raise MemhopError(f"{folder}: expected a new or an empty folder, got {got}")
    with open_store(folder, dim=dim, dtype=getattr(torch, dtype)) as store:
        if json:
            print_json(described(store))
            return
        print_line(f"{folder}: a store of vectors of {dim} numbers in {dtype}")
        print_line(f"add records: {program()} store add {folder} FILE.jsonl", "dim")
