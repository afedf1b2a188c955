"""Pages made from other files, and links to files outside of docs."""

import pytest

pytest.importorskip("mkdocs", reason="needs memhop[docs]")

from mkdocs.exceptions import PluginError
from website import hooks


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("layer.md", "growing.md#parts", "growing.md#parts"),
        ("layer.md", "../examples/sharded.py", "examples.md#sharded"),
        ("layer.md", "../examples", "examples.md"),
        ("stability.md", "../CHANGELOG.md", "changelog.md"),
        ("index.md", "../CONTRIBUTING.md#glossary", "glossary.md"),
        ("index.md", "notebooks/layer.ipynb", "notebooks/layer.md"),
        ("api/index.md", "../layer.md", "../layer.md"),
        ("notebooks/layer.md", "../../examples", "../examples.md"),
        ("contributing.md", "docs/log.md", "log.md"),
        ("contributing.md", "https://example.org/a.md", "https://example.org/a.md"),
    ],
)
def test_links_lead_to_pages(page: str, link: str, expected: str) -> None:
    assert hooks.with_links(f"[a]({link})", page) == f"[a]({expected})"


def test_code_keeps_its_links_and_comments() -> None:
    text = "```text\n[a](../README.md)\n<!-- b -->\n```\n<!-- c -->\n[d](../README.md)"
    expected = "```text\n[a](../README.md)\n<!-- b -->\n```\n\n[d](index.md)"
    assert hooks.with_links(text, "layer.md") == expected


def test_a_link_to_a_file_that_the_site_lacks_is_an_error() -> None:
    expected = r"^layer.md: expected a link to a page of the site, got \.\./pyproject\.toml$"
    with pytest.raises(PluginError, match=expected):
        hooks.with_links("[a](../pyproject.toml)", "layer.md")


def test_a_notebook_is_a_page() -> None:
    outputs = [
        {"output_type": "stream", "text": ["1\n", "2\n"]},
        {"output_type": "execute_result", "data": {"text/plain": ["(3, 4)"]}},
        {"output_type": "execute_result", "data": {"text/plain": "no", "text/html": "<svg/>"}},
    ]
    cells = [
        {"cell_type": "markdown", "source": ["# Head\n", "text"]},
        {"cell_type": "code", "source": "print(1)", "outputs": outputs},
    ]
    assert hooks.notebook_page({"cells": cells}) == (
        "# Head\ntext\n\n```python\nprint(1)\n```\n\n```text\n1\n2\n```\n\n"
        '```text\n(3, 4)\n```\n\n<div class="output"><svg/></div>\n'
    )
