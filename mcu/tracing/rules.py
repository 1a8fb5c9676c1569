"""The table of ATen operators that networks may use, each with its rule."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from mcu.tracing.builder import Builder, Rule
from mcu.tracing.capture import Captured
from mcu.tracing.elementwise import ELEMENTWISE
from mcu.tracing.in_place import in_place
from mcu.tracing.parts import PARTS
from mcu.tracing.pooling import WINDOWS
from mcu.tracing.views import VIEWS
from mcu.tracing.weighted import WEIGHTED

RULES: dict[str, Rule] = {**WEIGHTED, **ELEMENTWISE, **WINDOWS, **VIEWS, **PARTS}


def rule_of(name: str) -> Rule | None:
    """The rule of an operator, by its name in ATen; that of ``relu`` for ``relu_``, too."""
    base = RULES.get(name.removesuffix("_"))
    return RULES.get(name) or (in_place(base) if base else None)


def rebuilt(captured: Captured, tensors: Mapping[str, torch.Tensor] | None = None) -> tuple[fx.GraphModule, Builder]:
    """The canonical network of a captured module, and the builder with notes on what was left out.

    Args:
        captured: the module as ATen operators.
        tensors: values to use instead of the module's own, by name.

    Raises:
        InputError: naming path and line of the first operator that no rule allows.
    """
    builder = Builder(captured, tensors)
    return builder.build(rule_of), builder
