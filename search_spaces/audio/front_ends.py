"""The front end that the options of an audio task describe."""

from __future__ import annotations

from mcu.errors import InputError
from mcu.front_end import Features, FrontEnd


def front_end_of(
    task: str,
    features: str,
    rate: int,
    seconds: float = 1.0,
    mels: int = 40,
    coefficients: int = 10,
    window_ms: float = 40.0,
    stride_ms: float = 20.0,
    low_hz: float = 20.0,
    high_hz: float = 4000.0,
    centred: bool = False,
) -> FrontEnd:
    """The front end for clips of ``seconds`` at ``rate``; frames of ``window_ms``, one every ``stride_ms``.

    Args:
        task: its name, for messages.

    Raises:
        InputError: for an option that is not allowed, or does not fit the others.
    """
    if features not in tuple(Features):
        raise InputError(f"task {task!r}: features = {features!r}: must be one of {', '.join(Features)}")
    if not isinstance(centred, bool):
        raise InputError(f"task {task!r}: centred = {centred!r}: must be true or false")
    window = 2 * round(rate * window_ms / 2000)
    try:
        return FrontEnd(
            sample_rate=rate,
            samples=round(rate * seconds),
            window=window,
            stride=round(rate * stride_ms / 1000),
            fft=max(16, 1 << max(0, window - 1).bit_length()),
            mels=mels,
            low_hz=low_hz,
            high_hz=min(high_hz, rate / 2),
            coefficients=coefficients,
            kind=Features(features),
            centred=centred,
        )
    except InputError as error:
        raise InputError(f"task {task!r}: {error}") from None
