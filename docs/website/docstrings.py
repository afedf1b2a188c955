"""Turn the docstrings of memhop into Markdown for mkdocstrings: an extension of Griffe.

Examples become fenced blocks, groups of arguments (``device, dtype: of the weights.``) one entry
each, and public names in backticks links to their place in the reference. In signatures the private
names of types are replaced by their meaning.
"""

import dataclasses
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import griffe

PACKAGES = (
    "memhop", "memhop.nn", "memhop.ops", "memhop.ops.ragged", "memhop.data",
    "memhop.knowledge", "memhop.retrieval", "memhop.language_model",
)  # fmt: skip

_EXAMPLE = re.compile(r"^>>> .*?(?=^\s*$|\Z)", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"[ \t]*# doctest:.*$", re.MULTILINE)
_SECTION = re.compile(r"^(?:Args|Attributes):\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)
_GROUP = re.compile(r"^(\w+(?:,\s+\w+)+): ((?:.*\n)(?:(?: +.*)?\n)*)", re.MULTILINE)
_TABLE = re.compile(r"^=+(?: +=+)+\n.*\n=+(?: +=+)+$", re.MULTILINE | re.DOTALL)
_PAGE = re.compile(r"\bdocs/([\w-]+)\.md\b")
_PAGE_LINK = r"[docs/\1.md](../\1.md)"
_ROLE = re.compile(r":(?:func|mod|class|meth):(?=`)")
_CODE = re.compile(r"(?<!`)(`{1,2})([^`\n]+)\1(?!`)")
_INDENTED = r"(?: {4}[^\n]*\n|\n)+"
_PART = re.compile(
    rf"^(?:(?P<fence>```.*?^```\n)|(?P<section>\w+:\n{_INDENTED})|(?P<formula>{_INDENTED})|[^\n]*\n)",
    re.MULTILINE | re.DOTALL,
)


def with_fences(text: str) -> str:
    """Return a docstring with each example and each table in a fenced block."""

    def fenced(example: re.Match[str]) -> str:
        return f"```pycon\n{_DIRECTIVE.sub('', example[0]).rstrip()}\n```\n"

    return _TABLE.sub(lambda table: f"```text\n{table[0]}\n```", _EXAMPLE.sub(fenced, text))


def with_single_entries(text: str) -> str:
    """Return a docstring whose sections have one entry for each name.

    >>> print(with_single_entries("Args:\\n    device, dtype: of the weights.\\n"))
    Args:
        device: of the weights.
        dtype: of the weights.
    <BLANKLINE>
    """

    def entries(group: re.Match[str]) -> str:
        return "".join(f"{name}: {group[2]}" for name in re.split(r",\s+", group[1]))

    def section(found: re.Match[str]) -> str:
        body = _GROUP.sub(entries, textwrap.dedent(found[1]))
        head = found[0][: found.start(1) - found.start()]
        return head + textwrap.indent(body, "    ")

    return _SECTION.sub(section, text + "\n")


class PublicDocstrings(griffe.Extension):
    """The extension: it rewrites the docstrings and types of a package after it has been loaded."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: Any) -> None:
        """Rewrite a package and all that it holds."""
        if pkg.name == "memhop":
            rewrite(pkg, PublicNames(pkg))


def rewrite(one: griffe.Object, names: "PublicNames") -> None:
    """Rewrite the docstrings and types of an object and its members."""
    if one.docstring is not None:
        one.docstring.value = as_markdown(one.docstring.value, one, names)
    if isinstance(one, griffe.Function):
        one.returns = spelled_out(one.returns, names)
        for parameter in one.parameters:
            parameter.annotation = spelled_out(parameter.annotation, names)
    elif isinstance(one, griffe.Attribute):
        one.annotation = spelled_out(one.annotation, names)
    for member in one.members.values():
        if not member.is_alias:
            rewrite(member, names)  # type: ignore[arg-type]


def as_markdown(text: str, one: griffe.Object, names: "PublicNames") -> str:
    """Return the docstring of an object as Markdown."""

    def linked(part: re.Match[str]) -> str:
        if part["fence"] is not None:
            return part[0]
        if part["formula"] is not None:
            return part[0].replace("``", "")
        return _CODE.sub(lambda code: names.link(code[2], one), _PAGE.sub(_PAGE_LINK, part[0]))

    text = with_single_entries(with_fences(_ROLE.sub("", text)))
    return _PART.sub(linked, f"{text}\n").rstrip()


def spelled_out(type_: Any, names: "PublicNames") -> Any:
    """Return a type with the private names of types in it replaced by their meaning."""
    if isinstance(type_, griffe.ExprName | griffe.ExprAttribute):
        return names.meaning(type_)
    if isinstance(type_, list):
        return [spelled_out(one, names) for one in type_]
    if not isinstance(type_, griffe.Expr):
        return type_
    fields = {field.name: getattr(type_, field.name) for field in dataclasses.fields(type_)}
    return dataclasses.replace(
        type_, **{name: spelled_out(one, names) for name, one in fields.items()}
    )


class PublicNames:
    """The public names of the package, and which of them a name in backticks means."""

    def __init__(self, package: griffe.Module, modules: Sequence[str] = PACKAGES) -> None:
        self.package = package
        # the canonical path of each public name of each module
        self.by_module = {path: dict(self._names(path)) for path in modules}
        self.paths = {path for names in self.by_module.values() for path in names.values()}

    def _names(self, path: str) -> Iterator[tuple[str, str]]:
        module = self.package if path == "memhop" else self.package[path.removeprefix("memhop.")]
        for name in map(str, module.exports or ()):
            if name in module.members:
                yield name, module.members[name].canonical_path

    def path_of(self, name: str, where: griffe.Object) -> str | None:
        """Return the path that a name means in the docstring of an object; None: no public one.

        A name without its module is one of the module of the object. In lower case it may also
        mean a method, and links only within a module like `memhop.ops`.
        """
        if name in PACKAGES[1:]:
            return name
        module, _, last = name.removesuffix("()").rpartition(".")
        if module:
            path = module if module.partition(".")[0] == "memhop" else f"memhop.{module}"
            return self.by_module.get(path, {}).get(last)
        for path in sorted(self.by_module, key=len, reverse=True):
            is_near = where.path.startswith(f"{path}.") or where.path == path
            if is_near and last in self.by_module[path]:
                return self.by_module[path][last] if path != "memhop" or last[0].isupper() else None
        return None

    def meaning(self, name: griffe.ExprName | griffe.ExprAttribute) -> Any:
        """Return the meaning of the name of a type, if it is a private one of the package."""
        path = name.canonical_path
        if not path.startswith("memhop.") or path in self.paths:
            return name
        try:
            one = self.package[path.removeprefix("memhop.")]
        except KeyError:
            return name
        is_alias = one.is_attribute and one.parent.is_module and isinstance(one.value, griffe.Expr)
        return spelled_out(one.value, self) if is_alias else name

    def link(self, name: str, where: griffe.Object) -> str:
        """Return a name as Markdown: code, and a link if it is public."""
        path = self.path_of(name, where)
        return f"`{name}`" if path in (None, where.path) else f"[`{name}`][{path}]"
