"""A file of vectors as a memory."""

import os
from pathlib import Path

from memhop.errors import MemhopError, shown
from memhop.storage.file_headers import FORMATS
from memhop.storage.file_state import file_state, opened
from memhop.storage.rows import RowsMemory


class FileMemory(RowsMemory):
    """A memory [N, I] in a .npy or .safetensors file, which may be larger than RAM.

    A layer or ``memhop.ops`` takes it in place of the tensor, with the same result. Query and
    weights get their gradients, the file gets none. Files that fit in RAM are memory-mapped:
    nothing is copied, and a second read finds the rows in the page cache. Larger ones are read
    part by part for every hop, with two direct reads in flight and 72 MiB of buffers. A file fits
    if its rows take at most three quarters of the RAM; the memory limit of the control group
    counts.

    The file must not change while it is used: a change is an error when a read begins and, of a
    larger file, after each part. To replace it, write another file and rename it. Truncating a
    mapped file in place ends the process with SIGBUS if a read is under way.

    Args:
        path: .npy with float32, float64 or float16 [N, I], little-endian, in C order; or
            .safetensors with one tensor [N, I] (also bfloat16), or with the tensors of a
            ``Quantized``, int8 ``data`` [N, I] and float32 ``scale`` [N].
        name: the tensor of a .safetensors file with several. int8 ``X.data`` has its scales in
            ``X.scale``.
        stream: True reads the file part by part, False maps it into memory; None decides by RAM.

    Raises:
        MemhopError: no such file, another format, dtype or shape, a corrupt or short file. Python
            objects in a .npy file are refused, never unpickled.

    >>> import numpy as np, torch
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/vectors.npy", np.eye(3, 2, dtype=np.float32))
    ...     memory = FileMemory(f"{folder}/vectors.npy")
    ...     print(memory.shape, memory.dtype, memory.is_streamed)
    ...     print(memory.whole())
    torch.Size([3, 2]) torch.float32 False
    tensor([[1., 0.],
            [0., 1.],
            [0., 0.]])
    """

    def __init__(
        self, path: str | os.PathLike[str], name: str | None = None, *, stream: bool | None = None
    ) -> None:
        if not isinstance(path, str | os.PathLike):
            raise MemhopError(f"FileMemory: expected the path of a file, got {shown(path)}")
        path = Path(path)
        rows_of = FORMATS.get(path.suffix.lower())
        if rows_of is None:
            raise MemhopError(f"{path}: expected a file {' or '.join(FORMATS)}")
        with opened(path) as descriptor:
            rows = rows_of(path, descriptor, name)
            state = file_state(descriptor, path)
        super().__init__(rows, stream=stream)
        if state != self._state:
            raise MemhopError(f"{path}: the file changed while it was opened")
