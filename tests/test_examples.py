"""The examples end inside their budgets, on measured bytes; on small data, as a test has seconds."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mcu.budget import Budget, Resources
from mcu.measure import measure_model
from orchestrator.planning.plan import Plan
from orchestrator.worker.trial import run_trial
from search_spaces.sweep import load_sweep

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.mark.parametrize("name", ["own_loop", "lightning_loop"])
def test_a_loop_of_ones_own_ends_inside_its_budget(name, tmp_path):
    if name == "lightning_loop" and importlib.util.find_spec("lightning") is None:
        pytest.skip("needs the extra [lightning]: the example is NOT tested")
    target = tmp_path / "model.tflite"
    command = [
        sys.executable,
        str(EXAMPLES / f"{name}.py"),
        "--epochs",
        "1",
        "--flash",
        "12KB",
        "--output",
        str(target),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    measured = measure_model(target.read_bytes())
    budget = Budget(flash="12KB", sram="12KB")
    assert budget.admits(Resources(measured.flash, measured.sram, measured.macs))
    assert "int8 validation accuracy" in ran.stdout


SMALL = {
    "anomaly": ("task.options={clips=60}", "training.epochs=12"),
    "regression": ("task.options={samples=900}", "training.epochs=12"),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_sweep_of_something_else_than_classes_ends_inside_its_budgets(name, tmp_path):
    sweep = load_sweep(EXAMPLES / f"{name}.toml", SMALL[name])
    plan = Plan(sweep)
    trial = next(trial for trial in plan.trials if trial.method == "differentiable")
    spec = plan.spec(trial, {} if name == "anomaly" else {"learning_rate": 0.05})
    result = run_trial(spec, tmp_path, lambda report: True)
    assert result.state == "complete", result.reason
    assert spec.budget.admits(Resources(result.flash, result.sram, result.macs))
    assert abs(result.accuracy - result.float_accuracy) < (0.02 if name == "anomaly" else 0.5)  # one of 84
    deployment = json.loads((tmp_path / spec.hash() / "deployment.json").read_text())
    if name == "anomaly":
        assert result.accuracy > 0.8
        assert result.dense.flash > 4 * result.flash
        assert deployment["kind"] == "reconstruction"
    else:
        mean, std = deployment["values"]["mean"], deployment["values"]["std"]
        assert -result.accuracy < 0.7 * sum(std) / 2  # the mean absolute error; always saying the mean is worse
        assert len(mean) == 2


def test_a_loss_and_a_score_of_the_users_own(tmp_path):
    overrides = (*SMALL["regression"], "training.loss='regression:relative'", "training.score='regression:within_ten'")
    sweep = load_sweep(EXAMPLES / "regression.toml", overrides)
    plan = Plan(sweep)
    trial = next(trial for trial in plan.trials if trial.method == "uniform")
    result = run_trial(plan.spec(trial, {"learning_rate": 0.05}), tmp_path, lambda report: True)
    assert result.state == "complete", result.reason
    assert 0.1 < result.accuracy <= 1
