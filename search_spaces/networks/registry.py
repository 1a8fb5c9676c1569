"""Networks by name: ours, entry points ``mcusweep.networks`` and ``module:factory``. Listing imports no torch."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from mcu.errors import InputError
from mcu.graph.ports import Shapes, shapes_of
from search_spaces.choices import NetworkChoice
from search_spaces.factories import call_factory, call_reference, check_reference, is_reference

if TYPE_CHECKING:
    from torch import nn

ENTRY_POINTS = "mcusweep.networks"
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class NetworkEntry:
    """A registered network: location of its factory, summary and options."""

    name: str
    factory: str
    summary: str
    citation: str
    options: tuple[str, ...] = ()


_CONVOLUTIONAL = "search_spaces.networks.convolutional"
_RESNET = "search_spaces.networks.resnet"
_TEMPORAL = "search_spaces.networks.temporal"
_MOBILENET = "search_spaces.networks.mobilenet"
_CONNECTED = "search_spaces.networks.fully_connected"
BUILT_IN = {
    entry.name: entry
    for entry in (
        NetworkEntry(
            "resnet8", f"{_RESNET}:resnet8", "3 residual blocks, the image network of MLPerf Tiny",
            "He et al., arXiv 1512.03385; Banbury et al., arXiv 2106.07597", ("channels",),
        ),
        NetworkEntry(
            "resnet20", f"{_RESNET}:resnet20", "9 residual blocks", "He et al., arXiv 1512.03385", ("channels",)
        ),
        NetworkEntry("ds-resnet", f"{_RESNET}:ds_resnet", "4 residual separable blocks: for 10 KB of flash", ""),
        NetworkEntry(
            "ds-cnn", f"{_CONVOLUTIONAL}:ds_cnn", "depthwise-separable, the keyword network of MLPerf Tiny",
            "Zhang et al., arXiv 1711.07128; Banbury et al., arXiv 2106.07597", ("channels", "blocks"),
        ),
        NetworkEntry(
            "ds-cnn-m", f"{_CONVOLUTIONAL}:ds_cnn_m", "depthwise-separable, medium: 172 channels, 4 blocks",
            "Zhang et al., arXiv 1711.07128", ("channels",),
        ),
        NetworkEntry(
            "ds-cnn-l", f"{_CONVOLUTIONAL}:ds_cnn_l", "depthwise-separable, large: 276 channels, 5 blocks",
            "Zhang et al., arXiv 1711.07128", ("channels",),
        ),
        NetworkEntry(
            "tc-resnet8", f"{_RESNET}:tc_resnet8", "3 residual blocks along time, for keywords",
            "Choi et al., arXiv 1904.03814", ("kernel",),
        ),
        NetworkEntry(
            "tc-resnet14", f"{_RESNET}:tc_resnet14", "6 residual blocks along time, for keywords",
            "Choi et al., arXiv 1904.03814", ("kernel",),
        ),
        NetworkEntry(
            "causal-cnn", f"{_TEMPORAL}:causal_cnn", "causal dilated separable blocks along time, for streams",
            "Bai et al., arXiv 1803.01271", ("channels", "kernel"),
        ),
        NetworkEntry("plain-cnn", f"{_CONVOLUTIONAL}:plain_cnn", "7 convolutions in a row", "", ("channels",)),
        NetworkEntry(
            "vgg-small", f"{_CONVOLUTIONAL}:vgg_small", "VGG-16 at half its channels: 13 convolutions, max pooling",
            "Simonyan & Zisserman, arXiv 1409.1556", ("channels",),
        ),
        NetworkEntry(
            "tiny-cnn", f"{_CONVOLUTIONAL}:tiny_cnn", "3 convolutions, the first at stride 4: for 8 KB of RAM",
            "", ("channels",),
        ),
        NetworkEntry(
            "micro-cnn", f"{_CONVOLUTIONAL}:micro_cnn", "2 convolutions, 3 separable blocks: for 10 KB of flash", ""
        ),
        NetworkEntry(
            "tiny-cnn1d", f"{_CONVOLUTIONAL}:tiny_cnn1d", "5 convolutions along time, for motion and other sequences",
            "", ("channels", "kernel"),
        ),
        NetworkEntry(
            "mobilenet-v1", f"{_MOBILENET}:mobilenet_v1", "13 depthwise-separable blocks; wake words at width 0.25",
            "Howard et al., arXiv 1704.04861",
        ),
        NetworkEntry(
            "mobilenet-v2", f"{_MOBILENET}:mobilenet_v2", "17 inverted residuals", "Sandler et al., arXiv 1801.04381",
            ("early_stride",),
        ),
        NetworkEntry(
            "dense-autoencoder", f"{_CONNECTED}:dense_autoencoder",
            "autoencoder with 9 dense layers, the anomaly detector of MLPerf Tiny",
            "Koizumi et al., WASPAA 2019; Banbury et al., arXiv 2106.07597", ("channels", "code", "depth"),
        ),
        NetworkEntry("mlp", f"{_CONNECTED}:mlp", "dense layers, for vectors", "", ("channels", "depth")),
        NetworkEntry(
            "grid-cnn", f"{_CONNECTED}:grid_cnn", "7 convolutions to a class for each cell of 8x8 pixels", "",
            ("channels",),
        ),
    )
}  # fmt: skip


def network_names() -> tuple[str, ...]:
    """Names of the built-in networks, then those of entry points."""
    return (*BUILT_IN, *sorted(_plugins().keys() - BUILT_IN.keys()))


def describe_network(name: str) -> dict[str, Any]:
    """Name, summary, citation and options of a network.

    Raises:
        InputError: for an unknown name.
    """
    check_network(NetworkChoice(name=name))
    if name in BUILT_IN:
        return asdict(BUILT_IN[name]) | {"options": ["width", *BUILT_IN[name].options]}
    plugin = _plugins().get(name)
    origin = f"entry point {plugin.value}" if plugin else "your own factory"
    return {"name": name, "factory": plugin.value if plugin else name, "summary": origin, "citation": "", "options": []}


def check_network(choice: NetworkChoice) -> None:
    """Refuse an unknown name or option without importing torch.

    Raises:
        InputError: naming what is allowed.
    """
    if is_reference(choice.name):
        check_reference(choice.name)
        return
    known = network_names()
    if choice.name not in known:
        close = get_close_matches(choice.name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(
            f"network {choice.name!r} is unknown: {hint}allowed are {', '.join(known)} or package.module:factory"
        )
    if choice.name in BUILT_IN:
        allowed = BUILT_IN[choice.name].options
        for key in choice.options.keys() - set(allowed):
            raise InputError(
                f"network {choice.name!r} has no option {key!r}: its options are {', '.join(allowed) or 'none'}"
            )


def build_network(
    choice: NetworkChoice,
    input_shape: Shapes,
    classes: int,
    seed: int,
    cells: tuple[int, ...] = (),
    *,
    several: bool = False,
) -> nn.Module:
    """The network in float32 on the CPU with weights drawn from ``seed``; torch's generator is not changed.

    Args:
        input_shape: channels, height, width; a network of 1-D layers is given ``(N, channels, samples)`` where the
            width is 1.
        classes: number of logits it must return.
        cells: rows and columns of the grid that it must return logits for, if any.
        several: whether it may have several inputs, whose shapes the factory is given as a tuple, and outputs, of any
            shape; a sweep's may not.

    Raises:
        InputError: for an unknown name or option, a factory that fails, or one whose result is not an
            ``nn.Module`` that maps a batch to logits ``(batch, classes)``.
    """
    import torch

    check_network(choice)
    offered = {"input_shape": tuple(input_shape), "classes": classes, "width": choice.width}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if is_reference(choice.name):
            network = call_reference(choice.name, choice.base, offered, choice.options)
        else:
            network = call_factory(_load(choice.name), choice.name, offered, choice.options)
        if not isinstance(network, torch.nn.Module):
            raise InputError(f"network {choice.name!r}: returned {type(network).__name__}, must be a torch.nn.Module")
        if choice.name in BUILT_IN:
            _initialise(network)
    if len(shapes_of(input_shape)) == 1:
        _check_scores(network, choice.name, shapes_of(input_shape)[0], (classes, *cells), several)
    return network.train()


def _load(name: str) -> Any:
    if name not in BUILT_IN:
        return _plugins()[name].load()
    module, _, attribute = BUILT_IN[name].factory.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _plugins() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def _initialise(network: nn.Module) -> None:
    from search_spaces.networks.layers import initialise

    initialise(network)


def _run(network: nn.Module, input_shape: tuple[int, ...]) -> Any:
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return network(torch.zeros(2, *input_shape))


_OWN_LOOP = "a sweep trains one input and one output: train several in your own loop, with mcusweep.Pruner"


def _takes_signals(network: nn.Module, input_shape: tuple[int, ...]) -> bool:
    """Whether a network wants ``(N, channels, samples)``, as 1-D layers do."""
    try:
        _run(network, input_shape[:2])
    except Exception:
        return False
    return True


def _as_signal(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A signal as 1-D layers take it, from the columns that samples are kept as."""
    return tuple(x.squeeze(3) if x.ndim == 4 and x.shape[3] == 1 else x for x in inputs)


def _check_scores(
    network: nn.Module, name: str, input_shape: tuple[int, ...], wanted: tuple[int, ...], several: bool
) -> None:
    """Run one batch of two zeros in evaluation mode; a wrong shape is found here, not after an hour."""
    import torch

    network.eval()
    try:
        scores = _run(network, input_shape)
    except Exception as error:
        if input_shape[2:] == (1,) and _takes_signals(network, input_shape):
            network.register_forward_pre_hook(_as_signal)
            _check_scores(network, name, input_shape, wanted, several)
            return
        text = " ".join(str(error).split())
        raise InputError(
            f"network {name!r}: fails on an input of shape {tuple(input_shape)}: {type(error).__name__}: {text}"
            + (f"; {_OWN_LOOP}" if "required positional argument" in text and not several else "")
        ) from error
    if several and not isinstance(scores, torch.Tensor):
        return
    if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != (2, *wanted):
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise InputError(
            f"network {name!r}: two inputs gave {got}, must be logits of shape {(2, *wanted)}"
            + ("" if isinstance(scores, torch.Tensor) else f"; {_OWN_LOOP}")
        )
