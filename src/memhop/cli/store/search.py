"""``memhop store search``: the rows that each hop of a query reads most."""

import json as json_format
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from memhop.checkpoint import RETRIEVAL
from memhop.cli.encoder import EncoderName, encoded, load_encoder
from memhop.cli.screen import print_json
from memhop.cli.settings import Json, Threads, use
from memhop.cli.store.folder import find_record, open_store
from memhop.cli.store.hits import print_hits
from memhop.cli.store.options import Folder, Since, Until, Where, parse_limits
from memhop.cli.store.records import parse_vector
from memhop.errors import MemhopError, shown
from memhop.lines import fault, json_lines
from memhop.retrieval import Encoder, RetrievalModel
from memhop.runs import find_checkpoint

if TYPE_CHECKING:
    from memhop.storage.store import Store

app = typer.Typer()


@app.command()
def search(
    folder: Folder,
    text: Annotated[
        list[str] | None, typer.Option(help="A text, for --encoder; give it repeatedly.")
    ] = None,
    id: Annotated[
        list[str] | None, typer.Option(help="Id of a row, whose vector is the query; repeatedly.")
    ] = None,
    vector: Annotated[
        list[str] | None, typer.Option(help="A JSON list of numbers; repeatedly.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(help="File with a JSON object a line: a 'vector', a 'text' or an 'id'."),
    ] = None,
    hops: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Run or folder of a retrieval model. Default: one read, by inner products.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=10_000, help="Rows of each hop.")] = 5,
    where: Where = None,
    since: Since = None,
    until: Until = None,
    encoder: EncoderName = None,
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Search a store: the rows that each hop of a query reads most.

    For each hop: how much of its attention the rows cover, and of each row the weight, the id, and
    the text or else the payload. Without --hops there is one read, whose weights are a softmax of
    the inner products.
    """
    use(threads)
    encode = load_encoder(encoder)
    limits = parse_limits(where, since, until)
    model = None if hops is None else load_hops(hops)
    with open_store(folder, read_only=True, encoder=encode) as store:
        asked = [
            *(_Query("text", one, _encoded(store, one, encode)) for one in text or ()),
            *(_Query("id", one, _of_row(store, one)) for one in id or ()),
            *(_Query("vector", one, _of_json(store, one)) for one in vector or ()),
            *(() if queries is None else _of_file(store, queries, encode)),
        ]
        if not asked and queries is None:
            raise MemhopError("expected a query: --text, --id, --vector or --queries")
        vectors = np.array([one.vector for one in asked]).reshape(len(asked), store.dim)
        found = store.search(vectors, model, k, **limits)
    if json:
        print_json([
            {one.kind: one.shown, "hops": [asdict(hit) for hit in hits]}
            for one, hits in zip(asked, found, strict=True)
        ])  # fmt: skip
        return
    is_filtered = any(limit is not None for limit in limits.values())
    for number, (one, hits) in enumerate(zip(asked, found, strict=True)):
        title = f"{one.kind} {one.title}"
        print_hits(title, hits, is_first=number == 0, is_filtered=is_filtered)


class _Query(NamedTuple):
    """A query: its kind (text, id, vector), what was given, and its vector."""

    kind: str
    shown: Any
    vector: NDArray[np.float32]

    @property
    def title(self) -> str:
        return self.shown if isinstance(self.shown, str) else json_format.dumps(self.shown)


def load_hops(name: str) -> RetrievalModel:
    """Return a retrieval model, by its folder or the name of a run."""
    return RetrievalModel.load(find_checkpoint(name, RETRIEVAL))


def _encoded(store: "Store", text: str, encoder: Encoder | None) -> NDArray[np.float32]:
    if encoder is None:
        raise MemhopError("a text needs --encoder MODULE:FUNCTION, that of the rows")
    vector: NDArray[np.float32] = encoded(encoder, [text], store.dim)[0]
    return vector


def _of_row(store: "Store", name: str) -> NDArray[np.float32]:
    vector = find_record(store, name).vector
    assert vector is not None
    return np.asarray(vector.numpy(), dtype=np.float32)


def _of_json(store: "Store", text: str) -> NDArray[np.float32]:
    try:
        value = json_format.loads(text)
    except (ValueError, RecursionError):
        raise MemhopError(f"--vector: expected a JSON list, got {shown(text)}") from None
    return parse_vector(value, store.dim)


def _of_file(store: "Store", path: Path, encoder: Encoder | None) -> Sequence[_Query]:
    """Return the queries of a file.

    Raises:
        MemhopError: a line that is none, with the file and the line.
    """
    found: list[_Query] = []
    for number, query in json_lines(path):
        try:
            found.append(_of_line(store, query, encoder))
        except MemhopError as error:
            raise fault(path, number, str(error)) from None
    return found


def _of_line(store: "Store", query: dict[str, Any], encoder: Encoder | None) -> _Query:
    kinds = [kind for kind in ("vector", "text", "id") if query.get(kind) is not None]
    if len(kinds) != 1:
        got = " and ".join(kinds) or shown(query)
        raise MemhopError(f"expected a vector, a text or an id, got {got}")
    [kind] = kinds
    value = query[kind]
    if kind == "vector":
        return _Query(kind, value, parse_vector(value, store.dim))
    if kind == "text":
        return _Query(kind, value, _encoded(store, value, encoder))
    [record] = store.get([value])
    assert record.vector is not None
    return _Query(kind, value, np.asarray(record.vector.numpy(), dtype=np.float32))
