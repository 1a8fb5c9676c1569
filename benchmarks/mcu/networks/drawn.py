"""Torch networks drawn from the whole vocabulary, in every form in which it is written."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


def halves(x: torch.Tensor) -> torch.Tensor:
    """A view that comes back, with a size taken from the shape."""
    n, c = x.shape[:2]
    return x.view(n, c, -1).permute(0, 2, 1).transpose(1, 2).reshape(x.shape)


def shuffled(x: torch.Tensor) -> torch.Tensor:
    """Channels of two or three parts in turn."""
    n, c, *rest = x.shape
    parts = next(count for count in (3, 2, 1) if c % count == 0)
    return x.view(n, parts, c // parts, *rest).transpose(1, 2).reshape(x.shape)


def gated(x: torch.Tensor) -> torch.Tensor:
    """One half of the channels times the sigmoid of the other."""
    return F.glu(x, 1) if x.shape[1] % 2 == 0 else x


def changed(x: torch.Tensor) -> torch.Tensor:
    """Some channels changed in place, and read from what they are a part of."""
    x[:, ::2].mul_(0.5)
    return x


def changed_beside(x: torch.Tensor) -> torch.Tensor:
    """One part changed in place, read beside the rest and the whole."""
    if x.shape[1] < 2:
        return x
    first, second = x.chunk(2, 1)
    first.relu_()
    return torch.cat([second, x, first], 1)


def turned(x: torch.Tensor) -> torch.Tensor:
    """A copy behind a permutation, changed in place."""
    y = x.transpose(1, -1).contiguous()
    y.clamp_(min=0)
    return x + y.transpose(1, -1)


def unshuffled(x: torch.Tensor) -> torch.Tensor:
    return F.pixel_unshuffle(x, 2) if x.shape[2] % 2 == x.shape[3] % 2 == 0 else x


EVERYWHERE: dict[str, tuple[Callable[..., Any], ...]] = {
    "relu": (F.relu, torch.relu_, lambda x: x.relu(), nn.ReLU(), nn.ReLU(inplace=True), lambda x: x.clamp(min=0),
             nn.Threshold(0, 0)),
    "relu6": (F.relu6, nn.ReLU6(inplace=True), lambda x: torch.clamp(x, 0, 6), lambda x: F.hardtanh_(x, 0.0, 6.0)),
    "clamp": (nn.Hardtanh(), lambda x: x.clamp(-0.5, 2), lambda x: x.clamp_(max=1.5), lambda x: torch.clamp(x, 0.25, 2),
              lambda x: F.hardtanh(x, 0, 1)),
    "sigmoid": (torch.sigmoid, nn.Sigmoid(), lambda x: x.sigmoid_()),
    "tanh": (torch.tanh, nn.Tanh(), lambda x: x.tanh()),
    "silu": (F.silu, nn.SiLU(inplace=True), lambda x: x * x.sigmoid(), lambda x: x.mul_(torch.sigmoid(x)),
             lambda x: x * torch.sigmoid(1.702 * x)),
    "hardswish": (F.hardswish, nn.Hardswish(), nn.Hardswish(inplace=True), lambda x: x * F.relu6(x + 3) / 6),
    "hardsigmoid": (F.hardsigmoid, nn.Hardsigmoid(), lambda x: F.relu6(x.add(3.0)).mul(1 / 6)),
    "leaky": (lambda x: F.leaky_relu(x, 0.1), nn.LeakyReLU(0.2, inplace=True)),
    "prelu": (nn.PReLU(), nn.PReLU(init=-0.4), lambda x: F.prelu(x, torch.tensor([0.2]))),
    "elu": (F.elu, nn.ELU(inplace=True), nn.CELU(), nn.CELU(0.5)),
    "dropout": (nn.Dropout(0.3), lambda x: F.dropout(x, 0.3, training=False), lambda x: F.dropout(x, 0.2)),
    "constant": (lambda x: x * 0.5, lambda x: x - 1, lambda x: (x + 0.1) / 2, lambda x: -x, lambda x: 1 - x,
                 lambda x: x.sub_(0.5), lambda x: torch.add(x, 1, alpha=0.5)),
    "row": (lambda x: x + x.mean(2, keepdim=True), lambda x: x.amax(-1, keepdim=True) + x,
            lambda x: x * x.mean(2, keepdim=True)),
    "view": (halves, lambda x: x.contiguous(), lambda x: x.unsqueeze(2).squeeze(2), lambda x: x.view(x.size()),
             lambda x: x[:]),
    "part": (lambda x: x[:, : (x.shape[1] + 1) // 2], lambda x: x[:, ::2], lambda x: x[:, [-1, 0, 0]], gated,
             lambda x: torch.split(x, 2, 1)[0], lambda x: x.narrow(1, x.shape[1] - 1, 1), nn.GLU(1),
             lambda x: torch.tensor_split(x, 3, 1)[0], lambda x: sum(x.unbind(1)).unsqueeze(1)),
    "order": (shuffled, lambda x: x.flip(1), lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), nn.ChannelShuffle(2),
              lambda x: torch.index_select(x, 1, torch.arange(x.shape[1] - 1, -1, -1))),
    "in part": (changed, changed_beside, turned),
}  # fmt: skip
IMAGES: dict[str, tuple[Callable[..., Any], ...]] = {
    "layout": (lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), lambda x: x.movedim(1, -1).movedim(-1, 1)),
    "max": (nn.MaxPool2d(2), lambda x: F.max_pool2d(x, kernel_size=2, stride=1), nn.MaxPool2d(3, 2, 1),
            lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True)),
    "average": (nn.AvgPool2d(2), lambda x: F.avg_pool2d(x, 3, 1, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
    "adaptive": (nn.AdaptiveAvgPool2d(2), lambda x: F.adaptive_max_pool2d(x, (1, 3)), nn.AdaptiveAvgPool2d((None, 1))),
    "enlarge": (nn.Upsample(scale_factor=2), lambda x: F.interpolate(x, size=(2 * x.shape[2], x.shape[3]))),
    "smooth": (nn.Upsample(scale_factor=2, mode="bilinear"), nn.UpsamplingBilinear2d(scale_factor=2),
               lambda x: F.interpolate(x, scale_factor=(1, 2), mode="bilinear", align_corners=False),
               lambda x: F.interpolate(x, (9, 7), mode="bilinear"),
               nn.Upsample((7, 10), mode="bilinear", align_corners=True)),
    "pad": (nn.ZeroPad2d((0, 1, 2, 0)), lambda x: F.pad(x, (1, 0)), lambda x: F.pad(x, (0, 0, 1, 1), "constant", 0),
            nn.ConstantPad2d(1, -0.5), lambda x: F.pad(x, (1, 0, 0, 1), value=1.0)),
    "rows": (lambda x: x[:, :, ::2], lambda x: x[..., 1:], lambda x: x[:, :, 1:-1, :-1], lambda x: x.narrow(3, 0, 2)),
    "unshuffle": (unshuffled, nn.PixelUnshuffle(2)),
}  # fmt: skip
SIGNALS: dict[str, tuple[Callable[..., Any], ...]] = {
    "layout": (lambda x: x.permute(0, 2, 1).transpose(1, 2), lambda x: x.mT.mT),
    "max": (nn.MaxPool1d(2), lambda x: F.max_pool1d(x, 3, 1), lambda x: F.max_pool1d(x, 3, 2, ceil_mode=True)),
    "average": (nn.AvgPool1d(2), lambda x: F.avg_pool1d(x, 3, 1, 1), nn.AvgPool1d(2, 1)),
    "adaptive": (nn.AdaptiveAvgPool1d(2), lambda x: F.adaptive_max_pool1d(x, 3)),
    "enlarge": (nn.Upsample(scale_factor=2), lambda x: F.interpolate(x, size=3 * x.shape[-1])),
    "smooth": (
        nn.Upsample(scale_factor=2, mode="linear"),
        lambda x: F.interpolate(x, scale_factor=3, mode="linear"),
        nn.Upsample(13, mode="linear", align_corners=True),
    ),
    "pad": (
        nn.ConstantPad1d((2, 0), 0.0),
        lambda x: F.pad(x, (3, 0)),
        lambda x: F.pad(x, (1, 1), "constant", 0),
        nn.ConstantPad1d(1, -0.5),
    ),
    "rows": (lambda x: x[..., ::2], lambda x: x[:, :, 1:], lambda x: x.narrow(-1, 1, 2)),
    "unshuffle": (lambda x: x,),
}
WEIGHTED = (
    "conv", "grouped", "depthwise", "norm", "residual", "in place", "concat", "excite", "gate", "functional",
    "weight norm", "channels last", "shared", "transposed", "prelu of channels", "scales",
)  # fmt: skip
KINDS = (*EVERYWHERE, *IMAGES, *WEIGHTED, *WEIGHTED)
KERNELS = ((1, 1), (3, 3), (3, 1), (5, 3), (2, 2))
FORMS = 12
HEADS = 9
SOFTMAX = 6
"""The head that ends in a log_softmax, which the exported network leaves out."""
MORE = ("", "head", "map", "twice")
PORTS = 100_000
"""First seed of networks with several inputs and outputs."""


@dataclass(frozen=True)
class Step:
    """One step of a drawn network: what it is, in which form, and whether it reads an earlier tensor again."""

    kind: str
    form: int
    channels: int
    kernel: tuple[int, int]
    stride: int
    again: bool


@dataclass(frozen=True)
class Plan:
    """All that decides a drawn network; ``size`` has one or two extents.

    Attributes:
        side: size of a second input, a row that joins before the scores; 0 for none.
        more: what is returned beside the scores: "" nothing, "head" other scores, "map" a map on the way, "twice" both
            and the scores again.
    """

    channels: int
    size: tuple[int, ...]
    steps: tuple[Step, ...]
    head: int
    seed: int
    side: int = 0
    more: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *self.size)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of all inputs."""
        return (self.shape, (self.side,)) if self.side else (self.shape,)


def drawn(seed: int) -> Plan:
    """The plan of a seed; of those from ``PORTS`` on, most have a second input or more outputs."""
    rng = np.random.default_rng(seed)
    steps = tuple(
        Step(
            str(rng.choice(KINDS)), int(rng.integers(FORMS)), int(rng.integers(1, 10)),
            KERNELS[int(rng.integers(len(KERNELS)))], int(rng.integers(1, 3)), bool(rng.integers(2)),
        )
        for _ in range(int(rng.integers(1, 8)))
    )  # fmt: skip
    size = tuple(int(v) for v in rng.integers(6, 15, 2)) if rng.integers(4) else (int(rng.integers(8, 33)),)
    plan = Plan(int(rng.integers(1, 4)), size, steps, int(rng.integers(HEADS)), seed)
    if seed < PORTS:
        return plan
    return replace(plan, side=int(rng.integers(5)), more=str(rng.choice(MORE)))


class Drawn(nn.Module):
    """The steps as drawn, then one of several heads.

    Raises:
        ValueError, RuntimeError: where nothing would be left of the map.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan, self.layers = plan, nn.ModuleList()
        self.flat = len(plan.size) == 1
        shape = plan.shape
        for step in plan.steps:
            layer = self._layer(step, shape[0])
            self.layers.append(layer)
            with torch.no_grad():
                shape = tuple(self._step(step, layer, torch.zeros(2, *shape), None).shape[1:])
            if min(shape) < 1 or max(shape) > 60:
                raise ValueError("nothing left, or too much")
        features = int(np.prod(shape)) if plan.head in (2, 3) else shape[0] * (2 if plan.head == 4 else 1)
        joined = features + plan.side * self._is_pooled()
        self.scores: nn.Module = nn.Linear(joined, 4)
        if plan.head == 7:
            self.scores = nn.Sequential(
                nn.Linear(joined, 8), nn.BatchNorm1d(8), nn.Hardswish(), nn.Dropout(), nn.Linear(8, 4)
            )
        self.more, self.beside = nn.Linear(features, 3), nn.Linear(max(1, plan.side), 4)

    def _is_pooled(self) -> bool:
        return self.plan.head not in (2, 3)

    def _conv(
        self, inner: int, outer: int, kernel: Any = 1, stride: int = 1, padding: Any = 0, **more: Any
    ) -> nn.Module:
        if self.flat:
            kernel, padding = (v if isinstance(v, int) else v[0] for v in (kernel, padding))
        return (nn.Conv1d if self.flat else nn.Conv2d)(inner, outer, kernel, stride, padding, **more)

    def _transposed(self, step: Step, inner: int) -> nn.Module:
        kernel = step.kernel[0] if self.flat else step.kernel
        least = min(step.kernel)
        more = {"output_padding": 1} if step.stride == 2 and step.form % 3 == 1 else {}
        kind = nn.ConvTranspose1d if self.flat else nn.ConvTranspose2d
        return kind(inner, step.channels, kernel, step.stride, least // 2 if step.form % 2 else 0, **more)  # type: ignore[arg-type]

    def _norm(self, channels: int) -> nn.Module:
        return (nn.BatchNorm1d if self.flat else nn.BatchNorm2d)(channels)

    def _layer(self, step: Step, inner: int) -> nn.Module:
        outer, kernel, stride, form = step.channels, step.kernel, step.stride, step.form
        padding = tuple(k // 2 for k in kernel)
        if step.kind == "conv":
            dilated = {"dilation": 2} if form == 5 else {}
            norm = [self._norm(outer)] if form % 2 else []
            return nn.Sequential(self._conv(inner, outer, kernel, stride, padding, bias=form > 2, **dilated), *norm)
        if step.kind == "depthwise":
            return self._conv(inner, inner * (1 + outer % 2), kernel, stride, padding, groups=inner)
        if step.kind == "grouped":
            parts = next(n for n in (4, 3, 2, 1) if inner % n == 0)
            return self._conv(inner, parts * (1 + outer % 4), kernel, stride, padding, groups=parts)
        if step.kind == "norm":
            return self._norm(inner)
        if step.kind == "prelu of channels":
            return nn.PReLU(inner)
        if step.kind == "scales":
            return Scales(inner, len(self.plan.size))
        if step.kind == "shared":
            return self._conv(inner, inner, 3, padding=1)
        if step.kind == "transposed":
            return self._transposed(step, inner)
        if step.kind in ("residual", "in place", "gate"):
            return nn.Sequential(self._conv(inner, inner, 3, padding=1), self._norm(inner))
        if step.kind in ("concat", "functional"):
            return self._conv(inner, outer)
        if step.kind == "weight norm":
            return weight_norm(self._conv(inner, outer, kernel, stride, padding))
        if step.kind == "channels last":
            return nn.Linear(inner, outer)
        if step.kind == "excite":
            return nn.Sequential(self._conv(inner, outer), nn.ReLU(), self._conv(outer, inner))
        forms = (EVERYWHERE | (SIGNALS if self.flat else IMAGES))[step.kind]
        chosen = forms[form % len(forms)]
        return copy.deepcopy(chosen) if isinstance(chosen, nn.Module) else Applied(chosen)

    def _step(self, step: Step, layer: nn.Module, x: torch.Tensor, earlier: torch.Tensor | None) -> torch.Tensor:
        even = step.form % 2 == 0
        if step.kind == "residual":
            return layer(x) + x if even else torch.add(x, layer(x))
        if step.kind == "in place":
            y = layer(x)
            y += x
            return F.relu_(y)
        if step.kind == "concat":
            parts = [layer(x).relu(), x]
            return torch.cat(parts, dim=1) if even else torch.concat([*parts, x], 1)
        if step.kind == "excite":
            pooled = x.mean(tuple(range(2, x.ndim)), keepdim=True)
            return x * torch.sigmoid(layer(pooled)) if even else F.hardsigmoid(layer(pooled)).expand_as(x) * x
        if step.kind == "gate":
            return torch.tanh(layer(x)) * x
        if step.kind == "shared":
            return layer(F.relu(layer(x)))
        if step.kind == "functional":
            assert isinstance(layer, nn.Conv1d | nn.Conv2d)
            return (F.conv1d if self.flat else F.conv2d)(x, layer.weight, bias=layer.bias, padding=1)
        if step.kind == "channels last":
            return layer(x.movedim(1, -1)).movedim(-1, 1)
        y = layer(x)
        if earlier is not None and earlier.shape == y.shape:
            y = torch.add(y, earlier) if even else earlier.add(y)
        return y

    def forward(self, x: torch.Tensor, side: torch.Tensor | None = None) -> Any:
        earlier = None
        for step, layer in zip(self.plan.steps, self.layers, strict=True):
            y = self._step(step, layer, x, earlier)
            earlier, x = (x, y) if step.again else (None, y)
        spatial = tuple(range(2, x.ndim))
        average, largest = (F.adaptive_avg_pool1d, F.adaptive_max_pool1d) if self.flat else (
            F.adaptive_avg_pool2d, F.adaptive_max_pool2d
        )  # fmt: skip
        pool = F.avg_pool1d if self.flat else F.avg_pool2d
        first: tuple[Any, ...] = (slice(None), slice(None), *(0 for _ in spatial))
        heads: Sequence[Callable[[], torch.Tensor]] = (
            lambda: x.mean(spatial),
            lambda: largest(x, 1).flatten(1),
            lambda: torch.flatten(x, 1),
            lambda: x.reshape(x.size(0), -1),
            lambda: torch.cat([average(x, 1), largest(x, 1)], 1)[first],
            lambda: pool(x, x.shape[2:]).view(len(x), -1),
            lambda: x.flatten(2).mean(-1),
            lambda: x.mean(spatial),
            lambda: x.amax(spatial),
        )
        row = heads[self.plan.head]()
        if side is None:
            scores = self.scores(row)
        elif self._is_pooled():
            scores = self.scores(torch.cat([row, side.relu()], 1))
        else:
            scores = self.scores(row) + self.beside(side)
        if self.plan.head == SOFTMAX:
            scores = F.log_softmax(scores, 1)
        if self.plan.more == "head":
            return {"scores": scores, "more": self.more(row)}
        if self.plan.more == "map":
            return scores, x
        return [scores, (self.more(row), x, scores)] if self.plan.more == "twice" else scores


class Scales(nn.Module):
    """Each channel times a parameter, plus a buffer."""

    def __init__(self, channels: int, axes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(1, channels, *(1,) * axes) + 0.5)
        self.offset: torch.Tensor
        self.register_buffer("offset", torch.randn(channels, *(1,) * axes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.offset


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)
