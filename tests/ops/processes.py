"""Scripts in processes of their own, where what hangs is a failure and not a suite that stops."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_script(script: str, *arguments: str, path: tuple[Path, ...] = (), **env: str | None) -> str:
    """What a Python script prints.

    Args:
        script: its text.
        arguments: its ``sys.argv[1:]``.
        path: where it looks for modules before anywhere else; then in the repository's root,
            where the package ``tests`` lies.
        env: environment variables to set, or with None to leave out.
    """
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    entries = [*map(str, path), str(ROOT), *filter(None, inherited)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entries), **env}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env={name: value for name, value in environment.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
