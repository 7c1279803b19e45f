"""Every clip of the tests by its name, and a shelf that makes each when it is first asked for."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.video import clips_faults, clips_pixels, clips_timing, clips_tracks
from tests.video.clip_writer import Clip, ClipFacts, make_long
from tests.video.numbered import draw_frame, frame_number

__all__ = ["CLIPS", "SLOW_CLIPS", "ClipFacts", "Clips", "draw_frame", "frame_number", "make_long"]

CLIPS: dict[str, Clip] = {**clips_pixels.CLIPS, **clips_timing.CLIPS, **clips_tracks.CLIPS, **clips_faults.CLIPS}
"""Name -> clip; each takes a fraction of a second to make."""
SLOW_CLIPS: dict[str, Clip] = {"long": Clip(".mkv", partial(make_long, seconds=1200))}
"""Those that take seconds."""


class Clips:
    """Clips in a folder, each made once; nobody may write to them.

    Args:
        folder: where they are written, each as its name and ending.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, tuple[Path, ClipFacts]] = {}

    def __getitem__(self, name: str) -> tuple[Path, ClipFacts]:
        """Path and facts of a clip of `CLIPS` or `SLOW_CLIPS`."""
        if name not in self._made:
            clip = (CLIPS | SLOW_CLIPS)[name]
            path = self._folder / (name + clip.suffix)
            self._made[name] = path, clip.make(path)
        return self._made[name]
