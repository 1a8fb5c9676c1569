from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fake_sweep import run
from hypothesis import given
from hypothesis import strategies as st

from mcu.budget import Budget
from mcu.terms import Metric
from orchestrator.executors.simulated import SimulatedExecutor, synthetic_trial
from orchestrator.planning.adaptive_budgets import AdaptiveBudgets
from orchestrator.running.run import RunOptions, simulated
from orchestrator.storage.store import Store
from search_spaces.budgets import BudgetsSection
from search_spaces.sweep import SweepConfig

RANGES = {"flash": (4_096, 65_536), "macs": (10_000, 1_000_000)}


def planner(models: Sequence[tuple[int, int, float]] = (), seed: int = 0) -> AdaptiveBudgets:
    made = AdaptiveBudgets(RANGES, seed)
    for flash, macs, accuracy in models:
        made.spend(Budget(flash=flash, macs=macs))
        made.found({"flash": flash, "macs": macs}, accuracy)
    return made


@given(
    st.lists(st.tuples(st.integers(4_096, 65_536), st.integers(10_000, 10**6), st.floats(0, 1)), max_size=12),
    st.integers(0, 3),
)
def test_budgets_stay_within_the_ranges_and_depend_on_the_findings_alone(models, seed):
    budget = planner(models, seed).next(0)
    assert budget == planner(models, seed).next(0)
    for name, (low, high) in RANGES.items():
        assert low <= getattr(budget, name) <= high


def test_the_next_budget_lies_where_the_front_has_its_gap():
    good_but_one = [
        (4_096 * 2**k, 10_000 * 4**j, 0.5 if k == 0 else 0.9) for k in range(5) for j in range(4) if (k, j) != (2, 1)
    ]
    budget = planner(good_but_one).next(0)
    assert budget.flash < 2 * 4_096


def test_the_next_budget_lies_where_nothing_is_known():
    small_ones = [(4_096 + 64 * k, 10_000 + 1_000 * k, 0.8) for k in range(6)]
    budget = planner(small_ones).next(0)
    assert budget.flash * budget.macs > 4 * 4_096 * 10_000


def test_tries_that_found_nothing_send_the_next_one_elsewhere():
    made = planner([(60_000, 900_000, 0.9)])
    chosen = []
    for _ in range(20):
        chosen.append(made.next(0))
        made.spend(chosen[-1])
    assert len(set(chosen)) > 10


def test_every_second_budget_fills_the_ranges_whatever_was_found():
    found_nothing, found_some = planner(), planner([(60_000, 900_000, 0.9)])
    for turn in (1, 3, 5):
        assert found_nothing.next(turn) == found_some.next(turn)
    assert len({found_nothing.next(turn) for turn in range(1, 64, 2)}) == 32


def test_budgets_that_no_width_meets_are_not_tried_again():
    made = planner()
    made.unreachable(Budget(flash=16_384, macs=1_000_000))
    for _ in range(30):
        budget = made.next(0)
        assert budget.flash > 16_384
        made.spend(budget)


def sweep_of(trials: int, workers: str = "simulated") -> SweepConfig:
    table = {
        "sweep": {"name": "s", "trials": trials},
        "task": {"name": "mnist-5k"},
        "network": {"name": "resnet8"},
        "budgets": {"flash": ["16KB", "256KB"], "sram": ["8KB", "64KB"], "count": 4, "plan": "adaptive"},
        "methods": {"names": ["differentiable", "l1"]},
        "stopping": {"enabled": False},
    }
    return simulated(SweepConfig.model_validate(table))


def budgets_by_index(storage: str) -> dict[str, list[Budget]]:
    store = Store(storage)
    trials = store.trials(store.study())
    store.close()
    return {
        method: [trial.spec.budget for trial in trials if trial.spec.method == method]
        for method in ("differentiable", "l1")
    }


def simulate(storage: str, trials: int, curve=synthetic_trial) -> None:
    executor = SimulatedExecutor(seed=0, workers=2, curve=curve)
    run(storage, sweep_of(trials), RunOptions(), make_executor=lambda *_: executor)


def test_methods_share_the_budgets_that_were_chosen(tmp_path):
    storage = f"sqlite:///{tmp_path}/s.db"
    simulate(storage, 12)
    budgets = budgets_by_index(storage)
    assert budgets["differentiable"] == budgets["l1"]
    section = BudgetsSection(flash=[16_384, 262_144], sram=[8_192, 65_536], count=4)
    assert budgets["l1"][:4] == list(section.planned(0))
    assert len(set(budgets["l1"])) > 8


def test_an_interrupted_sweep_goes_on_with_the_budgets_it_would_have_chosen(tmp_path):
    whole, cut = f"sqlite:///{tmp_path}/whole.db", f"sqlite:///{tmp_path}/cut.db"
    one_at_a_time = {"make_executor": lambda *_: SimulatedExecutor(seed=0, workers=1)}
    run(whole, sweep_of(10), RunOptions(), **one_at_a_time)
    calls = 0

    def failing(spec):
        nonlocal calls
        calls += 1
        if calls == 13:
            raise KeyboardInterrupt
        return synthetic_trial(spec)

    with pytest.raises(KeyboardInterrupt):
        run(cut, sweep_of(10), RunOptions(), make_executor=lambda *_: SimulatedExecutor(0, 1, failing))
    run(cut, sweep_of(10), RunOptions(), **one_at_a_time)
    assert budgets_by_index(cut) == budgets_by_index(whole)


@pytest.mark.parametrize(("times", "plus"), [(1.0, -1.2), (40.0, -40.0), (1e-4, -1e-4), (30.0, 0.0)])
def test_the_unit_and_zero_of_a_score_without_an_ideal_value_change_no_budget(times, plus):
    def chosen(of) -> list[Budget]:
        made, found = AdaptiveBudgets(RANGES, 0, bounded=False), []
        for turn in range(24):
            found.append(made.next(turn))
            made.spend(found[-1])
            octaves = sum(math.log2(getattr(found[-1], name) / low) for name, (low, _) in RANGES.items())
            made.found({name: getattr(found[-1], name) for name in RANGES}, of(0.5 + 0.04 * octaves))
        return found

    plain = chosen(lambda value: value)
    assert chosen(lambda value: times * value + plus) == plain
    assert len(set(plain[::2])) > 6


def test_a_sweep_judged_by_an_error_chooses_as_many_budgets_as_one_judged_by_accuracy(tmp_path):
    def error(spec):
        trial = synthetic_trial(spec)
        worse = {"val_accuracy": 20 * (trial.result.val_accuracy - 1)}
        return replace(trial, result=trial.result.model_copy(update=worse))

    storage, sweep = f"sqlite:///{tmp_path}/s.db", sweep_of(16)
    sweep = sweep.model_copy(update={"training": sweep.training.model_copy(update={"metric": Metric.MAE})})
    run(storage, sweep, RunOptions(), make_executor=lambda *_: SimulatedExecutor(seed=0, workers=1, curve=error))
    assert len(set(budgets_by_index(storage)["l1"][4::2])) >= 5
