"""Recommend the next item to users whose histories have an order that matters.

A user follows two to four of eight series, each a loop of eight items, and goes on with the series
that waited longest, or in a tenth of the cases with any (so the best rule is right in 0.936).
Each item is a query: it finds the item before it in the history, and reads how old that is.

Options: ``slots`` (a history is a list of rows of the item table), ``lengths``, queries [B, L, D]
(all items on each history), ``temporal_slots`` and ``slot_order="newest_first"`` (histories are cut
to the newest items), ``embed="c"`` (no A: the tables of items and of queries are both learned).
Prints how often the item with the highest score is the next one of a new user, for the model, for
the same without ages, and for the item that followed the last one most often in training:
held-out accuracy: model 0.880, without ages 0.412, last item 0.022 (the mean of seeds 0, 1 and 2)
"""

import random
import sys

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.nn.utils.rnn import pad_sequence

from memhop import MemoryHop

SERIES, PARTS, ITEMS, HISTORY = 8, 8, 64, 12


def draw_user() -> tuple[Tensor, int]:
    """Return the newest items of a user, newest first, and the next item."""
    followed = random.sample(range(SERIES), random.randint(2, 4))
    waiting = [series * PARTS + random.randrange(PARTS) for series in followed]
    items: list[int] = []
    for _ in range(random.randint(6, 20)):
        items.append(waiting.pop(0 if random.random() < 0.9 else random.randrange(len(waiting))))
        waiting.append(items[-1] // PARTS * PARTS + (items[-1] + 1) % PARTS)
    return torch.tensor(items[-2::-1][:HISTORY]), items[-1]


def draw_users(num_users: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return histories [B, N], their lengths [B] and next items [B]."""
    histories, items = zip(*(draw_user() for _ in range(num_users)), strict=True)
    lengths = torch.tensor([len(history) for history in histories])
    return pad_sequence(list(histories), True), lengths, torch.tensor(items)


class Recommender(nn.Module):
    def __init__(self, ages: int | None, dim: int = 32) -> None:
        super().__init__()
        self.tables = nn.Parameter(0.3 * torch.randn(2, ITEMS, dim))
        self.hop = MemoryHop(dim, dim, embed="c", temporal_slots=ages, slot_order="newest_first")

    def forward(self, histories: Tensor, lengths: Tensor) -> Tensor:
        """Return the score of each item as the next one, [B, ITEMS]."""
        bank, query = self.tables[0], self.tables[1].expand(len(histories), -1, -1)
        return ((self.hop(query, bank, slots=histories, lengths=lengths) - query) * query).sum(-1)


def recommend(ages: int | None, train: tuple[Tensor, ...], test: tuple[Tensor, ...]) -> Tensor:
    """Train a model, with ages or without; return its first item for each test user."""
    model = Recommender(ages)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for batch in (batch for _ in range(8) for batch in torch.randperm(len(train[0])).split(128)):
        histories, lengths, items = (each[batch] for each in train)
        optimizer.zero_grad()
        cross_entropy(model(histories, lengths), items).backward()
        optimizer.step()
    return model(test[0], test[1]).argmax(-1)


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the tensors are small
    train, test = draw_users(8000), draw_users(2000)
    follows = (one_hot(train[0][:, 0], ITEMS).T @ one_hot(train[2], ITEMS)).argmax(-1)
    guesses = recommend(HISTORY, train, test), recommend(None, train, test), follows[test[0][:, 0]]
    model, no_ages, last = ((guess == test[2]).float().mean().item() for guess in guesses)
    print(f"held-out accuracy: model {model:.3f}, without ages {no_ages:.3f}, last item {last:.3f}")
