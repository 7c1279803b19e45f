"""Batches: pictures of one size go through the engine at once, and come out as they would alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bdflow_rt import Packet, Picture, Rescaler, ZPolicy
from bdflow_rt.engines.openvino import OpenVINOEngine
from bdflow_rt.errors import ArgumentError, ClosedError, DTypeError, EditedPictureError, PacketMismatchError
from bdflow_rt.runtime import runner
from bdflow_rt.zoo import ModelCard
from tests.support import photo
from tests.support_models import make_model, tiny_config


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    return make_model(tmp_path_factory.mktemp("zoo"), tiny_config(4))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each run of an engine was given."""
    counted: list[int] = []
    run = OpenVINOEngine.run

    def counting(self: OpenVINOEngine, inputs: Any, **options: Any) -> Any:
        counted.append(len(next(iter(inputs.values()))))
        return run(self, inputs, **options)

    monkeypatch.setattr(OpenVINOEngine, "run", counting)
    return counted


def apart(one: Packet, other: Packet) -> int:
    assert one.header.lr_crc32 == Packet.crc32_of(one.lr)
    assert (one.header.width, one.header.height, one.header.z) == (
        other.header.width, other.header.height, other.header.z,
    )  # fmt: skip
    pairs = [(one.lr, other.lr)]
    if one.boundary is not None and other.boundary is not None:
        pairs.append((one.boundary, other.boundary))
    return max(int(np.abs(left.astype(int) - right).max()) for left, right in pairs)


def test_neighbours_of_one_size_are_one_run_and_keep_their_order(card: ModelCard, batches: list[int]) -> None:
    sizes = [(40, 48)] * 3 + [(37, 45)] * 2 + [(40, 48)]
    pictures = [photo(*size, seed) for seed, size in enumerate(sizes)]
    with Rescaler(card, backend="openvino") as rescaler:
        packets = rescaler.downscale_batch(pictures)
        assert batches == [3, 2, 1]
        restored = rescaler.upscale_batch(packets)
        assert batches == [3, 2, 1] * 2
        for picture, packet, image in zip(pictures, packets, restored, strict=True):
            assert apart(packet, rescaler.downscale(picture)) <= 1
            assert image.shape == picture.shape
            assert np.abs(image.astype(int) - rescaler.upscale(packet)).max() <= 1


def test_an_array_of_pictures_is_a_batch(card: ModelCard, batches: list[int]) -> None:
    with Rescaler(card, backend="openvino") as rescaler:
        packets = rescaler.downscale_batch(np.stack([photo(24, 28, seed) for seed in range(5)]))
        assert (len(packets), batches) == (5, [5])
        assert len({packet.header.lr_crc32 for packet in packets}) == 5


def test_files_pictures_and_grey_ones_go_together(card: ModelCard, tmp_path: Path, batches: list[int]) -> None:
    from PIL import Image

    Image.fromarray(photo(24, 28, 1)).save(tmp_path / "a.png")
    grey = photo(24, 28, 2)[:, :, 0]
    images: list[Any] = [tmp_path / "a.png", grey, Picture(photo(24, 28, 3), icc_profile=None)]
    with Rescaler(card, backend="openvino") as rescaler:
        packets = rescaler.downscale_batch(images)
        assert batches == [3]
        assert [packet.header.colour.model for packet in packets] == ["rgb", "grey", "rgb"]
        restored = rescaler.upscale_batch(packets)
        assert np.array_equal(restored[1][:, :, 0], restored[1][:, :, 2])
        assert not np.array_equal(restored[0][:, :, 0], restored[0][:, :, 2])


def test_each_packet_of_a_batch_keeps_the_z_of_its_own(card: ModelCard, batches: list[int]) -> None:
    pictures = [photo(24, 28, seed) for seed in range(4)]
    policies = [ZPolicy(temperature=0.3, seed=7), ZPolicy(temperature=0.3, seed=8), ZPolicy(), ZPolicy()]
    with Rescaler(card, backend="openvino") as rescaler:
        packets = [rescaler.downscale(picture, z=z) for picture, z in zip(pictures, policies, strict=True)]
        batches.clear()
        restored = rescaler.upscale_batch(packets)
        assert batches == [2, 2]
        for packet, image in zip(packets, restored, strict=True):
            assert np.abs(image.astype(int) - rescaler.upscale(packet)).max() <= 1


def test_a_batch_stays_within_the_memory_limit_and_large_pictures_go_alone(
    card: ModelCard, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [photo(40, 48, seed) for seed in range(5)]
    two_mib = 2.5 * (10 * 12 * card.interface.activation_bytes) / (1 << 20)
    with Rescaler(card, backend="openvino", memory_limit_mib=two_mib) as rescaler:
        rescaler.downscale_batch(pictures)
        assert batches == [2, 2, 1]
    batches.clear()
    monkeypatch.setattr(runner, "MAX_BATCH_PIXELS", 3 * 40 * 48)
    with Rescaler(card, backend="openvino") as rescaler:
        rescaler.downscale_batch(pictures)
        assert batches == [3, 2]


def test_what_is_wrong_with_one_of_a_batch_is_said_as_for_it_alone(card: ModelCard) -> None:
    with Rescaler(card, backend="openvino") as rescaler:
        packets = rescaler.downscale_batch([photo(24, 28, seed) for seed in range(2)])
        edited = Packet(packets[1].lr ^ np.uint8(1), packets[1].boundary, packets[1].header)
        with pytest.raises(EditedPictureError):
            rescaler.upscale_batch([packets[0], edited])
        assert len(rescaler.upscale_batch([packets[0], edited], force=True)) == 2
        with pytest.raises(DTypeError):
            rescaler.downscale_batch([photo(24, 28, 1), photo(24, 28, 2).astype(np.float32)])
        with pytest.raises(ArgumentError, match="upscale got a ndarray"):
            rescaler.upscale_batch([packets[0], packets[1].lr])  # type: ignore[list-item]
        assert rescaler.downscale_batch([]) == rescaler.upscale_batch([]) == []
    with pytest.raises(ClosedError):
        rescaler.downscale_batch([photo(24, 28, 1)] * 2)


def test_a_packet_of_another_model_in_a_batch_is_refused(card: ModelCard, tmp_path: Path) -> None:
    other = make_model(tmp_path, tiny_config(2), name="other")
    with Rescaler(card, backend="openvino") as rescaler, Rescaler(other, backend="openvino") as second:
        packets = [rescaler.downscale(photo(24, 28, 1)), second.downscale(photo(24, 28, 1))]
        with pytest.raises(PacketMismatchError, match="for_packet"):
            rescaler.upscale_batch(packets)
