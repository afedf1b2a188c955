"""What a release needs: wheel and sdist with every file, workflows with pinned actions."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import memhop

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow(name: str) -> Any:
    """Return a workflow; YAML reads its key ``on`` as true."""
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def built(source: Path, target: Path, kind: str) -> Path:
    """Return the wheel or the sdist of a tree, without a download."""
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    [file] = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return file


def contents(wheel: Path) -> dict[str, bytes]:
    """Return the files of a wheel; its RECORD lists their checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.slow
def test_a_wheel_has_every_file_of_the_package_also_by_way_of_the_sdist(tmp_path: Path) -> None:
    direct = contents(built(ROOT, tmp_path / "direct", "wheel"))
    with tarfile.open(built(ROOT, tmp_path / "sdist", "sdist")) as archive:
        archive.extractall(tmp_path / "tree")  # our own; Python 3.11.2 has no filters
    [tree] = (tmp_path / "tree").iterdir()
    assert contents(built(tree, tmp_path / "again", "wheel")) == direct
    package = ROOT / "src" / "memhop"
    files = {file for file in package.rglob("*") if file.is_file() and file.suffix != ".pyc"}
    names = {f"memhop/{file.relative_to(package).as_posix()}" for file in files}
    assert {name for name in direct if name.startswith("memhop/")} == names
    assert {"memhop/py.typed", "memhop/web/page/index.html"} <= names
    for name in ("tests/golden/signatures.json", "docs/export.md", "CITATION.cff"):
        assert (tree / name).read_bytes() == (ROOT / name).read_bytes()


def test_actions_are_pinned_to_commits() -> None:
    used = [line for file in WORKFLOWS for line in file.read_text("utf-8").splitlines()]
    used = [line.split("uses:")[1].strip() for line in used if "uses:" in line]
    assert len(used) > 5
    for action in used:
        is_pinned = re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action)
        assert is_pinned or action.startswith("./"), action


def test_workflows_test_the_pinned_and_the_oldest_torch() -> None:
    [checks] = workflow("ci.yml")["jobs"].values()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    [torch] = [one for one in project["dependencies"] if one.startswith("torch")]
    assert checks["strategy"]["matrix"]["torch"] == ["", torch.removeprefix("torch>=")]
    assert checks["env"]["TORCH"] == "${{ matrix.torch }}"
    assert [step["run"] for step in checks["steps"] if "run" in step] == [".ci/run"]


def test_only_the_job_that_publishes_may_sign_in_and_it_waits_for_every_check() -> None:
    jobs = workflow("release.yml")["jobs"]
    assert workflow("release.yml")[True] == {"push": {"tags": ["v*"]}}
    assert {name for name, job in jobs.items() if "permissions" in job} == {"publish"}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert sorted(jobs["publish"]["needs"]) == ["build", "checks"]
    assert [step["uses"].split("@")[0] for step in jobs["publish"]["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert all(workflow(file.name)["permissions"] == {"contents": "read"} for file in WORKFLOWS)


def test_the_citation_is_of_this_version() -> None:
    citation = pytest.importorskip("yaml").safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == memhop.__version__
    released = f"## [{citation['version']}] - {citation['date-released']}"
    assert released in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
    assert "arXiv:1503.08895" in str(citation["references"])
