"""Networks of timm and torchvision, traced, proven, rehearsed and, if asked, exported: docs/results/mcu/zoo.md.

In an environment of its own with timm and torchvision beside mcusweep's dependencies, from the repository's root:

    PYTHONPATH=. python benchmarks/mcu/zoo.py --output docs/results/mcu/zoo.md [--only NAME ...]

Weights are random: what is looked at is the way from torch to the interpreter, not accuracy.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mcu.cost.deployment import predict_deployment, write_deployment
from mcu.errors import InputError
from mcu.int8.folded_net import Calibration, FoldedNet
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import measure_model, model_input
from mcu.resource_model import ResourceModel
from mcu.tflite import tflm
from mcu.tracing.trace import Traced, trace
from pruning.engine.landing import smallest
from pruning.training.rehearsal import rehearse

CLASSES, SHAPE = 10, (3, 64, 64)
TORCHVISION = """
resnet18 resnet34 mobilenet_v2 mobilenet_v3_small mnasnet0_5 squeezenet1_1 shufflenet_v2_x0_5
efficientnet_b0 regnet_y_400mf densenet121 googlenet vgg11_bn
"""
TIMM = """
mobilenetv1_100 mobilenetv2_035 mobilenetv2_050 mobilenetv3_small_050 mobilenetv4_conv_small
mobilenet_edgetpu_v2_xs tinynet_e lcnet_035 fbnetc_100 fbnetv3_b ghostnet_050 repghostnet_050
repvgg_a0 mobileone_s0 tf_efficientnet_lite0 efficientnet_lite0 mixnet_s mnasnet_small semnasnet_075
spnasnet_100 hardcorenas_a rexnet_100 resnet10t resnet14t resnet18 resnetv2_50 test_resnet
test_efficientnet test_byobnet regnetx_002 regnety_002 resnext50_32x4d densenet121 dla34 vgg11_bn
hrnet_w18_small selecsls42b cspresnet50 darknet17 ese_vovnet19b_dw starnet_s1 repvit_m0_9
edgenext_xx_small convnext_atto test_convnext efficientvit_m0 fastvit_t8 mobilevit_xxs levit_128s
tiny_vit_5m_224 inception_next_atto mambaout_femto dm_nfnet_f0
"""


@dataclass(frozen=True)
class Row:
    """What became of a network."""

    name: str
    library: str
    operators: int = 0
    dense: str = ""
    least: str = ""
    exact: str = ""
    seconds: float = 0.0
    reason: str = ""


def from_timm(name: str) -> nn.Module:
    import timm

    return timm.create_model(name, num_classes=CLASSES, pretrained=False)


def from_torchvision(name: str) -> nn.Module:
    import torchvision

    more = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return getattr(torchvision.models, name)(num_classes=CLASSES, weights=None, **more)


def look_at(name: str, library: str, make: Callable[[str], nn.Module], shape: tuple[int, ...]) -> Row:
    """Trace, prove, rehearse, cost and export one network."""
    torch.manual_seed(0)
    started = time.process_time()
    try:
        traced = trace(make(name), shape)
        rehearse(traced, shape)
        seconds = time.process_time() - started
        model = ResourceModel(traced.graph)
        dense, least = model.exact(model.dense_widths), smallest(model)
        return Row(name, library, len(traced.graph.ops), _cost(dense), _cost(least), exported(traced, shape), seconds)
    except (InputError, RuntimeError) as error:
        return Row(name, library, reason=str(error))


def exported(traced: Traced, shape: tuple[int, ...]) -> str:
    """Whether the file has the predicted size and arena, and the interpreter computes what the reference does."""
    if not tflm.available():
        return "not measured"
    x = torch.randn(4, *shape)
    folded = FoldedNet(traced.graph, traced.module.eval())
    folded.calibrate(x, Calibration.MINMAX)
    model = quantise(folded)
    data, predicted = write_deployment(model), predict_deployment(model)
    measured = measure_model(data)
    codes = model_input(model, x.numpy())
    same = np.array_equal(ReferenceInterpreter(model).run(codes), tflm.run(data, codes))
    sizes = (predicted.flash, predicted.arena.total) == (measured.flash, measured.sram)
    return "bit-exact, sizes to the byte" if same and sizes else f"outputs {same}, sizes {sizes}"


def _cost(resources: object) -> str:
    flash, sram, macs = (getattr(resources, name) for name in ("flash", "sram", "macs"))
    return f"{flash / 1024:,.0f} KB, {sram / 1024:,.0f} KB, {macs / 1e6:,.2f} M"


def page(rows: list[Row]) -> str:
    passed = [row for row in rows if not row.reason]
    lines = [
        "# Networks of timm and torchvision",
        "",
        f"Made by `benchmarks/mcu/zoo.py`: {len(passed)} of {len(rows)} are accepted. Inputs of 3 x 64 x 64 (vgg11_bn",
        f"of torchvision: 32 x 32), {CLASSES} classes, random weights. Accepted means: traced, proven in double",
        "precision against the network, narrowed to three widths and compared again, trained for a step at two, in",
        "floating point and with int8 imitated. Costs are flash, SRAM and multiply-accumulates of the dense network",
        "and with one channel in every group. Seconds are of one core.",
        "",
        "| network | from | operators | dense | smallest | exported dense | s |",
        "| --- | --- | ---: | --- | --- | --- | ---: |",
    ]
    for row in passed:
        cells = (row.name, row.library, row.operators, row.dense, row.least, row.exact, f"{row.seconds:.0f}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", "## Refused", "", "| network | from | why |", "| --- | --- | --- |"]
    lines += [f"| {row.name} | {row.library} | {row.reason.replace('|', '/')} |" for row in rows if row.reason]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    wanted = [(name, "torchvision", from_torchvision) for name in TORCHVISION.split()]
    wanted += [(name, "timm", from_timm) for name in TIMM.split()]
    rows = []
    for name, library, make in wanted:
        if arguments.only and name not in arguments.only:
            continue
        shape = (3, 32, 32) if (name, library) == ("vgg11_bn", "torchvision") else SHAPE
        rows.append(look_at(name, library, make, shape))
        print(rows[-1], flush=True)
        if arguments.output:
            arguments.output.write_text(page(rows), "utf-8")


if __name__ == "__main__":
    main()
