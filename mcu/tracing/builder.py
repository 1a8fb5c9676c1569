"""A canonical network while it is built: an fx graph of plain layers that pruning can change.

Rules say what each ATen operator means (``rules.py``); the builder keeps, for every tensor of the captured module, the
image it is a view of. Layers are torch's own and hold the module's parameters, so dropout and batch normalisation
follow ``train()`` and ``eval()``, and layers can lose channels: nothing in the new graph has a size baked in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, cast

import torch
from torch import fx, nn

from mcu.graph import layers
from mcu.graph.places import Place, refuse, source_of
from mcu.tracing.capture import Captured
from mcu.tracing.layout import Axis, Layout, channel_order, plain


@dataclass(frozen=True)
class Image:
    """A tensor of the captured module, as a view of an image of the canonical network.

    Attributes:
        node: yields the image, ``(N, C, H, W)``, or ``(N, C)`` if ``row``.
        sizes: batch, channels, height, width of the image.
        layout: how the tensor's dimensions map to the image's axes.
        order: for each channel as the layout counts them, the channel of the node that it is; None if it is the same.
    """

    node: fx.Node
    sizes: tuple[int, int, int, int]
    layout: Layout
    row: bool = False
    order: tuple[int, ...] | None = None

    @property
    def stored(self) -> tuple[int, ...]:
        """``order``, written out."""
        return tuple(range(self.sizes[1])) if self.order is None else self.order


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the data; ``name`` if it is a parameter or buffer as it stands."""

    tensor: torch.Tensor
    name: str = ""


_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)

_FREE = (layers.as_image, layers.as_row, layers.pad)
"""Functions that are no operators, or part of the one behind them: they take no path of their own."""

Value = Image | Constant | tuple[Any, ...]
Rule = Callable[["Builder", fx.Node, dict[str, Any]], Value]


class Builder:
    """What rules build with.

    Attributes:
        captured: what is rebuilt.
        present: the operator whose rule is at work.
        values: what every operator before it gave.
        notes: messages on what the canonical network leaves out.
        finish: by output, function applied to it in the captured module and not in the canonical one, such as softmax.
        owner: by name of a parameter, the module it belongs to.
    """

    def __init__(self, captured: Captured, tensors: Mapping[str, torch.Tensor] | None = None) -> None:
        self.captured = captured
        self.tensors = captured.tensors if tensors is None else tensors
        self.root, self.graph = nn.Module(), fx.Graph()
        self.values: dict[fx.Node, Value] = {}
        self.paths: set[str] = set()
        self.claimed: dict[int, str] = {}
        self.given: set[int] = set()
        self.notes: list[str] = []
        self.finish: dict[fx.Node, Callable[[torch.Tensor], torch.Tensor]] = {}
        self.owner = dict(captured.module.named_modules(remove_duplicate=False))
        self.present = captured.inputs[0]
        self.dtype = next((t.dtype for t in self.tensors.values() if t.is_floating_point()), torch.float32)
        self.device = next(iter(captured.module.parameters()), torch.zeros(())).device

    def note(self, sentence: str) -> None:
        """Record, once, how the canonical network differs from the module."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def refuse(self, what: str, instead: str = "") -> NoReturn:
        """Refuse the network at the current operator.

        Raises:
            InputError: naming its path and line.
        """
        refuse(self.place(), what, instead)

    def place(self, path: str | None = None) -> Place:
        """Path and source line of the current operator."""
        return Place(self.path() if path is None else path, *source_of(self.present.meta.get("stack_trace")))

    def path(self) -> str:
        """Path of the module that calls the current operator, with the operator's name if the module has several."""
        stack = list((self.present.meta.get("nn_module_stack") or {}).values())
        path = str(stack[-1][0]) if stack else ""
        owner = self.owner.get(path)
        if path and owner is not None and not any(True for _ in owner.children()) and _is_torchs(owner):
            return path
        name = str(getattr(self.present.target, "overloadpacket", self.present.name)).removeprefix("aten.")
        return f"{path}.{name.strip('_')}" if path else name.strip("_")

    def owner_path(self) -> str:
        """Path of the module that calls the current operator."""
        stack = list((self.present.meta.get("nn_module_stack") or {}).values())
        return str(stack[-1][0]) if stack else ""

    def unique(self, path: str) -> str:
        """The path, numbered if it has been used."""
        found, count = path, 1
        while found in self.paths:
            count += 1
            found = f"{path}_{count}"
        self.paths.add(found)
        return found

    def node(self, function: Callable[..., Any], args: tuple[Any, ...]) -> fx.Node:
        """Call a function of the canonical network for the current operator."""
        node = self.graph.call_function(function, args)
        path = self.path() if function in _FREE else self.unique(self.path())
        node.meta |= {"place": self.place(path), "aten": self.present.name}
        return node

    def call(
        self, function: Callable[..., Any], like: Image, *args: Any, sizes: tuple[int, int, int, int] | None = None
    ) -> Image:
        """Apply a function to an image; the layout is kept; with other ``sizes``, the plain one of its rank."""
        node = self.node(function, (like.node, *args))
        if sizes is None:
            return replace(like, node=node)
        kept = like.order if sizes[1] == like.sizes[1] else None
        return Image(node, sizes, plain(sizes, len(like.layout)), order=kept)

    def layer(self, path: str, module: nn.Module, like: Image, sizes: tuple[int, int, int, int] | None = None) -> Image:
        """Apply a layer to an image; as ``call``."""
        self._add(path, module)
        return self._used(path, like, sizes)

    def weighted(
        self, weight: Constant, module: nn.Module, like: Image, sizes: tuple[int, int, int, int] | None = None
    ) -> Image:
        """Apply a layer with weights, as ``layer``; one that is used again stays one layer.

        Raises:
            InputError: where another layer uses the weights already.
        """
        path = self.claimed.get(self._key(weight))
        if path is None:
            return self.layer(self._layer_path(weight), module, like, sizes)
        if not _are_alike(self.root.get_submodule(path), module):
            self.refuse(
                f"its weights are used by '{path}' too, a layer with other settings", "give each its own weights"
            )
        self.note(f"'{path}' is used more than once: its weights are trained as one, and stored for each use")
        return self._used(path, like, sizes)

    def is_shared(self, weight: Constant) -> bool:
        """Whether several operators use the weights, so that they cannot follow the order of one's input."""
        nodes = (node for node in self.captured.graph.nodes if node.name in self.captured.names)
        same = (node for node in nodes if id(self.tensors[self.captured.names[node.name]]) == self._key(weight))
        return sum(len(node.users) for node in same) > 1

    def _used(self, path: str, like: Image, sizes: tuple[int, int, int, int] | None) -> Image:
        node = self.graph.call_module(path, (like.node,))
        node.meta |= {"place": self.place(path), "aten": self.present.name}
        if sizes is None:
            return replace(like, node=node)
        return Image(node, sizes, plain(sizes, len(like.layout)), row=like.row)

    def _add(self, path: str, module: nn.Module) -> None:
        self.paths.add(path)
        *parents, last = path.split(".")
        inside = self.root
        for name in parents:
            if name not in inside._modules:
                inside.add_module(name, nn.Module())
            inside = cast(nn.Module, inside._modules[name])
        there = inside._modules.get(last)
        for name, child in list(there._modules.items()) if there is not None else []:
            module.add_module(name, child)  # a layer with layers below its path
        inside.add_module(last, module)

    def _key(self, weight: Constant) -> int:
        return id(self.tensors[weight.name]) if weight.name else id(weight.tensor)

    def _layer_path(self, weight: Constant) -> str:
        """The path of the current layer: its module, if that is a plain layer, else the path of its weights."""
        stem, _, kind = weight.name.rpartition(".")
        called = self.owner_path()
        if not weight.name:
            path = called if isinstance(self.owner.get(called), _WEIGHTED) else self.path()
            self.note(f"the weights of '{called}' are computed from others; they train as plain weights")
        elif getattr(self.owner.get(called), "weight", None) is self.captured.tensors[weight.name]:
            path = called
        elif kind == "weight" and not any(True for _ in self.owner[stem].children()):
            path = stem
        else:
            path = weight.name
        path = self.unique(path or "layer")
        self.claimed[self._key(weight)] = path
        return path

    def image(self, value: Any, what: str = "this operation") -> Image:
        """The value as ``(N, C)``, ``(N, C, L)`` or ``(N, C, H, W)``, its channels stored in the order they are in."""
        return self.in_order(self.ordered(value, what))

    def in_order(self, image: Image) -> Image:
        """The same image with its channels stored in the order in which the layout counts them."""
        if image.order is None:
            return image
        return replace(image, node=self._gather(image, image.order), order=None)

    def ordered(self, value: Any, what: str = "this operation") -> Image:
        """As ``image``, but the channels may be stored in another order."""
        if not isinstance(value, Image):
            self.refuse(f"{what} on a constant", "give it a tensor that depends on the input")
        order = channel_order(value.layout, value.sizes)
        if order is None and len(value.layout) == 3 and value.sizes[1] == 1:
            self.refuse(
                f"{what} takes the {value.sizes[2]} rows of a map with one channel as channels",
                f"let the network's input be ({value.sizes[2]}, {value.sizes[3]}), channels and length, without the 1",
            )
        if order is None:
            self.refuse(
                f"{what} reads dimensions that are not batch, channels, height and width in this order",
                "leave out the view or permute before it",
            )
        held = value.stored
        stored = tuple(held[channel] for channel in cast(list[int], order))
        layout = (value.layout[0], *plain(value.sizes, 2)[1:], *value.layout[2:])
        return replace(value, layout=layout, order=_unless_ascending(stored))

    def gathered(self, image: Image, channels: Sequence[int], layout: Layout) -> Image:
        """These channels of an image, in this order.

        They are stored in the order that the image has them in: what reads them is changed rather than they are moved.
        """
        held = image.stored
        stored = [held[channel] for channel in channels]
        sizes = (image.sizes[0], len(stored), *image.sizes[2:])
        kept = sorted(set(stored))
        node = image.node if len(kept) == image.sizes[1] else self._gather(image, kept)
        made = replace(image, node=node, sizes=(sizes[0], len(kept), *sizes[2:]))
        place = {channel: position for position, channel in enumerate(kept)}
        order = tuple(place[channel] for channel in stored)
        if len(order) != len(kept):  # some twice
            return replace(made, node=self._gather(made, order), sizes=sizes, layout=layout, order=None)
        return replace(made, layout=layout, order=_unless_ascending(order))

    def _gather(self, image: Image, order: Sequence[int]) -> fx.Node:
        """The channels of a node, of one that gathers itself those of what it reads."""
        node, target = image.node, str(image.node.target)
        before = self.root.get_submodule(target) if node.op == "call_module" else None
        if isinstance(before, layers.Gather):
            node, order = cast(fx.Node, node.args[0]), [before.order[channel] for channel in order]
        return self.layer(self.unique(self.path()), layers.Gather(tuple(order)), replace(image, node=node)).node

    def row(self, image: Image) -> Image:
        """An image flattened to ``(N, C * H * W)``, in torch's order."""
        if image.row:
            return image
        batch, channels, height, width = image.sizes
        sizes = (batch, channels * height * width, 1, 1)
        return Image(self.node(layers.as_row, (image.node,)), sizes, plain(sizes, 2), row=True)

    def map(self, image: Image) -> Image:
        """A row as ``(N, C, 1, 1)``."""
        return replace(image, node=self.node(layers.as_image, (image.node,)), row=False) if image.row else image

    def parameter(self, constant: Constant | None, shape: Sequence[int] | None = None) -> nn.Parameter | None:
        """The module's own parameter, or a new one where it has another shape or is computed."""
        if constant is None:
            return None
        tensor = constant.tensor
        fits = shape is None or tuple(tensor.shape) == tuple(shape)
        if isinstance(tensor, nn.Parameter) and fits and id(tensor) not in self.given:
            self.given.add(id(tensor))
            return tensor
        source = self.captured.tensors.get(constant.name, tensor)
        trained = source.requires_grad or not constant.name
        values = tensor.detach().reshape(tuple(tensor.shape if shape is None else shape))
        return nn.Parameter(values.clone() if id(tensor) in self.given else values, requires_grad=trained)

    def output_behind(self) -> fx.Node | None:
        """The output that nothing but views stand before, seen from the current operator; None if there is none."""
        node = self.present
        while node not in self.captured.outputs and len(node.users) == 1 and _is_view(next(iter(node.users))):
            node = next(iter(node.users))
        return node if node in self.captured.outputs and all(user.op == "output" for user in node.users) else None

    def spatial(self, image: Image, values: Any, fill: int) -> tuple[int, int]:
        """Settings of a window by height and width; those of a 1-D one apply to the signal's axis."""
        found = [int(v) for v in values] if isinstance(values, list | tuple) else [int(values)]
        if len(image.layout) == 4:
            return (found[0], found[-1])
        return (fill, found[0]) if self.signal_axis(image) is Axis.WIDTH else (found[0], fill)

    def signal_axis(self, image: Image) -> Axis:
        """The axis of the image along which a ``(N, C, L)`` lies."""
        return image.layout[2][0].axis if image.layout[2] else Axis.HEIGHT

    def sizes_of(self, image: Image, channels: int, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Sizes of an image of this rank, given the tensor's shape."""
        if len(shape) == 4:
            return (image.sizes[0], channels, int(shape[2]), int(shape[3]))
        along = self.signal_axis(image) is Axis.WIDTH
        return (image.sizes[0], channels, 1, int(shape[2])) if along else (image.sizes[0], channels, int(shape[2]), 1)


def _unless_ascending(order: tuple[int, ...]) -> tuple[int, ...] | None:
    return None if order == tuple(range(len(order))) else order


def _is_view(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target.is_view


def _are_alike(first: nn.Module, second: nn.Module) -> bool:
    """Whether two layers of the same weights are one: equal settings, and equal values of all else."""
    settings = ("kernel_size", "stride", "padding", "output_padding", "dilation", "groups", "eps", "momentum")
    same = all(getattr(first, name, None) == getattr(second, name, None) for name in settings)
    mine, theirs = (
        dict(m.named_parameters(recurse=False)) | dict(m.named_buffers(recurse=False)) for m in (first, second)
    )
    return (
        same
        and type(first) is type(second)
        and mine.keys() == theirs.keys()
        and all(torch.equal(mine[name], theirs[name]) for name in mine)
    )


def _is_torchs(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")
