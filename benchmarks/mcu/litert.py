"""LiteRT's kernels on int8 models, as a third opinion beside TensorFlow Lite Micro and the reference interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def run(data: bytes, codes: np.ndarray) -> np.ndarray:
    """``invoke`` for a model with one input and one output."""
    (output,) = invoke(data, [codes])
    return output


def invoke(data: bytes, codes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of LiteRT's reference kernels; of its optimised ones for models with an operator that has none there.

    Args:
        data: the bytes of a .tflite file.
        codes: int8 examples of every input, ``(N, height, width, channels)``.
    """
    try:
        interpreter = Interpreter(model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    except ValueError:  # ELU among them
        other = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(model_content=data, experimental_op_resolver_type=other)
    interpreter.allocate_tensors()
    sources = [told["index"] for told in interpreter.get_input_details()]
    targets = [told["index"] for told in interpreter.get_output_details()]
    outputs: list[list[np.ndarray]] = [[] for _ in targets]
    for examples in zip(*codes, strict=True):
        for source, example in zip(sources, examples, strict=True):
            interpreter.set_tensor(source, example[None])
        interpreter.invoke()
        for found, target in zip(outputs, targets, strict=True):
            found.append(interpreter.get_tensor(target).copy())
    return [np.concatenate(found) for found in outputs]
