from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "sweeps" / "chaos.py"


@pytest.mark.slow
def test_a_sweep_that_is_killed_again_and_again_ends_as_one_in_peace(tmp_path):
    """The small edition of benchmarks/sweeps/chaos.py: supervisor, driver and a worker are killed once each.

    Trials of `uniform` begin by themselves, the others with one another's networks.
    """
    pytest.importorskip("sklearn", reason="the sweep is over the digits of scikit-learn")
    spec = importlib.util.spec_from_file_location("chaos", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    chaos = importlib.util.module_from_spec(spec)
    sys.modules["chaos"] = chaos
    spec.loader.exec_module(chaos)
    settings = {"trials": 2, "epochs": 3, "lineage": "true"}
    calm = chaos.sweep_in_peace(tmp_path, **settings)
    found = chaos.run_chaos(calm, kills=3, seed=1, executor="local", **settings)
    assert chaos.holds(found, kills=3), found
    assert found["kills"] == {"supervisor": 1, "driver": 1, "worker": 1}
    assert found["entered by the supervisor"] >= 1
