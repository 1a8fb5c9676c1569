import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch

from mcu.devices import find_device
from mcu.errors import InputError
from mcu.firmware import build, write_project
from mcu.firmware.cores import find_core
from mcu.firmware.flags import HOST_FLAGS
from mcu.firmware.front_end import CODE_TOLERANCE, FLOAT_TOLERANCE, InputCode, write_front_end, write_sound_project
from mcu.firmware.front_end_run import classify_in_qemu, measure_front_end
from mcu.firmware.toolchain import toolchain
from mcu.front_end import Features, FrontEnd
from mcu.int8.calibration import calibrate
from mcu.int8.folded_net import FoldedNet
from mcu.int8.quantize import quantise
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.tracing.trace import trace
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
    "centred": FrontEnd(sample_rate=8000, samples=8000, window=320, stride=160, fft=512, centred=True),
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
    (folder / "on_host.c").write_text(PROGRAM)
    subprocess.run(["cc", *HOST_FLAGS, "frontend.c", "on_host.c", "-o", "program"], cwd=folder, check=True)
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
    by_frame = features_of(clips, replace(front_end, centred=False)).reshape(len(clips), -1)
    assert np.abs(found - by_frame).max() <= FLOAT_TOLERANCE
    real = (wanted.astype(np.float64) - CODE.mean) / CODE.std / CODE.scale + CODE.zero_point
    exact = np.clip(np.rint(real), -128, 127)
    assert np.abs(codes - exact).max() <= CODE_TOLERANCE
    assert (codes != exact).mean() < 0.01


@needs_cc
def test_codes_are_clipped_at_both_ends(tmp_path):
    front_end = FRONT_ENDS["8 kHz"]
    steep = InputCode(mean=0.0, std=1.0, scale=0.001, zero_point=0)
    write_front_end(front_end, steep, tmp_path)
    (tmp_path / "on_host.c").write_text(
        '#include "frontend.h"\n#include <stdio.h>\nint main(void){'
        "float f[5] = {-9.0F, 9.0F, 0.1264F, -0.1276F, 0.0F};"
        'for (int i = 0; i < 5; ++i) { printf("%d ", frontend_code(f[i])); } return 0; }'
    )
    subprocess.run(["cc", *HOST_FLAGS, "frontend.c", "on_host.c", "-o", "program"], cwd=tmp_path, check=True)
    assert subprocess.check_output([tmp_path / "program"], text=True).split() == ["-128", "127", "126", "-128", "0"]


def test_a_scale_of_zero_is_refused(tmp_path):
    with pytest.raises(InputError, match="scale = 0"):
        write_front_end(FrontEnd(), InputCode(0.0, 1.0, 0.0, 0), tmp_path)


def listening_model(front_end, clips):
    """A network for these features that gives the clips different labels."""
    prepared = torch.from_numpy((features_of(clips, front_end) - CODE.mean) / CODE.std).float()
    module = build_network(NetworkChoice(name="ds-cnn", width=0.125), (1, 49, 10), 5, 0).eval()
    head = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        head.bias -= module(prepared).mean(0)
    traced = trace(module, (1, 49, 10))
    network = FoldedNet(traced.graph, traced.module)
    calibrate(network, prepared)
    return quantise(network)


def code_of(model):
    source = model.tensors[model.input]
    return InputCode(CODE.mean, CODE.std, source.scale, source.zero_point)


@needs_board
def test_a_board_labels_raw_clips_as_the_host_does(tmp_path):
    front_end = FRONT_ENDS["8 kHz"]
    clips = clips_of(front_end, 8)
    model = listening_model(front_end, clips)
    write_sound_project(model, front_end, (CODE.mean, CODE.std), tmp_path)
    _, codes = run_on_host(front_end, clips, tmp_path, code_of(model))
    run = classify_in_qemu(tmp_path, clips, find_core("cortex-m4f"))
    assert run.labels.tolist() == ReferenceInterpreter(model).predict(codes.reshape(-1, 49, 10, 1)).tolist()
    assert len(set(run.labels.tolist())) > 1
    assert run.frontend_instructions > 1_000_000
    assert run.model_instructions > 100_000


STREAM = """
#include "frontend.h"
#include <stdio.h>
#include <string.h>

static int16_t heard[FRONTEND_STEP], clip[FRONTEND_SAMPLES];
static int8_t pushed[FRONTEND_FRAMES * FRONTEND_VALUES], wanted[FRONTEND_FRAMES * FRONTEND_VALUES];

int main(void)
{
    const size_t used = (FRONTEND_FRAMES - 1) * FRONTEND_STRIDE + FRONTEND_WINDOW;
    const size_t size = sizeof pushed, fresh = FRONTEND_HOP * FRONTEND_VALUES;
    int steps = 0, wrong = 0;
    for (; fread(heard, sizeof heard, 1, stdin) == 1; ++steps) {
        for (size_t i = 0; i < FRONTEND_STEP; ++i) {
            (void)memmove(clip, &clip[1], (used - 1) * sizeof clip[0]);
            clip[used - 1] = heard[i];
        }
        (void)memmove(pushed, &pushed[fresh], size - fresh);
        frontend_push(heard, CENTRED ? pushed : &pushed[size - fresh]);
        frontend_run(clip, wanted);
        wrong += (steps >= FRONTEND_WARM_UP) && (memcmp(pushed, wanted, size) != 0);
    }
    (void)printf("%d %d", steps - FRONTEND_WARM_UP, wrong);
    return 0;
}
"""


@needs_cc
@pytest.mark.parametrize("name", ["8 kHz", "centred", "strides apart"])
def test_a_stream_has_the_codes_of_the_clip_that_ends_with_each_step(tmp_path, name):
    front_end = FRONT_ENDS.get(name) or FrontEnd(8000, 160 + 9 * 330 + 50, window=160, stride=330, fft=256)
    write_front_end(front_end, CODE, tmp_path, hop=3)
    (tmp_path / "on_host.c").write_text(STREAM)
    command = ["cc", *HOST_FLAGS, f"-DCENTRED={int(front_end.centred)}", "frontend.c", "on_host.c", "-o", "program"]
    subprocess.run(command, cwd=tmp_path, check=True)
    sound = clips_of(front_end, 12).ravel()[: 40 * 3 * front_end.stride]
    found = subprocess.run([tmp_path / "program"], input=sound.tobytes(), capture_output=True, check=True).stdout
    compared, wrong = map(int, found.split())
    assert wrong == 0
    assert compared >= 15


@needs_board
def test_a_board_hears_a_stream_as_it_hears_the_clip_that_ends_with_each_step(tmp_path):
    front_end = FRONT_ENDS["8 kHz"]
    model, core = listening_model(front_end, clips_of(front_end, 8)), find_core("cortex-m4f")
    step = 2 * front_end.stride
    sound = clips_of(front_end, 8)[2:6, : 8000 // 3].ravel()[: 30 * step]
    write_sound_project(model, front_end, (CODE.mean, CODE.std), tmp_path / "stream", hop=2)
    stream = classify_in_qemu(tmp_path / "stream", sound.reshape(-1, step), core)
    write_sound_project(model, front_end, (CODE.mean, CODE.std), tmp_path / "clips")
    clips = classify_in_qemu(tmp_path / "clips", sound[None], core, step=step)
    assert np.array_equal(stream.outputs[24:], clips.outputs)  # a clip of 49 frames ends with the 25th step
    assert len(np.unique(clips.outputs, axis=0)) > 3
    assert stream.frontend_instructions * 20 < clips.frontend_instructions
    assert stream.model_instructions * 2 < clips.model_instructions


@needs_board
def test_a_front_end_costs_more_where_floats_are_software():
    front_end = FRONT_ENDS["8 kHz"]
    hard, soft = (measure_front_end(front_end, find_core(name)) for name in ("cortex-m4f", "cortex-m0+"))
    assert 1_000_000 < hard.instructions < soft.instructions / 5
    assert 2000 < hard.flash < soft.flash < 16384
    assert hard.ram == soft.ram == 4 * (512 + 40 + 2)


@needs_board
def test_the_application_holds_front_end_and_network(tmp_path):
    front_end = FRONT_ENDS["8 kHz"]
    model = listening_model(front_end, clips_of(front_end, 8))
    write_project(model, tmp_path / "network")
    write_sound_project(model, front_end, (CODE.mean, CODE.std), tmp_path / "both")
    part = find_device("stm32f446re")
    network, both = build(tmp_path / "network", part), build(tmp_path / "both", part)
    cost = measure_front_end(front_end, find_core("cortex-m4f"))
    window = 2 * front_end.window
    assert both.ram_static - network.ram_static == cost.ram + window
    assert abs(both.flash - network.flash - cost.flash) < 400  # the application's own code differs


STUBS = """
#include "model.h"
#include <stdio.h>
#include <stdlib.h>

static int8_t codes[MODEL_INPUT_BYTES];

int8_t *model_input(void) { return codes; }
void model_run(void) { (void)fwrite(codes, sizeof codes, 1, stdout); }
const int8_t *model_output(void) { return codes; }
"""


@needs_cc
@pytest.mark.parametrize("name", ["8 kHz", "centred", "strides apart"])
def test_the_application_hears_the_sound_frame_by_frame_as_whole_clips(tmp_path, name):
    front_end = FRONT_ENDS.get(name, FRONT_ENDS["8 kHz"])
    if name == "strides apart":
        front_end = replace(front_end, samples=160 + 48 * 330, window=160, stride=330, fft=256)
    clips = clips_of(front_end, 8)
    model = listening_model(front_end, clips)
    write_sound_project(model, front_end, (CODE.mean, CODE.std), tmp_path)
    (tmp_path / "stubs.c").write_text(STUBS)
    program = (tmp_path / "main.c").read_text()
    read = "if (fread(&samples[i], sizeof samples[i], 1, stdin) != 1) { exit(0); }"
    heard = program.replace("samples[i] = 0;", read).replace(
        "#include <stdint.h>", "#include <stdio.h>\n#include <stdlib.h>"
    )
    assert heard.count("fread") == 1
    (tmp_path / "heard.c").write_text(heard)
    subprocess.run(["cc", *HOST_FLAGS, "frontend.c", "heard.c", "stubs.c", "-o", "heard"], cwd=tmp_path, check=True)
    sound = subprocess.run([tmp_path / "heard"], input=clips.tobytes(), capture_output=True, check=True).stdout
    _, codes = run_on_host(front_end, clips, tmp_path / "clips", code_of(model))
    assert np.array_equal(np.frombuffer(sound, np.int8).reshape(len(clips), -1), codes)


def test_a_network_for_other_features_is_refused(tmp_path):
    front_end = FRONT_ENDS["8 kHz"]
    model = listening_model(front_end, clips_of(front_end, 8))
    with pytest.raises(InputError, match=r"gives 49 x 20 features, the network takes \(49, 10, 1\)"):
        write_sound_project(model, replace(front_end, coefficients=20), (0.0, 1.0), tmp_path)
    with pytest.raises(InputError, match="hop = 49: must be 1 to 48 frames"):
        write_sound_project(model, front_end, (0.0, 1.0), tmp_path, hop=49)
