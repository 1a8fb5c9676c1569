"""What single methods promise beyond the suite that all of them pass (test_method_conformance.py)."""

import copy
from dataclasses import replace

import pytest
import torch

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from mcu.measure import measure_model
from pruning.methods import method
from pruning.training.job import Job
from pruning.training.problem import DivergedError, StoppedError

BUDGET = Budget(flash=5_000, sram=7_800, macs=180_000)


def ignore(progress):
    return True


@pytest.mark.parametrize("name", ["differentiable", "uniform", "l1"])
@pytest.mark.parametrize("epochs", [1, 3, 5, 6])
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


def test_a_weight_that_is_not_finite_ends_the_job_by_name(problem, settings):
    job = Job(problem, BUDGET, settings, ignore, "any")
    with torch.no_grad():
        job.network.module.get_parameter("down.1.weight")[0, 0, 0, 0] = float("nan")
    with pytest.raises(DivergedError, match=r"down\.1\.weight is not finite after step"):
        job.trainer.require_finite(0)


def test_a_network_that_was_traced_with_gradients_can_still_be_widened(problem, settings):
    job = Job(problem, BUDGET, settings, ignore, "any")
    network = copy.deepcopy(job.network.module)
    held = network(torch.zeros(1, *problem.input_shape))  # as Torch-Pruning's graph is, until garbage is collected
    job.replace(network)
    job.network.widen(job.network.graph.widths + 1)
    assert job.trainer.take_step(0) > 0
    assert held.requires_grad
