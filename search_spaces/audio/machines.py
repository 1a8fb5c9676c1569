"""Machine sounds for anomaly detection: normal and abnormal recordings, synthesised or from the user's folder.

The features are those of MLPerf Tiny's anomaly detection (Koizumi et al., "ToyADMOS", WASPAA 2019; Banbury et al.,
arXiv 2106.07597): 128 log-mel bands of 64 ms frames every 32 ms, five consecutive frames form one sample of 640 values.
As there, a recording is as suspicious as its samples are on average.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mcu.errors import InputError
from mcu.front_end import Features, FrontEnd
from mcu.terms import TaskKind
from search_spaces.audio.features import features_of
from search_spaces.audio.sound_file import read_clip
from search_spaces.paths import user_path
from search_spaces.tasks.digest import Source
from search_spaces.tasks.task import Task, assemble

RATE = 16_000
RECIPE = "2"
FRAMES = 5
SECONDS = 2
MACHINES = 4
FAULTS = ("knock", "whine", "rattle")
FOLDERS = ("normal", "abnormal")


def front_end(samples: int) -> FrontEnd:
    """Log-mel features of a recording."""
    return FrontEnd(
        sample_rate=RATE, samples=samples, window=1024, stride=512, fft=1024, mels=128, low_hz=20.0,
        high_hz=RATE / 2, coefficients=10, kind=Features.LOG_MEL,
    )  # fmt: skip


def machine_sound(clips: int = 240, seed: int = 0) -> Task:
    """Synthesised recordings of machines: training has normal ones only, a third of validation and test are faulty.

    Args:
        clips: recordings of the training split, of two seconds each; validation and test have a third of them each.
        seed: of the random generator.

    Raises:
        InputError: for numbers that are not allowed.
    """
    for name, value, least in (("clips", clips, 12), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 100_000:
            raise InputError(f"task 'machine-sound': {name} = {value!r}: must be {least} to 100,000")
    rng = np.random.default_rng([seed, 640])
    splits = {}
    for split, count in (("train", clips), ("val", clips // 3), ("test", clips // 3)):
        faulty = np.zeros(count, np.int64)
        if split != "train":
            faulty[: max(1, count // 3)] = 1
        recordings = [recording(rng, index % MACHINES, bool(fault)) for index, fault in enumerate(faulty)]
        splits[split] = (recordings, faulty)
    return _task("machine-sound", splits, "made by mcusweep", "Apache-2.0")


def machine_sound_source(**_: object) -> Source:
    """What :func:`machine_sound` reads: nothing."""
    return Source(RECIPE, ())


def anomaly_folder(data: str | None = None, seed: int = 0) -> Task:
    """Recordings in the folders ``normal`` and ``abnormal``, brought to 16 kHz and one channel.

    Training gets 70 % of the normal ones; the rest and the abnormal ones are split equally into validation and test.

    Raises:
        InputError: for missing or unsuitable recordings, each by name.
    """
    files = _files(data)
    rng = np.random.default_rng([seed, 641])
    normal, abnormal = ([files[name][index] for index in rng.permutation(len(files[name]))] for name in FOLDERS)
    heard = round(0.7 * len(normal))
    rest = normal[heard:]
    parts = {
        "train": (normal[:heard], []),
        "val": (rest[::2], abnormal[::2]),
        "test": (rest[1::2], abnormal[1::2]),
    }
    splits = {}
    for split, (good, bad) in parts.items():
        labels = np.array([0] * len(good) + [1] * len(bad), np.int64)
        splits[split] = ([read_clip(path, RATE) for path in (*good, *bad)], labels)
    return _task("anomaly-folder", splits, f"the user's recordings, {user_path(str(data)).name}", "")


def anomaly_folder_source(data: str | None = None, **_: object) -> Source:
    """What :func:`anomaly_folder` reads."""
    return Source(RECIPE, tuple(path for name in FOLDERS for path in _files(data)[name]))


def _files(data: str | None) -> dict[str, list[Path]]:
    if data is None:
        raise InputError("task 'anomaly-folder': task.data is missing: a folder with the folders normal and abnormal")
    folder = user_path(data)
    files = {name: sorted((folder / name).glob("*.wav")) for name in FOLDERS}
    for name, least in (("normal", 10), ("abnormal", 2)):
        if len(files[name]) < least:
            raise InputError(
                f"task 'anomaly-folder': {folder / name} holds {len(files[name])} .wav files, needs at least {least}"
            )
    return files


def recording(rng: np.random.Generator, machine: int, faulty: bool) -> np.ndarray:
    """Two seconds of a machine, int16: harmonics of its speed, its fan's noise, and perhaps a fault."""
    time = np.arange(SECONDS * RATE) / RATE
    speed = (45.0 + 17.0 * machine) * np.exp(rng.normal(0, 0.01))
    sound = np.zeros_like(time)
    for order in range(1, 12):
        strength = np.exp(-0.25 * order + 0.3 * np.cos(order * (machine + 1))) * np.exp(rng.normal(0, 0.05))
        sound += strength * np.sin(2 * np.pi * (order * speed * time + rng.random()))
    fan = rng.normal(size=len(time))
    fan = np.convolve(fan, np.hanning(8 + 6 * machine) / 4, mode="same")
    sound += 0.6 * fan
    if faulty:
        sound += _fault(rng, str(rng.choice(FAULTS)), time, speed)
    sound *= 0.1 * np.exp(rng.normal(0, 0.1)) / np.sqrt(np.mean(sound**2))
    return (np.clip(sound, -1, 1) * 32767).astype(np.int16)


def _fault(rng: np.random.Generator, kind: str, time: np.ndarray, speed: float) -> np.ndarray:
    strength = np.exp(rng.normal(0, 0.3))
    if kind == "whine":
        return np.asarray(0.7 * strength * np.sin(2 * np.pi * rng.uniform(2500, 5000) * time))
    beat = (time * speed / (4 if kind == "knock" else 1)) % 1.0
    rung = np.sin(2 * np.pi * (1800 if kind == "knock" else 4200) * time)
    return np.asarray(2.5 * strength * np.exp(-(14 if kind == "knock" else 6) * beat) * rung)


def _task(name: str, splits: dict[str, tuple[list[np.ndarray], np.ndarray]], citation: str, licence: str) -> Task:
    found, groups = {}, np.zeros(0, str)
    for split, (recordings, labels) in splits.items():
        windows, labelled, clips = [], [], []
        for index, (sound, label) in enumerate(zip(recordings, labels, strict=True)):
            if len(sound) < 1024 + (FRAMES - 1) * 512:
                raise InputError(f"task {name!r}: a recording has {len(sound):,} samples, needs at least 3,072")
            frames = features_of(sound[None], front_end(len(sound)))[0, 0]
            starts = range(0, len(frames) - FRAMES + 1, FRAMES)
            windows += [frames[start : start + FRAMES] for start in starts]
            labelled += [(label, index)] * len(starts)
            clips += [f"{split} {index}"] * len(starts)
        samples = np.stack(windows)[:, None].astype(np.float32)
        found[split] = (samples, np.asarray(labelled, np.int64))
        groups = np.array(clips) if split == "test" else groups
    return assemble(
        name, found, ("normal", "abnormal"), groups_test=groups, citation=citation, licence=licence,
        kind=TaskKind.RECONSTRUCTION,
    )  # fmt: skip
