"""The generated C on this computer: right under the sanitisers, refusing what it cannot express exactly."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mcu.cost.firmware_memory import ALIGNMENT, plan_memory
from mcu.cost.stage import overwritten
from mcu.errors import InputError
from mcu.firmware import write_project
from mcu.firmware.calls import calls_of
from mcu.firmware.flags import HOST_FLAGS, KERNEL_SOURCES
from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.int8.structure import structure_of
from random_nets import RandomNet, every_operator_net, plain_net, random_net, residual_net, separable_net

SANITISERS = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this computer")


def inputs(model: Int8Model, count: int = 3) -> np.ndarray:
    shape = model.tensors[model.input].shape[1:]
    return np.random.default_rng(1).integers(-128, 128, (count, *shape)).astype(np.int8)


def run_on_host(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    sources = ["model.c", *KERNEL_SOURCES, "selftest.c", "platform_host.c"]
    subprocess.run(["cc", *HOST_FLAGS, *flags, *sources, "-o", "selftest_host"], cwd=folder, check=True)
    return subprocess.run(["./selftest_host"], cwd=folder, capture_output=True, text=True, check=False)


@needs_compiler
@pytest.mark.parametrize("head", [True, False])
def test_every_operator_equals_the_reference_interpreter_under_sanitisers(tmp_path: Path, head: bool) -> None:
    model = every_operator_net(head=head)
    write_project(model, tmp_path, samples=inputs(model))
    result = run_on_host(tmp_path, *SANITISERS)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "wrong 0\n" in result.stdout


@needs_compiler
@pytest.mark.parametrize("seed", range(6))
def test_random_networks_equal_the_reference_interpreter_under_sanitisers(tmp_path: Path, seed: int) -> None:
    model = random_net(seed)
    x = inputs(model)
    expected = ReferenceInterpreter(model).run(x)
    write_project(model, tmp_path, samples=x, expected=expected)
    assert len(np.unique(expected)) > 4
    assert run_on_host(tmp_path, *SANITISERS).returncode == 0


@needs_compiler
def test_interpreter_gives_the_same(tmp_path: Path) -> None:
    tflm = pytest.importorskip("mcu.tflite.tflm")
    if not tflm.available():
        pytest.skip("tflite-micro is not installed")
    from mcu.tflite.writer import write_tflite

    model = every_operator_net(3)
    x = inputs(model, 5)
    write_project(model, tmp_path, samples=x, expected=tflm.run(write_tflite(model), x))
    assert run_on_host(tmp_path).returncode == 0


@needs_compiler
def test_one_wrong_value_fails_the_self_test(tmp_path: Path) -> None:
    model = every_operator_net(head=False)
    x = inputs(model)
    expected = ReferenceInterpreter(model).run(x)
    expected.flat[-1] += 1
    write_project(model, tmp_path, samples=x, expected=expected)
    result = run_on_host(tmp_path)
    assert result.returncode == 1
    assert "wrong 1\n" in result.stdout


@needs_compiler
def test_makefile_runs_the_self_test(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("no make on this computer")
    write_project(plain_net(size=8), tmp_path)
    result = subprocess.run(["make", "selftest"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    refused = subprocess.run(["make", "DEVICE=abacus"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "abacus" in refused.stderr


def test_sources_use_no_library_but_memcpy_and_memset(tmp_path: Path) -> None:
    write_project(plain_net(size=8), tmp_path)
    own = {"stdbool.h", "stdint.h", "string.h", "arm_mve.h"}
    for source in (*KERNEL_SOURCES, "model.c", "main.c", "startup_arm.c", "startup_riscv.c"):
        text = (tmp_path / source).read_text()
        assert set(re.findall(r"#include <(.+)>", text)) <= own
        assert not re.search(r"\b(malloc|calloc|realloc|free|printf|alloca)\b", text)


def test_layer_names_cannot_leave_their_comment(tmp_path: Path) -> None:
    model = plain_net(size=8)
    hostile = tuple(replace(op, name='*/ system("x"); /*\n#error') for op in model.ops)
    write_project(replace(model, ops=hostile), tmp_path)
    text = (tmp_path / "model.c").read_text()
    assert 'system("' not in text
    assert "#error" not in text


@pytest.mark.parametrize("name", ["", "../x", "a\nb", "*/", "x" * 65])
def test_project_names_are_checked(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="firmware name"):
        write_project(plain_net(size=8), tmp_path, name=name)


def test_samples_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    model = plain_net(size=8)
    with pytest.raises(InputError, match="test vectors"):
        write_project(model, tmp_path, samples=np.zeros((2, 4, 4, 3), np.int8))
    with pytest.raises(InputError, match="expected outputs"):
        write_project(model, tmp_path, samples=inputs(model), expected=np.zeros((3, 9), np.int8))


def test_accumulators_that_could_overflow_are_refused(tmp_path: Path) -> None:
    net = RandomNet(np.random.default_rng(0))
    net.conv(net.input(6, 6, 4), 4)
    op = replace(net.ops[0], bias=np.full(4, 2**31 - 1, np.int32))
    with pytest.raises(InputError, match="overflow the kernels"):
        write_project(replace(net.model(1), ops=(op,)), tmp_path)


@needs_compiler
def test_multipliers_above_one_are_exact(tmp_path: Path) -> None:
    net = RandomNet(np.random.default_rng(0))
    net.conv(net.input(6, 6, 4), 8)
    factors = np.array([4e1, 9e1, 2e2, 3e2, 5e2, 1e3, 2e3, 4e3], np.float32)
    scales, weights = net.ops[0].weight_scales, net.ops[0].weights
    assert scales is not None
    assert weights is not None
    small = np.sign(weights) * (np.abs(weights) > 120)
    op = replace(
        net.ops[0], weight_scales=scales * factors, weights=small.astype(np.int8), bias=np.arange(8, dtype=np.int32)
    )
    model = replace(net.model(1), ops=(op,))
    x = inputs(model)
    write_project(model, tmp_path, samples=x)
    assert any(shift >= 0 for shift in calls_of(model)[0].tables[3].values)
    assert run_on_host(tmp_path, *SANITISERS).returncode == 0


@pytest.mark.parametrize("seed", range(12))
def test_live_tensors_never_overlap(seed: int) -> None:
    structure = structure_of(random_net(seed) if seed > 3 else [plain_net(), residual_net(), separable_net(),
                                                               every_operator_net()][seed])  # fmt: skip
    plan = plan_memory(structure, by_strips=False)
    sizes = [int(np.prod(shape)) for shape in structure.shapes]
    born = {port.tensor: 0 for port in structure.inputs} | {op.output: step for step, op in enumerate(structure.ops, 1)}
    dies = dict.fromkeys(born, 0)
    for step, op in enumerate(structure.ops, 1):
        for tensor in (*op.inputs, op.output):
            dies[tensor] = step
    dies |= {port.tensor: len(structure.ops) for port in structure.outputs}
    shared = {frozenset((op.inputs[0], op.output)) for op in structure.ops if op.kind is Kind.RESHAPE}
    in_place = overwritten(structure)
    shared |= {frozenset((tensor, structure.ops[index].output)) for index, tensor in in_place.items()}
    assert all(plan.offsets[tensor] == plan.offsets[structure.ops[index].output] for index, tensor in in_place.items())
    assert all(dies[tensor] == index + 1 for index, tensor in in_place.items())
    for a in born:
        assert plan.offsets[a] % ALIGNMENT == 0
        assert plan.offsets[a] + sizes[a] <= plan.total
        for b in born:
            together = born[a] <= dies[b] and born[b] <= dies[a]
            if a < b and together and frozenset((a, b)) not in shared:
                apart = plan.offsets[a] + sizes[a] <= plan.offsets[b] or plan.offsets[b] + sizes[b] <= plan.offsets[a]
                assert apart, (a, b)
