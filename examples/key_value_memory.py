"""Answer questions about a path of two facts with a key-value memory (arXiv 1606.03126).

Each question has facts of its own, (subject, relation) -> object, and asks for example for "the
teacher of the mother of Ann". The key of a fact is the pair of embeddings [subject; relation], its
value the embedding of the object. The first hop has to find the mother, the second her teacher.
In the cited paper q <- R (q + o) and A = C; in this layer q <- q + o, and each hop has its A and C.

Options: ``values`` and ``value_dim`` (a value has half the size of a key), a pair of ``slots``
(keys and values have banks of their own), ``lengths`` (the numbers of facts differ).
Prints the share of right answers about new facts, of the model and of the same with one hop:
held-out accuracy: two hops 0.999, one hop 0.450 (the mean of seeds 0, 1 and 2)
"""

import random
import sys

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from memhop import MemoryNetwork

ENTITIES, RELATIONS = 50, 4


def draw_example() -> tuple[list[int], list[int], list[int], int]:
    """Return the rows of keys and objects of 12 to 32 facts, a question and its answer."""
    subjects = random.sample(range(ENTITIES), random.randint(3, 8))
    facts = {(s, r): random.choice(subjects) for s in subjects for r in range(RELATIONS)}
    start, first, second = random.choice(subjects), *random.choices(range(RELATIONS), k=2)
    keys, answer = [s * RELATIONS + r for s, r in facts], facts[facts[start, first], second]
    return keys, [*facts.values()], [start, first, RELATIONS + second], answer


def draw_batch(size: int) -> tuple[Tensor, ...]:
    """Return keys and objects [B, N], numbers of facts [B], questions [B, 3] and answers [B]."""
    examples = zip(*(draw_example() for _ in range(size)), strict=True)
    keys, objects, questions, answers = ([*map(torch.tensor, column)] for column in examples)
    lengths = torch.tensor([*map(len, keys)])
    slots = (pad_sequence(side, True) for side in (keys, objects))
    return *slots, lengths, torch.stack(questions), torch.stack(answers)


class KeyValueMemory(nn.Module):
    def __init__(self, num_hops: int, dim: int = 32) -> None:
        super().__init__()
        self.entities = nn.Parameter(0.3 * torch.randn(ENTITIES, dim))
        self.relations = nn.Parameter(0.3 * torch.randn(RELATIONS, dim))
        self.asked = nn.Parameter(0.3 * torch.randn(2 * RELATIONS, dim))  # first, then second
        self.net = MemoryNetwork(2 * dim, dim, num_hops, output_dim=dim, value_dim=dim)

    def forward(self, keys: Tensor, objects: Tensor, lengths: Tensor, asked: Tensor) -> Tensor:
        """Return a score for each entity, [B, ENTITIES]."""
        subjects = self.entities.repeat_interleave(RELATIONS, 0)
        bank = torch.cat([subjects, self.relations.repeat(ENTITIES, 1)], -1)
        query = torch.cat([self.entities[asked[:, 0]], self.asked[asked[:, 1:]].sum(1)], -1)
        found = self.net(query, bank, values=self.entities, slots=(keys, objects), lengths=lengths)
        return nn.functional.linear(found, self.entities)


def accuracy(num_hops: int) -> float:
    """Train a model on 64,000 questions; return its share of right answers to 2,000 others."""
    model = KeyValueMemory(num_hops)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(500):
        *inputs, answers = draw_batch(128)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(*inputs), answers).backward()
        optimizer.step()
    *inputs, answers = draw_batch(2000)
    return (model(*inputs).argmax(-1) == answers).float().mean().item()


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # the tensors are small
    print(f"held-out accuracy: two hops {accuracy(2):.3f}, one hop {accuracy(1):.3f}")
