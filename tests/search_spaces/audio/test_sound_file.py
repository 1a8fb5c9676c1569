"""Recordings of every kind people have: read right, or refused with the file and the reason."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.audio import sound_file
from search_spaces.audio.sound_file import SoundError, read_clip, read_sound

RNG = np.random.default_rng(0)
SOUND = RNG.uniform(-0.9, 0.9, 1000)


def encoded(samples: np.ndarray, tag: int, width: int) -> bytes:
    if tag == 3:
        return samples.astype(f"<f{width}").tobytes()
    if width == 1:
        return np.rint(samples * 127 + 128).astype(np.uint8).tobytes()
    whole = np.rint(samples * ((1 << (8 * width - 1)) - 1)).astype("<i8")
    return whole.view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


def chunk(name: bytes, content: bytes, padded: bool = True) -> bytes:
    return name + struct.pack("<I", len(content)) + content + (b"\0" if padded and len(content) % 2 else b"")


def wav(samples=SOUND, tag=1, width=2, channels=1, rate=8000, extensible=False, before=(), size=None) -> bytes:
    """A wav file; ``before`` are chunks between its header and its samples."""
    align = width * channels
    head = struct.pack("<HHIIHH", 0xFFFE if extensible else tag, channels, rate, rate * align, align, 8 * width)
    if extensible:
        head += struct.pack("<HHIH", 22, 8 * width, 0, tag) + bytes.fromhex("000000001000800000AA00389B71")
    data = encoded(np.repeat(samples, channels), tag, width)
    told = struct.pack("<I", len(data) if size is None else size)
    body = b"WAVE" + chunk(b"fmt ", head) + b"".join(before) + b"data" + told + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


KINDS = [(1, 1), (1, 2), (1, 3), (1, 4), (3, 4), (3, 8)]


@pytest.mark.parametrize("extensible", [False, True], ids=["plain", "extensible"])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(("tag", "width"), KINDS)
def test_every_plain_kind_of_wav_is_read(tmp_path, tag, width, channels, extensible):
    (tmp_path / "a.wav").write_bytes(wav(tag=tag, width=width, channels=channels, rate=44_100, extensible=extensible))
    sound = read_sound(tmp_path / "a.wav")
    assert sound.rate == 44_100
    assert sound.samples.dtype == np.float32
    assert np.abs(sound.samples - SOUND).max() < (1 / 60 if width == 1 else 1e-4)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_what_libsndfile_writes_is_read_as_it_reads_it(tmp_path, kind, subtype):
    soundfile = pytest.importorskip("soundfile")
    stereo = np.stack([SOUND, SOUND[::-1]], 1)
    soundfile.write(tmp_path / "a.wav", stereo, 48_000, subtype, format=kind)
    theirs, _ = soundfile.read(tmp_path / "a.wav", always_2d=True)
    assert np.abs(read_sound(tmp_path / "a.wav").samples - theirs.mean(1)).max() < 1e-6


@pytest.mark.parametrize(("suffix", "tolerance"), [("flac", 1e-4), ("ogg", 0.5), ("aiff", 1e-4)])
def test_other_files_are_read_through_libsndfile(tmp_path, suffix, tolerance):
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / f"a.{suffix}", SOUND, 16_000)
    sound = read_sound(tmp_path / f"a.{suffix}")
    assert sound.rate == 16_000
    assert np.abs(sound.samples - SOUND).max() < tolerance


def test_sixteen_bits_stay_as_they_were_written(tmp_path):
    samples = np.array([0, 1, -1, 255, 32767, -32768], np.int16)
    (tmp_path / "a.wav").write_bytes(wav(np.zeros(6))[:-12] + samples.tobytes())
    assert np.array_equal(read_clip(tmp_path / "a.wav", 8000), samples)


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "unpadded"])
@given(size=st.integers(1, 300).filter(lambda size: size % 2), fill=st.sampled_from([0, 65, 255]))
def test_chunks_of_odd_size_are_passed_over(tmp_path_factory, padded, size, fill):
    path = tmp_path_factory.mktemp("odd") / "a.wav"
    path.write_bytes(wav(before=[chunk(b"LIST", bytes([fill]) * size, padded)]))
    assert np.abs(read_sound(path).samples - SOUND).max() < 1e-4


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_a_size_its_writer_did_not_know_goes_on_to_the_end(tmp_path, size):
    (tmp_path / "a.wav").write_bytes(wav(size=size))
    assert len(read_sound(tmp_path / "a.wav").samples) == len(SOUND)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (wav()[:-100], "is cut off: 1,900 of 2,000 bytes are there"),
        (wav()[:40], "has no data chunk"),
        (b"RIFF\x04\0\0\0WAVE", "has no data chunk"),
        (wav(np.zeros(0)), "holds no sound"),
        (wav(channels=0), "states 0 channels"),
        (wav(rate=0), "0 samples a second"),
        (wav(np.array([0.0, np.nan]), tag=3, width=4), "holds NaN or infinity"),
        (wav(tag=3, width=2), "has samples of 16 bits; allowed are 8 to 32"),
        (b"", "is no"),
        (b"hello", "is no"),
    ],
)
def test_an_unusable_file_is_named_with_the_reason(tmp_path, content, reason):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(SoundError, match=reason) as caught:
        read_sound(tmp_path / "a.wav")
    assert str(caught.value).startswith(f"{tmp_path / 'a.wav'}: ")
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=300))
def test_random_bytes_behind_a_header_are_a_sound_or_one_clear_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + content)
    with contextlib.suppress(SoundError):
        assert len(read_sound(path).samples)


def test_without_soundfile_the_kind_and_what_to_install_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(sound_file.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "a.flac").write_bytes(b"fLaC" + bytes(60))
    with pytest.raises(SoundError, match=r"a.flac: is FLAC: `pip install 'mcusweep\[sound\]'` reads it"):
        read_sound(tmp_path / "a.flac")
    (tmp_path / "a.wav").write_bytes(wav(tag=2, width=1))
    with pytest.raises(SoundError, match=r"a.wav: is wav compressed in format 2: `pip install"):
        read_sound(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_at_another_rate(tmp_path, rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    (tmp_path / "a.wav").write_bytes(wav(tone, rate=rate))
    clip = read_clip(tmp_path / "a.wav", 16_000)
    assert len(clip) == pytest.approx(16_000, abs=2)
    spectrum = np.abs(np.fft.rfft(clip[:16_000] / 32768))
    assert spectrum.argmax() == 440
    assert spectrum[440] / 8000 == pytest.approx(0.5, rel=0.02)


def test_nothing_above_half_the_lower_rate_passes(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 15_000 * np.arange(48_000) / 48_000)
    (tmp_path / "a.wav").write_bytes(wav(tone, rate=48_000))
    assert np.abs(read_clip(tmp_path / "a.wav", 16_000)[500:-500]).max() < 330
