"""The model to deploy: the winner of each budget, chosen by validation among all that fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mcu.budget import RESOURCES
from mcu.devices import same_program
from mcu.terms import MEASURED, RuntimeName
from reports.apart import Validation, choose, size
from reports.fronts import Mask, best_row, fits, front_rows
from reports.trials import budgets


@dataclass(frozen=True)
class Winner:
    """The winner of one budget; ``row`` is its position in the table (None: nothing fits), ``runners_up`` follow it.

    ``fitting`` counts the trials that fit, ``elsewhere`` says that the winner was run for another budget. ``highest``
    has the highest validation accuracy, and ``as_good`` are the others that cannot be told apart from it on ``samples``
    validation samples.
    """

    budget: str
    device: str | None
    bounds: Mapping[str, float]
    row: int | None
    runners_up: tuple[int, ...]
    fitting: int
    tried: int
    elsewhere: bool
    highest: int | None = None
    as_good: tuple[int, ...] = ()
    samples: int = 0


def fitting_rows(
    table: pd.DataFrame, bounds: Mapping[str, float], runtime: str = RuntimeName.TFLM, device: str | None = None
) -> Mask:
    """Which finished trials of a runtime meet the bounds with measured values, whatever budget they were run for.

    The bytes of our C program are those of one core: for a device only programs built for its core count.
    """
    finished = table["state"].isin(MEASURED).to_numpy() & table["known"].to_numpy(dtype=bool)
    same = table["runtime"].fillna(RuntimeName.TFLM).to_numpy() == runtime
    if runtime == RuntimeName.FIRMWARE and device is not None:
        same &= table["device"].isin(same_program(device)).to_numpy()
    used = {name: table[name].to_numpy(dtype=float) for name in RESOURCES}
    return finished & same & fits(used, bounds)


def best_first(
    table: pd.DataFrame, bounds: Mapping[str, float], runtime: str = RuntimeName.TFLM, device: str | None = None
) -> list[int]:
    """Positions of the trials that fit (`fitting_rows`), highest validation accuracy first, then smallest flash."""
    fit = fitting_rows(table, bounds, runtime, device) & table["val_accuracy"].notna().to_numpy()
    rows = np.flatnonzero(fit)
    score, flash = table["val_accuracy"].to_numpy(dtype=float), table["flash"].to_numpy(dtype=float)
    return [int(row) for row in rows[np.lexsort((rows, flash[rows], -score[rows]))]]


def winners(
    table: pd.DataFrame,
    runners_up: int = 3,
    validation: Callable[[int], Validation | None] = lambda number: None,
) -> list[Winner]:
    """The winner of every budget of a tidy table, smallest budget first.

    Args:
        table: of one study.
        runners_up: how many follow each winner.
        validation: how the trial of a number answered the validation samples, where that is known; winners are then the
            smallest within one standard error of the highest.
    """
    found = []
    numbers, used = table["number"].to_numpy(), table[[*RESOURCES]].to_numpy(dtype=float)
    for record in budgets(table).to_dict("records"):
        bounds = {name: record[f"budget_{name}"] for name in RESOURCES if np.isfinite(record[f"budget_{name}"])}
        mine = table["budget"] == record["budget"]
        runtime = next((value for value in table.loc[mine, "runtime"] if value), RuntimeName.TFLM)
        order = best_first(table, bounds, runtime, record["device"])
        choice = choose(order, lambda row: validation(int(numbers[row])), lambda row: size(*used[row]))
        row = order[choice.chosen] if order else None
        found.append(
            Winner(
                budget=record["budget"],
                device=record["device"],
                bounds=bounds,
                row=row,
                runners_up=tuple([other for other in order if other != row][:runners_up]),
                fitting=len(order),
                tried=int((mine & table["finished"]).sum()),
                elsewhere=row is not None and not bool(mine.iloc[row]),
                highest=order[0] if order else None,
                as_good=tuple(order[place] for place in choice.as_good if place != choice.chosen),
                samples=choice.samples,
            )
        )
    return found


def method_winner(table: pd.DataFrame, budget: str, method: str) -> int | None:
    """The best feasible trial of one method among those run for one budget, or None."""
    eligible = (table["budget"] == budget) & (table["method"] == method) & table["feasible"]
    return best_row(table["val_accuracy"], eligible, table["flash"])


def accuracy_front(table: pd.DataFrame, resource: str, method: str | None = None) -> list[int]:
    """Positions of the trials chosen by validation accuracy as the limit on ``resource`` grows.

    Every measured model counts that finished inside its budget; of one ``method``, or of all.
    """
    eligible = table["feasible"].to_numpy(dtype=bool) & table["val_accuracy"].notna().to_numpy()
    if method is not None:
        eligible &= (table["method"] == method).to_numpy()
    return [int(row) for row in front_rows(table[resource], table["val_accuracy"], eligible)]
