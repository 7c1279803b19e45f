"""Refinement of the LR picture: better restored, an ordinary packet, and the same whatever the tiles."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bdflow_rt import Packet, Rescaler, ZPolicy, read_packet
from bdflow_rt.engines.backends import BackendInfo
from bdflow_rt.engines.torch.settings import own_settings
from bdflow_rt.errors import (
    ArgumentError,
    BackendUnavailableError,
    ClosedError,
    NonFiniteOutputError,
    OutOfMemoryError,
    WeightsHashError,
)
from bdflow_rt.metrics import bicubic_downscale, psnr
from bdflow_rt.metrics.psnr import LUMA
from bdflow_rt.models.io import load_model
from bdflow_rt.runtime import refine
from bdflow_rt.runtime.latent import latent_rows
from bdflow_rt.runtime.plan import MIB, Span, Window, bytes_per_lr_pixel, halo_of, windows
from bdflow_rt.runtime.refine import LR_WEIGHT, Refiner, Target
from bdflow_rt.zoo import ModelCard, find_model
from bdflow_rt.zoo.interface import LR_BOUND
from tests.support import photo, slow, slow_but
from tests.support_models import HAS_BF16, make_model, tiny_config

UInt8Array = NDArray[np.uint8]


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[int, ModelCard]:
    folder = tmp_path_factory.mktemp("zoo")
    return {scale: make_model(folder, tiny_config(scale), name=f"tiny-x{scale}") for scale in (2, 4, 8)}


@pytest.fixture
def rescaler(cards: dict[int, ModelCard]) -> Iterator[Rescaler]:
    with Rescaler(cards[4], threads=1) as opened:
        yield opened


def refiner(card: ModelCard) -> Refiner:
    return Refiner(card, device="cpu", bf16=False, threads=1)


def whole(lr: UInt8Array) -> list[Window]:
    """The plan of one window."""
    height, width = lr.shape[:2]
    return [(Span(0, height, 0, height), Span(0, width, 0, width))]


def limit_for(card: ModelCard, side: int) -> float:
    """The memory limit with which a window has such a side."""
    return side * side * bytes_per_lr_pixel(card.interface, "gradient") / MIB * (1 + 1e-9)


def loss_and_gradient(
    made: Refiner, hr: UInt8Array, packet: Packet, plan: list[Window], *, grey: bool, z: ZPolicy | None
) -> tuple[float, torch.Tensor]:
    """One pass over the windows, as `refine` makes it."""
    lr = packet.lr
    latent = None if z is None else partial(latent_of, made._card, z, lr)
    target = Target(hr, packet.boundary, grey=grey, latent=latent)
    values = torch.from_numpy(lr / np.float32(255))
    reference = torch.from_numpy(bicubic_downscale(hr, scale=packet.header.scale) / np.float32(255))
    with own_settings(torch.device("cpu"), threads=None, grad=True):
        loss, gradient = made._guide(values, reference, lr, hr.shape)
        for window in plan:
            loss += made._window(target, window, lr, gradient)
    return loss, gradient


def latent_of(card: ModelCard, z: ZPolicy, lr: UInt8Array, rows: Span, columns: Span) -> NDArray[np.float32]:
    return latent_rows(
        range(rows.start, rows.stop), columns=range(columns.start, columns.stop), width=lr.shape[1],
        channels=card.interface.latent_channels, temperature=z.temperature, seed=z.seed,
    )  # fmt: skip


def twin(
    card: ModelCard, hr: UInt8Array, packet: Packet, *, grey: bool, z: ZPolicy | None
) -> tuple[float, torch.Tensor]:
    """The objective as `refine` describes it, of the whole picture in float64, times its pixels; and its gradient."""
    model = load_model(card).double()
    lr = (torch.from_numpy(packet.lr).double() / 255).requires_grad_()
    levels = None if packet.boundary is None else torch.from_numpy(packet.boundary)[None, None].double()
    boundary = None if levels is None or model.quantizer is None else model.quantizer.value(levels)
    latent = None if z is None else torch.from_numpy(latent_of(card, z, packet.lr, *whole(packet.lr)[0])).double()[None]
    restored = model.inverse(lr.permute(2, 0, 1)[None], boundary, latent)[0, :, : hr.shape[0], : hr.shape[1]]
    shown = restored.mean(dim=0, keepdim=True).expand(3, -1, -1) if grey else restored
    error = shown.clamp(0, 1) - torch.from_numpy(hr).double().permute(2, 0, 1) / 255
    luma = (error * torch.tensor(LUMA).double()[:, None, None]).sum(dim=0)
    reference = torch.from_numpy(bicubic_downscale(hr, scale=packet.header.scale)).double() / 255
    distance = LR_WEIGHT * packet.header.scale * (lr - reference).square().mean()
    loss = (error.square().mean() + luma.square().mean() + distance) * hr.shape[0] * hr.shape[1]
    (gradient,) = torch.autograd.grad(loss, lr)
    return float(loss.detach()), gradient


@pytest.mark.parametrize(
    ("name", "size", "grey", "temperature"),
    [
        ("bdflow-x2", (75, 83), False, 0.0),
        slow("bdflow-x4-fast", (147, 201), False, 0.0),
        ("bdflow-x4-fast", (5, 3), False, 0.0),
        ("bdflow-x4-fast", (61, 45), True, 0.0),
        ("bdflow-x4-fast", (61, 45), False, 0.5),
    ],
)
def test_every_plan_has_the_gradient_of_the_promised_sum(
    name: str, size: tuple[int, int], grey: bool, temperature: float
) -> None:
    card, hr = find_model(name), photo(*size, 3)
    hr = np.repeat(hr[:, :, :1], 3, axis=2) if grey else hr
    z = ZPolicy(temperature=temperature, seed=7) if temperature else None
    with Rescaler(card, threads=1) as rescaler:
        packet = rescaler.downscale(hr[:, :, 0] if grey else hr, z=z)
    wanted_loss, wanted = twin(card, hr, packet, grey=grey, z=z)
    height, width = packet.lr.shape[:2]
    halo = halo_of(card.interface, "gradient")
    tiled = list(windows(height, width, (min(height, 2 * halo + 5), min(width, 2 * halo + 7)), halo))
    assert len(tiled) > 5 or max(size) < 100
    for plan in (whole(packet.lr), tiled):
        loss, found = loss_and_gradient(refiner(card), hr, packet, plan, grey=grey, z=z)
        assert loss == pytest.approx(wanted_loss, rel=1e-4)
        assert float((found - wanted).norm() / wanted.norm()) < 2e-3


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("bdflow-x4-fast", 132),
        slow("bdflow-x2-fast", 110),
        slow("bdflow-x2-hq", 110),
        slow("bdflow-x4-hq", 200),
        slow("bdflow-x8", 420),
    ],
)
def test_tiles_with_less_than_the_receptive_field_judge_as_the_whole_picture_does(name: str, side: int) -> None:
    card, hr = find_model(name), photo(side, side, 3)
    assert halo_of(card.interface, "gradient") < (card.interface.halo or 0)
    with Rescaler(card, threads=1) as rescaler:
        packet = rescaler.downscale(hr)
    halo = halo_of(card.interface, "gradient")
    height, width = packet.lr.shape[:2]
    tiled = list(windows(height, width, (2 * halo + 5, 2 * halo + 7), halo))
    assert len(tiled) > 2
    (expected, wanted), (loss, found) = (
        loss_and_gradient(refiner(card), hr, packet, plan, grey=False, z=None) for plan in (whole(packet.lr), tiled)
    )
    assert loss == pytest.approx(expected, rel=1e-6)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-3


def objective(restored: UInt8Array, hr: UInt8Array, lr: UInt8Array, scale: int) -> float:
    """What refinement makes small, as its docstring says, in mean squares of 8-bit levels."""
    error = restored.astype(float) - hr
    distance = lr.astype(float) - bicubic_downscale(hr, scale=scale)
    return float((error**2).mean() + ((error @ LUMA) ** 2).mean() + LR_WEIGHT * scale * (distance**2).mean())


def levels(packet: Packet) -> UInt8Array:
    assert packet.boundary is not None
    return packet.boundary


@pytest.mark.parametrize("scale", slow_but([2, 4], [2, 4, 8]))
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


@pytest.mark.parametrize("name", slow_but(["bdflow-x4-fast"], ["bdflow-x2", "bdflow-x4-fast", "bdflow-x8"]))
def test_released_weights_gain_tenths_of_a_decibel(name: str) -> None:
    hr = photo(96, 80, 3)
    with Rescaler.from_pretrained(name, threads=1) as rescaler:
        plain, refined = (psnr(rescaler.upscale(rescaler.downscale(hr, refine=steps)), hr) for steps in (0, 8))
    assert refined > plain + 0.2


@pytest.mark.parametrize(("height", "width"), [(1, 1), slow(1, 7), slow(5, 3), (31, 37), slow(64, 64)])
def test_every_size_is_refined(rescaler: Rescaler, height: int, width: int) -> None:
    hr = photo(height, width, 1)
    plain, refined = rescaler.downscale(hr), rescaler.downscale(hr, refine=3)
    assert refined.lr.shape == plain.lr.shape
    before, after = (objective(rescaler.upscale(one), hr, one.lr, 4) for one in (plain, refined))
    assert after <= before * 1.02  # restored pictures are rounded here, which refinement does not see


def test_where_every_step_makes_it_worse_the_network_s_own_pixels_stay(
    cards: dict[int, ModelCard], monkeypatch: pytest.MonkeyPatch
) -> None:
    def uphill(self: Refiner, target: Target, window: Window, lr: UInt8Array, gradient: torch.Tensor | None) -> float:
        loss = downhill(self, target, window, lr, gradient)
        if gradient is not None:
            gradient.neg_()
        return loss

    downhill = Refiner._window
    hr = photo(40, 52, 2)
    with Rescaler(cards[4], threads=1) as rescaler:
        packet = rescaler.downscale(hr)
        assert not np.array_equal(rescaler.downscale(hr, refine=3).lr, packet.lr)
        monkeypatch.setattr(Refiner, "_window", uphill)
        assert np.array_equal(rescaler.downscale(hr, refine=3).lr, packet.lr)


def test_no_steps_leave_the_network_s_own_pixels(cards: dict[int, ModelCard], rescaler: Rescaler) -> None:
    hr = photo(40, 52, 2)
    packet = rescaler.downscale(hr)
    found = refiner(cards[4]).refine(Target(hr, packet.boundary), packet.lr, steps=0, plan=whole(packet.lr))
    assert np.array_equal(found, packet.lr)


def test_small_tiles_refine_as_one_does_and_are_counted(cards: dict[int, ModelCard]) -> None:
    card, hr = cards[4], photo(213, 243, 5)
    calls: list[tuple[int, int]] = []
    with Rescaler(card, threads=1) as large:
        plain, wanted = large.downscale(hr), large.downscale(hr, refine=2)
    limit = limit_for(card, 2 * halo_of(card.interface, "openvino") + 9)
    with Rescaler(card, threads=1, memory_limit_mib=limit) as small:
        found = small.downscale(hr, refine=2, progress=lambda *done: calls.append(done))
    tiles = calls[-1][1] // 3
    assert tiles > 3
    assert calls[-3 * tiles :] == [(done, 3 * tiles) for done in range(1, 3 * tiles + 1)]
    # Sums in another order turn a step of Adam now and then, where a gradient is almost 0.
    assert np.mean(wanted.lr != found.lr) < 2e-3
    assert np.mean(wanted.lr != plain.lr) > 0.1


def test_a_limit_below_the_smallest_tile_names_one_that_works(cards: dict[int, ModelCard]) -> None:
    hr = photo(120, 104, 1)
    limit = limit_for(cards[4], 2 * halo_of(cards[4].interface, "openvino"))
    with Rescaler(cards[4], threads=1, memory_limit_mib=limit) as rescaler, pytest.raises(OutOfMemoryError) as caught:
        rescaler.downscale(hr, refine=1)
    named = re.search(r"takes about (\d+) MiB", str(caught.value))
    assert named is not None
    with Rescaler(cards[4], threads=1, memory_limit_mib=int(named[1])) as rescaler:
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
    packet.check_unedited()


@pytest.mark.parametrize("steps", [-1, 1.5, True, "3", None])
def test_steps_that_are_no_number_of_steps_are_refused(rescaler: Rescaler, steps: Any) -> None:
    with pytest.raises(ArgumentError, match="refine is"):
        rescaler.downscale(photo(8, 8, 1), refine=steps)


def test_without_pytorch_the_way_out_is_named(rescaler: Rescaler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BackendInfo, "is_installed", property(lambda info: info.name != "torch"))
    with pytest.raises(BackendUnavailableError, match="pip install"):
        rescaler.downscale(photo(8, 8, 1), refine=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_named(cards: dict[int, ModelCard]) -> None:
    with Rescaler(cards[4], backend="torch", device="cuda") as rescaler, pytest.raises(BackendUnavailableError):
        rescaler.downscale(photo(8, 8, 1), refine=1)


@pytest.mark.parametrize("steps", [0, 1])
def test_a_z_that_is_no_policy_is_refused_before_the_work(rescaler: Rescaler, steps: int) -> None:
    wrong: Any = 0.45
    with pytest.raises(ArgumentError, match="ZPolicy"):
        rescaler.downscale(photo(8, 8, 1), z=wrong, refine=steps, progress=lambda *_: pytest.fail("it went to work"))


def test_a_closed_rescaler_does_not_refine(rescaler: Rescaler) -> None:
    rescaler.downscale(photo(8, 8, 1), refine=1)
    rescaler.close()
    with pytest.raises(ClosedError):
        rescaler.downscale(photo(8, 8, 1), refine=1)


def test_a_rescaler_that_progress_closes_does_not_go_on(rescaler: Rescaler) -> None:
    with pytest.raises(ClosedError):
        rescaler.downscale(photo(8, 8, 1), refine=1, progress=lambda *_: rescaler.close())


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(4))
    with Rescaler(card, threads=1) as rescaler:
        rescaler.downscale(photo(8, 8, 1))
        content = bytearray(card.weights_path.read_bytes())
        content[-1] ^= 1
        card.weights_path.write_bytes(content)
        with pytest.raises(WeightsHashError):
            rescaler.downscale(photo(8, 8, 1), refine=1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_no_picture(cards: dict[int, ModelCard], value: float) -> None:
    made, hr = refiner(cards[4]), photo(16, 16, 1)
    inverse = made._network.inverse

    def spoilt(*inputs: Any) -> torch.Tensor:
        restored = inverse(*inputs)
        restored.view(-1)[7] = value
        return restored

    made._network.inverse = spoilt  # type: ignore[assignment]
    lr = hr[::4, ::4].copy()
    with pytest.raises(NonFiniteOutputError):
        made.refine(Target(hr, np.zeros((4, 4), np.uint8)), lr, steps=0, plan=whole(lr))


PLACES = ["bicubic_downscale", "_area", "_to_pixels"]
ERRORS = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")]


@pytest.mark.parametrize(
    ("place", "raised"),
    [
        (place, raised) if PLACES.index(place) == ERRORS.index(raised) else slow(place, raised)
        for place, raised in itertools.product(PLACES, ERRORS)
    ],
)
def test_memory_that_runs_out_is_tried_again_with_smaller_tiles(
    cards: dict[int, ModelCard], monkeypatch: pytest.MonkeyPatch, place: str, raised: Exception
) -> None:
    hr, real, failures = photo(213, 243, 5), getattr(refine, place), [raised]

    def fail(*args: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return real(*args, **options)

    with Rescaler(cards[4], threads=1) as rescaler:
        wanted = rescaler.downscale(hr, refine=1)
        monkeypatch.setattr(refine, place, fail)
        with pytest.warns(UserWarning, match="trying again with smaller tiles"):
            found = rescaler.downscale(hr, refine=1)
    assert np.mean(wanted.lr != found.lr) < 2e-3


def test_the_caller_s_settings_of_pytorch_neither_matter_nor_change(cards: dict[int, ModelCard]) -> None:
    hr, threads = photo(61, 45, 1), torch.get_num_threads()
    with Rescaler(cards[4], threads=1) as rescaler:
        wanted = rescaler.downscale(hr, refine=3)
    with Rescaler(cards[4], threads=1) as rescaler:
        for setting in (torch.inference_mode(), torch.no_grad(), torch.autocast("cpu", torch.bfloat16)):
            with setting:
                found = rescaler.downscale(hr, refine=3)
            assert np.array_equal(found.lr, wanted.lr)
    with Rescaler(cards[4], threads=threads + 1) as rescaler:
        seen: list[int] = []
        rescaler.downscale(hr, refine=1, progress=lambda *_: seen.append(torch.get_num_threads()))
    assert seen[-1] == threads + 1
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")
def test_bfloat16_refines_as_well(tmp_path: Path) -> None:
    hr = photo(96, 80, 3)
    with Rescaler.from_pretrained("bdflow-x4-fast", threads=1, precision="bf16") as rescaler:
        plain, refined = (psnr(rescaler.upscale(rescaler.downscale(hr, refine=steps)), hr) for steps in (0, 8))
    assert refined > plain + 0.2


@pytest.mark.parametrize("size", [(48, 64), (45, 62)])
def test_refined_lr_pixels_stay_near_the_mean_of_their_hr_pixels(size: tuple[int, int]) -> None:
    """On noise, where the gradient drives them away from it."""
    hr = np.random.default_rng(3).integers(0, 2, (*size, 3), np.uint8) * 255
    with Rescaler.from_pretrained("bdflow-x4-fast@1", threads=1) as rescaler:
        lr = rescaler.downscale(hr, refine=20).lr.astype(np.float64)
    whole = np.pad(hr, ((0, -size[0] % 4), (0, -size[1] % 4), (0, 0)), mode="edge")
    mean = whole.reshape(lr.shape[0], 4, lr.shape[1], 4, 3).mean(axis=(1, 3))
    distance = np.abs(lr - mean)
    assert LR_BOUND - 1 < distance.max() <= LR_BOUND + 0.51
