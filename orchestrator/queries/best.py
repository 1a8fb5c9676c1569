"""The best stored model for a device or bounds, with runners-up and the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcu.budget import RESOURCES, Budget, amounts
from mcu.devices import find_device, require_interpreter, same_program
from mcu.errors import InputError
from mcu.score import score_of
from mcu.terms import MEASURED, RuntimeName
from orchestrator.queries.as_good import equals_line, validation_in
from orchestrator.queries.study_budgets import runtime_of
from orchestrator.queries.trial import TrialDetails
from orchestrator.queries.where_grammar import parse_where
from orchestrator.storage.artifacts import artifacts_of
from orchestrator.storage.columns import COLUMNS
from orchestrator.storage.search import trial_search
from orchestrator.storage.store import Store
from reports.apart import LOOKED_AT, Choice, choose, size, told_apart
from reports.columns import used_columns


@dataclass(frozen=True)
class Best:
    """The chosen trial, the runners-up, and the reason.

    ``used`` is the trial's utilisation of each bound (0..1). ``as_good`` names the other trials that fit and do not
    differ significantly from the highest on the validation samples, including the highest itself if another was chosen.
    """

    device: str | None
    bounds: dict[str, int]
    trial: dict[str, Any]
    runners_up: tuple[dict[str, Any], ...]
    fitting: int
    used: dict[str, float]
    reason: str
    as_good: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            **{"device": self.device, "bounds": self.bounds, "trial": self.trial, "used": self.used},
            **{"fitting": self.fitting, "reason": self.reason, "runners_up": list(self.runners_up)},
            "as_good": list(self.as_good),
        }


def budget_for(device: str | None = None, **bounds: str | float | None) -> Budget:
    """A device's budget for a model, or the given bounds (see `Budget`), which replace the device's.

    Raises:
        InputError: neither a device nor a bound, an unknown device, or a bound that cannot be read.
    """
    given: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
    if device is None and not given:
        raise InputError("device, or at least one of flash, sram and macs, must be given")
    return replace(find_device(device).budget() if device is not None else Budget(), **given)


def find_best(
    store: Store,
    budget: Budget,
    *,
    studies: Sequence[str] = (),
    runners_up: int = 3,
) -> Best:
    """The best measured trial that fits the bounds, whatever budget it was run for.

    A trial's use is that of its runtime: the .tflite file and TFLM's arena, or the exported C program. The bytes of a
    program are those of one core: with a device, only programs that were built for its core are compared. The highest
    validation accuracy wins; of equal ones the smaller flash, then the earlier trial. Where it is known which
    validation samples each gets right, it is the smallest (`reports.apart.size`) within one standard error of the
    highest (`reports.apart.choose`).

    Raises:
        InputError: no trial fits; the message gives the closest one. Or the fitting trials have different metrics, or
            the device cannot run what the trials' budgets were for.
    """
    asked = None if "*" in studies else [store.study(name) for name in studies] or [store.study()]
    ids = None if asked is None else [study.id for study in asked]
    runtimes = _runtimes(budget, tuple(RuntimeName) if asked is None else tuple({runtime_of(study) for study in asked}))
    fits = _fitting(budget, runtimes)
    with trial_search(store, parse_where(fits).condition, ids, parameters=False) as search:
        rows = search.rows((*COLUMNS, "artifacts"), ("-val_accuracy", "flash"), max(1 + runners_up, LOOKED_AT))
        fitting = search.count()
        metrics = search.values("metric")
    if not rows:
        raise InputError(_nothing_fits(budget, _closest(store, budget, ids, runtimes), runtimes))
    if len(metrics) > 1 and ("*" in studies or len(studies) > 1):
        raise InputError(f"the trials that fit are measured by {' and '.join(metrics)}: name studies of one metric")
    there = artifacts_of(store)
    files = {(row["study"], row["number"]): row.pop("artifacts") for row in rows}
    choice = choose(
        rows,
        lambda row: validation_in(there, files[row["study"], row["number"]]),
        lambda row: size(**_use(row)),
    )
    chosen = rows[choice.chosen]
    shares = {name: _use(chosen)[name] / bound for name, bound in budget.bounds().items()}
    several = len({row["study"] for row in rows}) > 1
    as_good = tuple(_name(rows[place], several) for place in choice.as_good if place != choice.chosen)
    next_ones = [row for row in rows if row is not chosen][:runners_up]
    reason = _reason(rows, choice, budget, fitting, equals_line(as_good, choice.samples))
    seeds = _seeds(store, chosen)
    reason = f"{reason}; {seeds}" if seeds else reason
    return Best(budget.device, budget.bounds(), chosen, tuple(next_ones), fitting, shares, reason, as_good)


def _runtimes(budget: Budget, there: Sequence[RuntimeName]) -> tuple[RuntimeName, ...]:
    """Of the runtimes of some studies those that the budget's device has."""
    if budget.device is not None and RuntimeName.FIRMWARE not in there:
        require_interpreter(find_device(budget.device))
    if budget.device is None or not find_device(budget.device).firmware_only:
        return tuple(there)
    return (RuntimeName.FIRMWARE,)


def equals_of(store: Store, trial: TrialDetails) -> str:
    """Which trials of its study fit a trial's budget and cannot be told apart from it, as people read it; or empty."""
    there, row = artifacts_of(store), trial.row
    own = validation_in(there, trial.artifacts)
    if own is None:
        return ""
    own_budget = Budget(*(row[f"budget_{name}"] for name in RESOURCES), device=row["device"])
    fits = _fitting(own_budget, (RuntimeName(row["runtime"]),))
    with trial_search(store, parse_where(fits).condition, [store.study(row["study"]).id], parameters=False) as search:
        others = search.rows(("number", "artifacts"), ("-val_accuracy", "flash"), LOOKED_AT)
    found = [
        str(other["number"])
        for other in others
        if other["number"] != row["number"]
        and (answers := validation_in(there, other["artifacts"])) is not None
        and not told_apart(own, answers)
    ]
    return equals_line(found, len(own.right))


def _seeds(store: Store, row: Mapping[str, Any]) -> str:
    """How well a trial does with other seeds, if it was trained with any; or empty."""
    study = store.study(row["study"])
    if not study.sweep.get("repeats"):
        return ""
    from orchestrator.queries.repeats import seeds_lines  # loads optuna

    values = {trial.number: trial.result.val_accuracy for trial in store.trials(study) if trial.result is not None}
    return seeds_lines(study, values).get(row["number"], "")


def _measured(runtime: RuntimeName, device: str | None) -> str:
    """Condition for the measured trials of a runtime whose figures hold for a device."""
    names = ("val_accuracy", "accuracy", *used_columns(runtime).values())
    known = " and ".join(f"{name} is not null" for name in names)
    measured = f"state in {tuple(map(str, MEASURED))} and runtime = '{runtime}' and {known}"
    if runtime is not RuntimeName.FIRMWARE or device is None:
        return measured
    quoted = ", ".join("'{}'".format(name.replace("'", "''")) for name in same_program(device))
    return f"{measured} and device in ({quoted})"


def _fitting(budget: Budget, runtimes: Sequence[RuntimeName]) -> str:
    """Condition for the measured trials whose figures on their runtime, one of these, are within the bounds."""
    by_runtime = [
        [
            _measured(runtime, budget.device),
            *(f"{used_columns(runtime)[name]} <= {bound}" for name, bound in budget.bounds().items()),
        ]
        for runtime in runtimes
    ]
    return " or ".join(f"({' and '.join(parts)})" for parts in by_runtime)


def _use(row: Mapping[str, Any]) -> dict[str, int]:
    """A measured trial's resources on its runtime."""
    return {name: row[column] for name, column in used_columns(row["runtime"]).items()}


def _name(row: Mapping[str, Any], several: bool) -> str:
    return f"{row['study']}#{row['number']}" if several else str(row["number"])


def _closest(
    store: Store, budget: Budget, studies: Sequence[int] | None, runtimes: Sequence[RuntimeName]
) -> dict[str, Any] | None:
    """The measured trial whose largest part of a bound is smallest."""
    bounds, found = budget.bounds(), []
    for runtime in runtimes:
        columns = [used_columns(runtime)[name] for name in bounds]
        condition = parse_where(_measured(runtime, budget.device)).condition
        with trial_search(store, condition, studies, parameters=False) as search:
            over = [
                (max(value / bound for value, bound in zip(used, bounds.values(), strict=True)), key)
                for key, *used in search.narrow(columns)
            ]
            if over:
                least, key = min(over)
                found.append((least, search.by_id(COLUMNS, [key])[0]))
    return min(found, key=lambda each: each[0])[1] if found else None


def _reason(rows: Sequence[dict[str, Any]], choice: Choice, budget: Budget, fitting: int, equals: str) -> str:
    best, highest = rows[choice.chosen], rows[0]
    count = "the only measured model that fits" if fitting == 1 else f"the best of {fitting:,} measured models that fit"
    score = score_of(best["metric"])
    parts = [f"validation {score.title} {score.shown(best['val_accuracy'])}, {count} {budget}"]
    if best is not highest:
        parts = [
            f"validation {score.title} {score.shown(best['val_accuracy'])}, of {fitting:,} measured models that fit "
            f"{budget} the smallest within one standard error of the highest, trial {highest['number']} with "
            f"{score.shown(highest['val_accuracy'])}"
        ]
    elif len(rows) > 1:
        behind = best["val_accuracy"] - rows[1]["val_accuracy"]
        parts.append(f"the next, trial {rows[1]['number']}, is {score.apart(behind)} behind")
    parts += [equals] if equals else []
    own = Budget(*(best[f"budget_{name}"] for name in RESOURCES))
    if own != budget:
        ran_for = best["device"] if best["device"] != budget.device else None
        parts.append(f"it was run for {ran_for or own}")
    return "; ".join(parts)


def _nothing_fits(budget: Budget, closest: dict[str, Any] | None, runtimes: Sequence[RuntimeName]) -> str:
    line = f"no measured trial fits {budget}"
    if closest is None:
        of_core = (
            f" with a program for the core of {budget.device}"
            if budget.device and RuntimeName.FIRMWARE in runtimes
            else ""
        )
        return f"{line}: none{of_core} has finished yet"
    use = _use(closest)
    uses = amounts({name: use[name] for name in budget.bounds()})
    return f"{line}; the closest is trial {closest['number']} ({closest['method']}) with {uses}"
