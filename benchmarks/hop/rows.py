"""The rows that ``memhop bench hop`` writes: one for each form, case and process."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from benchmarks.hop.cases import Case

COLUMNS = (
    "part", *Case._fields, "form", "process", "rounds", "seconds", "error", "gradient_error",
    "bytes_held", "bytes_read", "bytes_written", "read_speed", "extra_bytes", "kept_bytes",
    "bound_bytes", "bar", "note",
)  # fmt: skip


class Setting(NamedTuple):
    """How a part is measured; ``begin`` is told what is about to be."""

    device: str = "cpu"
    tiny: bool = False
    process: int = 1
    begin: Callable[[str], None] = lambda _: None


def case_of(row: Mapping[str, str]) -> Case:
    """The case of a row that was read from a file.

    >>> made = row("bars", Case(3, 5, gradients=True), "auto", Setting())
    >>> case_of({name: str(value) for name, value in made.items()}) == Case(3, 5, gradients=True)
    True
    """
    kinds = Case.__annotations__
    return Case._make(
        row[name] == "True" if kind is bool else kind(row[name]) for name, kind in kinds.items()
    )


def row(part: str, case: Case, form: str, setting: Setting, **measured: Any) -> dict[str, Any]:
    """One row; what it does not say is left empty.

    ``bytes_held`` is the size of the memory, ``bytes_read`` what one hop reads of it and
    ``bytes_written`` the size of its gradient; ``read_speed`` in bytes a second.
    """
    if unknown := measured.keys() - set(COLUMNS):
        raise ValueError(f"a row has the columns {', '.join(COLUMNS)}; got {sorted(unknown)}")
    known = {
        "part": part, **case._asdict(), "form": form, "process": setting.process,
        "bytes_held": case.bytes_held, "bytes_read": case.bytes_read,
        "bytes_written": case.bytes_held if case.gradients else 0,
    }  # fmt: skip
    return dict.fromkeys(COLUMNS) | known | measured
