"""Take the screenshots of the page for the docs.

python -m tests.web.pictures runs/demo runs/kb-demo docs
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.serve import SERVE, running
from memhop import Store
from memhop.retrieval import RetrievalModel
from tests.retrieval.hashed_encoder import DIM, encode

from .browser import DESKTOP, PHONE, Visit, chromium, launched_browser

STORY = ("Mary took the milk.", "John went to the office.", "Mary went to the garden.",
         "Sandra got the apple there.", "A zebra moved to the hallway.")  # fmt: skip
QUESTION = "Where is the milk?"
PICTURES: dict[str, dict[str, Any]] = {
    "page.png": {"viewport": DESKTOP | {"height": 720}},
    "page-dark.png": {"viewport": DESKTOP | {"height": 720}, "color_scheme": "dark"},
    "page-phone.png": {"viewport": PHONE | {"height": 1000}},
}


KNOWLEDGE_PICTURES: dict[str, dict[str, Any]] = {
    "knowledge-page.png": {"viewport": DESKTOP | {"height": 1080}},
}


STORE_PICTURES: dict[str, dict[str, Any]] = {
    "store-page.png": {"viewport": DESKTOP | {"height": 780}},
}


def write_store(folder: Path) -> list[str]:
    """Write a store of sentences and a model of two hops; return the arguments of the server."""
    sentences = [
        f"{person} {verb} the {thing} in the {place}."
        for person in ("Mary", "John", "Sandra", "Daniel")
        for verb in ("took", "left")
        for thing in ("milk", "apple", "football")
        for place in ("garden", "office", "kitchen")
    ]
    payloads = [{"page": 1 + row // 9} for row in range(len(sentences))]
    with Store(folder / "notes", DIM, encoder=encode) as store:
        store.add(texts=sentences, payloads=payloads)
    model = RetrievalModel(DIM, DIM, 2)
    model.save(folder / "hops")
    encoder = f"{encode.__module__}:{encode.__name__}"
    return [str(folder / "notes"), "--hops", str(folder / "hops"), "--encoder", encoder]


def take(served: list[str], pictures: dict[str, dict[str, Any]], folder: Path) -> None:
    """Take pictures of the page: with the story, or with the first query that it shows."""
    path = chromium()
    if path is None:
        sys.exit("no Chromium found")
    with running((*SERVE, *served)) as (port, _), launched_browser(path) as browser:
        for name, options in pictures.items():
            visit = Visit(browser, f"http://127.0.0.1:{port}/", **options).open()
            if pictures is PICTURES:
                visit.enter(*STORY, question=QUESTION)
            else:
                visit.wait_for_answer()
            visit.page.screenshot(path=folder / name)
            visit.check_clean()
            print(folder / name)


if __name__ == "__main__":
    stories, knowledge, folder = sys.argv[1:]
    take([stories], PICTURES, Path(folder))
    take([knowledge], KNOWLEDGE_PICTURES, Path(folder))
    with TemporaryDirectory() as temporary:
        take(write_store(Path(temporary)), STORE_PICTURES, Path(folder))
