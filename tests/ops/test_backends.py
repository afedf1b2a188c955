"""The registry of backends: each supports what it claims, and nothing else is chosen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import Unsupported

from benchmarks.tables import document_tables
from memhop import ops
from memhop.ops import Hop, Quantized, Table, checks, forms, multi_hop, read
from memhop.ops.call import Call
from memhop.ops.fused import backends
from memhop.ops.fused.backends import BACKENDS, OPTIONS
from memhop.ops.inputs import Memory
from memhop.ops.options import check_attention, with_lse
from memhop.ops.windowed import windows_of

B, N, WIDTH, D, K = 3, 5, 4, 6, 2

Case = dict[str, Any]


READS = ("read", "lse", "compiled_lse")  # calls of ``read``


def case(option: str, is_shared: bool) -> Case:
    """Return the arguments of a small call that uses one option."""
    torch.manual_seed(0)

    def table(temporal: Tensor | None = None, width: int = WIDTH) -> Table:
        return Table(0.3 * torch.randn(D, width), 0.3 * torch.randn(D), temporal)

    given: Case = {"query": torch.randn(B, D), "memories": torch.randn(B, N, WIDTH)}
    given["hops"] = [Hop(table(), table()) for _ in range(K)]
    if option == "identity":
        given["memories"] = torch.randn(B, N, D)
    if option == "shared_memory" or (is_shared and option != "own_memory"):
        given["memories"] = given["memories"][0]
    hop, half = given["hops"][0], torch.bfloat16
    bank = {"memories": torch.randn(9, WIDTH), "slots": torch.randint(9, (B, N))}
    left_out = Table(None, torch.randn(D))
    with_ages = [Hop(table(torch.randn(3, D)), table(torch.randn(3, D)))] * K
    changes: dict[str, Callable[[], Case]] = {
        "padding_mask": lambda: {"padding_mask": torch.rand(B, N) < 0.4},
        "lengths": lambda: {"lengths": torch.tensor([0, 2, N])},
        "score_bias": lambda: {"score_bias": torch.randn(B, N)},
        "bias_per_hop": lambda: {"score_bias": torch.randn(B, K, N)},
        "slots": lambda: bank,
        "window": lambda: windows(is_shared),
        "values": lambda: {"values": torch.randn_like(given["memories"])},
        "half_memory": lambda: {"memories": given["memories"].to(half)},
        "quantized": lambda: {"memories": Quantized.of(given["memories"])},
        "temporal": lambda: {"hops": with_ages},
        "linear": lambda: {"hops": [hop._replace(softmax=False)] * K},
        "relu": lambda: {"hops": [hop._replace(relu=True)] * K},
        "relu_share": lambda: {"hops": [hop._replace(relu=0.5)] * K},
        "identity": lambda: {
            "hops": [Hop(left_out, table(width=D)), Hop(table(width=D), left_out)]
        },
        # Heads share a memory, so a backend for memories of single queries reads a bank.
        "heads": lambda: {"num_heads": 2} | ({} if is_shared else bank),
        "newest_first": lambda: {"slot_order": "newest_first", "hops": with_ages},
        "dropout": lambda: {"dropout": 0.4},
        "transform": lambda: {"hops": [hop._replace(transform=torch.randn(D, D))] * K},
    }
    a_read = {"query": torch.randn(B, WIDTH), "hops": []}
    changes |= dict.fromkeys(READS, lambda: a_read)
    given |= changes.get(option, dict)()
    if option in ("half", "float64"):
        dtype = half if option == "half" else torch.float64
        cast = torch.utils._pytree.tree_map
        given = cast(lambda leaf: leaf.to(dtype) if isinstance(leaf, Tensor) else leaf, given)
    return given


def windows(is_shared: bool) -> Case:
    """Return queries and the memory over which a window of 3 slots moves."""
    lead = (2,)
    return {
        "query": torch.randn(*lead, B, D),
        "memories": torch.randn(*(() if is_shared else lead), B + 2, WIDTH),
        "window": 3,
    }


def run(impl: str, option: str, given: Case) -> list[Tensor]:
    """Return results and gradients of a call with one option."""

    def call(query: Tensor) -> tuple[Tensor, ...]:
        options = {**given, "query": query, "need_weights": True, "impl": impl}
        if option in READS:
            options["need_lse"] = option != "read"
            options["keys"] = options.pop("memories")
            del options["hops"]
            return read(**options)  # type: ignore[no-any-return]
        return multi_hop(**options)  # type: ignore[no-any-return]

    query = given["query"].clone().requires_grad_()
    torch.manual_seed(1)  # of dropout
    if option in ("compile", "compiled_lse"):
        torch.compiler.reset()
        call = torch.compile(call, fullgraph=True, backend="aot_eager")
    if option == "transforms":
        return [*torch.func.vmap(lambda factor: call(factor * query)[0])(torch.tensor([1.0, 2.0]))]
    found = [*call(query)]
    total = sum((tensor.sin().sum() for tensor in found), start=torch.zeros(()))
    (grad,) = torch.autograd.grad(total, query, create_graph=option == "second_derivative")
    found.append(grad)
    if option == "second_derivative":
        found += torch.autograd.grad(grad.sin().sum(), query)
    return found


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set to which every backend that computes adds its name."""
    names: set[str] = set()
    kernel_of = backends.kernel_of

    def recorded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            names.add(name)
            return function(*args, **options)

        return call

    def recorded_kernel(name: str) -> backends.Kernel:
        kernel = kernel_of(name)
        return backends.Kernel(
            recorded(name, kernel.forward),
            recorded(name, kernel.backward),
            None if kernel.infer is None else recorded(name, kernel.infer),
        )

    monkeypatch.setattr(backends, "kernel_of", recorded_kernel)
    for name, form in forms.FORMS.items():
        monkeypatch.setitem(forms.FORMS, name, recorded(name, form))
    return names


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_supports_what_it_claims_and_nothing_else(
    name: str, option: str, used: set[str]
) -> None:
    backend = BACKENDS[name]
    if backend.devices == ("cuda",):
        pytest.skip("tests/ops/cuda covers the options of the kernels for CUDA")
    given = case(option, is_shared="own_memory" not in backend.options)
    if option in backend.options:
        found, expected = run(backend.impl, option, given), run("reference", option, given)
        assert option in READS or name in used
        tolerance = 2e-2 if option == "half" else 1e-4
        for tensor, other in zip(found, expected, strict=True):
            torch.testing.assert_close(tensor, other, rtol=tolerance, atol=tolerance)
    elif option in ("own_memory", "shared_memory", "slots"):
        run(backend.impl, option, given)
        assert used
        assert name not in used
    else:
        with pytest.raises(
            (NotImplementedError, Unsupported), match="impl='fused' does not support"
        ):
            run(backend.impl, option, given)
        run("auto", option, given)
        assert name not in used


@pytest.mark.parametrize("option", OPTIONS)
def test_options_are_recognized(option: str) -> None:
    is_used = OPTIONS[option].is_used
    if is_used is None or option in ("compile", "transforms"):
        return
    if option == "compiled_lse":  # part of the condition of another one
        return

    def call_of(given: Case) -> Call:
        names = ("values", "slots", "padding_mask", "lengths", "score_bias")
        memory = Memory(given["memories"], **{k: given[k] for k in names if k in given})
        if "window" in given:
            views = windows_of("multi_hop", given["query"], memory, given["window"])
            call = checks.check_multi_hop(given["query"], views, given["hops"])
            return call._replace(window=memory)
        if not given["hops"]:
            call = checks.check_read(given["query"], memory, softmax=True)
            return with_lse(call) if option == "lse" else call
        defaults = {"num_heads": 1, "dropout": 0.0, "slot_order": "oldest_first"}
        options = {name: given.get(name, default) for name, default in defaults.items()}
        attention = check_attention("multi_hop", **options)
        return checks.check_multi_hop(given["query"], memory, given["hops"], attention)

    assert is_used(call_of(case(option, is_shared=False)))
    assert is_used(call_of(case("own_memory", is_shared=False))) == (option == "own_memory")


def test_an_option_that_is_not_claimed_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    given = case("own_memory", is_shared=False)
    call = checks.check_multi_hop(given["query"], Memory(given["memories"]), given["hops"])
    assert backends.why_not("project", call) is None
    option = backends.Option("graphs", lambda _: True)
    monkeypatch.setitem(backends._LACKING, "project", [option])
    assert backends.why_not("project", call) == "graphs"
    with pytest.raises(NotImplementedError, match="impl='project' does not support graphs"):
        multi_hop(**given, impl="project")
    shared = {**given, "query": torch.randn(200, D), "memories": torch.randn(3, WIDTH)}
    call = checks.check_multi_hop(shared["query"], Memory(shared["memories"]), shared["hops"])
    assert ops.dispatch.cheapest_form(call) == "project"
    assert ops.dispatch.form_of(call) == "eager"


def test_the_old_name_of_the_eager_form_is_deprecated() -> None:
    given = case("own_memory", is_shared=False)
    with pytest.warns(DeprecationWarning, match="multi_hop: impl='torch' is deprecated"):
        found = multi_hop(**given, impl="torch")
    assert torch.equal(found, multi_hop(**given, impl="eager"))
    keys = given["memories"]
    with pytest.warns(DeprecationWarning, match="read: impl='torch' is deprecated"):
        read(torch.randn(B, WIDTH), keys, impl="torch")


def test_the_table_in_the_documents_is_that_of_the_registry() -> None:
    text = (Path(__file__).parents[2] / "docs" / "layer.md").read_text(encoding="utf-8")
    begin, end = "<!-- table: backends -->\n", "<!-- end of table -->"
    assert text.partition(begin)[2].partition(end)[0] == document_tables()["backends"].text([])
