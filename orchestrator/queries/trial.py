"""Details of one trial, and comparison of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcu.budget import RESOURCES, Budget
from mcu.errors import InputError
from mcu.score import SUITS, score_of
from mcu.terms import HALVED, TaskKind
from orchestrator.storage.artifacts import Artifacts
from orchestrator.storage.columns import COLUMNS, NESTED
from orchestrator.storage.search import read_trial, trial_search
from orchestrator.storage.store import Store
from orchestrator.tables import human, printable
from orchestrator.worker.front_end import front_end_line
from reports.columns import HIGH_IS_GOOD, NO_DIRECTION, Part, Shown, names
from reports.lineage import Step, line_of

_BOUNDS = tuple(f"budget_{name}" for name in RESOURCES)
_LINE_COLUMNS = ("number", "ancestor", "method", "state", "metric", "val_accuracy", "duration_s", *_BOUNDS)
_STEP_COLUMNS = ("step", "epochs_done", "phase", "val_accuracy", *RESOURCES)


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
        """As plain values, for JSON: the columns of `query`, and the nested parts."""
        return {
            **self.row,
            **{f"param.{name}": value for name, value in self.parameters.items()},
            **{"widths": self.widths, "dense_widths": self.dense_widths, "trajectory": self.trajectory},
            **{"attempt_list": self.attempts, "artifacts": self.artifacts, "spec": self.spec},
        }

    def read(self, name: str, files: Artifacts) -> bytes:
        """A file of the trial, such as ``model``; ``files`` are those of its database.

        Raises:
            InputError: if the trial has no such file, or it is missing or damaged.
        """
        label = f"trial {self.row['number']} of {self.row['study']}"
        if name not in self.artifacts:
            raise InputError(f"{label} ({self.row['state']}) has no file {name!r}; there are {list(self.artifacts)}")
        return files.read(self.artifacts[name]["path"], self.artifacts[name]["sha256"], label)


def load_trial(store: Store, reference: str, study: str | None = None) -> TrialDetails:
    """The trial ``12`` of a study (the latest by default) or ``study#12``.

    Raises:
        InputError: no such trial; the message lists the existing numbers.
    """
    name, mark, number = reference.rpartition("#")
    if not number.isdecimal() or len(number) > 15:
        raise InputError(f"TRIAL {reference!r}: must be a trial's number, such as 12 or STUDY#12")
    found = store.study(name if mark else study)
    stored = read_trial(store, found, int(number))
    if stored is None:
        with trial_search(store, None, [found.id], parameters=False) as search:
            last = search.rows(("number",), ("-number",), 1)
        there = f"it has trials 0 to {last[0]['number']}" if last else "it has no trials yet"
        raise InputError(f"TRIAL {number}: not in study {found.name!r}; {there}")
    return TrialDetails(
        row={name: stored[name] for name in COLUMNS},
        attempts=stored["attempt_list"],
        **{name: stored[name] for name in (*NESTED, "parameters", "trajectory", "spec")},
    )


def compare_trials(first: TrialDetails, second: TrialDetails) -> list[dict[str, Any]]:
    """Rows of the results of two trials: field, first, second, difference (second - first) and the better one."""
    rows = []
    metrics = first.row["metric"], second.row["metric"]
    for name in names(shown=Shown.COMPARED):
        a, b = first.row[name], second.row[name]
        if a is None and b is None:
            continue
        alike = not name.endswith("accuracy") or metrics[0] == metrics[1]
        difference = b - a if a is not None and b is not None and alike else None
        better = "" if not difference else "second" if (difference > 0) == (name in HIGH_IS_GOOD) else "first"
        if name in NO_DIRECTION:
            better = ""
        rows.append({"field": name, "first": a, "second": b, "difference": difference, "better": better})
    settings = _settings(first), _settings(second)
    for name in sorted(settings[0].keys() | settings[1].keys()):
        a, b = settings[0].get(name), settings[1].get(name)
        if a != b:
            rows.append({"field": name, "first": a, "second": b, "difference": None, "better": ""})
    return rows


def _settings(trial: TrialDetails) -> dict[str, Any]:
    return {
        **{name: trial.row[name] for name in ("study", "state", "reason", "metric", *names(parts=(Part.ASKED,)))},
        **{f"param.{name}": value for name, value in trial.parameters.items()},
        **{f"width of {name}": value for name, value in trial.widths.items()},
    }


def details_text(
    trial: TrialDetails,
    memory: Sequence[Mapping[str, Any]] = (),
    latency: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    lineage: Sequence[Step] = (),
) -> str:
    """A trial as plain text for a terminal: results, settings, widths before and after, trajectory, attempts.

    Args:
        memory: rows of (layer, kind, live) of its model.
        latency: as ``latency.latency_of``, and the ``front_end`` before it.
        scores: metrics by class, see ``trial_scores.scores_of``.
        lineage: its ancestors and descendants, see ``lineage_of``.
    """
    row = trial.row
    title = f"Trial {row['number']} of {row['study']}: {row['method']}, {row['state']}"
    lines = [printable(title), *([f"  {printable(row['reason'])}"] if row["reason"] else []), ""]
    skipped = {"study", "number", "method", "state", "reason"}
    lines += [
        f"  {name:18} {human(name, row[name], row.get('metric'))}"
        for name in COLUMNS
        if name not in skipped and row[name] is not None
    ]
    if latency and "latency_ms" in latency:
        lines.append(printable(f"  {'latency':18} {latency_line(latency)}"))
    lines += [f"  {'param.' + printable(name):18} {human(name, value)}" for name, value in trial.parameters.items()]
    if latency and "front_end" in latency:
        lines += ["", front_end_line(latency["front_end"])]
    if scores:
        lines += ["", *_scores(scores)]
    if lineage:
        lines += ["", "Lineage", *(_step(step, row["number"]) for step in lineage)]
    if trial.widths:
        lines += ["", "Channels kept, per layer", *_widths(trial)]
    if memory:
        lines += ["", "Activations alive while each operator runs", *_memory(memory)]
    if trial.trajectory:
        lines += ["", "Trajectory", *_trajectory(trial.trajectory, row.get("metric"))]
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


def latency_line(found: Mapping[str, Any]) -> str:
    """A latency for people: the figure, its origin, beside a measured one the estimate, and its bound; or empty.

    Args:
        found: as ``latency.latency_of``.
    """
    if "latency" not in found:
        return ""
    estimated = found.get("latency_estimated_ms")
    beside = "" if estimated is None else f" (estimated were {estimated:.3g} ms)"
    bound = f"; {found['latency_bound']}" if "latency_bound" in found else ""
    return f"{found['latency']}, {found['latency_origin']}{beside}{bound}"


def lineage_of(store: Store, trial: TrialDetails) -> list[Step]:
    """The part of the study's tree with a trial's ancestors and descendants; empty for a trial outside a lineage."""
    study = store.study(trial.row["study"])
    with trial_search(store, None, [study.id], parameters=False) as search:
        return line_of(trial.row["number"], search.rows(_LINE_COLUMNS, ("number",)))


def _step(step: Step, number: int) -> str:
    row = step.trial
    budget = Budget(**{name: row[f"budget_{name}"] for name in RESOURCES})
    value = row["val_accuracy"]
    accuracy = row["state"] if value is None else human("val_accuracy", value, row.get("metric"))
    change = "" if step.change is None else f" ({score_of(row.get('metric')).change(step.change)})"
    cost = "" if row["duration_s"] is None else f", {human('duration_s', row['duration_s'])} s"
    here = "  <- this one" if row["number"] == number else ""
    return printable(f"  {step.branch}{row['number']} {row['method']}, {budget}: {accuracy}{change}{cost}{here}")


def _scores(scores: Mapping[str, Any]) -> list[str]:
    """Both metrics of the int8 model in test and validation, then precision, recall and F1 of each class in test."""
    lines, shown = ["Scores of the int8 model"], SUITS[TaskKind.CLASSIFICATION]
    for split, title in (("test", "test"), ("val", "validation")):
        both = ", ".join(f"{score_of(metric).title} {scores[split][metric]:.2%}" for metric in shown)
        lines.append(f"  {title:12} {both}")
    lines.append(f"  {'class in test':24} {'precision':>9} {'recall':>9} {'F1':>9} {'samples':>9}")
    for row in scores["test"]["classes"]:
        shares = " ".join(f"{row[name]:9.2%}" for name in ("precision", "recall", "f1"))
        lines.append(f"  {printable(row['name'])[:24]:24} {shares} {row['samples']:9,}")
    return lines


def _widths(trial: TrialDetails) -> list[str]:
    edits = [edit for row in trial.trajectory for edit in row.get("edits", ())]
    halved = [place for place, change in edits if change == HALVED]
    lines = [f"  {printable(place)} strides by 2: half the resolution from there on" for place in halved]
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


def _trajectory(steps: list[dict[str, Any]], metric: str | None) -> list[str]:
    columns = [name for name in _STEP_COLUMNS if name in steps[0]]
    shown = steps if len(steps) <= 16 else [steps[round(i * (len(steps) - 1) / 15)] for i in range(16)]
    lines: list[list[str]] = [columns]
    lines += [[human(name, step.get(name), metric) for name in columns] for step in shown]
    wide = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    texts = ["  " + "  ".join(cell.rjust(wide[at]) for at, cell in enumerate(line)) for line in lines]
    return texts if len(shown) == len(steps) else [*texts, f"  ({len(shown)} of {len(steps)} steps)"]
