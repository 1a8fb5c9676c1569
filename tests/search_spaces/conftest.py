"""Small data sets in the layout of the real ones."""

import pickle
import shutil
import wave

import numpy as np
import pytest
from PIL import Image

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "bed", "cat")
installed = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


def write_wav(path, samples, rate, width=2, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, f"<i{width}" if width > 1 else "u1").tobytes())


def tone(frequency, seconds, rate, seed):
    rng = np.random.default_rng(seed)
    sound = np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate) + 0.1 * rng.normal(
        size=int(seconds * rate)
    )
    return (sound * 6000).astype(np.int16)


def write_digits(folder, speakers=("ann", "bob", "cy", "dee"), takes=12):
    folder.mkdir(exist_ok=True)
    for digit in range(10):
        for at, speaker in enumerate(speakers):
            for take in range(takes):
                sound = tone(200 + 150 * digit + 10 * at, 0.3 + 0.1 * at, 8000, [digit, at, take])
                write_wav(folder / f"{digit}_{speaker}_{take}.wav", sound, 8000)
    return folder


def write_commands(folder, takes=9):
    folder.mkdir(exist_ok=True)
    listed = {"validation_list.txt": [], "testing_list.txt": []}
    for at, word in enumerate(WORDS):
        (folder / word).mkdir()
        for take in range(takes):
            write_wav(folder / word / f"{take}.wav", tone(200 + 200 * at, 0.9, 16000, [at, take]), 16000)
            if take < 4:
                listed[sorted(listed)[take % 2]].append(f"{word}/{take}.wav")
    (folder / "_background_noise_").mkdir()
    write_wav(folder / "_background_noise_" / "hum.wav", tone(50, 12, 16000, 0), 16000)
    for name, lines in listed.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def write_recordings(folder, takes=12):
    for at, word in enumerate(("bark", "hiss", "meow")):
        (folder / word).mkdir(parents=True)
        for take in range(takes):
            write_wav(folder / word / f"{take}.wav", tone(200 + 300 * at, 0.9, 44_100, [at, take]), 44_100)
    return folder


def write_machines(folder, normal=12, abnormal=4):
    rng = np.random.default_rng(0)
    for name, count, hertz in (("normal", normal, 200), ("abnormal", abnormal, 900)):
        (folder / name).mkdir(parents=True)
        for take in range(count):
            hum = np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000) + 0.1 * rng.normal(size=16_000)
            write_wav(folder / name / f"{take}.wav", 12_000 * hum, 16_000)
    return folder


def write_table(path, people=6, rows=400):
    rng = np.random.default_rng(0)
    lines = ["time,ax,ay,az,person,label"]
    for person in range(people):
        for label, word in enumerate(("sit", "walk", "run")):
            waves = np.sin(np.arange(rows)[:, None] * (0.1 + 0.3 * label) + np.arange(3)) + rng.normal(
                0, 0.1, (rows, 3)
            )
            lines += [f"{at / 50},{x},{y},{z},p{person},{word}" for at, (x, y, z) in enumerate(waves)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_watch(folder, subjects=10):
    rng = np.random.default_rng(0)
    recordings, labels, people = [], [], []
    for subject in range(1, subjects + 1):
        for label in range(7):
            recordings.append(rng.normal(size=(150 + 50 * (label % 2), 6)) + label)
            labels.append(label)
            people.append(subject)
    table = {"X": recordings, "y": np.array(labels), "subject": np.array(people), "y_labels": list("abcdefg")}
    folder.mkdir(exist_ok=True)
    np.save(folder / "watch_dataset.npy", np.array(table, dtype=object), allow_pickle=True)
    return folder


def write_cifar(folder, rows, suffix=""):
    """The six batches, python (``suffix`` empty) or binary (``.bin``)."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 256, (rows, 3072), np.uint8)
        labels = np.arange(rows) % 10
        if suffix:
            content = np.concatenate([labels[:, None].astype(np.uint8), pixels], axis=1).tobytes()
        else:
            content = pickle.dumps({"data": pixels, "labels": labels.tolist(), "batch_label": name}, protocol=2)
        (folder / f"{name}{suffix}").write_bytes(content)
    return folder


def write_images(folder, count=20):
    rng = np.random.default_rng(0)
    for name in ("cup", "key", "pen"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def write():
    """The writers of this file by name."""
    return {
        "wav": write_wav,
        "digits": write_digits,
        "commands": write_commands,
        "recordings": write_recordings,
        "table": write_table,
        "machines": write_machines,
        "watch": write_watch,
        "cifar": write_cifar,
        "images": write_images,
    }
