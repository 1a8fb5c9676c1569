"""Firmware that hears a stream beside the same network run on whole windows, from samples of speech to outputs.

Run: python benchmarks/mcu/streaming.py docs/results/mcu/streaming.md [FOLDER]

FOLDER has word folders of recordings, such as Speech Commands; without it the sound is noise in bursts. Two minutes a
network.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from math import lcm
from pathlib import Path

import numpy as np
import torch

from mcu.cost.firmware_memory import plan_memory
from mcu.devices import find_device
from mcu.firmware import build, core_of, predict_firmware, predict_instructions, write_project
from mcu.firmware.front_end import write_sound_project
from mcu.firmware.front_end_run import FrontEndRun, classify_in_qemu
from mcu.firmware.project import stream_macs
from mcu.front_end import Features, FrontEnd
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.model import Int8Model
from mcu.int8.quantize import quantise
from mcu.tracing.trace import trace
from search_spaces.audio.features import features_of
from search_spaces.audio.sound_file import read_clip
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

DEVICE = find_device("stm32f446re")
RATE = 16_000
SECONDS = 12


@dataclass(frozen=True)
class Subject:
    """A network, its features and the hops, in frames; the whole window runs at every one of the shortest."""

    network: str
    front_end: FrontEnd
    hops: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.front_end.frames, self.front_end.values


FINE = FrontEnd(window=480, stride=160, fft=512, high_hz=8000.0, kind=Features.LOG_MEL)
SUBJECTS = (
    Subject("ds-cnn", FrontEnd(), (2, 4)),
    Subject("tc-resnet8", FINE, (2, 4, 8)),
    Subject("causal-cnn", FINE, (1, 2, 8)),
)


def sound_of(folder: Path | None) -> np.ndarray:
    """Recorded words one after another, or bursts of noise; int16 at ``RATE``."""
    rng = np.random.default_rng(0)
    if folder is None:
        loud = np.repeat(np.geomspace(1, 20_000, 40)[rng.permutation(40)], SECONDS * RATE // 40)
        return (rng.normal(size=SECONDS * RATE) * loud[: SECONDS * RATE]).clip(-32768, 32767).astype(np.int16)
    files = sorted(path for path in folder.glob("*/*") if path.suffix in {".wav", ".flac"})
    chosen = rng.choice(len(files), 2 * SECONDS, replace=False)
    return np.concatenate([read_clip(files[index], RATE) for index in chosen])[: SECONDS * RATE]


def model_of(subject: Subject, sound: np.ndarray) -> tuple[Int8Model, tuple[float, float]]:
    """The network with random weights in int8, calibrated on the sound, and the normalisation of its features."""
    front_end = subject.front_end
    starts = np.arange(0, len(sound) - front_end.samples + 1, RATE // 4)
    found = features_of(sound[starts[:, None] + np.arange(front_end.samples)], front_end)
    mean, std = float(found.mean()), float(found.std())
    inputs = torch.from_numpy((found - mean) / std).float()
    module = build_network(NetworkChoice(name=subject.network), subject.shape, 12, 0)
    with torch.no_grad():  # statistics of the normalisation, and outputs around zero: they differ from step to step
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None
        module(inputs)
        head = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1]
        head.bias.sub_(module.eval()(inputs).mean(0))
    traced = trace(module, subject.shape)
    network = FoldedNet(traced.graph, traced.module)
    calibrate(network, inputs)
    return quantise(network), (mean, std)


class Bench:
    """One network: its program on whole windows, and those on streams."""

    def __init__(self, subject: Subject, sound: np.ndarray, scratch: Path) -> None:
        self.subject, self.folder = subject, scratch / subject.network
        self.model, self.normalise = model_of(subject, sound)
        front_end, longest = subject.front_end, lcm(*subject.hops) * subject.front_end.stride
        self.sound = sound[: len(sound) // longest * longest]
        self.heard = (front_end.frames - 1) * front_end.stride + front_end.window
        write_sound_project(self.model, front_end, self.normalise, self.folder / "whole")

    @cached_property
    def whole(self) -> FrontEndRun:
        """The window that ends with every shortest hop of the recording."""
        step = self.subject.hops[0] * self.subject.front_end.stride
        return classify_in_qemu(
            self.folder / "whole", self.sound[None, (-self.heard) % step :], core_of(DEVICE), step=step
        )

    def row(self, hop: int) -> str:
        """The figures of one hop."""
        front_end, core = self.subject.front_end, core_of(DEVICE)
        step, folder = hop * front_end.stride, self.folder / f"hop{hop}"
        write_sound_project(self.model, front_end, self.normalise, folder, hop=hop)
        stream = classify_in_qemu(folder, self.sound.reshape(-1, step), core)
        first = -(-self.heard // (self.subject.hops[0] * front_end.stride))  # ends, in shortest hops
        ends = np.arange(first, first + len(self.whole.outputs)) * self.subject.hops[0]
        wanted = self.whole.outputs[ends % hop == 0]
        found = stream.outputs[-len(wanted) :]
        equal = int((found == wanted).sum())
        whole, streaming = build(self.folder / "whole", DEVICE), build(folder, DEVICE)
        write_project(self.model, folder / "alone", hop=hop)
        plan = plan_memory(self.model, hop=hop)
        alone, predicted = build(folder / "alone", DEVICE), predict_firmware(self.model, core.name, plan)
        errors = (
            predicted.flash / alone.flash - 1,
            predicted.ram / alone.ram - 1,
            predict_instructions(self.model, core, plan) / stream.model_instructions - 1,
        )
        once = self.whole.frontend_instructions + self.whole.model_instructions
        each = stream.frontend_instructions + stream.model_instructions
        seconds = step / RATE
        print(self.subject.network, hop, equal, wanted.size, errors, file=sys.stderr, flush=True)
        return (
            f"| {self.subject.network} | {hop} | {seconds * 1000:.0f} | {equal:,} of {wanted.size:,} "
            f"({len(wanted)} steps, {len(np.unique(wanted, axis=0))} different) "
            f"| {self.model.macs():,} | {stream_macs(self.model, hop):,} "
            f"| {self.whole.frontend_instructions:,} + {self.whole.model_instructions:,} "
            f"| {stream.frontend_instructions:,} + {stream.model_instructions:,} | {each / once:.3f} "
            f"| {once / seconds / 1e6:.1f} | {each / seconds / 1e6:.1f} "
            f"| {whole.ram:,} | {streaming.ram:,} | {streaming.flash - whole.flash:+,} "
            f"| {', '.join(f'{error:+.2%}' for error in errors)} |"
        )


def page(rows: list[str], source: str) -> str:
    """What was found, as Markdown."""
    lines = [
        "# Streams",
        "",
        "Command: `python benchmarks/mcu/streaming.py docs/results/mcu/streaming.md FOLDER`",
        "",
        f"{SECONDS} s of {source}, sample by sample through the C front end and the int8 network on an",
        f"emulated Cortex-M4 (QEMU, flags of {DEVICE.name}): once as whole windows that end with every hop, and once",
        "as a stream that is given the samples of the hop. Every output code of every step is compared.",
        "Random weights,",
        "calibrated on the sound, 12 classes; instructions and bytes do not depend on training. `ds-cnn` has 49 frames",
        "of 10 MFCC (40 ms every 20 ms), the others 98 frames of 40 log-mel features (30 ms every 10 ms). Instructions",
        "are QEMU's, front end + network, of one result; M/s are millions a second of sound with a",
        "result at every hop.",
        "RAM is that of the linked application: variables and stack. The last column is how far `predict_firmware` and",
        "`predict_instructions` are off for the network alone: flash, RAM, instructions.",
        "",
        "| network | hop, frames | ms | equal output codes | MACs, whole | step | instructions, whole window | step "
        "| ratio | M/s, whole | stream | RAM, whole | stream | flash | predicted |",
        "|" + "---|" * 15,
        *rows,
        "",
        "What limits it: a row next to zero padding at either end of the window has another value in every step, and",
        "is computed again. Layers deeper in a network with SAME padding have more of them (`ds-cnn`: 14 of 25 rows in",
        "the last one); in `tc-resnet8`, with kernels of 9 and strides, the last block has no others. A layer whose",
        "stride does not divide the rows by which its input moves keeps none, so that longer hops can cost less a",
        "second. The average over the whole window at the end needs all rows of its input: they are kept, in RAM. A",
        "causal network that reads its last step has no padding in what it reads: one row of each layer",
        "a frame, and of",
        "each layer only the rows that the next one looks back at.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    sound = sound_of(folder)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for subject in SUBJECTS:
            bench = Bench(subject, sound, Path(scratch))
            rows += [bench.row(hop) for hop in subject.hops]
    source = "noise in bursts" if folder is None else "recorded words one after another (Speech Commands, 8 words)"
    text = page(rows, source)
    print(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
