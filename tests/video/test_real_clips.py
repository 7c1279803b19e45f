"""Clips of cameras and encoders, both ways: H.264 of 8 and 10 bits and of 4:4:4, HEVC, VP8, AV1, MPEG-4, y4m."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video import Encoding, downscale_video, upscale_video
from bdflow_rt.video.av_source import AvSource
from bdflow_rt.video.clock import Span
from bdflow_rt.video.frames import Frame, TrackPacket
from bdflow_rt.video.lr_file import LrFrame, LrSource
from bdflow_rt.zoo import find_model
from tests.support import data_dir, needs_data

pytestmark = [pytest.mark.slow, needs_data, pytest.mark.filterwarnings("ignore:.*bits per sample|.*stay behind")]
FOLDER = data_dir()
CLIPS = sorted(path.name for path in (FOLDER / "video").iterdir()) if FOLDER is not None else []
WHOLE = ("h264_10bits.mp4", "h265_10bits.mp4", "h265_video.mp4", "mmtracking_demo_1080p_3fps.mp4", "flower.webm")
"""Those that are taken from beginning to end; of the others half a second."""


def packets(path: Path) -> list[str]:
    """SHA-256 of each packet of audio."""
    with av.open(str(path)) as container:
        found = container.demux(container.streams.audio[0]) if container.streams.audio else ()
        return [hashlib.sha256(bytes(packet)).hexdigest() for packet in found if packet.size]


@pytest.mark.parametrize("name", CLIPS)
def test_a_real_clip_goes_both_ways(name: str, tiny_zoo: Path, tmp_path: Path) -> None:
    assert FOLDER is not None
    source, duration = FOLDER / "video" / name, None if name in WHOLE else 0.5
    with Rescaler(find_model(tiny_zoo / "tiny-x2@1"), threads=2) as rescaler:
        downscale_video(source, tmp_path / "lr.mkv", rescaler, duration=duration)
        upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mkv", rescaler, encoding=Encoding(codec="ffv1"))
        upscale_video(tmp_path / "lr.mkv", tmp_path / "hr.mp4", rescaler, encoding=Encoding(preset="ultrafast"))
        with AvSource(source, span=Span(0, duration)) as opened:
            items, base = list(opened), opened.info.time_base
        originals = [one for one in items if isinstance(one, Frame)]
        with LrSource(tmp_path / "lr.mkv") as stored:
            frames = [one for one in stored if isinstance(one, LrFrame)]
        assert [(one.data.pts, one.data.duration) for one in frames] == [(one.pts, one.duration) for one in originals]
        with av.open(str(tmp_path / "hr.mkv")) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index % 7 == 0:
                    expected = rescaler.upscale(rescaler.downscale(originals[index].pixels))
                    assert np.array_equal(frame.to_ndarray(format="rgb24"), expected)
        assert index + 1 == len(originals)
        with av.open(str(tmp_path / "hr.mp4")) as container:
            times = [Fraction(one.pts or 0) * Fraction(one.time_base or 1) for one in container.decode(video=0)]
        assert times == [one.pts * base for one in originals]
    audio = [hashlib.sha256(bytes(one.packet)).hexdigest() for one in items if isinstance(one, TrackPacket)]
    assert packets(tmp_path / "lr.mkv") == packets(tmp_path / "hr.mkv") == packets(tmp_path / "hr.mp4") == audio
    assert not audio or set(audio) <= set(packets(source))
