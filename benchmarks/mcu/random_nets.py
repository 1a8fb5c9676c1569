"""Int8 networks with random weights, for checks and benchmarks that need an operator or a shape, not accuracy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from mcu.graph.kinds import Activation, Kind, Sampling
from mcu.graph.ports import Port
from mcu.graph.windows import NO_PADDING, Pair, output_size, same_padding
from mcu.int8.model import Int8Model, QOp, QTensor

RELU, NONE = Activation.RELU, Activation.NONE


@dataclass
class RandomNet:
    """Builds a network operator by operator; every method returns the index of the tensor it made.

    Scales are chosen such that values use the int8 range without drowning in saturation.
    """

    rng: np.random.Generator
    tensors: list[QTensor] = field(default_factory=list)
    ops: list[QOp] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)

    def input(self, height: int, width: int, channels: int) -> int:
        """The network's input, or one more of them."""
        self.inputs.append(self._tensor((1, height, width, channels), 0.02))
        return self.inputs[-1]

    def conv(
        self,
        source: int,
        channels: int,
        kernel: Pair = (3, 3),
        stride: Pair = (1, 1),
        *,
        same: bool = True,
        dilation: Pair = (1, 1),
        activation: Activation = RELU,
        groups: int = 1,
    ) -> int:
        """Convolution, SAME or VALID padding."""
        in_channels = self.tensors[source].shape[3] // groups
        weights = self._weights((channels, *kernel, in_channels))
        return self._weighted(Kind.CONV, source, weights, channels, kernel, stride, same, dilation, activation)

    def depthwise(
        self,
        source: int,
        kernel: Pair = (3, 3),
        stride: Pair = (1, 1),
        *,
        multiplier: int = 1,
        same: bool = True,
        dilation: Pair = (1, 1),
        activation: Activation = RELU,
    ) -> int:
        """Depthwise convolution."""
        channels = self.tensors[source].shape[3] * multiplier
        weights = self._weights((1, *kernel, channels))
        return self._weighted(Kind.DEPTHWISE, source, weights, channels, kernel, stride, same, dilation, activation)

    def dense(self, source: int, outputs: int) -> int:
        """FULLY_CONNECTED on the flattened tensor, one weight scale."""
        tensor = self.tensors[source]
        weights = self._weights((outputs, tensor.bytes))
        target = self._tensor((1, outputs), tensor.scale, 0)
        scale = 1.4 / (73.0 * np.sqrt(tensor.bytes))
        return self._op(
            QOp(Kind.DENSE, (source,), target, weights, np.full(outputs, scale, np.float32), self._bias(outputs))
        )

    def add(self, a: int, b: int, activation: Activation = RELU) -> int:
        """Sum of two tensors."""
        target = self._tensor(self.tensors[a].shape, 1.3 * self.tensors[a].scale)
        return self._op(QOp(Kind.ADD, (a, b), target, activation=activation))

    def concat(self, *sources: int) -> int:
        """Channels side by side; the sources are given the first one's quantisation."""
        first = self.tensors[sources[0]]
        for source in sources[1:]:
            self.tensors[source] = QTensor(self.tensors[source].shape, first.scale, first.zero_point)
        channels = sum(self.tensors[source].shape[3] for source in sources)
        return self._op(QOp(Kind.CONCAT, sources, self._like(sources[0], (*first.shape[:3], channels))))

    def pool(self, source: int, kind: Kind, kernel: Pair = (2, 2), stride: Pair = (2, 2), *, same: bool = False) -> int:
        """Max or average pooling."""
        (height, width), padding = self._window(source, kernel, stride, same, (1, 1))
        target = self._like(source, (1, height, width, self.tensors[source].shape[3]))
        return self._op(QOp(kind, (source,), target, kernel=kernel, stride=stride, padding=padding))

    def global_pool(self, source: int) -> int:
        """Average over all positions."""
        kernel = (self.tensors[source].shape[1], self.tensors[source].shape[2])
        return self.pool(source, Kind.AVG_POOL, kernel, kernel)

    def mean(self, source: int) -> int:
        """MEAN over all positions."""
        tensor = self.tensors[source]
        target = self._tensor((1, 1, 1, tensor.shape[3]), 0.8 * tensor.scale)
        return self._op(QOp(Kind.MEAN, (source,), target))

    def pad(self, source: int, rows: Pair, columns: Pair) -> int:
        """Rows above and below, columns left and right."""
        _, height, width, channels = self.tensors[source].shape
        target = self._like(source, (1, height + sum(rows), width + sum(columns), channels))
        return self._op(QOp(Kind.PAD, (source,), target, padding=(rows, columns)))

    def pad_value(self, source: int, rows: Pair, columns: Pair, value: int = -128) -> int:
        """As ``pad``, of another code than zero's."""
        target = self.pad(source, rows, columns)
        self.ops[-1] = replace(self.ops[-1], kind=Kind.PADV2, value=value)
        return target

    def relu(self, source: int) -> int:
        """A ReLU of its own."""
        target = self._tensor(self.tensors[source].shape, 0.7 * self.tensors[source].scale)
        return self._op(QOp(Kind.RELU, (source,), target))

    def reshape(self, source: int, shape: tuple[int, ...]) -> int:
        """The same values under another shape."""
        return self._op(QOp(Kind.RESHAPE, (source,), self._like(source, shape)))

    def softmax(self, source: int) -> int:
        """Softmax over the channels."""
        self.tensors[source] = QTensor(self.tensors[source].shape, 0.1, self.tensors[source].zero_point)
        self.tensors.append(QTensor(self.tensors[source].shape, 1.0 / 256.0, -128))
        return self._op(QOp(Kind.SOFTMAX, (source,), len(self.tensors) - 1))

    def table(self, source: int, kind: Kind) -> int:
        """An activation that is a table of codes."""
        fixed = {Kind.LOGISTIC: (1 / 256, -128), Kind.TANH: (1 / 128, 0)}
        scale, zero_point = fixed.get(kind, (0.8 * self.tensors[source].scale, -70))
        self.tensors.append(QTensor(self.tensors[source].shape, float(np.float32(scale)), zero_point))
        alpha = 0.125 if kind is Kind.LEAKY_RELU else 0.0
        return self._op(QOp(kind, (source,), len(self.tensors) - 1, alpha=alpha))

    def mul(self, a: int, b: int) -> int:
        """Product of a map and another, or one value for each channel."""
        target = self._tensor(self.tensors[a].shape, 60 * self.tensors[a].scale * self.tensors[b].scale)
        return self._op(QOp(Kind.MUL, (a, b), target))

    def transposed(self, source: int, channels: int, kernel: Pair = (2, 2), stride: Pair = (2, 2)) -> int:
        """Transposed convolution whose output is ``stride`` times as large."""
        made = self.conv(source, channels, kernel, activation=NONE)
        op, tensor = self.ops[-1], self.tensors[made]
        size = (tensor.shape[1] * stride[0], tensor.shape[2] * stride[1])
        rows, columns = (same_padding(*axis) for axis in zip(size, kernel, stride, strict=True))
        padding = (rows, columns) if rows[0] or columns[0] else NO_PADDING
        self.tensors[made] = replace(tensor, shape=(1, *size, channels))
        self.ops[-1] = replace(op, kind=Kind.TRANSPOSE_CONV, stride=stride, padding=padding)
        return made

    def prelu(self, source: int) -> int:
        """A slope for each channel."""
        shape = self.tensors[source].shape
        slopes = self._weights((1, 1, shape[3]))
        target = self._tensor(shape, self.tensors[source].scale)
        return self._op(QOp(Kind.PRELU, (source,), target, slopes, np.array([0.008], np.float32)))

    def bilinear(self, source: int, size: Pair, sampling: Sampling = Sampling.CENTRES) -> int:
        """Interpolation to a size."""
        target = self._like(source, (1, *size, self.tensors[source].shape[3]))
        return self._op(QOp(Kind.BILINEAR, (source,), target, sampling=sampling))

    def enlarge(self, source: int, factors: Pair = (2, 3)) -> int:
        """Every value several times."""
        _, height, width, channels = self.tensors[source].shape
        target = self._like(source, (1, height * factors[0], width * factors[1], channels))
        return self._op(QOp(Kind.RESIZE, (source,), target, kernel=factors))

    def slice(self, source: int, begin: Pair, step: Pair, count: Pair) -> int:
        """Some rows and columns."""
        target = self._like(source, (1, *count, self.tensors[source].shape[3]))
        return self._op(QOp(Kind.SLICE, (source,), target, begin=begin, stride=step))

    def gather(self, source: int, order: tuple[int, ...]) -> int:
        """Some channels in an order of their own."""
        target = self._like(source, (*self.tensors[source].shape[:3], len(order)))
        return self._op(QOp(Kind.GATHER, (source,), target, order=order))

    def model(self, *outputs: int) -> Int8Model:
        """The finished network."""
        inputs, results = (tuple(map(Port, numbers)) for numbers in (self.inputs, outputs))
        return Int8Model(tuple(self.tensors), tuple(self.ops), inputs, results)

    def _op(self, op: QOp) -> int:
        self.ops.append(op)
        return op.output

    def _tensor(self, shape: tuple[int, ...], scale: float, zero_point: int | None = None) -> int:
        chosen = int(self.rng.integers(-100, 30)) if zero_point is None else zero_point
        self.tensors.append(QTensor(shape, float(np.float32(scale * self.rng.uniform(0.8, 1.25))), chosen))
        return len(self.tensors) - 1

    def _like(self, source: int, shape: tuple[int, ...]) -> int:
        tensor = self.tensors[source]
        self.tensors.append(QTensor(shape, tensor.scale, tensor.zero_point))
        return len(self.tensors) - 1

    def _weights(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.integers(-127, 128, shape).astype(np.int8)

    def _bias(self, channels: int) -> np.ndarray:
        return self.rng.integers(-3000, 3000, channels).astype(np.int32)

    def _window(
        self, source: int, kernel: Pair, stride: Pair, same: bool, dilation: Pair
    ) -> tuple[Pair, tuple[Pair, Pair]]:
        axes = list(zip(self.tensors[source].shape[1:3], kernel, stride, dilation, strict=True))
        rows, columns = (same_padding(*axis) if same else (0, 0) for axis in axes)
        height, width = output_size(*axes[0], rows), output_size(*axes[1], columns)
        return (height, width), (rows, columns)

    def _weighted(
        self,
        kind: Kind,
        source: int,
        weights: np.ndarray,
        channels: int,
        kernel: Pair,
        stride: Pair,
        same: bool,
        dilation: Pair,
        activation: Activation,
    ) -> int:
        (height, width), padding = self._window(source, kernel, stride, same, dilation)
        target = self._tensor((1, height, width, channels), self.tensors[source].scale)
        ratio = 1.4 / (73.0 * np.sqrt(weights.size / channels))
        scales = (ratio * self.rng.uniform(0.4, 1.6, channels)).astype(np.float32)
        op = QOp(kind, (source,), target, weights, scales, self._bias(channels), kernel, stride, dilation, padding)
        return self._op(replace(op, activation=activation, name=f"layers.{len(self.ops)}.{kind}"))


def plain_net(seed: int = 0, width: int = 16, size: int = 32) -> Int8Model:
    """Four 3x3 convolutions, max pooling between them, a classifier."""
    net = RandomNet(np.random.default_rng(seed))
    x = net.conv(net.input(size, size, 3), width)
    for factor in (1, 2, 4):
        x = net.pool(net.conv(x, factor * width), Kind.MAX_POOL)
    return net.model(net.conv(net.global_pool(x), 10, (1, 1), activation=NONE))


def residual_net(seed: int = 0, width: int = 16, size: int = 32) -> Int8Model:
    """The shape of MLPerf Tiny's ResNet-8: three stacks of two convolutions, each with a shortcut."""
    net = RandomNet(np.random.default_rng(seed))
    x = net.conv(net.input(size, size, 3), width)
    for factor, stride in ((1, 1), (2, 2), (4, 2)):
        inner = net.conv(x, factor * width, stride=(stride, stride))
        inner = net.conv(inner, factor * width, activation=NONE)
        if stride > 1:
            x = net.conv(x, factor * width, (1, 1), (stride, stride), activation=NONE)
        x = net.add(x, inner)
    return net.model(net.conv(net.global_pool(x), 10, (1, 1), activation=NONE))


def separable_net(seed: int = 0, width: int = 64, blocks: int = 4) -> Int8Model:
    """The shape of MLPerf Tiny's keyword-spotting DS-CNN: a 10x4 convolution, depthwise-separable blocks."""
    net = RandomNet(np.random.default_rng(seed))
    x = net.conv(net.input(49, 10, 1), width, (10, 4), (2, 2))
    for _ in range(blocks):
        x = net.conv(net.depthwise(x), width, (1, 1))
    return net.model(net.conv(net.global_pool(x), 12, (1, 1), activation=NONE))


def causal_net(seed: int = 0, width: int = 8, rows: int = 40) -> Int8Model:
    """Along time: causal convolutions that look further and further back, a shortcut; the last row is read."""
    net = RandomNet(np.random.default_rng(seed))
    x = net.conv(net.pad(net.input(rows, 5, 1), (2, 0), (0, 0)), width, (3, 5), same=False)
    for dilation in (1, 2, 4):
        back = net.pad(x, (2 * dilation, 0), (0, 0))
        inner = net.depthwise(back, (3, 1), same=False, dilation=(dilation, 1))
        x = net.add(x, net.conv(inner, width, (1, 1), activation=NONE))
    last = net.slice(x, (rows - 1, 0), (1, 1), (1, 1))
    return net.model(net.conv(last, 4, (1, 1), activation=NONE))


def every_operator_net(seed: int = 0, *, head: bool = True) -> Int8Model:
    """Every operator once or more: odd channel counts, clipped and dilated windows, strides, a depth multiplier.

    Args:
        head: whether it ends in mean, dense and softmax; else the output is a whole map, which hides nothing.
    """
    net = RandomNet(np.random.default_rng(seed))
    stem = net.conv(net.input(11, 9, 3), 13)
    deep = net.depthwise(net.depthwise(stem), (5, 3), dilation=(1, 2))
    total = net.add(deep, net.conv(stem, 13, dilation=(2, 2), activation=NONE))
    padded = net.pad(total, (1, 0), (2, 1))
    largest = net.pool(net.pad_value(padded, (0, 1), (1, 0)), Kind.MAX_POOL, (3, 2), same=True)
    joined = net.concat(largest, net.pool(largest, Kind.AVG_POOL, (3, 3), (1, 1), same=True))
    narrow = net.conv(net.relu(joined), 6, (3, 2), (2, 1), same=False, activation=Activation.RELU6)
    for kind in (Kind.HARD_SWISH, Kind.LEAKY_RELU, Kind.ELU, Kind.TANH):
        narrow = net.table(narrow, kind)
    excited = net.mul(narrow, net.table(net.conv(net.global_pool(narrow), 6, (1, 1), activation=NONE), Kind.LOGISTIC))
    parts = net.conv(net.mul(excited, narrow), 6, (3, 2), groups=3, dilation=(2, 1))
    shuffled = net.gather(net.enlarge(parts), (3, 0, 4, 1, 5, 2))
    odd = net.slice(shuffled, (1, 2), (2, 1), (net.tensors[shuffled].shape[1] // 2, net.tensors[shuffled].shape[2] - 3))
    grown = net.prelu(net.transposed(net.bilinear(odd, (5, 3), Sampling.CORNERS), 6, (4, 3)))
    wide = net.depthwise(net.bilinear(grown, (7, 5)), (2, 2), multiplier=3)
    if not head:
        return net.model(net.relu(wide))
    scores = net.dense(net.reshape(net.mean(wide), (1, 18)), 11)
    return net.model(net.softmax(scores))


def assorted_windows(seed: int) -> Int8Model:
    """Windows of all heights, strides, dilations and paddings on maps of odd sizes, shortcuts, branches; then a dense
    layer."""
    rng = np.random.default_rng(seed)

    def one_of(*values: int) -> int:
        return int(rng.choice(values))

    net = RandomNet(rng)
    wide = one_of(1, 5, 8)
    x = net.conv(net.input(one_of(29, 36, 43), wide, 3), 6, (one_of(3, 5), min(wide, 3)), (one_of(1, 2), 1))
    for kind in rng.permutation(7)[:5]:
        kernel, same = (one_of(1, 2, 3), 1), bool(rng.integers(2))
        if kind == 0:
            x = net.add(x, net.conv(net.conv(x, 9, (1, 1)), net.tensors[x].shape[3], (3, 1)))
        elif kind == 1:
            x = net.pool(x, (Kind.MAX_POOL, Kind.AVG_POOL)[one_of(0, 1)], kernel, (one_of(1, 2), 1), same=same)
        elif kind == 2:
            x = net.conv(net.pad(x, (one_of(0, 1, 3), one_of(0, 2)), (1, 0)), 7, kernel, same=False)
        elif kind == 3:
            x = net.concat(net.depthwise(x, (3, min(wide, 3))), net.relu(x), net.conv(x, 4, (1, 1)))
        elif kind == 4:
            x = net.depthwise(x, (one_of(3, 4), 1), (1, 1), dilation=(one_of(2, 3), 1), same=True)
        elif kind == 5:
            x = net.conv(x, 8, (1, 1), (one_of(1, 2), 1), same=same)
        else:
            x = net.mul(net.conv(x, 5, kernel), net.depthwise(net.conv(x, 5, (1, 1)), (3, 1)))
    return net.model(net.dense(x, 4))


def random_net(seed: int) -> Int8Model:
    """A few convolutions, depthwise convolutions, pools and additions of random shape; the output is a map."""
    rng = np.random.default_rng(seed)
    net = RandomNet(rng)
    height, width = int(rng.integers(5, 20)), int(rng.choice([1, int(rng.integers(5, 16))]))
    x = net.input(height, width, int(rng.integers(1, 9)))
    for _ in range(int(rng.integers(3, 7))):
        x = _random_operator(net, x, rng)
    return net.model(x)


def several_ports_net(seed: int) -> Int8Model:
    """One to three inputs that meet, one to four outputs, among them maps that are read again and one that is there
    twice."""
    rng = np.random.default_rng(seed)
    net = RandomNet(rng)
    sources = [net.input(7, 6, int(rng.integers(1, 5))) for _ in range(int(rng.integers(1, 4)))]
    x = net.conv(sources[0], 6)
    for source in sources[1:]:
        x = net.add(x, net.conv(source, 6, (1, 1)))
    ends = [x]
    if seed % 4 == 1:
        x = net.conv(net.mean(x), 6, (1, 1))  # MEAN asks for scratch memory
        ends.append(x)
    for _ in range(int(rng.integers(1, 5))):
        ends.append(_random_operator(net, ends[int(rng.integers(len(ends)))], rng))
    outputs = {ends[-1], *rng.choice(ends, int(rng.integers(1, 4))).tolist()}
    return net.model(*rng.permutation([*outputs, *[ends[-1]] * (seed % 3 == 0)]).tolist())


def _random_operator(net: RandomNet, x: int, rng: np.random.Generator) -> int:
    _, height, width, _ = net.tensors[x].shape
    kernel = (int(rng.integers(1, min(height, 5) + 1)), int(rng.integers(1, min(width, 4) + 1)))
    stride = (int(rng.integers(1, 3)), 1 if width == 1 else int(rng.integers(1, 3)))
    same, choice = bool(rng.integers(2)), int(rng.integers(5))
    if choice == 0:
        return net.depthwise(x, kernel, stride, same=same)
    if choice == 1 and min(height, width) > 2:
        return net.pool(x, Kind.MAX_POOL if same else Kind.AVG_POOL, (2, 2), same=same)
    if choice == 2:
        return net.add(x, net.conv(x, net.tensors[x].shape[3], kernel, activation=NONE))
    if choice == 3:
        return net.conv(x, int(rng.integers(1, 20)), kernel, dilation=(2, 1 if width == 1 else 2))
    return net.conv(x, int(rng.integers(1, 20)), kernel, stride, same=same)
