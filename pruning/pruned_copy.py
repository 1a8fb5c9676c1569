"""A copy of a network that is pruned, such as an average of its weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from mcu.tracing.interface import Interface


class PrunedCopy(nn.Module):
    """A copy of a pruner's network: same outputs, and its layers are pruned together with the pruner's."""

    def __init__(self, module: nn.Module, interface: Interface) -> None:
        super().__init__()
        self.module = module
        self._interface = interface

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the copy returns, as the pruner does."""
        return self._interface.called(self.module, inputs, named)
