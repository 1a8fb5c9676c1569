"""Keywords of one second at 16 kHz: a Google Speech Commands folder, or clips from speech synthesisers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from search_spaces.audio import mixing, synthesis
from search_spaces.audio.background import FOLDER as NOISE
from search_spaces.audio.background import noise_clips, noise_tracks
from search_spaces.audio.features import features_of
from search_spaces.audio.front_ends import front_end_of
from search_spaces.audio.sound_file import read_clip
from search_spaces.audio.speakers import official_split
from search_spaces.audio.synthesis import CLASSES, KEYWORDS, RATE, Plan
from search_spaces.audio.voices import ENGINES, engine_version, engines, split_of, voices
from search_spaces.paths import user_path
from search_spaces.tasks.digest import Source, digest_of
from search_spaces.tasks.download import downloaded
from search_spaces.tasks.store import placed_cache
from search_spaces.tasks.task import SPLITS, Task, assemble

LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}
RECIPE = "2"
"""Of the features; clips have their own."""

CLIPS = "1"


def keywords(
    data: str | None = None,
    features: str = "mfcc",
    centred: bool = False,
    mels: int = 40,
    coefficients: int = 10,
    window_ms: float = 40.0,
    stride_ms: float = 20.0,
) -> Task:
    """Google Speech Commands (arXiv 1804.03209): ten keywords, unknown words and silence, by its own lists.

    Each split gets as many unknown words, and as many clips of background noise for silence, as it has clips per
    keyword on average; they are selected by the hashes of their names. A folder without the lists is split by the rule
    behind them, a hash of the speaker; a folder with only some of the words, or without noise, has fewer classes.

    Args:
        data: the unpacked folder: one folder a word with .wav or .flac files, if there are any
            ``validation_list.txt`` and ``testing_list.txt``, and ``_background_noise_``.
        features: ``mfcc`` or ``log_mel``.
        centred: whether the mean over the clip is subtracted from the features.
        mels, coefficients, window_ms, stride_ms: the front end, see :class:`FrontEnd`.

    Raises:
        InputError: naming the folder, list or recording that is missing or unsuitable.
    """
    folder = _folder(data)
    front_end = front_end_of("keywords", features, RATE, 1.0, mels, coefficients, window_ms, stride_ms, centred=centred)
    tracks = noise_tracks(folder / NOISE, RATE, RATE)
    listed, notes = _listed(folder)
    known_words = [word for word in KEYWORDS if (folder / word).is_dir()]
    others = any(name.split("/")[0] not in KEYWORDS for names in listed.values() for name in names)
    classes = (*known_words, *(["unknown"] if others else []), *(["silence"] if tracks else []))
    splits = {}
    for split, names in listed.items():
        known = [name for name in names if name.split("/")[0] in KEYWORDS]
        share = max(1, round(len(known) / len(known_words)))
        unknown = sorted((name for name in names if name.split("/")[0] not in KEYWORDS), key=_hash)[:share]
        labels = [known_words.index(name.split("/")[0]) for name in known] + [len(known_words)] * len(unknown)
        parts = [features_of(_clips(folder, part), front_end) for part in _parts([*known, *unknown])]
        if tracks:
            parts.append(features_of(noise_clips(tracks, split, share, RATE), front_end))
            labels += [len(classes) - 1] * share
        splits[split] = (np.concatenate(parts), np.array(labels, np.int64))
    lacking = [name for name in CLASSES if name not in classes]
    return assemble(
        "keywords",
        splits,
        classes,
        augment="spec_augment",
        citation="Warden, Speech Commands, arXiv 1804.03209",
        licence="CC BY 4.0",
        front_end=front_end,
        notes=(*notes, *([f"the folder has nothing for the classes {', '.join(lacking)}"] if lacking else [])),
    )


def keywords_source(data: str | None = None, **_: object) -> Source:
    """What :func:`keywords` reads."""
    return Source(RECIPE, (_folder(data),))


def keywords_synthetic(
    features: str = "mfcc",
    engines: str = "auto",
    clips: int = 24_000,
    takes: int = 6,
    voices: int = 0,
    centred: bool = False,
    mels: int = 40,
    coefficients: int = 10,
    window_ms: float = 40.0,
    stride_ms: float = 20.0,
) -> Task:
    """Ten keywords, unknown words and silence in the format of Speech Commands, spoken by synthesisers.

    No voice is in two splits. Making the default 31,200 clips takes minutes and 1 GB in the cache folder,
    once; an interrupted run is resumed.

    Args:
        features: ``mfcc`` or ``log_mel``.
        engines: ``auto`` for all that are installed, ``espeak-ng`` for that one alone.
        clips: of the training split; validation has a tenth, test a fifth.
        takes: times each voice says each word.
        voices: how many voices of espeak-ng; 0 for all, about 85.
        centred: whether the mean over the clip is subtracted from the features.
        mels, coefficients, window_ms, stride_ms: the front end, see :class:`FrontEnd`.

    Raises:
        InputError: when espeak-ng is missing, saying how to install it.
    """
    front_end = front_end_of(
        "keywords-synthetic", features, RATE, 1.0, mels, coefficients, window_ms, stride_ms, centred=centred
    )
    chosen = _plan(engines, clips, takes, voices)
    splits = {}
    for split, (files, labels) in synthetic_clips(chosen).items():
        splits[split] = (np.concatenate([features_of(np.load(file), front_end) for file in files]), labels)
    return assemble(
        "keywords-synthetic",
        splits,
        CLASSES,
        augment="spec_augment",
        citation=f"made with {', '.join(sorted({voice.engine for voice in chosen.voices}))}; after Warden, 1804.03209",
        licence="of the synthesisers' output: free",
        front_end=front_end,
    )


def keywords_synthetic_source(
    engines: str = "auto", clips: int = 24_000, takes: int = 6, voices: int = 0, **_: object
) -> Source:
    """What :func:`keywords_synthetic` depends on: the engines' versions and voices."""
    return Source(digest_of(RECIPE, _recipe(_plan(engines, clips, takes, voices))))


def synthetic_clips(plan: Plan) -> dict[str, tuple[list[Path], np.ndarray]]:
    """Files of the raw int16 clips and all labels of each split, see :func:`synthesis.clips`."""
    folder = placed_cache() / "keywords-synthetic" / _recipe(plan)
    with _shown() as progress:
        return synthesis.clips(plan, folder, progress)


def default_plan() -> Plan:
    """What ``keywords-synthetic`` makes without options."""
    return _plan("auto", 24_000, 6, 0)


def _plan(wanted: str, clips: int, takes: int, most: int) -> Plan:
    for name, value, low in (("clips", clips, 120), ("takes", takes, 1), ("voices", most, 0)):
        if isinstance(value, bool) or value < low:
            raise InputError(f"task 'keywords-synthetic': {name} = {value!r}: must be at least {low}")
    found = voices(engines(wanted))
    espeak = [voice for voice in found if voice.engine == "espeak-ng"]
    chosen = sorted([*espeak[: most or None], *(voice for voice in found if voice.engine != "espeak-ng")])
    if set(split_of(chosen).values()) != set(SPLITS):
        count = len(espeak[: most or None])
        raise InputError(f"task 'keywords-synthetic': {count} voices of espeak-ng are too few for three splits")
    return Plan(tuple(chosen), clips, takes)


def _recipe(plan: Plan) -> str:
    names = [(voice.engine, voice.name) for voice in plan.voices]
    versions = [engine_version(engine) for engine in ENGINES if any(voice.engine == engine for voice in plan.voices)]
    return digest_of(CLIPS, names, versions, plan.clips, plan.takes)


@contextmanager
def _shown() -> Iterator[synthesis.Progress]:
    """A progress bar on the standard error where that is a terminal, else a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=sys.stderr)
    columns = (TextColumn("keywords-synthetic: {task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        shown: dict[str, object] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in shown:
                shown[what] = bar.add_task(what, total=total)
            bar.update(shown[what], completed=done)  # type: ignore[arg-type]
            if not console.is_terminal and (done == total or done % 20 == 0):
                print(f"keywords-synthetic: {what} {done} of {total}", file=sys.stderr)

        yield progress


def _folder(data: str | None) -> Path:
    need = "a folder of Google Speech Commands with a folder for each word"
    if data is None and not downloaded("keywords").is_dir():
        raise InputError(
            f"task 'keywords': `mcusweep tasks --download keywords` or --set task.data=DIR is missing: {need}; or take "
            "keywords-synthetic"
        )
    folder = downloaded("keywords") if data is None else user_path(data)
    if not folder.is_dir():
        raise InputError(f"task 'keywords': task.data = {str(folder)!r} is not a folder: needs {need}")
    present = [name for name in LISTS.values() if (folder / name).exists()]
    if len(present) == 1:
        raise InputError(
            f"task 'keywords': task.data = {str(folder)!r} has {present[0]} alone: needs both lists or none"
        )
    if sum((folder / word).is_dir() for word in KEYWORDS) < 2:
        raise InputError(f"task 'keywords': task.data = {str(folder)!r} has no folders of keywords: needs {need}")
    return folder


def _listed(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """``word/file`` names by split, and a line on what decided if it was not the official lists."""
    words = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith((".", "_")))
    files = {
        f"{word}/{file.stem}": f"{word}/{file.name}"
        for word in words
        for file in sorted((folder / word).iterdir())
        if file.suffix.lower() in (".wav", ".flac")
    }
    listed: dict[str, list[str]] = {split: [] for split in SPLITS}
    if (folder / LISTS["test"]).exists():
        notes = []
        place = {name: split for split in LISTS for name in _list(folder, split, files)}
    else:
        notes = ["has no lists: split by the rule they were made with, a hash of who speaks"]
        place = {name: official_split(file) for name, file in files.items()}
    for name, file in files.items():
        listed[place.get(name, "train")].append(file)
    wanted = [word for word in words if word in KEYWORDS]
    for split, of_split in listed.items():
        present = {name.split("/")[0] for name in of_split}
        lacking = next((word for word in wanted if word not in present), None)
        if lacking or (set(words) > set(wanted) and present <= set(KEYWORDS)):
            raise InputError(
                f"task 'keywords': {folder}: {split} has no clip of {lacking or 'a word that is no keyword'}"
            )
    return listed, notes


def _list(folder: Path, split: str, files: Mapping[str, str]) -> list[str]:
    """Names on an official list, without suffix, of the words that are there."""
    file = folder / LISTS[split]
    names = [line.rpartition(".")[0] for line in file.read_text(encoding="utf-8").split()]
    here = [name for name in names if (folder / name.split("/")[0]).is_dir()]
    for name in here:
        if name not in files:
            raise InputError(f"{file}: names {name}.wav, which is not in the folder")
    return here


def _parts(names: Sequence[str], size: int = 1000) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def _clips(folder: Path, names: Sequence[str]) -> np.ndarray:
    return np.stack([mixing.placed(read_clip(folder / name, RATE), RATE) for name in names])


def _hash(name: str) -> bytes:
    return blake2b(name.encode()).digest()
