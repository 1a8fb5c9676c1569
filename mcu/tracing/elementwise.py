"""Rules for element-wise operators: activations, sums, constants, dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import fx, nn

from mcu.graph import layers
from mcu.graph.layers import Affine
from mcu.tracing.builder import Builder, Constant, Image, Rule, Value
from mcu.tracing.layout import plain


def unary(function: Callable[..., Any]) -> Rule:
    """An element-wise function, for any layout."""

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
    """``clamp`` and ``hardtanh``: ReLU, ReLU6, and bounds of any value."""
    low = _end(b, a.get("min_val", a.get("min")), -math.inf)
    return limited(b, first_image(b, a), low, _end(b, a.get("max_val", a.get("max")), math.inf))


def _end(b: Builder, given: Any, otherwise: float) -> float:
    if isinstance(given, Constant) and given.tensor.numel() == 1:
        given = given.tensor.item()
    if not isinstance(given, int | float | None):
        b.refuse("bounds that differ from value to value", "allowed are two numbers")
    return otherwise if given is None else float(given)


def limited(b: Builder, image: Image, low: float, high: float) -> Image:
    """Clamp to two bounds; if zero is not between them, values are shifted before and after."""
    if not low < high:
        b.refuse(f"values limited to {low:g} .. {high:g}", "the first has to be the smaller one")
    away = max(low, 0.0) + min(high, 0.0)
    if away:
        return scaled(b, limited(b, scaled(b, image, 1.0, -away), low - away, high - away), 1.0, away)
    if low == 0 and high in (6, math.inf):
        return b.call(F.relu6 if high == 6 else F.relu, image)
    return b.call(layers.limited, image, low, high)


def elu(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """ELU, as the interpreter computes it."""
    alpha = float(a["alpha"])
    if alpha != 1 or a.get("scale", 1) != 1 or a.get("input_scale", 1) != 1:
        b.refuse(f"ELU with alpha={alpha:g} has no int8 kernel in mcusweep", f"use alpha=1, or nn.CELU({alpha:g})")
    return b.call(F.elu, first_image(b, a))


def celu(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``alpha * elu(x / alpha)``."""
    alpha = float(a["alpha"])
    return scaled(b, b.call(F.elu, scaled(b, first_image(b, a), 1 / alpha, 0.0)), alpha, 0.0)


def hard_sigmoid(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``relu6(x + 3) / 6``: the sum goes into the bias before it."""
    return scaled(b, b.call(F.relu6, scaled(b, first_image(b, a), 1.0, 3.0)), 1 / 6, 0.0)


def silu(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``x * sigmoid(x)``."""
    image = first_image(b, a)
    return _joined(b, torch.mul, image, b.call(torch.sigmoid, image))


def leaky_relu(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Leaky ReLU with any slope that is not negative."""
    slope = float(a["negative_slope"])
    if slope < 0:
        b.refuse(f"LeakyReLU with the slope {slope}", "use a slope of 0 or more")
    return b.call(F.leaky_relu, first_image(b, a), slope)


def threshold(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``threshold(x, t, t)`` is a lower bound."""
    if a["threshold"] != a["value"]:
        b.refuse(f"Threshold({a['threshold']}, {a['value']}), which is not continuous", "use two equal numbers")
    return limited(b, first_image(b, a), float(a["value"]), math.inf)


def identity(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Operators that do not change values."""
    return first_image(b, a)


def cast_to(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``to``, ``float``, ``type_as`` and the like, where the tensor has that type already."""
    before, after = (it.meta["val"].dtype for it in (node.args[0], node))  # type: ignore[union-attr]
    if isinstance(a["self"], Constant):
        return Constant(a["self"].tensor.to(after))
    if before != after:
        b.refuse(
            f"a cast from {before} to {after} (to, type, type_as, double, half, int)",
            "leave it out: the network computes in float32, and in int8 on the device",
        )
    return first_image(b, a)


def dropout(kind: type[nn.Module]) -> Rule:
    """Dropout: active while the canonical network is in training mode, whatever the call says."""

    def rule(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
        image = first_image(b, a)
        if kind is nn.Dropout2d:
            image = b.map(image)
        return b.layer(b.unique(b.path()), cast(Any, kind)(float(a["p"])), image)

    return rule


def softmax(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Softmax: left out at the end, where it does not change the predicted class; refused elsewhere."""
    image = first_image(b, a)
    dim = int(a["dim"]) % len(image.layout)
    output = b.output_behind()
    if output is None or image.layout[dim] != plain(image.sizes, 2)[1]:
        return cast(
            Value, b.refuse("Softmax inside a network (attention) has no int8 kernel in mcusweep", "use convolutions")
        )
    log = "log" in str(node.target)
    b.finish[output] = (lambda scores: F.log_softmax(scores, 1)) if log else (lambda scores: F.softmax(scores, 1))
    b.note(f"{'log_softmax' if log else 'softmax'} at the end is left out: it does not change which is largest")
    return image


def add(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Addition, of tensors or of a constant."""
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
    """Subtraction of, or from, a constant."""
    left, right, alpha = a["self"], a["other"], a.get("alpha", 1)
    if isinstance(left, Image) and isinstance(right, Image):
        return cast(
            Value, b.refuse("a difference of two feature maps has no int8 kernel in mcusweep", "write x + (-y)")
        )
    if isinstance(left, Image):
        return scaled(b, left, 1.0, _times(right, -alpha))
    return scaled(b, cast(Image, right), -float(alpha), left)


def rsub(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """``sub`` with its operands the other way round."""
    return sub(b, node, {**a, "self": a["other"], "other": a["self"]})


def mul(b: Builder, node: fx.Node, a: dict[str, Any]) -> Value:
    """Multiplication of two maps, a map and one value per channel (squeeze-and-excitation), or a map and a constant."""
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
    """Negation."""
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
        return cast(nn.Parameter, b.parameter(constant))
    values = tensor.detach().to(b.device, b.dtype).reshape(-1).expand(channels).clone()
    return nn.Parameter(values, requires_grad=isinstance(tensor, nn.Parameter) and tensor.requires_grad)


def _alike(b: Builder, left: Image, right: Image, what: str) -> tuple[Image, Image]:
    """Two operands on images of the same form; what is repeated along height or width is written out."""
    if (left.layout, left.sizes, left.order) != (right.layout, right.sizes, right.order):
        left, right = b.image(left, what), b.image(right, what)
        left, right = _repeated(b, left, right), _repeated(b, right, left)
        if left.layout != right.layout or left.sizes != right.sizes:
            shapes = " and ".join(str(tuple(image.sizes[1:])) for image in (left, right))
            b.refuse(f"{what} of unequal shapes, {shapes}", "allowed are equal shapes")
    if left.row != right.row:
        left, right = b.map(left), b.map(right)
    return left, right


def _repeated(b: Builder, image: Image, other: Image) -> Image:
    """An image of one row or column, as high and wide as the other."""
    sizes = cast(tuple[int, int, int, int], (*image.sizes[:2], *map(max, image.sizes[2:], other.sizes[2:])))
    if sizes == image.sizes or any(size not in (1, wanted) for size, wanted in zip(image.sizes, sizes, strict=True)):
        return image
    factors = (sizes[2] // image.sizes[2], sizes[3] // image.sizes[3])
    return b.call(layers.enlarge, b.map(image), factors, sizes=sizes)


def product(b: Builder, left: Image, right: Image) -> Image:
    """The larger operand first."""
    if (left.layout, left.sizes, left.order) == (right.layout, right.sizes, right.order):
        return _joined(b, torch.mul, *_alike(b, left, right, "a product"))
    left, right = b.map(b.image(left, "a product")), b.map(b.image(right, "a product"))
    if left.sizes[2:] == (1, 1):
        left, right = right, left
    if right.sizes[2:] != (1, 1):
        left, right = _repeated(b, left, right), _repeated(b, right, left)
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
    "clamp_max": clamp,
    "elu": elu,
    "celu": celu,
    **dict.fromkeys(("hardtanh", "clip"), clamp),
    "threshold": threshold,
    "dropout": dropout(nn.Dropout),
    "feature_dropout": dropout(nn.Dropout2d),
    "alpha_dropout": dropout(nn.AlphaDropout),
    **dict.fromkeys(
        ("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "positive", "_assert_tensor_metadata"), identity
    ),
    **dict.fromkeys(("to", "_to_copy", "type_as"), cast_to),
    "softmax": softmax,
    "log_softmax": softmax,
    "add": add,
    **dict.fromkeys(("sub", "subtract"), sub),
    "rsub": rsub,
    **dict.fromkeys(("mul", "multiply"), mul),
    **dict.fromkeys(("div", "divide", "true_divide"), div),
    **dict.fromkeys(("neg", "negative"), neg),
}
