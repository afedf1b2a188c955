"""The words of the errors, and that they come before any work."""

# ruff: noqa: E501  (an error is one line)

import pytest
import torch
from torch import Tensor

from memhop.ops import Hop, Table, multi_hop, read

QUERY, KEYS = torch.zeros(4, 5), torch.zeros(4, 7, 5)
MASK = torch.zeros(4, 7, dtype=torch.bool)
SLOTS = torch.zeros(4, 6, dtype=torch.long)
CAME = "; got query [4, 5] float32 on cpu, keys [4, 7, 5] float32 on cpu"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"impl": "fast"}, "read needs impl to be one of 'auto', 'torch', 'project', 'reference'; got 'fast'"),
        ({"query": QUERY[:, :3]}, "read needs query [..., I] and keys [..., N, I] with one I; got query [4, 3] float32 on cpu, keys [4, 7, 5] float32 on cpu"),
        ({"query": torch.zeros(())}, "read needs query [..., I] and keys [..., N, I] with one I; got query [] float32 on cpu, keys [4, 7, 5] float32 on cpu"),
        ({"keys": KEYS[0, 0]}, "read needs query [..., I] and keys [..., N, I] with one I; got query [4, 5] float32 on cpu, keys [5] float32 on cpu"),
        ({"query": QUERY[:3]}, "read needs leading axes that broadcast together; got query [3, 5] float32 on cpu, keys [4, 7, 5] float32 on cpu"),
        ({"values": KEYS[:, :6]}, f"read needs values [..., N, V] with the N of the keys{CAME}, values [4, 6, 5] float32 on cpu"),
        ({"padding_mask": MASK.int()}, f"read needs a padding mask of bool (True = ignore that slot){CAME}, padding_mask [4, 7] int32 on cpu"),
        ({"padding_mask": MASK[:, :6]}, f"read needs padding_mask [4, 7], or one that broadcasts to it over the batch{CAME}, padding_mask [4, 6] bool on cpu"),
        ({"padding_mask": MASK[:3]}, f"read needs padding_mask [4, 7], or one that broadcasts to it over the batch{CAME}, padding_mask [3, 7] bool on cpu"),
        ({"padding_mask": MASK[None]}, f"read needs padding_mask [4, 7], or one that broadcasts to it over the batch{CAME}, padding_mask [1, 4, 7] bool on cpu"),
        ({"score_bias": torch.zeros(4, 1)}, f"read needs score_bias [4, 7], or one that broadcasts to it over the batch{CAME}, score_bias [4, 1] float32 on cpu"),
        ({"query": QUERY.double()}, "read needs one dtype, or float32 with memories in bfloat16 or float16 (other mixtures only under torch.autocast); got query [4, 5] float64 on cpu, keys [4, 7, 5] float32 on cpu"),
        ({"keys": KEYS.int()}, "read needs float32, float64, bfloat16 or float16; got query [4, 5] float32 on cpu, keys [4, 7, 5] int32 on cpu"),
        ({"keys": KEYS.to("meta")}, "read needs all tensors on one device; got query [4, 5] float32 on cpu, keys [4, 7, 5] float32 on meta"),
        ({"keys": KEYS.numpy()}, "read needs tensors; got query [4, 5] float32 on cpu, keys of type ndarray"),
        ({"query": None}, "read needs tensors; got query of type NoneType, keys [4, 7, 5] float32 on cpu"),
        ({"keys": None}, "read needs tensors; got query [4, 5] float32 on cpu, keys of type NoneType"),
        ({"slots": SLOTS.float()}, f"read needs slots [..., N] of integers{CAME}, slots [4, 6] float32 on cpu"),
        ({"slots": SLOTS.bool()}, f"read needs slots [..., N] of integers{CAME}, slots [4, 6] bool on cpu"),
        ({"slots": SLOTS + 7}, f"read needs slots from 0 to 6 and there are slots from 7 to 7{CAME}, slots [4, 6] int64 on cpu"),
        ({"slots": SLOTS - 1}, f"read needs slots from 0 to 6 and there are slots from -1 to -1{CAME}, slots [4, 6] int64 on cpu"),
    ],
)  # fmt: skip
def test_read_says_what_it_needs_and_what_came(options: dict[str, Tensor], words: str) -> None:
    given = {"query": QUERY, "keys": KEYS, **options}
    with pytest.raises(ValueError, match=r"^read needs") as error:
        read(**given)  # type: ignore[call-overload]
    assert str(error.value) == words


def hop(**parts: Tensor) -> Hop:
    weight = torch.zeros(5, 3)
    a = Table(**{"weight": weight, **{k: v for k, v in parts.items() if k != "transform"}})
    return Hop(a, Table(weight), parts.get("transform"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"impl": "fast"}, "multi_hop needs impl to be one of 'auto', 'torch', 'project', 'reference'; got 'fast'"),
        ({"hops": []}, "multi_hop needs at least one hop; got none"),
        ({"query": None}, "multi_hop needs tensors; got query of type NoneType, memories [4, 7, 3] float32 on cpu"),
        ({"memories": None, "padding_mask": MASK}, "multi_hop needs tensors; got query [4, 5] float32 on cpu, memories of type NoneType, padding_mask [4, 7] bool on cpu"),
        ({"query": torch.zeros(())}, "multi_hop needs query [..., D] and memories [..., N, I]; got query [] float32 on cpu, memories [4, 7, 3] float32 on cpu"),
        ({"hops": [hop(weight=torch.zeros(3, 5))]}, "multi_hop needs hops[0].a.weight [D, I], D = 5 from the query and I = 3 from the memories; got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[0].a.weight [3, 5] float32 on cpu"),
        ({"hops": [hop(), hop(bias=torch.zeros(4))]}, "multi_hop needs hops[1].a.bias [D], D = 5 from the query and I = 3 from the memories; got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[1].a.bias [4] float32 on cpu"),
        ({"hops": [hop(temporal=torch.zeros(0, 5))]}, "multi_hop needs hops[0].a.temporal [T, D] with T at least 1, D = 5 from the query and I = 3 from the memories; got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[0].a.temporal [0, 5] float32 on cpu"),
        ({"hops": [hop(transform=torch.zeros(5, 4))]}, "multi_hop needs hops[0].transform [D, D], D = 5 from the query and I = 3 from the memories; got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[0].transform [5, 4] float32 on cpu"),
        ({"hops": [hop(weight=torch.zeros(5, 3).double())]}, "multi_hop needs one dtype, or float32 with memories in bfloat16 or float16 (other mixtures only under torch.autocast); got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, hops[0].a.weight [5, 3] float64 on cpu"),
        ({"score_bias": torch.zeros(4, 3, 7)}, "multi_hop needs score_bias [..., N] or [..., K, N] with K = 1 hops; got query [4, 5] float32 on cpu, memories [4, 7, 3] float32 on cpu, score_bias [4, 3, 7] float32 on cpu"),
    ],
)  # fmt: skip
def test_multi_hop_says_what_it_needs_and_what_came(options: dict[str, Tensor], words: str) -> None:
    given = {"query": QUERY, "memories": torch.zeros(4, 7, 3), "hops": [hop()], **options}
    with pytest.raises(ValueError, match=r"^multi_hop needs") as error:
        multi_hop(**given)  # type: ignore[call-overload]
    assert str(error.value) == words


def test_slots_are_not_looked_at_where_they_have_no_values() -> None:
    query, bank = QUERY.to("meta"), KEYS[0].to("meta")
    assert read(query, bank, slots=SLOTS.to("meta")).shape == (4, 5)
