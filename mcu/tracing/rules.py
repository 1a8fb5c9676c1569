"""The table of ATen operators that networks may use, each with its rule."""

from __future__ import annotations

from mcu.tracing.builder import Rule
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
