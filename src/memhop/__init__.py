"""Multi-hop memory for PyTorch: End-to-End Memory Networks (arXiv 1503.08895).

Layers: `MemoryNetwork`, `MultiHop`, `MemoryHop`, over floating-point or int8 (`Quantized`)
memories, and the operations in `memhop.ops`. A memory on disk: `Store`, `FileMemory`.
A question answerer over stories: `MemN2N`, `read_examples`, `train`, `Recipe`, `evaluate`.
A command-line program: ``memhop --help``.
"""

__version__ = "0.2.0"

from importlib import import_module
from typing import TYPE_CHECKING, Any

from memhop import ops
from memhop.data import generate, read_babi, read_examples, to_examples
from memhop.errors import MemhopError
from memhop.example import Example
from memhop.kernels import warmup
from memhop.nn.hops import MemoryHop, MemoryNetwork, MultiHop
from memhop.ops import Quantized
from memhop.picture import picture
from memhop.recipe import Recipe
from memhop.text.answer import Answer
from memhop.text.model import MemN2N
from memhop.text.vocabulary import Vocabulary
from memhop.training.evaluation import Evaluation, evaluate
from memhop.training.loop import TrainingResult, train

if TYPE_CHECKING:
    from memhop.storage.file_memory import FileMemory
    from memhop.storage.store import Store

__all__ = [
    "Answer",
    "Evaluation",
    "Example",
    "FileMemory",
    "MemN2N",
    "MemhopError",
    "MemoryHop",
    "MemoryNetwork",
    "MultiHop",
    "Quantized",
    "Recipe",
    "Store",
    "TrainingResult",
    "Vocabulary",
    "evaluate",
    "generate",
    "ops",
    "picture",
    "read_babi",
    "read_examples",
    "to_examples",
    "train",
    "warmup",
]

# Names that are imported at their first use; most programs need no SQLite.
_LAZY = {"FileMemory": "memhop.storage.file_memory", "Store": "memhop.storage.store"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
