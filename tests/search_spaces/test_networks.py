import inspect
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mcu.budget import Budget
from mcu.errors import InputError
from mcu.resource_model import ResourceModel
from mcu.tracing.trace import trace
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network, check_network, describe_network, network_names, registry
from search_spaces.networks.layers import conv_bn, same_padding, scaled

SHAPES = {"tiny-cnn1d": (6, 100, 1)}
SCORED = [name for name in registry.BUILT_IN if name != "grid-cnn"]  # whose scores are one row


def build(name, shape=(1, 28, 28), classes=10, seed=0, **choice):
    cells = (-(-shape[1] // 8), -(-shape[2] // 8)) if name == "grid-cnn" else ()
    return build_network(NetworkChoice(name=name, **choice), shape, classes, seed, cells)


def count_macs(network, shape):
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        total += layer.weight.numel() * (output.shape[2] * output.shape[3] if output.ndim == 4 else 1)

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    network.eval()(torch.zeros(1, *shape))
    return total


@pytest.mark.parametrize(
    ("name", "width", "shape", "classes", "macs"),
    [
        ("resnet8", 1.0, (3, 32, 32), 10, 12_501_632),
        ("ds-cnn", 1.0, (1, 49, 10), 12, 2_656_768),
        ("mobilenet-v1", 0.25, (3, 96, 96), 2, 7_489_664),
    ],
)
def test_macs_equal_those_of_mlperf_tiny(name, width, shape, classes, macs):
    assert count_macs(build(name, shape, classes, width=width), shape) == macs


def test_sizes_on_garments_are_the_known_ones():
    def parameters(network):
        return sum(weight.numel() for weight in network.parameters())

    assert count_macs(build("ds-cnn"), (1, 28, 28)) == 3_776_384
    assert parameters(build("ds-cnn")) == 21_066
    assert count_macs(build("plain-cnn"), (1, 28, 28)) == 20_491_584


@pytest.mark.parametrize(
    ("name", "shape", "classes", "width", "macs", "weights"),
    [  # arXiv 1711.07128, table 9: 19.8 and 56.9 MOps; arXiv 1904.03814, table 1: 3.0, 6.1 and 13.4 MFLOPs, 66 to 305 K
        ("ds-cnn-m", (1, 49, 10), 12, 1.0, 9_816_384, 136_580),
        ("ds-cnn-l", (1, 49, 10), 12, 1.0, 28_327_812, 413_736),
        ("tc-resnet8", (1, 98, 40), 12, 1.0, 1_522_560, 65_180),
        ("tc-resnet14", (1, 98, 40), 12, 1.0, 3_030_528, 135_868),
        ("tc-resnet14", (1, 98, 40), 12, 1.5, 6_677_136, 303_012),
    ],
)
def test_keyword_networks_have_the_published_sizes(name, shape, classes, width, macs, weights):
    network = build(name, shape, classes, width=width)
    assert count_macs(network, shape) == macs
    assert sum(weight.numel() for weight in network.parameters()) == weights


def test_tc_resnet_convolves_along_time_over_all_features():
    network = build("tc-resnet8", (1, 98, 40), 12).eval()
    signal = torch.nn.Conv1d(40, 16, 3, padding=1, bias=False)
    signal.weight.data = network.stem.conv.weight.data[:, 0].transpose(1, 2)
    x = torch.randn(2, 1, 98, 40)
    assert torch.allclose(network.stem.conv(x)[..., 0], signal(x[:, 0].transpose(1, 2)), atol=1e-4)


def test_the_micro_network_fits_the_corner_it_was_searched_for():
    model = ResourceModel(trace(build("micro-cnn", (3, 32, 32)), (3, 32, 32)).graph)
    used = model.exact(model.dense_widths)
    assert Budget(flash=10 * 1024, sram=15_400, macs=384_000).admits(used)
    assert used.flash > 8_000


def test_mobilenet_keeps_more_positions_on_32_pixels_where_asked():
    shape = (3, 32, 32)
    usual, early = (build("mobilenet-v2", shape, options={"early_stride": stride}) for stride in (2, 1))
    assert [count_macs(network, shape) for network in (usual, early)] == [24_461_312, 87_976_448]
    assert [network[:-3](torch.zeros(2, *shape)).shape[2:] for network in (usual, early)] == [(2, 2), (4, 4)]


@pytest.mark.parametrize("name", SCORED)
def test_every_network_traces_and_scores_odd_and_even_inputs(name):
    shapes = [SHAPES.get(name, (1, 28, 28)), (2, 33, 17), (3, 16, 16)]
    for shape in shapes:
        network = build(name, shape, classes=3, width=0.25)
        torch.fx.symbolic_trace(network)
        assert network.training
        assert network(torch.zeros(2, *shape)).shape == (2, 3)
        assert not any(getattr(layer, "inplace", False) for layer in network.modules())


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_width_multiplies_the_cost(name):
    shape = SHAPES.get(name, (1, 28, 28))
    narrow, wide = (count_macs(build(name, shape, width=width), shape) for width in (0.5, 1.0))
    assert 0.2 * wide < narrow < 0.5 * wide


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = build("resnet8"), build("resnet8"), build("resnet8", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    weights = [network.state_dict()["stem.conv.weight"] for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 3))
def test_padding_is_tensorflows_same(size, kernel, stride):
    layer = conv_bn(1, 1, (size, size), kernel, stride).eval()
    assert layer(torch.zeros(1, 1, size, size)).shape[-1] == -(-size // stride)
    before, after = same_padding(size, kernel, stride)
    assert before <= after <= before + 1


def test_stride_two_on_an_even_size_pads_below_and_right_only():
    layer = conv_bn(1, 4, (28, 28), 3, 2)
    assert layer.pad.padding == (0, 1, 0, 1)
    assert layer.conv.padding == (0, 0)
    assert not hasattr(conv_bn(1, 4, (27, 27), 3, 2), "pad")


def test_channels_never_fall_below_four():
    assert [scaled(16, 0.01), scaled(16, 0.5), scaled(24, 1 / 3)] == [4, 8, 8]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "resnet9"}, "did you mean resnet8"),
        ({"name": "zzz"}, "allowed are resnet8"),
        ({"name": "resnet8", "options": {"depth": 3}}, "no option 'depth': its options are channels"),
        ({"name": "a b:c"}, "package.module:factory"),
        ({"name": "module:"}, "package.module:factory"),
    ],
)
def test_unknown_names_and_options_are_refused(choice, message):
    with pytest.raises(InputError, match=message):
        check_network(NetworkChoice(**choice))


def test_options_reach_the_network():
    assert build("resnet8", options={"channels": 8}).head.in_features == 32


FACTORY = """
from torch import nn
import torch

def good(input_shape, classes, hidden=4):
    return nn.Sequential(nn.Conv2d(input_shape[0], hidden, 3), nn.Flatten(), nn.LazyLinear(classes))

def bare():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

def anything(**given):
    assert given["width"] == 0.5
    return nn.Sequential(nn.Flatten(), nn.Linear(784, given["classes"]))

def wrong_scores(classes): return nn.Sequential(nn.Flatten(), nn.Linear(784, classes + 1))
def wrong_input(classes): return nn.Linear(3, classes)
def no_module(): return 3
def raises(): raise RuntimeError("two\\nlines")
def wants(teacher): return None
constant = 3
"""


@pytest.fixture
def beside(tmp_path):
    (tmp_path / "nets_beside.py").write_text(FACTORY)
    return str(tmp_path)


@pytest.mark.parametrize("factory", ["good", "bare", "anything"])
def test_a_users_factory_is_given_what_it_takes(beside, factory):
    path = list(sys.path)
    network = build(f"nets_beside:{factory}", base=beside, width=0.5)
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert sys.path == path


def test_a_users_factory_takes_options(beside):
    assert build("nets_beside:good", base=beside, options={"hidden": 7})[0].out_channels == 7
    with pytest.raises(InputError, match=r"no option 'depth': its options are hidden"):
        build("nets_beside:good", base=beside, options={"depth": 7})


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nets_beside:wrong_scores", r"two inputs gave \(2, 11\), must be logits of shape \(2, 10\)"),
        ("nets_beside:wrong_input", r"fails on an input of shape \(1, 28, 28\)"),
        ("nets_beside:no_module", "returned int, must be a torch.nn.Module"),
        ("nets_beside:raises", r"raised RuntimeError: two lines \(.*nets_beside.py, line \d+\)"),
        ("nets_beside:wants", "needs 'teacher'"),
        ("nets_beside:constant", "is a int, must be a function"),
        ("nets_beside:missing", "has no 'missing'"),
        ("nets_elsewhere:good", "no module 'nets_elsewhere'"),
        ("torch.nothing:good", "no module 'torch.nothing'"),
    ],
)
def test_a_users_mistake_is_one_line(beside, factory, message):
    with pytest.raises(InputError, match=message) as caught:
        build(factory, base=beside)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_to_import_says_where(tmp_path):
    (tmp_path / "nets_broken.py").write_text("import not_there_at_all\n")
    with pytest.raises(InputError, match=r"importing it raised ModuleNotFoundError.*nets_broken.py, line 1"):
        build("nets_broken:x", base=str(tmp_path))
    (tmp_path / "nets_syntax.py").write_text("def x(:\n")
    with pytest.raises(InputError, match="importing it raised SyntaxError"):
        build("nets_syntax:x", base=str(tmp_path))


def test_two_folders_may_each_have_a_module_of_the_same_name(tmp_path):
    for name, hidden in (("one", 5), ("two", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nets_same.py").write_text(FACTORY.replace("hidden=4", f"hidden={hidden}"))
    widths = [build("nets_same:good", base=str(tmp_path / name))[0].out_channels for name in ("one", "two", "one")]
    assert widths == [5, 6, 5]


def test_a_package_beside_the_sweep_file_may_import_its_own_modules(tmp_path):
    package = tmp_path / "nets_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(FACTORY)
    (package / "whole.py").write_text("from nets_package.parts import good as network\n")
    assert isinstance(build("nets_package.whole:network", base=str(tmp_path)), nn.Module)


def test_an_entry_point_adds_a_network(monkeypatch):
    def factory(classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))

    entry = EntryPoint("plug", "somewhere:factory", registry.ENTRY_POINTS)
    monkeypatch.setattr(EntryPoint, "load", lambda self: factory)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    assert "plug" in network_names()
    assert "somewhere:factory" in describe_network("plug")["summary"]
    assert build("plug")[1].out_features == 10


def test_listing_networks_imports_no_torch():
    code = "import sys; from search_spaces.networks import *; [describe_network(n) for n in network_names()]"
    code += "; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_listed_options_are_those_of_the_factory(name):
    factory = registry._load(name)
    taken = set(inspect.signature(factory).parameters) - {"input_shape", "classes"}
    assert set(describe_network(name)["options"]) == taken


class Tcn(torch.nn.Module):
    """Causal, dilated convolutions over time with a shortcut, as in papers: no axis beside the time."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.first = torch.nn.Conv1d(channels, 8, 5, stride=2)
        self.norm = torch.nn.BatchNorm1d(8)
        self.second = torch.nn.Conv1d(8, 8, 3, dilation=2)
        self.scores = torch.nn.Linear(8, classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = torch.relu(self.second(torch.nn.functional.pad(x, (4, 0)))) + x
        return self.scores(torch.nn.functional.max_pool1d(x, 2).mean(-1))


def tcn(input_shape, classes):
    return Tcn(input_shape[0], classes)


def test_networks_of_one_dimension_take_recordings():
    from mcu.tracing.trace import trace
    from pruning.training.rehearsal import rehearse

    network = build_network(NetworkChoice(name=f"{__name__}:tcn"), (6, 50, 1), 4, seed=0)
    x = torch.randn(3, 6, 50, 1)
    assert network(x).shape == network(x[..., 0]).shape == (3, 4)
    traced = trace(network, (6, 50, 1))
    rehearse(traced, (6, 50, 1))
    assert [group.name for group in traced.graph.groups] == ["first"]
    torch.testing.assert_close(traced.module.eval()(x), network.eval()(x))
