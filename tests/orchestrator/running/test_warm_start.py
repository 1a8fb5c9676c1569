from __future__ import annotations

import math

import pytest
from fake_sweep import make_sweep, run
from pydantic import ValidationError

from orchestrator.executors.simulated import SimulatedExecutor
from orchestrator.running.run import RunOptions, simulated
from orchestrator.storage.store import Store
from search_spaces.sections import SamplerSection
from search_spaces.sweep import SweepConfig


def sweep_of(name: str, trials: int, warm: bool = False, epochs: int = 20, high: float = 0.9) -> SweepConfig:
    sweep = make_sweep(trials, "tpe", ("differentiable",), learning_rate={"low": 0.001, "high": high, "log": True})
    table = sweep.model_dump(mode="json")
    table["sweep"]["name"] = name
    table["sampler"] = {"name": "tpe", "warm_start": warm}
    table["training"]["epochs"] = epochs
    for alien in ("quality", "reports"):
        del table["hyperparameters"][alien]
    return simulated(SweepConfig.model_validate(table))


def distance(storage: str, sweep: SweepConfig) -> float:
    """Median distance, in decades, of the learning rates from the best one of the simulated curves, 0.1."""
    run(storage, sweep, RunOptions(), make_executor=lambda *_: SimulatedExecutor(seed=0, workers=1))
    store = Store(storage)
    rates = [trial.spec.hyperparameters["learning_rate"] for trial in store.trials(store.study(sweep.sweep.name))]
    store.close()
    distances = sorted(abs(math.log10(float(rate) / 0.1)) for rate in rates)
    return distances[len(distances) // 2]


def test_a_warm_start_begins_where_earlier_studies_ended(storage):
    distance(storage, sweep_of("first", 24))
    cold = distance(storage, sweep_of("cold", 6))
    warm = distance(storage, sweep_of("warm", 6, warm=True))
    assert warm < 0.6 * cold


@pytest.mark.parametrize("other", [{"epochs": 10}, {"high": 0.002}])
def test_studies_that_cannot_inform_are_left_out(storage, other):
    distance(storage, sweep_of("first", 12))
    warm = distance(storage, sweep_of("warm", 5, warm=True, **other))
    assert distance(storage, sweep_of("cold", 5, **other)) == warm


def test_only_the_sampler_that_learns_across_studies_takes_a_warm_start():
    with pytest.raises(ValidationError, match="warm_start = true: 'random' cannot begin with earlier studies"):
        SamplerSection(name="random", warm_start=True)
