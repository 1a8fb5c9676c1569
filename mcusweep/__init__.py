"""The public names of mcusweep; each is loaded on first use, so that the import itself is fast.

``launch(sweep)`` runs a sweep and ``open_study`` opens a stored one; ``measure`` gives the cost of a .tflite file;
``devices`` lists the known microcontrollers; ``Budget`` bounds what a model may use. ``Pruner`` prunes a network inside
your training loop, ``prune`` one in a single call.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcu.budget import Budget as Budget
    from mcu.devices import catalogue as devices
    from mcu.measure import measure_file as measure
    from orchestrator.launch import launch as launch
    from orchestrator.queries.open_study import open_study as open_study
    from pruning.prune import prune as prune
    from pruning.pruner import Pruner as Pruner

    __version__: str

_PLACES = {
    "Budget": "mcu.budget:Budget",
    "Pruner": "pruning.pruner:Pruner",
    "devices": "mcu.devices:catalogue",
    "launch": "orchestrator.launch:launch",
    "measure": "mcu.measure:measure_file",
    "open_study": "orchestrator.queries.open_study:open_study",
    "prune": "pruning.prune:prune",
}
__all__ = ["Budget", "Pruner", "__version__", "devices", "launch", "measure", "open_study", "prune"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("mcusweep")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return __all__
