"""Networks as people write them: each comes out as the function it is in torch, or is refused by path and line."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mcu.errors import InputError
from mcu.graph.kinds import Kind
from mcu.graph.schedule import peak_bytes
from mcu.int8.folded_net import FoldedNet
from mcu.tracing.trace import trace

SHAPE = (3, 12, 12)


class Net(nn.Module):
    """A convolution, whatever ``body`` does to its 8 maps of 6 x 6, a convolution, and a dense layer."""

    def __init__(self, body, middle: nn.Module | None = None, channels: int = 8) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
        self.middle = middle or nn.Identity()
        self.last = nn.Conv2d(channels, 5, 3)
        self.scores = nn.Linear(5, 4)
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(F.relu(self.last(self.body(self, self.first(x)))).mean((2, 3)))


def with_buffer(net: Net) -> Net:
    net.register_buffer("calls", torch.zeros(()))
    return net


class Head(nn.Module):
    """5 rectified maps of 6 x 6, and whatever ``body`` makes of them for a dense layer of ``features``."""

    def __init__(self, body, features: int = 5) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU())
        self.scores = nn.Linear(features, 4)
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.body(self, self.first(x)))


def add_in_place(net, x):
    y = x
    y += net.middle(x)
    return torch.cat([x, y], 1)


def shuffled(x, groups):
    n, c, h, w = x.size()
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def written_parts(net, x):
    a, b = x.chunk(2, 1)
    a.relu_()
    b += a
    x[:, 1::2].mul_(0.5)
    return torch.cat([x, b, a], 1)


def written_whole(net, x):
    a, b = x.split([3, 5], 1)
    x.tanh_()
    return torch.cat([b, a], 1)


def written_copy(net, x):
    y = x.permute(0, 2, 3, 1).contiguous()
    y.relu_()
    return x + y.permute(0, 3, 1, 2)


def written_behind_dropout(net, x):
    y = F.dropout(x, 0.5, training=net.training or net.middle.training)
    y.relu_()
    return x + y


def written_row(net, x):
    x[:, :, 0].relu_()
    return x


def attended(net, x):
    places = x.view(x.size(0), 8, 4, 9).flatten(2)[..., :36]  # refused, too, but not what decides
    weights = (x.flatten(2).mT @ places).softmax(-1)
    return (x.flatten(2) @ weights).view(x.shape)


def shuffle_units(net, x):
    for _ in range(3):
        left, right = x.chunk(2, 1)
        x = shuffled(torch.cat([left, torch.sigmoid(F.avg_pool2d(right, 3, 1, 1)) * right], 1), 2)
    return x


def unequal_parts(net, x):
    a, b, c = x.split([3, 4, 1], 1)
    return torch.cat([net.middle(b), c, a], 1)


def equal_parts(net, x):
    a, b, c = torch.split(x, 3, 1)
    return torch.cat([a + b, net.middle(c)], 1)


def partial_sum(net, x):
    y = net.middle(x)
    return torch.cat([y[:, :8] + x, y[:, 8:]], 1)


def focus(net, x):
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)


def shuffle_back(net, x):
    n, c, h, w = x.size()
    return x.view(n, 2, c // 2, h * w).reshape(n, c, h, w)


def cast_to_itself(net, x):
    x = x.float().to(torch.float32).to(x.dtype).type(torch.float32).type_as(net.scores.bias).to(net.scores.bias).cpu()
    return x + torch.ones(1, dtype=torch.int64).type_as(x)


def subtracted(net, x):
    x = torch.rsub(torch.sub(x, 0.3, alpha=2), 0.1, alpha=3)
    x = torch.sub(torch.subtract(x, net.last.bias[0], alpha=2), torch.arange(8.0).view(8, 1, 1), alpha=0.5)
    x = torch.rsub(torch.sub(net.last.bias[1], x, alpha=3), net.last.bias[2], alpha=2)
    x = torch.rsub(net.last.bias[3], x, alpha=4).sub_(0.1, alpha=2)
    return torch.add(torch.add(x, 0.3, alpha=2), net.last.bias[4], alpha=3) + torch.add(net.last.bias[1], x, alpha=2)


def counted(net, x):
    net.calls += 1
    return x


def counted_in(net, x):
    net.calls += 1
    return x * net.calls


def counted_aside(net, x):
    net.count = getattr(net, "count", 0) + 1
    return x * net.count


SAME = {
    "casts that change nothing": Net(cast_to_itself),
    "multiples of what is subtracted and added": Net(subtracted),
    "operators of two names": Net(lambda m, x: torch.clip(torch.multiply(torch.divide(+x, 3), 2).negative(), -1, 1)),
    "a counter the output does not use": with_buffer(Net(counted)),
    "functional max over the map": Head(lambda m, x: F.adaptive_max_pool2d(x, 1).flatten(1)),
    "functional max over the map, tuple and view": Head(lambda m, x: F.adaptive_max_pool2d(x, (1, 1)).view(len(x), -1)),
    "pad along the width": Net(lambda m, x: F.pad(x, (2, 1))),
    "pad along the height": Net(lambda m, x: F.pad(x, (0, 0, 2, 1))),
    "in-place ReLU read again": Net(lambda m, x: m.middle(F.relu_(x)) + x, nn.Conv2d(8, 8, 3, 1, 1)),
    "in-place module read again": Net(
        lambda m, x: m.middle(x) + x, nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(8, 8, 1))
    ),
    "sum in place": Net(lambda m, x: add_in_place(m, x), nn.Conv2d(8, 8, 1), 16),
    "in place through a view": Net(lambda m, x: (x.view(len(x), 8, 36).relu_(), x)[1]),
    "in place on parts": Net(written_parts, channels=16),
    "in place on what was taken apart": Net(written_whole),
    "in place on a copy": Net(written_copy),
    "in place behind dropout that is always on": Net(lambda m, x: x + F.dropout(x, 0.5).relu_()),
    "dropout that is always on": Net(lambda m, x: F.dropout(x, 0.5)),
    "dropout by mode": Net(lambda m, x: F.dropout(x, 0.5, training=m.training)),
    "view behind a convolution": Head(lambda m, x: x.view(x.size(0), -1), 180),
    "view with a size": Head(lambda m, x: x.view(-1, 180), 180),
    "reshape with a size": Head(lambda m, x: x.reshape(-1, 5 * 6 * 6), 180),
    "flattened channels last": Head(lambda m, x: x.permute(0, 2, 3, 1).reshape(len(x), -1), 180),
    "cat of flattened maps": Head(lambda m, x: torch.cat([x.flatten(1), (x + x).flatten(1)], 1), 360),
    "sum of flattened maps": Head(lambda m, x: x.flatten(1) + F.max_pool2d(x, 3, 1, 1).flatten(1), 180),
    "weight norm": Net(lambda m, x: m.middle(x), nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3))),
    "spectral norm": Net(lambda m, x: m.middle(x), nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 3))),
    "weight norm of old": Net(lambda m, x: m.middle(x), nn.utils.weight_norm(nn.Conv2d(8, 8, 3))),  # type: ignore
    "pool by shape": Head(lambda m, x: F.avg_pool2d(x, x.shape[2:]).flatten(1)),
    "pool by size": Head(lambda m, x: F.max_pool2d(x, kernel_size=x.size()[2:]).flatten(1)),
    "mean in two steps": Head(lambda m, x: x.mean(3).mean(2)),
    "mean of a flattened map": Head(lambda m, x: x.flatten(2).mean(-1)),
    "sum over the map": Head(lambda m, x: x.sum((2, 3))),
    "amax": Head(lambda m, x: x.amax((-1, -2))),
    "squeezed": Head(lambda m, x: F.adaptive_avg_pool2d(x, 1).squeeze()),
    "picked out": Head(lambda m, x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0]),
    "channels last and back": Net(lambda m, x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2)),
    "moved channels": Net(lambda m, x: x.movedim(1, -1).movedim((3,), (1,))),
    "dense layer on channels last": Net(
        lambda m, x: m.middle(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.Linear(8, 8)
    ),
    "views that cancel": Net(shuffle_back),
    "constants before": Net(lambda m, x: 1 - x),
    "turned and back": Net(lambda m, x: x.mT.transpose(2, 3)),
    "constants": Net(lambda m, x: (x - 0.5) / 2 * 3 + 1),
    "softmax at the end": nn.Sequential(Head(lambda m, x: x.mean((2, 3))), nn.Softmax(1)),
    "log_softmax at the end": nn.Sequential(Head(lambda m, x: x.mean((2, 3))), nn.LogSoftmax(-1)),
    "log_softmax before a view": nn.Sequential(
        Head(lambda m, x: x.mean((2, 3))[:, None]), nn.LogSoftmax(2), nn.Flatten()
    ),
    "sum with one row": Net(lambda m, x: x + x.mean(2, keepdim=True)),
    "product with one column": Net(lambda m, x: x.mean(3, keepdim=True) * x),
    "clamped": Net(lambda m, x: x.clamp(0, 6)),
    "padded max pool": Net(lambda m, x: F.max_pool2d(F.relu(x), 3, 2, 1)),
    "ceil mode": Net(lambda m, x: F.max_pool2d(F.relu(x), 3, 2, ceil_mode=True)),
    "average that counts zeros": Net(lambda m, x: F.avg_pool2d(x, 3, 1, 1)),
    "average that does not": Net(lambda m, x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
    "branch by shape": Net(lambda m, x: F.avg_pool2d(x, 2, 1) if x.shape[2] > 4 and len(x) else x),
    "sum of a list": Net(lambda m, x: sum([x, x])),
    "even kernel, same": Net(lambda m, x: m.middle(x), nn.Conv2d(8, 8, 4, padding="same")),
    "upsampled": Net(lambda m, x: F.interpolate(x, scale_factor=2) + nn.Upsample(scale_factor=(2, 2))(x)),
    "resized": Net(lambda m, x: m.middle(F.interpolate(x, (9, 7), mode="bilinear")), nn.UpsamplingBilinear2d((6, 5))),
    "slopes behind a shuffle": Net(lambda m, x: m.middle(F.channel_shuffle(x, 2)), nn.PReLU(8)),
    "a slope that is a number": Net(lambda m, x: F.prelu(x, torch.tensor([0.2]))),
    "transposed behind a shuffle": Net(
        lambda m, x: m.middle(F.channel_shuffle(x, 4)), nn.ConvTranspose2d(8, 8, (3, 2), (2, 1), (1, 0), (1, 0))
    ),
    "two rows pooled to seven": Head(lambda m, x: F.adaptive_avg_pool2d(F.avg_pool2d(x, 3), (7, 2)).flatten(1), 70),
    "one row of three pooled to two": Head(
        lambda m, x: F.adaptive_avg_pool2d(F.adaptive_max_pool2d(x, (1, 3)), 2).flatten(1), 20
    ),
    "largest of four of six": Head(lambda m, x: F.adaptive_max_pool2d(F.max_pool2d(x, 2), (5, 4)).flatten(1), 100),
    "pooled to more": Head(lambda m, x: F.adaptive_avg_pool2d(F.adaptive_max_pool2d(x, 1), 2).flatten(1), 20),
    "groups": Net(lambda m, x: m.middle(x), nn.Conv2d(8, 8, 3, groups=2)),
    "squeeze and excitation": Net(
        lambda m, x: x * torch.sigmoid(m.middle(F.adaptive_avg_pool2d(x, 1))).expand_as(x), nn.Conv2d(8, 8, 1)
    ),
    "gates of several kinds": Net(lambda m, x: F.hardsigmoid(x) * F.silu(x) + F.hardswish(x) - 1),
    "chunks": Net(lambda m, x: torch.cat([m.middle(x.chunk(2, 1)[0]), x.chunk(2, 1)[1]], 1), nn.Conv2d(4, 4, 1)),
    "unequal parts": Net(unequal_parts, nn.Conv2d(4, 4, 1)),
    "parts with a rest": Net(equal_parts, nn.Conv2d(2, 5, 1)),
    "a sum with the first channels": Net(partial_sum, nn.Conv2d(8, 11, 1), 11),
    "the first channels": Net(lambda m, x: x[:, :5], channels=5),
    "channels and rows from the end": Net(lambda m, x: x[:, -3:, 1:-1], channels=3),
    "narrowed twice": Net(lambda m, x: x.narrow(1, 2, 4).narrow(2, 1, 4), channels=4),
    "every other column": Net(lambda m, x: m.middle(x[..., 1::2][..., ::2]), nn.Upsample(scale_factor=(1, 3))),
    "one position": Head(lambda m, x: x[:, :, 0, -1]),
    "rows by themselves": Head(lambda m, x: sum(x.unbind(2)).flatten(1), 30),
    "picked channels": Net(lambda m, x: x[:, [2, 0, 1, 7]], channels=4),
    "one channel three times": Net(lambda m, x: m.middle(x)[:, [0, -1, 0]], nn.Conv2d(8, 1, 1), 3),
    "shuffled before a shared layer": Net(lambda m, x: m.middle(F.relu(m.middle(x.flip(1)))), nn.Conv2d(8, 8, 1)),
    "more parts than channels": Net(lambda m, x: torch.tensor_split(x[:, :2], 3, 1)[1], channels=1),
    "a channel twice": Net(lambda m, x: x[:, [0, 0, 1]], channels=3),
    "every other channel": Net(lambda m, x: x[:, ::2] + x[:, 1::2], channels=4),
    "largest of two channels": Net(
        lambda m, x: x.view(len(x), 4, 2, 6, 6)[:, :, 0] + x.view(len(x), 4, 2, 6, 6)[:, :, 1], channels=4
    ),
    "reversed channels": Net(lambda m, x: x.flip(1)),
    "channels taken apart": Net(lambda m, x: shuffled(x, 4)),
    "shuffle module": Net(lambda m, x: m.middle(F.relu(x)), nn.ChannelShuffle(4)),
    "shuffle before normalisation": Net(lambda m, x: m.middle(shuffled(x, 2)), nn.BatchNorm2d(8)),
    "shuffle before groups": Net(lambda m, x: m.middle(shuffled(F.relu(x), 2)), nn.Conv2d(8, 8, 3, groups=2)),
    "shuffle before a depthwise layer": Net(lambda m, x: m.middle(shuffled(x, 4)), nn.Conv2d(8, 8, 3, groups=8)),
    "shuffle and sum": Net(lambda m, x: shuffled(x, 2) + x),
    "shuffle before a dense layer": Head(lambda m, x: x[:, [3, 1, 0, 4, 2]].flatten(1), 180),
    "shuffle before channels last": Net(
        lambda m, x: m.middle(shuffled(x, 2).permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.Linear(8, 8)
    ),
    "shuffled constants": Net(lambda m, x: shuffled(x, 2) * torch.arange(8.0).view(8, 1, 1)),
    "shuffle units": Net(shuffle_units),
    "in place behind a shuffle": Net(lambda m, x: (shuffled(x, 2).relu_() + 1, x)[0]),
    "focus": Net(focus, channels=32),
    "pixel unshuffle": Net(lambda m, x: F.pixel_unshuffle(x, 2), channels=32),
    "gated linear unit": Net(lambda m, x: F.glu(x, 1), channels=4),
    "compiled": torch.compile(Net(lambda m, x: x), backend="eager"),
    "data parallel": nn.DataParallel(Net(lambda m, x: x)),
}


@pytest.mark.parametrize("name", SAME)
def test_the_network_is_the_function_it_is_in_torch(name):
    torch.manual_seed(0)
    module, x = SAME[name].eval(), torch.randn(5, *SHAPE)
    traced = trace(module, SHAPE)
    rows = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        wanted = traced_scores(module, x)
        for found in (traced.module.eval()(x), traced.module(rows), FoldedNet(traced.graph, traced.module)(x)):
            torch.testing.assert_close(found.flatten(1), wanted, atol=1e-5, rtol=1e-4)


def traced_scores(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the module gives without dropout, and without what comes behind its scores."""
    if isinstance(module, nn.Sequential) and any(isinstance(m, nn.Softmax | nn.LogSoftmax) for m in module):
        module = nn.Sequential(*(m for m in module if not isinstance(m, nn.Softmax | nn.LogSoftmax)))
    keep = F.dropout
    F.dropout = lambda x, p=0.5, training=True, inplace=False: x.clone() if training else x
    try:
        return module(x)
    finally:
        F.dropout = keep


def stacked(*layers):
    return nn.Sequential(nn.Conv2d(3, 8, 3), *layers)


class Takes(nn.Module):
    """A ``forward`` of another form."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Head(lambda m, x: x.mean((2, 3)))


class TakesMask(Takes):
    def forward(self, x, mask=None, *, features=False):
        return self.net(x)


class TakesAll(Takes):
    def forward(self, *args, **kwargs):
        assert args[0].shape[1] == 3, "channels"
        return self.net(args[0])


class GivesDict(Takes):
    def forward(self, x):
        return {"scores": self.net(x)}


class GivesMoreInTraining(Takes):
    def forward(self, x):
        return (self.net(x), self.net(x)) if self.training else self.net(x)


@pytest.mark.parametrize("kind", [TakesMask, TakesAll, GivesDict, GivesMoreInTraining])
def test_other_forms_of_forward_pass(kind):
    assert len(trace(kind(), SHAPE).graph.ops) == 4  # padding, convolution, pool, dense layer


class GivesItsInput(Takes):
    def forward(self, x):
        return self.net(x), F.dropout(x, training=self.training)


class GivesAConstant(Takes):
    def forward(self, x):
        return {"scores": self.net(x), "bias": self.net.scores.bias}


class TakesTwo(Takes):
    def forward(self, x, y):
        return self.net(x + y)


class TwoPaths(Takes):
    def forward(self, x):
        first = self.net.first(x)
        if first.mean() > 0:
            return self.net(x)
        return -self.net(x)


shared, strided, biased = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, 2), nn.Conv2d(8, 8, 3)
strided.weight, strided.bias, biased.weight = shared.weight, shared.bias, shared.weight
nn.init.zeros_(biased.bias)
nn.init.zeros_(shared.bias)
REFUSED = {
    "no running statistics": (
        stacked(nn.BatchNorm2d(8, track_running_stats=False)),
        "layer '1': batch norm.*track_run",
    ),
    "a dense layer along the width": (
        Net(lambda m, x: m.middle(x), nn.Linear(6, 6)),
        r"'middle' \(test_meaning.py:\d+",
    ),
    "weights of two layers": (
        stacked(shared, strided),
        "layer '2': its weights are used by '1' too, a layer with other",
    ),
    "weights of two layers, biases of each": (stacked(shared, biased), "layer '2': its weights are used by '1' too"),
    "negative padding": (Net(lambda m, x: F.pad(x, (-1, 0))), r"'pad' \(test_meaning.py:\d+\): negative padding"),
    "padding of channels": (
        Net(lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 1)), channels=10),
        "zero padding of the channels",
    ),
    "attention": (stacked(nn.Softmax(1), nn.ReLU()), "'1': Softmax inside a network"),
    "attention behind a view": (
        Net(attended),
        r"'matmul' \(test_meaning.py:\d+\): a product of two feature maps \(attention",
    ),
    "a product with a parameter": (
        Net(lambda m, x: (x.movedim(1, 3) @ m.middle.weight).movedim(3, 1), nn.Linear(8, 8)),
        "'matmul'.*: a product with a parameter by matmul; use nn.Linear",
    ),
    "rows as channels": (nn.Sequential(nn.Conv2d(3, 1, 1), nn.Flatten(1, 2), nn.Conv1d(12, 8, 3)), "12 rows of a map"),
    "a part overwritten": (Net(lambda m, x: (x[:, :2].fill_(0), x)[1]), r"overwritten.*torch.cat"),
    "a difference of maps": (Net(lambda m, x: x - x.mean((2, 3), keepdim=True)), r"write x \+ \(-y\)"),
    "group normalisation": (stacked(nn.GroupNorm(2, 8)), "GroupNorm.*BatchNorm2d"),
    "layer normalisation": (stacked(nn.LayerNorm([8, 10, 10])), "LayerNorm.*BatchNorm2d"),
    "a decision by the data": (TwoPaths(), r"\(test_meaning.py:\d+\): `if first.mean\(\) > 0:` depends on the values"),
    "an input as output": (GivesItsInput(), r"\(test_meaning.py:\d+\): the network returns this input"),
    "a parameter as output": (GivesAConstant(), r"GivesAConstant \(test_meaning.py:\d+\): its output 'bias' does not"),
    "an input too few": (TakesTwo(), r"TakesTwo \(test_meaning.py:\d+\): .*more inputs than the 1 given here"),
    "flattened scores": (stacked(nn.Flatten()), "flattened map of 8 x 10 x 10"),
    "in place on a row": (Net(written_row), r"'relu' \(test_meaning.py:\d+\): an in-place operation on a part"),
    "in place behind dropout": (
        Net(written_behind_dropout),
        "behind dropout.* evaluation mode alone; write it without",
    ),
    "a part of the batch": (Net(lambda m, x: x[:1]), r"'slice' \(test_meaning.py:\d+\): a part of the batch"),
    "rows unevenly apart": (Net(lambda m, x: x[:, :, [0, 1, 3]]), r"rows or columns \[0, 1, 3\].*evenly apart"),
    "a part of a flattened map": (Head(lambda m, x: x.flatten(1)[:, :7], 7), "slice the feature map before the view"),
    "a mask": (Net(lambda m, x: x[:, torch.ones(8, dtype=torch.bool)]), "list of positions along one dimension"),
    "ELU of another alpha": (stacked(nn.ELU(0.5)), r"'1': ELU with alpha=0.5.*nn.CELU\(0.5\)"),
    "padding with anything": (Net(lambda m, x: F.pad(x, (1, 1), value=-torch.inf)), "padding with -inf"),
    "bounds the wrong way round": (stacked(nn.Hardtanh(1, 2), nn.Threshold(1, 0)), "'2': Threshold.*not continuous"),
    "bounds by position": (Net(lambda m, x: x.clamp(max=torch.arange(6.0))), "bounds that differ from value to value"),
    "a transposed layer in groups": (stacked(nn.ConvTranspose2d(8, 8, 2, groups=2)), "'1': .*in 2 groups.*nn.Upsample"),
    "a factor that is not that of the sizes": (
        stacked(nn.Upsample(scale_factor=1.33, mode="bilinear")),
        "10 to 13 values by the factor 1.33.*recompute_scale_factor=True",
    ),
    "a cast": (
        Net(lambda m, x: x.half().float()),
        r"'to' \(test_meaning.py:\d+\): a cast from torch.float32 to torch.fl",
    ),
    "a counter in the output": (with_buffer(Net(counted_in)), r"Net \(test_meaning.py:\d+\).*has state"),
    "an attribute in the output": (Net(counted_aside), r"Net \(test_meaning.py:\d+\).*has state"),
    "GELU": (stacked(nn.GELU()), r"'1': GELU.*x \* torch.sigmoid\(1.702 \* x\)"),
    "scripted": (torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3))), "scripted by torch.jit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_by_path_and_line(name):
    module, says = REFUSED[name]
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(InputError, match=says) as caught:
        trace(module, SHAPE)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


class Dense(nn.Module):
    """A dense block: each layer reads all that came before, joined anew."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 2 * k, 2, 1) for k in range(layers))
        self.scores = nn.Linear(3 + 2 * layers, 4)

    def forward(self, x):
        found = [x]
        for layer in self.layers:
            found.append(F.relu(layer(torch.cat(found, 1))))
        return self.scores(torch.cat(found, 1).mean((2, 3)))


def test_what_lies_side_by_side_is_not_joined_again():
    graph = trace(Dense(12), (3, 4, 4)).graph
    joins = [op for op in graph.ops if op.kind is Kind.CONCAT]
    assert [len(op.inputs) for op in joins] == [2] * 12
    assert peak_bytes(graph, range(len(graph.ops))) == 16 * (25 + 2 + 27)  # all but the last layer's, that one, both


class Wide(nn.Module):
    """Many branches, joined once."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 1, 1) for _ in range(21))
        self.scores = nn.Linear(21, 4)

    def forward(self, x):
        return self.scores(torch.cat([layer(x) for layer in self.layers], 1).mean((2, 3)))


def test_no_more_is_joined_at_once_than_the_interpreter_takes():
    joins = [op for op in trace(Wide(), (3, 4, 4)).graph.ops if op.kind is Kind.CONCAT]
    assert [len(op.inputs) for op in joins] == [10, 10, 3]


def test_a_deep_network_without_normalisation_is_said_to_be_one():
    deep = [nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(12)]
    assert "none of its 12 layers is normalised" in trace(nn.Sequential(*deep), (3, 4, 4)).notes[0]
    assert trace(nn.Sequential(*deep, nn.BatchNorm2d(3)), (3, 4, 4)).notes == ()


def test_dropout_follows_the_mode_of_the_traced_network():
    for body in (lambda m, x: F.dropout(x, 0.5, training=m.training), lambda m, x: F.dropout(x, 0.5)):
        network = trace(Net(body).train(), SHAPE).module
        x = torch.randn(2, *SHAPE)
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))


def test_parameters_are_the_module_s_own_and_modes_stay():
    module = Net(lambda m, x: x).train()
    module.first[1].eval()
    network = trace(module, SHAPE).module
    own = {id(parameter) for parameter in module.parameters()}
    assert {id(parameter) for parameter in network.parameters()} == own
    assert network.get_submodule("first.0").weight is module.first[0].weight
    assert module.training
    assert not module.first[1].training


def test_slow_running_statistics_are_made_to_follow():
    module = stacked(nn.BatchNorm2d(8, momentum=0.0003), nn.BatchNorm2d(8, momentum=None), nn.BatchNorm2d(8))
    traced = trace(module, SHAPE)
    assert [n.momentum for n in traced.module.modules() if isinstance(n, nn.BatchNorm2d)] == [0.03, 0.1, 0.1]
    assert any("0.03" in note for note in traced.notes)


def test_signals_and_rows_are_taken():
    signal = nn.Sequential(
        nn.Conv1d(6, 8, 5, 2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.ConstantPad1d((4, 0), 0.0),
        nn.Conv1d(8, 8, 3, dilation=2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip
    traced = trace(signal, (6, 40))
    kinds = [op.kind for op in traced.graph.ops]
    assert kinds == [Kind.CONV, Kind.MAX_POOL, Kind.PAD, Kind.CONV, Kind.AVG_POOL, Kind.CONV]
    x = torch.randn(3, 6, 40)
    torch.testing.assert_close(FoldedNet(traced.graph, traced.module)(x), signal(x), atol=1e-5, rtol=1e-4)
    rows = nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)).eval()
    assert [op.kind for op in trace(rows, (20,)).graph.ops] == [Kind.CONV, Kind.CONV]
