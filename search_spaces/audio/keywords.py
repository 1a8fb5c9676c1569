"""Keywords of one second at 16 kHz: a Google Speech Commands folder, or clips made by speech synthesisers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from search_spaces.audio import mixing, synthesis
from search_spaces.audio.features import features_of
from search_spaces.audio.spoken_digits import front_end_of
from search_spaces.audio.synthesis import CLASSES, KEYWORDS, RATE, Plan
from search_spaces.audio.voices import ENGINES, engine_version, engines, split_of, voices
from search_spaces.audio.wav import read_wav
from search_spaces.paths import user_path
from search_spaces.tasks.digest import Source, digest_of
from search_spaces.tasks.download import downloaded
from search_spaces.tasks.store import placed_cache
from search_spaces.tasks.task import SPLITS, Task, assemble

LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}
NOISE = "_background_noise_"
RECIPE = "2"
"""Of the features; clips have their own."""

CLIPS = "1"


def keywords(data: str | None = None, features: str = "mfcc", centred: bool = False) -> Task:
    """Google Speech Commands (arXiv 1804.03209): ten keywords, unknown words and silence, by its own lists.

    Of the unknown words, and of cuts out of the background noise for silence, each split gets as many as it has
    clips of a keyword on average; which, the hashes of their names decide.

    Args:
        data: the unpacked folder: one folder a word, ``validation_list.txt``, ``testing_list.txt`` and
            ``_background_noise_``.
        features: ``mfcc`` or ``log_mel``.
        centred: whether features lose their mean over the clip.

    Raises:
        InputError: naming the folder, list or recording that is missing or unsuitable.
    """
    folder = _folder(data)
    front_end = front_end_of(features, "keywords", RATE, centred)
    tracks = [read_wav(path, RATE)[0] for path in sorted((folder / NOISE).glob("*.wav"))]
    if not tracks or any(len(track) <= RATE for track in tracks):
        raise InputError(f"{folder / NOISE}: must hold .wav files of more than a second, for the class silence")
    splits = {}
    for split, names in _listed(folder).items():
        known = [name for name in names if name.split("/")[0] in KEYWORDS]
        share = max(1, round(len(known) / len(KEYWORDS)))
        unknown = sorted((name for name in names if name.split("/")[0] not in KEYWORDS), key=_hash)[:share]
        labels = [KEYWORDS.index(name.split("/")[0]) for name in known]
        labels += [CLASSES.index("unknown")] * len(unknown) + [CLASSES.index("silence")] * share
        parts = [features_of(_clips(folder, part), front_end) for part in _parts([*known, *unknown])]
        quiet = features_of(_quiet(tracks, split, share), front_end)
        splits[split] = (np.concatenate([*parts, quiet]), np.array(labels, np.int64))
    return assemble(
        "keywords",
        splits,
        CLASSES,
        augment="spec_augment",
        citation="Warden, Speech Commands, arXiv 1804.03209",
        licence="CC BY 4.0",
        front_end=front_end,
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
) -> Task:
    """Ten keywords, unknown words and silence in the shape of Speech Commands, spoken by synthesisers.

    No voice of a split is in another. Making the default 31,200 clips takes minutes and 1 GB in the cache folder,
    once; an interrupted run goes on where it stopped.

    Args:
        features: ``mfcc`` or ``log_mel``.
        engines: ``auto`` for all that are installed, ``espeak-ng`` for that one alone.
        clips: of the training split; validation has a tenth, test a fifth.
        takes: times each voice says each word.
        voices: how many voices of espeak-ng; 0 for all, about 85.
        centred: whether features lose their mean over the clip.

    Raises:
        InputError: when espeak-ng is missing, saying how to install it.
    """
    front_end = front_end_of(features, "keywords-synthetic", RATE, centred)
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
    need = f"a folder of Google Speech Commands with {', '.join(LISTS.values())} and a folder for each word"
    if data is None and not downloaded("keywords").is_dir():
        raise InputError(
            f"task 'keywords': `mcusweep tasks --download keywords` or --set task.data=DIR is missing: {need}; or take "
            "keywords-synthetic"
        )
    folder = downloaded("keywords") if data is None else user_path(data)
    if not folder.is_dir():
        raise InputError(f"task 'keywords': task.data = {str(folder)!r} is not a folder: needs {need}")
    for name in (*LISTS.values(), *KEYWORDS, NOISE):
        if not (folder / name).exists():
            raise InputError(f"task 'keywords': task.data = {str(folder)!r} lacks {name}: needs {need}")
    return folder


def _listed(folder: Path) -> dict[str, list[str]]:
    """``word/file.wav`` names by split: those on the official lists, and all others for training."""
    words = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name != NOISE)
    names = [f"{word}/{file.name}" for word in words for file in sorted((folder / word).glob("*.wav"))]
    here = set(names)
    listed: dict[str, list[str]] = {}
    for split, file in LISTS.items():
        listed[split] = (folder / file).read_text(encoding="utf-8").split()
        for name in listed[split]:
            if name not in here:
                raise InputError(f"{folder / file}: names {name}, which is not in the folder")
    taken = set(listed["val"]) | set(listed["test"])
    listed["train"] = [name for name in names if name not in taken]
    for split, of_split in listed.items():
        present = {name.split("/")[0] for name in of_split}
        lacking = next((word for word in KEYWORDS if word not in present), None)
        if lacking or present <= set(KEYWORDS):
            raise InputError(
                f"task 'keywords': {folder}: {split} has no clip of {lacking or 'a word that is no keyword'}"
            )
    return listed


def _parts(names: Sequence[str], size: int = 1000) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def _clips(folder: Path, names: Sequence[str]) -> np.ndarray:
    return np.stack([mixing.placed(read_wav(folder / name, RATE)[0], RATE) for name in names])


def _quiet(tracks: Sequence[np.ndarray], split: str, count: int) -> np.ndarray:
    """Seconds of background noise, each split's out of a third of every track of its own, at various levels."""
    rng, third = np.random.default_rng(list(split.encode())), SPLITS.index(split)
    made = []
    for _ in range(count):
        track = tracks[int(rng.integers(len(tracks)))]
        low, high = third * len(track) // 3, (third + 1) * len(track) // 3
        start = int(rng.integers(low, max(low + 1, high - RATE)))
        cut = mixing.placed(track[start : min(start + RATE, high)], RATE)
        made.append((cut * rng.uniform(0, 1)).astype(np.int16))
    return np.stack(made)


def _hash(name: str) -> bytes:
    return blake2b(name.encode()).digest()
