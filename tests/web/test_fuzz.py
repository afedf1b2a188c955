"""The HTTP API against its OpenAPI schema, with random requests (schemathesis)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Client

SEEDS = int(os.environ.get("MEMHOP_FUZZ_SEEDS", "1"))  # each is a hundred cases
# By default, 413 (too large) is no refusal of an invalid request.
CONFIG = "[checks.negative_data_rejection]\nexpected-statuses = ['4xx']\n"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_the_api_conforms_to_its_schema(store_client: Client, tmp_path: Path, seed: int) -> None:
    """No 5xx; responses conform to the schema; valid requests succeed, invalid ones fail."""
    (tmp_path / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    run = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{store_client.address}openapi.json",
            "--max-examples=12",
            f"--seed={seed}",
            "--continue-on-failure",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-1000:]
    assert "14 selected / 14 total" in run.stdout
    print(run.stdout[-300:])
