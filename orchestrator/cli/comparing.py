"""``compare`` two trials and ``diff`` two studies. Imports neither torch nor Ray."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mcu.errors import InputError
from mcu.score import score_of
from orchestrator.cli.options import STORAGE, FormatName, Storage, StudyName

First = Annotated[str, typer.Argument(metavar="A", help="A trial: its number, or STUDY#NUMBER.", show_default=False)]
Second = Annotated[str, typer.Argument(metavar="B", help="Another trial.", show_default=False)]
FirstStudy = Annotated[str, typer.Argument(metavar="A", help="A study.", show_default=False)]
SecondStudy = Annotated[str, typer.Argument(metavar="B", help="Another study.", show_default=False)]
OtherStorage = Annotated[
    str | None, typer.Option("--other-storage", metavar="URL", help="Database of B, if it is another one.")
]


def compare(
    first: First,
    second: Second,
    study: StudyName = None,
    format_name: FormatName = "table",
    storage: Storage = STORAGE,
) -> None:
    """Two trials side by side: what they reached, and where their settings differ."""
    from orchestrator.queries.trial import compare_trials, load_trial
    from orchestrator.storage.store import Store
    from orchestrator.tables import Format, human, write_rows

    check_format(format_name)
    store = Store(storage)
    trials = [load_trial(store, reference, study) for reference in (first, second)]
    rows = compare_trials(*trials)
    columns = ("field", "first", "second", "difference", "better")
    if format_name == "json":
        write_rows(columns, rows, Format.JSON)
        return
    metrics = {name: trial.row["metric"] for name, trial in zip(columns[1:], (*trials, trials[0]), strict=False)}
    shown = [
        {"field": row["field"]} | {name: _text(human, row, name, metrics.get(name)) for name in columns[1:]}
        for row in rows
    ]
    write_rows(columns, shown, Format.TABLE, nothing="the two trials are the same in everything")


def _text(human: Any, row: dict[str, Any], name: str, metric: str | None) -> str:
    value = row[name]
    if name == "better" or value is None:
        return value or ""
    shown = str(human(row["field"], value, metric))
    if name != "difference":
        return shown
    if row["field"].endswith("accuracy"):
        return score_of(metric).change(value) + score_of(metric).points
    return shown if shown.startswith("-") else f"+{shown}"


def diff(
    first: FirstStudy,
    second: SecondStudy,
    other_storage: OtherStorage = None,
    format_name: FormatName = "table",
    storage: Storage = STORAGE,
) -> None:
    """Two studies side by side: their sweeps, the best of each method at each budget, trials that disagree."""
    from orchestrator.queries.study_diff import CELL_COLUMNS, diff_studies
    from orchestrator.storage.store import Store
    from orchestrator.tables import Format, printable, write_rows

    check_format(format_name)
    store = Store(storage)
    other = store if other_storage is None else Store(other_storage)
    answer = diff_studies((store, store.study(first)), (other, other.study(second)))
    if format_name == "json":
        print(json.dumps(answer.as_dict(), indent=2))
        return
    print(f"first: {printable(answer.first)}; second: {printable(answer.second)}")
    print("the sweeps are the same" if not answer.sweep else "the sweeps differ:")
    for line in answer.sweep:
        print(f"  {printable(line)}")
    rows = [_shown(row, answer.metrics) for row in answer.cells]
    write_rows(CELL_COLUMNS, rows, Format.TABLE, nothing="neither has a finished trial")
    print(f"{answer.shared} trials of equal specification, {len(answer.disagreeing)} with different results; "
          f"{answer.only_first} only in the first, {answer.only_second} only in the second")  # fmt: skip
    for row in answer.disagreeing[:20]:
        changed = ", ".join(
            f"{name} {value[0]} -> {value[1]}" for name, value in row.items() if isinstance(value, list)
        )
        print(printable(f"  trial {row['first']} and trial {row['second']}: {changed}"))
    if len(answer.disagreeing) > 20:
        print(f"  and {len(answer.disagreeing) - 20} more (--format json has all)")


def _shown(cell: dict[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    first, second = (score_of(metric) for metric in metrics)
    change = cell["difference"]
    return cell | {
        "first_accuracy": first.shown(cell["first_accuracy"], 1),
        "second_accuracy": second.shown(cell["second_accuracy"], 1),
        "difference": "" if change is None else first.change(change) + first.points,
    }


def check_format(name: str) -> None:
    """Refuse anything but ``table`` and ``json``.

    Raises:
        InputError: for another name.
    """
    if name not in ("table", "json"):
        raise InputError(f"--format {name!r}: must be table or json")


COMMANDS = (compare, diff)
