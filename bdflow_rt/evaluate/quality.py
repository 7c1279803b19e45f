"""Quality of a model on pictures, through real files: down to a PNG on disk, and back from it."""

from __future__ import annotations

import math
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bdflow_rt.containers.chunks import PACKET_CHUNK, walk
from bdflow_rt.containers.image import read_picture, write_picture
from bdflow_rt.containers.png import read_packet, write_packet
from bdflow_rt.errors import InputError, MissingFileError, ShapeError, plural
from bdflow_rt.evaluate.codecs import Codec, through
from bdflow_rt.evaluate.environment import environment
from bdflow_rt.evaluate.reference import LPIPS_MIN_SIZE, Reference
from bdflow_rt.files import finite
from bdflow_rt.install import install_extra
from bdflow_rt.metrics import Niqe, bicubic_downscale, bicubic_resize, piqe, psnr, psnr_y, ssim, ssim_y
from bdflow_rt.metrics.niqe import MIN_SIZE as BLIND_MIN_SIZE
from bdflow_rt.metrics.psnr import decibels
from bdflow_rt.metrics.ssim import WINDOW as SSIM_WINDOW
from bdflow_rt.options import Colours
from bdflow_rt.packet import Packet
from bdflow_rt.picture import Picture
from bdflow_rt.rescaler import Rescaler

if TYPE_CHECKING:
    from bdflow_rt.metrics.lpips import Lpips

BORDER = 16
"""Pixels of each side that make the frame, in which the zero padding of a network shows most."""
_LPIPS = ("lpips",)
_LR_SSIM = ("lr_ssim", "lr_ssim_y")
_NIQE = ("lr_niqe", "bicubic_lr_niqe")
_PIQE = ("lr_piqe", "bicubic_lr_piqe")


@dataclass(frozen=True)
class PictureQuality:
    """One picture. PSNR in dB; a grey picture is its own luma, as in published tables.

    None is what was left out; `evaluate` says why.
    """

    name: str
    width: int
    height: int
    psnr_y: float
    """Restored against HR, luma, border of `scale` pixels left out."""
    ssim_y: float
    """Restored against HR, luma, no border left out."""
    psnr_rgb: float
    """Restored against HR, all of RGB, border of `scale` pixels left out."""
    ssim_rgb: float
    """Restored against HR, mean over the channels, no border left out."""
    lpips: float | None
    """Restored against HR, AlexNet, no border left out."""
    border_psnr_rgb: float
    """Restored against HR, the outermost `BORDER` pixels of each side alone; of a picture without others, all."""
    border_max_difference: int
    """The largest difference there."""
    bicubic_psnr_y: float
    """`psnr_y` for bicubic down and up."""
    bicubic_ssim_y: float
    lr_psnr: float
    """LR against MATLAB-style bicubic LR, all of RGB."""
    lr_psnr_y: float
    """The same of luma, of a grey picture's LR too."""
    lr_ssim: float | None
    """LR against MATLAB-style bicubic LR, mean over the channels."""
    lr_ssim_y: float | None
    lr_max_difference: int
    lr_niqe: float | None
    bicubic_lr_niqe: float | None
    """The same of the bicubic LR."""
    lr_piqe: float | None
    bicubic_lr_piqe: float | None
    file_bytes: int
    """The whole LR PNG; through a codec, its file of the LR picture and the chunk."""
    chunk_bytes: int
    """Payload of the private chunk: header and boundary map."""
    chunk_limit_bytes: int
    """w*h*bits/8 + 256."""


@dataclass(frozen=True)
class LeftOut:
    """Columns that are missing, for how many of the pictures, and why."""

    columns: tuple[str, ...]
    pictures: int
    reason: str


@dataclass(frozen=True)
class Failed:
    """A picture that could not be measured, by the name it is listed under, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Judges:
    """The metrics with parameters of their own, None where those or PyTorch are not here; `missing` says which."""

    lpips: Lpips | None
    niqe: Niqe | None
    missing: dict[tuple[str, ...], str]
    """Reason by the columns that it costs."""

    @classmethod
    def found(cls) -> Judges:
        """What this machine has.

        Raises:
            CorruptModelError: a file of parameters is damaged.
        """
        lpips, niqe = None, None
        missing: dict[tuple[str, ...], str] = {}
        try:
            from bdflow_rt.metrics.lpips import Lpips

            lpips = Lpips()
        except MissingFileError as error:
            missing[_LPIPS] = str(error)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            missing[_LPIPS] = f"LPIPS needs PyTorch: {install_extra('train')}"
        try:
            niqe = Niqe()
        except MissingFileError as error:
            missing[_NIQE] = str(error)
        return cls(lpips=lpips, niqe=niqe, missing=missing)


def evaluate(
    rescaler: Rescaler,
    pictures: Iterable[pathlib.Path],
    *,
    root: pathlib.Path | None = None,
    background: str | None = None,
    colours: Colours = "keep",
    refine: int = 0,
    codec: tuple[Codec, int] | None = None,
    track: Callable[[Iterable[pathlib.Path]], Iterable[pathlib.Path]] = lambda items: items,
) -> dict[str, Any]:
    """Measure every picture and the means over them.

    Args:
        rescaler: with the model to measure.
        pictures: files to measure on. One that cannot be read or measured does not end it.
        root: folder that their names are to begin at; None gives the names alone.
        background, colours: as for `read_picture`.
        refine: steps of refinement of every LR picture, as for `Rescaler.downscale`.
        codec: a lossy codec and its quality, through which every LR picture goes; the boundary map stays exact.
        track: wraps the files, for a progress bar.

    Returns:
        Plain JSON types: the environment, the model, `means` over the pictures that have a value, `pictures`, a list
        of `PictureQuality`, `failed`, a list of `Failed`, and `left_out`, a list of `LeftOut`. A null is a perfect
        PSNR, or was left out.

    Raises:
        InputError: no picture could be measured.
        CorruptModelError: the parameters of LPIPS or NIQE are damaged.
    """
    judges = Judges.found()

    def attempt(path: pathlib.Path, folder: pathlib.Path) -> PictureQuality | Failed:
        name = path.name if root is None else str(path.relative_to(root))
        options: dict[str, Any] = {"background": background, "colours": colours, "refine": refine, "codec": codec}
        try:
            return replace(measure(rescaler, path, folder, judges=judges, **options), name=name)
        except (InputError, ShapeError) as error:
            return Failed(name, str(error))

    with tempfile.TemporaryDirectory() as folder:
        attempts = [attempt(path, pathlib.Path(folder)) for path in track(pictures)]
    measured = [one for one in attempts if isinstance(one, PictureQuality)]
    failed = [one for one in attempts if isinstance(one, Failed)]
    if not measured:
        raise InputError(_none_measured(failed))
    means = {field.name: _mean(measured, field.name) for field in fields(PictureQuality) if field.name != "name"}
    for name in ("lr_max_difference", "border_max_difference"):
        means[name] = max(getattr(quality, name) for quality in measured)
    return {
        **environment(rescaler.card),
        "backend": rescaler.backend,
        "refine": refine,
        "through": None if codec is None else f"{codec[0].key}:{codec[1]}",
        "means": finite(means),
        "left_out": [
            {**asdict(one), "columns": list(one.columns)}
            for one in _left_out(measured, judges, scale=rescaler.card.interface.scale)
        ],
        "failed": [asdict(one) for one in failed],
        "pictures": [finite(asdict(one)) for one in measured],
    }


def measure(
    rescaler: Rescaler,
    path: pathlib.Path,
    folder: pathlib.Path,
    *,
    background: str | None = None,
    colours: Colours = "keep",
    refine: int,
    judges: Judges,
    codec: tuple[Codec, int] | None = None,
) -> PictureQuality:
    """One picture, by way of files in `folder`: nothing but the small PNG goes from one direction to the other.

    With a codec, its file of the LR picture and the PNG's chunk.

    Raises:
        InputError: the picture cannot be read.
        ShapeError: it is too small for SSIM's window, or for the border that PSNR leaves out.
    """
    small, restored_path = folder / "lr.png", folder / "restored.png"
    limit = rescaler.max_pixels
    hr = read_picture(path, background=background, colours=colours, max_pixels=limit)
    height, width = hr.pixels.shape[:2]
    least = max(SSIM_WINDOW, 2 * rescaler.card.interface.scale + 1)
    if min(height, width) < least:
        raise ShapeError(
            f"'{path}' has {width} x {height} pixels; at least {least} x {least} are needed to measure it. "
            "Leave it out."
        )
    write_packet(small, rescaler.downscale(hr, refine=refine))
    packet, file_bytes = read_packet(small, max_pixels=limit), small.stat().st_size
    chunk_bytes = len(walk(memoryview(small.read_bytes())).kept[PACKET_CHUNK][0])
    if codec is None:
        rescaler.upscale_file(small, restored_path)
    else:
        packet, lr_bytes = through(packet, *codec)
        file_bytes = lr_bytes + chunk_bytes
        pixels = rescaler.upscale(packet, force=True)
        write_picture(restored_path, Picture(pixels, packet.header.colour.model))
    restored = read_picture(restored_path, max_pixels=limit)
    scale, reference = packet.header.scale, Reference(hr, judges.lpips)
    small_bicubic = bicubic_downscale(hr.pixels, scale=scale)
    bicubic = bicubic_resize(small_bicubic, scale=scale)[:height, :width]
    return PictureQuality(
        name=path.name,
        width=width,
        height=height,
        psnr_y=reference.psnr_y(restored.pixels, border=scale),
        ssim_y=reference.ssim_y(restored.pixels),
        psnr_rgb=reference.psnr_rgb(restored.pixels, border=scale),
        ssim_rgb=reference.ssim_rgb(restored.pixels),
        lpips=reference.lpips(restored.pixels),
        **_border_quality(hr.pixels, restored.pixels),
        bicubic_psnr_y=reference.psnr_y(bicubic, border=scale),
        bicubic_ssim_y=reference.ssim_y(bicubic),
        **_lr_quality(packet, small_bicubic, judges.niqe),
        file_bytes=file_bytes,
        chunk_bytes=chunk_bytes,
        chunk_limit_bytes=math.ceil(packet.lr.shape[0] * packet.lr.shape[1] * packet.header.bits / 8) + 256,
    )


def _border_quality(hr: NDArray[np.uint8], restored: NDArray[np.uint8]) -> dict[str, Any]:
    """The fields of `PictureQuality` about the frame along the picture's edges, which the usual PSNR leaves out."""
    inside = np.zeros(hr.shape[:2], bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    frame = ~inside
    difference = np.abs(hr[frame].astype(np.int16) - restored[frame])
    mean_square = float(np.mean(np.square(difference, dtype=np.float64)))
    return {
        "border_psnr_rgb": decibels(mean_square),
        "border_max_difference": int(difference.max()),
    }


def _none_measured(failed: list[Failed]) -> str:
    if not failed:
        return "There is no picture to measure."
    others = len(failed) - 1
    more = f" And {plural(others, 'other')}: measure them alone to see why." if others else ""
    return f"No picture could be measured. {failed[0].reason}{more}"


def _lr_quality(packet: Packet, reference: NDArray[np.uint8], niqe: Niqe | None) -> dict[str, Any]:
    """The fields of `PictureQuality` about the LR picture: how near it is to the bicubic one, and how it looks."""
    lr = packet.lr
    windowed, blind = min(lr.shape[:2]) >= SSIM_WINDOW, min(lr.shape[:2]) >= BLIND_MIN_SIZE
    return {
        "lr_psnr": psnr(lr, reference),
        "lr_psnr_y": psnr_y(lr, reference, border=0),
        "lr_ssim": ssim(lr, reference) if windowed else None,
        "lr_ssim_y": ssim_y(lr, reference, border=0) if windowed else None,
        "lr_max_difference": int(np.abs(lr.astype(np.int16) - reference).max()),
        "lr_niqe": _described(niqe(lr)) if niqe and blind else None,
        "bicubic_lr_niqe": _described(niqe(reference)) if niqe and blind else None,
        "lr_piqe": piqe(lr) if blind else None,
        "bicubic_lr_piqe": piqe(reference) if blind else None,
    }


def _left_out(measured: list[PictureQuality], judges: Judges, *, scale: int) -> list[LeftOut]:
    """Why a null of the result that is no perfect score is one."""
    found = [LeftOut(columns, len(measured), reason) for columns, reason in judges.missing.items()]
    present = {columns for columns in (_LPIPS, _NIQE) if columns not in judges.missing}
    sides = [min(one.width, one.height) for one in measured]
    lr_sides = [math.ceil(side / scale) for side in sides]
    blind = (*(_NIQE if _NIQE in present else ()), *_PIQE)
    for columns, of, least, picture in (
        (_LPIPS if _LPIPS in present else (), sides, LPIPS_MIN_SIZE, "picture"),
        (_LR_SSIM, lr_sides, SSIM_WINDOW, "LR picture"),
        (blind, lr_sides, BLIND_MIN_SIZE, "LR picture"),
    ):
        if columns and (small := sum(side < least for side in of)):
            found.append(LeftOut(columns, small, f"The {picture} is smaller than {least} x {least} pixels."))
    large = [one for one, side in zip(measured, lr_sides, strict=True) if side >= BLIND_MIN_SIZE]
    if _NIQE in present and (flat := sum(one.lr_niqe is None or one.bicubic_lr_niqe is None for one in large)):
        found.append(LeftOut(_NIQE, flat, "The LR picture has too little texture for its statistics."))
    return found


def _mean(measured: list[PictureQuality], name: str) -> float | None:
    """Over the pictures that have this value; None where none has it."""
    values = [value for one in measured if (value := getattr(one, name)) is not None]
    return statistics.fmean(values) if values else None


def _described(score: float) -> float | None:
    return None if math.isnan(score) else score
