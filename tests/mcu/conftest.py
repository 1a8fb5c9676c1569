"""Random int8 models as fixtures: every operator the writer knows, odd shapes, all paddings; compiled kernels."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from mcu.firmware.flags import HOST_FLAGS, KERNEL_SOURCES
from mcu.firmware.project import copy_sources
from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.ports import Port
from mcu.graph.windows import output_size, same_padding
from mcu.int8.lookup import TABLES
from mcu.int8.model import Int8Model, QOp, QTensor

RECTIFIED = (Activation.RELU, Activation.RELU6)


@dataclass
class NetworkBuilder:
    """Adds operators to a model, quantised as our quantiser would."""

    rng: np.random.Generator
    tensors: list[QTensor] = field(default_factory=list)
    ops: list[QOp] = field(default_factory=list)

    def tensor(self, shape: tuple[int, ...], rectified: bool = False, like: int | None = None) -> int:
        if like is not None:
            scale, zero = self.tensors[like].scale, self.tensors[like].zero_point
        else:
            scale = float(np.float32(self.rng.uniform(0.01, 0.06)))
            zero = -128 if rectified else int(self.rng.integers(-100, 100))
        self.tensors.append(QTensor(shape, scale, zero))
        return len(self.tensors) - 1

    def activation(self) -> Activation:
        return list(Activation)[self.rng.integers(0, 3)]

    def convolution(
        self, x: int, channels: int, kernel=(3, 3), stride=(1, 1), dilation=(1, 1), same=True, depthwise=False,
        activation: Activation | None = None,
    ) -> int:  # fmt: skip
        _, height, width, inner = self.tensors[x].shape
        axes = list(zip((height, width), kernel, stride, dilation, strict=True))
        padding = tuple(same_padding(*axis) for axis in axes) if same else ((0, 0), (0, 0))
        size = [output_size(*axis, pair) for axis, pair in zip(axes, padding, strict=True)]
        outer = inner * channels if depthwise else channels
        shape = (1, *kernel, outer) if depthwise else (outer, *kernel, inner)
        weights = self.rng.integers(-127, 128, shape, dtype=np.int8)
        activation = activation or self.activation()
        y = self.tensor((1, *size, outer), activation in RECTIFIED)
        fan = float(np.sqrt(weights[0].size if not depthwise else kernel[0] * kernel[1]))
        scales = self.rng.uniform(0.3, 1.5, outer) * self.tensors[y].scale / self.tensors[x].scale / (73 * fan) * 0.8
        bias = self.rng.integers(-6000, 6000, outer).astype(np.int32)
        kind = Kind.DEPTHWISE if depthwise else Kind.CONV
        self.ops.append(
            QOp(kind, (x,), y, weights, scales.astype(np.float32), bias, kernel, stride, dilation, padding, activation)
        )
        return y

    def add(self, a: int, b: int) -> int:
        activation = self.activation()
        y = self.tensor(self.tensors[a].shape, activation in RECTIFIED)
        self.ops.append(QOp(Kind.ADD, (a, b), y, activation=activation))
        return y

    def concat(self, *parts: int) -> int:
        """Concatenate; the parts must already share one quantisation."""
        shape = self.tensors[parts[0]].shape
        y = self.tensor((*shape[:3], sum(self.tensors[p].shape[3] for p in parts)), like=parts[0])
        self.ops.append(QOp(Kind.CONCAT, parts, y))
        return y

    def pool(self, x: int, kind: Kind, kernel=(2, 2), stride=(2, 2), same=False) -> int:
        _, height, width, channels = self.tensors[x].shape
        axes = list(zip((height, width), kernel, stride, (1, 1), strict=True))
        padding = tuple(same_padding(*axis) for axis in axes) if same else ((0, 0), (0, 0))
        size = [output_size(*axis, pair) for axis, pair in zip(axes, padding, strict=True)]
        y = self.tensor((1, *size, channels), like=x)
        self.ops.append(QOp(kind, (x,), y, kernel=kernel, stride=stride, padding=padding))
        return y

    def pad(self, x: int, rows=(1, 0), columns=(1, 1)) -> int:
        _, height, width, channels = self.tensors[x].shape
        y = self.tensor((1, height + sum(rows), width + sum(columns), channels), like=x)
        self.ops.append(QOp(Kind.PAD, (x,), y, padding=(rows, columns)))
        return y

    def pad_value(self, x: int, rows=(1, 2), columns=(1, 0)) -> int:
        y = self.pad(x, rows, columns)
        self.ops[-1] = replace(self.ops[-1], kind=Kind.PADV2, value=int(self.rng.integers(-128, 128)))
        return y

    def relu(self, x: int) -> int:
        y = self.tensor(self.tensors[x].shape, True)
        self.ops.append(QOp(Kind.RELU, (x,), y, activation=Activation.RELU))
        return y

    def mean(self, x: int, keep: bool) -> int:
        _, height, width, channels = self.tensors[x].shape
        y = self.tensor((1, 1, 1, channels) if keep else (1, channels), like=x)
        scale = float(np.float32(self.tensors[x].scale * self.rng.uniform(0.3, 1.2)))
        self.tensors[y] = replace(self.tensors[y], scale=scale)
        self.ops.append(QOp(Kind.MEAN, (x,), y, kernel=(height, width)))
        return y

    def reshape(self, x: int) -> int:
        y = self.tensor((1, self.tensors[x].bytes), like=x)
        self.ops.append(QOp(Kind.RESHAPE, (x,), y))
        return y

    def dense(self, x: int, outputs: int, bias: bool) -> int:
        count = self.tensors[x].bytes
        y = self.tensor((1, outputs))
        weights = self.rng.integers(-127, 128, (outputs, count), dtype=np.int8)
        scale = self.rng.uniform(0.5, 2) * self.tensors[y].scale / self.tensors[x].scale / 73 / np.sqrt(count)
        biases = self.rng.integers(-2000, 2000, outputs).astype(np.int32) if bias else None
        scales = np.full(outputs, scale, np.float32)
        self.ops.append(QOp(Kind.DENSE, (x,), y, weights, scales, biases, activation=self.activation()))
        return y

    def softmax(self, x: int) -> int:
        self.tensors.append(QTensor(self.tensors[x].shape, 1 / 256, -128))
        self.ops.append(QOp(Kind.SOFTMAX, (x,), len(self.tensors) - 1))
        return len(self.tensors) - 1

    def head(self, x: int, classes: int) -> int:
        _, height, width, _ = self.tensors[x].shape
        if self.rng.integers(0, 2):
            x = self.pool(x, Kind.AVG_POOL, (height, width), (1, 1))
            height = width = 1
        return self.convolution(x, classes, (height, width), same=False, activation=Activation.NONE)

    def table(self, x: int, kind: Kind) -> int:
        """An activation that maps codes to codes."""
        own = float(np.float32(self.tensors[x].scale * self.rng.uniform(0.3, 1.1))), int(self.rng.integers(-90, 90))
        scale, zero = {Kind.LOGISTIC: (1 / 256, -128), Kind.TANH: (1 / 128, 0)}.get(kind, own)
        self.tensors.append(QTensor(self.tensors[x].shape, scale, zero))
        alpha = float(np.float32(self.rng.uniform(0, 0.4))) if kind is Kind.LEAKY_RELU else 0.0
        self.ops.append(QOp(kind, (x,), len(self.tensors) - 1, alpha=alpha))
        return len(self.tensors) - 1

    def enlarge(self, x: int, factors: tuple[int, int]) -> int:
        """Every value several times."""
        _, height, width, channels = self.tensors[x].shape
        y = self.tensor((1, height * factors[0], width * factors[1], channels), like=x)
        self.ops.append(QOp(Kind.RESIZE, (x,), y, kernel=factors))
        return y

    def slice(self, x: int, begin: tuple[int, int], step: tuple[int, int]) -> int:
        """Rows and columns from ``begin`` on."""
        _, height, width, channels = self.tensors[x].shape
        count = (-(-(height - begin[0]) // step[0]), -(-(width - begin[1]) // step[1]))
        y = self.tensor((1, *count, channels), like=x)
        self.ops.append(QOp(Kind.SLICE, (x,), y, begin=begin, stride=step))
        return y

    def gather(self, x: int, order: tuple[int, ...]) -> int:
        """Some channels in an order of their own."""
        y = self.tensor((*self.tensors[x].shape[:3], len(order)), like=x)
        self.ops.append(QOp(Kind.GATHER, (x,), y, order=order))
        return y

    def transposed(self, x: int, channels: int, kernel: tuple[int, int], stride: tuple[int, int], same: bool) -> int:
        """A transposed convolution; VALID ones end where chance will have it."""
        _, height, width, _ = self.tensors[x].shape
        axes = zip((height, width), kernel, stride, strict=True)
        size = [n * s if same else (n - 1) * s + k + int(self.rng.integers(s)) for n, k, s in axes]
        padding = tuple(same_padding(*axis) for axis in zip(size, kernel, stride, strict=True))
        if not same or not (padding[0][0] or padding[1][0]):
            padding = ((0, 0), (0, 0))
        y = self.convolution(x, channels, kernel, same=True)
        self.tensors[y] = replace(self.tensors[y], shape=(1, *size, channels))
        self.ops[-1] = replace(self.ops[-1], kind=Kind.TRANSPOSE_CONV, stride=stride, padding=padding)
        return y

    def prelu(self, x: int) -> int:
        """A slope for each channel."""
        shape = self.tensors[x].shape
        y = self.tensor(shape)
        slopes = self.rng.integers(-127, 128, (1, 1, shape[3]), dtype=np.int8)
        scale = np.array([self.rng.uniform(0.001, 0.02)], np.float32)
        self.ops.append(QOp(Kind.PRELU, (x,), y, slopes, scale))
        return y

    def bilinear(self, x: int, size: tuple[int, int], sampling: Sampling) -> int:
        """Interpolation to a size."""
        y = self.tensor((1, *size, self.tensors[x].shape[3]), like=x)
        self.ops.append(QOp(Kind.BILINEAR, (x,), y, sampling=sampling))
        return y

    def mul(self, a: int, b: int) -> int:
        """A product, ``b`` of equal shape or one value for each channel."""
        scale = float(np.float32(self.tensors[a].scale * self.tensors[b].scale * self.rng.uniform(20, 150)))
        self.tensors.append(QTensor(self.tensors[a].shape, scale, int(self.rng.integers(-90, 90))))
        self.ops.append(QOp(Kind.MUL, (a, b), len(self.tensors) - 1))
        return len(self.tensors) - 1

    def model(self, x: int, y: int, metadata: dict[str, str] | None = None) -> Int8Model:
        return Int8Model(tuple(self.tensors), tuple(self.ops), (Port(x),), (Port(y),), metadata or {})


@pytest.fixture(scope="session")
def random_model() -> Callable[..., Int8Model]:
    """``random_model(seed)``: a network such as our quantiser makes."""
    return make_model


@pytest.fixture(scope="session")
def foreign_model() -> Callable[[int], Int8Model]:
    """``foreign_model(seed)``: a network with operators that only other converters write."""
    return make_foreign_model


@pytest.fixture(scope="session")
def codes() -> Callable[..., np.ndarray]:
    """``codes(model, count)``: random int8 inputs of a model."""

    def draw(model: Int8Model, count: int = 8, seed: int = 0) -> np.ndarray:
        shape = (count, *model.tensors[model.input].shape[1:])
        return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)

    return draw


def make_foreign_model(seed: int) -> Int8Model:
    """Convolution, then any of MEAN and RESHAPE, one or two dense layers, perhaps a softmax."""
    rng = np.random.default_rng(seed)
    build = NetworkBuilder(rng)
    first = x = build.tensor((1, int(rng.integers(4, 9)), int(rng.integers(4, 9)), 3))
    x = build.convolution(x, int(rng.integers(2, 9)), (3, 3))
    if seed % 2:
        x = build.mean(x, keep=bool(seed // 2 % 2))
    if seed // 4 % 2:
        x = build.reshape(x)
    for _ in range(1 + seed // 8 % 2):
        x = build.dense(x, int(rng.integers(2, 13)), bias=bool(rng.integers(0, 3)))
    if seed % 3 == 0:
        x = build.softmax(x)
    return build.model(first, x)


def make_model(seed: int, metadata: dict[str, str] | None = None) -> Int8Model:
    """A random network of 3 to about 14 operators."""
    rng = np.random.default_rng(seed)
    build = NetworkBuilder(rng)
    size = [int(rng.integers(7, 22)), int(rng.integers(7, 22)) if rng.integers(0, 4) else 1]
    first = x = build.tensor((1, *size, int(rng.integers(1, 5))))
    x = build.convolution(x, int(rng.integers(2, 17)), _kernel(rng, size), same=bool(rng.integers(0, 2)))
    for _ in range(int(rng.integers(1, 5))):
        x = _block(build, x)
    return build.model(first, build.head(x, int(rng.integers(2, 12))), metadata)


def _kernel(rng: np.random.Generator, size: list[int] | tuple[int, ...]) -> tuple[int, int]:
    return tuple(int(rng.integers(1, min(5, extent) + 1)) for extent in size)


def _block(build: NetworkBuilder, x: int) -> int:
    rng = build.rng
    _, height, width, channels = build.tensors[x].shape
    kernel = _kernel(rng, (height, width))
    stride = tuple(int(v) for v in rng.integers(1, 3, 2))
    wide = int(rng.integers(2, 20))
    match int(rng.integers(0, 19)):
        case 0:
            return build.convolution(x, wide, kernel, stride, same=bool(rng.integers(0, 2)))
        case 1:
            x = build.convolution(x, int(rng.integers(1, 3)), kernel, stride, depthwise=True)
            return build.convolution(x, wide, (1, 1))
        case 2:
            y = build.convolution(x, channels, kernel)
            return build.add(build.convolution(y, channels, kernel), x)
        case 3:
            left = build.convolution(x, wide, kernel, activation=Activation.RELU)
            right = build.convolution(x, channels, (1, 1), activation=Activation.RELU)
            scale = build.tensors[left].scale
            build.tensors[right] = QTensor(build.tensors[right].shape, scale, -128)
            return build.concat(left, right)
        case 4 if min(height, width) >= 2:
            return build.pool(x, Kind.MAX_POOL, (2, 2), stride, bool(rng.integers(0, 2)))
        case 5 if min(height, width) >= 3:
            return build.pool(x, Kind.AVG_POOL, (3, 3), stride, bool(rng.integers(0, 2)))
        case 6:
            x = build.pad(x, tuple(int(v) for v in rng.integers(0, 3, 2)), tuple(int(v) for v in rng.integers(0, 3, 2)))
            return build.convolution(x, wide, kernel, stride, same=False)
        case 7:
            return build.relu(x)
        case 8:
            for kind in rng.permutation(list(TABLES))[:2]:
                x = build.table(x, Kind(kind))
            return x
        case 9:
            gate = build.pool(x, Kind.AVG_POOL, (height, width), (1, 1))
            return build.mul(x, build.table(build.convolution(gate, channels, (1, 1)), Kind.LOGISTIC))
        case 10:
            return build.mul(x, build.table(x, Kind.TANH))
        case 15:
            return build.prelu(x)
        case 16 if height * width < 200:
            return build.transposed(x, wide, kernel, stride, bool(rng.integers(0, 2)))
        case 17:
            size = (int(rng.integers(1, 2 * height + 1)), int(rng.integers(1, 2 * width + 1)))
            return build.bilinear(x, size, list(Sampling)[rng.integers(0, 3)])
        case 14:
            return build.pool(build.pad_value(x), Kind.MAX_POOL, (2, 2), stride, False)
        case 11:
            return build.enlarge(x, (int(rng.integers(1, 3)), 2))
        case 12:
            parts = [build.gather(x, tuple(int(v) for v in rng.permutation(channels)[: rng.integers(1, channels + 1)]))]
            return build.concat(*parts, build.gather(x, tuple(range(channels // 2, channels))))
        case 13:
            begin = tuple(int(rng.integers(0, extent)) for extent in (height, width))
            return build.slice(x, begin, stride)
        case _:
            return build.convolution(x, wide, kernel, dilation=(2, 2), same=True)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Object files of the kernels for this computer, compiled once."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on this computer")
    folder = tmp_path_factory.mktemp("kernels")
    copy_sources(folder)
    subprocess.run(["cc", *HOST_FLAGS, "-c", *KERNEL_SOURCES, "platform_host.c"], cwd=folder, check=True)
    return folder
