"""Hooks of MkDocs: pages that are made from other files, and links to files outside of docs."""

import ast
import json
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))  # MkDocs runs this file, not the package

from website.docstrings import PACKAGES  # noqa: E402

PAGE_OF = {  # files outside of docs, and the page that shows each
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples": "examples.md",
    "src/memhop/pretrained/models/stories/README.md": "stories-model.md",
}
_COMMENT = re.compile(r"^<!--.*?-->$", re.MULTILINE)
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=[)\s])")
_GLOSSARY = "## Glossary\n"
_NAMES = "<!-- public names -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from other files."""
    pages = {"changelog.md": _read("CHANGELOG.md"), "examples.md": _examples()}
    pages["stories-model.md"] = _read("src/memhop/pretrained/models/stories/README.md")
    text, _, glossary = _read("CONTRIBUTING.md").partition(_GLOSSARY)
    see = "The terms are in the [glossary](docs/glossary.md).\n"
    pages["contributing.md"] = f"{text}{_GLOSSARY}\n{see}"
    pages["glossary.md"] = f"# Glossary\n{glossary}"
    for file in sorted(Path(config.docs_dir).glob("notebooks/*.ipynb")):
        pages[f"notebooks/{file.stem}.md"] = notebook_page(json.loads(file.read_text("utf-8")))
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Direct links to files outside of docs to their pages; fill the list of public names."""
    names = _public_names() if _NAMES in markdown else ""
    return with_links(markdown.replace(_NAMES, names), page.file.src_uri)


def with_links(markdown: str, page: str) -> str:
    """Return the text of a page, its links leading to pages of the site, without comments."""
    is_of_root = page in ("contributing.md", "glossary.md", "changelog.md")
    folder = "" if is_of_root else posixpath.join("docs", posixpath.dirname(page))
    parts = _FENCE.split(markdown)
    for index in range(0, len(parts), 2):
        text = _COMMENT.sub("", parts[index])
        parts[index] = _LINK.sub(lambda link: _target(link, folder, page), text)
    return "".join(parts)


def _target(link: re.Match[str], folder: str, page: str) -> str:
    path, anchor = link[1], link[2] or ""
    file = posixpath.normpath(posixpath.join(folder, path))
    shown = PAGE_OF.get(file)
    if (file, anchor) == ("CONTRIBUTING.md", "#glossary"):
        shown, anchor = "glossary.md", ""
    if shown is None and file.startswith("examples/"):
        shown, anchor = PAGE_OF["examples"], f"#{Path(file).stem}"
    if shown is None:
        if not file.startswith("docs/"):
            raise PluginError(f"{page}: expected a link to a page of the site, got {path}")
        shown = re.sub(r"\.ipynb$", ".md", file.removeprefix("docs/"))
    return posixpath.relpath(shown, posixpath.dirname(page) or ".") + anchor


def notebook_page(notebook: dict[str, Any]) -> str:
    """Return a notebook, with its stored outputs, as Markdown."""
    return "\n\n".join(part for cell in notebook["cells"] for part in _cell(cell)) + "\n"


def _cell(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    return [f"```python\n{source}\n```", *map(_output, cell["outputs"])]


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {"text/plain": output.get("text", "")})
    drawn = data.get("text/html", data.get("image/svg+xml"))
    if drawn is not None:
        return f'<div class="output">{"".join(drawn)}</div>'
    return f"```text\n{''.join(data['text/plain']).rstrip()}\n```"


def _examples() -> str:
    head = "Small models that use the layers. Each makes its data and trains in seconds."
    parts = ["# Examples", head]
    for file in sorted((ROOT / "examples").glob("*.py")):
        source = file.read_text("utf-8")
        first = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        parts += [f"## {file.name} {{#{file.stem}}}", first, f"```python\n{source}```"]
    return "\n\n".join(parts) + "\n"


def _public_names() -> str:
    """Return a table of the public names of each package, with the first lines of docstrings."""
    package = griffe.load("memhop", search_paths=[str(ROOT / "src")], resolve_aliases=True)
    parts = []
    for path in PACKAGES:
        module = package[path.removeprefix("memhop.")] if path != "memhop" else package
        rows = "\n".join(_rows(module))
        parts.append(f"## {path}\n\n| name | what it is or does |\n|---|---|\n{rows}")
    return "\n\n".join(parts)


def _rows(module: Any) -> list[str]:
    rows = []
    for name in map(str, module.exports):
        one = module[name]
        if one.is_module and name != "ops":  # a function of the same name hides it
            one = one[name]
        text = one.docstring.value.replace("\n", " ") if one.docstring else ""
        first = re.match(r".*?(?=[.:](\s|$)|$)", text)
        rows.append(f"| [`{name}`][{one.canonical_path}] | {first[0] if first else ''} |")
    return rows


def _read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")
