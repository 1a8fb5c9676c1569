import numpy as np
import pytest

from orchestrator.planning.estimate import Estimate, estimate_sweep
from pruning.training.problem import DivergedError
from search_spaces.sweep import SweepConfig


def test_a_sweep_is_estimated_from_a_few_steps_and_tells_what_a_network_cannot_reach():
    pytest.importorskip("sklearn")
    sweep = SweepConfig.model_validate(
        {
            "sweep": {"name": "s", "trials": 4},
            "task": {"name": "digits"},
            "network": {"names": ["ds-cnn", "resnet8"], "width": 0.25},
            "budgets": {"list": [{"flash": "6KB"}]},
            "methods": {"names": ["l1", "uniform"]},
            "training": {"epochs": 3, "batch_size": 32, "device": "cpu"},
        }
    )
    found = estimate_sweep(sweep)
    assert found.trials == {"ds-cnn": 4, "resnet8": 4}
    for name, seconds in found.step_seconds.items():
        assert found.trial_seconds[name] == pytest.approx(seconds * 3 * (1257 // 32))
    assert any("resnet8" in line for line in found.out_of_reach) or not found.out_of_reach


def test_workers_share_the_time_but_what_follows_one_another_takes_its_own():
    found = Estimate({"a": 0.1}, {"a": 10.0}, {"a": 6}, {"a": 6.0}, {"a": 1.0}, ())
    assert (found.sweep_seconds(2), found.sweep_seconds(100)) == (30.0, 10.0)


def test_the_trials_of_a_lineage_count_as_long_as_they_train():
    pytest.importorskip("sklearn")
    sweep = SweepConfig.model_validate(
        {
            "sweep": {"name": "s", "trials": 4},
            "task": {"name": "digits"},
            "network": {"name": "ds-cnn", "width": 0.25},
            "budgets": {"list": [{"flash": "6KB"}, {"flash": "5KB"}]},
            "methods": {"names": ["differentiable", "uniform"]},
            "training": {"epochs": 10, "batch_size": 32, "device": "cpu"},
            "lineage": {"enabled": True},
        }
    )
    found = estimate_sweep(sweep)
    assert found.trials == {"ds-cnn": 9}
    assert found.jobs == {"ds-cnn": 2.0 + 4 * 0.5 + 4}
    assert found.longest == {"ds-cnn": 2.0 + 0.5 + 0.5}


def sorted_arrays(path, counts: tuple[int, ...]) -> None:
    """Samples in the order of their classes, the last of which is rare."""
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.random.default_rng(0).normal(0, 0.5, (len(y), 1, 8, 8)).astype(np.float32)
    np.savez(path, x=x, y=y)


def arrays_sweep(path, **training) -> SweepConfig:
    return SweepConfig.model_validate(
        {
            "sweep": {"name": "s", "trials": 1},
            "task": {"name": "arrays", "path": str(path)},
            "network": {"name": "ds-cnn", "width": 0.25},
            "budgets": {"list": [{"flash": "6KB"}]},
            "methods": {"names": ["uniform"]},
            "training": {"device": "cpu", **training},
        }
    )


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 32), (1, 500), (5, 128), (2, 168)])
def test_schedules_of_few_steps_are_estimated(epochs, batch_size, tmp_path):
    sorted_arrays(tmp_path / "t.npz", (80, 80, 80))
    found = estimate_sweep(arrays_sweep(tmp_path / "t.npz", epochs=epochs, batch_size=batch_size))
    assert 0 < found.step_seconds["ds-cnn"] < float("inf")


def test_rare_classes_with_weights_in_sorted_data_are_estimated(tmp_path):
    sorted_arrays(tmp_path / "t.npz", (400, 400, 9))
    found = estimate_sweep(arrays_sweep(tmp_path / "t.npz", epochs=3, batch_size=16, class_weights=1.0))
    assert found.trial_seconds["ds-cnn"] > 0


def test_a_loss_that_diverges_at_the_first_step_is_estimated(tmp_path, monkeypatch):
    def diverge(*_):
        raise DivergedError("the loss became inf at step 0 of 3")

    monkeypatch.setattr("orchestrator.planning.estimate.Trainer.take_step", diverge)
    sorted_arrays(tmp_path / "t.npz", (80, 80, 80))
    assert estimate_sweep(arrays_sweep(tmp_path / "t.npz", epochs=1)).step_seconds["ds-cnn"] >= 0
