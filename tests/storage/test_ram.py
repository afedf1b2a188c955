"""The limit of RAM: of the machine, or of a control group of either version."""

import os
from pathlib import Path

import pytest

from memhop.storage.ram import ram_bytes

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
V1, V2 = "memory.limit_in_bytes", "memory.max"


def system(folder: Path, groups: str, mounts: str, limits: dict[str, str]) -> Path:
    """Write the files that Linux shows; ``ROOT`` in the mounts is the folder."""
    (folder / "cgroup").write_text(groups)
    (folder / "mountinfo").write_text(mounts.replace("ROOT", str(folder)))
    for name, limit in limits.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{limit}\n")
    return folder


MOUNT_V1 = "35 31 0:32 / ROOT/memory rw,relatime - cgroup cgroup rw,memory\n"
MOUNT_CPU = "36 31 0:33 / ROOT/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n"
MOUNT_V2 = "41 31 0:38 / ROOT/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
CONTAINER = "41 31 0:38 /docker/1 ROOT/unified rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("groups", "mounts", "limits", "expected"),
    [
        ("", "", {}, MACHINE),
        ("4:memory:/a/b\n", MOUNT_V1, {f"memory/a/b/{V1}": "1000"}, 1000),
        ("4:memory:/a/b\n", MOUNT_V1, {f"memory/a/b/{V1}": "2000", f"memory/a/{V1}": "900"}, 900),
        ("4:memory:/a/b\n", MOUNT_V1, {f"memory/a/b/{V1}": "2000", f"memory/{V1}": "800"}, 800),
        ("4:cpu,memory:/\n", MOUNT_V1, {f"memory/{V1}": "9223372036854771712"}, MACHINE),
        ("4:cpu:/a\n", MOUNT_CPU, {f"cpu/a/{V1}": "1000"}, MACHINE),
        ("0::/a\n", MOUNT_CPU + MOUNT_V2, {f"unified/a/{V2}": "700"}, 700),
        ("0::/a\n", MOUNT_V2, {f"unified/a/{V2}": "max", f"unified/{V2}": "600"}, 600),
        ("0::/docker/1/x\n", CONTAINER, {f"unified/x/{V2}": "500", V2: "1"}, 500),
        ("0::/elsewhere\n", CONTAINER, {f"unified/{V2}": "400"}, 400),
        ("4:memory:/a\n0::/\n", MOUNT_V1 + MOUNT_V2, {f"memory/a/{V1}": "300"}, 300),
        ("nonsense\n::\n", "nonsense\n - \n - cgroup2\n" + MOUNT_V2, {}, MACHINE),
    ],
)
def test_the_smallest_limit_counts(
    tmp_path: Path, groups: str, mounts: str, limits: dict[str, str], expected: int
) -> None:
    assert ram_bytes(system(tmp_path, groups, mounts, limits)) == expected


def test_of_this_process() -> None:
    found = ram_bytes()
    assert found is not None
    assert 2**20 < found <= MACHINE


def test_a_system_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf_names", {})
    assert ram_bytes(tmp_path) is None
