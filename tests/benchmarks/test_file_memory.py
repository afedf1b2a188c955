"""Hops over files: the control group, the rows of the benchmark and its table."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import file_memory
from benchmarks.file_memory import TINY, child, control_groups, sheets
from benchmarks.file_memory.vectors import DTYPES, file_of, tensor_of, write_large
from memhop import FileMemory, Quantized
from memhop.reproduce.record import provenance, read_rows

from .conftest import Runner


@pytest.mark.parametrize("name", DTYPES)
def test_a_file_has_the_vectors_of_the_tensor(tmp_path: Path, name: str) -> None:
    tensor = tensor_of(70_000, DTYPES[name])
    memory = FileMemory(file_of(tmp_path, tensor))
    assert (len(memory), memory.dtype) == (70_000, DTYPES[name])
    row = file_memory.mapped(tmp_path, name, TINY)
    assert row["case"] == "mapped"
    assert row["speed"] == pytest.approx(row["baseline_seconds"] / row["seconds"], rel=1e-3)
    first, last = tensor[:1], tensor[-1:]
    for part in (first, last):
        rows = part.dequantized() if isinstance(part, Quantized) else part
        assert rows.float().std().item() == pytest.approx(1, abs=0.2)


def test_a_large_file_is_written_part_by_part(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    count = 2**16 + 100
    write_large(path, count * 512)
    array = np.load(path, mmap_mode="r")
    assert (array.shape, array.dtype) == ((count, 128), np.float32)
    assert array[-1].std() == pytest.approx(2, abs=0.4)  # not the first part again
    child.check(FileMemory(path))


def fake_groups(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(control_groups, "MOUNT", folder)


def test_a_system_without_control_groups_is_said(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_groups(monkeypatch, tmp_path / "none")
    done = run("files", "--tiny", "--to", "rows.csv")
    assert done.status == 0, done
    assert done.out.count("skipped: no control group") == 2
    rows = read_rows(Path("rows.csv"))
    assert [row["case"] for row in rows] == [*["mapped"] * 3, "streamed", "mapped, larger than RAM"]
    assert [*rows[0]] == [*file_memory.COLUMNS, *provenance()]
    assert [each.name for each in tmp_path.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(
    ("mounted", "file"), [("memory", "memory.limit_in_bytes"), ("", "memory.max")]
)
def test_a_control_group_has_the_limit_and_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mounted: str, file: str
) -> None:
    fake_groups(monkeypatch, tmp_path)
    (tmp_path / mounted).mkdir(exist_ok=True)
    with control_groups.control_group(1234) as group:
        assert group == tmp_path / mounted / f"memhop-{os.getpid()}"
        assert (group / file).read_text() == "1234"
        child.join(str(group))
        assert (group / "cgroup.procs").read_text() == str(os.getpid())
        for each in group.iterdir():  # the files of a real group go with it
            each.unlink()
    assert not group.exists()


def test_a_group_of_which_the_limit_cannot_be_set_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_groups(monkeypatch, tmp_path)
    (tmp_path / "memory").mkdir()

    def refuse(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    with control_groups.control_group(1234) as group:
        assert group is None
    assert [each.name for each in tmp_path.iterdir()] == ["memory"]
    assert [*(tmp_path / "memory").iterdir()] == []


def test_the_process_measures_reads_and_hops(tmp_path: Path) -> None:
    job = {"path": str(tmp_path / "m.npy"), "file_bytes": 2**20, "rounds": 1}
    job["threads"] = torch.get_num_threads()
    for is_streamed in (True, False):
        found = child.run({**job, "is_streamed": is_streamed})
        assert found.keys() == {"seconds", "baseline_seconds", "resident_bytes", "is_direct"}
        assert found["seconds"] > 0
        assert found["baseline_seconds"] > 0
        assert found["resident_bytes"] > 2**20


def row(**changes: Any) -> dict[str, str]:
    values = {
        "case": "streamed", "dtype": "float32", "file_bytes": 2**32, "limit_bytes": 2**30,
        "rounds": 7, "seconds": 4.0, "baseline": "direct reads", "baseline_seconds": 3.6,
        "speed": 0.9, "resident_bytes": 2**28, "note": "",
    }  # fmt: skip
    return {name: str(value) for name, value in {**values, **changes}.items()}


def test_the_table() -> None:
    [sheet] = sheets([row(), row(limit_bytes="", resident_bytes=""), row(seconds="", note="none")])
    assert sheet.lines == [
        ["streamed, float32", "4 GiB", "1 GiB", "1.07", "direct reads", "1.19", "0.90", "256 MiB"],
        ["streamed, float32", "4 GiB", "-", "1.07", "direct reads", "1.19", "0.90", "-"],
        ["streamed, float32", "4 GiB", "1 GiB", "none", "direct reads", "-", "-", "-"],
    ]
