"""CMSIS-NN's kernels on the emulated Cortex-M4, through the code that bakenn (extra ``cmsis``) generates.

bakenn's program takes the place of ``model.c`` in our project: self test, start-up, compiler and flags stay the same.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mcu.firmware import CORES, toolchain
from mcu.firmware.emulator import emulate
from mcu.firmware.flags import LINK_FLAGS
from mcu.int8.model import Int8Model

SHIM = """#include "model.h"
#include "bakenn/bknn_net.h"
static int8_t input[MODEL_INPUT_BYTES] __attribute__((aligned(8)));
static int8_t output[MODEL_OUTPUT_BYTES] __attribute__((aligned(8)));
static uint8_t arena[BKNN_NET_ARENA_SIZE + 1] __attribute__((aligned(16)));
int8_t *model_input(void) { return input; }
const int8_t *model_output(void) { return output; }
void model_run(void) { bknn_net_infer((BKNN_NET_ARENA_SIZE > 0) ? arena : 0, input, output); }
"""
FLAGS = ("-std=c11", "-O2", "-mthumb", "-ffunction-sections", "-fdata-sections", "-DPRINT_OUTPUTS", "-w")
WEIGHTED = frozenset({3, 4, 9})  # CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED


@dataclass(frozen=True)
class CmsisRun:
    """Instructions of one inference with CMSIS-NN's kernels for ``accelerated`` of the ``layers``."""

    instructions: int
    bit_exact: bool
    accelerated: int
    layers: int


def bakenn_version() -> str | None:
    return version("bakenn") if importlib.util.find_spec("bakenn") else None


def run_cmsis(folder: Path, model: Int8Model, data: bytes) -> CmsisRun | str:
    """Run the self test of a project with bakenn's program in it; a text says why that cannot be."""
    import bakenn
    from bakenn.targets import CORTEX_M4

    file = folder / "model.tflite"
    file.write_bytes(_with_bias_scales(data))
    options = bakenn.CBackendOptions(
        kernel_policy=bakenn.KernelPolicy.STATIC_PRIORITY, enable_cmsis_nn=True, target=CORTEX_M4
    )
    try:
        compiled = bakenn.compile_tflite(str(file), folder / "bakenn", name="net", backend_options=options)
    except bakenn.BakeNNError as error:
        return f"refused: {str(error).splitlines()[0][:60]}"
    (folder / "shim.c").write_text(SHIM)
    elf = _build(folder)
    run = emulate(elf, CORES["cortex-m4"].board, toolchain())
    kernels = re.findall(r"^  \[\d+\] [^:]+: (\S+)", compiled.memory_report.to_text(), re.MULTILINE)
    accelerated = sum(kernel.startswith("cmsis_nn.") for kernel in kernels)
    return CmsisRun(run.instructions, run.bit_exact, accelerated, len(kernels))


def _build(folder: Path) -> Path:
    core, elf = CORES["cortex-m4"], folder / "cmsis.elf"
    sources = ["shim.c", "selftest.c", *core.architecture.self_test, *map(str, (folder / "bakenn").rglob("*.c"))]
    includes = sorted({f"-I{path.parent}" for path in (folder / "bakenn").rglob("*.h")})
    board = core.board
    memory = {"FLASH_ORIGIN": board.flash_origin, "FLASH_SIZE": board.flash, "RAM_ORIGIN": board.ram_origin}
    memory |= {"RAM_SIZE": 1 << 20, "STACK_SIZE": 4096}
    symbols = [f"-Wl,--defsym={name}={value:#x}" for name, value in memory.items()]
    command = [
        str(toolchain().compiler()),
        *core.flags,
        *FLAGS,
        *core.architecture.link_flags,
        *LINK_FLAGS,
        *symbols,
        "-I.",
        *includes,
        *sources,
    ]
    subprocess.run([*command, "-o", str(elf)], cwd=folder, check=True)
    return elf


def _with_bias_scales(data: bytes) -> bytes:
    """The file with scales on its bias tensors, which bakenn insists on and our slim files leave out."""
    import flatbuffers
    from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) in WEIGHTED and len(operator.inputs) > 2:
            source, weights, bias = (graph.tensors[int(index)] for index in operator.inputs[:3])
            scales = np.asarray(weights.quantization.scale, np.float32)
            bias.quantization = schema.QuantizationParametersT()
            bias.quantization.scale = (np.float32(source.quantization.scale[0]) * scales).tolist()
            bias.quantization.zeroPoint = [0] * len(scales)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
