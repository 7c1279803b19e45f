"""NIQE: MATLAB's figure, an independent implementation's, and what damage must do to it."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bdflow_rt.errors import CorruptModelError, DTypeError, MissingFileError, ShapeError
from bdflow_rt.metrics import Niqe, rgb_to_y
from tests.support import data_dir, needs_data, photo


def data() -> Path:
    folder = data_dir()
    assert folder is not None
    return folder


@pytest.fixture
def niqe() -> Niqe:
    return Niqe(path=data() / "metrics" / "niqe_pris_params.npz")


def picture(name: str) -> npt.NDArray[np.uint8]:
    (path,) = (data() / "test").glob(f"*/{name}.png")
    return np.asarray(Image.open(path))


def parameters(
    folder: Path, *, mean: npt.NDArray[np.float64] | None = None, covariance: npt.NDArray[np.float64] | None = None
) -> Path:
    """A file of parameters that says natural pictures have no features and unit variance, unless told otherwise."""
    mean = np.zeros((1, 36)) if mean is None else mean
    covariance = np.eye(36) if covariance is None else covariance
    np.savez(folder / "niqe.npz", mu_pris_param=mean, cov_pris_param=covariance)
    return folder / "niqe.npz"


@needs_data
def test_figure_of_the_authors_matlab_code(niqe: Niqe) -> None:
    """MATLAB R2021a gives 5.72957338 for the luma of this picture, as BasicSR's documentation has it."""
    assert niqe(picture("baboon")) == pytest.approx(5.72957338, abs=1e-4)


@needs_data
@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("butterfly", 5.154861),
        ("coastguard", 5.351193),
        ("comic", 4.138842),
        ("flowers", 2.885727),
        ("109053", 2.310105),
        ("147091", 3.341918),
    ],
)
def test_figures_of_another_implementation(niqe: Niqe, name: str, score: float) -> None:
    """pyiqa 0.1.16 with the same parameters in float64, on pictures without flat areas; odd and even sizes."""
    assert niqe(picture(name)) == pytest.approx(score, abs=2e-5)


@needs_data
def test_noise_and_blur_make_photographs_less_natural(niqe: Niqe) -> None:
    scores: dict[str, list[float]] = {}
    for path in sorted((data() / "test" / "Set14").glob("*.png")):
        clean = np.asarray(Image.open(path))
        noise = np.random.default_rng(0).normal(0, 1, clean.shape)
        for sigma in (0, 10, 25):
            noisy = np.clip(clean + sigma * noise, 0, 255).round().astype(np.uint8)
            scores.setdefault(f"noise {sigma}", []).append(niqe(noisy))
        for sigma in (1, 3):
            scores.setdefault(f"blur {sigma}", []).append(niqe(cv2.GaussianBlur(clean, (0, 0), sigma).astype(np.uint8)))
    means = {name: np.mean(found) for name, found in scores.items()}
    assert means["noise 0"] < means["noise 10"] < means["noise 25"]
    assert means["noise 0"] < means["blur 1"] < means["blur 3"]


@needs_data
def test_only_whole_blocks_from_the_top_left_count(niqe: Niqe) -> None:
    image = picture("zebra")
    cropped = image[: image.shape[0] // 96 * 96, : image.shape[1] // 96 * 96]
    assert cropped.shape != image.shape
    assert niqe(cropped) == niqe(image)
    assert niqe(np.pad(cropped, ((96, 0), (0, 0), (0, 0)))) != niqe(cropped)


@needs_data
def test_a_grey_picture_is_its_own_luma(niqe: Niqe) -> None:
    image = picture("butterfly")
    assert niqe(np.round(rgb_to_y(image)).astype(np.uint8)) == niqe(image)


@needs_data
@pytest.mark.parametrize("level", [0, 77, 255])
def test_a_picture_without_texture_has_no_score(niqe: Niqe, level: int) -> None:
    assert math.isnan(niqe(np.full((193, 211, 3), level, np.uint8)))


@needs_data
@pytest.mark.parametrize("level", [0, 77, 255])
def test_bars_without_texture_do_not_count(niqe: Niqe, level: int) -> None:
    image = picture("zebra")[:384, :576].copy()
    # Flat already where the bar begins, so that at neither scale the bar changes the surroundings of a pixel.
    image[:16] = level
    bar = np.full((96, 576, 3), level, np.uint8)
    assert niqe(np.concatenate([bar, image])) == pytest.approx(niqe(image), abs=0.01)


def test_smallest_picture_works_and_a_smaller_one_raises(tmp_path: Path) -> None:
    niqe = Niqe(path=parameters(tmp_path))
    assert niqe(photo(192, 192, 1)) > 0
    for size in ((191, 192), (192, 191)):
        with pytest.raises(ShapeError, match="at least 192 x 192"):
            niqe(photo(*size, 1))


def test_distance_is_measured_from_the_parameters(tmp_path: Path) -> None:
    image = photo(200, 300, 1)
    near = Niqe(path=parameters(tmp_path))(image)
    wide = Niqe(path=parameters(tmp_path, covariance=100 * np.eye(36)))(image)
    far = Niqe(path=parameters(tmp_path, mean=np.full((1, 36), 50.0)))(image)
    assert wide < near < far


def test_pictures_of_another_kind_raise(tmp_path: Path) -> None:
    niqe = Niqe(path=parameters(tmp_path))
    with pytest.raises(ShapeError):
        niqe(np.zeros((200, 200, 4), np.uint8))
    with pytest.raises(DTypeError):
        niqe(np.zeros((200, 200)))  # type: ignore[arg-type]


@needs_data
def test_parameters_are_found_through_the_environment(monkeypatch: pytest.MonkeyPatch, niqe: Niqe) -> None:
    monkeypatch.setenv("BDFLOW_DATA", str(data()))
    image = photo(193, 197, 1)
    assert Niqe()(image) == niqe(image)


def test_missing_parameters_say_where_they_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("BDFLOW_DATA", raising=False)
    with pytest.raises(MissingFileError, match="BDFLOW_DATA"):
        Niqe()
    monkeypatch.setenv("BDFLOW_DATA", str(tmp_path))
    with pytest.raises(MissingFileError, match=r"niqe_pris_params\.npz does not exist"):
        Niqe()


@pytest.mark.parametrize(("options", "name"), [({"mean": 1}, "mu_pris_param"), ({"covariance": 36}, "cov_pris_param")])
def test_parameters_of_another_shape_raise(tmp_path: Path, options: dict[str, int], name: str) -> None:
    path = parameters(tmp_path, **{option: np.zeros((rows, 35)) for option, rows in options.items()})
    with pytest.raises(CorruptModelError, match=name):
        Niqe(path=path)


def test_a_file_without_the_parameters_raises(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    with pytest.raises(CorruptModelError, match="mu_pris_param is missing"):
        Niqe(path=tmp_path / "other.npz")
    (tmp_path / "other.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(CorruptModelError, match=r"not an \.npz archive"):
        Niqe(path=tmp_path / "other.npz")
