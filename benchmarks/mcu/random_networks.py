"""Networks drawn from the whole vocabulary, compared on every floor: docs/results/mcu/random_networks.md.

In place, as functions, methods and modules, in odd sizes, with tensors read twice, on images and signals: each is
traced, proven and rehearsed, and compared in torch, as canonical network, as operators, without some of its channels,
and, dense and pruned, in int8 by the reference interpreter, TensorFlow Lite Micro and LiteRT's reference kernels; file,
arena and multiply-accumulates must be those predicted. With ``--firmware 60`` the first sixty are firmware, too, built
and run on the emulated cores in turn.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/mcu/random_networks.py FOLDER --count 2000 \\
        --page docs/results/mcu/random_networks.md

FOLDER gets one line of JSON for each seed; what is there is not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import litert
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils._pytree import tree_leaves

from mcu.budget import Resources
from mcu.cost.deployment import write_deployment
from mcu.devices import Device, find_device
from mcu.errors import InputError
from mcu.firmware import CORES, Core, measure_firmware
from mcu.graph.ports import each
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import measure_model, model_inputs
from mcu.resource_model import ResourceModel
from mcu.tflite import tflm
from mcu.tracing.trace import trace
from pruning.engine import surgery
from pruning.training.rehearsal import rehearse

ALLOWED_REFUSALS = {
    "with padding": "a pool of signed values with padding that is not TensorFlow's",
    "cat of what a sigmoid": "cat of what a sigmoid or tanh gives",
    "windows are not all of one size": "an adaptive pool of uneven windows",
    "in-place operation on a part": "an in-place operation on rows or columns of a tensor that is read again",
    "returns this input as it is": "a network of nothing but dropout",
    "in-place operation behind dropout": "an in-place operation behind dropout on a tensor that is read again",
}
"""Words of a refusal that may be, and what they say."""


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

BATCH = 50
"""Networks in one process."""


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


# --- one network on every floor ------------------------------------------------------------------------------


class DiffersError(AssertionError):
    """Two floors do not agree."""


def compare(plan: Plan) -> dict[str, Any]:
    """What becomes of a plan: ``outcome`` is "empty", "refused" (with the ``reason``) or "equal".

    Raises:
        DiffersError: naming the floors that differ.
        Exception: any other is a fault, too.
    """
    torch.manual_seed(plan.seed)
    try:
        network = Drawn(plan)
    except (ValueError, RuntimeError):
        return {"outcome": "empty"}
    try:
        traced = trace(network, plan.shapes)
    except InputError as error:
        return {"outcome": "refused", "reason": str(error)}
    rehearse(traced, plan.shapes, plan.seed)
    x = tuple(torch.randn(8, *shape) for shape in plan.shapes)
    network.eval()
    module = traced.module.eval()
    with torch.no_grad():
        wanted = tree_leaves(without_dropout(network)(*(given.clone() for given in x)))
        _same(_finished(plan, module(*x)), wanted, "torch and the canonical network")
    folded = FoldedNet(traced.graph, module)
    _same(_finished(plan, folded(*x)), wanted, "torch and the operators")
    furthest = _int8(folded, x)
    narrow = copy.deepcopy(module)
    rng = np.random.default_rng(plan.seed)
    kept = [np.sort(rng.choice(g.size, int(rng.integers(1, g.size + 1)), replace=False)) for g in traced.graph.groups]
    if kept:
        smaller = FoldedNet(surgery.shrink(narrow, traced.graph, kept), narrow)
        with torch.no_grad():
            _same(smaller(*x), each(narrow(*x)), "the pruned network and its operators")
        furthest = max(furthest, _int8(smaller, x))
    kinds = sorted({str(op.kind) for op in traced.graph.ops})
    return {"outcome": "equal", "kinds": kinds, "litert": furthest, "flat": len(plan.size) == 1,
            "ports": [len(traced.graph.inputs), len(traced.graph.outputs)]}  # fmt: skip


def _finished(plan: Plan, outputs: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Outputs with the log_softmax of the scores, which stand first, and last where they are there twice."""
    scores = (0, 3) if plan.head == SOFTMAX else ()
    return [F.log_softmax(y, 1) if place in scores else y for place, y in enumerate(each(outputs))]


def without_dropout(network: Drawn) -> Callable[..., Any]:
    """The network without ``F.dropout(x)``, which torch leaves on in evaluation mode."""

    def run(*inputs: torch.Tensor) -> Any:
        keep = F.dropout
        F.dropout = lambda input, p=0.5, training=True, inplace=False: input.clone() if training else input
        try:
            return network(*inputs)
        finally:
            F.dropout = keep

    return run


def _same(found: torch.Tensor | Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], what: str) -> None:
    for ours, theirs in zip(each(found), wanted, strict=True):
        ours, theirs = ours.flatten(1), theirs.flatten(1)
        largest = max(1.0, float(theirs.abs().max()))
        if ours.shape != theirs.shape or float((ours - theirs).detach().abs().max()) > 1e-3 * largest:
            raise DiffersError(what)


def _int8(folded: FoldedNet, x: tuple[torch.Tensor, ...]) -> int:
    """Compare the int8 model on three interpreters; the largest difference of LiteRT's codes."""
    predicted = ResourceModel(folded.graph).exact(folded.graph.widths)
    model, data = _exported(folded, x)
    measured = measure_model(data)
    if predicted != Resources(measured.flash, measured.sram, measured.macs):
        raise DiffersError(f"{predicted} and what was measured, {measured.flash}, {measured.sram}, {measured.macs}")
    codes = model_inputs(model, [given.numpy() for given in x])
    theirs = tflm.invoke(data, codes)
    if not all(map(np.array_equal, ReferenceInterpreter(model).invoke(codes), theirs)):
        raise DiffersError("the reference interpreter and TensorFlow Lite Micro")
    pairs = zip(theirs, litert.invoke(data, codes), strict=True)
    return max(int(np.abs(ours.astype(int) - found.astype(int)).max()) for ours, found in pairs)


def _exported(folded: FoldedNet, x: tuple[torch.Tensor, ...]) -> tuple[Int8Model, bytes]:
    calibrate(folded, x)
    model = quantise(folded)
    return model, write_deployment(model)


def roomy_device(core: Core) -> Device:
    """A device of that core with room for any network."""
    base = find_device("stm32f446re")
    name = f"any-{core.name.replace('+', 'plus')}"
    sizes: dict[str, Any] = {
        "flash": 16 << 20,
        "sram": 8 << 20,
        "sram_bank": None,
        "reserve_flash": 0,
        "reserve_sram": 0,
    }
    return replace(base, name=name, core=core.name, **sizes)


def as_firmware(seed: int) -> dict[str, Any]:
    """A network's firmware beside TensorFlow Lite Micro, on the core whose turn it is."""
    plan, cores = drawn(seed), tuple(CORES.values())
    torch.manual_seed(seed)
    traced = trace(Drawn(plan), plan.shapes)
    x = tuple(torch.randn(8, *shape) for shape in plan.shapes)
    model, data = _exported(FoldedNet(traced.graph, traced.module.eval()), x)
    codes, core = model_inputs(model, [given.numpy() for given in x]), cores[seed % len(cores)]
    measured = measure_firmware(model, roomy_device(core), codes, tflm.invoke(data, codes))
    return {"seed": seed, "core": core.name, "bit_exact": measured.bit_exact}


# --- all of them ---------------------------------------------------------------------------------------------


def answer(seed: int) -> dict[str, Any]:
    """What became of a seed."""
    started = time.process_time()
    plan = drawn(seed)
    try:
        found = compare(plan)
    except DiffersError as error:
        found = {"outcome": "differs", "reason": str(error)}
    except Exception as error:
        found = {"outcome": "fails", "reason": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    words = sorted({step.kind for step in plan.steps})
    return {"seed": seed, "words": words, **found, "seconds": round(time.process_time() - started, 2)}


def work(path: Path, seeds: list[int]) -> None:
    """Run seeds in this process, a line for each."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with path.open("a", encoding="utf-8") as file:
        for seed in seeds:
            print(json.dumps({"seed": seed, "outcome": "ends the process"}), file=file, flush=True)
            print(json.dumps(answer(seed)), file=file, flush=True)


def rows_of(path: Path) -> dict[int, dict[str, Any]]:
    """The last line of each seed; a seed that was begun and not ended ended the process."""
    rows: dict[int, dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        row = json.loads(line)
        rows[row["seed"]] = row
    return rows


def page(rows: list[dict[str, Any]], firmware: list[dict[str, Any]]) -> str:
    """The page of what has run."""
    drawn_rows = [row for row in rows if row["outcome"] != "empty"]
    counts = Counter(row["outcome"] for row in drawn_rows)
    equal = [row for row in rows if row["outcome"] == "equal"]
    reasons = Counter(_reason(row["reason"]) for row in rows if row["outcome"] == "refused")
    kinds = Counter(kind for row in equal for kind in row["kinds"])
    words = Counter(word for row in equal for word in row["words"])
    faults = [row for row in rows if row["outcome"] in ("differs", "fails", "ends the process")]
    lines = [
        "# Random networks",
        "",
        "Made by `benchmarks/mcu/random_networks.py` (how: its first lines): networks drawn from the vocabulary, in",
        "every form it is written, on images and signals. Each accepted one was compared in torch, as canonical",
        "network, as operators, without some of its channels, and, dense and pruned, in int8 by the reference",
        "interpreter, TensorFlow Lite Micro and LiteRT's reference kernels; bytes of file and arena were predicted",
        "and measured.",
        "",
        f"{len(rows):,} were drawn; {len(rows) - len(drawn_rows):,} have a window larger than the map, or more than 60",
        "of a size, and are none.",
        "",
        "| networks | of them |",
        "| --- | ---: |",
        f"| networks | {len(drawn_rows):,} |",
        f"| equal on all floors, bytes as predicted | {counts['equal']:,} |",
        f"| refused | {counts['refused']:,} |",
        f"| silent differences | {counts['differs']:,} |",
        f"| failures that are no refusal | {counts['fails'] + counts['ends the process']:,} |",
        f"| of the equal ones, signals | {sum(row['flat'] for row in equal):,} |",
        f"| of the equal ones, several inputs or outputs | {sum(max(row.get('ports', [1])) > 1 for row in equal):,} |",
        "",
        _litert_line(equal),
        "",
        *_firmware_lines(firmware),
        "| refused for | networks |",
        "| --- | ---: |",
        *(f"| {reason} | {count:,} |" for reason, count in reasons.most_common()),
        "",
        "| operator | equal networks with it |",
        "| --- | ---: |",
        *(f"| {kind} | {count:,} |" for kind, count in kinds.most_common()),
        "",
        "| step, as `KINDS` there has it | equal networks with it |",
        "| --- | ---: |",
        *(f"| {word} | {count:,} |" for word, count in words.most_common()),
    ]  # fmt: skip
    if faults:
        lines += ["", "| seed | fault |", "| ---: | --- |"]
        lines += [f"| {row['seed']} | {' '.join(row.get('reason', row['outcome']).split())[:200]} |" for row in faults]
    return "\n".join(lines) + "\n"


def _litert_line(equal: list[dict[str, Any]]) -> str:
    apart = [row for row in equal if row["litert"]]
    counts = sorted(Counter(row["litert"] for row in apart).items())
    how = ", ".join(f"{count} by {codes}" for codes, count in counts)
    elu = sum("elu" in row["kinds"] for row in apart)
    leaky = sum("leaky_relu" in row["kinds"] and "elu" not in row["kinds"] for row in apart)
    rest = (
        f"; {len(apart)} differ in a code ({how}), {elu} of them with an ELU, which has no reference kernel there, "
        f"{leaky} without one with a LEAKY_RELU"
    )
    return f"LiteRT's codes: {len(equal) - len(apart):,} equal{rest if apart else ''}."


def _firmware_lines(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    cores = Counter(row["core"] for row in rows)
    exact = sum(row["bit_exact"] for row in rows)
    where = ", ".join(f"{count} on {core}" for core, count in sorted(cores.items()))
    return [f"Firmware, built and emulated: {exact} of {len(rows)} bit-exact ({where}).", ""]


def _reason(text: str) -> str:
    return next((spoken for words, spoken in ALLOWED_REFUSALS.items() if words in text), f"**{text[:120]}**")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--firmware", type=int, default=0, help="so many of those that are equal as firmware")
    parser.add_argument("--again", action="store_true", help="run what was refused or is at fault again")
    parser.add_argument("--ports", action="store_true", help="networks with several inputs and outputs instead")
    parser.add_argument("--seeds", nargs="*", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    path = arguments.folder / "random_networks.jsonl"
    if arguments.seeds:
        work(path, arguments.seeds)
        return
    settled = ("empty", "equal", *(() if arguments.again else ("refused", "differs", "fails", "ends the process")))
    due = [seed for seed in _seeds(arguments) if rows_of(path).get(seed, {}).get("outcome") not in settled]
    while due:
        batch, due = due[:BATCH], due[BATCH:]
        command = [sys.executable, __file__, str(arguments.folder), "--seeds", *map(str, batch)]
        if subprocess.run(command, check=False).returncode:  # the interpreter ended the process: on behind that seed
            begun = rows_of(path)
            due = [seed for seed in batch if seed not in begun] + due
        _tell(path, arguments)
    program = path.with_name("firmware.jsonl")
    equal = [seed for seed in _seeds(arguments) if rows_of(path)[seed]["outcome"] == "equal"]
    for seed in equal[: arguments.firmware]:
        if seed not in rows_of(program):
            with program.open("a", encoding="utf-8") as file:
                print(json.dumps(as_firmware(seed)), file=file)
    _tell(path, arguments)


def _seeds(arguments: argparse.Namespace) -> range:
    return range(first := PORTS * arguments.ports, first + arguments.count)


def _tell(path: Path, arguments: argparse.Namespace) -> None:
    rows = [row for seed, row in sorted(rows_of(path).items()) if seed < arguments.count or seed >= PORTS]
    print(dict(Counter(row["outcome"] for row in rows)), flush=True)
    if arguments.page:
        arguments.page.write_text(page(rows, list(rows_of(path.with_name("firmware.jsonl")).values())), "utf-8")


if __name__ == "__main__":
    main()
