"""PIQE: an independent implementation's figures, the definition block by block, and what damage must do to it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from bdflow_rt.errors import DTypeError, EmptyImageError, ShapeError
from bdflow_rt.metrics import piqe
from tests.support import data_dir, needs_data, photo


def picture(name: str) -> npt.NDArray[np.uint8]:
    folder = data_dir()
    assert folder is not None
    (path,) = Path(folder / "test").glob(f"*/{name}.png")
    return np.asarray(Image.open(path))


@needs_data
@pytest.mark.parametrize(("name", "score"), [("bridge", 33.0353), ("coastguard", 31.9911), ("man", 21.2760)])
def test_figures_of_another_implementation(name: str, score: float) -> None:
    """pypiqe 1.2, on pictures whose brightest grey is 255: it scales every picture to that, MATLAB does not."""
    assert piqe(picture(name)) == pytest.approx(score, abs=5e-5)


def block_by_block(grey: npt.NDArray[np.uint8]) -> float:
    """The definition as MATLAB's `piqe` has it, read slowly, with another library's Gaussian."""
    padded = np.pad(grey.astype(float), [(0, -length % 16) for length in grey.shape], mode="edge")

    def blur(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(gaussian_filter(image, 7 / 6, radius=3, mode="nearest"))

    mean = blur(padded)
    contrast = (padded - mean) / (np.sqrt(np.abs(blur(padded**2) - mean**2)) + 1)
    active, total = 0, 0.0
    for top in range(0, padded.shape[0], 16):
        for left in range(0, padded.shape[1], 16):
            block = contrast[top : top + 16, left : left + 16]
            variance = np.var(block, ddof=1)
            if variance <= 0.1:
                continue
            active += 1
            edges = (block[0], block[15], block[:, 0], block[:, 15])
            if any(np.std(edge[start : start + 6], ddof=1) < 0.1 for edge in edges for start in range(11)):
                total += 1 - variance
            # Column 8 goes first; the next one then is column 10 of those that were there.
            surround = np.delete(np.delete(block, 7, axis=1), 8, axis=1)
            ratio = np.std(block[:, 7:9], ddof=1) / np.std(surround, ddof=1)
            deviation = np.sqrt(variance)
            if deviation > 2 * abs(deviation - ratio) / max(deviation, ratio):
                total += variance
    return 100 * (total + 1) / (active + 1)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (97, 118), (160, 301), (5, 64)])
@pytest.mark.parametrize("noise", [0, 4, 25])
def test_score_equals_the_definition_read_block_by_block(height: int, width: int, noise: int) -> None:
    grey = photo(height, width, 3)[..., 1].astype(float)
    grey += np.random.default_rng(1).normal(0, 1, grey.shape) * noise
    grey[:, width // 2 :] = np.round(grey[:, width // 2 :] / 32) * 32
    image = np.clip(grey.round(), 0, 255).astype(np.uint8)
    assert piqe(image) == pytest.approx(block_by_block(image), abs=1e-9)


def test_colours_count_by_the_luma_of_matlabs_rgb2gray() -> None:
    image = photo(67, 83, 2)
    # Its documentation derives the weights so: the luma row of the inverse of NTSC's matrix.
    ntsc = np.linalg.inv([[1, 0.956, 0.621], [1, -0.272, -0.647], [1, -1.106, 1.703]])
    grey = np.floor(image @ ntsc[0] + 0.5).astype(np.uint8)
    assert piqe(image) == piqe(grey)
    assert piqe(image) != piqe(np.ascontiguousarray(image[..., ::-1]))


@needs_data
def test_noise_and_compression_make_photographs_worse() -> None:
    folder = data_dir()
    assert folder is not None
    scores: dict[str, list[float]] = {}
    for path in sorted((folder / "test" / "Set14").glob("*.png")):
        clean = np.asarray(Image.open(path))
        noise = np.random.default_rng(0).normal(0, 1, clean.shape)
        for sigma in (0, 10, 30):
            noisy = np.clip(clean + sigma * noise, 0, 255).round().astype(np.uint8)
            scores.setdefault(f"noise {sigma}", []).append(piqe(noisy))
        for quality in (60, 30, 10):
            jpeg = io.BytesIO()
            Image.fromarray(clean).save(jpeg, "jpeg", quality=quality)
            scores.setdefault(f"jpeg {quality}", []).append(piqe(np.asarray(Image.open(jpeg))))
    means = {name: np.mean(found) for name, found in scores.items()}
    assert means["noise 0"] < means["noise 10"] < means["noise 30"]
    assert means["noise 0"] < means["jpeg 60"] < means["jpeg 30"] < means["jpeg 10"]


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (33, 7)])
def test_a_picture_without_an_active_block_has_the_worst_score(size: tuple[int, int]) -> None:
    assert piqe(np.full((*size, 3), 200, np.uint8)) == 100


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.zeros((4, 4, 4), np.uint8), ShapeError),
        (np.zeros(4, np.uint8), ShapeError),
        (np.zeros((0, 4), np.uint8), EmptyImageError),
        (np.zeros((4, 4)), DTypeError),
    ],
)
def test_arrays_that_are_no_8_bit_pictures_raise(image: npt.NDArray[np.uint8], error: type[Exception]) -> None:
    with pytest.raises(error):
        piqe(image)
