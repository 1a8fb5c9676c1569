"""Networks drawn from the whole vocabulary, compared on every floor: docs/results/mcu/random_networks.md.

In place, as functions, methods and modules, in odd sizes, with tensors read twice, on images and signals: each is
traced, proven and rehearsed, and compared in torch, as canonical network, as operators, without some of its channels,
and, dense and pruned, in int8 by the reference interpreter, TensorFlow Lite Micro and LiteRT's reference kernels; file,
arena and multiply-accumulates must be those predicted. With ``--firmware 60`` the first sixty are firmware, too, built
and run on the emulated cores in turn.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/mcu/random_networks.py FOLDER --count 2000 \\
        --page docs/results/mcu/random_networks.md

FOLDER gets one line of JSON for each seed; what is there is not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import litert
import numpy as np
import torch
import torch.nn.functional as F
from firmware import roomy_device
from torch.utils._pytree import tree_leaves

from mcu.budget import Resources
from mcu.cost.deployment import write_deployment
from mcu.errors import InputError
from mcu.firmware import CORES, measure_firmware
from mcu.graph.ports import each
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import measure_model, model_inputs
from mcu.resource_model import ResourceModel
from mcu.tflite import tflm
from mcu.tracing.trace import trace
from networks.drawn import PORTS, SOFTMAX, Drawn, Plan, drawn
from pruning.engine import surgery
from pruning.training.rehearsal import rehearse

ALLOWED_REFUSALS = {
    "with padding": "a pool of signed values with padding that is not TensorFlow's",
    "cat of what a sigmoid": "cat of what a sigmoid or tanh gives",
    "windows are not all of one size": "an adaptive pool of uneven windows",
    "in-place operation on a part": "an in-place operation on rows or columns of a tensor that is read again",
    "returns this input as it is": "a network of nothing but dropout",
    "in-place operation behind dropout": "an in-place operation behind dropout on a tensor that is read again",
}
"""Words of a refusal that may be, and what they say."""

BATCH = 50
"""Networks in one process."""


class DiffersError(AssertionError):
    """Two floors do not agree."""


def compare(plan: Plan) -> dict[str, Any]:
    """What becomes of a plan: ``outcome`` is "empty", "refused" (with the ``reason``) or "equal".

    Raises:
        DiffersError: naming the floors that differ.
        Exception: any other is a fault, too.
    """
    torch.manual_seed(plan.seed)
    try:
        network = Drawn(plan)
    except (ValueError, RuntimeError):
        return {"outcome": "empty"}
    try:
        traced = trace(network, plan.shapes)
    except InputError as error:
        return {"outcome": "refused", "reason": str(error)}
    rehearse(traced, plan.shapes, plan.seed)
    x = tuple(torch.randn(8, *shape) for shape in plan.shapes)
    network.eval()
    module = traced.module.eval()
    with torch.no_grad():
        wanted = tree_leaves(without_dropout(network)(*(given.clone() for given in x)))
        _same(_finished(plan, module(*x)), wanted, "torch and the canonical network")
    folded = FoldedNet(traced.graph, module)
    _same(_finished(plan, folded(*x)), wanted, "torch and the operators")
    furthest = _int8(folded, x)
    narrow = copy.deepcopy(module)
    rng = np.random.default_rng(plan.seed)
    kept = [np.sort(rng.choice(g.size, int(rng.integers(1, g.size + 1)), replace=False)) for g in traced.graph.groups]
    if kept:
        smaller = FoldedNet(surgery.shrink(narrow, traced.graph, kept), narrow)
        with torch.no_grad():
            _same(smaller(*x), each(narrow(*x)), "the pruned network and its operators")
        furthest = max(furthest, _int8(smaller, x))
    kinds = sorted({str(op.kind) for op in traced.graph.ops})
    return {"outcome": "equal", "kinds": kinds, "litert": furthest, "flat": len(plan.size) == 1,
            "ports": [len(traced.graph.inputs), len(traced.graph.outputs)]}  # fmt: skip


def _finished(plan: Plan, outputs: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Outputs with the log_softmax of the scores, which stand first, and last where they are there twice."""
    scores = (0, 3) if plan.head == SOFTMAX else ()
    return [F.log_softmax(y, 1) if place in scores else y for place, y in enumerate(each(outputs))]


def without_dropout(network: Drawn) -> Callable[..., Any]:
    """The network without ``F.dropout(x)``, which torch leaves on in evaluation mode."""

    def run(*inputs: torch.Tensor) -> Any:
        keep = F.dropout
        F.dropout = lambda input, p=0.5, training=True, inplace=False: input.clone() if training else input
        try:
            return network(*inputs)
        finally:
            F.dropout = keep

    return run


def _same(found: torch.Tensor | Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], what: str) -> None:
    for ours, theirs in zip(each(found), wanted, strict=True):
        ours, theirs = ours.flatten(1), theirs.flatten(1)
        largest = max(1.0, float(theirs.abs().max()))
        if ours.shape != theirs.shape or float((ours - theirs).detach().abs().max()) > 1e-3 * largest:
            raise DiffersError(what)


def _int8(folded: FoldedNet, x: tuple[torch.Tensor, ...]) -> int:
    """Compare the int8 model on three interpreters; the largest difference of LiteRT's codes."""
    predicted = ResourceModel(folded.graph).exact(folded.graph.widths)
    model, data = _exported(folded, x)
    measured = measure_model(data)
    if predicted != Resources(measured.flash, measured.sram, measured.macs):
        raise DiffersError(f"{predicted} and what was measured, {measured.flash}, {measured.sram}, {measured.macs}")
    codes = model_inputs(model, [given.numpy() for given in x])
    theirs = tflm.invoke(data, codes)
    if not all(map(np.array_equal, ReferenceInterpreter(model).invoke(codes), theirs)):
        raise DiffersError("the reference interpreter and TensorFlow Lite Micro")
    pairs = zip(theirs, litert.invoke(data, codes), strict=True)
    return max(int(np.abs(ours.astype(int) - found.astype(int)).max()) for ours, found in pairs)


def _exported(folded: FoldedNet, x: tuple[torch.Tensor, ...]) -> tuple[Int8Model, bytes]:
    calibrate(folded, x)
    model = quantise(folded)
    return model, write_deployment(model)


def as_firmware(seed: int) -> dict[str, Any]:
    """A network's firmware beside TensorFlow Lite Micro, on the core whose turn it is."""
    plan, cores = drawn(seed), tuple(CORES.values())
    torch.manual_seed(seed)
    traced = trace(Drawn(plan), plan.shapes)
    x = tuple(torch.randn(8, *shape) for shape in plan.shapes)
    model, data = _exported(FoldedNet(traced.graph, traced.module.eval()), x)
    codes, core = model_inputs(model, [given.numpy() for given in x]), cores[seed % len(cores)]
    measured = measure_firmware(model, roomy_device(core), codes, tflm.invoke(data, codes))
    return {"seed": seed, "core": core.name, "bit_exact": measured.bit_exact}


# --- all of them ---------------------------------------------------------------------------------------------


def answer(seed: int) -> dict[str, Any]:
    """What became of a seed."""
    started = time.process_time()
    plan = drawn(seed)
    try:
        found = compare(plan)
    except DiffersError as error:
        found = {"outcome": "differs", "reason": str(error)}
    except Exception as error:
        found = {"outcome": "fails", "reason": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    words = sorted({step.kind for step in plan.steps})
    return {"seed": seed, "words": words, **found, "seconds": round(time.process_time() - started, 2)}


def work(path: Path, seeds: list[int]) -> None:
    """Run seeds in this process, a line for each."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with path.open("a", encoding="utf-8") as file:
        for seed in seeds:
            print(json.dumps({"seed": seed, "outcome": "ends the process"}), file=file, flush=True)
            print(json.dumps(answer(seed)), file=file, flush=True)


def rows_of(path: Path) -> dict[int, dict[str, Any]]:
    """The last line of each seed; a seed that was begun and not ended ended the process."""
    rows: dict[int, dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        row = json.loads(line)
        rows[row["seed"]] = row
    return rows


def page(rows: list[dict[str, Any]], firmware: list[dict[str, Any]]) -> str:
    """The page of what has run."""
    drawn_rows = [row for row in rows if row["outcome"] != "empty"]
    counts = Counter(row["outcome"] for row in drawn_rows)
    equal = [row for row in rows if row["outcome"] == "equal"]
    reasons = Counter(_reason(row["reason"]) for row in rows if row["outcome"] == "refused")
    kinds = Counter(kind for row in equal for kind in row["kinds"])
    words = Counter(word for row in equal for word in row["words"])
    faults = [row for row in rows if row["outcome"] in ("differs", "fails", "ends the process")]
    lines = [
        "# Random networks",
        "",
        "Made by `benchmarks/mcu/random_networks.py` (how: its first lines): networks drawn from the vocabulary, in",
        "every form it is written, on images and signals. Each accepted one was compared in torch, as canonical",
        "network, as operators, without some of its channels, and, dense and pruned, in int8 by the reference",
        "interpreter, TensorFlow Lite Micro and LiteRT's reference kernels; bytes of file and arena were predicted",
        "and measured.",
        "",
        f"{len(rows):,} were drawn; {len(rows) - len(drawn_rows):,} have a window larger than the map, or more than 60",
        "of a size, and are none.",
        "",
        "| networks | of them |",
        "| --- | ---: |",
        f"| networks | {len(drawn_rows):,} |",
        f"| equal on all floors, bytes as predicted | {counts['equal']:,} |",
        f"| refused | {counts['refused']:,} |",
        f"| silent differences | {counts['differs']:,} |",
        f"| failures that are no refusal | {counts['fails'] + counts['ends the process']:,} |",
        f"| of the equal ones, signals | {sum(row['flat'] for row in equal):,} |",
        f"| of the equal ones, several inputs or outputs | {sum(max(row.get('ports', [1])) > 1 for row in equal):,} |",
        "",
        _litert_line(equal),
        "",
        *_firmware_lines(firmware),
        "| refused for | networks |",
        "| --- | ---: |",
        *(f"| {reason} | {count:,} |" for reason, count in reasons.most_common()),
        "",
        "| operator | equal networks with it |",
        "| --- | ---: |",
        *(f"| {kind} | {count:,} |" for kind, count in kinds.most_common()),
        "",
        "| step, as `KINDS` of `networks/drawn.py` beside it has it | equal networks with it |",
        "| --- | ---: |",
        *(f"| {word} | {count:,} |" for word, count in words.most_common()),
    ]  # fmt: skip
    if faults:
        lines += ["", "| seed | fault |", "| ---: | --- |"]
        lines += [f"| {row['seed']} | {' '.join(row.get('reason', row['outcome']).split())[:200]} |" for row in faults]
    return "\n".join(lines) + "\n"


def _litert_line(equal: list[dict[str, Any]]) -> str:
    apart = [row for row in equal if row["litert"]]
    counts = sorted(Counter(row["litert"] for row in apart).items())
    how = ", ".join(f"{count} by {codes}" for codes, count in counts)
    elu = sum("elu" in row["kinds"] for row in apart)
    leaky = sum("leaky_relu" in row["kinds"] and "elu" not in row["kinds"] for row in apart)
    rest = (
        f"; {len(apart)} differ in a code ({how}), {elu} of them with an ELU, which has no reference kernel there, "
        f"{leaky} without one with a LEAKY_RELU"
    )
    return f"LiteRT's codes: {len(equal) - len(apart):,} equal{rest if apart else ''}."


def _firmware_lines(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    cores = Counter(row["core"] for row in rows)
    exact = sum(row["bit_exact"] for row in rows)
    where = ", ".join(f"{count} on {core}" for core, count in sorted(cores.items()))
    return [f"Firmware, built and emulated: {exact} of {len(rows)} bit-exact ({where}).", ""]


def _reason(text: str) -> str:
    return next((spoken for words, spoken in ALLOWED_REFUSALS.items() if words in text), f"**{text[:120]}**")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--firmware", type=int, default=0, help="so many of those that are equal as firmware")
    parser.add_argument("--again", action="store_true", help="run what was refused or is at fault again")
    parser.add_argument("--ports", action="store_true", help="networks with several inputs and outputs instead")
    parser.add_argument("--seeds", nargs="*", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    path = arguments.folder / "random_networks.jsonl"
    if arguments.seeds:
        work(path, arguments.seeds)
        return
    settled = ("empty", "equal", *(() if arguments.again else ("refused", "differs", "fails", "ends the process")))
    due = [seed for seed in _seeds(arguments) if rows_of(path).get(seed, {}).get("outcome") not in settled]
    while due:
        batch, due = due[:BATCH], due[BATCH:]
        command = [sys.executable, __file__, str(arguments.folder), "--seeds", *map(str, batch)]
        if subprocess.run(command, check=False).returncode:  # the interpreter ended the process: on behind that seed
            begun = rows_of(path)
            due = [seed for seed in batch if seed not in begun] + due
        _tell(path, arguments)
    program = path.with_name("firmware.jsonl")
    equal = [seed for seed in _seeds(arguments) if rows_of(path)[seed]["outcome"] == "equal"]
    for seed in equal[: arguments.firmware]:
        if seed not in rows_of(program):
            with program.open("a", encoding="utf-8") as file:
                print(json.dumps(as_firmware(seed)), file=file)
    _tell(path, arguments)


def _seeds(arguments: argparse.Namespace) -> range:
    return range(first := PORTS * arguments.ports, first + arguments.count)


def _tell(path: Path, arguments: argparse.Namespace) -> None:
    rows = [row for seed, row in sorted(rows_of(path).items()) if seed < arguments.count or seed >= PORTS]
    print(dict(Counter(row["outcome"] for row in rows)), flush=True)
    if arguments.page:
        arguments.page.write_text(page(rows, list(rows_of(path.with_name("firmware.jsonl")).values())), "utf-8")


if __name__ == "__main__":
    main()
