"""The site builds without a warning, names every public name, and loads nothing from elsewhere."""

import inspect
import re
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from tests.test_public_api import public
from tests.website.test_reference import value_of

pytest.importorskip("mkdocs", reason="needs memhop[docs]")

ROOT = Path(__file__).parents[2]
HOOKS = {"extra_repr", "to_files", "from_files"}  # of torch, and of `save_pretrained`
KINDS = [
    "how-it-works.html",
    "cli.html",
    "performance.html",
    "api/layers.html",
    "notebooks/layer.html",
]
READY, RESULT = "Type to start searching", ".md-search-result__link[href*='layer']"
INDEX_TIMEOUT_MS = 120_000  # only to fail at last
METHODS = (FunctionType, classmethod, staticmethod, property)
MADE_OF = {"memhop.picture": "memhop.picture.picture"}  # a module has the same name

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def pages(site: Path) -> list[str]:
    """Return the paths of the pages."""
    return sorted(file.relative_to(site).as_posix() for file in site.rglob("*.html"))


def inventory(site: Path) -> set[str]:
    """Return all names of the reference, of which each has an anchor."""
    content = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(content).decode().splitlines()
    return {line.split()[0] for line in lines}


def is_field(path: str) -> bool:
    """Return whether a path names a field, which the entry of its class lists."""
    owner, _, name = path.rpartition(".")
    kind = value_of(owner)
    routine = inspect.getattr_static(kind, name) if inspect.isclass(kind) else None
    return inspect.isclass(kind) and not isinstance(routine, METHODS)


def test_every_public_name_has_an_anchor(site: Path) -> None:
    names = inventory(site)
    missing = [path for path in public() if MADE_OF.get(path, path) not in names]
    missing = [path for path in missing if path.rpartition(".")[2] not in HOOKS]
    assert [path for path in missing if not is_field(path)] == []


def test_the_pages_of_other_files(site: Path) -> None:
    texts = {page: (site / page).read_text(encoding="utf-8") for page in pages(site)}
    assert "temporal encoding" in texts["glossary.html"]
    assert "phrase-swap augmentation" not in texts["contributing.html"]
    assert 'href="log.html"' in texts["contributing.html"]
    assert 'id="key_value_memory"' in texts["examples.html"]
    assert 'href="examples.html#key_value_memory"' in texts["layer.html"]
    assert "<svg" in texts["notebooks/layer.html"]
    assert 'href="../layer.html"' in texts["notebooks/layer.html"]


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=\"?(?:https?:)?//[^\">]*"
    )
    found = [(page, text) for page in pages(site)
             for text in loaded.findall((site / page).read_text(encoding="utf-8"))]  # fmt: skip
    assert found == []


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    """Serve the site, and return its address."""
    handler = partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def test_in_a_browser_pages_fit_a_phone_and_search_works(browser: Any, address: str) -> None:
    from tests.web.browser import PHONE, Visit

    visit = Visit(browser, address, viewport=PHONE)
    wide = []
    for page in KINDS:
        visit.page.goto(address + page)
        if visit.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(page)
    assert wide == []
    visit.page.goto(address)
    visit.page.click("header label[for=__search]")
    # what is entered before the index is ready finds nothing
    visit.page.wait_for_selector(f"text={READY}", timeout=INDEX_TIMEOUT_MS)
    visit.page.type("input[name=query]", "temporal_slots")
    visit.page.wait_for_selector(RESULT, timeout=INDEX_TIMEOUT_MS)
    visit.check_clean()
    visit.close()
