"""Winners, method comparison and intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.comparison.comparison import compare_methods, duels
from reports.figures.progress import attainment_figure
from reports.figures.style import Look
from reports.intervals import bootstrap_mean, wilson
from reports.trials import budgets, tidy
from reports.winners import accuracy_front, winners

SMALL, LARGE = {"budget_flash": 20_000, "device": "small"}, {"budget_flash": 90_000, "device": "large"}


def trial(number: int, method: str, flash: int, val: float, test: float, **more: object) -> dict:
    row = {"number": number, "method": method, "flash": flash, "sram": 1000, "macs": 10, "val_accuracy": val}
    return row | {"accuracy": test, "state": "complete", "feasible": True, "violation": 0.0, "seed": 0, **SMALL} | more


@pytest.fixture
def table():
    return tidy(
        pd.DataFrame(
            [
                trial(0, "differentiable", 15_000, 0.90, 0.88),
                trial(1, "differentiable", 18_000, 0.92, 0.86),
                trial(2, "l1", 25_000, 0.97, 0.97, state="infeasible", feasible=False, violation=0.25),
                trial(3, "l1", 60_000, 0.91, 0.95, **LARGE),
                trial(4, "differentiable", 19_000, 0.95, 0.94, **LARGE),
                trial(5, "l1", 10_000, None, None, state="failed", feasible=None, reason="diverged"),
                trial(6, "l1", 12_000, 0.99, None, state="stopped", feasible=None),
            ]
        )
    )


def test_budgets_are_named_by_device_and_sorted_by_size(table):
    assert budgets(table)["budget"].tolist() == ["small", "large"]


def test_winner_is_chosen_by_validation_and_may_come_from_another_budget(table):
    small, large = winners(table)
    assert (small.row, small.elsewhere, small.runners_up) == (4, True, (1, 0))
    # trial 2 missed its own small budget but is a measured model that fits the large one
    assert (large.row, large.elsewhere) == (2, True)
    assert small.tried == 5


def test_nothing_fits_is_said_not_hidden():
    only = winners(tidy(pd.DataFrame([trial(0, "l1", 30_000, 0.9, 0.9, feasible=False, violation=0.5)])))
    assert only[0].row is None
    assert only[0].fitting == 0


def test_front_holds_only_feasible_models_chosen_by_validation(table):
    assert accuracy_front(table, "flash") == [0, 1, 4]
    assert accuracy_front(table, "flash", "l1") == [3]


def test_comparison_counts_what_did_not_fit(table):
    cells = {(cell.budget, cell.method): cell for cell in compare_methods(table)}
    assert cells["small", "l1"].tried == 3
    assert cells["small", "l1"].feasible == 0
    assert cells["small", "l1"].best is None
    assert cells["small", "differentiable"].best == 0.86
    assert cells["small", "differentiable"].mean == pytest.approx(0.87)


def test_duel_counts_a_budget_the_other_cannot_meet_as_a_win(table):
    (duel,) = duels(table)
    assert (duel.reference, duel.method) == ("differentiable", "l1")
    assert (duel.wins, duel.ties, duel.losses) == (1, 0, 1)
    assert duel.pairs == 1
    assert duel.difference == pytest.approx(-0.01)
    assert duel.interval is None


def test_bounds_of_one_device_that_differ_are_told_apart():
    rows = [trial(0, "l1", 1, 0.5, 0.5), trial(1, "l1", 1, 0.5, 0.5, budget_flash=4096)]
    assert set(tidy(pd.DataFrame(rows))["budget"]) == {"small (20,000 B flash)", "small (4KB flash)"}


@pytest.mark.parametrize(
    ("accuracy", "images", "low", "high"),
    [(0.5, 100, 0.4038, 0.5962), (1.0, 10, 0.7225, 1.0), (0.0, 10, 0.0, 0.2775), (0.9, 0, 0.0, 1.0)],
)
def test_wilson_interval_has_published_values(accuracy, images, low, high):
    assert wilson(accuracy, images) == pytest.approx((low, high), abs=1e-4)


def test_bootstrap_needs_three_values_and_brackets_the_mean():
    generator = np.random.default_rng(0)
    assert bootstrap_mean([1.0, 2.0], generator) is None
    low, high = bootstrap_mean(list(np.linspace(0, 1, 50)), generator)
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.294 / np.sqrt(50), rel=0.15)


def test_trials_that_have_not_finished_and_crashes_win_and_lose_nothing():
    rows = [
        trial(0, "differentiable", 15_000, 0.90, 0.88),
        trial(1, "l1", None, None, None, state="running", feasible=None),
        trial(2, "differentiable", 19_000, 0.95, 0.94, **LARGE),
        trial(3, "l1", None, None, None, state="failed", feasible=None, **LARGE),
    ]
    table = tidy(pd.DataFrame(rows))
    cells = {(cell.budget, cell.method): cell for cell in compare_methods(table)}
    assert cells["small", "l1"].tried == 0
    assert cells["large", "l1"].tried == 1
    assert [winner.tried for winner in winners(table)] == [1, 2]
    (duel,) = duels(table)
    assert (duel.wins, duel.ties, duel.losses, duel.pairs) == (0, 0, 0, 0)


def test_attainment_is_drawn_over_seeds_that_ran_at_every_budget_only():
    alone = [trial(seed, "l1", 15_000 + seed, 0.9, 0.9, seed=seed, **(LARGE if seed else {})) for seed in (0, 1)]
    look = Look(["l1"])
    assert attainment_figure(tidy(pd.DataFrame(alone)), look) is None
    whole = [trial(at, "l1", 15_000 + at, 0.9, 0.9, seed=at % 2, **(LARGE if at > 1 else {})) for at in range(4)]
    assert attainment_figure(tidy(pd.DataFrame(whole)), look) is not None
