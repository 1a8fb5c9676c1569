"""A keyword data set from synthesised voices: first a bank of words, then clips of words in rooms and noise.

Every voice's words and every few hundred clips are stored in a separate file, so that an interrupted run can be
resumed; every clip has its own random generator, so that it depends neither on order nor on parallelism.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from mcu.errors import InputError
from mcu.files import write_atomic
from search_spaces.audio import mixing
from search_spaces.audio.voices import Voice, speak, split_of

RATE = 16_000
KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
OTHERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "bed", "bird", "cat", "dog",
    "happy", "house", "marvin", "sheila", "tree", "wow", "backward", "forward", "follow", "learn", "visual",
)  # fmt: skip
CLASSES = (*KEYWORDS, "unknown", "silence")
WORDS = (*KEYWORDS, *OTHERS)
CHUNK = 300
WORKERS = 2
LONGEST_S, SHORTEST_S = 1.3, 0.08
ESPEAK_SHARE = 0.75
"""Of the spoken clips, where voices of other engines are in the split too."""

EVALUATION_SPEED = 0.1

Piece = tuple[Path, Callable[[], bytes]]
"""A file and how its content is made."""

Progress = Callable[[str, int, int], None]
"""Told what is being made, how many pieces are done and how many there are."""


@dataclass(frozen=True)
class Plan:
    """Size of the data set.

    Attributes:
        voices: whose words are in it.
        clips: of the training split; validation has a tenth, test a fifth of them.
        takes: times each voice says each word.
    """

    voices: tuple[Voice, ...]
    clips: int = 24_000
    takes: int = 6

    @property
    def sizes(self) -> dict[str, int]:
        """Clips by split, a multiple of the number of classes."""
        rounds = max(1, self.clips // len(CLASSES))
        return {name: max(1, rounds // part) * len(CLASSES) for name, part in (("train", 1), ("val", 10), ("test", 5))}


@dataclass(frozen=True)
class Bank:
    """Words of several voices: int16 ``sound`` cut at ``cuts``, the word and the engine of each piece."""

    sound: np.ndarray
    cuts: np.ndarray
    words: np.ndarray
    espeak: np.ndarray

    def piece(self, index: int) -> np.ndarray:
        """One word, floats in -1..1."""
        return self.sound[self.cuts[index] : self.cuts[index + 1]].astype(np.float32) / 32768

    @cached_property
    def pieces_of(self) -> dict[tuple[int, bool], np.ndarray]:
        """Indices of the pieces by word and by whether espeak-ng said them."""
        keys = {(int(word), bool(espeak)) for word, espeak in zip(self.words, self.espeak, strict=True)}
        return {key: np.flatnonzero((self.words == key[0]) & (self.espeak == key[1])) for key in keys}

    @cached_property
    def others(self) -> np.ndarray:
        """Indices of the pieces that are not a keyword."""
        return np.flatnonzero(self.words >= len(KEYWORDS))


def clips(plan: Plan, folder: Path, progress: Progress) -> dict[str, tuple[list[Path], np.ndarray]]:
    """Files of int16 clips ``(n, 16000)`` and all labels of each split; missing files are generated."""
    places = split_of(plan.voices)
    said = [folder / "voices" / f"{voice.engine}-{voice.name}.npz" for voice in plan.voices]
    todo: list[Piece] = [
        (path, partial(_words_of, voice, plan.takes))
        for voice, path in zip(plan.voices, said, strict=True)
        if not path.is_file()
    ]
    _make("voices", todo, len(said), progress)
    made: dict[str, tuple[list[Path], np.ndarray]] = {}
    todo = []
    for split, size in plan.sizes.items():
        files = [folder / "clips" / f"{split}-{start:06d}.npy" for start in range(0, size, CHUNK)]
        made[split] = (files, np.arange(size, dtype=np.int64) % len(CLASSES))
        missing = [number for number, file in enumerate(files) if not file.is_file()]
        if not missing:
            continue
        bank = _bank([path for voice, path in zip(plan.voices, said, strict=True) if places[voice] == split])
        todo += [(files[number], partial(_chunk, bank, split, number, size)) for number in missing]
    _make("clips", todo, sum(len(files) for files, _ in made.values()), progress)
    return made


def _make(what: str, todo: Sequence[Piece], total: int, progress: Progress) -> None:
    """Write the content of each missing file; the work is done by two threads, most of it outside Python."""
    done = total - len(todo)
    with ThreadPoolExecutor(WORKERS) as pool:
        pending = [pool.submit(_make_one, piece) for piece in todo]
        try:
            for future in as_completed(pending):
                future.result()
                done += 1
                progress(what, done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _make_one(piece: Piece) -> None:
    path, make = piece
    write_atomic(path, make())


def _words_of(voice: Voice, takes: int) -> bytes:
    """All words in one voice, trimmed, as loud as can be, as the content of an .npz file."""
    rng = np.random.default_rng(list(f"{voice.engine} {voice.name}".encode()))
    pieces, words = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for number, word in enumerate(WORDS):
            for _ in range(takes):
                sound, rate = speak(voice, word, rng, Path(scratch))
                piece = _tidy(sound, rate)
                if piece is not None:
                    pieces.append(piece)
                    words.append(number)
    cuts = np.cumsum([0, *(len(piece) for piece in pieces)])
    content = BytesIO()
    sound = np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
    np.savez(content, sound=sound, cuts=cuts, words=np.array(words, np.int64), espeak=voice.engine == "espeak-ng")
    return content.getvalue()


def _tidy(sound: np.ndarray, rate: int) -> np.ndarray | None:
    """A word at 16 kHz without silence around it, or None where the engine made no sound."""
    common = math.gcd(rate, RATE)
    x = sound.astype(np.float32) / 32768
    if rate != RATE:
        x = resample_poly(x, RATE // common, rate // common).astype(np.float32)
    x = mixing.trimmed(x, RATE)[: int(LONGEST_S * RATE)]
    peak = float(np.abs(x).max(initial=0))
    if peak < 1e-3 or len(x) < SHORTEST_S * RATE:
        return None
    return np.asarray(x / peak * 30_000, np.int16)


def _bank(files: Iterable[Path]) -> Bank:
    sounds, cuts, words, espeak, length = [], [np.zeros(1, np.int64)], [], [], 0
    for file in files:
        with np.load(file) as voice:
            sounds.append(voice["sound"])
            cuts.append(voice["cuts"][1:] + length)
            words.append(voice["words"])
            espeak.append(np.full(len(voice["words"]), bool(voice["espeak"])))
            length += len(voice["sound"])
    if not sounds:
        raise InputError("task 'keywords-synthetic': too few voices for three splits of their own")
    bank = Bank(np.concatenate(sounds), np.concatenate(cuts), np.concatenate(words), np.concatenate(espeak))
    lacking = np.setdiff1d(np.arange(len(WORDS)), bank.words)
    if len(lacking):
        raise InputError(f"task 'keywords-synthetic': no voice of a split says {WORDS[lacking[0]]!r}")
    return bank


def _chunk(bank: Bank, split: str, number: int, size: int) -> bytes:
    start = number * CHUNK
    made = np.stack([_clip(bank, split, at) for at in range(start, min(start + CHUNK, size))])
    content = BytesIO()
    np.save(content, made)
    return content.getvalue()


def _clip(bank: Bank, split: str, at: int) -> np.ndarray:
    """Clip ``at`` of a split, int16 ``(16000,)``; its class is ``at`` modulo 12."""
    rng = np.random.default_rng([at, *split.encode()])
    around, label = mixing.Surroundings(), at % len(CLASSES)
    noise = _noise(rng, bank)
    if CLASSES[label] == "silence":
        return mixing.as_int16(noise * 10 ** (rng.uniform(-60, -15) / 20))
    word = label if label < len(KEYWORDS) else len(KEYWORDS) + int(rng.integers(len(OTHERS)))
    by_engine = [bank.pieces_of[key] for key in ((word, True), (word, False)) if key in bank.pieces_of]
    pieces = by_engine[0 if len(by_engine) == 1 or rng.random() < ESPEAK_SHARE else 1]
    reach = around.speed if split == "train" else EVALUATION_SPEED
    x = mixing.faster(bank.piece(int(rng.choice(pieces))), float(np.exp(rng.uniform(-reach, reach))))[:RATE]
    spare = RATE - len(x)
    anywhere, middle = rng.integers(0, spare + 1), np.clip(spare / 2 + rng.normal(0, RATE / 10), 0, spare)
    x = mixing.placed(x, RATE, int(anywhere if rng.random() < 0.7 else middle))
    x = mixing.in_a_room(rng, x, RATE, around)
    return mixing.as_int16(mixing.at_level(x, noise, rng.uniform(*around.snr_db), rng.uniform(*around.level_db)))


def _noise(rng: np.random.Generator, bank: Bank) -> np.ndarray:
    """Coloured noise, or five voices of the same split talking at once."""
    if rng.random() < 0.7:
        return mixing.coloured_noise(rng, RATE, RATE)
    babble = np.zeros(2 * RATE, np.float32)
    for index in rng.choice(bank.others, 5):
        piece = bank.piece(int(index))[:RATE]
        start = int(rng.integers(0, 2 * RATE - len(piece)))
        babble[start : start + len(piece)] += piece
    heard = babble[RATE // 2 : RATE // 2 + RATE]
    return heard / (heard.std() + 1e-4)
