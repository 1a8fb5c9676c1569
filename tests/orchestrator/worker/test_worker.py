"""The real worker, end to end, on a data set that a dependency ships."""

import hashlib
import json

import numpy as np
import pytest

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.measure import measure_model
from mcu.tflite import tflm
from orchestrator.queries.export import feeding
from orchestrator.spec import VALIDATION, TrialSpec
from orchestrator.worker.shared_task import task_here
from orchestrator.worker.trial import run_trial
from pruning.training.problem import CannotTakeError
from reports.apart import Validation
from search_spaces.choices import NetworkChoice, TaskChoice, TrainingChoice
from search_spaces.source_code import source_digest

pytest.importorskip("sklearn", reason="the digits of scikit-learn are the smallest real data set")


def spec(**changes) -> TrialSpec:
    given = {
        "task": TaskChoice(name="digits"),
        "network": NetworkChoice(name="ds-cnn", width=0.25),
        "method": "differentiable",
        "budget": Budget(flash=4_600, sram=4_700),
        "hyperparameters": {"learning_rate": 0.1},
        "seed": 3,
        "training": TrainingChoice(epochs=6, batch_size=32, device="cpu"),
    }
    return TrialSpec(**(given | changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root, reports = tmp_path_factory.mktemp("artifacts"), []
    return run_trial(spec(), root, lambda report: reports.append(report) or True), root, reports


def test_a_trial_is_trained_pruned_exported_and_measured(finished):
    result, root, reports = finished
    assert (result.state, result.violation, result.feasible) == ("complete", 0.0, True)
    data = (root / result.artifacts["model"].path).read_bytes()
    measured = measure_model(data)
    assert (result.flash, result.sram, result.macs) == (len(data), measured.sram, measured.macs)
    assert result.accuracy > 0.6
    assert result.binding_use >= 0.95
    assert len(reports) == 6
    assert not list((root / spec().hash()).glob("checkpoint*"))


def test_artifacts_carry_their_hash_and_what_a_board_needs(finished):
    result, root, _ = finished
    for artifact in result.artifacts.values():
        data = (root / artifact.path).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (artifact.sha256, artifact.bytes)
    deployment = json.loads((root / result.artifacts["deployment"].path).read_text())
    assert deployment["classes"] == [str(digit) for digit in range(10)]
    assert deployment["spec"] == spec().model_dump(mode="json")
    pixels = task_here(spec().task).x_test[:8].transpose(0, 2, 3, 1)
    (mean,), (std,), code = deployment["normalise"]["mean"], deployment["normalise"]["std"], deployment["input"]
    codes = np.rint((pixels / deployment["normalise"]["divide_by"] - mean) / std / code["scale"]) + code["zero_point"]
    assert np.abs(codes.clip(-128, 127) - deployment["self_test"]["inputs_nhwc"]).max() <= 1  # float32 in training
    told = f"Inputs are 8 x 8 x 1 codes, channels last: round((x / 255 - mean) / std / {code['scale']:.8g}) "
    assert feeding(deployment).startswith(told + f"{code['zero_point']:+d}, from -128 to 127; deployment.json has ")
    assert feeding(deployment | {"normalise": {"mean": [mean], "std": [std]}}) == "", "of an earlier version"


@pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
def test_which_validation_samples_it_gets_right_is_kept(finished):
    result, root, _ = finished
    kept = Validation.decode((root / result.artifacts[VALIDATION].path).read_bytes())
    assert kept.right.mean() == pytest.approx(result.val_accuracy)
    assert kept.samples == Validation.of(task_here(spec().task).y_val, 0).samples


def test_the_self_test_holds_in_the_interpreter(finished):
    result, root, _ = finished
    deployment = json.loads((root / result.artifacts["deployment"].path).read_text())["self_test"]
    data = (root / result.artifacts["model"].path).read_bytes()
    inputs = np.array(deployment["inputs_nhwc"], np.int8)
    assert tflm.run(data, inputs).reshape(len(inputs), -1).tolist() == deployment["outputs"]


def test_the_same_spec_gives_the_same_result(finished, tmp_path):
    result, _, _ = finished
    again = run_trial(spec(), tmp_path, lambda report: True)
    assert again.model_dump(exclude={"duration_s"}) == result.model_dump(exclude={"duration_s"})


def test_data_and_code_that_changed_since_the_plan_are_refused(tmp_path):
    with pytest.raises(InputError, match="its data changed"):
        run_trial(spec(data="0" * 32), tmp_path, lambda report: True)
    (tmp_path / "my_changed_network.py").write_text(
        "def build(input_shape, classes):\n    raise ValueError('far enough')\n"
    )
    own = NetworkChoice(name="my_changed_network:build", base=str(tmp_path))
    with pytest.raises(InputError, match="the code beside the sweep changed"):
        run_trial(spec(network=own, code="0" * 32), tmp_path, lambda report: True)
    code = source_digest(["my_changed_network:build"], str(tmp_path))
    with pytest.raises(InputError, match="far enough"):
        run_trial(spec(network=own, code=code), tmp_path, lambda report: True)


def test_a_stopped_trial_says_so(tmp_path):
    result = run_trial(spec(), tmp_path, lambda report: report.epochs_done < 2)
    assert result.state == "stopped"
    assert "2 of 6 epochs" in result.reason


def test_divergence_fails_with_a_reason(tmp_path):
    result = run_trial(spec(method="uniform", hyperparameters={"learning_rate": 1e30}), tmp_path, lambda report: True)
    assert result.state == "failed"
    assert "diverged" in result.reason


@pytest.mark.parametrize("method", ["differentiable", "uniform"])
def test_a_budget_out_of_reach_is_infeasible_with_the_smallest_figures(method, tmp_path):
    result = run_trial(spec(method=method, budget=Budget(flash=900)), tmp_path, lambda report: True)
    assert result.state == "infeasible"
    assert result.flash > 900
    assert result.violation > 0


def test_what_a_method_cannot_take_is_a_result_with_its_reason(monkeypatch, tmp_path):
    class Helpless:
        def run(self, *_):
            raise CannotTakeError("Torch-Pruning: IndexError: index 1 is out of bounds")

    monkeypatch.setattr("orchestrator.worker.trial.method", lambda name: Helpless())
    result = run_trial(spec(method="l1"), tmp_path, lambda report: True)
    assert result.state == "cannot"
    assert result.reason == "l1 cannot take this network: Torch-Pruning: IndexError: index 1 is out of bounds"
