import shutil
import subprocess

import numpy as np
import pytest
import torch

from mcu.errors import InputError
from mcu.firmware.cores import find_core
from mcu.firmware.flags import HOST_FLAGS
from mcu.firmware.front_end import CODE_TOLERANCE, FLOAT_TOLERANCE, InputCode, classify_in_qemu, write_front_end
from mcu.firmware.project import write_project
from mcu.firmware.toolchain import toolchain
from mcu.float_net import FloatNet
from mcu.front_end import Features, FrontEnd
from mcu.host_twin import HostTwin
from mcu.quantize import quantise
from mcu.trace import trace
from search_spaces.audio.features import features_of
from search_spaces.choices import NetworkChoice
from search_spaces.networks import build_network

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: apt-get install gcc")
needs_board = pytest.mark.skipif(toolchain().advice() is not None, reason=str(toolchain().advice()))

CODE = InputCode(mean=-0.5, std=7.5, scale=0.05, zero_point=3)
FRONT_ENDS = {
    "keywords": FrontEnd(),
    "8 kHz": FrontEnd(sample_rate=8000, samples=8000, window=320, stride=160, fft=512),
    "log-mel": FrontEnd(kind=Features.LOG_MEL, mels=20, samples=4000),
    "whole spectrum": FrontEnd(sample_rate=8000, samples=2000, window=64, stride=100, fft=64, mels=12, low_hz=0.0),
}
PROGRAM = """
#include "frontend.h"
#include <stdio.h>

static int16_t clip[FRONTEND_SAMPLES];
static float features[FRONTEND_VALUES];
static int8_t codes[FRONTEND_FRAMES * FRONTEND_VALUES];

int main(void)
{
    while (fread(clip, sizeof clip, 1, stdin) == 1) {
        for (int frame = 0; frame < FRONTEND_FRAMES; ++frame) {
            frontend_frame(&clip[frame * FRONTEND_STRIDE], features);
            (void)fwrite(features, sizeof features, 1, stdout);
        }
        frontend_run(clip, codes);
        (void)fwrite(codes, sizeof codes, 1, stdout);
    }
    return 0;
}
"""


def clips_of(front_end, count=6):
    """Noise from silent to clipping, a tone, and nothing at all."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(count - 2, front_end.samples)) * np.geomspace(1, 20_000, count - 2)[:, None]
    tone = 12_000 * np.sin(2 * np.pi * 440 * np.arange(front_end.samples) / front_end.sample_rate)
    return np.concatenate([noise, tone[None], np.zeros((1, front_end.samples))]).clip(-32768, 32767).astype(np.int16)


def run_on_host(front_end, clips, folder, code=CODE):
    """Features and codes of the C program for each clip."""
    write_front_end(front_end, code, folder)
    (folder / "program.c").write_text(PROGRAM)
    subprocess.run(["cc", *HOST_FLAGS, "frontend.c", "program.c", "-o", "program"], cwd=folder, check=True)
    output = subprocess.run(["./program"], cwd=folder, input=clips.tobytes(), capture_output=True, check=True).stdout
    size = front_end.frames * front_end.values
    rows = np.frombuffer(output, np.uint8).reshape(len(clips), 5 * size)
    return rows[:, : 4 * size].copy().view(np.float32), rows[:, 4 * size :].copy().view(np.int8)


@needs_cc
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_c_front_end_gives_the_features_of_training(tmp_path, name):
    front_end = FRONT_ENDS[name]
    clips = clips_of(front_end)
    found, codes = run_on_host(front_end, clips, tmp_path)
    wanted = features_of(clips, front_end).reshape(len(clips), -1)
    assert np.abs(found - wanted).max() <= FLOAT_TOLERANCE
    real = (wanted.astype(np.float64) - CODE.mean) / CODE.std / CODE.scale + CODE.zero_point
    exact = np.clip(np.rint(real), -128, 127)
    assert np.abs(codes - exact).max() <= CODE_TOLERANCE
    assert (codes != exact).mean() < 0.01


@needs_cc
def test_codes_are_clipped_at_both_ends(tmp_path):
    front_end = FRONT_ENDS["8 kHz"]
    steep = InputCode(mean=0.0, std=1.0, scale=0.001, zero_point=0)
    write_front_end(front_end, steep, tmp_path)
    (tmp_path / "program.c").write_text(
        '#include "frontend.h"\n#include <stdio.h>\nint main(void){'
        "float f[5] = {-9.0F, 9.0F, 0.1264F, -0.1276F, 0.0F};"
        'for (int i = 0; i < 5; ++i) { printf("%d ", frontend_code(f[i])); } return 0; }'
    )
    subprocess.run(["cc", *HOST_FLAGS, "frontend.c", "program.c", "-o", "program"], cwd=tmp_path, check=True)
    assert subprocess.check_output([tmp_path / "program"], text=True).split() == ["-128", "127", "126", "-128", "0"]


def test_a_scale_of_zero_is_refused(tmp_path):
    with pytest.raises(InputError, match="scale = 0"):
        write_front_end(FrontEnd(), InputCode(0.0, 1.0, 0.0, 0), tmp_path)


@needs_board
def test_a_board_labels_raw_clips_as_the_host_does(tmp_path):
    front_end = FRONT_ENDS["8 kHz"]
    clips = clips_of(front_end, 8)
    prepared = torch.from_numpy((features_of(clips, front_end) - CODE.mean) / CODE.std).float()
    module = build_network(NetworkChoice(name="ds-cnn", width=0.125), (1, 49, 10), 5, 0).eval()
    head = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        head.bias -= module(prepared).mean(0)  # so that the clips get different labels
    traced = trace(module, (1, 49, 10))
    network = FloatNet(traced.graph, traced.module)
    network.calibrate(prepared)
    model = quantise(network)
    source = model.tensors[model.input]
    write_project(model, tmp_path)
    _, codes = run_on_host(front_end, clips, tmp_path, InputCode(CODE.mean, CODE.std, source.scale, source.zero_point))
    run = classify_in_qemu(tmp_path, clips, find_core("cortex-m4f"))
    assert run.labels.tolist() == HostTwin(model).predict(codes.reshape(-1, 49, 10, 1)).tolist()
    assert len(set(run.labels.tolist())) > 1
    assert run.frontend_instructions > 1_000_000
    assert run.model_instructions > 100_000
    assert 0 < run.ram < 8192
    assert 2000 < run.flash < 16384
