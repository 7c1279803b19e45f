"""Quality of videos: the figures are those of the metrics on all frames, which are read one by one."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt.bench.temporal import StillSource
from bdflow_rt.errors import ArgumentError, CorruptVideoError, ShapeError
from bdflow_rt.evaluate.video import PICTURES, evaluate_video
from bdflow_rt.metrics import FrameDifferences, StaticFlicker, bicubic_downscale, bicubic_resize, psnr, psnr_y
from bdflow_rt.picture import UInt8Array
from bdflow_rt.rescaler import Rescaler
from bdflow_rt.video.av_source import AvSource
from bdflow_rt.video.frames import Extras, Frame, Problems, TrackPacket, VideoInfo
from tests.support import photo
from tests.support_clips import write_y4m

HEIGHT, WIDTH = 43, 61


class ListSource:
    """A `FrameSource` of pictures, and whatever else stands between them."""

    decoder = decoder_reason = "list"

    def __init__(self, items: Sequence[UInt8Array | TrackPacket], *, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
        self.info = VideoInfo(*size, time_base=Fraction(1, 25), frames=len(items))
        self.extras, self.problems, self._items = Extras(), Problems(), items

    def __iter__(self) -> Iterator[Frame | TrackPacket]:
        for index, item in enumerate(self._items):
            yield item if isinstance(item, TrackPacket) else Frame(item, index, 1)

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(scope="module")
def rescaler(tiny_zoo: Path) -> Iterator[Rescaler]:
    """A tiny x4 model with 1 bit."""
    with Rescaler.from_pretrained(tiny_zoo / "bdflow-x4@99", threads=1) as made:
        yield made


def moving() -> list[UInt8Array]:
    """Four frames: a part moves by a pixel each, the rest is still."""
    frames = [photo(HEIGHT, WIDTH, 1) for _ in range(4)]
    for index, frame in enumerate(frames):
        frame[:, :30] = photo(HEIGHT, 40, 2)[:, index : index + 30]
    return frames


def test_every_figure_is_that_of_the_metrics_on_all_frames(rescaler: Rescaler) -> None:
    frames = moving()
    found = evaluate_video(rescaler, ListSource(frames))
    packets = [rescaler.downscale(frame) for frame in frames]
    small = [bicubic_downscale(frame, scale=4) for frame in frames]
    pictures = {
        "restored": [rescaler.upscale(packet) for packet in packets],
        "bicubic": [bicubic_resize(one, scale=4)[:HEIGHT, :WIDTH] for one in small],
        "lr": [packet.lr for packet in packets],
        "bicubic_lr": small,
    }
    for name, reference, border in (("restored", frames, 4), ("bicubic", frames, 4), ("lr", small, 0)):
        pairs = list(zip(pictures[name], reference, strict=True))
        differences = FrameDifferences(border=border)
        for pair in pairs:
            differences.add(*pair)
        values = {"y": [psnr_y(*pair, border=border) for pair in pairs],
                  "rgb": [psnr(*pair, border=border) for pair in pairs]}  # fmt: skip
        for kind, of_frames in values.items():
            assert found[name][f"psnr_{kind}"]["mean"] == pytest.approx(np.mean(of_frames))
            assert found[name][f"psnr_{kind}"]["min"] == min(of_frames)
        assert found[name]["difference_psnr_y"] == differences.psnr_y
        assert found[name]["difference_psnr_rgb"] == differences.psnr
    flicker = StaticFlicker(scale=4)
    for index, frame in enumerate(frames):
        flicker.add(frame, **{name: of_frames[index] for name, of_frames in pictures.items()})
    assert 0.2 < found["flicker"]["static_share"] == (flicker.static_share or 0) < 0.8
    for name in PICTURES:
        assert found["flicker"][name] == {"mean": flicker.of(name).mean, "p99": flicker.of(name).p99}
    assert found["flicker"]["source"]["mean"] == 0
    assert found["flicker"]["lr"]["mean"] > 0
    assert (found["frames"], found["hr_size"], found["lr_size"]) == (4, [WIDTH, HEIGHT], [16, 11])
    assert found["weights_sha256"] == rescaler.card.weights_sha256
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_in_a_static_scene_nothing_changes_and_all_differences_are_exact(rescaler: Rescaler) -> None:
    found = evaluate_video(rescaler, StillSource(photo(HEIGHT, WIDTH, 1)), frames=3, tolerance=0)
    assert found["frames"] == 3
    assert found["flicker"]["static_share"] == 1
    for name in PICTURES:
        assert found["flicker"][name] == {"mean": 0, "p99": 0}
    for name in ("restored", "bicubic", "lr"):
        assert found[name]["difference_psnr_y"] is found[name]["difference_psnr_rgb"] is None
        assert found[name]["psnr_y"]["mean"] == pytest.approx(found[name]["psnr_y"]["min"])


@pytest.mark.parametrize("frames", [[photo(HEIGHT, WIDTH, 1)], [photo(HEIGHT, WIDTH, seed) for seed in (1, 2)]])
def test_where_nothing_is_static_flicker_is_null(rescaler: Rescaler, frames: list[UInt8Array]) -> None:
    found = evaluate_video(rescaler, ListSource(frames))
    assert found["flicker"]["static_share"] == (0 if len(frames) > 1 else None)
    assert {found["flicker"][name][of] for name in PICTURES for of in ("mean", "p99")} == {None}
    assert (found["restored"]["difference_psnr_y"] is None) == (len(frames) == 1)


def test_a_black_video_is_exact_by_bicubic(rescaler: Rescaler) -> None:
    found = evaluate_video(rescaler, ListSource([np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 2))
    assert found["bicubic"]["psnr_rgb"] == {"mean": None, "min": None}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_no_frame_is_kept_after_the_next(rescaler: Rescaler) -> None:
    alive: list[weakref.ref[UInt8Array]] = []
    most = 0

    class Watched(ListSource):
        def __iter__(self) -> Iterator[Frame]:
            nonlocal most
            for index in range(6):
                pixels = photo(HEIGHT, WIDTH, index)
                alive.append(weakref.ref(pixels))
                most = max(most, sum(one() is not None for one in alive))
                yield Frame(pixels, index, 1)

    evaluate_video(rescaler, Watched([]))
    assert len(alive) == 6
    assert most <= 2


def test_only_so_many_frames_are_read_and_progress_counts_them(rescaler: Rescaler) -> None:
    calls: list[tuple[int, int | None]] = []
    track = TrackPacket(0, None)
    source = ListSource([track, *moving()[:2], track, *moving()[2:]])
    found = evaluate_video(rescaler, source, frames=3, progress=lambda *call: calls.append(call))
    assert found["frames"] == 3
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_file_is_measured_as_its_frames_are(rescaler: Rescaler, tmp_path: Path) -> None:
    path = write_y4m(tmp_path / "clip.y4m", np.stack(moving()))
    with AvSource(path) as source:
        pixels = [item.pixels for item in source if isinstance(item, Frame)]
    with AvSource(path) as source:
        found = evaluate_video(rescaler, source)
    assert len(pixels) == 4
    names = ("restored", "bicubic", "lr", "flicker", "frames", "hr_size")
    expected = evaluate_video(rescaler, ListSource(pixels))
    assert {name: found[name] for name in names} == {name: expected[name] for name in names}


@pytest.mark.parametrize("frames", [0, -1, 1.5, True])
def test_a_number_of_frames_that_is_none_is_refused(rescaler: Rescaler, frames: Any) -> None:
    with pytest.raises(ArgumentError, match="frames is"):
        evaluate_video(rescaler, ListSource(moving()), frames=frames)


def test_frames_too_small_for_the_border_are_refused(rescaler: Rescaler) -> None:
    with pytest.raises(ShapeError, match="30 x 8 pixels; at least 9 x 9"):
        evaluate_video(rescaler, ListSource([photo(8, 30)], size=(30, 8)))
    assert evaluate_video(rescaler, ListSource([photo(9, 9)], size=(9, 9)))["frames"] == 1


def test_a_source_without_frames_is_refused(rescaler: Rescaler) -> None:
    with pytest.raises(CorruptVideoError, match="no frame"):
        evaluate_video(rescaler, ListSource([]))
