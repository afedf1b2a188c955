"""What holds for a layer with any options: permutations, padding, shapes, heads and dropout."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from memhop import MemoryHop, MemoryNetwork, MultiHop
from tests.nn import layer_oracle
from tests.nn.drawn_layers import Drawn, draw_layer
from tests.ops import oracle, textbook
from tests.ops.oracle import Slots


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


WEIGHTS: dict[str, Any] = {"need_weights": True, "average_attn_weights": False}


def drawn_layers(count: int, first: int = 100_000) -> Iterator[Drawn]:
    """Yield configurations in float64, with all weights returned."""
    found = 0
    for seed in itertools.count(first):
        drawn = draw_layer(seed)
        if drawn.complete["dtype"] == torch.float64:
            drawn.given |= WEIGHTS
            yield drawn
            found += 1
        if found == count:
            return


def num_slots_of(drawn: Drawn) -> int:
    slots, _ = oracle.both(drawn.given.get("slots"))
    return int(drawn.memories.shape[-2] if slots is None else slots.shape[-1])


def arranged(drawn: Drawn, order: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Return the memory and the keywords with the slots in another order.

    A number N or above in ``order`` is a slot that is ignored and holds NaN.
    """
    given, num_slots = dict(drawn.given), num_slots_of(drawn)
    num_new = max(0, len(order) - num_slots)

    def in_order(over_slots: Tensor, filler: Any) -> Tensor:
        new = over_slots.new_full((*over_slots.shape[:-1], num_new), filler)
        return torch.cat([over_slots, new], -1)[..., order]

    sides, slots = [], []
    values = given.pop("values", drawn.memories)
    for rows, each in zip((drawn.memories, values), oracle.both(given.get("slots")), strict=True):
        assert isinstance(rows, Tensor)
        slots.append(None if each is None else in_order(each, 0))
        sides.append(rows if each is not None else in_order(rows.mT, torch.nan).mT)
    ignored = given.pop("memory_padding_mask", torch.zeros(num_slots, dtype=torch.bool))
    if "lengths" in given:
        ignored = torch.arange(num_slots) >= given.pop("lengths").unsqueeze(-1)
    if "score_bias" in given:
        given["score_bias"] = in_order(given["score_bias"], 1.0)
    given |= {"values": sides[1], "memory_padding_mask": in_order(ignored, True)}
    given["slots"] = None if slots == [None, None] else tuple(slots)
    return sides[0], given


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, float(other.detach().abs().max())) if other.numel() else 1.0
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10 * scale)


def test_the_order_of_slots_has_no_effect_without_temporal_rows() -> None:
    """With temporal rows, slots in reverse order count from the other end."""
    for drawn in drawn_layers(80):
        num_slots, complete = num_slots_of(drawn), drawn.complete
        result, attention = drawn()
        order = torch.randperm(num_slots)
        layer = drawn.layer
        if complete["temporal_slots"] is not None:
            order = torch.arange(num_slots).flip(0)
            is_oldest_first = complete["slot_order"] == "oldest_first"
            other = "newest_first" if is_oldest_first else "oldest_first"
            layer = type(layer)(**{**drawn.options, "slot_order": other}).eval()
            layer.load_state_dict(drawn.layer.state_dict())
        memories, given = arranged(drawn, order)
        found = layer(drawn.query, memories, **given)
        assert_same(found, (result, attention[..., order]))


def test_padding_with_ignored_slots_has_no_effect() -> None:
    for drawn in drawn_layers(80):
        num_slots = num_slots_of(drawn)
        rows = drawn.memories.shape[-2], drawn.given.get("values", drawn.memories).shape[-2]
        if drawn.given.get("slots") is not None and 0 in rows:
            continue  # a bank without rows: there is none for a slot of padding
        result, attention = drawn()
        order, new = list(range(num_slots)), 0
        for new in range(4):
            order.insert(int(torch.randint(0, len(order) + 1, ())), num_slots + new)
        memories, given = arranged(drawn, torch.tensor(order))
        if isinstance(drawn.layer, MemoryNetwork):
            drawn.layer.num_memories = None
        found, weights = drawn.layer(drawn.query, memories, **given)
        is_new = torch.tensor(order) >= num_slots
        assert (weights[..., is_new] == 0).all()
        assert_same((found, weights[..., ~is_new]), (result, attention))


def of_query(drawn: Drawn, number: int) -> dict[str, Any]:
    """Return the keywords of a call with the query ``number`` of each memory."""

    def select(given: Tensor | None, num_axes: int) -> Tensor | None:
        if given is None or given.dim() < num_axes:
            return given
        return given[:, number if given.shape[1] > 1 else 0]

    given = dict(drawn.given)
    for name, num_axes in {"memory_padding_mask": 3, "lengths": 2, "score_bias": 3}.items():
        if name in given:
            given[name] = select(given[name], num_axes)
    if given.get("slots") is not None:
        key_slots, value_slots = (select(each, 3) for each in oracle.both(given["slots"]))
        is_pair = isinstance(given["slots"], tuple)
        given["slots"] = (key_slots, value_slots) if is_pair else key_slots
    return given


def test_several_queries_on_each_memory_equal_one_query_at_a_time() -> None:
    num_queries = 0
    for drawn in drawn_layers(150):
        if drawn.query.dim() < 3:
            continue
        result, attention = drawn()
        for number in range(drawn.query.shape[1]):
            given = of_query(drawn, number)
            found = drawn.layer(drawn.query[:, number], drawn.memories, **given)
            assert_same(found, (result[:, number], attention[:, number]))
            num_queries += 1
    assert num_queries > 50


def gathered(bank: Tensor, slots: Tensor | None, batch: int) -> Tensor:
    """Return the rows [N, I] or [B, N, I] that slots [N] or [B, N] number."""
    if slots is None:
        return bank
    if bank.dim() == 2 and slots.dim() == 1:
        return bank[slots.long()]
    banks, numbers = bank.expand(batch, *bank.shape[-2:]), slots.expand(batch, -1).long()
    rows = [banks[row][numbers[row]] for row in range(batch)]
    return torch.stack(rows) if rows else bank.new_zeros(0, slots.shape[-1], bank.shape[-1])


def test_slots_equal_rows_that_are_gathered_first() -> None:
    num_calls = 0
    for drawn in drawn_layers(200):
        slots: Slots = drawn.given.get("slots")
        pair = oracle.both(slots)
        if slots is None or any(each is not None and each.dim() == 3 for each in pair):
            continue
        batch = len(drawn.query) if drawn.query.dim() > 1 else 1
        memories, values = drawn.memories, drawn.given.get("values", drawn.memories)
        assert isinstance(memories, Tensor)
        memories, values = gathered(memories, pair[0], batch), gathered(values, pair[1], batch)
        assert_same(drawn.layer(drawn.query, memories, **drawn.given | {
            "slots": None, "values": values,
        }), drawn())  # fmt: skip
        num_calls += 1
    assert num_calls > 50


def test_averaged_weights_are_the_mean_over_the_heads() -> None:
    for drawn in drawn_layers(50):
        result, attention = drawn()
        shape = (*drawn.query.shape[:-1], drawn.complete["num_hops"])
        shape = shape[:-1] if isinstance(drawn.layer, MemoryHop) else shape
        assert attention.shape == (*shape, drawn.complete["num_heads"], num_slots_of(drawn))
        assert_same(drawn(average_attn_weights=True), (result, attention.mean(-2)))


def test_one_head_equals_a_layer_without_heads() -> None:
    query, memories = torch.randn(3, 4), torch.randn(3, 7, 5)
    for layer_class in (MemoryHop, MultiHop):
        layer, other = layer_class(5, 4, num_heads=1), layer_class(5, 4)
        other.load_state_dict(layer.state_dict())
        assert torch.equal(layer(query, memories), other(query, memories))


@pytest.mark.parametrize("tying", ["none", "adjacent"])
def test_a_layer_of_several_heads_equals_several_layers(tying: Any) -> None:
    """Each head reads its part of the tables; without H no part of the query reads another."""
    options: dict[str, Any] = {"tying": tying, "temporal_slots": 3, "relu": True}
    options["dtype"] = torch.float64
    layer = MultiHop(5, 6, 3, num_heads=3, **options)
    query, memories = torch.randn(4, 6).double(), torch.randn(4, 7, 5).double()
    result, attention = layer(query, memories, **WEIGHTS)
    for head in range(3):
        units = slice(2 * head, 2 * head + 2)
        alone = MultiHop(5, 2, 3, **options)
        alone.load_state_dict(
            {
                name: weight[:, units] if name.endswith("temporal") else weight[units]
                for name, weight in layer.state_dict().items()
            }
        )
        found = alone(query[:, units], memories, need_weights=True)
        assert_same(found, (result[:, units], attention[:, :, head]))


def test_dropout_has_no_effect_in_evaluation_mode() -> None:
    for drawn in itertools.islice(drawn_layers(100), 40):
        with_dropout = type(drawn.layer)(**{**drawn.options, "dropout": 0.5}).eval()
        without = type(drawn.layer)(**{**drawn.options, "dropout": 0.0}).train()
        for layer in (with_dropout, without):
            layer.load_state_dict(drawn.layer.state_dict())
        found = with_dropout(drawn.query, drawn.memories, **drawn.given)
        expected = without(drawn.query, drawn.memories, **drawn.given)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)


def with_dropout(drawn: Drawn, rate: float) -> torch.nn.Module:
    """Return the layer in training mode with a dropout."""
    layer = type(drawn.layer)(**{**drawn.options, "dropout": rate}).train()
    layer.load_state_dict(drawn.layer.state_dict())
    return layer


def test_dropout_multiplies_weights_by_zero_or_by_a_factor_before_the_read() -> None:
    """The result is the one of the returned weights, in every hop and head."""
    rate, num_weights, num_kept = 0.25, 0, 0
    for drawn in drawn_layers(200):
        layer, is_one_hop = with_dropout(drawn, rate), drawn.complete["kind"] == "MemoryHop"
        found = layer(drawn.query, drawn.memories, **drawn.given)
        kept = found[1] != 0
        expected = layer_oracle.forward(
            drawn.complete, drawn.layer.state_dict(), drawn.query, drawn.memories, drawn.given,
            partial(textbook.multi_hop, factors=factors_of(kept, rate, is_one_hop)),
        )  # fmt: skip
        assert_same(found, expected)
        could_be_kept = drawn()[1] != 0
        num_weights += int(could_be_kept.sum())
        num_kept += int(kept.sum())
        assert not (kept & ~could_be_kept).any()
    assert num_weights > 2000
    assert num_kept / num_weights == pytest.approx(1 - rate, abs=0.05)


def factors_of(kept: Tensor, rate: float, is_one_hop: bool) -> Tensor:
    """Return the factors of a dropout, [B, L, K, num_heads, N], from the weights that it kept."""
    factors = kept.double() / (1 - rate)
    factors = factors.unsqueeze(-3) if is_one_hop else factors
    missing = 5 - factors.dim()  # of a query [D] both axes, of [B, D] the axis of L
    return factors[None, None] if missing == 2 else factors[:, None] if missing else factors


def test_the_mean_of_dropped_weights_approaches_the_weights() -> None:
    torch.manual_seed(0)
    hop = MemoryHop(5, 4, num_heads=2, dropout=0.4, dtype=torch.float64)
    query, memories = torch.randn(4).double(), torch.randn(6, 5).double()
    _, exact = hop.eval()(query, memories, **WEIGHTS)
    draws = 20_000
    _, attention = hop.train()(query.expand(draws, -1), memories, **WEIGHTS)
    std = exact * (0.4 / 0.6 / draws) ** 0.5
    assert ((attention.mean(0) - exact).abs() < 5 * std).all()
    assert attention.std(0).min() > 0  # each row and head has a mask of its own
    assert len({tuple(row.flatten().tolist()) for row in (attention[:100] == 0)}) > 50


@pytest.mark.parametrize("tying", ["none", "layerwise"])
def test_a_dropout_of_one_reads_nothing(tying: Any) -> None:
    layer = MultiHop(5, 4, 2, tying=tying, dropout=1.0, temporal_slots=2, dtype=torch.float64)
    query = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    result, attention = layer(query, torch.randn(3, 6, 5).double(), need_weights=True)
    expected = query
    for _ in range(2 if tying == "layerwise" else 0):
        expected = expected @ layer.get_parameter("transform.weight").T
    torch.testing.assert_close(result, expected)
    assert (attention == 0).all()
    for grad in torch.autograd.grad(result.sum(), [query, *layer.parameters()]):
        assert grad.isfinite().all()


def test_a_seed_reproduces_a_dropout() -> None:
    for drawn in drawn_layers(20):
        layer, found = with_dropout(drawn, 0.5), []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            found.append(layer(drawn.query, drawn.memories, **drawn.given))
        for one, other in zip(found[0], found[1], strict=True):
            assert torch.equal(one, other)
        if (found[0][1] != 0).sum() > 20:
            assert not torch.equal(found[0][1], found[2][1])
