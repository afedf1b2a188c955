"""Docstrings become Markdown: examples, tables, formulas, groups of arguments, links."""

from typing import Any

import pytest

griffe = pytest.importorskip("griffe", reason="needs memhop[docs]")

from website import docstrings  # noqa: E402

SOURCE = '''
"""A package."""
__all__ = ["Hop", "read"]
Kind = int | None

class Hop:
    """One hop.

        p = softmax(``read`` it)

    See ``memhop.read``, ``read``, ``other`` and docs/layer.md.

    Args:
        size, width,
            depth: of all, as in `memhop.read`:

            - "a": one
        kind: which.

    >>> Hop(  # doctest: +SKIP
    ...     1)
    2

    The end.
    """

def read(kind: Kind, hop: "Hop") -> list[Kind]:
    """Return what a `Hop` reads.

    ====  =====
    a     b
    ====  =====
    1     2
    ====  =====
    """
'''


def rewritten() -> Any:
    """Return a package memhop with the source, after the extension."""
    package = griffe.visit("memhop", filepath=None, code=SOURCE)
    docstrings.rewrite(package, docstrings.PublicNames(package, ["memhop"]))
    return package


def test_a_docstring_becomes_markdown() -> None:
    assert rewritten()["Hop"].docstring.value == (
        "One hop.\n\n"
        "    p = softmax(read it)\n\n"
        "See [`memhop.read`][memhop.read], `read`, `other` and [docs/layer.md](../layer.md).\n\n"
        "Args:\n"
        '    size: of all, as in [`memhop.read`][memhop.read]:\n\n        - "a": one\n'
        '    width: of all, as in [`memhop.read`][memhop.read]:\n\n        - "a": one\n'
        '    depth: of all, as in [`memhop.read`][memhop.read]:\n\n        - "a": one\n'
        "    kind: which.\n\n"
        "```pycon\n>>> Hop(\n...     1)\n2\n```\n\n"
        "The end."
    )


def test_a_table_is_a_block_and_an_object_does_not_link_to_itself() -> None:
    text = rewritten()["read"].docstring.value
    assert text.startswith("Return what a [`Hop`][memhop.Hop] reads.\n\n```text\n====")
    assert text.endswith("1     2\n====  =====\n```")
    assert "[`Hop`]" not in rewritten()["Hop"].docstring.value


def test_private_names_of_types_are_spelled_out() -> None:
    read = rewritten()["read"]
    assert [str(one.annotation) for one in read.parameters] == ["int | None", "Hop"]
    assert str(read.returns) == "list[int | None]"
