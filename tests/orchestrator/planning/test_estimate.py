import pytest

from orchestrator.planning.estimate import Estimate, estimate_sweep
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


def test_workers_share_the_time():
    found = Estimate({"a": 0.1}, {"a": 10.0}, {"a": 6}, ())
    assert found.sweep_seconds(2) == 30.0
