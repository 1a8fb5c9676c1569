"""The samplers a sweep file may name."""

from __future__ import annotations

from collections.abc import Mapping

from mcu.errors import InputError
from orchestrator.samplers.base import Sampler
from orchestrator.samplers.budget_tpe import ConditionedSampler
from orchestrator.samplers.optuna import MODELS, ModelSampler, Space
from orchestrator.samplers.sequence import GridSampler, SequenceSampler
from search_spaces.terms import SamplerName


def make_sampler(name: str, spaces: Mapping[str, Space], seed: int) -> Sampler:
    """The sampler of that name over one space per method.

    Raises:
        InputError: for an unknown name.
    """
    if name == SamplerName.TPE:
        return ConditionedSampler(spaces, seed)
    if name in (SamplerName.RANDOM, SamplerName.QMC):
        return SequenceSampler(name, spaces, seed)
    if name == SamplerName.GRID:
        return GridSampler(spaces)
    if name in MODELS:
        return ModelSampler(name, spaces, seed)
    raise InputError(f"[sampler] name = {name!r}: unknown; allowed: {', '.join(SamplerName)}")
