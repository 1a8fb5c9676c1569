"""Rules of what works value by value: activations, sums, constants, dropout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import fx, nn

from mcu.graph.layers import Affine
from mcu.tracing.builder import Builder, Constant, Image, Rule, Value
from mcu.tracing.layout import plain


def unary(function: Callable[..., Any]) -> Rule:
    """A function of each value by itself, whatever the layout."""

    def rule(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
        return b.call(function, first_image(b, a))

    return rule


def first_image(b: Builder, a: dict[str, Any]) -> Image:
    """The operand, which must depend on the input."""
    value = next(iter(a.values()))
    if not isinstance(value, Image):
        b.refuse("an operation whose first operand is a constant", "put the tensor first")
    return cast(Image, value)


def clamp(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``clamp`` and ``hardtanh``: ReLU and ReLU6."""
    low, high = (a.get("min_val", a.get("min")), a.get("max_val", a.get("max")))
    if low == 0 and high is None:
        return b.call(F.relu, first_image(b, a))
    if low == 0 and high == 6:
        return b.call(F.relu6, first_image(b, a))
    return cast(Value, b.refuse(f"values limited to {low} .. {high}", "allowed are ReLU (0 ..) and ReLU6 (0 .. 6)"))


def hard_sigmoid(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``relu6(x + 3) / 6``: the sum goes into the bias before it."""
    return scaled(b, b.call(F.relu6, scaled(b, first_image(b, a), 1.0, 3.0)), 1 / 6, 0.0)


def silu(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``x * sigmoid(x)``."""
    image = first_image(b, a)
    return _joined(b, torch.mul, image, b.call(torch.sigmoid, image))


def leaky_relu(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """With any slope below zero that does not turn values over."""
    slope = float(a["negative_slope"])
    if slope < 0:
        b.refuse(f"LeakyReLU with the slope {slope}", "use a slope of 0 or more")
    return b.call(F.leaky_relu, first_image(b, a), slope)


def threshold(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``threshold(x, 0, 0)`` is a ReLU."""
    if a["threshold"] != 0 or a["value"] != 0:
        b.refuse(f"Threshold({a['threshold']}, {a['value']})", "use nn.ReLU")
    return b.call(F.relu, first_image(b, a))


def identity(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """What does nothing to the values."""
    return first_image(b, a)


def dropout(kind: type[nn.Module]) -> Rule:
    """Dropout, which is on while the canonical network trains, whatever the call says."""

    def rule(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
        image = first_image(b, a)
        if kind is nn.Dropout2d:
            image = b.map(image)
        return b.layer(b.unique(b.path()), cast(Any, kind)(float(a["p"])), image)

    return rule


def softmax(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """At the end it changes no decision and is left out; elsewhere it is refused."""
    image = first_image(b, a)
    dim = int(a["dim"]) % len(image.layout)
    if not b.is_last() or dim != 1:
        b.refuse("Softmax inside a network (attention) has no int8 kernel in mcusweep", "use convolutions")
    log = "log" in str(node.target)
    b.finish = (lambda scores: F.log_softmax(scores, 1)) if log else (lambda scores: F.softmax(scores, 1))
    b.note(f"{'log_softmax' if log else 'softmax'} at the end is left out: it does not change which is largest")
    return image


def add(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """A sum, of tensors or with a constant."""
    left, right = a["self"], a["other"]
    if isinstance(left, Image) and isinstance(right, Image):
        if a.get("alpha", 1) != 1:
            right = scaled(b, right, float(a["alpha"]), 0.0)
        left, right = _alike(b, left, right, "a sum")
        return _joined(b, torch.add, left, right)
    if isinstance(left, Image):
        return scaled(b, left, 1.0, _times(right, a.get("alpha", 1)))
    image = cast(Image, right)
    return scaled(b, image, float(a.get("alpha", 1)), left)


def sub(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """A difference with a constant."""
    left, right = a["self"], a["other"]
    if isinstance(left, Image) and isinstance(right, Image):
        return cast(Value, b.refuse("a difference of two feature maps has no int8 kernel in mcusweep", "use a sum"))
    if isinstance(left, Image):
        return scaled(b, left, 1.0, _times(right, -1))
    return scaled(b, cast(Image, right), -1.0, left)


def mul(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """A product, of maps, of a map and one value for each of its channels (squeeze-and-excitation), or constants."""
    left, right = a["self"], a["other"]
    if isinstance(left, Image) and isinstance(right, Image):
        return product(b, left, right)
    image, constant = (left, right) if isinstance(left, Image) else (right, left)
    return scaled(b, cast(Image, image), constant, 0.0)


def div(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Division by a constant."""
    left, right = a["self"], a["other"]
    if not isinstance(left, Image) or isinstance(right, Image) or a.get("rounding_mode"):
        b.refuse("division by a feature map has no int8 kernel in mcusweep", "divide by constants alone")
    inverse = 1 / right if isinstance(right, int | float) else Constant(1 / cast(Constant, right).tensor.detach())
    return scaled(b, cast(Image, left), inverse, 0.0)


def neg(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Minus one times."""
    return scaled(b, first_image(b, a), -1.0, 0.0)


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, Constant):
        return value if factor == 1 else Constant(value.tensor.detach() * factor)
    return value * factor


def scaled(b: Builder, image: Image, weight: Any, bias: Any) -> Image:
    """``image * weight + bias`` with constants that are one number, or one for each channel."""
    if _is_number(weight, 1.0) and _is_number(bias, 0.0):
        return image
    image = image if isinstance(weight, int | float) and isinstance(bias, int | float) else _in_order(b, image)
    return b.layer(b.unique(b.path()), Affine(_by_channel(b, image, weight), _by_channel(b, image, bias)), image)


def _in_order(b: Builder, image: Image) -> Image:
    """The image with its channels along one dimension, as they are stored, for constants that are one for each."""
    return image if image.order is None and plain(image.sizes, 2)[1] in image.layout else b.image(image)


def _is_number(value: Any, number: float) -> bool:
    return isinstance(value, int | float) and value == number


def _by_channel(b: Builder, image: Image, constant: Any) -> nn.Parameter:
    """The constant as ``(C,)``; trained if it is a parameter."""
    channels = image.sizes[1]
    if not isinstance(constant, Constant):
        return nn.Parameter(
            torch.full((channels,), float(constant), device=b.device, dtype=b.dtype), requires_grad=False
        )
    tensor = constant.tensor
    spread = [dim for dim in range(-tensor.ndim, 0) if tensor.shape[dim] != 1]
    along = len(spread) == 1 and -spread[0] <= len(image.layout) and image.layout[spread[0]] == plain(image.sizes, 2)[1]
    if spread and not along:
        b.refuse(
            f"a constant of shape {tuple(tensor.shape)} added or multiplied",
            "allowed are one number, or one for each channel",
        )
    if isinstance(tensor, nn.Parameter) and tuple(tensor.shape) == (channels,):
        return tensor
    values = tensor.detach().to(b.device, b.dtype).reshape(-1).expand(channels).clone()
    return nn.Parameter(values, requires_grad=isinstance(tensor, nn.Parameter) and tensor.requires_grad)


def _alike(b: Builder, left: Image, right: Image, what: str) -> tuple[Image, Image]:
    """Two operands on images of the same form."""
    if (left.layout, left.sizes, left.order) != (right.layout, right.sizes, right.order):
        left, right = b.image(left, what), b.image(right, what)
        if left.layout != right.layout or left.sizes != right.sizes:
            shapes = " and ".join(str(tuple(image.sizes[1:])) for image in (left, right))
            b.refuse(f"{what} of unequal shapes, {shapes}", "allowed are equal shapes")
    if left.row != right.row:
        left, right = b.map(left), b.map(right)
    return left, right


def product(b: Builder, left: Image, right: Image) -> Image:
    """The larger operand first."""
    if (left.layout, left.sizes, left.order) == (right.layout, right.sizes, right.order):
        return _joined(b, torch.mul, *_alike(b, left, right, "a product"))
    left, right = b.map(b.image(left, "a product")), b.map(b.image(right, "a product"))
    if left.sizes[2:] == (1, 1):
        left, right = right, left
    if left.sizes[:2] != right.sizes[:2] or right.sizes[2:] not in ((1, 1), left.sizes[2:]):
        b.refuse(
            f"a product of {left.sizes[1:]} and {right.sizes[1:]}",
            "allowed are equal shapes, or one value for each channel",
        )
    return b.call(torch.mul, left, right.node)


def _joined(b: Builder, function: Callable[..., Any], left: Image, right: Image) -> Image:
    joined = b.call(function, left, right.node)
    return replace(joined, row=left.row)


ELEMENTWISE: dict[str, Rule] = {
    "relu": unary(F.relu),
    "relu6": unary(F.relu6),
    "sigmoid": unary(torch.sigmoid),
    "tanh": unary(torch.tanh),
    "hardswish": unary(F.hardswish),
    "hardsigmoid": hard_sigmoid,
    "silu": silu,
    "leaky_relu": leaky_relu,
    "clamp": clamp,
    "clamp_min": clamp,
    "hardtanh": clamp,
    "threshold": threshold,
    "dropout": dropout(nn.Dropout),
    "feature_dropout": dropout(nn.Dropout2d),
    "alpha_dropout": dropout(nn.AlphaDropout),
    **dict.fromkeys(("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "to", "_to_copy"), identity),
    "softmax": softmax,
    "log_softmax": softmax,
    "add": add,
    "sub": sub,
    "mul": mul,
    "div": div,
    "neg": neg,
}
