"""Which stored model to flash on a device or within bounds, with runners-up and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mcu.budget import RESOURCES, Budget
from mcu.devices import find_device
from mcu.errors import InputError
from mcu.units import format_bytes, format_count
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


def bounds_of(device: str | None, flash: int | None, sram: int | None, macs: int | None) -> Budget:
    """The bounds a device leaves for a model, or those given; given ones replace the device's.

    Raises:
        InputError: neither a device nor a bound, or an unknown device.
    """
    given = {"flash": flash, "sram": sram, "macs": macs}
    if device is None and all(value is None for value in given.values()):
        raise InputError("give --device NAME, or at least one of --flash, --sram, --macs")
    room = find_device(device).budget() if device is not None else Budget()
    kept = {name: value if value is not None else getattr(room, name) for name, value in given.items()}
    return Budget(**kept)


def find_best(
    store: Store,
    budget: Budget,
    *,
    device: str | None = None,
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
    return Best(
        device, budget.bounds(), rows[0], tuple(rows[1:]), fitting, shares, _reason(rows, budget, device, fitting)
    )


def _require_one_metric(connection: sa.Connection, metrics: sa.Select) -> None:
    found = sorted(connection.scalars(metrics.distinct()))
    if len(found) > 1:
        raise InputError(f"the trials that fit are measured by {' and '.join(found)}: name studies of one metric")


def _row(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in COLUMNS}


def _used_name(resource: str, suffix: str) -> str:
    return resource if resource == "macs" else f"{resource}{suffix}"


def describe_bounds(budget: Budget) -> str:
    """Bounds as people write them: ``64KB flash, 32KB sram``."""
    write = {"flash": format_bytes, "sram": format_bytes, "macs": format_count}
    return ", ".join(f"{write[name](bound)} {name}" for name, bound in budget.bounds().items()) or "no bound"


def _reason(rows: Sequence[dict[str, Any]], budget: Budget, device: str | None, fitting: int) -> str:
    best = rows[0]
    count = "the only measured model that fits" if fitting == 1 else f"the best of {fitting:,} measured models that fit"
    parts = [f"validation {TITLES[best['metric']]} {best['val_accuracy']:.2%}, {count} {describe_bounds(budget)}"]
    if len(rows) > 1:
        behind = 100 * (best["val_accuracy"] - rows[1]["val_accuracy"])
        parts.append(f"the next, trial {rows[1]['number']}, is {behind:.2f} points behind")
    own = {name: best[f"budget_{name}"] for name in RESOURCES if best[f"budget_{name}"] is not None}
    if own != budget.bounds():
        ran_for = best["device"] if best["device"] and best["device"] != device else describe_bounds(Budget(**own))
        parts.append(f"it was run for {ran_for}")
    return "; ".join(parts)


def _nothing_fits(budget: Budget, closest: dict[str, Any] | None, suffix: str) -> str:
    line = f"no measured trial fits {describe_bounds(budget)}"
    if closest is None:
        return f"{line}: none has finished yet"
    uses = ", ".join(
        f"{(format_count if name == 'macs' else format_bytes)(closest[_used_name(name, suffix)])} {name}"
        for name in budget.bounds()
    )
    return f"{line}; the closest is trial {closest['number']} ({closest['method']}) with {uses}"
