"""Programs for a stream: after every hop the result of the whole window, from few new rows."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mcu.cost.deployment import write_deployment
from mcu.cost.firmware_memory import plan_memory
from mcu.cost.stream import windows_of
from mcu.devices import find_device
from mcu.errors import InputError
from mcu.firmware import (
    LibraryFormat,
    LibraryModel,
    build,
    core_of,
    predict_firmware,
    predict_instructions,
    run_in_emulator,
    toolchain,
    write_library,
    write_project,
)
from mcu.firmware.flags import HOST_FLAGS
from mcu.firmware.library import identity_of
from mcu.firmware.project import stream_macs
from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model
from random_nets import RandomNet, assorted_windows, causal_net, random_net, separable_net, several_ports_net

needs_board = pytest.mark.skipif(toolchain().advice() is not None, reason=str(toolchain().advice()))


def recording(model: Int8Model, hop: int, steps: int) -> np.ndarray:
    shape = (steps, hop, *model.tensors[model.input].shape[2:])
    return np.random.default_rng(hop).integers(-128, 128, shape).astype(np.int8)


def valid_net() -> Int8Model:
    """No padding at all: nothing is computed twice."""
    net = RandomNet(np.random.default_rng(0))
    x = net.conv(net.input(30, 4, 2), 6, (3, 3), same=False)
    x = net.pool(net.conv(x, 5, (3, 1), (2, 1), same=False), Kind.MAX_POOL, (2, 1), (1, 1))
    return net.model(net.dense(net.mean(x), 3))


SUBJECTS = [(assorted_windows(seed), 1 + seed % 4) for seed in range(5)]
SUBJECTS += [(separable_net(width=8, blocks=2), 2), (causal_net(), 1), (causal_net(), 3), (valid_net(), 4)]


@pytest.mark.parametrize(("model", "hop"), SUBJECTS)
def test_every_step_gives_what_the_whole_window_gives(
    tmp_path: Path, kernels: Path, model: Int8Model, hop: int
) -> None:
    rows = model.tensors[model.input].shape[1]
    write_project(model, tmp_path, samples=recording(model, hop, 2 * rows // hop + 3), sound="main.c", hop=hop)
    (tmp_path / "frontend.h").write_text("")
    objects = map(str, kernels.glob("*.o"))
    command = ["cc", *HOST_FLAGS, "-O1", "model.c", "selftest.c", *objects, "-o", "selftest_host"]
    subprocess.run(command, cwd=tmp_path, check=True)
    result = subprocess.run(["./selftest_host"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "wrong 0\n" in result.stdout
    text = (tmp_path / "vectors.h").read_text()
    assert text.count("    {\n") == 2 * (2 * rows // hop + 3)


def test_whole_windows_end_with_the_rows_of_their_step() -> None:
    assert windows_of(np.arange(9), 5, 2).tolist() == [[1, 2, 3, 4, 5], [3, 4, 5, 6, 7]]


def test_a_causal_network_computes_a_row_of_each_layer_and_keeps_what_it_looks_back_at() -> None:
    model = causal_net()
    plan, whole = plan_memory(model, hop=1), plan_memory(model)
    assert stream_macs(model, 1) * 35 < model.macs() < stream_macs(model, 1) * 45  # one row of 40 of each layer
    assert plan.total < whole.total / 2
    depthwise = [op for op in model.ops if op.kind is Kind.DEPTHWISE]
    assert [plan.stream.rows(model.ops[index].output) for index in (1, 5, 9)] == [3, 5, 9]
    assert {plan.stream.rows(op.output) for op in depthwise} == {1}


def test_rows_next_to_padding_are_computed_again_and_no_others() -> None:
    net = RandomNet(np.random.default_rng(0))
    x = net.conv(net.conv(net.input(20, 3, 1), 4), 4)
    model = net.model(net.global_pool(x))
    parts = plan_memory(model, hop=3).stream.parts
    assert [part.made for part in parts[0]] == [1, 3 + 1]
    assert [part.made for part in parts[1]] == [2, 3 + 2]


@pytest.mark.parametrize(
    ("model", "hop", "message"),
    [
        (causal_net(), 40, r"hop = 40: must be 1 to 39, less than the input's 40 rows"),
        (separable_net(), 3, r"layer 1, 'layers.0.conv', has stride 2 along time: take a hop that is a multiple of 6"),
        (
            separable_net(),
            40,
            r"layer 1, 'layers.0.conv', has no row that is there again after the hop: take a shorter hop",
        ),
        (several_ports_net(1), 1, r"stream: 2 inputs; a stream is the rows of one"),
    ],
)
def test_a_stream_that_saves_nothing_is_refused(tmp_path: Path, model: Int8Model, hop: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_project(model, tmp_path, hop=hop)
    assert not list(tmp_path.iterdir())


def test_a_network_that_reads_the_whole_window_at_once_is_refused(tmp_path: Path) -> None:
    net = RandomNet(np.random.default_rng(0))
    model = net.model(net.dense(net.input(20, 3, 1), 4))
    with pytest.raises(InputError, match=r"dense, reads the whole window: convolve along time before it"):
        write_project(model, tmp_path, hop=1)


@needs_board
def test_a_step_costs_on_a_board_what_was_predicted(tmp_path: Path) -> None:
    model, device = causal_net(width=40), find_device("stm32f446re")
    core, plan = core_of(device), plan_memory(model, hop=1)
    write_project(model, tmp_path, samples=recording(model, 1, 60), hop=1)
    built, run, predicted = (
        build(tmp_path, device),
        run_in_emulator(tmp_path, core),
        predict_firmware(model, core.name, plan),
    )
    assert run.bit_exact
    assert run.instructions * 20 < predict_instructions(model, core, plan_memory(model))
    assert predict_instructions(model, core, plan) == pytest.approx(run.instructions, rel=0.06)
    assert predicted.flash == pytest.approx(built.flash, rel=0.01)
    assert predicted.ram == pytest.approx(built.ram, rel=0.002, abs=16)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this computer")
def test_a_stream_of_a_library_keeps_its_rows_while_another_model_runs(tmp_path: Path) -> None:
    model = causal_net()
    other = LibraryModel("other", random_net(1))
    write_library([LibraryModel("ear", model, hop=1), other], tmp_path, LibraryFormat.CMAKE)
    source = tmp_path / "src" / "mcusweep_self_test.c"
    told = source.read_text()
    shape = model.tensors[model.input].shape
    assert told.count("ear_invoke(") == 1
    assert identity_of(write_deployment(model)) not in told  # a board must not give a step's time for an inference's
    source.write_text(told.replace("    ear_invoke(", "    (void)other_self_test();\n    ear_invoke("))
    sources = ["src/mcusweep_model.c", "src/mcusweep_self_test.c", "test/self_test.c"]
    subprocess.run(["cc", *HOST_FLAGS, "-Isrc", *sources, "-o", "both"], cwd=tmp_path, check=True)
    found = subprocess.run(["./both"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "ear: wrong 0" in found
    header = (tmp_path / "src" / "mcusweep_model.h").read_text()
    assert f"#define EAR_INPUT_BYTES {shape[2]}\n" in header
    assert f"#define EAR_WARM_UP {shape[1] - 1}\n" in header
