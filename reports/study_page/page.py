"""Writes the report of a study: a self-contained page, its figures, tables and trials."""

from __future__ import annotations

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mcu.budget import RESOURCES
from mcu.errors import InputError
from mcu.terms import RuntimeName
from mcu.units import format_duration
from reports.comparison.comparison import compare_methods, duels
from reports.csv_cells import safe_cell
from reports.figures.style import Look, Style
from reports.fronts import box_of
from reports.metric import lowest_score, metric_of, metric_title, score_in
from reports.study import StudyInfo
from reports.study_page.gallery import Drawing, draw_all
from reports.study_page.page_data import answer_rows, scatter_data, shown_rows, trial_header, trial_rows
from reports.study_page.tables import duels_table, failures_table, lineage_table, methods_table, winners_table
from reports.table import Table
from reports.trials import budgets, methods, runtime_in, tidy
from reports.winners import Winner, accuracy_front, winners


def write_report(
    frame: pd.DataFrame,
    output: Path,
    *,
    study: StudyInfo,
    devices: Sequence[Mapping[str, Any]] = (),
    style: Style = Style.SCREEN,
) -> Path:
    """Write ``index.html``, ``trials.csv``, ``fronts.json``, ``figures/`` and ``tables/`` into ``output``.

    Everything is written to a temporary folder first and then moved file by file, the page last, so that a reader never
    sees an incomplete page. Other files in ``output`` are kept.

    Args:
        frame: one row per trial, in the columns of the trial table; may be empty.
        devices: catalogue data of the devices (name, core, clock_hz), for the table of winners.

    Returns:
        The path of the page.

    Raises:
        InputError: ``output`` is a file or cannot be written.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is a file; give a folder")
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output, prefix=".report-") as scratch:
            _write_files(tidy(frame), frame, Path(scratch), study, devices, style)
            _move_in(Path(scratch), output)
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror or error}") from error
    return output / "index.html"


def _write_files(
    table: pd.DataFrame,
    frame: pd.DataFrame,
    folder: Path,
    study: StudyInfo,
    devices: Sequence[Mapping[str, Any]],
    style: Style,
) -> None:
    won = winners(table, validation=study.validation)
    once = table[~table["number"].isin(study.repeats)]
    cells = compare_methods(once)
    drawn = draw_all(table, study, won, cells, style)
    tables = [
        winners_table(table, won, study, devices),
        methods_table(cells, score_in(table)),
        duels_table(duels(once), score_in(table)),
        failures_table(table),
    ]
    if (grown := lineage_table(table)).rows:
        tables.append(grown)
    for drawing in drawn.values():
        for kind, content in drawing.files.items():
            _put(folder / "figures" / f"{drawing.name}.{kind}", content)
    for each in tables:
        for kind, text in (("csv", each.as_csv()), ("md", each.as_markdown()), ("tex", each.as_latex())):
            _put(folder / "tables" / f"{each.name}.{kind}", text.encode("utf-8", "replace"))
    _put(folder / "trials.csv", _trials_csv(frame).encode("utf-8", "replace"))
    _put(folder / "fronts.json", (json.dumps(fronts_document(table, won, study), indent=1) + "\n").encode())
    page = render_page(table, study, won, drawn, {each.name: each for each in tables}, devices, style)
    _put(folder / "index.html", page.encode("utf-8", "replace"))


def render_page(
    table: pd.DataFrame,
    study: StudyInfo,
    won: Sequence[Winner],
    drawn: Mapping[str, Drawing],
    tables: Mapping[str, Table],
    devices: Sequence[Mapping[str, Any]],
    style: Style,
) -> str:
    """The page as one HTML text without external resources; every text of the study is escaped."""
    templates = files("reports.study_page") / "templates"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    look = Look(methods(table))
    rows = shown_rows(table, won)
    return environment.from_string((templates / "report.html.j2").read_text("utf-8")).render(
        study=study,
        style=Markup((templates / "report.css").read_text("utf-8")),
        script=Markup((templates / "report.js").read_text("utf-8")),
        facts=_facts(table),
        kinds=style.kinds,
        answers=answer_rows(table, won, study, devices),
        figures={name: _inline(drawing) for name, drawing in drawn.items()},
        tables=tables,
        scatter=embedded_json(scatter_data(table, rows, look)),
        header=trial_header(table),
        trials=trial_rows(table, rows),
        sweep=_pretty(study.sweep),
        metric=metric_title(table),
        percent=score_in(table).percent,
        firmware=runtime_in(table) is RuntimeName.FIRMWARE,
    )


def embedded_json(value: Any) -> Markup:
    """JSON that is safe inside a script element: no text in it can close the element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def fronts_document(table: pd.DataFrame, won: Sequence[Winner], study: StudyInfo) -> dict[str, Any]:
    """Fronts by resource (of all and by method), winners by budget, and the box of the hypervolume, as JSON values."""
    box = box_of({name: table.loc[table["known"], name] for name in RESOURCES})
    return {
        "study": study.name,
        "chosen_by": "val_accuracy",
        "metric": metric_of(table),
        "hypervolume_box": None
        if box is None
        else {
            "low": dict(box.low),
            "high": dict(box.high),
            "accuracy": lowest_score(table),
        },
        "fronts": {
            name: {
                "all": [_point(table, row) for row in accuracy_front(table, name)],
                "methods": {
                    method: [_point(table, row) for row in accuracy_front(table, name, method)]
                    for method in methods(table)
                },
            }
            for name in RESOURCES
        },
        "winners": [
            {
                **{"budget": winner.budget, "device": winner.device, "bounds": dict(winner.bounds)},
                **{"trial": None if winner.row is None else _point(table, winner.row), "fitting": winner.fitting},
                "runners_up": [_point(table, row) for row in winner.runners_up],
                "as_good": [_point(table, row) for row in winner.as_good],
            }
            for winner in won
        ],
    }


def _point(table: pd.DataFrame, row: int) -> dict[str, Any]:
    trial = table.iloc[row]
    plain: dict[str, Any] = {"number": int(trial["number"]), "method": str(trial["method"])}
    plain |= {name: float(trial[name]) for name in ("val_accuracy", "accuracy")}
    return plain | {name: int(trial[name]) for name in RESOURCES}


def _facts(table: pd.DataFrame) -> dict[str, Any]:
    states = table["state"].value_counts()
    span = table["finished_at"].max() - table["started_at"].min() if len(table) else pd.NaT
    hours = float(np.nansum(table["duration_s"])) / 3600
    return {
        "trials": len(table),
        "methods": len(methods(table)),
        "budgets": len(budgets(table)),
        "feasible": int(table["feasible"].sum()),
        "predicted": int((table["feasible"] & ~table["measured"].fillna(False).astype(bool)).sum()),
        "states": {str(name): int(count) for name, count in states.items()},
        "tasks": list(dict.fromkeys(name for name in table["task"] if name)),
        "networks": list(dict.fromkeys(name for name in table["network"] if name)),
        "seeds": sorted({int(seed) for seed in table["seed"]})[:24],
        "cpu_hours": f"{hours:,.1f}",
        "wall": "" if pd.isna(span) else format_duration(span.total_seconds()),
        "span": "" if pd.isna(span) else f"{table['started_at'].min():%Y-%m-%d %H:%M} UTC",
        "dense": _dense(table),
    }


def _dense(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Resources of the unpruned networks: one entry for each network and, of C programs, each device."""
    keys = ["network", "device"] if runtime_in(table) is RuntimeName.FIRMWARE else ["network"]
    known = table.dropna(subset=[f"dense_{name}" for name in RESOURCES]).drop_duplicates(keys)
    told = [key for key in keys if known[key].nunique() > 1]
    return [
        {"of": ", ".join(str(row[key]) for key in told), **{name: float(row[f"dense_{name}"]) for name in RESOURCES}}
        for row in known.to_dict("records")
    ]


def _inline(drawing: Drawing) -> dict[str, Any]:
    picture = "data:image/png;base64," + base64.b64encode(drawing.files["png"]).decode()
    interactive = drawing.name.startswith("accuracy_")
    svg = Markup("") if interactive else Markup(drawing.inline_svg())
    return {"name": drawing.name, "caption": drawing.caption, "svg": svg, "png": picture if interactive else "",
            "themed": drawing.themed}  # fmt: skip


def _pretty(sweep: str) -> str:
    try:
        return json.dumps(json.loads(sweep), indent=2, ensure_ascii=False)
    except ValueError:
        return sweep


def _trials_csv(frame: pd.DataFrame) -> str:
    plain = frame.drop(columns=[name for name in ("trajectory",) if name in frame])
    for name in ("widths", "dense_widths", "artifacts"):
        if name in plain:
            plain[name] = [json.dumps(value) if isinstance(value, Mapping) else "" for value in plain[name]]
    return plain.rename(columns=safe_cell).map(safe_cell).to_csv(index=False, lineterminator="\n")


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _move_in(scratch: Path, output: Path) -> None:
    """Move every file into place, the page last; figures and tables of an earlier report that are gone now go too."""
    found = sorted((path for path in scratch.rglob("*") if path.is_file()), key=lambda path: path.name == "index.html")
    names = {path.relative_to(scratch) for path in found}
    for path in found:
        target = output / path.relative_to(scratch)
        target.parent.mkdir(exist_ok=True)
        os.replace(path, target)
    for folder in ("figures", "tables"):
        for old in (output / folder).glob("*.*"):
            if old.relative_to(output) not in names and old.suffix in (".png", ".svg", ".pdf", ".csv", ".md", ".tex"):
                old.unlink()
        if (output / folder).is_dir() and not any((output / folder).iterdir()):
            shutil.rmtree(output / folder)
