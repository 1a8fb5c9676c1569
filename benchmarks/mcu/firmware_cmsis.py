"""CMSIS-NN's kernels on the emulated cores: whole models through the code that bakenn (extra ``cmsis``) generates, on
the Cortex-M4, and single layers by calls of the CMSIS-NN that bakenn brings along.

Either program takes the place of ``model.c`` in our project: self test, start-up, compiler and flags stay the same.
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

from mcu.firmware import CORES, Core, toolchain
from mcu.firmware.emulator import emulate
from mcu.firmware.flags import LINK_FLAGS
from mcu.graph.kinds import Kind
from mcu.int8.model import Int8Model
from mcu.int8.scaling import activation_range, conv_multipliers

SHIM = """#include "model.h"
#include "bakenn/bknn_net.h"
static int8_t input[MODEL_INPUT_BYTES] __attribute__((aligned(8)));
static int8_t output[MODEL_OUTPUT_BYTES] __attribute__((aligned(8)));
static uint8_t arena[BKNN_NET_ARENA_SIZE + 1] __attribute__((aligned(16)));
int8_t *model_input(void) { return input; }
const int8_t *model_output(void) { return output; }
void model_run(void) { bknn_net_infer((BKNN_NET_ARENA_SIZE > 0) ? arena : 0, input, output); }
"""
LAYER = """#include "model.h"
#include "arm_nnfunctions.h"
{tables}
static int8_t input[MODEL_INPUT_BYTES] __attribute__((aligned(8)));
static int8_t output[MODEL_OUTPUT_BYTES] __attribute__((aligned(8)));
static int8_t scratch[{scratch}] __attribute__((aligned(8)));
int8_t *model_input(void) {{ return input; }}
const int8_t *model_output(void) {{ return output; }}
void model_run(void)
{{
    const cmsis_nn_context context = {{scratch, sizeof scratch}};
    const cmsis_nn_{kind}conv_params layer = {{{offsets}, {{{stride}}}, {{{padding}}}, {{1, 1}}, {{{clamp}}}}};
    const cmsis_nn_per_channel_quant_params scales = {{(int32_t *)multiplier, (int32_t *)shift}};
    const cmsis_nn_dims in = {{{in_dims}}}, out = {{{out_dims}}};
    const cmsis_nn_dims filter = {{{filter_dims}}}, add = {{1, 1, 1, {channels}}};
    arm_{function}_wrapper_s8(&context, &layer, &scales, &in, input, &filter, weights, &add, bias, &out, output);
}}
"""
SCRATCH = 1 << 17
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
    elf = _build(folder, CORES["cortex-m4"], folder / "bakenn")
    run = emulate(elf, CORES["cortex-m4"].board, toolchain())
    kernels = re.findall(r"^  \[\d+\] [^:]+: (\S+)", compiled.memory_report.to_text(), re.MULTILINE)
    accelerated = sum(kernel.startswith("cmsis_nn.") for kernel in kernels)
    return CmsisRun(run.instructions, run.bit_exact, accelerated, len(kernels))


def run_cmsis_layer(folder: Path, model: Int8Model, core: Core) -> CmsisRun:
    """Run the self test of a project of one convolution, plain or depthwise, with CMSIS-NN's kernel in it."""
    import bakenn

    library = Path(bakenn.__file__).parent / "backend" / "cmsis_nn" / "vendor"
    (folder / "shim.c").write_text(_layer_program(model))
    run = emulate(_build(folder, core, library), core.board, toolchain())
    return CmsisRun(run.instructions, run.bit_exact, 1, 1)


def _layer_program(model: Int8Model) -> str:
    op, source, target = model.ops[0], model.tensors[model.input], model.tensors[model.output]
    in_channels, channels = source.shape[-1], target.shape[-1]
    scales = conv_multipliers(model, op)
    assert op.weights is not None
    assert op.bias is not None
    tables: dict[str, Any] = {
        "int8_t weights": op.weights,
        "int32_t bias": op.bias,
        "int32_t multiplier": [value for value, _ in scales],
        "int32_t shift": [by for _, by in scales],
    }
    joined = {name: ", ".join(map(str, np.ravel(values))) for name, values in tables.items()}
    kernel = f"{op.kernel[0]}, {op.kernel[1]}"
    depthwise = op.kind is Kind.DEPTHWISE
    form = {
        "kind": "dw_" if depthwise else "",
        "function": "depthwise_conv" if depthwise else "convolve",
        "filter_dims": f"1, {kernel}, {channels}" if depthwise else f"{channels}, {kernel}, {in_channels}",
    }
    multiplier = f", {channels // in_channels}" if depthwise else ""
    return LAYER.format(
        **form,
        tables="\n".join(f"static const {name}[] = {{{values}}};" for name, values in joined.items()),
        scratch=SCRATCH,
        offsets=f"{-source.zero_point}, {target.zero_point}{multiplier}",
        stride=f"{op.stride[1]}, {op.stride[0]}",
        padding=f"{op.padding[1][0]}, {op.padding[0][0]}",
        clamp=", ".join(map(str, activation_range(op.activation, target))),
        in_dims=", ".join(map(str, source.shape)),
        out_dims=", ".join(map(str, target.shape)),
        channels=channels,
    )


def _build(folder: Path, core: Core, library: Path) -> Path:
    elf = folder / "cmsis.elf"
    sources = ["shim.c", "selftest.c", *core.architecture.self_test, *map(str, library.rglob("*.c"))]
    includes = sorted({f"-I{path.parent}" for path in library.rglob("*.h")})
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
