"""Decoded frames as RGB pictures, and pictures as frames for an encoder. Spec: spec/colour.md."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Literal

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.format import VideoFormat
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from bdflow_rt.errors import UnsupportedVideoError
from bdflow_rt.kernels.colour import Levels, Matrix
from bdflow_rt.kernels.colour_opencv import planes_to_rgb, rgb_to_planes
from bdflow_rt.packet import ColourInfo
from bdflow_rt.picture import UInt8Array

MATRIX_CODES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}
"""Code points of ITU-T H.273, table 4."""
CODE_OF: dict[Matrix, int] = {"bt709": 1, "bt601": 6, "bt2020": 9}
_OTHER_MATRICES = {
    4: "FCC", 7: "SMPTE 240M", 8: "YCgCo", 10: "BT.2020 constant luminance", 11: "SMPTE 2085",
    12: "derived, non-constant luminance", 13: "derived, constant luminance", 14: "ICtCp", 15: "IPT-C2",
}  # fmt: skip
_IDENTITY, _UNSPECIFIED = 0, 2
_HDR = {16: "PQ", 18: "HLG"}
_FULL, _LIMITED = 2, 1
"""FFmpeg's code points of the range."""
_LARGEST_SD = (1279, 576)
"""Width and height up to which untagged video is taken as BT.601."""
_ACCURATE = Interpolation.POINT | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_DISPLAY_MATRIX = struct.Struct("=9i")


@dataclass(frozen=True)
class Colour:
    """How the planes of a frame become RGB.

    Attributes:
        matrix: None for RGB and grey.
        levels: "limited" or "full".
    """

    matrix: Matrix | None
    levels: Levels


def default_matrix(width: int, height: int) -> Matrix:
    """The matrix of untagged video: BT.601 up to 1279 x 576 pixels, BT.709 above."""
    return "bt601" if width <= _LARGEST_SD[0] and height <= _LARGEST_SD[1] else "bt709"


def colour_of(frame: av.VideoFrame, *, name: str) -> Colour:
    """How a frame is coded, by its tags and, where they are missing, by the rule of spec/colour.md.

    Raises:
        UnsupportedVideoError: HDR, or a matrix that is none of BT.601, BT.709 and BT.2020.
    """
    if frame.color_trc in _HDR:
        raise UnsupportedVideoError(
            f"{name} is HDR video ({_HDR[frame.color_trc]}), whose colours 8 bits of SDR would wash out; convert it "
            "first, for example with: ffmpeg -i IN -vf zscale=t=linear:npl=100,tonemap=hable,zscale=t=bt709:m=bt709:"
            "r=tv,format=yuv420p OUT.mkv"
        )
    if _is_rgb(frame.format):
        return Colour(None, "full")
    is_grey = len(_samples(frame.format)) == 1
    is_full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
    if frame.color_range not in (_FULL, _LIMITED) and is_grey:
        is_full = True
    levels: Levels = "full" if is_full else "limited"
    if is_grey:
        return Colour(None, levels)
    if frame.colorspace in _OTHER_MATRICES:
        raise UnsupportedVideoError(
            f"{name} has colours of {_OTHER_MATRICES[frame.colorspace]}, which are not converted here; convert it "
            "first, for example with: ffmpeg -i IN -vf scale=out_color_matrix=bt709 -colorspace bt709 OUT.mkv"
        )
    return Colour(MATRIX_CODES.get(frame.colorspace) or default_matrix(frame.width, frame.height), levels)


def colour_info(frame: av.VideoFrame, colour: Colour) -> ColourInfo:
    """What the header says of a source's colours, with what the rule of untagged video fills in."""
    is_grey = len(_samples(frame.format)) == 1
    return ColourInfo(
        model="grey" if is_grey else "rgb",
        primaries=frame.color_primaries if 0 < frame.color_primaries <= 255 else _UNSPECIFIED,
        transfer=frame.color_trc if 0 < frame.color_trc <= 255 else _UNSPECIFIED,
        matrix=_IDENTITY if colour.matrix is None else CODE_OF[colour.matrix],
        full_range=colour.levels == "full",
    )


def check_kind(frame: av.VideoFrame, *, name: str) -> None:
    """Refuse frames that could only be read by changing them.

    Raises:
        UnsupportedVideoError: interlaced, or with an alpha channel.
    """
    if frame.interlaced_frame:
        raise UnsupportedVideoError(
            f"{name} is interlaced: its frames hold two moments each, which a network would mix; deinterlace it first, "
            "for example with: ffmpeg -i IN -vf bwdif -c:a copy OUT.mkv"
        )
    if any(component.is_alpha for component in frame.format.components):
        raise UnsupportedVideoError(
            f"{name} has an alpha channel ({frame.format.name}), which is not kept; flatten it first, for example "
            "with: ffmpeg -i IN -pix_fmt yuv444p OUT.mkv"
        )


def depth_of(video_format: VideoFormat) -> int:
    """Bits of a sample."""
    return max(component.bits for component in video_format.components)


def to_picture(frame: av.VideoFrame, colour: Colour) -> UInt8Array:
    """(H, W, 3) uint8 RGB, as the frame is stored; see `turned`."""
    frame = _planar(frame)
    samples = _samples(frame.format)
    depth = depth_of(frame.format)
    planes = [_plane(frame, index, depth) for index in range(len(frame.planes))]
    if _is_rgb(frame.format):
        if not frame.format.is_planar:
            return np.ascontiguousarray(planes[0].reshape(frame.height, frame.width, 3))
        rgb = np.stack([planes[component.plane] for component in samples], axis=-1)
        return rgb if depth == 8 else _to_8_bits(rgb, depth)
    if len(samples) == 1:
        grey = _grey(planes[0], colour.levels, depth)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if len(planes) == 2:  # NV12
        cb, cr = planes[1].reshape(len(planes[1]), -1, 2)[..., 0], planes[1].reshape(len(planes[1]), -1, 2)[..., 1]
        planes = [planes[0], np.ascontiguousarray(cb), np.ascontiguousarray(cr)]
    return planes_to_rgb(
        *planes, matrix=colour.matrix or default_matrix(frame.width, frame.height), levels=colour.levels, depth=depth
    )


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """What turns a stored frame upright: x = a*column + c*row and y = b*column + d*row, as (a, b, c, d) of -1, 0, 1.

    Raises:
        ValueError: it turns by no multiple of 90 degrees.
    """
    side_data: Any = frame.side_data
    stored = side_data.get(SideData.DISPLAYMATRIX)
    if stored is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = _DISPLAY_MATRIX.unpack(bytes(stored)[: _DISPLAY_MATRIX.size])
    signs = tuple((value > 0) - (value < 0) for value in (a, b, c, d))
    if sorted(map(abs, signs)) != [0, 0, 1, 1] or abs(signs[0]) != abs(signs[3]):
        raise ValueError(f"{a}, {b}, {c}, {d}")
    return signs[0], signs[1], signs[2], signs[3]


def turned(pixels: UInt8Array, matrix: tuple[int, int, int, int]) -> UInt8Array:
    """A picture turned and flipped as `display_matrix` says; contiguous."""
    a, b, c, d = matrix
    down, right = (d, a) if a else (b, c)
    pixels = pixels if a else pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels[:: down or 1, :: right or 1])


Planes = Literal["yuv420p", "yuv422p", "yuv444p"]
_BLOCKS: dict[str, tuple[int, int]] = {"yuv420p": (2, 2), "yuv422p": (2, 1), "yuv444p": (1, 1)}


def from_picture(pixels: UInt8Array, pixel_format: str, colour: Colour) -> av.VideoFrame:
    """A frame for an encoder, from (H, W, 3) uint8 RGB.

    Args:
        pixels: the picture.
        pixel_format: "yuv420p", "yuv422p" or "yuv444p", which `colour` codes; or one of 8-bit RGB, which is exact.
        colour: matrix and levels of the planes.
    """
    if pixel_format not in _BLOCKS:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        return frame if pixel_format == "rgb24" else frame.reformat(format=pixel_format)
    across, down = _BLOCKS[pixel_format]
    matrix = colour.matrix or default_matrix(pixels.shape[1], pixels.shape[0])
    planes = rgb_to_planes(pixels, matrix=matrix, levels=colour.levels, across=across, down=down)
    frame = av.VideoFrame(pixels.shape[1], pixels.shape[0], pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        rows[: values.shape[0], : values.shape[1]] = values
    frame.colorspace = CODE_OF[matrix]
    frame.color_range = _FULL if colour.levels == "full" else _LIMITED
    return frame


def _samples(video_format: VideoFormat) -> list[Any]:
    return [component for component in video_format.components if not component.is_alpha]


def _is_rgb(video_format: VideoFormat) -> bool:
    return bool(video_format.is_rgb or video_format.has_palette)


def _planar(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame in a layout that is read here: of three planes, NV12, grey, or packed RGB of 8 bits."""
    video_format = frame.format
    depth = depth_of(video_format)
    if _is_rgb(video_format):
        if video_format.name in ("gbrp", "rgb24") or (video_format.name == f"gbrp{depth}le" and depth <= 16):
            return frame
        return frame.reformat(format="rgb24" if depth <= 8 else "gbrp16le", interpolation=int(_ACCURATE))
    suffix = "" if depth == 8 else f"{depth}le"
    if len(_samples(video_format)) == 1:
        known = video_format.name in ("gray", f"gray{depth}le")
        return frame if known else frame.reformat(format="gray" if depth <= 8 else "gray16le")
    names = [f"yuv{kind}p{suffix}" for kind in ("420", "422", "444", "440", "411", "410")]
    if video_format.name in (*names, "nv12", "yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p"):
        return frame
    # Its chroma is replicated, so nothing changes but the layout.
    return frame.reformat(format="yuv444p" if depth <= 8 else "yuv444p16le", interpolation=int(_ACCURATE))


def _plane(frame: av.VideoFrame, index: int, depth: int) -> NDArray[Any]:
    plane = frame.planes[index]
    dtype = np.uint8 if depth <= 8 else np.dtype("<u2")
    rows = np.frombuffer(plane, dtype)  # type: ignore[call-overload]
    rows = rows[: plane.height * (plane.line_size // rows.itemsize)].reshape(plane.height, -1)
    samples = 3 if frame.format.name == "rgb24" else 2 if frame.format.name == "nv12" and index else 1
    return rows[:, : plane.width * samples]


def _grey(plane: NDArray[Any], levels: Levels, depth: int) -> UInt8Array:
    if levels == "full":
        return np.ascontiguousarray(plane) if depth == 8 else _to_8_bits(plane, depth)
    step = 1 << (depth - 8)
    table = np.rint(np.clip((np.arange(1 << depth) - 16 * step) * (255 / (219 * step)), 0, 255)).astype(np.uint8)
    return table[plane]


def _to_8_bits(values: NDArray[Any], depth: int) -> UInt8Array:
    table = np.rint(np.arange(1 << depth) * (255 / ((1 << depth) - 1))).astype(np.uint8)
    return table[values]
