"""Structures at uNAS's point on CIFAR-10: where ``ds-resnet`` has its blocks from.

    OMP_NUM_THREADS=1 python benchmarks/pruning/structure_search.py IMAGES --output PLACE

IMAGES is a folder as the task ``image-folder`` reads it. Every plan is scaled by the largest width multiplier within
the bounds, and trained in float. Validation accuracy decides; no test data are used. Rows beside the page are not run
again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mcu.resource_model import ResourceModel
from mcu.tracing.trace import trace
from orchestrator.executors.attempt import keep_freed_memory
from pruning.training.problem import Problem, Settings
from pruning.training.steps import Trainer
from search_spaces.choices import TaskChoice
from search_spaces.networks.layers import Size, conv_bn, initialise, network, same_size, scaled, separable
from search_spaces.networks.mobilenet import InvertedResidual
from search_spaces.networks.resnet import ResidualBlock, SeparableBlock
from search_spaces.tasks import Task, load_task

MACS, PARAMETERS = 384_000, 11_400
"""uNAS's point, a byte a weight; biases and scales are eight."""

HYPERPARAMETERS = {"learning_rate": 0.1, "int8_part": 0.0, "weight_decay": 1e-4, "label_smoothing": 0.0}


class ActivationFirst(nn.Module):
    """A depthwise and a 1x1 convolution beside the identity, with the last activation before the sum."""

    def __init__(self, channels: int, size: Size, kernel: int) -> None:
        super().__init__()
        self.depthwise = conv_bn(channels, channels, size, kernel, groups=channels)
        self.pointwise = conv_bn(channels, channels, size, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, channels, H, W)`` to the same shape."""
        return torch.add(x, self.pointwise(self.depthwise(x)))


Layer = tuple[str, int, int] | tuple[str, int, int, int]
"""Kind, channels, stride, and a kernel or an expansion."""

PLANS: dict[str, list[Layer]] = {
    "micro-cnn": [("full", 6, 2), ("full", 8, 1), ("separable", 12, 2), ("separable", 26, 2), ("separable", 58, 1)],
    "resnet8, stride 2 first": [("full", 16, 2), ("residual", 16, 1), ("residual", 32, 2), ("residual", 64, 2)],
    "resnet8, stride 2 first, flatter": [("full", 8, 2), ("residual", 8, 1), ("residual", 16, 2), ("residual", 20, 2)],
    "full blocks on 8x8": [
        ("full", 12, 2), ("full", 16, 2), ("residual", 16, 1), ("residual", 24, 2), ("separable", 48, 1),
    ],
    "inverted residuals": [
        ("full", 12, 2), ("inverted", 12, 1, 2), ("inverted", 16, 2, 3), ("inverted", 16, 1, 3),
        ("inverted", 24, 2, 3), ("inverted", 24, 1, 3), ("separable", 48, 1),
    ],
    "ds-resnet": [
        ("full", 16, 2), ("block", 16, 1), ("separable", 32, 2), ("block", 32, 1), ("block", 32, 1),
        ("separable", 48, 2), ("block", 48, 1),
    ],
    "ds-resnet, activation before the sum": [
        ("full", 16, 2), ("early", 16, 1), ("separable", 32, 2), ("early", 32, 1), ("early", 32, 1),
        ("separable", 48, 2), ("early", 48, 1),
    ],
    "ds-resnet, two blocks on 16x16": [
        ("full", 14, 2), ("early", 14, 1), ("early", 14, 1), ("separable", 28, 2), ("early", 28, 1), ("early", 28, 1),
        ("separable", 48, 2),
    ],
    "ds-resnet, deeper and thinner": [
        ("full", 12, 2), ("separable", 24, 2), ("early", 24, 1), ("early", 24, 1), ("early", 24, 1),
        ("separable", 40, 2), ("early", 40, 1), ("early", 40, 1),
    ],
    "ds-resnet, kernels of 5": [
        ("full", 16, 2), ("separable", 24, 2, 5), ("early", 24, 1, 5), ("early", 24, 1, 5),
        ("separable", 40, 2, 5), ("early", 40, 1, 5),
    ],
}  # fmt: skip


def build(plan: list[Layer], width: float, task: Task) -> nn.Module:
    """A plan's network at a width multiplier."""
    inputs, *size = task.input_shape
    here: Size = (size[0], size[1])
    layers: list[nn.Module] = []
    for kind, channels, stride, *rest in plan:
        outputs, more = scaled(channels, width), rest[0] if rest else 3
        match kind:
            case "full":
                layers.append(conv_bn(inputs, outputs, here, more, stride))
            case "separable":
                layers.append(separable(inputs, outputs, here, more, stride))
            case "residual":
                layers.append(ResidualBlock(inputs, outputs, here, (stride, stride)))
            case "inverted":
                layers.append(InvertedResidual(inputs, outputs, here, stride, more))
            case "block":
                layers.append(SeparableBlock(inputs, here))
            case "early":
                layers.append(ActivationFirst(inputs, here, more))
        here, inputs = same_size(here, (stride, stride)), outputs
    return network(layers, inputs, task.outputs)


def cost(module: nn.Module, task: Task) -> dict[str, int]:
    """Resources, and bytes of parameters as architecture searches count them."""
    model = ResourceModel(trace(module.eval(), task.input_shape).graph)
    used = model.exact(model.dense_widths)
    weights = sum(weight.numel() for name, weight in module.named_parameters() if "norm" not in name)
    scales = sum(weight.numel() for name, weight in module.named_parameters() if "norm.weight" in name)
    return {"flash": used.flash, "sram": used.sram, "macs": used.macs, "parameters": weights + 8 * scales}


def fitted(plan: list[Layer], task: Task) -> float:
    """The largest width multiplier within the bounds, to a thousandth."""
    low, high = 0.2, 4.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        used = cost(build(plan, middle, task), task)
        fits = used["macs"] <= MACS and used["parameters"] <= PARAMETERS
        low, high = (middle, high) if fits else (low, middle)
    return low


def measured(name: str, task: Task, epochs: int) -> dict[str, Any]:
    """Float validation accuracy of a plan that just fits."""
    width = fitted(PLANS[name], task)
    torch.manual_seed(0)
    built = build(PLANS[name], width, task)
    initialise(built)
    used, began = cost(built, task), time.process_time()
    mean, std = task.normalise
    problem = Problem(
        lambda: built, task.input_shape, task.outputs, task.x_train, task.y_train, task.x_val, task.y_val,
        tuple(mean), tuple(std), task.augment,
    )  # fmt: skip
    trainer = Trainer(built, problem, Settings(epochs=epochs, hyperparameters=HYPERPARAMETERS))
    for step in range(trainer.steps):
        trainer.take_step(step)
    found = {"val_accuracy": trainer.val_accuracy(), "cpu_s": round(time.process_time() - began)}
    return {"plan": name, "epochs": epochs, "width": round(width, 3), **used, **found}


def text_of(rows: list[dict[str, Any]]) -> str:
    """The page."""
    lines = [
        f"| {row['plan']} | {row['width']:.3f} | {row['macs']:,} | {row['parameters']:,} | {row['flash']:,} | "
        f"{row['sram']:,} | {100 * row['val_accuracy']:.1f} | {row['cpu_s']} |"
        for row in sorted(rows, key=lambda row: -row["val_accuracy"])
    ]
    return (
        "# Structures at uNAS's point\n\n"
        f"At most {MACS:,} multiply-accumulates and {PARAMETERS:,} bytes of parameters on 3x32x32 pixels. A JPEG copy "
        "of CIFAR-10 (quality 75, lossy), 42,500 training images, 7,500 validate; float validation accuracy in percent "
        f"after {rows[0]['epochs']} epochs, seed 0: one standard error is half a point. Variants of ds-resnet have the "
        "last activation of a block before its sum.\n\n"
        "    OMP_NUM_THREADS=1 python benchmarks/pruning/structure_search.py IMAGES --output PLACE\n\n"
        "| structure | width | MACs | parameters, B | flash, B | SRAM, B | validation | core s |\n"
        "|---|---:|---:|---:|---:|---:|---:|---:|\n" + "\n".join(lines) + "\n"
    )


def main() -> None:
    """Run what is missing, write rows and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="of the page and the rows, without suffix")
    parser.add_argument("--epochs", type=int, default=10)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    stored = chosen.output.with_suffix(".json")
    rows = json.loads(stored.read_text()) if stored.exists() else []
    missing = [name for name in PLANS if (name, chosen.epochs) not in {(row["plan"], row["epochs"]) for row in rows}]
    for name in missing:
        rows.append(measured(name, load_task(TaskChoice(name="image-folder", data=str(chosen.images))), chosen.epochs))
        print(json.dumps(rows[-1]), flush=True)
        stored.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    chosen.output.with_suffix(".md").write_text(text_of(rows))


if __name__ == "__main__":
    main()
