"""Recordings in one folder for each class, of any kind, rate and length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from mcu.front_end import Features, FrontEnd
from search_spaces.audio import background, mixing
from search_spaces.audio.features import features_of
from search_spaces.audio.front_ends import front_end_of
from search_spaces.audio.sound_file import SoundError, in_16_bits, read_sound, resampled
from search_spaces.audio.speakers import speakers_of
from search_spaces.tasks.class_folders import (
    LeftOut,
    Samples,
    UnusableFileError,
    check_share,
    class_folders,
    given_folder,
    read_samples,
    split_three_ways,
)
from search_spaces.tasks.digest import Source
from search_spaces.tasks.rows import Rows
from search_spaces.tasks.splits import sample_hashes
from search_spaces.tasks.task import SPLITS, Task, assemble

NAME = "audio-folder"
RAW = "raw"
SNR_DB = (0.0, 20.0)
"""Of a recording over the noise that is laid under its copies."""
MOST_SAMPLES = 2**20

Parts = dict[str, tuple[np.ndarray, np.ndarray]]


def audio_folder(
    data: str | None = None,
    rate: int = 16_000,
    seconds: float = 1.0,
    features: str = "mfcc",
    mels: int = 40,
    coefficients: int = 10,
    window_ms: float = 40.0,
    stride_ms: float = 20.0,
    low_hz: float = 20.0,
    high_hz: float = 4000.0,
    centred: bool = False,
    speaker: str | None = None,
    speakers: str | None = None,
    noise_class: bool = True,
    copies: int = 0,
    augment: str | None = None,
    most_broken: float = 0.1,
) -> Task:
    """Recordings of ``data``/CLASS/, mixed to one channel, resampled, centre-cropped or padded to one length.

    ``train/``, ``val/`` and ``test/``, where there are no other folders, are the splits. Otherwise 70 % train, 15 %
    validation, 15 % test: by speakers if file names or a table give them, else by the hash of the sound. Clips from the
    recordings in ``data/_background_noise_``, if any, are a separate class and are mixed into copies of training
    recordings. Files that are left out are counted and named.

    Args:
        data: the folder of class folders; others in them are searched too, names that begin with a dot are not.
        rate: samples a second of the clips, whatever the recordings have.
        seconds: length of a clip.
        features: ``mfcc``, ``log_mel`` or ``raw``, the samples themselves as ``(1, samples, 1)``.
        mels, coefficients, window_ms, stride_ms, low_hz, high_hz, centred: the front end, see :class:`FrontEnd`.
        speaker: regular expression that finds the speaker in the name of a file, such as ``([a-z]+)_[0-9]+``; names of
            Speech Commands are known; "" splits by the hash of the sound.
        speakers: a CSV file in ``data`` with the columns file and speaker.
        noise_class: whether background noise is a class.
        copies: of each training recording, the first as it is, the others with background noise; 0 means two if there
            is noise, else one.
        augment: data augmentation of training batches: ``spec_augment`` for features, ``time_shift`` for samples when
            absent.
        most_broken: largest fraction of broken files that is skipped; more is an error.

    Raises:
        InputError: for no or one class, a class without recordings, or a bad option.
    """
    front_end = _front_end(features, rate, seconds, mels, coefficients, window_ms, stride_ms, low_hz, high_hz, centred)
    _check(copies, noise_class, most_broken)
    folder = given_folder(NAME, data)
    found = _found(folder, rate, round(rate * seconds), speaker, speakers, most_broken)
    parts, classes, alone = found.mixed(copies, noise_class)
    splits = {split: (_samples(sound, front_end), y) for split, (sound, y) in parts.items()}
    augment = augment or ("time_shift" if front_end is None else "spec_augment")
    citation = f"the user's recordings, {folder.name}"
    return assemble(
        NAME, splits, classes,
        groups_test=alone, augment=augment, citation=citation, front_end=front_end, notes=found.notes,
    )  # fmt: skip


def audio_folder_source(data: str | None = None, **_: object) -> Source:
    """What :func:`audio_folder` reads."""
    return Source("1", (given_folder(NAME, data),))


@dataclass(frozen=True)
class Found:
    """The recordings of a folder in their splits, before noise is mixed in.

    Attributes:
        parts: clips int16 ``(N, samples)`` and classes ``(N,)`` of each split.
        names: of the files in training.
        tracks: background noise.
        alone: speaker of each test clip, if no speaker is in two splits.
    """

    parts: Parts
    classes: tuple[str, ...]
    names: list[str]
    tracks: list[np.ndarray]
    alone: np.ndarray | None
    notes: tuple[str, ...]

    def mixed(self, copies: int, noise_class: bool) -> tuple[Parts, tuple[str, ...], np.ndarray | None]:
        """Splits with noisy copies of training recordings and, if wanted, noise as a class; classes; speakers."""
        copies = copies or (2 if self.tracks else 1)
        parts = self.parts | {"train": _copied(self.parts["train"], self.names, self.tracks, copies)}
        if not (self.tracks and noise_class):
            return parts, self.classes, self.alone
        parts, alone = _with_noise(parts, self.tracks, len(self.classes), self.alone)
        return parts, (*self.classes, background.FOLDER), alone


def _found(
    folder: Path, rate: int, samples: int, speaker: str | None, speakers: str | None, most_broken: float
) -> Found:
    folders = class_folders(NAME, folder, aside=(background.FOLDER,))
    left_out = LeftOut(NAME, folder, "recordings")
    read = read_samples(folders, lambda path: _recording(path, rate, samples), left_out)
    left_out.check(most_broken)
    names = [entry.path.relative_to(folder).as_posix() for entry in read.entries]
    clips = np.stack([recording.clip for recording in read.values])
    who, told_who = _speakers(names, speaker, speakers, folder)
    places = _places(read, clips, who, f"task {NAME!r}: {folder}", folders.classes)
    alone = None if who is None or _shared(who, places) else who[places["test"]]
    tracks = background.noise_tracks(folder / background.FOLDER, rate, samples)
    notes = [*left_out.notes(), *_lengths(read.values, rate, samples), *([told_who] if told_who else [])]
    if who is not None and alone is None:
        notes.append("the folders of splits share speakers: accuracy is of known voices")
    if folders.splits:
        notes.append(f"its folders {', '.join(folders.splits)} are the splits")
    parts = {split: (clips[index], read.y[index]) for split, index in places.items()}
    return Found(parts, folders.classes, [names[index] for index in places["train"]], tracks, alone, tuple(notes))


@dataclass(frozen=True)
class Recording:
    """A clip, int16 ``(samples,)``, its original sample rate and its length in samples at the clip's rate."""

    clip: np.ndarray
    rate: int
    length: int


def _front_end(
    features: str,
    rate: int,
    seconds: float,
    mels: int,
    coefficients: int,
    window_ms: float,
    stride_ms: float,
    low_hz: float,
    high_hz: float,
    centred: bool,
) -> FrontEnd | None:
    """The front end, None for raw samples."""
    if features not in (*Features, RAW):
        raise InputError(f"task {NAME!r}: features = {features!r}: must be one of {', '.join((*Features, RAW))}")
    if isinstance(rate, bool) or not 1000 <= rate <= 192_000:
        raise InputError(f"task {NAME!r}: rate = {rate!r}: must be 1,000 to 192,000 samples a second")
    if isinstance(seconds, bool) or not 16 <= rate * seconds <= MOST_SAMPLES:
        raise InputError(f"task {NAME!r}: seconds = {seconds!r}: must make 16 to {MOST_SAMPLES:,} samples of a clip")
    if features == RAW:
        return None
    return front_end_of(
        NAME, features, rate, seconds, mels, coefficients, window_ms, stride_ms, low_hz, high_hz, centred
    )


def _check(copies: int, noise_class: bool, most_broken: float) -> None:
    if isinstance(copies, bool) or not 0 <= copies <= 100:
        raise InputError(f"task {NAME!r}: copies = {copies!r}: must be 0 to 100")
    if not isinstance(noise_class, bool):
        raise InputError(f"task {NAME!r}: noise_class = {noise_class!r}: must be true or false")
    check_share(NAME, most_broken)


def _recording(path: Path, rate: int, samples: int) -> Recording:
    try:
        sound = read_sound(path)
    except SoundError as error:
        if error.foreign:
            raise UnusableFileError(path.suffix.lower() or "without suffix", broken=False) from None
        raise UnusableFileError(_kind(path, error), broken=True) from None
    voice = in_16_bits(sound.samples if sound.rate == rate else resampled(sound.samples, sound.rate, rate))
    if not len(voice):
        raise UnusableFileError("without sound", broken=True)
    return Recording(mixing.placed(voice, samples), sound.rate, len(voice))


def _kind(path: Path, error: SoundError) -> str:
    """The reason alone, as it is told of several files: up to the figures that are the file's own."""
    return str(error).removeprefix(f"{path}: ").partition(":")[0]


def _speakers(names: Sequence[str], rule: str | None, table: str | None, folder: Path) -> tuple[np.ndarray | None, str]:
    try:
        return speakers_of(names, rule, None if table is None else folder / table)
    except InputError as error:
        raise InputError(f"task {NAME!r}: {error}") from None


def _places(
    read: Samples[Recording], clips: np.ndarray, who: np.ndarray | None, where: str, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    try:
        return split_three_ways(read.y, sample_hashes(clips), read.told, who)
    except InputError as error:
        labels = ", ".join(f"{label} = {name}" for label, name in enumerate(classes))
        raise InputError(f"{where}: {error}; labels {labels}") from None


def _shared(who: np.ndarray, places: dict[str, np.ndarray]) -> bool:
    """Whether somebody of the test split is heard in another one."""
    others = np.concatenate([who[places[split]] for split in SPLITS if split != "test"])
    return bool(np.isin(who[places["test"]], others).any())


def _copied(
    part: tuple[np.ndarray, np.ndarray], names: Sequence[str], tracks: Sequence[np.ndarray], copies: int
) -> tuple[np.ndarray, np.ndarray]:
    """The training clips, and copies of them over noise out of generators of their own."""
    clips, y = part
    if copies == 1 or not tracks:
        return part
    varied = [
        _noisy(clip, name, copy, tracks) for copy in range(1, copies) for clip, name in zip(clips, names, strict=True)
    ]
    return np.concatenate([clips, np.stack(varied)]), np.tile(y, copies)


def _noisy(clip: np.ndarray, name: str, copy: int, tracks: Sequence[np.ndarray]) -> np.ndarray:
    rng = np.random.default_rng([copy, *name.encode()])
    noise = background.noise_cut(tracks, "train", len(clip), rng).astype(np.float64)
    strength = np.sqrt(np.square(clip.astype(np.float64)).mean() / max(np.square(noise).mean(), 1e-9))
    mixed = clip + noise * strength * 10 ** (-rng.uniform(*SNR_DB) / 20)
    return np.rint(mixed).clip(-32768, 32767).astype(np.int16)


def _with_noise(
    parts: Parts, tracks: Sequence[np.ndarray], label: int, alone: np.ndarray | None
) -> tuple[Parts, np.ndarray | None]:
    """Every split with as many clips of noise as it has of a class on average."""
    made: Parts = {}
    for split, (clips, y) in parts.items():
        count = max(1, round(len(y) / label))
        quiet = background.noise_clips(tracks, split, count, clips.shape[1])
        made[split] = np.concatenate([clips, quiet]), np.append(y, np.full(count, label))
        if split == "test" and alone is not None:
            alone = np.append(alone, np.full(count, background.FOLDER))
    return made, alone


def _samples(clips: np.ndarray, front_end: FrontEnd | None) -> np.ndarray | Rows:
    """What a network sees: features, or the samples as ``(n, 1, samples, 1)``."""
    if front_end is not None:
        return features_of(clips, front_end)
    return Rows(clips, lambda sound: (sound.astype(np.float32) / 32768)[:, None, :, None])


def _lengths(recordings: Sequence[Recording], rate: int, samples: int) -> list[str]:
    """What was done to rates and lengths, where anything was."""
    rates = Counter(recording.rate for recording in recordings)
    found = []
    if set(rates) != {rate}:
        told = ", ".join(f"{count} at {each:,}" for each, count in sorted(rates.items()))
        found.append(f"recorded {told} samples a second: taken at {rate:,}")
    longer = sum(recording.length > samples for recording in recordings)
    shorter = sum(recording.length < samples for recording in recordings)
    if longer:
        found.append(f"{longer} recordings of more than {samples / rate:g} s are centre-cropped")
    if shorter:
        found.append(f"{shorter} recordings of less than {samples / rate:g} s are padded with silence")
    return found
