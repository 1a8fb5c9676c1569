"""What every registered method promises, whoever wrote it: run on one toy problem, each method once whole and once cut.

Another package that registers a method under ``mcusweep.methods`` can run this file against it as it is. Where there
is a GPU, every promise is asked for on it, too.
"""

import itertools
import subprocess
import sys
from dataclasses import dataclass, fields, replace

import pytest
import torch

from mcu.budget import Budget, Resources
from mcu.cost.deployment import write_deployment
from mcu.errors import InputError
from mcu.measure import measure_model
from pruning.baselines.magnitude import charged
from pruning.baselines.uniform import UniformWidth, narrow
from pruning.catalogue import find_method, method_entries
from pruning.engine.landing import UnreachableBudgetError
from pruning.methods import method
from pruning.training import finish as finish_module
from pruning.training.problem import BudgetMissedError, Infeasible, Outcome, Problem, Settings, StoppedError

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
METHODS = sorted(entry.name for entry in method_entries() if entry.reference)
CHARGED = ("magnitude",)  # flash by the packed size, and never counted as feasible where the file does not fit
EPOCHS = 4
BUDGET = Budget(flash=5_000, sram=7_800, macs=180_000)
FLASH_ONLY = Budget(flash=5_200)


@dataclass(frozen=True)
class Record:
    """One whole job: what came out, what was reported, optimiser steps, and the labels that chose the export."""

    name: str
    budget: Budget
    device: str
    answer: Outcome | Infeasible
    epochs: list[float]
    steps: int
    chosen_by: list[object]


def settings_of(**changes: object) -> Settings:
    return replace(Settings(epochs=EPOCHS, batch_size=64, hyperparameters={"learning_rate": 0.05}), **changes)


def run_recorded(subject, problem: Problem, budget: Budget, settings: Settings | None = None) -> Record:
    settings = settings or settings_of()
    epochs, chosen_by, steps = [], [], [0]
    take, judge = torch.optim.SGD.step, finish_module.int8_accuracy

    def counted(self, *args, **kwargs):
        steps[0] += 1
        return take(self, *args, **kwargs)

    def noted(model, x, y, problem):
        chosen_by.append(y)
        return judge(model, x, y, problem)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", counted)
        patch.setattr(finish_module, "int8_accuracy", noted)
        try:
            answer = subject.run(problem, budget, settings, lambda report: epochs.append(report.epochs_done) or True)
        except UnreachableBudgetError as error:
            answer = Infeasible(str(error), error.smallest)
    return Record(subject.name, budget, settings.device, answer, epochs, steps[0], chosen_by)


def budget_for(name: str) -> Budget:
    """One that the method can meet on the toy: narrowing layers takes them below all bounds, the others flash alone."""
    return {"magnitude": FLASH_ONLY, "low-rank": FLASH_ONLY, "dense-ptq": Budget(flash=10_000)}.get(name, BUDGET)


@pytest.fixture(scope="module", params=itertools.product(DEVICES, METHODS), ids="-".join)
def record(request, problem) -> Record:
    device, name = request.param
    return run_recorded(method(name), problem, budget_for(name), settings_of(device=device))


def check_kept(record: Record) -> None:
    """The budget holds on the bytes of the file and the arena of the interpreter, or the method says why not."""
    if isinstance(record.answer, Infeasible):
        assert record.answer.reason
        assert not record.budget.admits(record.answer.smallest)
        return
    measured = measure_model(record.answer.data)
    used = Resources(measured.flash, measured.sram, measured.macs)
    if record.answer.shortfall is not None:
        assert record.name in CHARGED
        assert not record.budget.admits(used)
        used = charged(record.answer.model, used)
    assert record.budget.admits(used), f"{record.name}: {used} exceeds {record.budget}"


def test_the_budget_holds_on_measured_bytes_or_the_method_says_why_not(record):
    check_kept(record)


def test_all_train_for_the_same_number_of_steps_whatever_they_are_spent_on(record, problem):
    wanted = EPOCHS * (len(problem.x_train) // 64)
    assert isinstance(record.answer, Outcome)
    assert record.steps == wanted


def test_every_epoch_is_reported_once(record):
    assert record.epochs == list(range(1, EPOCHS + 1))


def test_validation_data_choose_between_the_two_exports(record, problem):
    assert [labels is problem.y_val for labels in record.chosen_by] == [True, True]


def test_the_export_is_the_common_int8_format(record):
    assert write_deployment(record.answer.model) == record.answer.data
    weights = [op.weights for op in record.answer.model.ops if op.weights is not None]
    assert weights
    assert {str(tensor.dtype) for tensor in weights} == {"int8"}


def test_no_channel_appears_that_the_dense_network_does_not_have(record):
    outcome = record.answer
    assert outcome.widths.keys() == outcome.dense_widths.keys()
    assert all(0 < outcome.widths[group] <= outcome.dense_widths[group] for group in outcome.widths)


def test_a_job_that_was_cut_off_ends_as_if_it_never_was(record, problem, tmp_path):
    subject, problem = method(record.name), replace(problem, identity="toy")
    resumable = settings_of(device=record.device, checkpoint=tmp_path / "job", parents=tmp_path / "parents")
    with pytest.raises(StoppedError):
        subject.run(problem, record.budget, resumable, lambda report: report.epochs_done < 2)
    seen = []
    again = subject.run(problem, record.budget, resumable, lambda report: seen.append(report.epochs_done) or True)
    assert isinstance(again, Outcome)
    assert seen == list(range(3, EPOCHS + 1))
    assert again.data == record.answer.data
    assert again.trajectory == record.answer.trajectory


@pytest.mark.parametrize("name", ["low-rank", "magnitude", "dense-ptq"])
def test_what_narrows_no_layer_says_that_sram_is_out_of_its_reach(name, problem):
    record = run_recorded(method(name), problem, BUDGET)
    check_kept(record)
    assert isinstance(record.answer, Infeasible)
    assert record.answer.smallest.sram > BUDGET.bounds()["sram"]
    assert record.steps == 0


@pytest.mark.parametrize("more", [{"rounds": 3}, {"scope": "local"}, {"pretrain": 0.0}])
def test_iterative_local_and_immediate_pruning_keep_the_budget_too(more, problem):
    chosen = settings_of(hyperparameters={"learning_rate": 0.05, **more})
    check_kept(run_recorded(method("taylor"), problem, BUDGET, chosen))


@pytest.mark.parametrize("name", METHODS)
def test_a_budget_out_of_reach_is_refused_without_training(name, problem):
    record = run_recorded(method(name), problem, Budget(flash=1_000))
    assert isinstance(record.answer, Infeasible)
    assert record.answer.smallest.flash > 1_000
    assert (record.steps, record.epochs) == (0, [])


def test_methods_see_no_test_data():
    assert not [field.name for field in fields(Problem) if "test" in field.name]


@pytest.mark.parametrize("name", METHODS)
def test_the_catalogue_leads_to_a_method_of_that_name_with_a_description(name):
    found = method(name)
    assert found.name == name
    assert type(found).__doc__
    assert find_method(name).summary


def test_the_catalogue_is_read_without_torch():
    code = (
        "import sys; from pruning.catalogue import method_entries as all; sys.exit(not all() or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Overweight(UniformWidth):
    """Deliberately broken: one channel more in every layer than fits."""

    name = "overweight"

    def compress(self, job):
        narrow(job, job.network.model.dense_widths - 1)
        yield from ()


def test_a_broken_method_that_exceeds_its_budget_is_caught_by_the_export(problem):
    with pytest.raises(BudgetMissedError, match="overweight"):
        run_recorded(Overweight(), problem, FLASH_ONLY)


def test_a_broken_method_is_caught_by_this_suite_even_without_the_check_in_the_export(problem, monkeypatch):
    monkeypatch.setattr(finish_module, "require_within", lambda *args: None)
    record = run_recorded(Overweight(), problem, FLASH_ONLY)
    with pytest.raises(AssertionError, match="overweight"):
        check_kept(record)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("l1", {"pretrain": 1.0}), ("l1", {"rounds": 0}), ("taylor", {"scope": "both"}),
     ("evolution", {"candidates": 0}), ("evolution", {"search": 1.5}), ("low-rank", {"pretrain": -0.1})],
)  # fmt: skip
def test_a_hyperparameter_that_is_not_allowed_is_named(name, wrong, problem):
    (key,) = wrong
    with pytest.raises(InputError, match=f"hyperparameters.{key}"):
        method(name).run(problem, FLASH_ONLY, settings_of(hyperparameters=wrong), lambda report: True)
