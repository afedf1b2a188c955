"""The rules of the source tree: which part imports which, what an import costs, sizes of files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

import memhop

PACKAGE = Path(memhop.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# From low to high. A part imports from rows above its own, never from its own row or below;
# "memhop" is the package's own __init__, which only collects public names.
ROWS = [
    ["errors"],
    ["example", "file_lock", "lines", "rng"],
    ["atomic_write"],
    ["ops"],
    ["checkpoint"],
    ["runs"],
    ["pretrained"],
    ["kernels", "nn"],
    ["picture"],
    ["tokenizer"],
    ["settings"],
    ["recipe"],
    ["resume"],
    ["text", "data"],
    ["training"],
    ["export", "knowledge", "language_model", "retrieval"],
    ["storage"],
    ["reproduce"],
    ["memhop"],
    ["web"],
    ["cli"],
    ["__main__"],
]
HEIGHT = {part: height for height, row in enumerate(ROWS) for part in row}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60  # without the docstring, which may hold formulas and shapes
MAX_ARGUMENTS = 8
NOT_COUNTED = {"self", "cls", "device", "dtype"}
# Public functions with keyword-only options
MORE_ARGUMENTS = {("ops/__init__.py", "read"): 14, ("ops/__init__.py", "multi_hop"): 16}
MORE_ARGUMENTS |= {("nn/hops.py", name): 16 for name in ("__init__", "build")}
MORE_ARGUMENTS |= {("nn/layer.py", "forward"): 11, ("nn/layer.py", "__init__"): 11}
MORE_ARGUMENTS |= {("data/stories/__init__.py", "generate"): 9, ("training/loop.py", "train"): 10}
MORE_ARGUMENTS |= {
    ("knowledge/training.py", "train"): 9,
    ("language_model/training.py", "train"): 9,
}
# Schemas of torch operators, which accept tensors, lists and numbers but no structures
MORE_ARGUMENTS |= {
    ("ops/fused/custom_op.py", "fused"): 12,
    ("ops/fused/custom_op.py", "fused_backward"): 15,
}
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
VAGUE_NAMES |= {"constants"}
OPTIONAL = {
    "typer",
    "rich",
    "fastapi",
    "fastapi_offline",
    "pydantic",
    "starlette",
    "uvicorn",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "huggingface_hub",
}
FACES = {"memhop.cli", "memhop.web", "memhop.reproduce"}


def part_of(file: Path, package: Path = PACKAGE) -> str:
    """Return the part of a file: the first component of its path in the package."""
    first = file.relative_to(package).parts[0].removesuffix(".py")
    return "memhop" if first == "__init__" else first


def module_of(file: Path) -> str:
    """Return the name of the module of a file."""
    steps = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(["memhop", *(steps[:-1] if steps[-1] == "__init__" else steps)])


def imported_names(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line and full name of every import from memhop, at file level and in functions."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            steps = module.split(".")
            above = steps[: len(steps) - node.level + is_package] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            # "from memhop import nn" imports a part, "from memhop import MemoryHop" the package
            names = [f"{origin}.{name}" for name in names]
        for name in names:
            if name.split(".")[0] == "memhop" and name != "memhop.__version__":
                yield node.lineno, name


def wrong_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    own = [*module.split("."), "memhop"][1]
    wrong = []
    for line, name in imported_names(source, module, is_package):
        part = [*name.split("."), "memhop"][1]
        part = part if part in HEIGHT else "memhop"
        if part != own and HEIGHT[part] >= HEIGHT[own]:
            wrong.append(f"{module}:{line}: {own} may not import {part}")
    return wrong


def executed(source: str) -> str:
    """Return a source without the imports that only a type checker reads."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return ast.unparse(tree)


def import_circle(imports: dict[str, set[str]]) -> list[str]:
    """Return modules that import each other in a circle, or an empty list."""
    done: set[str] = set()

    def search(path: list[str]) -> list[str]:
        for name in sorted(imports[path[-1]]):
            if name in path:
                return [*path[path.index(name) :], name]
            if name not in done and (circle := search([*path, name])):
                return circle
        done.add(path[-1])
        return []

    return next((circle for name in imports if (circle := search([name]))), [])


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function from ``def`` to its end, without its docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of arguments; those of a command are options, which ``--help`` lists."""
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(called, ast.Attribute) and called.attr in {"command", "callback"}:
            return 0
    given = function.args
    names = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    names += [star for star in (given.vararg, given.kwarg) if star]
    return len([name for name in names if name.arg not in NOT_COUNTED])


HELP_OF_ALL = "from memhop.cli import app; app(['--help'], standalone_mode=False)"
STATEMENTS = ["import memhop", "memhop.FileMemory", "import memhop.knowledge", HELP_OF_ALL]


@cache
def loaded_after() -> dict[str, set[str]]:
    """Return the modules of a fresh interpreter after each of ``STATEMENTS`` in this order."""
    lines = ["import sys", *chain(*((one, "print('\\n@', *sys.modules)") for one in STATEMENTS))]
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    found = [set(line.split()) for line in run.stdout.splitlines() if line.startswith("@")]
    return dict(zip(STATEMENTS, found, strict=True))


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_one_way(file: Path) -> None:
    assert part_of(file) in HEIGHT, f"{file.name}: add this part to ROWS"
    is_package = file.stem == "__init__"
    assert wrong_imports(file.read_text(encoding="utf-8"), module_of(file), is_package) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = {module_of(file): file for file in SOURCES}
    imports: dict[str, set[str]] = {}
    for module, file in modules.items():
        source, is_package = executed(file.read_text(encoding="utf-8")), file.stem == "__init__"
        names = [name for _, name in imported_names(source, module, is_package)]
        imports[module] = {
            name if name in modules else name.rpartition(".")[0] for name in names
        } - {module}
    assert import_circle(imports) == []


def test_a_circle_is_found() -> None:
    assert import_circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert import_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_the_fused_form_names_backends_in_the_registry_only() -> None:
    for file in (PACKAGE / "ops" / "fused").glob("*.py"):
        names = {
            name.split(".")[2]
            for _, name in imported_names(file.read_text(encoding="utf-8"), module_of(file))
            if name.startswith("memhop.ops.")
        }
        assert file.stem == "backends" or not names & {"cpu", "cuda", "blocked"}, file.name


@pytest.mark.parametrize(
    ("source", "module", "wrong"),
    [
        ("from memhop.nn.hops import MemoryHop", "memhop.ops.eager", "ops may not import nn"),
        ("from memhop import nn", "memhop.ops.eager", "ops may not import nn"),
        ("import memhop.nn.hops", "memhop.errors", "errors may not import nn"),
        ("from memhop import MemoryHop", "memhop.training.loop", "training may not import memhop"),
        ("from ..data import babi", "memhop.text.model", "text may not import data"),
        ("from .. import data", "memhop.text.model", "text may not import data"),
        ("from memhop.text import memn2n", "memhop.data.babi", "data may not import text"),
        ("def f():\n    from . import cli", "memhop.example", "example may not import cli"),
        ("from . import cli", "memhop", "memhop may not import cli"),
        ("from .nn import MemoryHop", "memhop", None),
        ("from . import reference\nfrom .reference import read", "memhop.ops", None),
        ("from memhop import __version__, ops\nimport torch", "memhop.nn.hops", None),
        ("from memhop import MemoryHop, web", "memhop.cli", None),
    ],
)
def test_the_import_rule_sees_every_form(source: str, module: str, wrong: str | None) -> None:
    found = wrong_imports(source, module, is_package=module in {"memhop", "memhop.ops"})
    assert [message.split(": ")[1] for message in found] == ([wrong] if wrong else [])


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_and_functions_are_small_and_have_telling_names(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_FILE_LINES
    assert file.stem not in VAGUE_NAMES
    name = file.relative_to(PACKAGE).as_posix()
    for function in functions(source):
        assert length(function) <= MAX_FUNCTION_LINES, f"{name}: {function.name} is too long"
        allowed = MORE_ARGUMENTS.get((name, function.name), MAX_ARGUMENTS)
        assert arguments(function) <= allowed, f"{name}: {function.name} has too many arguments"


def test_lengths_and_arguments_are_counted_as_the_rules_say() -> None:
    source = (
        "@app.command()\n"
        "def command(a, b, c):\n"
        '    """One.\n\n    Two.\n    """\n'
        "    return a\n"
        "async def plain(self, a, /, b, *rest, c, device=None, **more): ...\n"
    )
    assert [(length(f), arguments(f)) for f in functions(source)] == [(2, 0), (1, 5)]


def test_importing_memhop_loads_no_optional_part() -> None:
    assert loaded_after()["import memhop"] & OPTIONAL == set()
    assert "rich" in loaded_after()[HELP_OF_ALL]


def test_importing_memhop_loads_no_face() -> None:
    loaded = loaded_after()["import memhop"]
    assert {name for name in loaded if name.startswith(tuple(FACES))} == set()


def test_importing_memhop_loads_no_facts() -> None:
    parts = ("memhop.knowledge", "memhop.retrieval")
    loaded = loaded_after()["import memhop"]
    assert {name for name in loaded if name.startswith(parts)} == set()
    assert "memhop.knowledge.model" in loaded_after()["import memhop.knowledge"]


def test_importing_memhop_loads_no_storage_before_its_use() -> None:
    loaded = loaded_after()["import memhop"]
    assert [name for name in loaded if name.startswith("memhop.storage")] == []
    assert "memhop.storage.rows" in loaded_after()["memhop.FileMemory"]
    assert "FileMemory" in dir(memhop)
    with pytest.raises(AttributeError, match="module 'memhop' has no attribute 'NoName'"):
        memhop.NoName  # noqa: B018


def test_the_help_loads_no_benchmark_no_table_of_the_paper_and_no_service() -> None:
    unwanted = ("benchmarks", "memhop.reproduce", "memhop.web")
    assert {name for name in loaded_after()[HELP_OF_ALL] if name.startswith(unwanted)} == set()
