"""Refinement of the LR picture: better restored, an ordinary packet, and the same whatever the tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bdflow_rt import Packet, Rescaler, ZPolicy, read_packet
from bdflow_rt.engines import select
from bdflow_rt.errors import (
    ArgumentError,
    BackendUnavailableError,
    ClosedError,
    NonFiniteOutputError,
    OutOfMemoryError,
    WeightsHashError,
)
from bdflow_rt.metrics import bicubic_downscale, psnr
from bdflow_rt.refine import LR_WEIGHT, LUMA, Refiner
from bdflow_rt.tiles import MIB, bytes_per_lr_pixel
from bdflow_rt.zoo import ModelCard
from tests.support import photo
from tests.support_models import HAS_BF16, make_model, tiny_config

SIZES = [(1, 1), (1, 7), (5, 3), (31, 37), (64, 64)]
UInt8Array = NDArray[np.uint8]


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[int, ModelCard]:
    folder = tmp_path_factory.mktemp("zoo")
    return {scale: make_model(folder, tiny_config(scale), name=f"tiny-x{scale}") for scale in (2, 4, 8)}


@pytest.fixture
def rescaler(cards: dict[int, ModelCard]) -> Iterator[Rescaler]:
    with Rescaler(cards[4], threads=1) as opened:
        yield opened


def refiner(card: ModelCard, *, memory_limit_mib: float = float("inf")) -> Refiner:
    return Refiner(card, device="cpu", bf16=False, memory_limit_mib=memory_limit_mib)


def objective(restored: UInt8Array, hr: UInt8Array, lr: UInt8Array, scale: int) -> float:
    """What refinement makes small, as its docstring says, in mean squares of 8-bit levels."""
    error = restored.astype(float) - hr
    distance = lr.astype(float) - bicubic_downscale(hr, scale=scale)
    return float((error**2).mean() + ((error @ LUMA) ** 2).mean() + LR_WEIGHT * scale * (distance**2).mean())


def levels(packet: Packet) -> UInt8Array:
    assert packet.boundary is not None
    return packet.boundary


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_refined_picture_comes_back_better_by_the_sum_that_is_promised(
    cards: dict[int, ModelCard], scale: int
) -> None:
    hr = photo(61, 83, scale)
    with Rescaler(cards[scale], threads=1) as rescaler:
        plain, refined = rescaler.downscale(hr), rescaler.downscale(hr, refine=12)
        before, after = (objective(rescaler.upscale(one), hr, one.lr, scale) for one in (plain, refined))
    assert after < 0.98 * before
    assert np.array_equal(levels(plain), levels(refined))
    assert dataclasses.replace(refined.header, lr_crc32=0) == dataclasses.replace(plain.header, lr_crc32=0)


@pytest.mark.parametrize("name", ["bdflow-x2", "bdflow-x4-fast", "bdflow-x8"])
def test_released_weights_gain_tenths_of_a_decibel(name: str) -> None:
    hr = photo(96, 80, 3)
    with Rescaler.from_pretrained(name, threads=1) as rescaler:
        plain, refined = (psnr(rescaler.upscale(rescaler.downscale(hr, refine=steps)), hr) for steps in (0, 8))
    assert refined > plain + 0.2


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_size_is_refined_and_none_gets_worse(rescaler: Rescaler, height: int, width: int) -> None:
    hr = photo(height, width, 1)
    plain, refined = rescaler.downscale(hr), rescaler.downscale(hr, refine=3)
    before, after = (objective(rescaler.upscale(one), hr, one.lr, 4) for one in (plain, refined))
    assert after <= before * 1.02  # the restored picture is rounded here, and is not where it is refined


def test_no_steps_leave_the_network_s_own_pixels(cards: dict[int, ModelCard], rescaler: Rescaler) -> None:
    hr = photo(40, 52, 2)
    packet = rescaler.downscale(hr)
    assert np.array_equal(refiner(cards[4]).refine(hr, packet.lr, packet.boundary, steps=0), packet.lr)


@pytest.mark.parametrize("scale", [2, 4])
def test_tiles_have_the_gradient_of_the_whole(cards: dict[int, ModelCard], scale: int) -> None:
    card = cards[scale]
    hr = photo(53 * scale + 1, 61 * scale - 1, 5)
    with Rescaler(card, threads=1) as rescaler:
        packet = rescaler.downscale(hr)
    side = 2 * card.config.halo + 9
    limit = side * side * bytes_per_lr_pixel(card.config, "gradient") / MIB
    calls: list[tuple[int, int]] = []
    whole = refiner(card).refine(hr, packet.lr, packet.boundary, steps=2)
    tiled = refiner(card, memory_limit_mib=limit).refine(
        hr, packet.lr, packet.boundary, steps=2, progress=lambda *done: calls.append(done)
    )
    tiles = calls[-1][1] // 3
    assert tiles > 3
    assert calls == [(done, 3 * tiles) for done in range(1, 3 * tiles + 1)]
    # Sums in another order turn a step of Adam now and then, where a gradient is almost 0.
    assert np.mean(whole != tiled) < 2e-3
    assert np.mean(whole != packet.lr) > 0.1


def test_a_limit_below_the_smallest_tile_names_one_that_works(cards: dict[int, ModelCard]) -> None:
    hr = photo(400, 400, 1)
    with (
        Rescaler(cards[4], threads=1, memory_limit_mib=0.5) as rescaler,
        pytest.raises(OutOfMemoryError, match="raise"),
    ):
        rescaler.downscale(hr, refine=1)


def test_grey_pictures_and_models_without_a_boundary_are_refined(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(4, bits=0))
    hr = photo(45, 39, 4)[:, :, 1]
    with Rescaler(card, threads=1) as rescaler:
        plain, refined = rescaler.downscale(hr), rescaler.downscale(hr, refine=8)
        assert psnr(rescaler.upscale(refined)[:, :, 0], hr) > psnr(rescaler.upscale(plain)[:, :, 0], hr)
        assert refined.header.colour.model == "grey"


def test_it_is_the_z_of_the_packet_that_is_refined_for(rescaler: Rescaler) -> None:
    hr, z = photo(64, 64, 6), ZPolicy(temperature=3.0, seed=5)
    for_z, for_none = rescaler.downscale(hr, z=z, refine=10), rescaler.downscale(hr, refine=10)
    assert psnr(rescaler.upscale(for_z), hr) > psnr(rescaler.upscale(for_none, z=z), hr)
    assert psnr(rescaler.upscale(for_none), hr) > psnr(rescaler.upscale(for_z, z=ZPolicy()), hr)


def test_files_and_batches_are_refined_as_arrays_are(rescaler: Rescaler, tmp_path: Path) -> None:
    hr = photo(33, 47, 7)
    wanted = rescaler.downscale(hr, refine=3)
    (found,) = rescaler.downscale_batch([hr], refine=3)
    assert np.array_equal(found.lr, wanted.lr)
    from PIL import Image

    Image.fromarray(hr).save(tmp_path / "hr.png")
    rescaler.downscale_file(tmp_path / "hr.png", tmp_path / "lr.png", refine=3)
    packet = read_packet(tmp_path / "lr.png")
    assert np.array_equal(packet.lr, wanted.lr)
    packet.check_pixels()


@pytest.mark.parametrize("steps", [-1, 1.5, True, "3", None])
def test_steps_that_are_no_number_of_steps_are_refused(rescaler: Rescaler, steps: Any) -> None:
    with pytest.raises(ArgumentError, match="refine is"):
        rescaler.downscale(photo(8, 8, 1), refine=steps)


def test_without_pytorch_the_way_out_is_named(rescaler: Rescaler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "is_installed", lambda backend: backend != "torch")
    with pytest.raises(BackendUnavailableError, match="pip install"):
        rescaler.downscale(photo(8, 8, 1), refine=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_named(cards: dict[int, ModelCard]) -> None:
    with Rescaler(cards[4], backend="torch", device="cuda") as rescaler, pytest.raises(BackendUnavailableError):
        rescaler.downscale(photo(8, 8, 1), refine=1)


def test_a_closed_rescaler_does_not_refine(rescaler: Rescaler) -> None:
    rescaler.downscale(photo(8, 8, 1), refine=1)
    rescaler.close()
    with pytest.raises(ClosedError):
        rescaler.downscale(photo(8, 8, 1), refine=1)


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(4))
    with Rescaler(card, threads=1) as rescaler:
        rescaler.downscale(photo(8, 8, 1))
        content = bytearray(card.weights_path.read_bytes())
        content[-1] ^= 1
        card.weights_path.write_bytes(content)
        with pytest.raises(WeightsHashError):
            rescaler.downscale(photo(8, 8, 1), refine=1)


def test_what_is_not_finite_is_no_picture(cards: dict[int, ModelCard]) -> None:
    made = refiner(cards[4])
    with torch.no_grad():
        next(made._model.parameters()).fill_(float("nan"))
    hr = photo(16, 16, 1)
    with pytest.raises(NonFiniteOutputError):
        made.refine(hr, hr[::4, ::4].copy(), np.zeros((4, 4), np.uint8), steps=1)


@pytest.mark.parametrize("raised", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_memory_that_runs_out_is_said_so(cards: dict[int, ModelCard], raised: Exception) -> None:
    made = refiner(cards[4])

    def fail(*_: object) -> None:
        raise raised

    next(module for module in made._model.modules() if isinstance(module, torch.nn.Conv2d)).register_forward_pre_hook(
        fail
    )
    hr = photo(16, 16, 1)
    with pytest.raises(OutOfMemoryError, match="memory_limit_mib"):
        made.refine(hr, hr[::4, ::4].copy(), np.zeros((4, 4), np.uint8), steps=1)


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")
def test_bfloat16_refines_as_well(tmp_path: Path) -> None:
    hr = photo(96, 80, 3)
    with Rescaler.from_pretrained("bdflow-x4-fast", threads=1, precision="bf16") as rescaler:
        plain, refined = (psnr(rescaler.upscale(rescaler.downscale(hr, refine=steps)), hr) for steps in (0, 8))
    assert refined > plain + 0.2
