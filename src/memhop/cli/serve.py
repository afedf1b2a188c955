"""``memhop serve``: a web page that answers questions."""

from typing import Annotated

import typer

from memhop.cli.encoder import EncoderName, load_encoder
from memhop.cli.screen import print_line, print_progress, warnings_as_lines
from memhop.cli.settings import Threads, choose_model, complete_model, use
from memhop.cli.store.search import load_hops
from memhop.errors import MemhopError

app = typer.Typer()


@app.command()
def serve(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Runs and models as for memhop ask, and paths of stores. Default: as there.",
            autocompletion=complete_model,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. The default accepts only this machine. Any other address "
            "gives everyone who can reach it access, with no password and no encryption."
        ),
    ] = "127.0.0.1",
    threads: Threads = 1,
    encoder: EncoderName = None,
    hops: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Run or folder of a retrieval model, which searches the stores."
        ),
    ] = None,
) -> None:
    """Serve a page that answers questions, or searches stores.

    The server stores and logs no stories and no questions. Other programs can send requests to
    /api/answer, /api/kb/answer and /api/store/search; see /docs. Needs memhop[serve].
    """
    use(threads)
    encode = load_encoder(encoder)
    try:
        from memhop.web import models, server
    except ModuleNotFoundError as error:
        raise MemhopError(f"serve needs {error.name}: pip install 'memhop[serve]'") from error
    with warnings_as_lines():
        model = None if hops is None else load_hops(hops)
        served = models.load(runs or [choose_model(None, kind=None)], encoder=encode, hops=model)
    if not server.is_loopback(host):
        print_progress(f"{host}: everyone who can reach this machine can ask, without a password")

    def ready(address: str) -> None:
        for one in served.values():
            error = None if isinstance(one, models.ServedStore) else one.test_error
            print_line(one.name if error is None else f"{one.name}: test error {error:.1f}%")
        print_line(f"{address}  (stop with Ctrl-C)", "bold")

    server.serve(served, host=host, port=port, on_ready=ready)
