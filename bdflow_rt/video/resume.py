"""Going on with an interrupted video: what was begun, and what of it can be kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

from bdflow_rt.errors import ResumeError, describe
from bdflow_rt.files import PathLike, write_atomically
from bdflow_rt.video.numbered import find_pictures, is_sequence
from bdflow_rt.video.opened import is_cover

_FORMAT = 1
_BLOCK_BYTES, _BLOCKS = 1 << 20, 32
_ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
_MAX_JOURNAL_BYTES = 1 << 16


def journal_path(target: Path) -> Path:
    """Where it is kept what the part file beside a target was begun with."""
    return target.with_name(f"{target.name}.part.json")


def fingerprint(path: PathLike) -> str:
    """What tells a source from another one: SHA-256 of its length and of 32 MiB of it, evenly spread.

    So it takes no longer for a film than for a clip; coded video that differs, differs nearly everywhere. Numbered
    pictures are told by their names, lengths and times of change.
    """
    if is_sequence(path):
        files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in find_pictures(path)]
        return hashlib.sha256(repr(files).encode("utf-8", "surrogateescape")).hexdigest()
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode("ascii"))
        for index in range(_BLOCKS):
            file.seek(index * max(size - _BLOCK_BYTES, 0) // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()


def write_journal(target: Path, settings: Mapping[str, Any]) -> None:
    """Keep what a part file is begun with.

    Raises:
        DiskFullError, UnwritableOutputError: it cannot be written.
    """
    write_atomically(journal_path(target), json.dumps({"format": _FORMAT, **settings}, indent=2).encode("utf-8"))


def check_journal(target: Path, settings: Mapping[str, Any]) -> None:
    """Check that an interrupted video was begun from the same source with the same settings.

    Raises:
        ResumeError: it was not, or nothing says how it was begun.
    """
    path = journal_path(target)
    try:
        with open(path, "rb") as file:
            begun = json.loads(file.read(_MAX_JOURNAL_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ResumeError(
            f"'{target}' cannot be continued: '{path}', which says how it was begun, cannot be read. Begin anew with "
            "overwrite=True (--overwrite)."
        ) from error
    expected = json.loads(json.dumps({"format": _FORMAT, **settings}))
    other = [name for name in expected if not isinstance(begun, dict) or begun.get(name) != expected[name]]
    if other:
        name = other[0]
        was = begun.get(name) if isinstance(begun, dict) else None
        raise ResumeError(
            f"'{target}' cannot be continued: {name} was {describe(was)} when it was begun, and is "
            f"{describe(expected[name])} now. Take the same, or begin anew with overwrite=True (--overwrite)."
        )


def _as_encoded(stream: Any) -> Callable[[Any], list[Any]]:
    """What gives a track's packets the form in which its encoder makes them: Matroska has another for two codecs."""
    name = _ANNEX_B.get(stream.codec_context.name)
    return (lambda packet: [packet]) if name is None else BitStreamFilterContext(name, stream).filter


class Leftover:
    """The coded frames of an interrupted part file that can be kept: all before the last key frame of the first track.

    Args:
        path: of the part file.
        tracks: video tracks that it is to have.

    Attributes:
        frames: how many can be kept, 0 where nothing can.
    """

    def __init__(self, path: Path, tracks: int) -> None:
        self._path, self._tracks = path, tracks
        self.frames = self._count()

    def packets(self) -> Iterator[list[Any]]:
        """The packets of each frame, one per track, in the order of decoding."""
        with self._opened() as container:
            videos = self._videos(container)
            waiting: list[deque[Any]] = [deque() for _ in videos]
            filters = [_as_encoded(stream) for stream in videos]
            place = {stream.index: index for index, stream in enumerate(videos)}
            given = 0
            for packet in container.demux(*videos):
                if not packet.size:
                    continue
                track = place[packet.stream.index]
                waiting[track].extend(filters[track](packet))
                while given < self.frames and all(waiting):
                    yield [queue.popleft() for queue in waiting]
                    given += 1
                if given == self.frames:
                    return

    def _count(self) -> int:
        """Frames before the last key frame of the first track that all tracks have."""
        try:
            with self._opened() as container:
                videos = self._videos(container)
                if len(videos) != self._tracks:
                    return 0
                counts = [0] * len(videos)
                place = {stream.index: index for index, stream in enumerate(videos)}
                whole = latest = 0
                for packet in container.demux(*videos):
                    if not packet.size:
                        continue
                    track = place[packet.stream.index]
                    if track == 0 and packet.is_keyframe:
                        whole, latest = latest, counts[0]
                    counts[track] += 1
                return next((count for count in (latest, whole) if count <= min(counts)), 0)
        except (av.error.FFmpegError, ValueError):
            return 0

    def _opened(self) -> Any:
        return av.open(str(self._path), format="matroska")

    @staticmethod
    def _videos(container: Any) -> list[Any]:
        return [stream for stream in container.streams.video if not is_cover(stream)]
