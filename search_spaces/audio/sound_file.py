"""Reading of audio files: wav (PCM and float) by our own reader, FLAC, Ogg and others through libsndfile."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from mcu.errors import InputError

SUFFIXES = frozenset({".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"})
"""Of files that are broken when they hold no sound."""
MARKS = {b"fLaC": "FLAC", b"OggS": "Ogg", b"FORM": "AIFF", b"RF64": "RF64", b"RIFX": "RIFX", b"ID3": "MP3"}
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
STREAMED = 0x7FFFF000
"""From this size on a data chunk's writer did not know it, as one that writes to a pipe: it goes on to the end."""
CHUNKS = frozenset({b"fmt ", b"data", b"LIST", b"fact", b"bext", b"cue ", b"smpl", b"inst", b"PEAK", b"JUNK", b"id3 "})
FINEST_RATIO = 1000
"""Of two rates; others are taken as the nearest ratio of numbers up to this."""


@dataclass(frozen=True)
class Sound:
    """A mono recording, the mean of its channels: float32 ``(n,)`` in -1..1, ``rate`` samples a second."""

    samples: np.ndarray
    rate: int


class SoundError(InputError):
    """A file that is not a complete recording; ``foreign`` if it is not an audio file at all."""

    def __init__(self, message: str, foreign: bool = False) -> None:
        super().__init__(message)
        self.foreign = foreign


def read_sound(path: Path) -> Sound:
    """A recording.

    wav files may have 8, 16, 24 or 32 bits, floats of 32 or 64, any number of channels and extensible headers, and
    chunks of odd size with or without the padding byte. Other formats are read with ``soundfile`` if it is installed.

    Raises:
        SoundError: one line that names the file and the reason.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SoundError(f"{path}: cannot be read: {error.strerror}") from None
    is_wav = content[:4] == b"RIFF" and content[8:12] == b"WAVE"
    sound = _wav(path, content) if is_wav else _by_library(path, content)
    if not len(sound.samples):
        raise SoundError(f"{path}: holds no sound")
    if not np.isfinite(sound.samples).all():
        raise SoundError(f"{path}: holds NaN or infinity")
    return sound


def read_clip(path: Path, rate: int) -> np.ndarray:
    """A recording at ``rate`` samples a second, int16 ``(n,)``; a 16-bit recording at that rate is not changed.

    Raises:
        SoundError: as :func:`read_sound`.
    """
    sound = read_sound(path)
    samples = sound.samples if sound.rate == rate else resampled(sound.samples, sound.rate, rate)
    return in_16_bits(samples)


def in_16_bits(samples: np.ndarray) -> np.ndarray:
    """Floats in -1..1 as 16-bit samples, exact for samples that were 16-bit before."""
    return np.rint(samples * 32768).clip(-32768, 32767).astype(np.int16)


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Sound at another rate, through a polyphase low-pass filter at half the lower rate."""
    from scipy.signal import resample_poly

    ratio = Fraction(wanted, rate).limit_denominator(FINEST_RATIO)
    if not ratio:
        return samples[:0]
    return np.asarray(resample_poly(samples, ratio.numerator, ratio.denominator), np.float32)


def _wav(path: Path, content: bytes) -> Sound:
    form: bytes | None = None
    for name, start, size in _chunks(content):
        if name == b"fmt ":
            form = content[start : start + size]
        if name == b"data":
            if form is None or len(form) < 16:
                raise SoundError(f"{path}: has no fmt chunk before its data: it is damaged")
            there = len(content) - start
            if size >= STREAMED or (size == 0 and content[start : start + 4] not in CHUNKS):
                size = there
            if size > there:
                raise SoundError(f"{path}: is cut off: {there:,} of {size:,} bytes are there")
            return _decoded(path, content, form, content[start : start + size])
    raise SoundError(f"{path}: has no data chunk: it is cut off or damaged")


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and size of each chunk. Careless writers leave out the byte that pads a chunk of odd size."""
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], struct.unpack_from("<I", content, at + 4)[0]
        yield name, at + 8, size
        at += 8 + size
        if size % 2 and content[at : at + 4] not in CHUNKS:
            at += 1


def _decoded(path: Path, content: bytes, form: bytes, data: bytes) -> Sound:
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", form)
    if tag == EXTENSIBLE and len(form) >= 26:
        tag = struct.unpack_from("<H", form, 24)[0]
    if not channels or not rate or align % channels:
        raise SoundError(f"{path}: states {channels} channels, {rate} samples a second, {align} bytes a frame: damaged")
    width = align // channels
    if (tag, width) not in _DECODERS:
        if tag in (PCM, FLOAT):
            raise SoundError(f"{path}: has samples of {bits} bits; allowed are 8 to 32, floats of 32 and 64")
        return _by_library(path, content, f"wav compressed in format {tag}")
    samples = _DECODERS[tag, width](data[: len(data) // align * align])
    return Sound(np.clip(samples.reshape(-1, channels).mean(1, dtype=np.float64), -1, 1).astype(np.float32), rate)


def _three_bytes(data: bytes) -> np.ndarray:
    parts = np.frombuffer(data, np.uint8).reshape(-1, 3)
    padded = np.zeros((len(parts), 4), np.uint8)
    padded[:, 1:] = parts
    return padded.view("<i4")[:, 0] / np.float64(1 << 31)


_DECODERS = {
    (PCM, 1): lambda data: (np.frombuffer(data, np.uint8) - 128.0) / 128,
    (PCM, 2): lambda data: np.frombuffer(data, "<i2") / 32768,
    (PCM, 3): _three_bytes,
    (PCM, 4): lambda data: np.frombuffer(data, "<i4") / np.float64(1 << 31),
    (FLOAT, 4): lambda data: np.frombuffer(data, "<f4"),
    (FLOAT, 8): lambda data: np.frombuffer(data, "<f8"),
}


def _by_library(path: Path, content: bytes, kind: str | None = None) -> Sound:
    kind = kind or next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
    if importlib.util.find_spec("soundfile") is None:
        if kind is None:
            raise SoundError(f"{path}: is no .wav file", foreign=path.suffix.lower() not in SUFFIXES)
        raise SoundError(f"{path}: is {kind}: `pip install 'mcusweep[sound]'` reads it")
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (RuntimeError, TypeError, ValueError, OSError) as error:
        foreign = kind is None and path.suffix.lower() not in SUFFIXES
        raise SoundError(f"{path}: is no recording that can be read: {_reason(error)}", foreign) from None
    return Sound(samples.mean(1, dtype=np.float64).clip(-1, 1).astype(np.float32), int(rate))


def _reason(error: Exception) -> str:
    """What libsndfile says, without the path that it repeats."""
    return str(error).rpartition(": ")[2] or type(error).__name__
