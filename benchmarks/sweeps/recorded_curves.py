"""Recorded learning curves for the simulated executor: each trial does what the nearest recorded one did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mcu.budget import RESOURCES, Resources
from mcu.errors import InputError
from mcu.terms import TrialState
from orchestrator.executors.simulated import SimulatedTrial
from orchestrator.spec import EpochReport, TrialResult, TrialSpec

NOISE = 0.005
"""Standard deviation that is added to recorded accuracies: trials at one recorded neighbour are not all equal."""


class RecordedCurves:
    """What a trial would do, from tables as ``benchmarks/sweeps/record_trials.py`` writes them.

    Distances are between logarithms of the budgets and of hyperparameters that span more than a decade, each on the
    scale of what was recorded; hyperparameters that a trial leaves out count as equal. Resources are scaled to the
    trial's bounds.

    Args:
        folder: where ``trials.csv`` and ``curves.csv`` lie.
        names: hyperparameters of the table.
    """

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        try:
            trials, curves = (pd.read_csv(folder / name) for name in ("trials.csv", "curves.csv"))
        except OSError as error:
            raise InputError(f"recorded curves: {error.filename}: {error.strerror}") from None
        self._bounds = tuple(name for name in RESOURCES if f"budget_{name}" in trials)
        self._columns = tuple(f"budget_{name}" for name in self._bounds) + names
        self._trials = trials[trials["state"] == "complete"].reset_index(drop=True)
        self._curves = dict(list(curves.groupby("trial")))
        values = self._trials[list(self._columns)].to_numpy(dtype=float)
        self._logged = (values > 0).all(axis=0) & (values.max(axis=0) > 10 * values.min(axis=0))
        points = self._scaled(values)
        self._low, self._span = points.min(axis=0), np.ptp(points, axis=0)
        self._points = (points - self._low) / self._span

    def _scaled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(self._logged, np.log(np.maximum(values, 1e-12)), values)

    def __call__(self, spec: TrialSpec) -> SimulatedTrial:
        """The trial of a specification."""
        bounds = spec.budget.bounds()
        given = {f"budget_{name}": bound for name, bound in bounds.items()} | spec.hyperparameters
        wanted = np.array([float(given.get(name, np.nan)) for name in self._columns])
        apart = (self._scaled(wanted) - self._low) / self._span - self._points
        row = self._trials.iloc[int(np.argmin((np.nan_to_num(apart) ** 2).sum(axis=1)))]
        curve = self._curves[row["trial"]]
        luck = np.random.default_rng(spec.seed)
        scale = {name: bounds[name] / row[f"budget_{name}"] for name in self._bounds if name in bounds}
        stretch = spec.training.epochs / float(curve["epochs_done"].max())
        seconds = float(row["duration_s"]) * stretch / len(curve)
        reports = tuple(
            EpochReport(
                step=at,
                epochs_done=float(report["epochs_done"]) * stretch,
                val_accuracy=_noisy(float(report["val_accuracy"]), luck),
                phase="simulated",
                flash=int(report["flash"] * scale.get("flash", 1.0)),
                sram=int(report["sram"] * scale.get("sram", 1.0)),
                macs=int(report["macs"] * scale.get("macs", 1.0)),
            )
            for at, report in enumerate(curve.to_dict("records"))
        )
        used = {name: min(int(row[name] * scale.get(name, 1.0)), bounds.get(name, 2**62)) for name in RESOURCES}
        resources = Resources(**used)
        result = TrialResult(
            state=TrialState.COMPLETE,
            accuracy=_noisy(float(row["accuracy"]), luck),
            val_accuracy=_noisy(float(row["val_accuracy"]), luck),
            violation=0.0,
            feasible=True,
            binding_use=spec.budget.binding_use(resources),
            measured=False,
            duration_s=seconds * len(curve),
            flash=resources.flash,
            sram=resources.sram,
            macs=resources.macs,
        )
        return SimulatedTrial((seconds,) * len(curve), reports, result)


def _noisy(accuracy: float, luck: np.random.Generator) -> float:
    return min(1.0, max(0.0, accuracy + NOISE * float(luck.standard_normal())))
