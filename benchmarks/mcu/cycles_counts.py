"""Instructions of programs whose time on boards is public: TinyMaix's examples, and CMSIS-NN on MLPerf Tiny's networks.

Their sources are compiled by the compiler and flags of our firmware and run in QEMU, which counts.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from firmware_cmsis import run_cmsis_layer
from mlperf_tiny import REFERENCES, Reference, autoencoder

from mcu.cost.firmware_memory import plan_memory
from mcu.firmware import Core, predict_instructions, toolchain, write_project
from mcu.firmware.emulator import emulator_command
from mcu.firmware.flags import LINK_FLAGS
from mcu.firmware.project import copy_sources
from mcu.graph.kinds import Kind
from mcu.graph.ports import Port
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from mcu.tracing.trace import trace
from search_spaces.networks import build_network

SHORT = {"image": "resnet8", "keyword": "ds-cnn", "visual": "mobilenet-v1", "anomaly": "autoencoder"}
"""Names of MLPerf Tiny's networks here, by the first word of theirs."""

SOURCES = ("tm_layers.c", "tm_layers_O1.c", "tm_model.c")
MODELS = {"mnist": ("mnist_valid_q.h", 28, 1), "cifar": ("cifar10_q.h", 32, 3), "vww96": ("vww96_q.h", 96, 3)}
"""TinyMaix's models: file, side and channels of the input."""

PORT = """
#pragma once
#include <stdint.h>
#define TM_ARCH_CPU 0
#define TM_ARCH_ARM_SIMD 1
#define TM_ARCH_ARM_NEON 2
#define TM_ARCH_ARM_MVEI 3
#define TM_ARCH_RV32P 4
#define TM_ARCH_RV64V 5
#define TM_ARCH_CSKYV2 6
#define TM_ARCH_X86_SSE2 7
#define TM_OPT0 0
#define TM_OPT1 1
#define TM_OPT2 2
#define TM_MDL_TYPE TM_MDL_INT8
#define TM_FASTSCALE 0
#define TM_LOCAL_MATH 0
#define TM_ENABLE_STAT 0
#define TM_MAX_CSIZE 1000
#define TM_MAX_KSIZE 25
#define TM_MAX_KCSIZE 2304
#define TM_INLINE __attribute__((always_inline)) static inline
#define TM_WEAK __attribute__((weak))
void *take(unsigned long size);
#define tm_malloc(x) take(x)
#define tm_free(x)
#define TM_PRINTF(...)
#define TM_DBG(...)
#define TM_DBGL()
#define TM_GET_US() 0
#define TM_DBGT_INIT()
#define TM_DBGT_START()
#define TM_DBGT(x)
#define TM_GET_TICK(x)
#define TM_TICK_PERUS
#define TM_PERF_REG(x)
#define TM_PERF_EXTREG(x)
#define TM_PERF_INIT(x)
#define TM_PERF_START(x)
#define TM_PERF_ADD(x)
#define TM_PERF_PRINT(x)
"""
MAIN = """
#include "tinymaix.h"
#include "{file}"
#include "platform.h"
void *take(unsigned long size)
{{
    static uint8_t pool[200000] __attribute__((aligned(16)));
    static unsigned long used;
    void *start = &pool[used];
    used += (size + 15UL) & ~15UL;
    return start;
}}
static void number(uint32_t value)
{{
    char text[11];
    int at = 10;
    text[at] = 0;
    do {{ text[--at] = (char)('0' + value % 10U); value /= 10U; }} while (value);
    platform_print(&text[at]);
    platform_print("\\n");
}}
static tm_err_t layer(tm_mdl_t *mdl, tml_head_t *head) {{ (void)mdl; (void)head; return TM_OK; }}
static uint8_t picture[{side} * {side} * {channels}];
int main(void)
{{
    static tm_mdl_t mdl;
    tm_mat_t bytes = {{3, {side}, {side}, {channels}, {{(mtype_t *)picture}}}};
    tm_mat_t in = {{3, {side}, {side}, {channels}, {{0}}}};
    tm_mat_t outs[1];
    for (unsigned i = 0; i < sizeof picture; ++i) picture[i] = (uint8_t)(i * 7919U / 64U);
    platform_clock_start();
    const uint32_t begin = platform_clock();
    platform_busy(100000U);
    const uint32_t middle = platform_clock();
    platform_busy(300000U);
    number((platform_clock() - middle) - (middle - begin));
    if (tm_load(&mdl, mdl_data, 0, layer, &in) != TM_OK) platform_exit(3);
    if (tm_preprocess(&mdl, TMPP_UINT2INT, &bytes, &in) != TM_OK) platform_exit(4);
    platform_clock_start();
    const uint32_t start = platform_clock();
    if (tm_run(&mdl, &in, outs) != TM_OK) platform_exit(5);
    const uint32_t end = platform_clock();
    if (end == PLATFORM_CLOCK_OVERFLOW) platform_exit(6);
    number(end - start);
    platform_exit(0);
    return 0;
}}
"""
BUSY_INSTRUCTIONS = 400_000


@dataclass(frozen=True)
class TinyMaixForm:
    """A configuration of its table of results: ``O0 CPU``, ``O1 SIMD``."""

    level: int
    simd: bool

    @classmethod
    def named(cls, name: str) -> TinyMaixForm:
        return cls(int(name[1]), name.endswith("SIMD"))


def tinymaix_instructions(checkout: Path, model: str, form: TinyMaixForm, core: Core) -> int:
    """Instructions of one inference by a checkout of TinyMaix, with the floating-point unit that the boards have."""
    if core.name == "cortex-m33":  # our own firmware does without
        core = replace(core, flags=("-mcpu=cortex-m33", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"))
    file, side, channels = MODELS[model]
    tools, board = toolchain(core.architecture), core.stand_in or core.board
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_sources(folder)
        (folder / "tm_port.h").write_text(PORT)
        (folder / "tinymaix.h").write_text((checkout / "include/tinymaix.h").read_text())
        (folder / "program.c").write_text(MAIN.format(file=file, side=side, channels=channels))
        memory = {"FLASH_ORIGIN": board.flash_origin, "FLASH_SIZE": 1 << 20, "RAM_ORIGIN": board.ram_origin}
        memory |= {"RAM_SIZE": 1 << 18, "STACK_SIZE": 8192}
        symbols = [f"-Wl,--defsym={key}={value:#x}" for key, value in memory.items()]
        flags = [*core.flags, "-std=gnu11", "-O2", "-w", "-ffunction-sections", "-fdata-sections", "-I."]
        flags += [f"-I{checkout / 'src'}", f"-I{checkout / 'tools/tmdl'}", f"-DTM_OPT_LEVEL={form.level}"]
        flags += [f"-DTM_ARCH={1 if form.simd else 0}", "-DARM_MATH_DSP"]
        sources = ["program.c", *(str(checkout / "src" / part) for part in SOURCES)]
        sources += core.architecture.self_test
        command = [str(tools.compiler()), *flags, *sources, *core.architecture.link_flags, *LINK_FLAGS, *symbols]
        subprocess.run([*command, "-lm", "-o", "program.elf"], cwd=folder, check=True)
        ran = subprocess.run(emulator_command(folder / "program.elf", board, tools), capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(f"{model} {form} on {core.name}: status {ran.returncode}: {ran.stdout}{ran.stderr}")
    busy, ticks = map(int, ran.stdout.split() or ran.stderr.split())
    return round(ticks * BUSY_INSTRUCTIONS / busy)


def mlperf_model(reference: Reference) -> Int8Model:
    """A network of the shape of one of MLPerf Tiny's."""
    torch.manual_seed(0)
    choice, shape = reference.network, reference.shape
    module = build_network(choice, shape, reference.classes, 0) if choice and len(shape) == 3 else autoencoder()
    traced = trace(module.eval(), shape)
    network = FoldedNet(traced.graph, traced.module)
    calibrate(network, torch.as_tensor(np.random.default_rng(0).normal(size=(64, *shape)), dtype=torch.float32))
    return quantise(network)


def cmsis_instructions(name: str, core: Core) -> int:
    """Instructions of one inference of an MLPerf Tiny network: convolutions by CMSIS-NN, the few others by ours."""
    reference = next(one for one in REFERENCES if SHORT[one.name.split()[0]] == name)
    model = mlperf_model(reference)
    total = predict_instructions(model, core, plan_memory(model, by_strips=False))
    for one in _convolutions(model):
        with tempfile.TemporaryDirectory() as folder:
            write_project(one, Path(folder), plan=plan_memory(one, by_strips=False))
            ran = run_cmsis_layer(Path(folder), one, core)
        if not ran.bit_exact:
            raise RuntimeError(f"{name} on {core.name}: not bit-exact")
        total += ran.instructions - predict_instructions(one, core, plan_memory(one, by_strips=False))
    return total


def _convolutions(model: Int8Model) -> Iterator[Int8Model]:
    """Each convolution of a network as a network of its own."""
    for op in model.ops:
        if op.kind in (Kind.CONV, Kind.DEPTHWISE):
            ends = model.tensors[op.inputs[0]], model.tensors[op.output]
            yield Int8Model(ends, (replace(op, inputs=(0,), output=1),), (Port(0),), (Port(1),))
