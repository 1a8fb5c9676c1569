"""The resource model: exact where it says so, differentiable everywhere."""

import numpy as np
import pytest

from mcu.budget import Budget
from mcu.resource_model import ResourceModel
from mcu.runtime import Runtime, RuntimeName
from mcu.tracing.trace import trace
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

SHAPE = (1, 28, 28)


def model_of(name: str) -> ResourceModel:
    return ResourceModel(trace(build_network(NetworkChoice(name=name), SHAPE, 10, 0), SHAPE).graph)


def random_widths(model: ResourceModel, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.array([generator.integers(1, size + 1) for size in model.dense_widths])


@pytest.mark.parametrize("name", ["resnet8", "ds-cnn", "mobilenet-v2"])
def test_smooth_resources_agree_with_the_integers_at_integer_widths(name):
    model = model_of(name)
    for seed in range(5):
        widths = random_widths(model, seed)
        flash, sram, macs = model.smooth(widths).tolist()
        assert macs == pytest.approx(float(model.macs(widths)), rel=1e-12)
        estimate = model.estimate(widths)
        assert flash == pytest.approx(estimate[0], rel=1e-12)
        # the smooth maximum lies above the maximum by at most log(steps) / sharpness
        assert estimate[1] <= sram * (1 + 1e-9) <= estimate[1] * (1 + np.log(len(model.graph.ops)) / 30 + 1e-9)


@pytest.mark.parametrize("name", ["resnet8", "ds-cnn"])
def test_gradients_match_finite_differences_of_the_integers(name):
    model = model_of(name)
    widths = np.maximum(3, random_widths(model, 1))
    gradient = model.slopes(widths)
    for group, size in enumerate(model.dense_widths):
        up, down = widths.copy(), widths.copy()
        up[group], down[group] = widths[group] + 1, widths[group] - 1
        difference = float(model.macs(up) - model.macs(down)) / 2  # central: exact for a bilinear form up to w^2
        assert gradient[2, group] == pytest.approx(difference, rel=1e-9), (group, size)
        flash = (model.estimate(up) - model.estimate(down))[0] / 2
        assert gradient[0, group] == pytest.approx(flash, rel=1e-9), (group, size)


@pytest.mark.parametrize("name", ["resnet8", "ds-cnn", "mobilenet-v2"])
def test_the_slope_of_peak_memory_is_that_of_the_smooth_maximum(name):
    model = model_of(name)
    widths = np.maximum(3.0, random_widths(model, 2))
    slope = model.slopes(widths)[1]
    direction = np.random.default_rng(0).uniform(0.5, 1.0, len(widths)) * widths
    step = 1e-6
    change = (model.smooth(widths + step * direction)[1] - model.smooth(widths - step * direction)[1]) / (2 * step)
    assert slope @ direction == pytest.approx(change, rel=0.03)  # the scale moves along, which slopes leave out
    assert (slope >= 0).all()


@pytest.mark.parametrize("name", ["resnet8", "ds-cnn", "mobilenet-v2"])
@pytest.mark.parametrize("runtime", [Runtime(), Runtime(RuntimeName.FIRMWARE, "stm32f446re")])
def test_the_price_of_a_channel_in_memory_is_what_the_runtime_takes_for_it(name, runtime):
    model = ResourceModel(model_of(name).graph, runtime)
    widths = np.maximum(1, model.dense_widths // 4)
    before, estimate = model.exact(widths).sram, model.estimate(widths)[1]
    for group in range(len(widths)):
        wider = widths.copy()
        wider[group] += 8
        # operators with several inputs keep a few bytes for each of their buffers: sizes are rounded up to 16
        assert model.estimate(wider)[1] - estimate == pytest.approx(model.exact(wider).sram - before, abs=160)


@pytest.mark.parametrize("name", ["resnet8", "mobilenet-v2"])
def test_admitting_widths_is_comparing_exact_resources(name):
    model = model_of(name)
    dense = model.exact(model.dense_widths)
    budget = Budget(*(value // 3 for value in dense))
    answers = set()
    for seed in range(40):
        widths = np.maximum(1, (random_widths(model, seed) * np.random.default_rng(seed).uniform(0.2, 1)).astype(int))
        exact = model.exact(widths)
        flash, sram = model.runtime.floor(model._structure_at(widths))
        assert flash <= exact.flash
        assert sram <= exact.sram
        assert model.admits(budget, widths) == budget.admits(exact)
        answers.add(budget.admits(exact))
    assert answers == {True, False}


def test_exact_resources_fall_when_channels_go():
    model = model_of("resnet8")
    dense, half = model.exact(model.dense_widths), model.exact(model.dense_widths // 2)
    assert half.flash < dense.flash
    assert half.sram < dense.sram
    assert half.macs < dense.macs
