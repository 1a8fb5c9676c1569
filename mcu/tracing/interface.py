"""How a user's module is called and what it returns, beside its canonical network.

A canonical network takes tensors, one for each input, in the order of ``forward``, and returns a tensor, or a tuple of
several: those of the user's tuple, list, dict, named tuple or data class in the order of its fields, depth first, as
torch's pytrees have it. What is returned twice stands there twice.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from mcu.errors import InputError
from mcu.graph.ports import Shape, each


@dataclass(frozen=True)
class Interface:
    """Inputs and outputs of a user's module.

    Attributes:
        inputs: names of its arguments that are data.
        outputs: names of the tensors that it returns: their place in what it returns, such as ``scores_0``.
        shapes: of these tensors, without the batch, for inputs of the traced ``sizes``.
        form: of what it returns.
        constants: what it returns beside tensors, such as None: value by place among the leaves of ``form``.
        sizes: shapes of the inputs, without the batch.
        finish: by place among the outputs, what the user's module does to it last and the canonical network does not,
            such as softmax: it changes nothing in which is largest, but a loss is computed from it.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: tuple[Shape, ...]
    form: pytree.TreeSpec
    constants: Mapping[int, Any]
    sizes: tuple[Shape, ...]
    finish: Mapping[int, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict[int, Any]) -> Interface:
        """Itself: copies of a network are called alike, and nothing here changes."""
        return self

    def given(self, args: Sequence[Any], named: Mapping[str, Any]) -> tuple[torch.Tensor, ...]:
        """The inputs of a call, in order.

        Raises:
            InputError: if the call lacks an input or gives something else.
        """
        left, found = dict(named), list(args)
        found += [left.pop(name) for name in self.inputs[len(args) :] if name in left]
        tensors = [value for value in found if value is not None]
        if left or len(tensors) != len(self.inputs) or not all(isinstance(t, torch.Tensor) for t in tensors):
            raise InputError(
                f"pruner: it takes the tensors {', '.join(self.inputs)}, as in its example inputs; got "
                f"{len(found)} values" + "".join(f", {name}" for name in left)
            )
        return tuple(tensors)

    def called(self, module: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """What a canonical network, or its folded form, returns to a call, as the user's module returns it.

        Raises:
            InputError: as of ``given``, or if inputs of another size give outputs of another shape, whose form is not
                known.
        """
        x = self.given(args, named)
        values = module(*x)
        if any(tensor.shape[1:] != size for tensor, size in zip(x, self.sizes, strict=True)):
            for value, shape, name in zip(each(values), self.shapes, self.outputs, strict=True):
                if value.shape[1:] != shape:
                    sizes = ", ".join(str(("N", *size)).replace("'", "") for size in self.sizes)
                    given = ", ".join(str(tuple(tensor.shape)) for tensor in x)
                    raise InputError(
                        f"pruner: inputs {given} give {name} another shape; allowed are those of its example, {sizes}"
                    )
        return self.returned(values)

    def returned(self, values: torch.Tensor | Sequence[torch.Tensor]) -> Any:
        """What a canonical network returned, or its folded form, as the user's module returns it."""
        whole = [self.finish[at](value) if at in self.finish else value for at, value in enumerate(each(values))]
        tensors = iter(
            value if value.shape[1:] == shape else value.reshape(len(value), *shape)
            for value, shape in zip(whole, self.shapes, strict=True)
        )
        leaves = [
            self.constants[place] if place in self.constants else next(tensors) for place in range(self.form.num_leaves)
        ]
        return pytree.tree_unflatten(leaves, self.form)


def names_of(form: pytree.TreeSpec) -> list[str]:
    """A name for each leaf of what a module returns, unlike any other, in letters, digits and ``_``."""
    numbered = pytree.tree_unflatten(list(range(form.num_leaves)), form)
    names: list[str] = []
    paths: list[tuple[Any, ...]] = [path for path, _ in pytree.tree_flatten_with_path(numbered)[0]]
    for path in paths:
        name = re.sub(r"\W", "_", "_".join(str(dataclasses.astuple(key)[0]) for key in path), flags=re.ASCII)
        names.append(name if name and not name[0].isdigit() else "_".join(filter(None, ("output", name))))
    seen: Counter[str] = Counter()
    for place, name in enumerate(names):
        seen[name] += 1
        names[place] = name if seen[name] == 1 else f"{name}_{seen[name]}"
    return names


def registered(returned: Any) -> bool:
    """Let torch look into the data classes that a module returned; whether there was one that it could not."""
    found = False
    for leaf in pytree.tree_leaves(returned):
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            torch.export.register_dataclass(type(leaf))
            registered(leaf)
            found = True
    return found
