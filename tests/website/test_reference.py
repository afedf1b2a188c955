"""Every public name is in the API reference: docs/api has a line ``::: NAME`` for it."""

import importlib
import re
from pathlib import Path
from typing import Any

from tests.test_public_api import MODULES

API = Path(__file__).parents[2] / "docs" / "api"
ENTRY = re.compile(r"^::: (\S+)$", re.MULTILINE)


def value_of(path: str) -> Any:
    """Return what a path names; a module is found by its last step, even if a name hides it."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError):
        return importlib.import_module(path)


def identity(value: Any, path: str) -> str:
    """Return the path of the definition of a value, or the given path of a constant."""
    name = getattr(value, "__qualname__", getattr(value, "__name__", None))
    module = getattr(value, "__module__", None)
    return f"{module}.{name}" if name and module else path


def missing(entries: set[str]) -> list[str]:
    """Return the public names for which there is no entry."""
    shown = {identity(value_of(path), path) for path in entries} | entries
    modules = {path: importlib.import_module(path) for path in MODULES}
    public = [f"{path}.{name}" for path, module in modules.items() for name in module.__all__]
    return [path for path in public if identity(value_of(path), path) not in shown]


def entries() -> list[str]:
    return [path for page in sorted(API.glob("*.md")) for path in ENTRY.findall(page.read_text())]


def test_every_public_name_has_an_entry() -> None:
    assert missing(set(entries())) == [], "add a line `::: NAME` to a page of docs/api"


def test_a_name_without_an_entry_is_found() -> None:
    less = set(entries()) - {"memhop.knowledge.read_facts", "memhop.data.SPLITS"}
    assert missing(less) == ["memhop.data.SPLITS", "memhop.knowledge.read_facts"]


def test_no_name_has_two_entries() -> None:
    found = [identity(value_of(path), path) for path in entries()]
    assert sorted(found) == sorted(set(found))


def test_the_list_of_packages_is_that_of_the_public_api() -> None:
    source = (API.parent / "website" / "docstrings.py").read_text(encoding="utf-8")
    listed = re.search(r"^PACKAGES = \((.*?)^\)", source, re.MULTILINE | re.DOTALL)
    assert listed
    assert re.findall(r'"([\w.]+)"', listed[1]) == list(MODULES)
