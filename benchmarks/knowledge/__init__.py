"""Measure knowledge over a million generated facts: loading, answers, and single reads.

The degrees of the entities follow Zipf's law, and one has a tenth of all facts. Each part runs in a
fresh process.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.hop import run_child, status_line
from benchmarks.knowledge.answers import FACTS_FILE, MODEL, trained
from benchmarks.knowledge.rows import PARTS, sheets
from benchmarks.knowledge.zipf import generate_zipf
from memhop.cli.reproduce import Tiny
from memhop.cli.settings import Threads, use
from memhop.knowledge.facts import KnowledgeBase

__all__ = ["measure", "sheets"]

_FACTS, _TINY_FACTS = 1_000_000, 20_000


def measure(threads: Threads = 1, tiny: Tiny = False) -> Iterator[list[dict[str, Any]]]:
    """Measure loading and answers over a million facts."""
    use(threads)
    facts = _TINY_FACTS if tiny else _FACTS
    with tempfile.TemporaryDirectory() as name, status_line() as show:
        folder = Path(name)
        show("facts")
        write_facts(folder / FACTS_FILE, generate_zipf(facts=facts, hub=facts // 10))
        show("training")
        trained(tiny).save(folder / MODEL)
        for part in PARTS:
            job = {"measures": [part], "threads": threads, "tiny": tiny, "folder": name}
            for _, rows in run_child("knowledge", job, {}, show):
                yield rows


def write_facts(path: Path, kb: KnowledgeBase) -> None:
    """Write the facts as a TSV file."""
    with path.open("w", encoding="utf-8") as file:
        for subject, relation, target in kb.facts.tolist():
            names = kb.entities[subject], kb.relations[relation], kb.entities[target]
            file.write("\t".join(names) + "\n")
