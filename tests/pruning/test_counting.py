"""The counting of ``benchmarks/pruning/mcu_search.py``: landing makes use of its bounds as of the runtime's own."""

from pathlib import Path

import numpy as np
import pytest

from mcu.resource_model import ResourceModel
from mcu.tracing.trace import trace
from pruning.engine.landing import FULL, land
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

ROOT, SHAPE = Path(__file__).resolve().parents[2], (1, 28, 28)


@pytest.mark.parametrize("name", ["published", "1.4x less", "2x less"])
def test_landing_uses_bounds_of_live_bytes(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "pruning"))
    from mcu_search import BUDGETS, WIDTH, LiveBytes

    network = build_network(NetworkChoice(name="plain-cnn", width=WIDTH), SHAPE, 10, 0)
    model = ResourceModel(trace(network, SHAPE).graph, LiveBytes())
    dense = model.dense_widths
    landed = land(model, BUDGETS[name], dense / 2, dense, [np.linspace(1, 0.1, size) for size in dense])
    used = model.exact(landed)
    assert BUDGETS[name].admits(used)
    assert BUDGETS[name].binding_use(used) >= FULL
