import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu.cost.arena import greedy_plan, lifetimes, peak_live
from mcu.cost.deployment import predict_deployment, write_deployment
from mcu.cost.planner import best_plan
from mcu.tflite import tflm
from mcu.tflite.writer import write_tflite

needs_interpreter = pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
buffers = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 9), st.integers(0, 4)).map(lambda b: (16 * b[0], b[1], b[1] + b[2])),
    min_size=1,
    max_size=14,
)


@given(buffers)
def test_our_plan_is_valid_and_never_larger_than_the_greedy_one(spans):
    plan = best_plan(spans)
    assert peak_live(spans) <= plan.total <= greedy_plan(spans).total
    assert plan.total == max(offset + size for offset, (size, _, _) in zip(plan.offsets, spans, strict=True))
    for i, (size, first, last) in enumerate(spans):
        for j, (other, begin, end) in enumerate(spans[:i]):
            if first <= end and begin <= last:
                low, high = plan.offsets[i], plan.offsets[j]
                assert low + size <= high or high + other <= low


@needs_interpreter
@pytest.mark.parametrize("seed", range(40))
def test_the_deployed_file_is_measured_as_predicted(seed, random_model):
    model = random_model(seed)
    predicted, data = predict_deployment(model), write_deployment(model)
    assert len(data) == predicted.flash
    assert tflm.measure_arena(data) == predicted.arena


@needs_interpreter
def test_a_plan_that_pays_saves_measured_arena_and_changes_no_output(random_model):
    paying = [m for m in (random_model(seed) for seed in range(60)) if predict_deployment(m).plan]
    assert paying, "no random model profits from a plan of ours"
    for model in paying:
        data, plain = write_deployment(model), write_tflite(model)
        saved = tflm.measure_arena(plain).total - tflm.measure_arena(data).total
        assert saved > len(data) - len(plain)
        shape = model.tensors[model.input].shape
        codes = np.random.default_rng(0).integers(-128, 128, (4, *shape[1:]), dtype=np.int8)
        assert np.array_equal(tflm.run(data, codes), tflm.run(plain, codes))
        assert best_plan(lifetimes(model)).total < greedy_plan(lifetimes(model)).total
