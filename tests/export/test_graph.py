"""The graph equals the model for every recipe; the slow tests run it in onnxruntime."""

from typing import Any

import numpy as np
import pytest
import torch

from memhop.export.files import padded, run
from memhop.export.graph import INPUTS, TextGraph, onnx_bytes
from memhop.ops.reference import slots_beyond
from memhop.text.model import MemN2N
from memhop.tokenizer import split_words
from tests.text.test_model import EXAMPLES, FORMS, make

# Both tyings, heads and an MLP, each position encoding, with and without ages and masked slots.
EXPORTED: list[dict[str, Any]] = [
    {"mask_empty_slots": False},
    {"mask_empty_slots": True, "position": "paper", "memory_dim": 8, "heads": 2, "hop_units": 5},
    {"mask_empty_slots": False, "position": "paper", "tying": "layerwise", "relu": True},
    {"mask_empty_slots": True, "position": "bag", "temporal": False, "num_hops": 1},
]


def results(model: MemN2N, examples: Any = EXAMPLES) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the probabilities of words, and the attention, 0 for empty slots."""
    encoded = model.encoder.encode(examples)
    with torch.no_grad():
        scores, attention = model(model.batch_of(encoded), need_weights=True)
    width = max((min(len(one.story), model.sizes.memory_slots) for one in examples), default=0)
    empty = slots_beyond(encoded.lengths, width).unsqueeze(-2)
    return model.word_scores(scores.softmax(-1)), attention[..., :width].masked_fill(empty, 0)


def inputs(model: MemN2N, examples: Any = EXAMPLES) -> dict[str, np.ndarray[Any, Any]]:
    """Return the word ids of examples, as the graph takes them."""
    slots = model.sizes.memory_slots
    stories = [[split_words(sentence) for sentence in one.story[-slots:]] for one in examples]
    return padded(stories, [split_words(one.question) for one in examples], model.vocabulary)


@pytest.mark.parametrize("mask_empty_slots", [True, False])
def test_the_graph_is_the_model_for_every_recipe(mask_empty_slots: bool) -> None:
    for seed, form in enumerate(FORMS):
        model = make(seed, **form, mask_empty_slots=mask_empty_slots).eval()
        with torch.no_grad():
            found = TextGraph(model)(*map(torch.from_numpy, inputs(model).values()))
        for got, expected in zip(found, results(model), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_more_padding_changes_nothing() -> None:
    model = make(5, mask_empty_slots=False).eval()
    given = inputs(model)
    wide = {name: np.pad(ids, [(0, 0), (0, 2), (0, 3)][: ids.ndim]) for name, ids in given.items()}
    wide["lengths"] = given["lengths"]
    with torch.no_grad():
        narrow, padded = (
            TextGraph(model)(*map(torch.from_numpy, one.values())) for one in (given, wide)
        )
    torch.testing.assert_close(padded[0], narrow[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(padded[1][..., :-2], narrow[1], rtol=0, atol=1e-6)
    assert (padded[1][..., -2:] == 0).all()


def test_restarts_have_to_be_picked() -> None:
    with pytest.raises(ValueError, match=r"export: expected one model, got 2; pick\(\) one"):
        onnx_bytes(make(0, restarts=2))


@pytest.mark.slow
@pytest.mark.parametrize("form", EXPORTED)
def test_onnxruntime_equals_the_model_at_all_sizes(form: dict[str, Any]) -> None:
    onnx = pytest.importorskip("onnx")
    model = make(7, **form).eval()
    content = onnx_bytes(model)
    proto = onnx.load_from_string(content)
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in proto.graph.node} == {""}
    assert {one.key for one in proto.metadata_props} == {"memhop_version", "memhop_kind"}
    sizes = [[size.dim_param or size.dim_value for size in one.type.tensor_type.shape.dim]
             for one in (*proto.graph.input, *proto.graph.output)]  # fmt: skip
    assert sizes == [
        *map(list, INPUTS.values()),
        ["batch", len(model.vocabulary) - 2],
        ["batch", model.recipe.num_hops, "sentences"],
    ]
    assert b".py" not in content  # no path of this machine
    assert onnx_bytes(model) == content
    for examples in (EXAMPLES, EXAMPLES[:1], EXAMPLES[1:2], EXAMPLES[4:], []):
        for got, expected in zip(
            run(content, inputs(model, examples)), results(model, examples), strict=True
        ):
            assert got.shape == expected.shape
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
