"""One rank of a loop with ``DistributedDataParallel``: prints widths by step and a digest of the weights."""

import hashlib
import json
import sys

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mcu.budget import Budget
from pruning.pruner import Pruner

STEPS = 30


def network() -> nn.Module:
    """A few convolutions and a residual sum."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
            self.body = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
            self.side = nn.Conv2d(12, 24, 1)
            self.head = nn.Linear(24, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            return self.head((self.body(x) + self.side(x)).relu().mean((2, 3)))

    return Net()


def main(rank: int, ranks: int, place: str) -> None:
    """Train on this rank's share of every batch."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=ranks)
    torch.manual_seed(rank)  # weights are the first rank's; data are each rank's own
    pruner = Pruner(network(), torch.zeros(1, 1, 8, 8), Budget(flash=4_300), STEPS)
    parallel = DistributedDataParallel(pruner)
    optimizer = torch.optim.AdamW(parallel.parameters(), 3e-3)
    pruner.attach(optimizer, parallel=parallel)
    rows = []
    for _ in range(STEPS):
        y = torch.randint(0, 4, (16,))
        x = 0.4 * torch.rand(16, 1, 8, 8) + 0.6 * (torch.arange(8)[None, :] // 2 == y[:, None])[:, None, :, None]
        loss = nn.functional.cross_entropy(parallel(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pruner.step()
        rows.append(pruner.widths)
    weights = b"".join(p.detach().numpy().tobytes() for p in pruner.parameters())
    answer = {"widths": rows, "flash": pruner.resources.flash, "trajectory": pruner.trajectory}
    print(json.dumps(answer | {"weights": hashlib.sha256(weights).hexdigest()}))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
