"""The samplers a sweep file may name."""

from __future__ import annotations

from collections.abc import Mapping

from mcu.errors import InputError
from orchestrator.samplers.base import Sampler
from orchestrator.samplers.budget_tpe import ConditionedSampler
from orchestrator.samplers.optuna import MODELS, ModelSampler, Space
from orchestrator.samplers.sequence import GridSampler, SequenceSampler

SAMPLERS = ("tpe", *MODELS, "qmc", "random", "grid")


def make_sampler(name: str, spaces: Mapping[str, Space], seed: int) -> Sampler:
    """The sampler of that name over one space per method.

    Raises:
        InputError: for an unknown name.
    """
    if name == "tpe":
        return ConditionedSampler(spaces, seed)
    if name in ("random", "qmc"):
        return SequenceSampler(name, spaces, seed)
    if name == "grid":
        return GridSampler(spaces)
    if name in MODELS:
        return ModelSampler(name, spaces, seed)
    raise InputError(f"[sampler] name = {name!r}: unknown; allowed: {', '.join(SAMPLERS)}")
