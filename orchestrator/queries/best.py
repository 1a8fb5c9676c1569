"""Which stored model to flash on a device or within bounds, with runners-up and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from mcu.budget import RESOURCES, Budget, amounts
from mcu.devices import find_device
from mcu.errors import InputError
from orchestrator.spec import TrialState
from orchestrator.storage.columns import COLUMNS, SOURCE, trial_columns
from orchestrator.storage.connection import transaction
from orchestrator.storage.schema import TRIALS
from orchestrator.storage.store import Store
from reports.metric import TITLES

MEASURED = (TrialState.COMPLETE.value, TrialState.INFEASIBLE.value)


@dataclass(frozen=True)
class Best:
    """The answer: the chosen trial, the next ones, and why.

    ``used`` holds, per bound, how much of it the trial uses (0..1).
    """

    device: str | None
    bounds: dict[str, int]
    trial: dict[str, Any]
    runners_up: tuple[dict[str, Any], ...]
    fitting: int
    used: dict[str, float]
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return {
            **{"device": self.device, "bounds": self.bounds, "trial": self.trial, "used": self.used},
            **{"fitting": self.fitting, "reason": self.reason, "runners_up": list(self.runners_up)},
        }


def budget_for(device: str | None = None, **bounds: str | float | None) -> Budget:
    """What a device leaves for a model, or the bounds given (see `Budget`); these replace the device's.

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
    runtime: str = "tflm",
    runners_up: int = 3,
) -> Best:
    """The measured trial of highest validation accuracy that fits the bounds, whatever budget it was run for.

    Ties go to the smaller flash, then to the earlier trial.

    Raises:
        InputError: no trial fits; the message gives the closest one. Or those that fit are measured by two metrics.
    """
    suffix = "_firmware" if runtime == "firmware" else ""
    used = {"flash": TRIALS.c[f"flash{suffix}"], "sram": TRIALS.c[f"sram{suffix}"], "macs": TRIALS.c.macs}
    known = [TRIALS.c.val_accuracy.is_not(None), TRIALS.c.accuracy.is_not(None)]
    condition = sa.and_(TRIALS.c.state.in_(MEASURED), *known, *(used[name].is_not(None) for name in RESOURCES))
    if "*" not in studies:
        ids = [store.study(name).id for name in studies] or [store.study().id]
        condition = condition & TRIALS.c.study_id.in_(ids)
    fits = sa.and_(*(used[name] <= bound for name, bound in budget.bounds().items()))
    columns = trial_columns(store.engine.dialect.name)
    select = sa.select(*(columns[name].label(name) for name in COLUMNS), TRIALS.c.id).select_from(SOURCE)
    order = (TRIALS.c.val_accuracy.desc(), TRIALS.c.flash, TRIALS.c.study_id, TRIALS.c.number)
    with transaction(store.engine, store.url) as connection:
        statement = select.where(condition & fits).order_by(*order).limit(1 + runners_up)
        rows = [_row(row) for row in connection.execute(statement).mappings()]
        if not rows:
            excess = [used[name] * 1.0 / bound for name, bound in budget.bounds().items()]
            over = sa.func.max(*excess) if len(excess) > 1 else excess[0]
            if store.engine.dialect.name != "sqlite" and len(excess) > 1:
                over = sa.func.greatest(*excess)
            closest = connection.execute(select.where(condition).order_by(over).limit(1)).mappings().first()
            raise InputError(_nothing_fits(budget, _row(closest) if closest else None, suffix))
        counted = sa.select(sa.func.count()).select_from(SOURCE).where(condition & fits)
        fitting = int(connection.scalar(counted) or 0)
        if "*" in studies or len(studies) > 1:
            _require_one_metric(connection, sa.select(columns["metric"]).select_from(SOURCE).where(condition & fits))
    shares = {name: rows[0][_used_name(name, suffix)] / bound for name, bound in budget.bounds().items()}
    reason = _reason(rows, budget, fitting)
    return Best(budget.device, budget.bounds(), rows[0], tuple(rows[1:]), fitting, shares, reason)


def _require_one_metric(connection: sa.Connection, metrics: sa.Select) -> None:
    found = sorted(connection.scalars(metrics.distinct()))
    if len(found) > 1:
        raise InputError(f"the trials that fit are measured by {' and '.join(found)}: name studies of one metric")


def _row(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in COLUMNS}


def _used_name(resource: str, suffix: str) -> str:
    return resource if resource == "macs" else f"{resource}{suffix}"


def _reason(rows: Sequence[dict[str, Any]], budget: Budget, fitting: int) -> str:
    best = rows[0]
    count = "the only measured model that fits" if fitting == 1 else f"the best of {fitting:,} measured models that fit"
    parts = [f"validation {TITLES[best['metric']]} {best['val_accuracy']:.2%}, {count} {budget}"]
    if len(rows) > 1:
        behind = 100 * (best["val_accuracy"] - rows[1]["val_accuracy"])
        parts.append(f"the next, trial {rows[1]['number']}, is {behind:.2f} points behind")
    own = Budget(*(best[f"budget_{name}"] for name in RESOURCES))
    if own != budget:
        ran_for = best["device"] if best["device"] != budget.device else None
        parts.append(f"it was run for {ran_for or own}")
    return "; ".join(parts)


def _nothing_fits(budget: Budget, closest: dict[str, Any] | None, suffix: str) -> str:
    line = f"no measured trial fits {budget}"
    if closest is None:
        return f"{line}: none has finished yet"
    uses = amounts({name: closest[_used_name(name, suffix)] for name in budget.bounds()})
    return f"{line}; the closest is trial {closest['number']} ({closest['method']}) with {uses}"
