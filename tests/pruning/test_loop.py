"""A loop of the user's drives any of our methods, as a sweep's trial."""

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from mcu.budget import Budget, Resources
from mcu.errors import InputError
from mcu.measure import measure_model
from orchestrator.planning.plan import Plan
from orchestrator.planning.preflight import check_sweep
from orchestrator.worker.trial import run_trial
from pruning.loop import run_loop
from pruning.methods import method
from pruning.training.job import Job
from pruning.training.problem import Infeasible, Outcome, Settings, StoppedError
from search_spaces.sweep import load_sweep

BUDGET = Budget(flash=5_000, sram=7_800, macs=180_000)
FLASH_ONLY = Budget(flash=5_200)
METHODS = ["differentiable", "uniform", "l1", "taylor", "slimming", "evolution", "low-rank", "dense-ptq"]


def budget_for(name):
    return {"low-rank": FLASH_ONLY, "dense-ptq": Budget(flash=10_000)}.get(name, BUDGET)


def adam_loop(pruner, trial):
    """AdamW and a margin loss on a data loader, with checkpoints of its own."""
    torch.manual_seed(trial.seed)
    optimizer = torch.optim.AdamW(pruner.parameters(), trial.hyperparameters["learning_rate"])
    pruner.attach(optimizer)
    first = 0
    if trial.state is not None:
        first = trial.state["epoch"]
        optimizer.load_state_dict(trial.state["optimizer"])
        torch.set_rng_state(trial.state["random"])
    for epoch in range(first, trial.epochs):
        for x, y in DataLoader(trial.train, trial.batch_size, shuffle=True, drop_last=True):
            loss = functional.multi_margin_loss(pruner(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            pruner.step()
        state = {"epoch": epoch + 1, "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
        trial.report(epoch + 1, 0.5, state)


def settings_of(**changes):
    return Settings(epochs=4, batch_size=64, hyperparameters={"learning_rate": 0.003, "int8_part": 0.0}, **changes)


@pytest.mark.parametrize("name", METHODS)
def test_a_loop_drives_any_method_into_the_budget_and_goes_on_where_it_stopped(name, problem, tmp_path):
    budget, seen = budget_for(name), []
    whole = run_loop(adam_loop, method(name), problem, budget, settings_of(), lambda r: seen.append(r) or True)
    assert isinstance(whole, Outcome)
    measured = measure_model(whole.data)
    assert budget.admits(Resources(measured.flash, measured.sram, measured.macs))
    assert [(report.epochs_done, report.val_accuracy) for report in seen] == [(n, 0.5) for n in (1, 2, 3, 4)]
    kept = settings_of(checkpoint=tmp_path)
    with pytest.raises(StoppedError):
        run_loop(adam_loop, method(name), problem, budget, kept, lambda report: report.epochs_done < 2)
    again = run_loop(adam_loop, method(name), problem, budget, kept, lambda report: True)
    assert again.data == whole.data
    assert again.trajectory == whole.trajectory


def test_what_a_loop_cannot_do_is_said(problem):
    def idle(pruner, trial):
        pruner.attach(torch.optim.SGD(pruner.parameters(), 0.1))

    def run(name, loop=idle, budget=BUDGET, **changes):
        return run_loop(loop, method(name), problem, budget, settings_of(**changes), lambda report: True)

    with pytest.raises(InputError, match=r"ended after 0 of 24 calls of pruner\.step"):
        run("differentiable")
    assert isinstance(run("l1", budget=Budget(flash=1_000)), Infeasible)

    class Theirs:
        name = "theirs"

    with pytest.raises(InputError, match="'theirs' has its own training loop"):
        run_loop(idle, Theirs(), problem, BUDGET, settings_of(), lambda report: True)


LOOP = """
import torch
from torch.nn import functional
from torch.utils.data import DataLoader

def train(pruner, trial):
    optimizer = torch.optim.NAdam(pruner.parameters(), trial.hyperparameters["learning_rate"])
    pruner.attach(optimizer)
    for epoch in range(trial.epochs):
        for x, y in DataLoader(trial.train, trial.batch_size, drop_last=True):
            loss = functional.cross_entropy(pruner(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            pruner.step()
        trial.report(epoch + 1, 0.25)
"""


def test_a_sweep_file_names_the_loop_of_its_trials(tmp_path):
    (tmp_path / "mine.py").write_text(LOOP)
    (tmp_path / "sweep.toml").write_text(
        "[sweep]\nname = 'own'\ntrials = 1\n[task]\nname = 'digits'\noptions = {train_limit = 300}\n"
        "[network]\nname = 'tiny-cnn'\n[budgets]\nlist = [{flash = '6KB'}]\n"
        "[methods]\nnames = ['differentiable', 'l1']\n"
        "[training]\nepochs = 2\nbatch_size = 20\nloop = 'mine:train'\n[hyperparameters]\nlearning_rate = 0.003\n"
    )
    plan = Plan(load_sweep(tmp_path / "sweep.toml"))
    reports = []
    for trial in plan.trials:
        result = run_trial(plan.spec(trial, {}), tmp_path, lambda report: reports.append(report.val_accuracy) or True)
        assert result.state == "complete", result.reason
        assert result.flash <= 6 * 1024
    assert reports == [0.25] * 4
    with pytest.raises(InputError, match=r"training\.loop: 'train': must be of the form"):
        load_sweep(tmp_path / "sweep.toml", ["training.loop='train'"])
    for key, value in (("class_weights", 0.5), ("loss", "'mine:train'")):
        given = load_sweep(tmp_path / "sweep.toml", [f"training.{key}={value}"])
        with pytest.raises(InputError, match=rf"training\.{key}: has no part in training\.loop"):
            check_sweep(given)
    wrong = load_sweep(tmp_path / "sweep.toml", ["training.loop='mine:walk'"])
    with pytest.raises(InputError, match=r"mine\.py has no 'walk'"):
        check_sweep(wrong)


def test_a_loop_of_a_regression_is_given_what_the_outputs_are_read_as(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4)).astype(np.float32)
    y = 500 + 40 * x[:, :1] - 20 * x[:, 1:2]
    np.savez(tmp_path / "t.npz", x=x, y=y, kind="regression")
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), "
        "nn.Linear(8, 1))\n"
    )
    (tmp_path / "mine.py").write_text(LOOP.replace("cross_entropy", "mse_loss"))
    (tmp_path / "sweep.toml").write_text(
        "[sweep]\nname = 'own'\ntrials = 1\n[task]\nname = 'arrays'\npath = 't.npz'\n"
        "[network]\nname = 'net:build'\n[budgets]\nlist = [{flash = '6KB'}]\n[methods]\nnames = ['uniform']\n"
        "[training]\nepochs = 30\nbatch_size = 20\nmetric = 'mae'\nloop = 'mine:train'\n"
        "[hyperparameters]\nlearning_rate = 0.01\n"
    )
    plan = Plan(load_sweep(tmp_path / "sweep.toml"))
    result = run_trial(plan.spec(plan.trials[0], {}), tmp_path, lambda report: True)
    assert result.state == "complete", result.reason
    assert 0 < -result.accuracy < 10  # the targets' deviation is 45


def test_a_loop_has_no_trials_as_its_loss_and_optimiser_are_its_own(problem, monkeypatch):
    monkeypatch.setattr(Job, "trial_loss", lambda self, module: pytest.fail("a trial"))
    model = problem.constraints.model(problem.network())
    far = Budget(macs=model.exact(model.dense_widths).macs // 6)
    outcome = run_loop(adam_loop, method("differentiable"), problem, far, settings_of(), lambda report: True)
    assert outcome.trained.edits == ()
