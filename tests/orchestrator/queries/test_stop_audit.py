from __future__ import annotations

import pytest
from fake_sweep import run

from orchestrator.cli.reporting import study_info
from orchestrator.executors.simulated import SimulatedExecutor
from orchestrator.queries.stop_audit import stop_audit
from orchestrator.running.run import RunOptions, simulated
from orchestrator.storage.frames import trials_frame
from orchestrator.storage.store import Store
from search_spaces.sweep import SweepConfig


def simulate(storage: str, trials: int, **stopping) -> Store:
    table = {
        "sweep": {"name": "s", "trials": trials},
        "task": {"name": "mnist-5k"},
        "network": {"name": "resnet8"},
        "budgets": {"list": [{"flash": 65536}]},
        "methods": {"names": ["differentiable"]},
        "sampler": {"name": "random"},
        "stopping": stopping,
    }
    executor = SimulatedExecutor(seed=0, workers=4)
    run(storage, simulated(SweepConfig.model_validate(table)), RunOptions(), make_executor=lambda *_: executor)
    return Store(storage)


def test_the_audit_counts_what_was_stopped_spared_and_saved_and_the_report_says_so(storage):
    store = simulate(storage, 30, audit_share=0.3)
    audit = stop_audit(store, store.study())
    assert audit is not None
    states = store.state_counts(store.study())
    assert audit.stopped == states["stopped"] > 5
    assert 0.1 < audit.epochs_saved < 0.8
    assert 0 < audit.spared <= 0.6 * 30
    assert 0 <= audit.false_stops <= audit.spared
    assert f"{audit.false_stops} of {audit.spared} spared" in audit.line
    info = study_info(store, store.study(), trials_frame(store, store.study()))
    assert info.stopping == audit.line


@pytest.mark.parametrize("stopping", [{"enabled": False}, {"eta": 100}])
def test_without_stops_there_is_nothing_to_audit(storage, stopping):
    store = simulate(storage, 4, **stopping)
    assert stop_audit(store, store.study()) is None
