"""Networks of timm, torchvision and papers, each proven and pruned in one short job: docs/results/mcu/zoo.md.

timm and torchvision are no dependencies of mcusweep; they stand in an environment of their own, from the repository's
root:

    python3.11 -m venv /tmp/zoo && /tmp/zoo/bin/pip install -e . torch==2.14.1 torchvision==0.29.1 timm==1.0.31
    OMP_NUM_THREADS=1 PYTHONPATH=. /tmp/zoo/bin/python benchmarks/mcu/zoo.py FOLDER --page docs/results/mcu/zoo.md

FOLDER gets one line of JSON for each network, in a file of its own; what is there is not run again (``--again NAME``,
``--again refused``). Each network has a process of its own and at most ``--seconds`` of CPU time.

A job prunes with half of the dense network's flash, SRAM and multiply-accumulates, or, where that is out of reach, with
the mean of the dense and the smallest network's. It learns four classes that a few steps can tell apart; what is looked
at is the way from torch to the interpreter, not accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mcu.budget import Budget, Resources
from mcu.cost.deployment import predict_deployment
from mcu.errors import InputError
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import check_against_interpreter
from mcu.resource_model import ResourceModel
from mcu.terms import TaskKind
from mcu.tracing.trace import trace
from networks import forms
from pruning.differentiable import DifferentiablePruning
from pruning.engine.landing import UnreachableBudgetError, smallest
from pruning.training.evaluation import float_accuracy, int8_accuracy, int8_inputs
from pruning.training.objective import Objective
from pruning.training.problem import Infeasible, Outcome, Problem, Settings
from pruning.training.rehearsal import rehearse

CLASSES, IMAGE, SMALL_IMAGE = 4, (3, 64, 64), (3, 32, 32)
LARGE = 60e6
"""Multiply-accumulates from which on jobs, and proofs, take the smaller image."""

TRAIN, VAL, EPOCHS, BATCH = 320, 400, 4, 16
RECIPE = {"learning_rate": 0.05, "recalibration": True, "int8_part": 0.1}

TORCHVISION = """
resnet18 resnet34 mobilenet_v2 mobilenet_v3_small mnasnet0_5 squeezenet1_1 shufflenet_v2_x0_5
efficientnet_b0 regnet_y_400mf densenet121 googlenet vgg11_bn
"""
SMALL = ("vgg11_bn",)
"""Whose pool to 7 x 7 has windows of one size on the smaller image alone."""

TIMM = """
mobilenetv1_100 mobilenetv2_035 mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small
mobilenet_edgetpu_v2_xs tinynet_e lcnet_035 fbnetc_100 fbnetv3_b ghostnet_050 repghostnet_050
repvgg_a0 mobileone_s0 tf_efficientnet_lite0 efficientnet_lite0 mixnet_s mnasnet_small semnasnet_075
spnasnet_100 hardcorenas_a rexnet_100 resnet10t resnet14t resnet18 resnetv2_50 test_resnet
test_efficientnet test_byobnet regnetx_002 regnety_002 resnext50_32x4d densenet121 dla34 vgg11_bn
hrnet_w18_small selecsls42b cspresnet50 darknet17 ese_vovnet19b_dw starnet_s1 repvit_m0_9
"""
ATTENTION = """
edgenext_xx_small convnext_atto test_convnext efficientvit_m0 fastvit_t8 mobilevit_xxs levit_128s
tiny_vit_5m_224 inception_next_atto mambaout_femto dm_nfnet_f0
"""
"""Of timm, with attention, layer normalisation or standardised weights: refused by name."""

REPARAMETRISED = ("mobileone_s0", "repvgg_a0", "repghostnet_050")
"""Deployed with their branches in one convolution; both forms are tried."""


@dataclass(frozen=True)
class Entry:
    """A network of the zoo."""

    library: str
    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    kind: TaskKind = TaskKind.CLASSIFICATION

    @property
    def key(self) -> str:
        return f"{self.library}.{self.name}"


def from_timm(name: str, fused: bool = False) -> nn.Module:
    import timm
    from timm.utils.model import reparameterize_model

    network = timm.create_model(name, num_classes=CLASSES, pretrained=False)
    return reparameterize_model(network.eval()).train() if fused else network


def from_torchvision(name: str) -> nn.Module:
    import torchvision

    more = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return getattr(torchvision.models, name)(num_classes=CLASSES, weights=None, **more)


def entries() -> list[Entry]:
    """The whole zoo, the lighter libraries first."""
    of_forms: list[tuple[str, Callable[[], nn.Module], tuple[int, ...]]] = [
        ("M5", lambda: forms.M5(CLASSES), (1, 2000)),
        ("TC-ResNet", lambda: forms.TCResNet(CLASSES), (40, 100)),
        ("TCN", lambda: forms.TCN(CLASSES), (9, 128)),
        ("BC-ResNet", lambda: forms.BCResNet(CLASSES), (1, 40, 64)),
        ("EEGNet", lambda: forms.EEGNet(CLASSES), (1, 22, 128)),
        ("InceptionTime", lambda: forms.InceptionTime(CLASSES), (1, 128)),
        ("MCUNet", lambda: forms.MCUNet(CLASSES), IMAGE),
        ("MicroNet", lambda: forms.micronet(CLASSES), (1, 49, 10)),
    ]
    return [
        *(Entry("forms", name, make, shape) for name, make, shape in of_forms),
        Entry("forms", "U-Net", lambda: forms.UNet(CLASSES), (1, 32, 32), TaskKind.GRID),
        Entry("forms", "autoencoder", forms.autoencoder, (640,), TaskKind.RECONSTRUCTION),
        *(
            Entry("torchvision", name, partial(from_torchvision, name), SMALL_IMAGE if name in SMALL else IMAGE)
            for name in TORCHVISION.split()
        ),
        *(
            Entry("timm", name, partial(from_timm, name), SMALL_IMAGE if name in SMALL else IMAGE)
            for name in TIMM.split()
        ),
        *(Entry("timm", f"{name} (fused)", partial(from_timm, name, True), IMAGE) for name in REPARAMETRISED),
        *(Entry("timm", name, partial(from_timm, name), IMAGE) for name in ATTENTION.split()),
    ]


# --- data that a few steps can learn -------------------------------------------------------------------------


def samples(entry: Entry, shape: tuple[int, ...], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs float32 ``(N, *shape)`` and targets of the entry's kind."""
    rng = np.random.default_rng(seed)
    if entry.kind is TaskKind.RECONSTRUCTION:
        base = np.random.default_rng(0).normal(size=(4, *shape))
        x = rng.normal(size=(count, 4)) @ base / 2
        y = rng.integers(0, 2, count) if seed else np.zeros(count, np.int64)  # training data is normal
        return (x + np.where(y, 1.0, 0.1)[:, None] * rng.normal(size=x.shape)).astype(np.float32), y
    if entry.kind is TaskKind.GRID:
        rows, columns = np.mgrid[: shape[1], : shape[2]]
        y = np.zeros((count, *shape[1:]), np.int64)
        for cells in y:
            for label in range(1, CLASSES):
                row, column = rng.integers(4, shape[1] - 4, 2)
                cells[np.hypot(rows - row, columns - column) < 4] = label
        return (y[:, None] + 0.2 * rng.normal(size=(count, *shape))).astype(np.float32), y
    y = rng.integers(0, CLASSES, count)
    return np.stack([_waves(shape, int(label), rng) for label in y]).astype(np.float32), y


def _waves(shape: tuple[int, ...], label: int, rng: np.random.Generator) -> np.ndarray:
    """A grating whose direction and colour, or a tone whose pitch and offset, are the class."""
    along = np.arange(shape[-1]) / shape[-1]
    angle = np.pi * label / CLASSES
    if len(shape) == 3:
        down = np.arange(shape[1])[:, None] / shape[1]
        phase = 16 * np.pi * (np.cos(angle) * along + np.sin(angle) * down)
    else:
        phase = 2 * np.pi * (4 + 6 * label) * along
    colour = np.cos(2 * angle + np.arange(shape[0])).reshape(-1, *(1,) * (len(shape) - 1))
    return colour + np.sin(phase + rng.uniform(0, 2 * np.pi)) + 0.5 * rng.normal(size=shape)


# --- one network ---------------------------------------------------------------------------------------------


def look_at(entry: Entry, job: bool) -> dict[str, Any]:
    """Trace, prove, rehearse and cost one network, and prune it if a job is asked for."""
    torch.manual_seed(0)
    started = time.process_time()
    network = entry.make()
    traced, shape = trace(network, entry.shape), entry.shape
    model = ResourceModel(traced.graph)
    if shape == IMAGE and model.macs(model.dense_widths) > LARGE:
        traced, shape = trace(network, SMALL_IMAGE), SMALL_IMAGE
        model = ResourceModel(traced.graph)
    rehearse(traced, shape)
    proven = time.process_time() - started
    dense, least = model.exact(model.dense_widths), smallest(model)
    found = {"shape": shape, "operators": len(traced.graph.ops), "notes": traced.notes, "proof_seconds": proven}
    found |= {"dense": asdict(dense), "smallest": asdict(least)}
    return found | (pruned(entry, shape, dense, least) if job else {})


def pruned(entry: Entry, shape: tuple[int, ...], dense: Resources, least: Resources) -> dict[str, Any]:
    """One short job: what the model costs and answers."""
    started = time.process_time()
    metric = {TaskKind.GRID: "cell_f1", TaskKind.RECONSTRUCTION: "auc"}.get(entry.kind, "accuracy")
    train, val = samples(entry, shape, TRAIN, 0), samples(entry, shape, VAL, 1)
    problem = Problem(entry.make, shape, CLASSES, *train, *val, objective=Objective(entry.kind, metric))
    bounds = {name: max(bound // 2, (bound + getattr(least, name)) // 2) if getattr(least, name) > bound // 2
              else bound // 2 for name, bound in asdict(dense).items()}  # fmt: skip
    settings = Settings(EPOCHS, BATCH, hyperparameters=RECIPE)
    outcome = DifferentiablePruning().run(problem, Budget(**bounds), settings, lambda progress: True)
    if isinstance(outcome, Infeasible):
        raise InputError(outcome.reason)
    return {"budget": bounds, "metric": metric} | _judged(outcome, problem) | {
        "job_seconds": time.process_time() - started
    }  # fmt: skip


def _judged(outcome: Outcome, problem: Problem) -> dict[str, Any]:
    used = problem.runtime.measure(outcome.model, outcome.data)
    predicted = predict_deployment(outcome.model)
    codes = int8_inputs(outcome.model, problem.x_val[:16], problem)
    check_against_interpreter(outcome.data, ReferenceInterpreter(outcome.model), (codes,))
    return {
        "used": asdict(used),
        "predicted": {"flash": predicted.flash, "sram": predicted.arena.total, "macs": outcome.model.macs()},
        "float": float_accuracy(outcome.folded_network, problem.x_val, problem.y_val, problem),
        "int8": int8_accuracy(outcome.model, problem.x_val, problem.y_val, problem),
    }


def answer(entry: Entry, job: bool) -> dict[str, Any]:
    """What became of a network: its figures, a refusal, or a failure, which is a fault of mcusweep."""
    row: dict[str, Any] = {"library": entry.library, "name": entry.name}
    try:
        return row | look_at(entry, job)
    except UnreachableBudgetError as error:
        return row | {"failed": str(error)}
    except InputError as error:
        return row | {"refused": str(error)}
    except Exception as error:
        return row | {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


# --- all of them ---------------------------------------------------------------------------------------------


def run(folder: Path, entry: Entry, seconds: int, job: bool) -> dict[str, Any]:
    """One network in a process of its own; its line is in the folder afterwards."""
    path = folder / f"{entry.key}.json"
    command = [sys.executable, __file__, str(folder), "--one", entry.key, *([] if job else ["--proof"])]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))

    started = time.monotonic()
    try:
        ended = subprocess.run(command, preexec_fn=limit, timeout=8 * seconds, check=False).returncode
    except subprocess.TimeoutExpired:
        ended = -1
    if ended or not path.exists():
        why = f"no answer within {seconds} s of CPU time (status {ended}, {time.monotonic() - started:.0f} s)"
        path.write_text(json.dumps({"library": entry.library, "name": entry.name, "failed": why}) + "\n", "utf-8")
    return json.loads(path.read_text("utf-8"))


def is_due(path: Path, again: Iterable[str], job: bool) -> bool:
    """Whether a network is to be run; one that has only been proven still needs its job."""
    if not path.exists():
        return True
    row = json.loads(path.read_text("utf-8"))
    ended = "refused" in row or "failed" in row
    return row["name"] in again or ("refused" in again and ended) or (job and not ended and "used" not in row)


def version_of(folder: Path) -> str:
    """The commit that runs."""
    told = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


# --- the page ------------------------------------------------------------------------------------------------


def page(rows: list[dict[str, Any]]) -> str:
    done = [row for row in rows if "used" in row]
    lines = [
        "# Networks of timm, torchvision and papers",
        "",
        "Made by `benchmarks/mcu/zoo.py` (how: its first lines). Each network was traced, proven in double precision",
        "against the module, narrowed to three widths and compared again, trained for a step at two, and then pruned",
        f"in one short differentiable job ({EPOCHS} epochs of {TRAIN} samples) with half of its dense flash, SRAM and",
        "multiply-accumulates.",
        "",
        *_counts(rows, done),
        "",
        "Sizes are flash, SRAM and multiply-accumulates; `used` is measured in TensorFlow Lite Micro, and its answers",
        "are compared with the reference interpreter's, bit by bit, on 16 inputs. Scores are of 400 samples (`cell_f1`",
        f"of the U-Net, `auc` of the autoencoder). Images are 64 x 64, above {LARGE / 1e6:.0f} M multiply-accumulates",
        "32 x 32. Seconds are of one core, shared with other work: proof, job.",
        "",
        "| network | from | input | operators | dense | smallest | used | within | bit-exact, sizes to the byte "
        "| float | int8 | s |",
        "| --- | --- | --- | ---: | --- | --- | --- | --- | --- | ---: | ---: | ---: |",
    ]
    lines += [_line(row) for row in done]
    if proven := [row for row in rows if "dense" in row and row not in done]:
        lines += [
            "",
            "## Accepted and proven, job not run",
            "",
            "| network | from | input | operators | dense | smallest |",
        ]
        lines += ["| --- | --- | --- | ---: | --- | --- |"]
        lines += ["| " + " | ".join(map(str, _facts(row))) + " |" for row in proven]
    lines += ["", "## Refused", "", "| network | from | why |", "| --- | --- | --- |"]
    lines += [f"| {row['name']} | {row['library']} | {_cell(row['refused'])} |" for row in rows if "refused" in row]
    if failed := [row for row in rows if "failed" in row]:
        lines += ["", "## Failed", "", "| network | from | how |", "| --- | --- | --- |"]
        lines += [f"| {row['name']} | {row['library']} | {_cell(row['failed'])} |" for row in failed]
    versions = ", ".join(sorted({row.get("version", "") for row in rows}))
    return "\n".join([*lines, "", f"Commits: {versions}."]) + "\n"


def _counts(rows: list[dict[str, Any]], done: list[dict[str, Any]]) -> list[str]:
    groups = [
        ("torchvision", {("torchvision", name) for name in TORCHVISION.split()}),
        ("timm, convolutional", {("timm", name) for name in TIMM.split()}),
        ("timm, with attention or layer normalisation", {("timm", name) for name in ATTENTION.split()}),
        ("forms of papers", {("forms", row["name"]) for row in rows if row["library"] == "forms"}),
    ]
    lines = ["| networks | tried | accepted and proven | pruned in a job | of these int8 within one point of float |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    for title, members in groups:
        seen = [row for row in rows if (row["library"], row["name"]) in members]
        ended = [row for row in seen if row in done]
        close = [row for row in ended if row["int8"] >= row["float"] - 0.01]
        proven = sum("dense" in row for row in seen)
        lines.append(f"| {title} | {len(seen)} | {proven} | {len(ended)} | {len(close)} |")
    return lines


def _line(row: dict[str, Any]) -> str:
    within = all(row["used"][name] <= bound for name, bound in row["budget"].items())
    cells = (
        *_facts(row), _cost(row["used"]), "yes" if within else "**no**",
        "yes" if row["used"] == row["predicted"] else "**no**", f"{row['float']:.3f}", f"{row['int8']:.3f}",
        f"{row['proof_seconds']:.0f}, {row['job_seconds']:.0f}",
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def _facts(row: dict[str, Any]) -> tuple[Any, ...]:
    shape = " x ".join(map(str, row["shape"]))
    return row["name"], row["library"], shape, row["operators"], _cost(row["dense"]), _cost(row["smallest"])


def _cost(used: dict[str, int]) -> str:
    return f"{used['flash'] / 1024:,.0f} KB, {used['sram'] / 1024:,.0f} KB, {used['macs'] / 1e6:,.2f} M"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:300]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--page", type=Path, help="write the page of what is in FOLDER, after every network")
    parser.add_argument("--proof", action="store_true", help="no jobs: what is accepted, in seconds for each network")
    parser.add_argument("--only", nargs="*", metavar="NAME")
    parser.add_argument("--again", nargs="*", default=[], metavar="NAME", help="names, or 'refused'")
    parser.add_argument("--seconds", type=int, default=1200, help="of CPU time for a network")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    zoo = entries()
    if arguments.one:
        torch.set_num_threads(1)
        row = answer(next(entry for entry in zoo if entry.key == arguments.one), not arguments.proof)
        row["version"] = version_of(Path(__file__).parent)
        (arguments.folder / f"{arguments.one}.json").write_text(json.dumps(row) + "\n", "utf-8")
        os._exit(0)
    for entry in zoo:
        path = arguments.folder / f"{entry.key}.json"
        if (not arguments.only or entry.name in arguments.only) and is_due(path, arguments.again, not arguments.proof):
            path.unlink(missing_ok=True)
            row = run(arguments.folder, entry, arguments.seconds, not arguments.proof)
            print({name: row[name] for name in row if name not in ("notes", "traceback", "predicted")}, flush=True)
        if arguments.page:
            paths = [arguments.folder / f"{entry.key}.json" for entry in zoo]
            rows = [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]
            arguments.page.write_text(page(rows), "utf-8")


if __name__ == "__main__":
    main()
