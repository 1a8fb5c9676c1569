"""LiteRT's kernels on int8 models, as a third opinion beside TensorFlow Lite Micro and the reference interpreter."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def run(data: bytes, codes: np.ndarray) -> np.ndarray:
    """Outputs of LiteRT's reference kernels; of its optimised ones for models with an operator that has none there.

    Args:
        data: the bytes of a .tflite file.
        codes: int8 inputs, ``(N, height, width, channels)``.
    """
    try:
        interpreter = Interpreter(model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    except ValueError:  # ELU among them
        other = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(model_content=data, experimental_op_resolver_type=other)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    outputs = []
    for example in codes:
        interpreter.set_tensor(source, example[None])
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(target).copy())
    return np.concatenate(outputs)
