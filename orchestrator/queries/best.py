"""The best stored model for a device or bounds, with runners-up and the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcu.budget import RESOURCES, Budget, amounts
from mcu.devices import find_device
from mcu.errors import InputError
from mcu.score import score_of
from mcu.terms import MEASURED
from orchestrator.queries.where_grammar import parse_where
from orchestrator.storage.columns import COLUMNS
from orchestrator.storage.search import trial_search
from orchestrator.storage.store import Store


@dataclass(frozen=True)
class Best:
    """The chosen trial, the runners-up, and the reason. ``used`` is the trial's utilisation of each bound (0..1)."""

    device: str | None
    bounds: dict[str, int]
    trial: dict[str, Any]
    runners_up: tuple[dict[str, Any], ...]
    fitting: int
    used: dict[str, float]
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            **{"device": self.device, "bounds": self.bounds, "trial": self.trial, "used": self.used},
            **{"fitting": self.fitting, "reason": self.reason, "runners_up": list(self.runners_up)},
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
    runtime: str = "tflm",
    runners_up: int = 3,
) -> Best:
    """The measured trial of highest validation accuracy that fits the bounds, whatever budget it was run for.

    Ties go to the smaller flash, then to the earlier trial.

    Raises:
        InputError: no trial fits; the message gives the closest one. Or the fitting trials have different metrics.
    """
    suffix = "_firmware" if runtime == "firmware" else ""
    used = {name: _used_name(name, suffix) for name in RESOURCES}
    known = " and ".join(f"{name} is not null" for name in ("val_accuracy", "accuracy", *used.values()))
    measured = f"state in {tuple(map(str, MEASURED))} and {known}"
    fits = " and ".join((measured, *(f"{used[name]} <= {bound}" for name, bound in budget.bounds().items())))
    ids = None if "*" in studies else [store.study(name).id for name in studies] or [store.study().id]
    with trial_search(store, parse_where(fits).condition, ids, parameters=False) as search:
        rows = search.rows(COLUMNS, ("-val_accuracy", "flash"), 1 + runners_up)
        fitting = search.count()
        metrics = search.values("metric")
    if not rows:
        raise InputError(_nothing_fits(budget, _closest(store, budget, measured, ids, used), suffix))
    if len(metrics) > 1 and ("*" in studies or len(studies) > 1):
        raise InputError(f"the trials that fit are measured by {' and '.join(metrics)}: name studies of one metric")
    shares = {name: rows[0][used[name]] / bound for name, bound in budget.bounds().items()}
    reason = _reason(rows, budget, fitting)
    return Best(budget.device, budget.bounds(), rows[0], tuple(rows[1:]), fitting, shares, reason)


def _closest(
    store: Store, budget: Budget, measured: str, studies: Sequence[int] | None, used: Mapping[str, str]
) -> dict[str, Any] | None:
    """The measured trial whose largest part of a bound is smallest."""
    bounds = budget.bounds()
    with trial_search(store, parse_where(measured).condition, studies, parameters=False) as search:
        rows = search.narrow([used[name] for name in bounds])
        over = [max(value / bound for value, bound in zip(row[1:], bounds.values(), strict=True)) for row in rows]
        return search.by_id(COLUMNS, [rows[over.index(min(over))][0]])[0] if rows else None


def _used_name(resource: str, suffix: str) -> str:
    return resource if resource == "macs" else f"{resource}{suffix}"


def _reason(rows: Sequence[dict[str, Any]], budget: Budget, fitting: int) -> str:
    best = rows[0]
    count = "the only measured model that fits" if fitting == 1 else f"the best of {fitting:,} measured models that fit"
    score = score_of(best["metric"])
    parts = [f"validation {score.title} {score.shown(best['val_accuracy'])}, {count} {budget}"]
    if len(rows) > 1:
        behind = best["val_accuracy"] - rows[1]["val_accuracy"]
        apart = f"{100 * behind:.2f} points" if score.percent else f"{behind:.4g}"
        parts.append(f"the next, trial {rows[1]['number']}, is {apart} behind")
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
