"""What is said of a video that was rescaled, and on its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bdflow_rt.errors import CorruptVideoError
from bdflow_rt.video.meter import StreamStats

Progress = Callable[[StreamStats], None]
"""Called after each frame."""
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
        stats: how fast it went, and what limited it.
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
    stats: StreamStats


def no_frames() -> CorruptVideoError:
    """The error of a video without any."""
    return CorruptVideoError("No frame of the video is in the part that start and duration take, or none can be read.")
