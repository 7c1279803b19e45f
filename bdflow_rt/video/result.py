"""What is said of a video that was rescaled, and on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int, int | None], None]
"""Called with the number of frames done, and in all where that is known."""
LR_DECODER_REASON = "LR videos are decoded by PyAV"


@dataclass(frozen=True)
class VideoResult:
    """What was done to a video.

    Attributes:
        frames: that were written.
        resumed_frames: those of them that an interrupted run had written.
        damaged: frames that were left out or decoded from damaged data.
        retimed: frames whose timestamp was missing or went back.
        notices: what else there is to know.
        hr_size, lr_size: width and height.
        output_bytes: of the file.
        decoder, decoder_reason: what decoded the input, and why.
    """

    frames: int
    resumed_frames: int
    damaged: int
    retimed: int
    notices: tuple[str, ...]
    hr_size: tuple[int, int]
    lr_size: tuple[int, int]
    output_bytes: int
    decoder: str
    decoder_reason: str
