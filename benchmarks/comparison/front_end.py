"""Raw clips of sound on an emulated Cortex-M4: C front end and int8 network against Python's.

    python benchmarks/comparison/front_end.py --task spoken-digits --data FOLDER [--artifacts DIR]
        [--output docs/results/comparison]
    python benchmarks/comparison/front_end.py --task audio-folder --data CLIPS --model MODEL.tflite

The model is ``--model``, or trained as in benchmarks/comparison/tasks.py, or taken from there when it lies in the
artifact folder. Of ``audio-folder`` every test clip is run, of the other tasks 100.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from tasks import BENCHES, cases

from mcu.devices import find_device
from mcu.firmware import build, core_of, write_project
from mcu.firmware.front_end import CODE_TOLERANCE, write_sound_project
from mcu.firmware.front_end_run import classify_in_qemu, measure_front_end
from mcu.int8.reference_interpreter import ReferenceInterpreter
from mcu.measure import model_input
from mcu.tflite.reader import read_tflite
from orchestrator.worker.trial import run_trial
from search_spaces.audio.features import features_of
from search_spaces.audio.keywords import default_plan, synthetic_clips
from search_spaces.audio.mixing import placed
from search_spaces.audio.sound_file import read_clip
from search_spaces.audio.spoken_digits import RATE, recordings
from search_spaces.choices import TaskChoice
from search_spaces.tasks import Task, load_task

DEVICE = "stm32f446re"
CLIPS = 100


def raw_test_clips(task: str, data: str | None, loaded: Task) -> tuple[np.ndarray, np.ndarray]:
    """Clips of the test split, int16, and their labels: 100 spread over it, or all of a folder's."""
    if task == "audio-folder":
        raw = load_task(TaskChoice(name=task, data=data, options={"features": "raw"}))
        return np.round(raw.x_test.reshape(len(raw.x_test), -1) * 32_768).astype(np.int16), raw.y_test
    if task == "keywords-synthetic":
        files, labels = synthetic_clips(default_plan())["test"]
        clips = np.concatenate([np.load(file) for file in files])
    else:
        speaker = loaded.groups_test[0] if loaded.groups_test is not None else ""
        found = [(path, digit) for path, digit, name, _ in recordings(data) if name == speaker]
        clips = np.stack([placed(read_clip(path, RATE), RATE) for path, _ in found])
        labels = np.array([digit for _, digit in found])
    chosen = np.linspace(0, len(clips) - 1, CLIPS).astype(int)
    return clips[chosen], labels[chosen]


def trained_model(task: str, data: str | None, artifacts: Path, given: Path | None) -> bytes:
    """The given .tflite file, or that of the task's dense case."""
    if given is not None:
        return given.read_bytes()
    bench = next(bench for bench in BENCHES if bench.task == task)
    case = next(cases(bench, data))
    path = artifacts / case.data / case.spec.hash() / "model.tflite"
    if not path.is_file():
        run_trial(case.spec, artifacts / case.data, lambda report: True)
    return path.read_bytes()


def compare(task: str, data: str | None, artifacts: Path, scratch: Path, given: Path | None) -> dict[str, object]:
    """Label the clips both ways, and count what each part costs."""
    loaded = load_task(TaskChoice(name=task, data=data))
    assert loaded.front_end is not None
    model = read_tflite(trained_model(task, data, artifacts, given))
    clips, labels = raw_test_clips(task, data, loaded)
    features = features_of(clips, loaded.front_end)
    reference = ReferenceInterpreter(model)
    python = reference.predict(model_input(model, loaded.prepare(features)))
    (mean,), (std,) = loaded.normalise
    device = find_device(DEVICE)
    write_sound_project(model, loaded.front_end, (mean, std), scratch / "listening", name=task)
    runs = [  # an image of the board has room for so many clips
        classify_in_qemu(scratch / "listening", clips[start : start + CLIPS], core_of(device))
        for start in range(0, len(clips), CLIPS)
    ]
    board, labelled = runs[0], np.concatenate([run.labels for run in runs])
    cost = measure_front_end(loaded.front_end, core_of(device))
    write_project(model, scratch / "network", name=task)
    network = build(scratch / "network", device)
    return {
        "clips": len(clips),
        "same_labels": int((labelled == python).sum()),
        "right_python": int((python == labels).sum()),
        "right_board": int((labelled == labels).sum()),
        "frontend_instructions": board.frontend_instructions,
        "model_instructions": board.model_instructions,
        "frontend_flash": cost.flash,
        "frontend_ram": cost.ram,
        "model_flash": network.flash,
        "model_ram": network.ram,
        "device": DEVICE,
    }


def page(results: dict[str, dict[str, object]]) -> str:
    """What was found, as Markdown."""
    lines = [
        "# From samples to a label on an emulated Cortex-M4\n",
        "Raw 16-bit test clips go through the C front end and the int8 network in QEMU (mps2-an386, flags",
        f"of {DEVICE}), and through torch's features and the reference interpreter in Python. A code of the",
        f"network's input may differ by {CODE_TOLERANCE} where a feature lies on a rounding edge. Instructions are",
        "QEMU's, of one clip; they are not cycles. Flash and RAM of the network are those of the whole application",
        "without front end. Of `audio-folder`, 8 words of Speech Commands v0.01, every test clip was run, by speakers",
        "not heard in training; its model is `ds-cnn` pruned by `differentiable` to 20 KB of flash and 16 KB SRAM,",
        "in 24 epochs. Of the others 100 clips, through dense networks.\n",
        "    python benchmarks/comparison/front_end.py --task spoken-digits --data FOLDER",
        "    python benchmarks/comparison/front_end.py --task audio-folder --data FOLDER --model MODEL.tflite\n",
        "| task | same label | right in Python | right on the board | front end: instructions, flash, RAM | "
        "network: instructions, flash, RAM |",
        "|---|---|---|---|---|---|",
    ]
    for task, row in sorted(results.items()):
        parts = [", ".join(f"{row[f'{part}_{name}']:,}" for name in ("instructions", "flash", "ram")) for part in PARTS]
        rights = [f"{row[name]} of {row['clips']}" for name in ("same_labels", "right_python", "right_board")]
        lines.append(f"| `{task}` | " + " | ".join([*rights, *parts]) + " |")
    return "\n".join(lines) + "\n"


PARTS = ("frontend", "model")
TASKS = ("spoken-digits", "keywords-synthetic", "audio-folder")


def main() -> None:
    """Compare one task and write the page of all compared so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--task", choices=("spoken-digits", "keywords-synthetic", "audio-folder"), default="keywords-synthetic"
    )
    parser.add_argument("--data")
    parser.add_argument("--model", type=Path, help="a .tflite file for the task")
    parser.add_argument("--artifacts", type=Path, default=Path("mcusweep-artifacts/tasks"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/comparison"))
    arguments = parser.parse_args()
    store = arguments.output / "front_end.json"
    results = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
    scratch = arguments.artifacts / f"{arguments.task}-firmware"
    results[arguments.task] = compare(arguments.task, arguments.data, arguments.artifacts, scratch, arguments.model)
    arguments.output.mkdir(parents=True, exist_ok=True)
    store.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (arguments.output / "front_end.md").write_text(page(results), encoding="utf-8")
    print(page(results))


if __name__ == "__main__":
    main()
