"""Count what a store loses when its process is killed, and when the power fails.

A child process adds, updates, deletes and compacts at random, and acknowledges each change. It is
killed at random moments. For power failures, the calls that write and sync files are recorded, also
those of SQLite; a replay applies the calls before a random point, drops what was not synced, and
opens the store that is left. A store must hold all changes that were acknowledged, and the one that
was running whole or not at all.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.child_processes import child_command, child_environment
from benchmarks.store_crash.recording import record
from benchmarks.store_crash.replays import replay
from memhop.cli.reproduce import Tiny
from memhop.errors import MemhopError
from memhop.reproduce.record import Rows, Sheet, provenance

NAME = "crash"
_SEEDS = (0, 1)  # float32 and int8
_PROCESSES, _CHANGES = 3, 30  # of a recording
_METHODS = ("add", "update", "delete", "compact", "create", "")
KILL, POWER_FAILURE = "SIGKILL", "power failure"


def measure(
    kills: Annotated[int, typer.Option(min=1, help="Processes to kill.")] = 200,
    replays: Annotated[int, typer.Option(min=0, help="Power failures to replay.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the changes and failures.")] = 0,
    tiny: Tiny = False,
) -> Iterator[list[dict[str, Any]]]:
    """Count rows that a store loses by kills and power failures."""
    if tiny:
        kills, replays = 10, 10
    yield _summary(KILL, _kills(kills, seed, tiny))
    if replays and shutil.which("strace") is None:
        yield [_row(POWER_FAILURE, "skipped: no strace", [])]
    elif replays:
        yield _summary(POWER_FAILURE, _replays(replays, seed, tiny))


def _kills(kills: int, seed: int, tiny: bool) -> list[dict[str, Any]]:
    rounds: list[dict[str, Any]] = []
    for each, count in _shares(kills, tiny):
        with tempfile.TemporaryDirectory() as folder:
            job = json.dumps({"folder": folder, "kills": count, "seed": 2 * seed + each})
            # A process of its own, as its children must not have threads of others.
            run = subprocess.run(
                child_command("store_crash.kills", job), env=child_environment(),
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        found = [json.loads(line) for line in run.stdout.splitlines()]
        if run.returncode or (len(found) < count and not found[-1]["error"]):
            last = (run.stderr.strip().splitlines() or [str(run.returncode)])[-1]
            raise MemhopError(f"benchmark crash: a process failed: {last:.200}")
        rounds += found
    return rounds


def _replays(replays: int, seed: int, tiny: bool) -> list[dict[str, Any]]:
    outcomes: list[dict[str, Any]] = []
    for each, count in _shares(replays, tiny):
        with tempfile.TemporaryDirectory() as name:
            folder, number = Path(name).resolve(), 2 * seed + each
            processes, changes = (2, 10) if tiny else (_PROCESSES, _CHANGES)
            recorded = record(folder, number, processes, changes)
            outcomes += [one._asdict() for one in replay(recorded, folder, number, count, seed)]
    return outcomes


def _shares(count: int, tiny: bool) -> list[tuple[int, int]]:
    """Return the events of each seed."""
    if tiny:
        return [(_SEEDS[0], count)]
    return [(each, (count + place) // len(_SEEDS)) for place, each in enumerate(_SEEDS)]


def _summary(event: str, outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for method in _METHODS:
        found = [one for one in outcomes if one["in_flight"] == method]
        if found:
            rows.append(_row(event, method or "none", found))
    return rows


def _row(event: str, in_flight: str, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "event": event,
        "in_flight": in_flight,
        "count": len(outcomes),
        "acknowledged_changes": sum(one.get("acknowledged", 0) for one in outcomes),
        "lost_rows": sum(one["lost"] for one in outcomes),
        "wrong_rows": sum(one["wrong"] for one in outcomes),
        "failures": sum(bool(one["error"]) for one in outcomes),
        **provenance(),
    }


def sheets(rows: Rows) -> list[Sheet]:
    """Return the rows as a table."""
    lines = []
    for event in (KILL, POWER_FAILURE):
        of_event = [row for row in rows if row["event"] == event]
        lines += [_cells(row["in_flight"], event, [row]) for row in of_event]
        if len(of_event) > 1:
            lines.append(_cells("all", event, of_event))
    columns = ("event", "running change", "events", "lost rows", "wrong rows", "not opened")
    changes = sum(int(row["acknowledged_changes"]) for row in rows)
    note = (
        f"Lost: rows that were acknowledged and are missing. {changes:,} changes were acknowledged "
        "before the kills."
    )
    return [Sheet("A store after kills and power failures", columns, lines, note)]


def _cells(in_flight: str, event: str, rows: Rows) -> list[str]:
    names = ("count", "lost_rows", "wrong_rows", "failures")
    return [event, in_flight, *(str(sum(int(row[name]) for row in rows)) for name in names)]
