"""int8 accuracy after quantisation by each way to calibrate, with and without the corrections.

Every network is trained once in floating point, then quantised in each way; no fine-tuning. Run:
OMP_NUM_THREADS=1 python benchmarks/pruning/calibration.py [epochs] [file.md]
"""

from __future__ import annotations

import copy
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mcu.int8.calibration import Calibration, calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import correct_biases, equalise, quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import model_input
from mcu.tracing.trace import trace
from search_spaces.choices import NetworkChoice, Scalar, TaskChoice
from search_spaces.networks import build_network
from search_spaces.tasks import Task, load_task

IMAGES = 512
CASES: tuple[tuple[str, str, float, dict[str, Scalar]], ...] = (
    ("mnist-5k", "resnet8", 0.5, {}),
    ("mnist-5k", "ds-cnn", 0.5, {}),
    ("fashion-mnist", "resnet8", 0.5, {"train_limit": 6000, "test_limit": 3000}),
    ("fashion-mnist", "ds-cnn", 0.5, {"train_limit": 6000, "test_limit": 3000}),
)


def images(task: Task, x: np.ndarray) -> torch.Tensor:
    mean, std = (torch.tensor(v, dtype=torch.float32).reshape(1, -1, 1, 1) for v in task.normalise)
    scaled = torch.as_tensor(x).float() / (255.0 if x.dtype == np.uint8 else 1.0)
    return (scaled - mean) / std


def train(network: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int) -> nn.Module:
    steps = epochs * (len(x) // 64)
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.2, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator)[: len(x) // 64 * 64].split(64):
            loss = functional.cross_entropy(network(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


def accuracy(folded: FoldedNet, x: torch.Tensor, y: np.ndarray) -> float:
    model = quantise(folded)
    return float(np.mean(ReferenceInterpreter(model).predict(model_input(model, x.numpy())) == y))


def examine(task_name: str, network_name: str, width: float, options: dict[str, Scalar], epochs: int) -> list[str]:
    task = load_task(TaskChoice(name=task_name, options=options))
    torch.manual_seed(0)
    network = build_network(NetworkChoice(name=network_name, width=width), task.input_shape, len(task.classes), 0)
    x, test = images(task, task.x_train), images(task, task.x_test)
    train(network, x, torch.as_tensor(task.y_train), epochs)
    traced = trace(network, task.input_shape)
    plain = FoldedNet(traced.graph, traced.module)
    with torch.inference_mode():
        exact = float(np.mean(torch.cat([plain(part) for part in test.split(500)]).argmax(1).numpy() == task.y_test))
    cells = [task_name, f"{network_name} x {width:g}", f"{exact:.2%}"]
    for even, correct in ((False, False), (True, False), (False, True), (True, True)):
        for method in Calibration:
            folded = copy.deepcopy(plain)
            if even:
                equalise(folded)
            calibrate(folded, x[:IMAGES], method)
            if correct:
                correct_biases(folded, x[:IMAGES])
            cells.append(f"{100 * (accuracy(folded, test, task.y_test) - exact):+.2f}")
    return cells


def main() -> None:
    epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    torch.set_num_threads(1)
    start = time.perf_counter()
    variants = [f"{m}{extra}" for extra in ("", " + cle", " + bias", " + cle + bias") for m in Calibration]
    header = ["task", "network", "float", *variants]
    lines = [
        "# Calibration: int8 accuracy minus float accuracy, percentage points",
        "",
        f"Command: `OMP_NUM_THREADS=1 python benchmarks/pruning/calibration.py {epochs} "
        "docs/results/pruning/calibration.md`",
        "",
        f"Networks trained {epochs} epochs in floating point, calibrated on {IMAGES} training images, test accuracy "
        "by the reference interpreter; no quantisation-aware training. cle: cross-layer equalisation; bias: bias "
        "correction.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
    ]
    for task, network, width, options in CASES:
        cells = examine(task, network, width, options, epochs)
        lines.append("| " + " | ".join(cells) + " |")
        print(lines[-1], file=sys.stderr, flush=True)
    lines += ["", f"{time.perf_counter() - start:.0f} s."]
    print("\n".join(lines))
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
