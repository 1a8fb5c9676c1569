"""A made-up study with the shape of a real one: for benchmarks and tests, never for results."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from mcu.budget import Budget, Resources
from mcu.devices import find_device

DEVICES = ("stm32l053r8", "stm32f103c8", "nrf52832", "stm32l432kc", "stm32f446re", "nrf52840")
DENSE = Resources(flash=344_064, sram=143_360, macs=49_315_840)
DENSE_WIDTHS = {"stem": 32, "stage1": 32, "stage1.conv1": 32, "stage2": 64, "stage2.conv1": 64, "stage3": 128}
START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)

# method: (accuracy lost against the best, spread over seeds, use of the tightest bound, share of misses)
_METHODS = {
    "differentiable": (0.0, 0.004, 0.975, 0.0),
    "uniform": (0.018, 0.006, 0.90, 0.0),
    "l1": (0.026, 0.009, 0.93, 0.08),
    "taylor": (0.014, 0.007, 0.94, 0.05),
    "dense-ptq": (0.0, 0.003, 1.0, 0.0),
}


def sample_trials(
    count: int, seed: int = 0, study: str = "sample", methods: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """``count`` invented trials over six devices, in the columns of the trial table; equal seeds give equal trials."""
    generator = np.random.default_rng(seed)
    names = methods or tuple(_METHODS)
    cells = [(device, method) for device in DEVICES for method in names]
    rows = []
    free_at = [0.0, 0.0, 0.0, 0.0]
    for number in range(count):
        device, method = cells[number % len(cells)]
        lane = int(np.argmin(free_at))
        row = _trial(number, device, method, number // len(cells), generator)
        row |= {"number": number, "study": study, **_times(free_at, lane, row["duration_s"])}
        rows.append(row)
    return pd.DataFrame(rows)


def _trial(number: int, device: str, method: str, seed: int, generator: np.random.Generator) -> dict[str, Any]:
    lost, spread, tightness, misses = _METHODS.get(method, (0.02, 0.008, 0.92, 0.03))
    budget = _budget(device)
    bounds = budget.bounds()
    scale = _keep_for(bounds, tightness + 0.02 * float(generator.random()), method)
    used = _used(scale * (1.3 if generator.random() < misses else 1.0), generator, bounds, method)
    learning_rate = float(10 ** generator.uniform(-2.3, -0.5))
    off_optimum = 0.012 * (np.log10(learning_rate) + 1.1) ** 2
    capacity = 0.985 - 0.17 * (used.macs / 1e5) ** -0.45 - 0.05 * (used.flash / 4096) ** -1.0
    test = float(np.clip(capacity - lost - off_optimum + generator.normal(0, spread), 0.1, 0.995))
    values = generator.normal(0, 0.004, size=2)
    row: dict[str, Any] = {
        **{"state": "complete", "reason": None, "method": method, "network": "resnet8", "task": "mnist-5k"},
        **{"device": device, "runtime": "tflm", "seed": seed, "attempts": 1 + int(generator.random() < 0.03)},
        **{f"budget_{name}": value for name, value in (("flash", budget.flash), ("sram", budget.sram), ("macs", None))},
        **{"accuracy": round(test, 4), "float_accuracy": round(min(1.0, test + 0.002 + values[0] / 2), 4)},
        **{"val_accuracy": round(float(np.clip(test + values[1], 0, 1)), 4), "flash": used.flash, "sram": used.sram},
        **{"sram_activations": int(used.sram * 0.82), "macs": used.macs, "flash_firmware": None},
        **{"sram_firmware": None, "instructions": None, "violation": budget.violation(used), "measured": True},
        **{"feasible": budget.admits(used), "binding_use": budget.binding_use(used)},
        **{"duration_s": float(generator.lognormal(4.2, 0.35)), "dense_flash": DENSE.flash, "dense_sram": DENSE.sram},
        **{"dense_macs": DENSE.macs, "dense_widths": dict(DENSE_WIDTHS), "reused_from": None},
        "widths": {name: max(1, round(width * np.sqrt(scale))) for name, width in DENSE_WIDTHS.items()},
        "trajectory": _trajectory(method, scale, used, test, generator),
        "param.learning_rate": round(learning_rate, 5),
        "param.weight_decay": float(generator.choice([0.0, 1e-4, 5e-4])),
    }
    row["spec_hash"] = hashlib.sha256(json.dumps([number, device, method, seed]).encode()).hexdigest()
    return _broken(row, generator)


def _budget(device: str) -> Budget:
    return find_device(device).budget()


def _keep_for(bounds: dict[str, int], tightness: float, method: str) -> float:
    """Share of the dense network kept, so that the tightest bound is used to ``tightness``."""
    if method == "dense-ptq":
        return 1.0
    return min(1.0, *(bound * tightness / getattr(DENSE, name) for name, bound in bounds.items()))


def _used(keep: float, generator: np.random.Generator, bounds: dict[str, int], method: str) -> Resources:
    shape = 1.0 if keep >= 1 else float(generator.uniform(0.82, 1.0))
    tight = min(bounds, key=lambda name: bounds[name] / getattr(DENSE, name))
    flash = DENSE.flash * keep * (1 if tight == "flash" else shape)
    sram = DENSE.sram * keep * (1 if tight == "sram" else shape)
    macs = DENSE.macs * keep**1.2 * float(generator.uniform(0.75, 1.1) if method != "dense-ptq" else 1)
    return Resources(int(flash) // 8 * 8, int(sram) // 16 * 16, int(macs))


def _trajectory(
    method: str, keep: float, used: Resources, accuracy: float, generator: np.random.Generator
) -> list[dict[str, Any]]:
    """Steps of a training run that shrinks from the dense network to what it used."""
    steps = []
    for step in range(13):
        done = step / 12
        left = 1.0 if method in ("uniform", "dense-ptq") else max(0.0, 1 - done / 0.6) ** 1.5
        share = {name: int(getattr(used, name) + left * (getattr(DENSE, name) - getattr(used, name))) for name in
                 ("flash", "sram", "macs")}  # fmt: skip
        if method == "uniform":
            share = {"flash": used.flash, "sram": used.sram, "macs": used.macs}
        reached = accuracy * (1 - np.exp(-5 * done)) + float(generator.normal(0, 0.006))
        phase = "prune" if left > 0 and method != "uniform" else "recover"
        widths = {
            name: max(1, round(width * np.sqrt(keep + left * (1 - keep)))) for name, width in DENSE_WIDTHS.items()
        }
        values = {"step": step, "epochs_done": round(20 * done, 2), "phase": phase, "widths": widths, **share}
        steps.append({**values, "val_accuracy": round(float(np.clip(reached, 0.1, 1)), 4)})
    return steps


def _broken(row: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    """Now and then a trial stops early, fails, or cannot meet its budget."""
    luck = generator.random()
    if row["method"] == "dense-ptq" and row["violation"] > 0:
        return row | {"state": "infeasible", "reason": "the dense network is over the budget and has no knob to shrink"}
    if luck < 0.015:
        empty = dict.fromkeys(
            ("accuracy", "float_accuracy", "val_accuracy", "flash", "sram", "sram_activations", "macs")
        )
        reason = "training diverged: loss is NaN at step 411"
        return row | empty | {"state": "failed", "reason": reason, "violation": 10.0, "feasible": False,
                              "binding_use": None, "measured": False, "attempts": 3}  # fmt: skip
    if row["violation"] > 0:
        return row | {"state": "infeasible", "reason": "no setting of the method's knob keeps every bound"}
    if luck < 0.06 and row["method"] != "differentiable":
        reason = "stopped at level 4: dominated by 6 trials of the same budget"
        return row | {"state": "stopped", "reason": reason, "accuracy": None, "float_accuracy": None,
                      "trajectory": row["trajectory"][:5], "feasible": None, "violation": 1.0,
                      "measured": False}  # fmt: skip
    return row


def _times(free_at: list[float], lane: int, duration: float) -> dict[str, Any]:
    start = free_at[lane]
    free_at[lane] = start + duration + 0.4
    moment = [START + timedelta(seconds=seconds) for seconds in (start, start + duration)]
    return {"started_at": moment[0].isoformat(), "finished_at": moment[1].isoformat(), "worker": f"worker-{lane}"}
