"""Write the picture of an answer."""

from contextlib import suppress
from pathlib import Path

from memhop.atomic_write import atomic_write, check_new


def write_svg(path: Path, svg: str) -> None:
    """Write a picture; it replaces an earlier one, but no other file.

    Raises:
        MemhopError: the file cannot be written, or is no picture.
    """
    is_picture = False
    with suppress(OSError), path.open("rb") as file:
        is_picture = file.read(4) == b"<svg"
    if path.is_file() and not is_picture:
        check_new(path)
    with atomic_write(path) as out:
        out.write(svg + "\n")
