"""Files whose options and quantisation were changed one at a time: refused, or computed as the interpreter does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mcu.errors import InputError
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.tflite import tflm
from mcu.tflite.reader import read_tflite
from mcu.tflite.writer import write_tflite

pytestmark = pytest.mark.skipif(not tflm.available(), reason="tflite-micro is not installed")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

CHILD = """
import json, sys
from pathlib import Path
import numpy as np
from mcu.errors import InputError
from mcu.tflite import tflm
for path in json.loads(sys.argv[1]):
    path = Path(path)
    try:
        np.save(path.with_suffix(".npy"), tflm.run(path.read_bytes(), np.load(path.with_name("x.npy"))))
    except InputError:
        pass
"""


def changed(data: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """The file with one option, zero point, scale or axis of scales of its own."""

    def packed(change: Callable) -> bytes:
        import flatbuffers

        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
        change(model.subgraphs[0])
        builder = flatbuffers.Builder(4096)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0)).subgraphs[0]
    for at, operator in enumerate(graph.operators):
        yield packed(lambda graph, at=at: drop_options(graph.operators[at]))
        for name, value in vars(operator.builtinOptions).items() if operator.builtinOptions else ():
            for other in {0, 1, 2, -1, 0.5} - {value}:
                if value is not None and (isinstance(value, float) or isinstance(other, int)):
                    options = (at, name, type(value)(other))
                    yield packed(lambda graph, options=options: set_option(graph, *options))
    for at, tensor in enumerate(graph.tensors):
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            for name in ("zeroPoint", "scale", "quantizedDimension"):
                change = (at, name, int(rng.integers(1, 40)))
                yield packed(lambda graph, change=change: set_quantisation(graph, *change))


def drop_options(operator) -> None:
    operator.builtinOptions, operator.builtinOptionsType = None, 0


def set_option(graph, at: int, name: str, value: object) -> None:
    setattr(graph.operators[at].builtinOptions, name, value)


def set_quantisation(graph, at: int, name: str, amount: int) -> None:
    found = graph.tensors[at].quantization
    if name == "quantizedDimension":
        found.quantizedDimension = (found.quantizedDimension + amount) % 4
    elif name == "scale":
        found.scale = np.array(found.scale) * np.float32(amount / 8)
    else:
        found.zeroPoint = np.clip(np.array(found.zeroPoint) + amount, -128, 127)


@pytest.mark.parametrize(("foreign", "seed"), [(False, 6), (False, 8), (False, 9), (True, 3), (True, 5), (True, 9)])
def test_what_is_accepted_is_computed_as_the_interpreter_does(
    foreign, seed, random_model, foreign_model, codes, tmp_path
):
    model = (foreign_model if foreign else random_model)(seed)
    x = codes(model, 6, seed)
    np.save(tmp_path / "x.npy", x)
    read, refused = {}, 0
    for number, data in enumerate(changed(write_tflite(model), np.random.default_rng(seed))):
        try:
            read[number] = read_tflite(data)
        except InputError:
            refused += 1
            continue
        (tmp_path / f"{number}.tflite").write_bytes(data)
    files = [str(tmp_path / f"{number}.tflite") for number in read]
    subprocess.run([sys.executable, "-c", CHILD, json.dumps(files)], check=True, cwd=Path(__file__).parents[3])
    computed = {number: tmp_path / f"{number}.npy" for number in read if (tmp_path / f"{number}.npy").exists()}
    assert refused > 10
    assert len(computed) > 20
    for number, file in computed.items():
        assert np.array_equal(ReferenceInterpreter(read[number]).run(x), np.load(file)), number
