"""Networks of papers on small devices, written as their authors or tutorials write them: forms for the zoo."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class M5(nn.Module):
    """Raw audio ``(1, L)``: Dai et al., "Very deep convolutional neural networks for raw waveforms", 2017."""

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        sizes = ((1, width, 80, 4), (width, width, 3, 1), (width, 2 * width, 3, 1), (2 * width, 2 * width, 3, 1))
        self.convs = nn.ModuleList(nn.Conv1d(inner, outer, k, stride) for inner, outer, k, stride in sizes)
        self.norms = nn.ModuleList(nn.BatchNorm1d(outer) for _, outer, _, _ in sizes)
        self.scores = nn.Linear(2 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool1d(F.relu(norm(conv(x))), 4)
        x = F.avg_pool1d(x, x.shape[-1]).permute(0, 2, 1)
        return F.log_softmax(self.scores(x), dim=2).squeeze(1)


class TCResNet(nn.Module):
    """Spectra ``(bands, T)`` as channels over time: Choi et al., "Temporal convolution", 2019."""

    def __init__(self, classes: int, bands: int = 40, widths: tuple[int, ...] = (16, 24, 32, 48)) -> None:
        super().__init__()
        self.first = nn.Conv1d(bands, widths[0], 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*(_TCBlock(a, b) for a, b in pairwise(widths)))
        self.scores = nn.Conv1d(widths[-1], classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(F.adaptive_avg_pool1d(self.blocks(self.first(x)), 1)).squeeze(-1)


class _TCBlock(nn.Module):
    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(inner, outer, 9, 2, 4, bias=False), nn.BatchNorm1d(outer), nn.ReLU(inplace=True),
            nn.Conv1d(outer, outer, 9, 1, 4, bias=False), nn.BatchNorm1d(outer),
        )  # fmt: skip
        self.skip = nn.Sequential(nn.Conv1d(inner, outer, 1, 2, bias=False), nn.BatchNorm1d(outer), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu_(self.body(x) + self.skip(x))


class TCN(nn.Module):
    """Signals ``(C, T)``: Bai et al., "Generic convolutional and recurrent networks", 2018."""

    def __init__(self, classes: int, channels: int = 9, widths: tuple[int, ...] = (24, 24, 32)) -> None:
        super().__init__()
        inner = (channels, *widths[:-1])
        self.blocks = nn.Sequential(*(_Causal(a, b, 2**k) for k, (a, b) in enumerate(zip(inner, widths, strict=True))))
        self.scores = nn.Linear(widths[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.blocks(x).mean(-1))


class _Causal(nn.Module):
    def __init__(self, inner: int, outer: int, dilation: int, kernel: int = 3) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.first = weight_norm(nn.Conv1d(inner, outer, kernel, dilation=dilation))
        self.second = weight_norm(nn.Conv1d(outer, outer, kernel, dilation=dilation))
        self.drop = nn.Dropout(0.1)
        self.skip = nn.Conv1d(inner, outer, 1) if inner != outer else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.drop(F.relu(self.first(F.pad(x, (self.reach, 0)))))
        y = self.drop(F.relu(self.second(F.pad(y, (self.reach, 0)))))
        return F.relu(y + (x if self.skip is None else self.skip(x)))


class BCResNet(nn.Module):
    """Spectrograms ``(1, bands, T)``, maps over time alone added: Kim et al., "Broadcasted residual learning", 2021."""

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 2 * width, 5, (2, 1), 2), nn.BatchNorm2d(2 * width), nn.ReLU(True))
        self.blocks = nn.Sequential(
            _Broadcast(2 * width, width), _Broadcast(width, width),
            _Broadcast(width, 2 * width, 2, 2), _Broadcast(2 * width, 2 * width, 1, 2),
        )  # fmt: skip
        self.scores = nn.Conv2d(2 * width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.first(x)).mean(2, keepdim=True)
        return self.scores(F.adaptive_avg_pool2d(x, (1, 1))).view(x.shape[0], -1)


class _Broadcast(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.same = inner == outer
        self.enter = nn.Identity() if self.same else nn.Sequential(
            nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(inplace=True)
        )  # fmt: skip
        self.bands = nn.Sequential(
            nn.Conv2d(outer, outer, (3, 1), (stride, 1), (1, 0), groups=outer, bias=False), nn.BatchNorm2d(outer)
        )
        self.time = nn.Sequential(
            nn.Conv2d(outer, outer, (1, 3), 1, (0, dilation), (1, dilation), outer, bias=False), nn.BatchNorm2d(outer),
            nn.SiLU(), nn.Conv2d(outer, outer, 1), nn.Dropout2d(0.1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spread = self.bands(self.enter(x))
        y = self.time(spread.mean(2, keepdim=True)) + spread
        return F.relu(x + y if self.same else y)


class EEGNet(nn.Module):
    """Electrodes over time ``(1, electrodes, T)``: Lawhern et al., 2018."""

    def __init__(
        self, classes: int, electrodes: int = 22, samples: int = 128, filters: int = 8, depth: int = 2
    ) -> None:
        super().__init__()
        wide = filters * depth
        self.features = nn.Sequential(
            nn.Conv2d(1, filters, (1, 64), padding="same", bias=False), nn.BatchNorm2d(filters),
            nn.Conv2d(filters, wide, (electrodes, 1), groups=filters, bias=False), nn.BatchNorm2d(wide), nn.ELU(),
            nn.AvgPool2d((1, 4)), nn.Dropout(0.25),
            nn.Conv2d(wide, wide, (1, 16), padding="same", groups=wide, bias=False),
            nn.Conv2d(wide, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ELU(),
            nn.AvgPool2d((1, 8)), nn.Dropout(0.25),
        )  # fmt: skip
        self.scores = nn.Linear(wide * (samples // 32), classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.features(x)
        return self.scores(x.view(x.size(0), -1))


class InceptionTime(nn.Module):
    """Time series ``(C, T)``: Fawaz et al., 2020; one residual group of three modules."""

    def __init__(self, classes: int, channels: int = 1, filters: int = 16) -> None:
        super().__init__()
        inner = (channels, 4 * filters, 4 * filters)
        self.modules_ = nn.ModuleList(_Inception(size, filters) for size in inner)
        self.skip = nn.Sequential(nn.Conv1d(channels, 4 * filters, 1, bias=False), nn.BatchNorm1d(4 * filters))
        self.scores = nn.Linear(4 * filters, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for module in self.modules_:
            y = module(y)
        return self.scores(F.relu(y + self.skip(x)).mean(dim=-1))


class _Inception(nn.Module):
    def __init__(self, inner: int, filters: int) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(inner, filters, 1, bias=False)
        kernels = (40, 20, 10)
        self.convs = nn.ModuleList(nn.Conv1d(filters, filters, k, padding="same", bias=False) for k in kernels)
        self.pooled = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(inner, filters, 1, bias=False))
        self.norm = nn.BatchNorm1d(4 * filters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bottleneck(x)
        return F.relu(self.norm(torch.cat([*(conv(y) for conv in self.convs), self.pooled(x)], dim=1)))


class MCUNet(nn.Module):
    """Inverted residuals of several kernels: Lin et al., 2020; the first stages of its searched network."""

    BLOCKS = ((1, 3, 8, 1), (6, 7, 16, 2), (3, 3, 16, 1), (5, 5, 24, 2), (4, 7, 24, 1), (5, 5, 40, 2), (4, 3, 40, 1))

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(inplace=True)]
        inner = 16
        for expansion, kernel, outer, stride in self.BLOCKS:
            layers.append(_Inverted(inner, outer, expansion, kernel, stride))
            inner = outer
        self.features = nn.Sequential(*layers)
        self.scores = nn.Linear(inner, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(self.features(x).mean(3).mean(2))


class _Inverted(nn.Module):
    def __init__(self, inner: int, outer: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide, half = inner * expansion, kernel // 2
        self.adds = stride == 1 and inner == outer
        self.body = nn.Sequential(
            nn.Conv2d(inner, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(True),
            nn.Conv2d(wide, wide, kernel, stride, half, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(True),
            nn.Conv2d(wide, outer, 1, bias=False), nn.BatchNorm2d(outer),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def micronet(classes: int) -> nn.Module:
    """MicroNet-KWS-S on ``(1, 49, 10)``: Banbury et al., "MicroNets", 2021; widths that were searched."""
    widths = (84, 112, 84, 84, 84, 196)
    layers: list[nn.Module] = [nn.Conv2d(1, widths[0], (10, 4), (2, 1), (4, 1)), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    for inner, outer in pairwise(widths):
        layers += [nn.Conv2d(inner, inner, 3, 1, 1, groups=inner), nn.BatchNorm2d(inner), nn.ReLU()]
        layers += [nn.Conv2d(inner, outer, 1), nn.BatchNorm2d(outer), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


class UNet(nn.Module):
    """A class for each pixel of ``(1, H, W)``: Ronneberger et al., 2015; two levels."""

    def __init__(self, classes: int, width: int = 8) -> None:
        super().__init__()
        self.down = nn.ModuleList([_twice(1, width), _twice(width, 2 * width)])
        self.bottom = _twice(2 * width, 4 * width)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in (2 * width, width))
        self.joined = nn.ModuleList(_twice(2 * w, w) for w in (2 * width, width))
        self.scores = nn.Conv2d(width, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for stage in self.down:
            kept.append(stage(x))
            x = F.max_pool2d(kept[-1], 2)
        x = self.bottom(x)
        for up, joined in zip(self.up, self.joined, strict=True):
            x = joined(torch.cat([kept.pop(), up(x)], dim=1))
        return self.scores(x)


def _twice(inner: int, outer: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU(inplace=True),
        nn.Conv2d(outer, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU(inplace=True),
    )  # fmt: skip


def autoencoder(features: int = 640) -> nn.Module:
    """The dense autoencoder of MLPerf Tiny on ``(640,)``: Banbury et al., 2021."""
    sizes = (features, 128, 128, 128, 128, 8, 128, 128, 128, 128)
    layers: list[nn.Module] = []
    for inner, outer in pairwise(sizes):
        layers += [nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], features))
