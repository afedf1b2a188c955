"""``memhop serve``: a web page that answers questions."""

from typing import Annotated

import typer

from memhop.cli.screen import print_line, print_progress, warnings_as_lines
from memhop.cli.settings import Threads, complete_run, use
from memhop.errors import MemhopError

app = typer.Typer()


@app.command()
def serve(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Names or paths of runs. Default: the newest.",
            autocompletion=complete_run,
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
) -> None:
    """Serve a page that answers questions about stories or facts.

    The server stores and logs no stories and no questions. Other programs can send requests to
    /api/answer and /api/kb/answer; see /docs. Needs memhop[serve].
    """
    use(threads)
    try:
        from memhop.web import models, server
    except ModuleNotFoundError as error:
        raise MemhopError(f"serve needs {error.name}: pip install 'memhop[serve]'") from error
    with warnings_as_lines():
        served = models.load(runs or [None])
    if not server.is_loopback(host):
        print_progress(f"{host}: everyone who can reach this machine can ask, without a password")

    def ready(address: str) -> None:
        for one in served.values():
            error = "" if one.test_error is None else f": test error {one.test_error:.1f}%"
            print_line(f"{one.name}{error}")
        print_line(f"{address}  (stop with Ctrl-C)", "bold")

    server.serve(served, host=host, port=port, on_ready=ready)
