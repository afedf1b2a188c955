"""The table of torch's tools in docs/layer.md: each tool has tests with every option."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.nn import test_called_tables, test_export, test_func, test_in_torch, test_onnx

TESTS: dict[str, list[Callable[..., Any]]] = {
    "torch.compile": [
        test_in_torch.test_compile_makes_one_graph,
        test_in_torch.test_compile_makes_one_graph_of_open_sizes,
        test_in_torch.test_inductor_gives_the_same_answer,
    ],
    "torch.export": [test_export.test_every_option_at_all_sizes],
    "torch.onnx.export(..., dynamo=True)": [test_onnx.test_every_option_at_all_sizes],
    "vmap": [test_func.test_vmap_over_the_batch, test_func.test_several_layers_as_one],
    "grad": [test_func.test_grad_and_jvp, test_func.test_gradients_of_the_weights],
    "jvp": [test_func.test_grad_and_jvp],
    "jacrev": [test_func.test_jacobians_and_hessian],
    "jacfwd": [test_func.test_jacobians_and_hessian],
    "hessian": [test_func.test_jacobians_and_hessian],
    "torch.jit.trace": [test_in_torch.test_a_trace_takes_other_numbers],
    "autocast": [test_in_torch.test_autocast_gives_its_dtype_and_rounds_once],
    "activation checkpointing": [test_in_torch.test_activation_checkpointing],
    "copy.deepcopy": [test_in_torch.test_copies_are_equal_and_apart],
    "pickle": [test_in_torch.test_copies_are_equal_and_apart],
    "parametrized weights": [test_in_torch.test_parametrized_weights],
    "hooks on tables": [test_called_tables.test_a_hook_changes_nothing],
    "FLOP counters, fake and meta tensors": [test_in_torch.test_modes_and_tensors_without_data],
    "make_fx": [test_in_torch.test_make_fx_records_plain_operations],
}


def test_every_tool_of_the_table_has_tests_with_every_option() -> None:
    text = (Path(__file__).parents[2] / "docs" / "layer.md").read_text(encoding="utf-8")
    section = text.partition("## With torch's tools\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (?!tool |---)([^|]+) \|", section, re.MULTILINE)
    named = (
        ", ".join(cells).replace("`", "").replace("torch.func (", "").replace("hessian)", "hessian")
    )
    assert named == ", ".join(TESTS)
    for tests in TESTS.values():
        for test in tests:
            marks = [mark.args[0] for mark in test.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
            assert any(names == "case" or "case" in names for names in marks)
