"""Train a layer over a memory whose slots are spread over processes.

    torchrun --standalone --nproc-per-node 2 examples/sharded.py

The memory holds 1,000 items, each a key and a class. The first half of a query is that of the key
of an item, the other half is noise; the layer learns this, finds the item and reads its class.
Each process has its own items only. All processes draw the same queries and weights and run the
same steps: the gradients of the weights are equal on all of them, so no wrapper synchronizes them.

Options: ``group`` (the processes that share the memory), ``values``, ``value_dim``.
Prints the accuracy on new queries, over all items and over those of the first process alone:
held-out accuracy: all items 0.984, first process 0.552 (the mean of seeds 0, 1 and 2)
"""

import datetime
import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn

from memhop import MemoryHop

ITEMS, DIM, CLASSES = 1000, 64, 10
IS_KEY = torch.arange(DIM) < DIM // 2


class Finder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hop = MemoryHop(DIM, DIM, value_dim=CLASSES)
        nn.init.eye_(self.hop.get_parameter("embed_a.weight"))
        self.classifier = nn.Linear(DIM, CLASSES)

    def forward(
        self, query: Tensor, keys: Tensor, classes: Tensor, group: dist.ProcessGroup | None
    ) -> Tensor:
        """Return logits [B, CLASSES], read from the items of all processes of a group."""
        return self.classifier(self.hop(query, keys, values=classes, group=group))


def main(seed: int) -> None:
    # A process that ends is an error of the others at once, one that hangs after the timeout.
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=30))
    group, rank, num_ranks = dist.group.WORLD, dist.get_rank(), dist.get_world_size()
    torch.manual_seed(seed)  # the same on all processes
    keys, classes = torch.randn(ITEMS, DIM), torch.randint(CLASSES, (ITEMS,))
    one_hot = nn.functional.one_hot(classes, CLASSES).float()
    # Here every process draws all items; a memory that outgrows a machine is loaded by parts.
    own = slice(rank * ITEMS // num_ranks, (rank + 1) * ITEMS // num_ranks)
    own_keys, own_classes = keys[own], one_hot[own]

    def draw(num_queries: int) -> tuple[Tensor, Tensor]:
        """Return queries [B, DIM] and their classes."""
        items = torch.randint(ITEMS, (num_queries,))
        noise = torch.randn(num_queries, DIM)
        return torch.where(IS_KEY, keys[items] + 0.1 * noise, noise), classes[items]

    model = Finder()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        query, answers = draw(128)
        logits = model(query, own_keys, own_classes, group)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, answers).backward()
        optimizer.step()
    query, answers = draw(2000)
    with torch.no_grad():
        of_all = model(query, own_keys, own_classes, group)
        alone = model(query, own_keys, own_classes, None)
    all_items, first = ((each.argmax(-1) == answers).float().mean() for each in (of_all, alone))
    if rank == 0:
        print(f"held-out accuracy: all items {all_items:.3f}, first process {first:.3f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)  # the tensors are small
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
