"""Networks drawn from the whole vocabulary, in every form it is written: one function from torch to the interpreter.

``MCUSWEEP_RANDOM_NETWORKS`` says how many are drawn; ``benchmarks/mcu/random_networks.py`` runs thousands and goes on.
"""

import os

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from mcu.tflite import tflm
from networks.drawn import FORMS, HEADS, KERNELS, KINDS, MORE, Plan, Step
from random_networks import ALLOWED_REFUSALS, compare

COUNT = int(os.environ.get("MCUSWEEP_RANDOM_NETWORKS", "20"))

steps = st.builds(
    Step,
    kind=st.sampled_from(KINDS),
    form=st.integers(0, FORMS - 1),
    channels=st.integers(1, 9),
    kernel=st.sampled_from(KERNELS),
    stride=st.integers(1, 2),
    again=st.booleans(),
)
plans = st.builds(
    Plan,
    channels=st.integers(1, 3),
    size=st.one_of(st.tuples(st.integers(6, 14), st.integers(6, 14)), st.tuples(st.integers(8, 32))),
    steps=st.lists(steps, min_size=1, max_size=7).map(tuple),
    head=st.integers(0, HEADS - 1),
    seed=st.integers(0, 999),
    side=st.integers(0, 3),
    more=st.sampled_from(MORE),
)


@pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
@given(plans)
@settings(max_examples=COUNT, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_network_is_one_function_from_torch_to_the_interpreter(plan):
    found = compare(plan)
    event(found["outcome"])
    if found["outcome"] == "refused":
        assert any(words in found["reason"] for words in ALLOWED_REFUSALS), found["reason"]
