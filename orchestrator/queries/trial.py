"""One trial in full, and two side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mcu.errors import InputError
from orchestrator.storage.artifacts import read_artifact
from orchestrator.storage.columns import COLUMNS, HIGH_IS_GOOD, NESTED, SOURCE, metric_column
from orchestrator.storage.connection import transaction
from orchestrator.storage.schema import ATTEMPTS, STUDIES, TRAJECTORIES, TRIALS
from orchestrator.storage.store import Store
from orchestrator.tables import human, printable
from orchestrator.worker.front_end import front_end_line
from reports.metric import TITLES

_COMPARED = (
    *("val_accuracy", "accuracy", "float_accuracy", "flash", "sram", "sram_activations", "macs"),
    *("flash_firmware", "sram_firmware", "instructions", "violation", "binding_use", "duration_s"),
)
_STEP_COLUMNS: tuple[str, ...] = ("step", "epochs_done", "phase", "val_accuracy", "flash", "sram", "macs")


@dataclass(frozen=True)
class TrialDetails:
    """Everything stored about a trial: its ``row``, hyperparameters, widths, trajectory, attempts and files."""

    row: dict[str, Any]
    parameters: dict[str, Any]
    widths: dict[str, int]
    dense_widths: dict[str, int]
    trajectory: list[dict[str, Any]]
    attempts: list[dict[str, Any]]
    artifacts: dict[str, Any]
    spec: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON: the columns of `query`, and the nested parts."""
        return {
            **self.row,
            **{f"param.{name}": value for name, value in self.parameters.items()},
            **{"widths": self.widths, "dense_widths": self.dense_widths, "trajectory": self.trajectory},
            **{"attempt_list": self.attempts, "artifacts": self.artifacts, "spec": self.spec},
        }

    def read(self, name: str, root: Path) -> bytes:
        """A file of the trial, such as ``model``; ``root`` is the folder of the database's files.

        Raises:
            InputError: if the trial has no such file, or it is missing or damaged.
        """
        label = f"trial {self.row['number']} of {self.row['study']}"
        if name not in self.artifacts:
            raise InputError(f"{label} ({self.row['state']}) has no file {name!r}; there are {list(self.artifacts)}")
        return read_artifact(root, self.artifacts[name]["path"], self.artifacts[name]["sha256"], label)


def load_trial(store: Store, reference: str, study: str | None = None) -> TrialDetails:
    """The trial ``12`` of a study (the latest by default) or ``study#12``.

    Raises:
        InputError: no such trial; the message says which numbers there are.
    """
    name, mark, number = reference.rpartition("#")
    if not number.isdecimal() or len(number) > 15:
        raise InputError(f"TRIAL {reference!r}: must be a trial's number, such as 12 or STUDY#12")
    found = store.study(name if mark else study)
    metric = metric_column(store.engine.dialect.name).label("metric")
    columns = [STUDIES.c.name.label("study"), metric, *TRIALS.c, TRAJECTORIES.c.trajectory_json]
    source = SOURCE.outerjoin(TRAJECTORIES, TRAJECTORIES.c.trial_id == TRIALS.c.id)
    mine = TRIALS.c.study_id == found.id
    query = sa.select(*columns).select_from(source).where(mine & (TRIALS.c.number == int(number)))
    with transaction(store.engine, store.url) as connection:
        row = connection.execute(query).mappings().first()
        if row is None:
            last = connection.scalar(sa.select(sa.func.max(TRIALS.c.number)).where(mine))
            there = f"it has trials 0 to {last}" if last is not None else "it has no trials yet"
            raise InputError(f"TRIAL {number}: not in study {found.name!r}; {there}")
        asked = sa.select(ATTEMPTS).where(ATTEMPTS.c.trial_id == row["id"]).order_by(ATTEMPTS.c.ordinal)
        attempts = [dict(attempt) for attempt in connection.execute(asked).mappings()]
    nested = {name: json.loads(row[stored] or "{}") for name, stored in NESTED.items()}
    return TrialDetails(
        row={name: row[name] for name in COLUMNS},
        parameters=json.loads(row["hyperparameters_json"]),
        trajectory=json.loads(row["trajectory_json"] or "[]"),
        attempts=[{key: value for key, value in attempt.items() if key != "trial_id"} for attempt in attempts],
        spec=json.loads(row["spec_json"]),
        **nested,
    )


def compare_trials(first: TrialDetails, second: TrialDetails) -> list[dict[str, Any]]:
    """Rows of what two trials measured: field, first, second, difference (second - first) and which is better."""
    rows = []
    for name in _COMPARED:
        a, b = first.row[name], second.row[name]
        if a is None and b is None:
            continue
        difference = b - a if a is not None and b is not None else None
        better = "" if not difference else "second" if (difference > 0) == (name in HIGH_IS_GOOD) else "first"
        if name in ("binding_use", "duration_s"):
            better = ""
        rows.append({"field": name, "first": a, "second": b, "difference": difference, "better": better})
    settings = _settings(first), _settings(second)
    for name in sorted(settings[0].keys() | settings[1].keys()):
        a, b = settings[0].get(name), settings[1].get(name)
        if a != b:
            rows.append({"field": name, "first": a, "second": b, "difference": None, "better": ""})
    return rows


def _settings(trial: TrialDetails) -> dict[str, Any]:
    names = ("study", "state", "reason", "method", "network", "task", "device", "runtime", "seed")
    plain = {name: trial.row[name] for name in (*names, "budget_flash", "budget_sram", "budget_macs")}
    return {
        **plain,
        **{f"param.{name}": value for name, value in trial.parameters.items()},
        **{f"width of {name}": value for name, value in trial.widths.items()},
    }


def details_text(
    trial: TrialDetails,
    memory: Sequence[Mapping[str, Any]] = (),
    latency: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
) -> str:
    """A trial as plain text for a terminal: results, settings, widths before and after, trajectory, attempts.

    Args:
        memory: rows of (layer, kind, live) of its model.
        latency: ``latency_ms`` and ``latency_assumes``, where it can be estimated, and the ``front_end`` before it.
        scores: how each class fares, see ``trial_scores.scores_of``.
    """
    row = trial.row
    title = f"Trial {row['number']} of {row['study']}: {row['method']}, {row['state']}"
    lines = [printable(title), *([f"  {printable(row['reason'])}"] if row["reason"] else []), ""]
    skipped = {"study", "number", "method", "state", "reason"}
    lines += [
        f"  {name:18} {human(name, row[name])}" for name in COLUMNS if name not in skipped and row[name] is not None
    ]
    if latency and "latency_ms" in latency:
        lines.append(f"  {'latency_ms':18} {latency['latency_ms']:,.3g}, an estimate: {latency['latency_assumes']}")
    lines += [f"  {'param.' + printable(name):18} {human(name, value)}" for name, value in trial.parameters.items()]
    if latency and "front_end" in latency:
        lines += ["", front_end_line(latency["front_end"])]
    if scores:
        lines += ["", *_scores(scores)]
    if trial.widths:
        lines += ["", "Channels kept, per layer", *_widths(trial)]
    if memory:
        lines += ["", "Activations alive while each operator runs", *_memory(memory)]
    if trial.trajectory:
        lines += ["", "Trajectory", *_trajectory(trial.trajectory)]
    if trial.attempts:
        lines += ["", "Attempts"]
        for attempt in trial.attempts:
            place = f"{attempt['worker_host'] or '?'}:{attempt['worker_pid'] or '?'}"
            span = f"{attempt['started_at']} to {attempt['ended_at'] or 'now'}"
            ended = " ".join(filter(None, (attempt["reason"], attempt["detail"])))
            lines.append(printable(f"  {attempt['ordinal']}. {span} on {place}  {ended}"))
    if trial.artifacts:
        lines += ["", "Files"]
        lines += [printable(f"  {name:18} {a['bytes']:>9,} B  {a['path']}") for name, a in trial.artifacts.items()]
    return "\n".join(lines) + "\n"


def _scores(scores: Mapping[str, Any]) -> list[str]:
    """Both metrics of the int8 model in test and validation, then precision, recall and F1 of each class in test."""
    lines = ["Scores of the int8 model"]
    for split, title in (("test", "test"), ("val", "validation")):
        both = ", ".join(f"{words} {scores[split][metric]:.2%}" for metric, words in TITLES.items())
        lines.append(f"  {title:12} {both}")
    lines.append(f"  {'class in test':24} {'precision':>9} {'recall':>9} {'F1':>9} {'samples':>9}")
    for row in scores["test"]["classes"]:
        shares = " ".join(f"{row[name]:9.2%}" for name in ("precision", "recall", "f1"))
        lines.append(f"  {printable(row['name'])[:24]:24} {shares} {row['samples']:9,}")
    return lines


def _widths(trial: TrialDetails) -> list[str]:
    lines = []
    for name, kept in trial.widths.items():
        dense = trial.dense_widths.get(name)
        share = kept / dense if dense else 1.0
        bar = "█" * max(1, round(20 * min(share, 1.0)))
        of = f"{kept:4} of {dense:4}" if dense else f"{kept:4}        "
        lines.append(f"  {printable(name):24} {of}  {bar}")
    return lines


def _memory(memory: Sequence[Mapping[str, Any]]) -> list[str]:
    peak = max(row["live"] for row in memory) or 1
    return [
        printable(f"  {row['layer'][:40]:40} {row['live']:>9,} B  ") + "█" * max(1, round(20 * row["live"] / peak))
        for row in memory
    ]


def _trajectory(steps: list[dict[str, Any]]) -> list[str]:
    names = [name for name in _STEP_COLUMNS if name in steps[0]]
    shown = steps if len(steps) <= 16 else [steps[round(i * (len(steps) - 1) / 15)] for i in range(16)]
    lines: list[list[str]] = [names]
    lines += [[human(name, step.get(name)) for name in names] for step in shown]
    room = [max(len(line[at]) for line in lines) for at in range(len(names))]
    texts = ["  " + "  ".join(cell.rjust(room[at]) for at, cell in enumerate(line)) for line in lines]
    return texts if len(shown) == len(steps) else [*texts, f"  ({len(shown)} of {len(steps)} steps)"]
