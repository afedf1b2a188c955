"""``memhop serve``: a page to ask one's own questions on."""

from typing import Annotated

import typer

from memhop.cli import completion
from memhop.cli.screen import say, say_progress, warnings_as_lines
from memhop.cli.settings import Threads, use
from memhop.errors import MemhopError

app = typer.Typer()


@app.command()
def serve(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Names or paths of runs. Without: the newest.",
            autocompletion=completion.runs,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes a free one.")
    ] = 8000,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen at. The default is reached from this machine alone; any other "
            "opens the models to whoever can reach it, with no password and no encryption."
        ),
    ] = "127.0.0.1",
    threads: Threads = 1,
) -> None:
    """Serve a page that answers questions about stories.

    Stories stay on the page and in the memory of this program: nothing is stored or logged.
    Other programs ask at /api/answer, described at /docs. Needs memhop[serve].
    """
    use(threads)
    try:
        from memhop.web import models, server
    except ModuleNotFoundError as error:
        raise MemhopError(f"serve needs {error.name}: pip install 'memhop[serve]'") from error
    with warnings_as_lines():
        served = models.load(runs or [None])
    if not server.is_loopback(host):
        say_progress(f"{host}: whoever can reach this machine can ask; nothing wants a password")

    def ready(address: str) -> None:
        for one in served.values():
            known = "" if one.test_error is None else f": test error {one.test_error:.1f}%"
            say(f"{one.name}{known}")
        say(f"{address}  (Ctrl-C ends)", "bold")

    server.serve(served, host=host, port=port, on_ready=ready)
