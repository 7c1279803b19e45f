"""What pictures may come in as, and go out as: NV12 video frames, and arrays of other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bdflow_rt import NV12, Rescaler
from bdflow_rt.errors import (
    ArgumentError,
    DeviceMismatchError,
    DTypeError,
    EmptyImageError,
    ImageTooLargeError,
    LayoutError,
    ShapeError,
)
from bdflow_rt.zoo import ModelCard
from tests.support import photo, slow_but
from tests.support_models import make_model, tiny_config


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(4))


@pytest.mark.parametrize("size", slow_but([(37, 45)], [(48, 64), (37, 45), (1, 1), (2, 3)]))
@pytest.mark.parametrize("front", [NV12(), NV12("bt601", "full")], ids=str)
def test_an_nv12_frame_is_the_picture_of_its_rgb(card: ModelCard, front: NV12, size: tuple[int, int]) -> None:
    luma, chroma = front.from_rgb(photo(*size, 3))
    with Rescaler(card, threads=1) as rescaler:
        expected = rescaler.downscale(front.to_rgb(luma, chroma))
        packet = rescaler.downscale((luma, chroma), front=front)
        assert np.array_equal(packet.lr, expected.lr)
        assert (packet.header.width, packet.header.height) == (size[1], size[0])
        colour = packet.header.colour
        assert (colour.model, colour.matrix, colour.full_range) == (
            "rgb", {"bt709": 1, "bt601": 6}[front.matrix], front.levels == "full",
        )  # fmt: skip
        planes = rescaler.upscale(packet, front=front)
        for plane, other in zip(planes, front.from_rgb(rescaler.upscale(packet)), strict=True):
            assert np.array_equal(plane, other)
        out = np.empty_like(luma), np.empty_like(chroma)
        again = rescaler.upscale(packet, front=front, out=out)
        assert again[0] is out[0]
        assert again[1] is out[1]
        assert all(np.array_equal(one, other) for one, other in zip(again, planes, strict=True))
        submitted = rescaler.submit_upscale(rescaler.submit_downscale((luma, chroma), front=front).wait(), front=front)
        assert all(np.array_equal(one, other) for one, other in zip(submitted.wait(), planes, strict=True))


def test_rows_of_a_decoder_may_lie_apart(card: ModelCard) -> None:
    luma, chroma = NV12().from_rgb(photo(48, 64, 3))
    surface = np.zeros((72, 80), np.uint8)
    surface[:48, :64], surface[48:, :64] = luma, chroma.reshape(24, 64)
    with Rescaler(card, threads=1) as rescaler:
        pitched = surface[:48, :64], surface[48:].reshape(24, 40, 2)[:, :32]
        assert np.array_equal(
            rescaler.downscale(pitched, front=NV12()).lr, rescaler.downscale((luma, chroma), front=NV12()).lr
        )


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (photo(8, 8, 1), ArgumentError, "pair of arrays"),
        ("frame.png", ArgumentError, "pair of arrays"),
        ((photo(8, 8, 1), photo(4, 4, 1)[..., :2]), ShapeError, "luma is of shape"),
        ((photo(8, 8, 1)[..., 0], photo(8, 8, 1)[..., 0]), ShapeError, "chroma is of shape"),
        ((photo(8, 9, 1)[..., 0], photo(4, 4, 1)[..., :2]), ShapeError, r"must be \(4, 5, 2\)"),
        ((photo(8, 8, 1)[..., 0].astype(np.uint16), photo(4, 4, 1)[..., :2]), DTypeError, "luma is an array of uint16"),
        ((photo(8, 8, 1)[..., 0], photo(4, 4, 1)[..., :2].astype(np.float32)), DTypeError, "of float32"),
        ((np.zeros((0, 8), np.uint8), np.zeros((0, 4, 2), np.uint8)), EmptyImageError, "no pixels"),
        ((np.zeros((80, 80), np.uint8), np.zeros((40, 40, 2), np.uint8)), ImageTooLargeError, "6400 pixels"),
        ((None, None), ShapeError, "luma is a NoneType"),
        ((np.ma.masked_array(photo(8, 8, 1)[..., 0]), photo(4, 4, 1)[..., :2]), DTypeError, "masked"),
    ],
)  # fmt: skip
def test_frames_that_are_no_nv12_are_refused(card: ModelCard, frame: Any, error: Any, message: str) -> None:
    with Rescaler(card, threads=1, max_pixels=5000) as rescaler, pytest.raises(error, match=message):
        rescaler.downscale(frame, front=NV12())


def test_arrays_for_nv12_that_do_not_suit_are_refused(card: ModelCard) -> None:
    with Rescaler(card, threads=1) as rescaler:
        packet = rescaler.downscale(photo(8, 8, 1))
        luma, chroma = np.empty((8, 8), np.uint8), np.empty((4, 4, 2), np.uint8)
        with pytest.raises(ArgumentError, match="pair of arrays"):
            rescaler.upscale(packet, front=NV12(), out=luma)
        with pytest.raises(ShapeError, match="out has chroma"):
            rescaler.upscale(packet, front=NV12(), out=(luma, luma))
        with pytest.raises(LayoutError, match="out has luma"):
            rescaler.upscale(packet, front=NV12(), out=(luma[::-1], chroma))
        with pytest.raises(ArgumentError, match="front is"):
            rescaler.upscale(packet, front="nv12")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="refine"):
            rescaler.downscale((luma, chroma), front=NV12(), refine=1)


def test_a_grey_packet_has_no_colour_as_nv12(card: ModelCard) -> None:
    with Rescaler(card, threads=1) as rescaler:
        packet = rescaler.downscale(photo(24, 20, 1)[..., 0])
        _, chroma = rescaler.upscale(packet, front=NV12())
        assert (chroma == 128).all()


def test_arrays_of_other_libraries_in_the_hosts_memory_are_taken_as_they_are(card: ModelCard) -> None:
    picture = photo(24, 20, 1)
    with Rescaler(card, threads=1) as rescaler:
        expected = rescaler.downscale(picture)
        packet = rescaler.downscale(torch.from_numpy(picture.copy()))
        assert np.array_equal(packet.lr, expected.lr)
        assert np.array_equal(
            rescaler.downscale(torch.from_numpy(picture.copy()).flip(0)).lr, rescaler.downscale(picture[::-1]).lr
        )
        tensors = torch.from_numpy(np.stack([picture, picture[::-1]]))
        assert np.array_equal(rescaler.downscale_batch(tensors)[0].lr, expected.lr)
        with pytest.raises(DTypeError, match="float32"):
            rescaler.downscale(torch.zeros(8, 8, 3))
        with pytest.raises(ShapeError):
            rescaler.downscale(torch.zeros(3, 8, 8, dtype=torch.uint8))
        with pytest.raises((DTypeError, LayoutError, DeviceMismatchError)):
            rescaler.downscale(torch.empty(8, 8, 3, dtype=torch.uint8, device="meta"))
