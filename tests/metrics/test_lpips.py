"""LPIPS against the authors' published example, as a loss, and with weights that are missing or wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bdflow_rt.errors import CorruptModelError, DTypeError, MissingFileError, ShapeError
from bdflow_rt.metrics.lpips import Lpips, _unit_length
from tests.support import data_dir, needs_data, photo


def metrics_dir() -> Path:
    folder = data_dir()
    assert folder is not None
    return folder / "metrics"


def network() -> Lpips:
    return Lpips(path=metrics_dir() / "lpips_alex_v0.1.npz")


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.tensor(image).permute(2, 0, 1)[None] / 255


@needs_data
def test_authors_example():
    reference, p0, p1 = (
        tensor(np.asarray(Image.open(metrics_dir() / "lpips_ref" / f"ex_{name}.png").convert("RGB")))
        for name in ("ref", "p0", "p1")
    )
    distance = network()(torch.cat([reference, reference]), torch.cat([p0, p1]))
    assert distance.tolist() == pytest.approx([0.7219, 0.1376], abs=5e-5)


@needs_data
def test_distance_is_a_symmetric_zero_on_equal_pictures_and_grows_with_noise():
    clean = tensor(photo(67, 83, seed=1))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    distances = network()(clean.expand(3, -1, -1, -1), clean + torch.tensor([0, 0.05, 0.2]).view(3, 1, 1, 1) * noise)
    assert distances[0] == 0
    assert distances[0] < distances[1] < distances[2]
    assert network()(clean + 0.2 * noise, clean).item() == pytest.approx(distances[2].item(), rel=1e-5)


@needs_data
def test_gradients_are_finite_even_on_flat_and_equal_pictures():
    distance = network()
    target = tensor(photo(64, 64, seed=1))
    for start in (torch.zeros_like(target), torch.full_like(target, 0.5), target.clone(), 1 - target):
        start.requires_grad_()
        distance(start, target).sum().backward()
        assert start.grad is not None
        assert start.grad.isfinite().all()
        assert start.grad.any() == (not torch.equal(start, target))


def test_gradient_is_finite_where_no_feature_responds():
    features = torch.zeros(1, 4, 2, 2, requires_grad=True)
    _unit_length(features).sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


@needs_data
def test_network_has_nothing_to_train_and_nothing_to_save():
    distance = network()
    assert not list(distance.parameters())
    assert not distance.state_dict()


@needs_data
def test_smallest_picture_works_and_a_smaller_one_raises():
    distance = network()
    a, b = torch.zeros(1, 3, 31, 31), torch.ones(1, 3, 31, 31)
    assert distance(a, b).item() > 0
    with pytest.raises(ShapeError, match="at least 31"):
        distance(a[..., 1:], b[..., 1:])


@needs_data
def test_integers_raise_instead_of_being_taken_for_0_to_1():
    with pytest.raises(DTypeError):
        network()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


@needs_data
def test_weights_are_found_through_the_environment(monkeypatch):
    monkeypatch.setenv("BDFLOW_DATA", str(data_dir()))
    assert Lpips()(torch.zeros(1, 3, 33, 33), torch.ones(1, 3, 33, 33)).item() > 0


def test_missing_weights_say_where_they_are_looked_for(monkeypatch, tmp_path):
    monkeypatch.delenv("BDFLOW_DATA", raising=False)
    with pytest.raises(MissingFileError, match="BDFLOW_DATA"):
        Lpips()
    monkeypatch.setenv("BDFLOW_DATA", str(tmp_path))
    with pytest.raises(MissingFileError, match=r"lpips_alex_v0\.1\.npz does not exist"):
        Lpips()


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04 cut short"])
def test_files_that_are_no_archive_raise(tmp_path, content):
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    with pytest.raises(CorruptModelError, match=r"not an \.npz archive"):
        Lpips(path=path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archive_with_a_flipped_byte_raises(tmp_path, save):
    path = tmp_path / "weights.npz"
    save(path, weight=np.random.default_rng(0).random(5000).round(2))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(CorruptModelError, match="cannot be read"):
        Lpips(path=path)


def test_plain_array_raises(tmp_path):
    path = tmp_path / "weights.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(CorruptModelError, match=r"not an \.npz archive"):
        Lpips(path=path)


@needs_data
def test_weights_of_another_network_raise():
    with pytest.raises(CorruptModelError, match=r"features\.0\.weight"):
        Lpips(path=metrics_dir() / "lpips_squeeze_v0.1.npz")
