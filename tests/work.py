"""Count the work of Python code, which unlike a time does not depend on the machine's load."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any


def instructions(call: Callable[[], object]) -> int:
    """Return the number of bytecode instructions of a call.

    The count is the same in every run of one version of Python. Work in C (a sort, a regular
    expression, a tensor operation) counts as one instruction.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def calls(call: Callable[[], object], folder: Path) -> list[str]:
    """Return the file of each Python function that a call runs, for files in a folder.

    Comprehensions and each step of a generator count as calls.
    """
    files: list[str] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(str(folder)):
            files.append(file)

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
    return files
