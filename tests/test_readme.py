"""Execute the documents: run Python blocks, compare their output, resolve links."""

import contextlib
import doctest
import importlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import memhop

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
DOCUMENTS = [document for document in DOCUMENTS if document.exists()]
PACKAGE = Path(memhop.__file__).parent
MODULES = [
    ".".join(["memhop", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
    for file in sorted(PACKAGE.rglob("*.py"))
]

OUTPUT = "<!-- output -->"
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")
HEADING = re.compile(r"^#+[ \t]+(.+?)[ \t]*$", re.MULTILINE)


class Block(NamedTuple):
    """A Python block: its code, the line of the document before it, and its expected output."""

    code: str
    line: int
    output: str | None


def python_blocks(text: str) -> list[Block]:
    """Return all ```python blocks; a ```text block after one and OUTPUT is its output."""
    blocks: list[Block] = []
    end, num_outputs = 0, 0
    for match in FENCED.finditer(text):
        language, body = match[1], match[2]
        is_output = text[end : match.start()].strip() == OUTPUT
        if language == "python":
            blocks.append(Block(body, text[: match.start(2)].count("\n"), None))
        elif language == "text" and is_output and blocks and blocks[-1].output is None:
            blocks[-1] = blocks[-1]._replace(output=body)
            num_outputs += 1
        end = match.end()
    if num_outputs != text.count(OUTPUT):
        raise ValueError(f"{OUTPUT} needs a python block before it and a text block after it")
    return blocks


def run_blocks(text: str, name: str) -> None:
    """Run the blocks in order in one namespace; line numbers are those of the document."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in python_blocks(text):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * block.line + block.code, name, "exec"), namespace)
        if block.output is not None:
            expected = [line.rstrip() for line in block.output.rstrip().splitlines()]
            got = [line.rstrip() for line in printed.getvalue().rstrip().splitlines()]
            assert got == expected, f"{name}:{block.line}: the block prints something else"


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings: lower case, hyphens for spaces, no punctuation."""
    headings = HEADING.findall(FENCED.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: Path, root: Path) -> Iterator[str]:
    text = FENCED.sub("", document.read_text(encoding="utf-8"))
    for target in LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        file = (document.parent / path).resolve() if path else document
        inside = file.is_relative_to(root.resolve()) and file.exists()
        if not inside or (anchor and anchor not in anchors(file.read_text(encoding="utf-8"))):
            yield target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_python_blocks_run_and_print_their_output(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(document.read_text(encoding="utf-8"), document.name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_between_documents_resolve(document: Path) -> None:
    assert list(broken_links(document, ROOT)) == []


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("memhop"):
            raise
        pytest.skip(f"needs the package {error.name}")
    fixtures = {"getfixture": request.getfixturevalue}  # as under pytest --doctest-modules
    assert doctest.testmod(module, extraglobs=fixtures).failed == 0


SAMPLE = """\
# Sample

```python
a = 1
```

```python
print(a + 1)
print("done  ")
```

<!-- output -->
```text
2
done
```

```text
not output
```

```bash
exit 1
```
"""


def test_blocks_are_found_with_their_output() -> None:
    assert python_blocks(SAMPLE) == [
        Block("a = 1\n", 3, None),
        Block('print(a + 1)\nprint("done  ")\n', 7, "2\ndone\n"),
    ]
    run_blocks(SAMPLE, "sample.md")


def test_a_block_that_prints_something_else_fails() -> None:
    with pytest.raises(AssertionError, match=r"sample\.md:7: the block prints something else"):
        run_blocks(SAMPLE.replace("a + 1", "a + 2"), "sample.md")


def test_a_block_that_raises_fails_at_the_line_of_the_document() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_blocks(SAMPLE.replace("a + 1", "a / 0"), "sample.md")
    assert (str(caught.traceback[-1].path), caught.traceback[-1].lineno) == ("sample.md", 7)


@pytest.mark.parametrize(
    "text",
    [
        f"{OUTPUT}\n```text\n2\n```\n",
        f"```python\nprint(2)\n```\n{OUTPUT}\n",
        f"```python\nprint(2)\n```\n{OUTPUT}\nwords between\n```text\n2\n```\n",
    ],
)
def test_an_output_mark_without_its_blocks_raises(text: str) -> None:
    with pytest.raises(ValueError, match="needs a python block before it"):
        python_blocks(text)


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# The read: me!\n", encoding="utf-8")
    document = tmp_path / "docs" / "a.md"
    document.write_text(
        "# Top\n[1](../README.md) [2](../README.md#the-read-me) [3](#top) ![4](b.png)\n"
        "[5](../README.md#other) [6](https://example.org/x) [7](../../out.md) `[8](c.md)`\n",
        encoding="utf-8",
    )
    assert list(broken_links(document, tmp_path)) == ["b.png", "../README.md#other", "../../out.md"]
