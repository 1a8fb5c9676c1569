from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from mcu.budget import Budget
from mcu.errors import InputError
from orchestrator.executors.simulated import SimulatedExecutor

TRIALS = """trial,seed,budget_flash,budget_macs,learning_rate,state,val_accuracy,accuracy,flash,sram,macs,duration_s
0,1,8192,20000,0.01,complete,0.5,0.5,8000,4000,19000,4
1,2,8192,20000,0.5,complete,0.9,0.9,8192,4000,20000,4
2,3,65536,200000,0.01,complete,0.7,0.7,60000,9000,150000,8
3,4,65536,200000,0.5,failed,,,,,,1
"""
CURVES = """trial,epochs_done,val_accuracy,flash,sram,macs
0,1,0.3,20000,5000,50000
0,2,0.5,8000,4000,19000
1,1,0.6,20000,5000,50000
1,2,0.9,8192,4000,20000
2,1,0.4,90000,9000,400000
2,2,0.7,60000,9000,150000
"""

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks" / "sweeps"


@pytest.fixture
def recorded_curves(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("recorded_curves").RecordedCurves


@pytest.fixture
def curves(tmp_path, recorded_curves):
    (tmp_path / "trials.csv").write_text(TRIALS)
    (tmp_path / "curves.csv").write_text(CURVES)
    return recorded_curves(tmp_path, ("learning_rate",))


def spec_at(make_spec, flash: int, macs: int, rate: float):
    return make_spec(learning_rate=rate).model_copy(update={"budget": Budget(flash=flash, macs=macs)})


@pytest.mark.parametrize(
    ("flash", "macs", "rate", "accuracy"),
    [(9_000, 22_000, 0.012, 0.5), (8_192, 20_000, 0.3, 0.9), (50_000, 150_000, 0.02, 0.7)],
)
def test_a_trial_does_what_the_nearest_recorded_one_did(curves, make_spec, flash, macs, rate, accuracy):
    trial = curves(spec_at(make_spec, flash, macs, rate))
    assert trial.result.val_accuracy == pytest.approx(accuracy, abs=0.03)
    assert trial.reports[-1].val_accuracy == pytest.approx(accuracy, abs=0.03)
    assert [report.epochs_done for report in trial.reports] == [1, 2]
    assert not trial.result.measured


def test_resources_are_scaled_to_the_bounds_and_never_over_them(curves, make_spec):
    result = curves(spec_at(make_spec, 16_384, 40_000, 0.5)).result
    assert (result.flash, result.macs, result.sram) == (16_384, 40_000, 4_000)
    assert result.binding_use == 1.0


def test_the_simulated_executor_runs_them(curves, make_spec):
    executor = SimulatedExecutor(seed=0, workers=1, curve=curves)
    executor.submit("a", spec_at(make_spec, 8_192, 20_000, 0.5))
    for _ in range(3):
        executor.poll(1.0)
    assert executor.now() == pytest.approx(4.0)


def test_a_missing_table_is_one_line(tmp_path, recorded_curves):
    with pytest.raises(InputError, match=r"recorded curves: .*trials\.csv: No such file"):
        recorded_curves(tmp_path, ())
