"""Any folder of class folders of sound."""

from __future__ import annotations

import numpy as np
import pytest

from mcu.errors import InputError
from mcu.front_end import Features
from search_spaces.choices import TaskChoice
from search_spaces.tasks import load_task

CLASSES = ("bark", "meow")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MCUSWEEP_CACHE", str(tmp_path / "cache"))


def sound(label: int, number: int, rate: int, seconds: float) -> np.ndarray:
    rng = np.random.default_rng([label, number])
    time = np.arange(int(rate * seconds)) / rate
    return 8000 * np.sin(2 * np.pi * (300 + 600 * label) * time) + rng.normal(0, 300, len(time))


@pytest.fixture
def recordings(tmp_path, write):
    """``recordings(split="", rate=..., ...)``: a folder with 20 recordings of each class by five speakers."""

    def make(*splits: str, rate=16_000, seconds=0.8, channels=1, noise=False, count=20):
        folder = tmp_path / "recordings"
        for at, split in enumerate(splits or ("",)):
            for label, name in enumerate(CLASSES):
                (folder / split / name).mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    samples = np.repeat(sound(label, 100 * at + number, rate, seconds), channels)
                    path = folder / split / name / f"{'abcde'[number % 5]}x_{number}.wav"
                    write["wav"](path, samples, rate, channels=channels)
        if noise:
            (folder / "_background_noise_").mkdir()
            hum = np.random.default_rng(0).normal(0, 2000, 16_000 * 9)
            write["wav"](folder / "_background_noise_" / "hum.wav", hum, 16_000)
            (folder / "_background_noise_" / "README.md").write_text("noise")
        return folder

    return make


def folder_task(folder, **options):
    return load_task(TaskChoice(name="audio-folder", data=str(folder), options=options))


def test_recordings_become_features_of_clips(recordings):
    task = folder_task(recordings())
    assert task.classes == CLASSES
    assert task.input_shape == (1, 49, 10)
    assert task.counts() == {"train": [14, 14], "val": [3, 3], "test": [3, 3]}
    assert task.front_end.kind is Features.MFCC
    assert task.notes == ("40 recordings of less than 1 s are padded with silence",)


@pytest.mark.parametrize("features", ["mfcc", "log_mel", "raw"])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2), (48_000, 1)])
def test_stereo_at_any_rate_just_works(recordings, rate, channels, features):
    task = folder_task(recordings(rate=rate, channels=channels, seconds=1.3, count=6), features=features, seconds=0.5)
    assert task.input_shape == {"mfcc": (1, 24, 10), "log_mel": (1, 24, 40), "raw": (1, 8000, 1)}[features]
    assert task.notes == (
        f"recorded 12 at {rate:,} samples a second: taken at 16,000",
        "12 recordings of more than 0.5 s are centre-cropped",
    )
    if features == "raw":
        assert task.front_end is None
        assert task.augment == "time_shift"
        pitch = np.abs(np.fft.rfft(task.x_test[task.y_test == 0][0, 0, :, 0])).argmax() * 16_000 / 8000
        assert pitch == pytest.approx(300, abs=4)


def test_the_front_end_is_as_the_options_say(recordings):
    given = {"mels": 20, "coefficients": 8, "window_ms": 32.0, "stride_ms": 16.0, "high_hz": 7600.0, "rate": 16_000}
    front_end = folder_task(recordings(), centred=True, **given).front_end
    assert (front_end.window, front_end.stride, front_end.fft) == (512, 256, 512)
    assert (front_end.mels, front_end.coefficients, front_end.high_hz, front_end.centred) == (20, 8, 7600.0, True)


def test_speakers_in_names_are_held_apart(recordings):
    task = folder_task(recordings(), speaker="([a-e])x_")
    assert len(set(task.groups_test)) == 1
    assert task.counts()["test"] == [4, 4]
    assert "5 speakers, found in the names of files" in task.notes


def test_speakers_of_a_table_are_held_apart(recordings):
    folder = recordings()
    rows = [f"{name}/{path.name},{path.name[0]}" for name in CLASSES for path in sorted((folder / name).iterdir())]
    (folder / "who.csv").write_text("file,speaker\n" + "\n".join(rows))
    named = folder_task(folder, speaker="([a-e])x_")
    assert np.array_equal(folder_task(folder, speakers="who.csv").groups_test, named.groups_test)
    (folder / "who.csv").write_text("file,speaker\n" + "\n".join(rows[1:]))
    with pytest.raises(InputError, match=r"who.csv: names no speaker of 'bark/ax_0.wav'"):
        folder_task(folder, speakers="who.csv")


def test_names_of_speech_commands_are_known(recordings):
    folder = recordings()
    for name in CLASSES:
        for path in sorted((folder / name).iterdir()):
            path.rename(path.with_name(f"{path.name[0]}_nohash_{path.stem[3:]}.wav"))
    assert len(set(folder_task(folder).groups_test)) == 1
    assert folder_task(folder, speaker="").groups_test is None


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("train", "test")])
def test_folders_of_splits_are_the_splits(recordings, splits):
    task = folder_task(recordings(*splits), speaker="([a-e])x_")
    assert task.counts()["test"] == [20, 20]
    assert sum(map(sum, task.counts().values())) == 40 * len(splits)
    assert task.groups_test is None
    assert "the folders of splits share speakers: accuracy is of known voices" in task.notes
    assert f"its folders {', '.join(splits)} are the splits" in task.notes


def test_background_noise_is_a_class_and_lies_under_copies(recordings):
    folder = recordings(noise=True)
    task = folder_task(folder, features="raw")
    assert task.classes == (*CLASSES, "_background_noise_")
    assert task.counts() == {"train": [28, 28, 28], "val": [3, 3, 3], "test": [3, 3, 3]}
    plain = folder_task(folder, features="raw", copies=1, noise_class=False)
    assert plain.classes == CLASSES
    assert plain.counts()["train"] == [14, 14]
    whole = {x.tobytes() for x in plain.x_train}
    assert whole < {x.tobytes() for x in task.x_train}
    copies = [x for x, label in zip(task.x_train, task.y_train, strict=True) if x.tobytes() not in whole and label < 2]
    originals = task.x_train[:28]
    snr = [10 * np.log10(np.square(x).sum() / np.square(y - x).sum()) for x, y in zip(originals, copies, strict=True)]
    assert min(snr) > -0.5
    assert max(snr) < 20.5


def test_no_moment_of_the_noise_is_in_two_splits(recordings):
    folder = recordings(noise=True)
    ramp = np.linspace(1, 9000, 16_000 * 9)
    from scipy.io import wavfile

    wavfile.write(folder / "_background_noise_" / "hum.wav", 16_000, ramp.astype(np.int16))
    task = folder_task(folder, features="raw", seconds=0.5, copies=1)
    for split, x, y in task.splits():
        steps = x[y == 2][:, 0, :, 0]
        third = ("train", "val", "test").index(split)
        level = steps[:, -1] / steps[:, 0]  # the ratio within a cut tells where it lies, whatever its loudness
        place = 0.5 / 9 / np.maximum(level - 1, 1e-9)
        assert (place < (third + 1) / 3 + 0.05).all(), split


def test_odd_files_are_left_out_counted_and_named(recordings):
    folder = recordings(seconds=1.0)
    (folder / "bark" / "notes.txt").write_text("two dogs")
    (folder / "bark" / "cut.wav").write_bytes((folder / "bark" / "ax_0.wav").read_bytes()[:500])
    (folder / "meow" / "empty.wav").write_bytes(b"")
    task = folder_task(folder)
    (note,) = task.notes
    assert note.startswith("left out 3 of 43 files: ")
    assert "1 is cut off (bark/cut.wav)" in note
    assert "(meow/empty.wav)" in note
    assert "1 .txt (bark/notes.txt)" in note
    with pytest.raises(InputError, match=r"2 of 42 recordings cannot be read.*share of 0.01"):
        folder_task(folder, most_broken=0.01)


def test_flac_and_ogg_are_read(recordings):
    soundfile = pytest.importorskip("soundfile")
    folder = recordings(seconds=1.0)
    for number in range(5):
        soundfile.write(folder / "bark" / f"more_{number}.flac", sound(0, 200 + number, 16_000, 1.0) / 32768, 16_000)
        soundfile.write(folder / "meow" / f"more_{number}.ogg", sound(1, 200 + number, 16_000, 1.0) / 32768, 16_000)
    task = folder_task(folder)
    assert sum(map(sum, task.counts().values())) == 50
    assert task.notes == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": "fbank"}, "features = 'fbank': must be one of mfcc, log_mel, raw"),
        ({"rate": 10}, "rate = 10: must be 1,000 to 192,000"),
        ({"seconds": 0.0}, "seconds = 0.0: must make 16 to 1,048,576 samples"),
        ({"seconds": 0.02}, "front end: samples = 320: must be at least window = 640"),
        ({"coefficients": 50}, "front end: coefficients = 50: must be 1 to 40"),
        ({"copies": -1}, "copies = -1: must be 0 to 100"),
        ({"speaker": "("}, r"speaker = '\(': is not a regular expression"),
        ({"speaker": "zz"}, "speaker = 'zz': matches no file name such as 'bark/ax_0.wav'"),
        ({"speaker": "(bark|meow)"}, "2 groups cannot make 3 splits"),
        ({"speakers": "gone.csv"}, "gone.csv: must be a CSV file with the columns file and speaker"),
        ({"most_broken": 2}, "most_broken = 2: must be 0 to less than 1"),
        ({"noise_class": "yes"}, "noise_class = 'yes': must be true or false"),
    ],
)
def test_options_that_cannot_be_are_refused(recordings, options, message):
    with pytest.raises(InputError, match=message) as caught:
        folder_task(recordings(count=6), **options)
    assert "\n" not in str(caught.value)


def test_a_class_without_recordings_is_refused_by_name(recordings):
    folder = recordings(count=4)
    (folder / "howl").mkdir()
    (folder / "howl" / "a.txt").write_text("")
    with pytest.raises(InputError, match=r"howl: holds none of the recordings among 1 files: 1 .txt"):
        folder_task(folder)
