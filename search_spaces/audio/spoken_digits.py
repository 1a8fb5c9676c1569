"""Spoken digits: a folder of the Free Spoken Digit Dataset, split by speakers or by its authors' rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from mcu.files import write_atomic
from mcu.front_end import FrontEnd
from search_spaces.audio import mixing
from search_spaces.audio.features import features_of
from search_spaces.audio.front_ends import front_end_of
from search_spaces.audio.sound_file import read_clip
from search_spaces.paths import user_path
from search_spaces.tasks.digest import Source, digest_of
from search_spaces.tasks.download import downloaded
from search_spaces.tasks.store import cache_folder
from search_spaces.tasks.task import Task, assemble

RATE = 8000
RECIPE = "4"
NAME = re.compile(r"([0-9])_([A-Za-z]+)_([0-9]+)\.wav")
PLACES = ("~/.cache/mcusweep/fsdd", "data/fsdd", "data/free-spoken-digit-dataset")
HELP = "a folder of {digit}_{speaker}_{index}.wav files, such as the Free Spoken Digit Dataset's recordings/"
SPLITS = ("speakers", "official")
OFFICIAL_TEST = 5  # recordings 0 to 4 of each digit and speaker
OFFICIAL_VAL = 10  # 5 to 9, ours: the official split has none
SURROUNDINGS = mixing.Surroundings(
    snr_db=(5.0, 40.0), level_db=(-36.0, -12.0), speed=0.22, equaliser_db=4.0, reverberation=0.3
)


def spoken_digits(
    data: str | None = None,
    split: str = "speakers",
    held_out: str | None = None,
    features: str = "mfcc",
    copies: int = 6,
    centred: bool = True,
    mels: int = 40,
    coefficients: int = 10,
    window_ms: float = 40.0,
    stride_ms: float = 20.0,
) -> Task:
    """Ten digits from FSDD: 3,000 recordings of six speakers at 8 kHz, as 49 frames of 10 MFCC (or 40 log-mel).

    Args:
        data: the folder of recordings, or the one above it.
        split: ``speakers`` uses one speaker for test, another for validation and the rest for training; ``official``
            tests on recordings 0 to 4 of every speaker and validates on 5 to 9.
        held_out: the speaker to test on; the last in alphabetical order when absent. The one before it is for
            validation.
        features: ``mfcc`` or ``log_mel``.
        copies: of each training recording with other speeds, levels, positions, rooms and noises; the first is the
            original.
        centred: whether the mean over the clip is subtracted from the features: speakers were recorded with different
            microphones.
        mels, coefficients, window_ms, stride_ms: the front end, see :class:`FrontEnd`.

    Raises:
        InputError: for missing, damaged or unsuitable recordings, each by name.
    """
    if split not in SPLITS:
        raise InputError(f"task 'spoken-digits': split = {split!r}: must be one of {', '.join(SPLITS)}")
    if isinstance(copies, bool) or not 1 <= copies <= 100:
        raise InputError(f"task 'spoken-digits': copies = {copies!r}: must be 1 to 100")
    front_end = front_end_of(
        "spoken-digits", features, RATE, 1.0, mels, coefficients, window_ms, stride_ms, centred=centred
    )
    files = recordings(data)
    speakers = np.array([speaker for _, _, speaker, _ in files])
    digits = np.array([digit for _, digit, _, _ in files], np.int64)
    indices = np.array([index for _, _, _, index in files])
    places = _by_speaker(speakers, held_out) if split == "speakers" else _official(indices)
    voices = [read_clip(path, RATE) for path, *_ in files]
    plain = features_of(np.stack([mixing.placed(voice, RATE) for voice in voices]), front_end)
    splits = {name: (plain[place], digits[place]) for name, place in places.items()}
    if copies > 1:
        there = [(name.name, voice) for (name, *_), voice in zip(files, voices, strict=True)]
        more, labels = _variants(there, speakers, digits, places["train"], copies, front_end)
        x, y = splits["train"]
        splits["train"] = (np.concatenate([x, more]), np.concatenate([y, labels]))
    return assemble(
        "spoken-digits",
        splits,
        tuple("0123456789"),
        groups_test=speakers[places["test"]],
        augment="spec_augment",
        citation="Jackson et al., Free Spoken Digit Dataset, 2018",
        licence="CC BY-SA 4.0",
        front_end=front_end,
    )


def spoken_digits_source(data: str | None = None, **_: object) -> Source:
    """What :func:`spoken_digits` reads."""
    return Source(RECIPE, (_folder(data),))


def recordings(data: str | None = None) -> list[tuple[Path, int, str, int]]:
    """Path, digit, speaker and index of every recording, in an order that does not depend on the file system.

    Raises:
        InputError: when there are none.
    """
    return _files(_folder(data))


def _folder(data: str | None) -> Path:
    usual = [*PLACES, str(downloaded("spoken-digits"))]
    places = [user_path(place) for place in ([data] if data else usual)]
    for place in places:
        for folder in (place, place / "recordings"):
            if folder.is_dir() and any(NAME.fullmatch(file.name) for file in folder.iterdir()):
                return folder
    where = (
        f"task.data = {data!r} holds none"
        if data
        else "not found here: `mcusweep tasks --download spoken-digits` or --set task.data=DIR"
    )
    raise InputError(f"task 'spoken-digits': {where}: needs {HELP}")


def _files(folder: Path) -> list[tuple[Path, int, str, int]]:
    found = [(path, NAME.fullmatch(path.name)) for path in folder.iterdir()]
    return sorted((path, int(match[1]), match[2], int(match[3])) for path, match in found if match)


def _by_speaker(speakers: np.ndarray, held_out: str | None) -> dict[str, np.ndarray]:
    names: Sequence[str] = np.unique(speakers).tolist()
    if len(names) < 3:
        raise InputError(f"task 'spoken-digits': {len(names)} speakers: a split by speakers needs at least 3")
    if held_out is not None and held_out not in names:
        raise InputError(f"task 'spoken-digits': held_out = {held_out!r}: must be one of {', '.join(names)}")
    test = names.index(held_out) if held_out is not None else len(names) - 1
    masks = {"val": speakers == names[test - 1], "test": speakers == names[test]}
    return {"train": ~masks["val"] & ~masks["test"]} | masks


def _official(indices: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "train": indices >= OFFICIAL_VAL,
        "val": (indices >= OFFICIAL_TEST) & (indices < OFFICIAL_VAL),
        "test": indices < OFFICIAL_TEST,
    }


def _variants(
    recorded: Sequence[tuple[str, np.ndarray]],
    speakers: np.ndarray,
    digits: np.ndarray,
    training: np.ndarray,
    copies: int,
    front_end: FrontEnd,
) -> tuple[np.ndarray, np.ndarray]:
    """Features and digits of the varied training recordings, speaker by speaker."""
    parts, labels = [], []
    for speaker in np.unique(speakers[training]):
        mine = np.flatnonzero(speakers == speaker)
        kept = training[mine]
        varied = _varied([recorded[at] for at in mine.tolist()], copies, front_end)
        parts.append(varied[:, kept].reshape(-1, *varied.shape[2:]))
        labels.append(np.tile(digits[mine][kept], copies - 1))
    return np.concatenate(parts), np.concatenate(labels)


def _varied(recorded: Sequence[tuple[str, np.ndarray]], copies: int, front_end: FrontEnd) -> np.ndarray:
    """Features ``(copies - 1, recordings, 1, frames, values)`` of one speaker's recordings, varied.

    They are kept in the cache folder: whoever is held out, a speaker's variants are the same.
    """
    content = [(name, blake2b(voice.tobytes(), digest_size=16).hexdigest()) for name, voice in recorded]
    key = digest_of(RECIPE, content, copies, asdict(front_end))
    path = cache_folder() / "spoken-digits" / f"{key}.npy"
    with suppress(OSError, ValueError, EOFError):  # not there yet, or damaged: made again
        return np.asarray(np.load(path, allow_pickle=False))
    clips = [_variant(voice, name, copy) for copy in range(1, copies) for name, voice in recorded]
    made = features_of(np.stack(clips), front_end)
    made = made.reshape(copies - 1, len(recorded), *made.shape[1:])
    with suppress(OSError):  # a cache that cannot be written is done without
        written = BytesIO()
        np.save(written, made)
        write_atomic(path, written.getvalue())
    return made


def _variant(voice: np.ndarray, name: str, copy: int) -> np.ndarray:
    """One second of a recording, varied by a generator of its own."""
    rng = np.random.default_rng([copy, *name.encode()])
    around = SURROUNDINGS
    x = mixing.faster(voice.astype(np.float32), float(np.exp(rng.uniform(-around.speed, around.speed))))[:RATE]
    x = mixing.placed(x, RATE, int(rng.integers(0, RATE - len(x) + 1)))
    x = mixing.in_a_room(rng, x, RATE, around)
    noise = mixing.coloured_noise(rng, RATE, RATE)
    return mixing.as_int16(mixing.at_level(x, noise, rng.uniform(*around.snr_db), rng.uniform(*around.level_db)))
