"""Content of the report page as plain values: table of winners, points of the scatter plot, rows of the trial table."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mcu.budget import RESOURCES, amount, amounts
from mcu.score import score_of
from mcu.terms import TrialState
from reports.figures.scales import log_ticks
from reports.figures.style import Look
from reports.latency import latency_text
from reports.metric import score_in
from reports.study import StudyInfo
from reports.study_page.gallery import budget_limits
from reports.study_page.tables import accuracy_interval, used
from reports.table import percent
from reports.trials import RESOURCE_TITLES, budgets, several_networks
from reports.winners import Winner, accuracy_front

MOST_ROWS = 1500  # trials in the page; the rest is in trials.csv


MOST_EQUALS = 6  # models as good as a winner that are named


def answer_rows(
    table: pd.DataFrame, winners: Sequence[Winner], study: StudyInfo, devices: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One entry per budget for the table that opens the page."""
    known = {str(device.get("name")): device for device in devices}
    return [_answer(table, winner, study, known) for winner in winners]


def _answer(
    table: pd.DataFrame, winner: Winner, study: StudyInfo, known: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    device = known.get(winner.device or "")
    entry: dict[str, Any] = {
        "budget": winner.budget,
        "hint": _device_hint(device) if device else "",
        "bounds": amounts(winner.bounds) or "no bound",
        "tried": winner.tried,
        "fitting": winner.fitting,
        "trial": None,
    }
    if winner.row is None:
        return entry
    trial = table.iloc[winner.row]
    interval = accuracy_interval(float(trial["accuracy"]), study)
    next_one = table.iloc[winner.runners_up[0]] if winner.runners_up else None
    return entry | {
        "trial": int(trial["number"]),
        "method": str(trial["method"]),
        "network": str(trial["network"]) if several_networks(table) else "",
        "elsewhere": table["budget"].iloc[winner.row] if winner.elsewhere else "",
        "accuracy": score_of(trial["metric"]).shown(trial["accuracy"], 1),
        "interval": "" if interval is None else f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f} %",
        "validation": score_of(trial["metric"]).shown(trial["val_accuracy"], 1),
        "used": [_use(trial, winner.bounds, name) for name in RESOURCES],
        "inputs": ", ".join(f"{name} {_parameter(trial.get(f'param.{name}'))['text']}" for name in study.inputs),
        "instructions": _instructions(trial, device, known, study),
        "runner_up": None if next_one is None or winner.row != winner.highest else _runner_up(trial, next_one),
        "highest": None if winner.row == winner.highest else _runner_up(trial, table.iloc[winner.highest or 0]),
        "as_good": [int(table["number"].iloc[row]) for row in winner.as_good[:MOST_EQUALS]],
        "more_as_good": max(0, len(winner.as_good) - MOST_EQUALS),
        "samples": winner.samples,
        "seeds": study.seeds.get(int(trial["number"]), ""),
        "command": export_command(int(trial["number"]), winner.budget, study),
    }


def _instructions(
    trial: pd.Series, device: Mapping[str, Any] | None, known: Mapping[str, Mapping[str, Any]], study: StudyInfo
) -> str:
    """Instructions an inference, and the latency where they were counted on the core of the board in question."""
    if not trial["instructions"] > 0:
        return latency_text(trial, device, study)
    counted = known.get(str(trial["device"]))
    core = f" on {counted['core']}" if counted else ""
    same = device is not None and counted is not None and device.get("core") == counted.get("core")
    latency = latency_text(trial, device, study) if same else ""
    unit = counted["cycles"].counted if counted and counted.get("cycles") else "instructions"
    return f"{trial['instructions'] / 1e6:,.2f} M {unit} an inference{core}" + (latency and f", {latency}")


def _runner_up(trial: pd.Series, other: pd.Series) -> dict[str, Any]:
    apart = score_of(trial["metric"]).apart(trial["val_accuracy"] - other["val_accuracy"])
    return {"trial": int(other["number"]), "method": str(other["method"]), "behind": apart}


def _device_hint(device: Mapping[str, Any]) -> str:
    clock = device.get("clock_hz")
    parts = [str(device.get("core", "")), f"{clock / 1e6:g} MHz" if clock else ""]
    return ", ".join(part for part in parts if part)


def _use(trial: pd.Series, bounds: Mapping[str, float], name: str) -> dict[str, Any]:
    bound = bounds.get(name)
    share = None if bound is None else float(trial[name] / bound)
    return {
        "name": RESOURCE_TITLES[name],
        "text": used(name, trial[name]),
        "share": None if share is None else f"{100 * share:.0f} %",
        "width": 0 if share is None else round(100 * min(share, 1.0), 1),
        "bound": "" if bound is None else used(name, bound),
    }


def export_command(number: int, budget: str, study: StudyInfo) -> str:
    """The shell command that exports one trial, quoted for any name."""
    folder = re.sub(r"[^A-Za-z0-9_]+", "-", budget).strip("-")[:48] or "model"
    words = ["mcusweep", "export", str(number), "--study", study.name]
    words += ["--storage", study.storage] if study.storage and study.storage_option else []
    return shlex.join([*words, "--output", f"export/{folder}"])


def shown_rows(table: pd.DataFrame, winners: Sequence[Winner], most: int = MOST_ROWS) -> list[int]:
    """Positions of the trials listed on the page: all, or winners, fronts, failures and an even sample of the rest."""
    if len(table) <= most:
        return list(range(len(table)))
    named = ((w.row, w.highest, *w.runners_up, *w.as_good[:MOST_EQUALS]) for w in winners)
    first = {row for rows in named for row in rows if row is not None}
    for name in RESOURCES:
        for method in [None, *table["method"].dropna().unique()]:
            first.update(accuracy_front(table, name, method))
    failed = np.flatnonzero((table["state"] == TrialState.FAILED).to_numpy())
    first.update(int(row) for row in failed[: most // 4])
    rest = [row for row in range(len(table)) if row not in first]
    room = max(most - len(first), 0)
    step = np.linspace(0, len(rest) - 1, room if rest else 0).round().astype(int)
    return sorted(first | {rest[at] for at in step})


def scatter_data(table: pd.DataFrame, rows: Sequence[int], look: Look) -> dict[str, Any]:
    """Points, fronts, ticks and limits of the page's interactive scatter, as JSON values."""
    labels = list(dict.fromkeys([*budgets(table)["budget"], *table["budget"]]))
    part = table.iloc[list(rows)]
    part = part[part["known"]]
    points = {
        "number": part["number"].tolist(),
        "method": [look.order.index(name) if name in look.order else -1 for name in part["method"]],
        "budget": [labels.index(label) for label in part["budget"]],
        "ok": [int(value) for value in part["feasible"]],
        "val": [None if not np.isfinite(value) else _six(value) for value in part["val_accuracy"]],
        "acc": [_six(value) for value in part["accuracy"]],
        **{name: [int(value) for value in part[name]] for name in RESOURCES},
    }
    score = score_in(table)
    return {
        "score": {name: getattr(score, name) for name in ("percent", "lower", "bounded")},
        "points": points,
        "methods": look.order,
        "budgets": labels,
        "resources": [_scatter_axis(table, name, look) for name in RESOURCES],
    }


def _scatter_axis(table: pd.DataFrame, name: str, look: Look) -> dict[str, Any]:
    values = table.loc[table["known"] & (table[name] > 0), name]
    low, high = (values.min() / 1.15, values.max() * 1.15) if len(values) else (1024.0, 1024.0**2)
    return {
        "name": name,
        "title": RESOURCE_TITLES[name],
        "low": float(low),
        "high": float(high),
        "ticks": [[tick, amount(name, tick)] for tick in log_ticks(low, high, name)],
        "limits": [[label, bound] for label, bound in budget_limits(table, name).items() if low <= bound <= high],
        "fronts": [_front_points(table, name, method) for method in look.order],
        "overall": _front_points(table, name, None),
    }


def _front_points(table: pd.DataFrame, resource: str, method: str | None) -> list[list[float]]:
    rows = accuracy_front(table, resource, method)
    return [[float(table[resource].iloc[row]), _six(table["accuracy"].iloc[row])] for row in rows]


def _six(value: float) -> float:
    """Six digits of a score of any unit."""
    return float(f"{value:.6g}")


def trial_rows(table: pd.DataFrame, rows: Sequence[int]) -> list[dict[str, Any]]:
    """The trial table of the page: per trial the displayed texts, and the raw values for sorting."""
    found = []
    names, several = [name for name in table.columns if name.startswith("param.")], several_networks(table)
    for trial in table.iloc[list(rows)].to_dict("records"):
        use = trial["binding_use"]
        cells = [
            _cell(trial["method"]),
            _cell(trial["budget"]),
            _cell(trial["state"]),
            _cell(score_of(trial["metric"]).shown(trial["val_accuracy"]), trial["val_accuracy"]),
            _cell(score_of(trial["metric"]).shown(trial["accuracy"]), trial["accuracy"]),
            *(_cell(used(name, trial[name]), trial[name]) for name in RESOURCES),
            _cell(percent(use, 0), use),
            _cell(f"{trial['duration_s']:,.0f} s" if np.isfinite(trial["duration_s"]) else "–", trial["duration_s"]),
            _cell(str(trial["seed"]), trial["seed"]),
            *([_cell(trial["network"])] if several else []),
            *(_parameter(trial[name]) for name in names),
        ]
        found.append(
            {"number": trial["number"], "cells": cells, "reason": trial["reason"] or "", "ok": trial["feasible"]}
        )
    return found


def trial_header(table: pd.DataFrame) -> list[str]:
    """Column titles of the trial table."""
    plain = ["trial", "method", "budget", "state", "validation", "test", "flash", "SRAM", "MACs", "use", "time", "seed"]
    plain += ["network"] if several_networks(table) else []
    return [*plain, *(name.removeprefix("param.") for name in table.columns if name.startswith("param."))]


def _cell(text: Any, value: Any = None) -> dict[str, Any]:
    if value is None:
        return {"text": "–" if text is None else str(text), "sort": None}
    number = float(value)
    return {"text": str(text), "sort": number if np.isfinite(number) else -1e300}


def _parameter(value: Any) -> dict[str, Any]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _cell(f"{value:.4g}" if np.isfinite(value) else "–", value)
    return _cell(value)
