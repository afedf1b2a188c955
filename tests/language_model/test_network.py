"""The network of a language model against the formula of section 5, word by word."""

import pytest
import torch
from torch import Tensor

from memhop.language_model.network import CONSTANT, LanguageNetwork, Words
from memhop.language_model.recipe import LanguageRecipe

VOCABULARY, DIM, HOPS, NUM_WORDS = 11, 6, 3, 4
SIZES = {"memory_dim": DIM, "num_hops": HOPS, "num_words": NUM_WORDS, "init_std": 0.7}
VARIANTS = [{}, {"embeddings": "shared", "first_query": "newest"}]


def network_of(**settings: object) -> LanguageNetwork:
    torch.manual_seed(0)
    network = LanguageNetwork(VOCABULARY, LanguageRecipe.paper(**SIZES | settings))
    network.reset_parameters()
    return network.double()


def by_the_formula(network: LanguageNetwork, memory: list[int]) -> tuple[Tensor, Tensor]:
    """Return u after the last hop, and p of each hop, for the words in memory."""
    weights = dict(network.named_parameters())
    a, c = network.tables()
    shared = network.word_a is None
    u = torch.full((DIM,), CONSTANT, dtype=torch.float64)
    if network.first is not None:
        u = weights["first.weight"] @ a[memory[-1]]
    shares = []
    for hop in range(HOPS):
        prefix = f"hops.{hop if shared else 0}."
        t_a, t_c = (weights[f"{prefix}embed_{one}.temporal"] for one in "ac")
        ages = range(len(memory) - 1, -1, -1)
        if shared:
            map_a, map_c = (weights[f"{prefix}embed_{one}.weight"] for one in "ac")
            keys = [map_a @ a[word] + t_a[age] for word, age in zip(memory, ages, strict=True)]
            values = [map_c @ c[word] + t_c[age] for word, age in zip(memory, ages, strict=True)]
        else:
            keys = [a[word] + t_a[age] for word, age in zip(memory, ages, strict=True)]
            values = [c[word] + t_c[age] for word, age in zip(memory, ages, strict=True)]
        p = torch.softmax(torch.stack([u @ key for key in keys]), 0)
        shares.append(p)
        read = sum(share * value for share, value in zip(p, values, strict=True))
        u = weights[f"{prefix}transform.weight"] @ u + read
        half = DIM // 2
        u = torch.cat([u[:half], u[half:].clamp(min=0)])
    return u, torch.stack(shares)


@pytest.mark.parametrize("settings", VARIANTS)
def test_windows_equal_the_formula(settings: dict[str, object]) -> None:
    network = network_of(**settings).eval()
    rows = torch.randint(VOCABULARY, (2, 5 + NUM_WORDS - 1))
    u, p = network(Words(rows, None, True), need_weights=True)
    for row in range(2):
        for t in range(5):
            wanted, shares = by_the_formula(network, rows[row, t : t + NUM_WORDS].tolist())
            torch.testing.assert_close(u[row, t], wanted, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(p[row, t], shares, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", VARIANTS)
def test_words_before_the_beginning_are_ignored(settings: dict[str, object]) -> None:
    network = network_of(**settings).eval()
    rows = torch.randint(VOCABULARY, (1, 3 + NUM_WORDS - 1))
    ignored = torch.arange(rows.shape[1]).unsqueeze(0) < 2
    u, p = network(Words(rows, ignored, True), need_weights=True)
    for t in range(3):
        memory = rows[0, max(t, 2) : t + NUM_WORDS].tolist()
        wanted, shares = by_the_formula(network, memory)
        torch.testing.assert_close(u[0, t], wanted, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(p[0, t, :, NUM_WORDS - len(memory) :], shares)


@pytest.mark.parametrize("settings", VARIANTS)
def test_single_positions_equal_windows_and_so_do_their_gradients(
    settings: dict[str, object],
) -> None:
    network = network_of(**settings)
    rows = torch.randint(VOCABULARY, (1, 7 + NUM_WORDS - 1))
    wanted = torch.randn(7, DIM, dtype=torch.float64)
    found = []
    for words in (Words(rows, None, True), Words(rows[0].unfold(0, NUM_WORDS, 1), None, False)):
        u = network(words).reshape(7, DIM)
        found.append((u, *torch.autograd.grad((u * wanted).sum(), list(_used(network)))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def _used(network: LanguageNetwork) -> list[Tensor]:
    shared = network.word_a is None
    return [w for name, w in network.named_parameters() if shared or name != "output"]


def test_tables_of_fewer_rows_give_the_same() -> None:
    network = network_of().eval()
    rows = torch.randint(VOCABULARY, (2, 3 + NUM_WORDS - 1))
    used, places = torch.unique(rows, return_inverse=True)
    a, c = network.tables()
    cut = network(Words(places, None, True), (a[used], c[used]))
    torch.testing.assert_close(cut, network(Words(rows, None, True)), rtol=0, atol=0)


def test_dropout_concerns_training_only() -> None:
    network = network_of(word_dropout=0.5, attention_dropout=0.5, output_dropout=0.5)
    words = Words(torch.randint(VOCABULARY, (1, 9)), None, True)
    assert not torch.equal(network.train()(words), network(words))
    plain = network_of().eval()
    torch.testing.assert_close(network.eval()(words), plain(words), rtol=0, atol=0)


def test_the_paper_has_4_58_million_weights() -> None:
    recipe = LanguageRecipe.paper(num_hops=7, num_words=200)
    with torch.device("meta"):
        network = LanguageNetwork(10_000, recipe)
    assert sum(w.numel() for w in network.parameters()) == 3 * 1_500_000 + 2 * 30_000 + 22_500
