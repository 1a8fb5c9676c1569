"""The sweeps of the comparison treat all methods alike: same budgets, seeds and tuning, nobody left out."""

import importlib
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.planning.plan import Plan
from orchestrator.samplers.base import Context
from orchestrator.samplers.registry import make_sampler
from pruning.catalogue import BUILT_IN
from search_spaces.sweep import load_sweep

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "examples" / "compare").glob("*.toml"))
METHODS = {entry.name for entry in BUILT_IN if entry.reference.startswith("pruning.")}


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def plan(request) -> Plan:
    return Plan(load_sweep(request.param))


def test_three_tasks_are_compared():
    assert len({load_sweep(path).task.name for path in FILES}) >= 3


def test_every_method_runs_at_every_budget_with_the_same_three_seeds(plan):
    cells = Counter((trial.method, trial.budget.label, trial.seed) for trial in plan.trials)
    assert {method for method, _, _ in cells} == METHODS
    assert len({budget for _, budget, _ in cells}) >= 4
    assert len({seed for _, _, seed in cells}) == 3
    assert len(cells) == len(METHODS) * 4 * 3


def test_every_method_budget_and_seed_is_tuned_over_the_same_settings(plan):
    sampler = make_sampler(plan.sweep.sampler.name, plan.spaces, plan.sweep.sweep.seed)
    tried: dict[tuple[str, str, int], list[object]] = {}
    for trial in plan.trials:
        suggested = sampler.suggest(trial.method, trial.index, Context(cells=len(plan.cells), seeds=3))
        tried.setdefault((trial.method, trial.budget.label, trial.seed), []).append(suggested["learning_rate"])
    assert {tuple(sorted(rates)) for rates in tried.values()} == {(0.06, 0.15)}


def test_no_trial_is_stopped_early(plan):
    assert not plan.sweep.stopping.enabled
    assert plan.sweep.methods.trials == {}


def test_the_watch_task_is_compared_on_every_subject_with_the_same_budgets_and_methods(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "comparison"))
    monkeypatch.chdir(ROOT)
    subjects = importlib.import_module("watch_subjects")
    plain = Plan(load_sweep(subjects.SWEEP))
    plans = [Plan(load_sweep(subjects.SWEEP, subjects.overrides(subject))) for subject in subjects.SUBJECTS]
    assert [plan.sweep.task.options["held_out"] for plan in plans] == list(range(1, 11))
    assert len({plan.sweep.sweep.name for plan in [plain, *plans]}) == 11
    for plan in plans:
        cells = Counter((trial.method, trial.budget.label) for trial in plan.trials)
        assert cells.keys() == {(trial.method, trial.budget.label) for trial in plain.trials}
        assert set(cells.values()) == {1}
        assert plan.sweep.training == plain.sweep.training
