"""Colours of decoded frames, and of frames for an encoder: what passes both ways, and how far it is off."""

from __future__ import annotations

import itertools
from typing import Any, get_args

import av
import numpy as np
import pytest

from bdflow_rt.kernels.colour import Levels, Matrix
from bdflow_rt.kernels.colour_opencv import planes_to_rgb, rgb_to_planes
from bdflow_rt.video.convert import Colour, colour_of, default_matrix, from_picture, to_picture, turned
from tests.support import data_dir, needs_data, photo

COLOURS = [Colour(matrix, levels) for matrix, levels in itertools.product(get_args(Matrix), get_args(Levels))]
every_colour = pytest.mark.parametrize("colour", COLOURS, ids=lambda one: f"{one.matrix} {one.levels}")
_CLIPS = ("sam2_04_coffee.mp4", "flower.mp4", "cockatoo_yuv420.mp4", "park_joy_420_720p50_frm0to9_480x270.y4m")


def psnr(a: Any, b: Any, peak: float = 255) -> float:
    error = float(np.mean((a.astype(float) - b) ** 2))
    return float(10 * np.log10(peak**2 / error)) if error else float("inf")


def planes_of(frame: av.VideoFrame) -> list[np.ndarray[Any, Any]]:
    deep = frame.format.name.endswith("le")
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, "<u2" if deep else np.uint8).reshape(plane.height, -1)  # type: ignore[call-overload]
        planes.append(rows[:, : plane.width])
    return planes


def first_frame(name: str) -> av.VideoFrame:
    folder = data_dir()
    assert folder is not None
    with av.open(str(folder / "video" / name)) as container:
        return next(container.decode(video=0))


@needs_data
@every_colour
@pytest.mark.parametrize("name", _CLIPS)
def test_8_bit_video_passes_with_70_db_and_without_a_bias(name: str, colour: Colour) -> None:
    """A real clip's planes, taken as coded in each way: there and back."""
    frame = first_frame(name)
    luma, cb, cr = planes_of(frame)
    if colour.levels == "limited":
        luma, cb, cr = np.clip(luma, 16, 235), np.clip(cb, 16, 240), np.clip(cr, 16, 240)
    rgb = planes_to_rgb(luma, cb, cr, matrix=colour.matrix or "bt709", levels=colour.levels)
    again = rgb_to_planes(rgb, matrix=colour.matrix or "bt709", levels=colour.levels)
    # What lies outside of RGB cannot pass: only blocks that do not touch its ends are compared.
    inside = ((rgb > 0) & (rgb < 255)).all(axis=2)
    height, width = (side // 2 * 2 for side in inside.shape)
    blocks = inside[:height, :width].reshape(height // 2, 2, width // 2, 2).all(axis=(1, 3))
    large = np.kron(blocks, np.ones((2, 2), bool))
    assert blocks.mean() > 0.2
    assert psnr(again[0][:height, :width][large], luma[:height, :width][large]) > 70
    for plane, old in zip(again, (luma, cb, cr), strict=True):
        where = large if plane.shape == luma.shape else blocks
        cut = (slice(0, where.shape[0]), slice(0, where.shape[1]))
        bias = float((plane[cut][where].astype(float) - old[cut][where]).mean())
        assert abs(bias) < 0.05


@needs_data
@pytest.mark.parametrize("name", ["h264_10bits.mp4", "h265_10bits.mp4"])
def test_10_bit_video_comes_back_as_8_bit_with_53_db(name: str) -> None:
    frame = first_frame(name)
    colour = colour_of(frame, name="clip")
    luma = planes_of(frame)[0].astype(float) / 4
    again = planes_of(from_picture(to_picture(frame, colour), "yuv420p", colour))[0]
    rgb = to_picture(frame, colour)
    inside = ((rgb > 0) & (rgb < 255)).all(axis=2)
    assert psnr(again[inside], luma[inside]) > 53
    assert abs(float((again[inside] - luma[inside]).mean())) < 0.05


@every_colour
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p"])
@pytest.mark.parametrize("size", [(48, 64), (37, 51), (1, 1), (3, 2)])
def test_a_frame_for_an_encoder_is_read_as_it_was_meant(
    colour: Colour, pixel_format: str, size: tuple[int, int]
) -> None:
    picture = photo(*size, 3)
    frame = from_picture(picture, pixel_format, colour)
    assert colour_of(frame, name="clip") == colour
    again = to_picture(frame, colour)
    assert again.shape == picture.shape
    assert abs(float((again.astype(float) - picture).mean())) < (1.5 if min(size) < 5 else 0.5)
    if pixel_format == "yuv444p":
        assert np.abs(again.astype(int) - picture).max() <= 3


@pytest.mark.parametrize("pixel_format", ["gbrp", "rgb24", "bgr0", "bgr24"])
def test_rgb_is_exact(pixel_format: str) -> None:
    picture = photo(37, 51, 4)
    frame = from_picture(picture, pixel_format, Colour("bt709", "limited"))
    assert frame.format.name == pixel_format
    if pixel_format != "bgr0":
        assert np.array_equal(to_picture(frame, Colour(None, "full")), picture)


@pytest.mark.parametrize(
    ("pixel_format", "depth", "across", "down"),
    [("yuv420p10le", 10, 2, 2), ("yuv422p12le", 12, 2, 1), ("yuv444p16le", 16, 1, 1), ("yuv444p10le", 10, 1, 1),
     ("yuv420p", 8, 2, 2), ("nv12", 8, 2, 2), ("yuv440p", 8, 1, 2), ("yuv411p", 8, 4, 1), ("yuv410p", 8, 4, 4)],
)  # fmt: skip
@every_colour
def test_every_layout_follows_the_specified_formula(
    pixel_format: str, depth: int, across: int, down: int, colour: Colour
) -> None:
    """In float64, from the tables of spec/colour.md."""
    rng = np.random.default_rng(depth + across)
    height, width = 24, 40
    frame = av.VideoFrame(width, height, pixel_format)
    kinds = np.uint8 if depth == 8 else np.dtype("<u2")
    for plane in frame.planes:
        rows = np.frombuffer(plane, kinds).reshape(plane.height, -1)  # type: ignore[call-overload]
        rows[:] = rng.integers(0, 1 << depth, rows.shape)
    frame.color_range = 2 if colour.levels == "full" else 1
    frame.colorspace = {"bt601": 5, "bt709": 1, "bt2020": 9}[colour.matrix or ""]
    actual = to_picture(frame, colour)
    stored = [np.frombuffer(plane, kinds).reshape(plane.height, -1).astype(float) for plane in frame.planes]  # type: ignore[call-overload]
    luma = stored[0][:, :width]
    if pixel_format == "nv12":
        chroma = stored[1][:, :width].reshape(height // 2, width // 2, 2)
        cb, cr = chroma[..., 0], chroma[..., 1]
    else:
        cb, cr = (one[:, : width // across] for one in stored[1:3])
    cb, cr = (np.repeat(np.repeat(one, down, axis=0), across, axis=1)[:height, :width] for one in (cb, cr))
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}[colour.matrix or ""]
    step, most = 2 ** (depth - 8), 2**depth - 1
    o, a, c = (0, most, most) if colour.levels == "full" else (16 * step, 219 * step, 224 * step)
    y, b, r = (luma - o) / a, (cb - 128 * step) / c, (cr - 128 * step) / c
    red, blue = y + 2 * (1 - kr) * r, y + 2 * (1 - kb) * b
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    expected = np.clip(np.stack([red, green, blue], axis=-1), 0, 1) * 255
    assert np.abs(actual - expected).max() <= 0.5 + 2e-3


def test_untagged_video_is_bt601_up_to_576_rows() -> None:
    assert [default_matrix(*size) for size in ((720, 576), (1279, 576), (1280, 480), (640, 577), (1920, 1080))] == [
        "bt601", "bt601", "bt709", "bt709", "bt709",
    ]  # fmt: skip


ORIENTATIONS = [
    one
    for one in itertools.product((-1, 0, 1), repeat=4)
    if abs(one[0] * one[3] - one[1] * one[2]) == 1 and sorted(map(abs, one)) == [0, 0, 1, 1]
]


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_every_orientation_moves_pixels_as_the_matrix_says(matrix: tuple[int, int, int, int]) -> None:
    pixels = photo(4, 7, 1)
    a, b, c, d = matrix
    places = [(a * x + c * y, b * x + d * y, x, y) for y in range(4) for x in range(7)]
    left, top = min(one[0] for one in places), min(one[1] for one in places)
    result = turned(pixels, matrix)
    assert result.flags.c_contiguous
    for x2, y2, x, y in places:
        assert np.array_equal(result[y2 - top, x2 - left], pixels[y, x])
