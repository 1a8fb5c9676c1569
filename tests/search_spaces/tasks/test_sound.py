import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mcu.errors import InputError
from mcu.front_end import FLOOR, Features, FrontEnd
from search_spaces.audio import mixing, synthesis, voices
from search_spaces.audio.features import features, features_of
from search_spaces.audio.sound_file import read_clip
from search_spaces.audio.speakers import official_split
from search_spaces.audio.spoken_digits import PLACES
from search_spaces.audio.voices import Voice, split_of
from search_spaces.choices import TaskChoice
from search_spaces.tasks import load_task, task_digest
from search_spaces.tasks.splits import sample_hashes

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed: apt-get install espeak-ng"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MCUSWEEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def clip(front_end, seed=0):
    return np.random.default_rng(seed).normal(size=(2, front_end.samples)).astype(np.float32) * 0.1


def features_in_numpy(clips, front_end):
    """The definition written out, in double precision and with no library but numpy."""
    edges = np.linspace(*(1127 * np.log1p(np.array([front_end.low_hz, front_end.high_hz]) / 700)), front_end.mels + 2)
    mel = 1127 * np.log1p(np.arange(front_end.fft // 2 + 1) * front_end.sample_rate / front_end.fft / 700)
    rows = []
    for sound in clips.astype(np.float64):
        for frame in range(front_end.frames):
            part = sound[frame * front_end.stride :][: front_end.window] * np.hanning(front_end.window + 1)[:-1]
            magnitude = np.abs(np.fft.fft(part, front_end.fft))[: front_end.fft // 2 + 1]
            energies = []
            for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
                weight = np.minimum((mel - low) / (middle - low), (high - mel) / (high - middle)).clip(0)
                energies.append(weight[1:] @ magnitude[1:])
            rows.append(np.log(np.array(energies) + FLOOR))
    logarithms = np.array(rows).reshape(len(clips), 1, front_end.frames, front_end.mels)
    if front_end.centred:
        logarithms = logarithms - logarithms.mean(2, keepdims=True)
    if front_end.kind is Features.LOG_MEL:
        return logarithms
    n = front_end.mels
    basis = [[np.cos(np.pi * k * (2 * m + 1) / (2 * n)) for k in range(front_end.coefficients)] for m in range(n)]
    return logarithms @ (np.array(basis) * np.sqrt(2 / n))


EIGHT_KHZ = FrontEnd(sample_rate=8000, samples=8000, window=320, stride=160, fft=512)


KINDS = (FrontEnd(), EIGHT_KHZ, FrontEnd(kind=Features.LOG_MEL, mels=20), FrontEnd(centred=True))


@pytest.mark.parametrize("front_end", KINDS)
def test_features_are_those_of_the_definition(front_end):
    found = features(torch.from_numpy(clip(front_end)), front_end).numpy()
    assert found.shape == (2, 1, 49, front_end.values)
    assert np.abs(found - features_in_numpy(clip(front_end), front_end)).max() < 1e-3


def test_a_tone_is_loudest_in_its_own_band():
    front_end = FrontEnd(kind=Features.LOG_MEL)
    sound = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    band = features(torch.from_numpy(sound[None]), front_end)[0, 0, 20].argmax()
    line = round(1000 / 16000 * 1024)
    assert front_end.mel_matrix()[line].argmax() == band


def test_silence_is_finite():
    assert features_of(np.zeros((1, 16000), np.int16), FrontEnd())[0, 0, 0, 0] == pytest.approx(
        np.log(FLOOR) * np.sqrt(2 / 40) * 40, rel=1e-5
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fft": 1000}, "fft = 1000: must be a power of 2"),
        ({"window": 2000}, "window = 2000: must be 1 to fft = 1024"),
        ({"samples": 100}, "samples = 100"),
        ({"high_hz": 9000.0}, "end at half the rate, 8000"),
        ({"coefficients": 41}, "coefficients = 41: must be 1 to 40"),
        ({"stride": 0}, "stride = 0"),
    ],
)
def test_a_front_end_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        FrontEnd(**wrong)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path, write: path.write_bytes(b"RIFF not really"), "is no"),
        (lambda path, write: path.write_bytes(b""), "is no"),
        (lambda path, write: path.write_bytes(path.read_bytes()[:-100]), "is cut off: .* bytes are there"),
        (lambda path, write: write["wav"](path, np.ones(0), 8000), "holds no sound"),
    ],
)
def test_an_unusable_recording_is_named_in_one_line(tmp_path, write, spoil, message):
    folder = write["digits"](tmp_path / "wavs", takes=1)
    spoil(folder / "3_bob_0.wav", write)
    with pytest.raises(InputError, match=message) as caught:
        load_task(TaskChoice(name="spoken-digits", data=str(folder)))
    assert "3_bob_0.wav" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recordings_of_another_kind_are_taken_at_the_rate_of_the_task(tmp_path, write):
    folder = write["digits"](tmp_path / "wavs", takes=1)
    write["wav"](folder / "3_bob_0.wav", np.repeat(np.arange(4000), 2), 16000, channels=2)
    assert spoken_digits(folder).counts()["test"] == [1] * 10


def spoken_digits(folder, **options):
    return load_task(TaskChoice(name="spoken-digits", data=str(folder), options={"copies": 1} | options))


def test_speakers_are_held_out_whole(tmp_path, write):
    folder = write["digits"](tmp_path / "wavs")
    task = spoken_digits(folder, held_out="bob")
    assert set(task.groups_test) == {"bob"}
    assert task.counts() == {"train": [24] * 10, "val": [12] * 10, "test": [12] * 10}
    front_end = task.front_end
    ann = np.stack([mixing.placed(read_clip(folder / f"4_ann_{take}.wav", 8000), 8000) for take in range(12)])
    hashes = {value.tobytes() for value in sample_hashes(features_of(ann, front_end))}
    assert hashes <= {value.tobytes() for value in sample_hashes(task.x_val)}


def test_the_official_split_goes_by_the_index(tmp_path, write):
    task = spoken_digits(write["digits"](tmp_path / "wavs"), split="official")
    assert task.counts() == {"train": [8] * 10, "val": [20] * 10, "test": [20] * 10}
    assert set(task.groups_test) == {"ann", "bob", "cy", "dee"}


def test_copies_vary_the_training_split_alone(tmp_path, write):
    folder = write["digits"](tmp_path / "wavs", takes=2)
    one, three = spoken_digits(folder), spoken_digits(folder, copies=3)
    assert len(three.x_train) == 3 * len(one.x_train)
    assert np.array_equal(three.x_train[: len(one.x_train)], one.x_train)
    assert np.array_equal(three.x_test, one.x_test)
    assert three.dropped == 0


def test_variants_of_a_speaker_are_made_once_whoever_is_held_out(tmp_path, write, monkeypatch):
    folder = write["digits"](tmp_path / "wavs", takes=2)
    first = spoken_digits(folder, held_out="ann", copies=3)
    monkeypatch.setattr("search_spaces.audio.spoken_digits._variant", lambda *given: pytest.fail("made again"))
    again = spoken_digits(folder, held_out="ann", copies=3, split="speakers")
    assert np.array_equal(first.x_train, again.x_train)
    with pytest.raises(pytest.fail.Exception, match="made again"):
        spoken_digits(folder, held_out="bob", copies=3)  # trains on dee, whom ann's split validated on


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "random"}, "split = 'random': must be one of speakers, official"),
        ({"held_out": "zoe"}, "held_out = 'zoe': must be one of ann, bob, cy, dee"),
        ({"features": "raw"}, "features = 'raw': must be one of mfcc, log_mel"),
        ({"copies": 0}, "copies = 0: must be 1 to 100"),
    ],
)
def test_unknown_options_of_sound_are_refused(tmp_path, write, options, message):
    with pytest.raises(InputError, match=message):
        spoken_digits(write["digits"](tmp_path / "wavs", takes=1), **options)


def test_two_speakers_are_too_few(tmp_path, write):
    with pytest.raises(InputError, match="2 speakers: a split by speakers needs at least 3"):
        spoken_digits(write["digits"](tmp_path / "wavs", speakers=("a", "b"), takes=1))


def test_a_folder_without_recordings_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"task.data = .* holds none: needs a folder of \{digit\}_\{speaker\}"):
        spoken_digits(tmp_path)


def test_log_mel_features_are_an_option(tmp_path, write):
    task = spoken_digits(write["digits"](tmp_path / "wavs", takes=1), features="log_mel")
    assert task.input_shape == (1, 49, 40)


def test_keywords_follow_the_official_lists(tmp_path, write):
    folder = write["commands"](tmp_path / "commands")
    task = load_task(TaskChoice(name="keywords", data=str(folder)))
    assert task.classes == (*synthesis.KEYWORDS, "unknown", "silence")
    assert task.counts() == {"train": [5] * 12, "val": [2] * 12, "test": [2] * 12}
    listed = (folder / "testing_list.txt").read_text().split()
    yes = np.stack(
        [mixing.placed(read_clip(folder / name, 16000), 16000) for name in listed if name.startswith("yes/")]
    )
    hashes = {value.tobytes() for value in sample_hashes(features_of(yes, task.front_end))}
    assert hashes == {value.tobytes() for value in sample_hashes(task.x_test[task.y_test == 0])}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: [shutil.rmtree(folder / word) for word in synthesis.KEYWORDS[1:]],
            "has no folders of keywords",
        ),
        (lambda folder: (folder / "testing_list.txt").unlink(), "validation_list.txt alone: needs both lists or none"),
        (lambda folder: (folder / "yes" / "0.wav").unlink(), "names yes/0.wav, which is not in the folder"),
        (lambda folder: [file.unlink() for file in (folder / "go").glob("[4-9].wav")], "train has no clip of go"),
        (lambda folder: (folder / "go" / "5.wav").write_bytes(b"RIFF"), r"go/5.wav: is no"),
        (
            lambda folder: [(folder / word / "0.wav").rename(folder / word / "9.wav") for word in ("up", "no")],
            "which is not in the folder",
        ),
    ],
)
def test_an_incomplete_folder_of_commands_is_refused(tmp_path, write, spoil, message):
    folder = write["commands"](tmp_path / "commands")
    spoil(folder)
    with pytest.raises(InputError, match=message):
        load_task(TaskChoice(name="keywords", data=str(folder)))


def test_keywords_take_the_front_end_of_their_options(tmp_path, write):
    folder = write["commands"](tmp_path / "commands")
    options = {"window_ms": 30, "stride_ms": 30, "coefficients": 12, "mels": 24}
    task = load_task(TaskChoice(name="keywords", data=str(folder), options=options))
    assert task.front_end == FrontEnd(window=480, stride=480, fft=512, mels=24, coefficients=12)
    assert task.input_shape == (1, 33, 12)
    with pytest.raises(InputError, match="task 'keywords': front end: coefficients = 30: must be 1 to 24"):
        load_task(TaskChoice(name="keywords", data=str(folder), options=options | {"coefficients": 30}))
    usual = load_task(TaskChoice(name="keywords", data=str(folder)))
    assert usual.front_end == FrontEnd()
    assert np.array_equal(usual.y_test, task.y_test)


def test_some_of_the_words_without_noise_are_the_classes_there_are(tmp_path, write):
    folder = write["commands"](tmp_path / "commands")
    for name in ("stop", "up", "_background_noise_"):
        shutil.rmtree(folder / name)
    task = load_task(TaskChoice(name="keywords", data=str(folder)))
    assert task.classes == ("yes", "no", "down", "left", "right", "on", "off", "go", "unknown")
    assert task.counts() == {"train": [5] * 9, "val": [2] * 9, "test": [2] * 9}
    assert task.notes == ("the folder has nothing for the classes up, stop, silence",)
    for name in ("bed", "cat"):
        shutil.rmtree(folder / name)
    assert load_task(TaskChoice(name="keywords", data=str(folder))).classes[-1] == "go"


def test_the_rule_puts_speakers_where_the_official_lists_have_them():
    assert official_split("right/bb05582b_nohash_3.wav") == "test"  # first on testing_list.txt of version 0.02
    assert official_split("right/a69b9b3e_nohash_0.wav") == "val"  # first on validation_list.txt
    assert official_split("right/a69b9b3e_nohash_7.flac") == "val"


def test_without_lists_the_hash_of_who_speaks_decides(tmp_path, write):
    folder = tmp_path / "commands"
    speakers = [f"{number:08x}" for number in range(60)]
    for at, word in enumerate(("yes", "no")):
        (folder / word).mkdir(parents=True)
        for number, who in enumerate(speakers):
            sound = np.random.default_rng([at, number]).integers(-9000, 9000, 9000)
            write["wav"](folder / word / f"{who}_nohash_0.wav", sound, 16000)
    task = load_task(TaskChoice(name="keywords", data=str(folder)))
    assert task.classes == ("yes", "no")
    wanted = [official_split(f"yes/{who}_nohash_0.wav") for who in speakers]
    assert task.counts() == {split: [wanted.count(split)] * 2 for split in ("train", "val", "test")}
    assert "split by the rule they were made with" in task.notes[0]


def test_missing_keywords_say_what_is_needed():
    with pytest.raises(InputError, match=r"task.data=DIR is missing.*or take keywords-synthetic"):
        load_task(TaskChoice(name="keywords"))


def test_without_espeak_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(voices.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"espeak-ng is not installed: apt-get install espeak-ng$"):
        load_task(TaskChoice(name="keywords-synthetic"))


def test_voices_that_sound_alike_share_a_split():
    names = [f"{stem}{number or ''}" for stem in ("adam", "klatt", "steph", "rob", "zac") for number in range(3)]
    known = [Voice("espeak-ng", name, voices._stem(name)) for name in [*names, "m1", "m2", "f1", "f2", "f3"]]
    known += [Voice("flite", "kal16", "kal"), Voice("flite", "awb", "awb"), Voice("festival", "kal_diphone", "kal")]
    places = split_of(known)
    assert set(places.values()) == {"train", "val", "test"}
    for stem in {voice.stem for voice in known}:
        assert len({places[voice] for voice in known if voice.stem == stem}) == 1
    assert places == split_of(known[::-1])


def fake_speech(voice, word, rng, folder):
    """A tone for each word, at the voice's pitch."""
    pitch = 100 + 37 * synthesis.WORDS.index(word) + 3 * (sum(voice.name.encode()) % 20)
    seconds = rng.uniform(0.3, 0.5)
    return (np.sin(2 * np.pi * pitch * np.arange(int(seconds * 22050)) / 22050) * 9000).astype(np.int16), 22050


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.setattr(synthesis, "speak", fake_speech)
    monkeypatch.setattr(synthesis, "CHUNK", 24)
    names = ("alba", "boris", "clem", "dora", "egon", "flo", "gus", "hal", "ida", "jo")
    return synthesis.Plan(tuple(Voice("espeak-ng", name, name) for name in names), clips=120, takes=1)


def made(plan, folder):
    done = []
    clips = synthesis.clips(plan, folder, lambda what, at, total: done.append((what, at, total)))
    return {split: np.concatenate([np.load(file) for file in files]) for split, (files, _) in clips.items()}, done


def test_clips_are_one_second_of_every_class(tmp_path, plan):
    clips, done = made(plan, tmp_path)
    assert {split: len(part) for split, part in clips.items()} == {"train": 120, "val": 12, "test": 24}
    assert all(part.dtype == np.int16 and part.shape[1] == 16000 for part in clips.values())
    assert done[-1] == ("clips", 7, 7)
    assert done.count(("voices", 10, 10)) == 1


def test_an_interrupted_synthesis_goes_on_where_it_stopped(tmp_path, plan, monkeypatch):
    whole, _ = made(plan, tmp_path / "whole")
    spoken = []

    def failing(voice, word, rng, folder):
        if voice.name == "hal":
            raise InputError("power cut")
        spoken.append(voice.name)
        return fake_speech(voice, word, rng, folder)

    monkeypatch.setattr(synthesis, "speak", failing)
    with pytest.raises(InputError, match="power cut"):
        made(plan, tmp_path / "again")
    finished = {file.stem for file in (tmp_path / "again" / "voices").glob("*.npz")}
    spoken.clear()
    monkeypatch.setattr(synthesis, "speak", lambda *given: spoken.append(given[0].name) or fake_speech(*given))
    (tmp_path / "again" / "clips").mkdir()
    again, _ = made(plan, tmp_path / "again")
    assert not {f"espeak-ng-{name}" for name in spoken} & finished
    assert all(np.array_equal(whole[split], again[split]) for split in whole)


@needs_espeak
def test_real_voices_say_all_words(tmp_path):
    known = voices.voices(["espeak-ng"])
    assert len(known) > 50
    sound, rate = voices.speak(known[0], "yes", np.random.default_rng(0), tmp_path)
    assert 0.1 < len(sound) / rate < 2
    assert np.abs(sound).max() > 1000


@needs_espeak
def test_the_digest_of_made_keywords_follows_what_is_made():
    options = {"engines": "espeak-ng", "voices": 8, "takes": 1, "clips": 240}
    digest = task_digest(TaskChoice(name="keywords-synthetic", options=options))
    assert digest == task_digest(TaskChoice(name="keywords-synthetic", options=options))
    assert digest != task_digest(TaskChoice(name="keywords-synthetic", options=options | {"takes": 2}))


@needs_espeak
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engines": "mbrola"}, "engines = 'mbrola': must be auto or espeak-ng"),
        ({"clips": 10}, "clips = 10: must be at least 120"),
        ({"engines": "espeak-ng", "voices": 2}, "2 voices of espeak-ng are too few"),
    ],
)
def test_synthesis_that_cannot_be_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        load_task(TaskChoice(name="keywords-synthetic", options=options))


def test_noise_is_at_the_stated_ratio():
    rng = np.random.default_rng(0)
    noise = mixing.coloured_noise(rng, 16000, 16000)
    voice = np.sin(np.arange(16000) * 0.3).astype(np.float32)
    mixed = mixing.at_level(voice, noise, snr_db=10, level_db=-20)
    signal = voice / np.sqrt(np.square(voice).mean()) * 0.1
    assert 20 * np.log10(signal.std() / (mixed - signal).std()) == pytest.approx(
        10 - 20 * np.log10(noise.std()), abs=0.1
    )


def test_trimming_takes_the_quiet_ends():
    sound = np.zeros(16000)
    sound[6000:9000] = np.sin(np.arange(3000) * 0.5)
    assert 3000 <= len(mixing.trimmed(sound, 16000)) <= 4200


def test_recordings_of_the_real_data_set_are_read(tmp_path):
    place = next((path for path in map(Path.expanduser, map(Path, PLACES)) if path.is_dir()), None)
    if place is None:
        pytest.skip("no folder of the Free Spoken Digit Dataset here")
    assert spoken_digits(place).counts()["test"] == [50] * 10
