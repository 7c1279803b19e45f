"""Frame differences and flicker, against NumPy on whole arrays, and on changes of known size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bdflow_rt.errors import ArgumentError, DTypeError, ShapeError
from bdflow_rt.metrics import Flicker, FrameDifferences, StaticFlicker, psnr, psnr_y, rgb_to_y
from tests.support import photo

Frames = npt.NDArray[np.uint8]
SCALE = 4
HEIGHT, WIDTH = 23, 37
"""No multiple of the scale: the last row and column of cells are cut."""


def clip(seed: int, *, frames: int = 5, height: int = HEIGHT, width: int = WIDTH) -> Frames:
    """(T, H, W, 3) noise."""
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def differences(frames: Frames, reference: Frames, *, border: int = 0) -> FrameDifferences:
    meter = FrameDifferences(border=border)
    for pair in zip(frames, reference, strict=True):
        meter.add(*pair)
    return meter


def decibels(error: npt.NDArray[np.float64]) -> float:
    return 10 * math.log10(255**2 / np.mean(error**2))


@pytest.mark.parametrize("border", [0, 1, 4])
def test_differences_are_those_of_the_whole_arrays(border: int) -> None:
    frames, reference = clip(1), clip(2)
    meter = differences(frames, reference, border=border)
    inside = (slice(None), slice(border, HEIGHT - border), slice(border, WIDTH - border))
    error = np.diff(frames.astype(float), axis=0)[inside] - np.diff(reference.astype(float), axis=0)[inside]
    luma = [np.diff(np.stack([rgb_to_y(frame) for frame in of]), axis=0)[inside] for of in (frames, reference)]
    assert meter.pairs == 4
    assert meter.psnr == pytest.approx(decibels(error), rel=1e-12)
    assert meter.psnr_y == pytest.approx(decibels(luma[0] - luma[1]), rel=1e-12)


def test_the_largest_error_of_a_difference_does_not_overflow() -> None:
    black, white = np.zeros((1, 64, 64, 3), np.uint8), np.full((1, 64, 64, 3), 255, np.uint8)
    meter = differences(np.concatenate([black, white]), np.concatenate([white, black]))
    assert meter.psnr == pytest.approx(-20 * math.log10(2))


def test_an_error_that_stays_does_not_count_and_one_that_comes_and_goes_does() -> None:
    reference = np.stack([photo(HEIGHT, WIDTH, seed) // 2 for seed in range(4)])
    constant = differences(reference + np.uint8(20), reference)
    assert (constant.psnr, constant.psnr_y) == (math.inf, math.inf)
    blinking = reference.copy()
    blinking[1::2] += 10
    assert differences(blinking, reference).psnr == pytest.approx(10 * math.log10(255**2 / 10**2))


def test_one_pair_of_a_still_reference_is_the_psnr_of_its_second_frame() -> None:
    first, second = photo(HEIGHT, WIDTH, 1), photo(HEIGHT, WIDTH, 2)
    meter = differences(np.stack([first, second]), np.stack([first, first]))
    assert meter.psnr == pytest.approx(psnr(second, first))
    assert meter.psnr_y == pytest.approx(psnr_y(second, first, border=0))


def test_before_the_second_frame_there_is_no_difference() -> None:
    meter = FrameDifferences()
    assert (meter.psnr, meter.psnr_y) == (None, None)
    meter.add(photo(HEIGHT, WIDTH, 1), photo(HEIGHT, WIDTH, 2))
    assert (meter.psnr, meter.psnr_y, meter.pairs) == (None, None, 0)


BAD: dict[str, tuple[Any, Any, type[Exception]]] = {
    "another shape": (photo(23, 37), photo(23, 36), ShapeError),
    "another size than before": (photo(24, 37), photo(24, 37), ShapeError),
    "grey": (photo(23, 37)[..., 0], photo(23, 37)[..., 0], ShapeError),
    "floats": (photo(23, 37).astype(np.float32), photo(23, 37), DTypeError),
}


@pytest.mark.parametrize("kind", BAD)
def test_frames_that_cannot_be_compared_are_refused_and_change_nothing(kind: str) -> None:
    frame, reference, error = BAD[kind]
    meter = differences(clip(1), clip(2))
    before = (meter.psnr, meter.psnr_y, meter.pairs)
    with pytest.raises(error):
        meter.add(frame, reference)
    assert (meter.psnr, meter.psnr_y, meter.pairs) == before


def test_a_border_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ArgumentError, match="border is 12"):
        FrameDifferences(border=12).add(photo(23, 37), photo(23, 37))


def shifted(frames: Frames) -> Frames:
    """Other frames with changes of at most 3 levels against the frame before, but for one cell and one pixel."""
    rng = np.random.default_rng(3)
    made = np.stack([frames[0] // 2] * len(frames)) + rng.integers(0, 4, frames.shape, np.uint8)
    made[2, 0:4, 8:12] += 50
    made[3, 22, 36] += 9  # in the cell that is cut both ways
    return made


def flicker_of(source: Frames, tolerance: int, **pictures: Frames) -> StaticFlicker:
    meter = StaticFlicker(scale=SCALE, tolerance=tolerance)
    for index, frame in enumerate(source):
        meter.add(frame, **{name: frames[index] for name, frames in pictures.items()})
    return meter


def expected(source: Frames, pictures: Frames, tolerance: int) -> tuple[float, Flicker]:
    """Share and flicker cell by cell, from a list of all changes."""
    changes: list[int] = []
    count = static = 0
    is_lr = pictures.shape != source.shape
    for now, last, picture, before in zip(
        *(a.astype(int) for a in (source[1:], source[:-1], pictures[1:], pictures[:-1])), strict=True
    ):
        for row in range(0, HEIGHT, SCALE):
            for column in range(0, WIDTH, SCALE):
                cell = (slice(row, row + SCALE), slice(column, column + SCALE))
                count += 1
                if np.abs(now[cell] - last[cell]).max() > tolerance:
                    continue
                static += 1
                of = (row // SCALE, column // SCALE) if is_lr else cell
                changes += np.abs(picture[of] - before[of]).ravel().tolist()
    return static / count, Flicker(float(np.mean(changes)), int(np.percentile(changes, 99, method="inverted_cdf")))


@pytest.mark.parametrize("tolerance", [2, 3, 60])
def test_flicker_is_that_of_a_loop_over_the_cells(tolerance: int) -> None:
    source, restored = shifted(clip(1)), clip(2)
    lr = clip(3, height=6, width=10) // 8
    meter = flicker_of(source, tolerance, restored=restored, lr=lr)
    for name, frames in (("source", source), ("restored", restored), ("lr", lr)):
        share, flicker = expected(source, frames, tolerance)
        assert meter.static_share == share
        assert meter.of(name).p99 == flicker.p99
        assert meter.of(name).mean == pytest.approx(flicker.mean)
    assert (meter.static_share == 1) == (tolerance == 60)


def test_in_a_static_scene_all_is_zero() -> None:
    still, lr = np.stack([photo(HEIGHT, WIDTH)] * 3), np.stack([photo(6, 10)] * 3)
    meter = flicker_of(still, 0, restored=still + np.uint8(1), lr=lr)
    assert meter.static_share == 1
    assert [meter.of(name) for name in ("source", "restored", "lr")] == [Flicker(0.0, 0)] * 3
    assert differences(still, still).psnr == math.inf


def test_a_flicker_of_known_size_is_seen() -> None:
    still, lr = np.stack([photo(HEIGHT, WIDTH)] * 5), np.full((5, 6, 10, 3), 100, np.uint8)
    lr[1::2] += 7
    assert flicker_of(still, 0, lr=lr).of("lr") == Flicker(7.0, 7)
    lr[:] = 100
    lr[2, 3, 4] += 40  # one of 60 cells, in two of the four changes
    seen = flicker_of(still, 0, lr=lr).of("lr")
    assert seen.mean == pytest.approx(40 * 2 / (4 * 60))
    assert seen.p99 == 0


def test_the_percentile_is_the_smallest_change_that_99_of_100_do_not_exceed() -> None:
    still = np.zeros((2, 4, 400, 3), np.uint8)
    lr = np.zeros((2, 1, 100, 3), np.uint8)
    lr[1, 0, 0] = 255  # 3 of 300 values
    assert flicker_of(still, 0, lr=lr).of("lr").p99 == 0
    lr[1, 0, 1, 0] = 255
    assert flicker_of(still, 0, lr=lr).of("lr").p99 == 255


def test_where_nothing_is_static_there_is_no_flicker() -> None:
    moving = np.stack([np.full((HEIGHT, WIDTH, 3), 90 * index, np.uint8) for index in range(3)])
    meter = flicker_of(moving, 5, lr=clip(1, frames=3, height=6, width=10))
    assert meter.static_share == 0
    assert meter.of("lr") == meter.of("source") == Flicker(None, None)


def test_before_the_second_frame_there_is_no_flicker() -> None:
    meter = flicker_of(clip(1, frames=1), 5, restored=clip(2, frames=1))
    assert meter.static_share is None
    assert meter.of("restored") == Flicker(None, None)


def test_a_frame_that_is_written_again_counts_as_it_was() -> None:
    meter, frame = StaticFlicker(scale=SCALE, tolerance=255), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    meter.add(frame)
    frame += 9
    meter.add(frame)
    assert meter.of("source") == Flicker(9.0, 9)


def test_pictures_of_another_kind_are_refused() -> None:
    meter = flicker_of(clip(1), 5, lr=clip(2, height=6, width=10))
    frame, lr = photo(HEIGHT, WIDTH), photo(6, 10)
    with pytest.raises(ArgumentError, match="before they were source, lr"):
        meter.add(frame)
    with pytest.raises(ShapeError, match=r"\(6, 9, 3\)"):
        meter.add(frame, lr=photo(6, 9))
    with pytest.raises(ShapeError):
        meter.add(photo(HEIGHT, WIDTH + 1), lr=lr)
    with pytest.raises(ShapeError, match="23 x 37 or 6 x 10"):
        StaticFlicker(scale=SCALE).add(frame, lr=photo(5, 9))
    with pytest.raises(DTypeError):
        StaticFlicker(scale=SCALE).add(frame, lr=lr.astype(np.int16))
    with pytest.raises(ShapeError):
        StaticFlicker(scale=SCALE).add(frame[..., 0])


@pytest.mark.parametrize(("scale", "tolerance"), [(0, 1), (4, -1), (4, 256), (2.0, 1), (4, 0.5)])
def test_a_scale_or_tolerance_out_of_range_is_refused(scale: Any, tolerance: Any) -> None:
    with pytest.raises(ArgumentError):
        StaticFlicker(scale=scale, tolerance=tolerance)
