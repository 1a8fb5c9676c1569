"""Voices of installed speech synthesisers: espeak-ng, and flite and festival if installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from mcu.errors import InputError
from search_spaces.audio.sound_file import in_16_bits, read_sound

ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc")
NOT_HUMAN = re.compile(r"Mr serious|fast|whisperf?|Demonic|UniRobot|anikaRobot|robosoft\d*")
FLITE_VOICES = ("kal16", "awb", "rms", "slt")
FESTIVAL_VOICE = "kal_diphone"
FESTIVAL_PLACES = tuple(Path(place, FESTIVAL_VOICE) for place in ("/usr/share/festival/voices/english",))
HELD_OUT = "awb"
"""The one voice that is no formant synthesiser's and is tested on; all others of these are trained on."""

ENGINES = ("espeak-ng", "flite", "festival")
TIMEOUT = 30.0


@dataclass(frozen=True, order=True)
class Voice:
    """A voice of an engine. Voices with the same ``stem`` sound alike and belong in the same split."""

    engine: str
    name: str
    stem: str


def engines(wanted: str = "auto") -> tuple[str, ...]:
    """The installed engines, including espeak-ng; with ``espeak-ng`` only that one.

    Raises:
        InputError: when espeak-ng is not installed, saying how to install it.
    """
    if wanted not in ("auto", "espeak-ng"):
        raise InputError(f"task 'keywords-synthetic': engines = {wanted!r}: must be auto or espeak-ng")
    if shutil.which("espeak-ng") is None:
        raise InputError("task 'keywords-synthetic': espeak-ng is not installed: apt-get install espeak-ng")
    return tuple(name for name in (ENGINES if wanted == "auto" else ENGINES[:1]) if shutil.which(name))


def engine_version(engine: str) -> str:
    """The version text of an engine; equal versions are assumed to have equal voices."""
    result = subprocess.run([engine, "--version"], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    return (result.stdout or result.stderr).split("Data at:")[0].strip()


def voices(names: Sequence[str]) -> list[Voice]:
    """The human-like voices of these engines."""
    found = []
    if "espeak-ng" in names:
        listing = _run(["espeak-ng", "--voices=variant"])
        variants = sorted(set(re.findall(r"!v/(\S+)", listing)))
        found += [Voice("espeak-ng", name, _stem(name)) for name in variants if not NOT_HUMAN.fullmatch(name)]
    if "flite" in names:
        offered = _run(["flite", "-lv"]).split()
        found += [Voice("flite", name, name.rstrip("0123456789")) for name in FLITE_VOICES if name in offered]
    if "festival" in names and any(path.is_dir() for path in FESTIVAL_PLACES):
        found.append(Voice("festival", FESTIVAL_VOICE, "kal"))
    return found


def _stem(variant: str) -> str:
    """Numbered variants of a name are near-copies; m1..m8 and f1..f5 are voices of their own."""
    return variant if re.fullmatch(r"[mf]\d", variant) else re.sub(r"\d+$", "", variant).lower()


def split_of(chosen: Sequence[Voice]) -> dict[Voice, str]:
    """Split of each voice: a fifth of the stems of espeak-ng for test, a tenth for validation, by the stems' hashes.

    Of each other engine one voice is for test and the rest are for training.
    """
    stems = sorted(
        {voice.stem for voice in chosen if voice.engine == "espeak-ng"},
        key=lambda stem: blake2b(stem.encode()).digest(),
    )
    test, val = max(1, len(stems) // 5), max(1, len(stems) // 10)
    place = {stem: "test" if at < test else "val" if at < test + val else "train" for at, stem in enumerate(stems)}
    return {
        voice: place[voice.stem] if voice.engine == "espeak-ng" else ("test" if voice.stem == HELD_OUT else "train")
        for voice in chosen
    }


def speak(voice: Voice, word: str, rng: np.random.Generator, folder: Path) -> tuple[np.ndarray, int]:
    """One word in a voice at a random speed, pitch and, with espeak-ng, accent: int16 samples and their rate.

    Args:
        folder: where the engine may write.
    """
    path = folder / f"{voice.engine}-{voice.name}.wav"
    path.unlink(missing_ok=True)
    if voice.engine == "espeak-ng":
        accent = ACCENTS[rng.integers(len(ACCENTS))]
        speed, pitch = rng.integers(115, 210), rng.integers(30, 75)
        command = ["espeak-ng", "-v", f"{accent}+{voice.name}", "-s", str(speed), "-p", str(pitch)]
        _run([*command, "-w", str(path), word])
    elif voice.engine == "flite":
        stretch = f"duration_stretch={rng.uniform(0.75, 1.3):.3f}"
        _run(["flite", "-voice", voice.name, "--setf", stretch, "-t", word, "-o", str(path)])
    else:
        stretch = f"(Parameter.set 'Duration_Stretch {rng.uniform(0.75, 1.3):.3f})"
        utterance = f'(utt.save.wave (utt.synth (Utterance Text "{word}")) "{path}")'
        _run(["festival", "--pipe"], f"(voice_{voice.name}){stretch}{utterance}")
    sound = read_sound(path)
    return in_16_bits(sound.samples), sound.rate


def _run(command: Sequence[str], text: str | None = None) -> str:
    try:
        result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(f"task 'keywords-synthetic': {command[0]} failed: {error}") from None
    return result.stdout
