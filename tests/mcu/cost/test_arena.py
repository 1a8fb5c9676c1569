import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu.cost.arena import greedy_plan, lifetimes, peak_live, plan_activations, predict_arena, sufficient_arena
from mcu.graph.kinds import Kind
from mcu.int8.structure import structure_of
from mcu.tflite import tflm
from mcu.tflite.writer import write_tflite
from random_nets import RandomNet

needs_interpreter = pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
buffers = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 9), st.integers(0, 4)).map(lambda b: (16 * b[0], b[1], b[1] + b[2])),
    min_size=1,
    max_size=14,
)


def overlapping(plan, spans):
    for i, (size, first, last) in enumerate(spans):
        for j in range(i):
            other, begin, end = spans[j]
            together = first <= end and begin <= last
            low, high = plan.offsets[i], plan.offsets[j]
            if together and low < high + other and high < low + size:
                return i, j
    return None


@needs_interpreter
@pytest.mark.parametrize("seed", range(80))
def test_predicted_arena_is_the_measured_arena(seed, random_model):
    model = random_model(seed)
    measured = tflm.measure_arena(write_tflite(model))
    assert predict_arena(model) == predict_arena(structure_of(model)) == measured


FIRST = {
    "gather": lambda net, x: net.gather(x, (5, 3, 1)),
    "slice": lambda net, x: net.slice(x, (1, 1), (1, 1), (4, 4)),
    "pad": lambda net, x: net.pad(x, (1, 1), (1, 0)),
    "padv2": lambda net, x: net.pad_value(x, (1, 1), (1, 0)),
    "pool": lambda net, x: net.pool(x, Kind.MAX_POOL),
    "concat": lambda net, x: net.concat(x, x),
    "add": lambda net, x: net.add(x, x),
    "mul": lambda net, x: net.mul(x, x),
    "conv": lambda net, x: net.conv(x, 4),
    "depthwise": lambda net, x: net.depthwise(x),
    "mean": lambda net, x: net.mean(x),
    **{str(kind): lambda net, x, kind=kind: net.table(x, kind) for kind in (Kind.HARD_SWISH, Kind.ELU, Kind.LOGISTIC)},
}


@needs_interpreter
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("behind", range(4))
def test_the_arena_is_exact_wherever_the_data_of_the_first_kernel_begin(first, behind):
    for convolutions in range(3):
        net = RandomNet(np.random.default_rng(0))
        x = FIRST[first](net, net.input(8, 8, 6))
        for _ in range(convolutions):
            x = net.depthwise(x, (1, 1))
        for _ in range(behind):  # each has 4 bytes of options, and moves what follows the options of all
            x = net.table(x, Kind.LEAKY_RELU)
        model = net.model(x)
        assert predict_arena(model) == tflm.measure_arena(write_tflite(model))


STARTS = """
import os, sys
from tflite_micro import runtime
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
for file, size in zip(sys.argv[1::2], map(int, sys.argv[2::2])):
    child = os.fork()
    if child == 0:
        try:
            runtime.Interpreter.from_file(file, arena_size=size).invoke()
        except Exception:
            os._exit(1)
        os._exit(0)
    print(int(os.waitpid(child, 0)[1] == 0))
"""


@needs_interpreter
def test_with_a_sufficient_arena_the_interpreter_starts_and_not_with_48_bytes_less(random_model, tmp_path):
    tries = []
    for seed in range(70):
        model = random_model(seed)
        size = sufficient_arena(model)
        assert size >= predict_arena(model).total
        file = tmp_path / f"{seed}.tflite"
        file.write_bytes(write_tflite(model))
        tries += [str(file), str(size), str(file), str(size - 48)]
    answer = subprocess.run([sys.executable, "-c", STARTS, *tries], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["1", "0"] * 70


@given(buffers)
def test_a_plan_never_overlaps_and_is_never_below_the_peak(spans):
    plan = greedy_plan(spans)
    assert overlapping(plan, spans) is None
    assert plan.total >= peak_live(spans)
    assert plan.total == max(offset + size for offset, (size, _, _) in zip(plan.offsets, spans, strict=True))


def test_greedy_places_the_largest_first_and_the_later_of_equals_first():
    assert greedy_plan([(16, 0, 1), (32, 0, 1), (16, 0, 1)]).offsets == (48, 0, 32)
    assert greedy_plan([(32, 0, 0), (32, 1, 1)]).total == 32


def test_the_output_lives_to_the_end_and_the_input_from_the_start(random_model):
    model = random_model(1)
    spans = lifetimes(model)
    assert spans[model.input][1] == 0
    assert spans[model.output][2] == len(model.ops)
    assert plan_activations(model).total % 16 == 0
