"""Every method keeps the same promises: within the budget on measured bytes, the same epochs, the same seed."""

from dataclasses import replace
from importlib.metadata import entry_points

import pytest

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from mcu.measure import measure_model
from pruning import run as run_module
from pruning.evaluation import int8_accuracy
from pruning.landing import UnreachableBudgetError
from pruning.methods import method
from pruning.problem import BudgetMissedError, DivergedError, Infeasible, Outcome, StoppedError

METHODS = sorted(point.name for point in entry_points(group="mcusweep.methods") if point.value.startswith("pruning."))
BUDGET = Budget(flash=5_000, sram=7_800, macs=180_000)


def ignore(progress):
    return True


def answer_of(name, problem, budget, settings):
    try:
        return method(name).run(problem, budget, settings, ignore)
    except UnreachableBudgetError as error:
        return error


@pytest.mark.parametrize("name", METHODS)
def test_the_measured_model_is_within_the_budget_and_has_learned(name, problem, settings):
    reports = []
    outcome = method(name).run(problem, BUDGET, settings, lambda progress: reports.append(progress) or True)
    assert isinstance(outcome, Outcome)
    measured = measure_model(outcome.data)
    assert BUDGET.admits(Resources(measured.flash, measured.sram, measured.macs))
    assert measured.flash == len(outcome.data)
    assert [report.epochs_done for report in reports] == [1, 2, 3, 4, 5, 6]
    assert {len(outcome.widths)} == {len(outcome.dense_widths)}
    assert all(outcome.widths[group] <= outcome.dense_widths[group] for group in outcome.widths)
    assert int8_accuracy(outcome.model, problem.x_val, problem.y_val, problem) > 0.6


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_model(name, problem, settings):
    short = replace(settings, epochs=2)
    first, second = (method(name).run(problem, BUDGET, short, ignore) for _ in range(2))
    assert first.data == second.data


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("epochs", [1, 3, 5])
def test_a_job_that_was_cut_off_ends_as_if_it_never_was(name, epochs, problem, settings, tmp_path):
    whole = method(name).run(problem, BUDGET, settings, ignore)
    resumable = replace(settings, checkpoint=tmp_path)
    with pytest.raises(StoppedError):
        method(name).run(problem, BUDGET, resumable, lambda progress: progress.epochs_done < epochs)
    seen = []
    again = method(name).run(problem, BUDGET, resumable, lambda progress: seen.append(progress.epochs_done) or True)
    assert seen == list(range(epochs + 1, 7))
    assert again.data == whole.data
    assert again.trajectory == whole.trajectory


@pytest.mark.parametrize("name", METHODS)
def test_a_budget_out_of_reach_is_refused_or_answered_as_infeasible(name, problem, settings):
    answer = answer_of(name, problem, Budget(flash=1_000), replace(settings, epochs=1))
    assert isinstance(answer, (Infeasible, UnreachableBudgetError))
    assert answer.smallest.flash > 1_000


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_exceeds_its_budget_is_caught(name, problem, settings, monkeypatch):
    monkeypatch.setattr(Budget, "admits", lambda self, used: True)  # the method believes that everything fits
    caught = []

    def honest(budget, used, name):
        if any(getattr(used, bound) > limit for bound, limit in budget.bounds().items()):
            caught.append(used)
            raise BudgetMissedError(name)

    monkeypatch.setattr(run_module, "require_within", honest)
    with pytest.raises(BudgetMissedError):
        method(name).run(problem, BUDGET, replace(settings, epochs=1), ignore)
    assert caught


def test_differentiable_uses_the_tightest_bound(problem, settings):
    outcome = method("differentiable").run(problem, BUDGET, settings, ignore)
    measured = measure_model(outcome.data)
    assert BUDGET.binding_use(Resources(measured.flash, measured.sram, measured.macs)) >= 0.95


def test_a_budget_above_the_dense_network_leaves_it_whole(problem, settings):
    outcome = method("differentiable").run(problem, Budget(flash=10**6), replace(settings, epochs=1), ignore)
    assert outcome.widths == outcome.dense_widths


def test_a_loss_that_is_not_finite_ends_the_job(problem, settings):
    wild = replace(settings, hyperparameters={"learning_rate": 1e30})
    with pytest.raises(DivergedError, match="step"):
        method("uniform").run(problem, BUDGET, wild, ignore)


def test_a_damaged_checkpoint_starts_the_job_again(problem, settings, tmp_path):
    resumable = replace(settings, epochs=3, checkpoint=tmp_path)
    with pytest.raises(StoppedError):
        method("uniform").run(problem, BUDGET, resumable, lambda progress: progress.epochs_done < 2)
    stored = next(tmp_path.glob("*.safetensors"))
    stored.write_bytes(stored.read_bytes()[:-7] + b"garbage")
    seen = []
    method("uniform").run(problem, BUDGET, resumable, lambda progress: seen.append(progress.epochs_done) or True)
    assert seen == [1, 2, 3]


def test_an_unknown_method_is_named_with_those_there_are():
    with pytest.raises(InputError, match="uniform"):
        method("lottery")
