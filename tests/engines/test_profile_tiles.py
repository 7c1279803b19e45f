"""Pictures larger and smaller than what a TensorRT engine was built for, through `Rescaler`, on a stand-in machine."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from bdflow_rt import Rescaler
from bdflow_rt.engines.backends import BackendInfo
from bdflow_rt.errors import OutsideProfileError
from bdflow_rt.runtime.plan import tile_size
from bdflow_rt.zoo.arch.bdflow import paper_config
from tests.support import photo, slow_but


def close(one: Any, other: Any) -> bool:
    """Equal but for what rounds the other way in half precision."""
    distance = np.abs(one.astype(int) - other)
    return bool(distance.max() <= 2 and ((distance > 0).mean() < 0.05 or distance.size < 1000))


@pytest.mark.parametrize(
    "size", slow_but([(129, 127), (9, 500)], [(128, 128), (129, 127), (301, 263), (9, 500), (8, 8)])
)
def test_pictures_beyond_the_profile_are_cut_into_tiles_that_fit(rescaler: Rescaler, size: tuple[int, int]) -> None:
    picture = photo(*size, 3)
    with rescaler, Rescaler(rescaler.card, backend="openvino") as reference:
        packet, expected = rescaler.downscale(picture), reference.downscale(picture)
        assert close(packet.lr, expected.lr)
        assert close(rescaler.upscale(expected), reference.upscale(expected))


def test_a_batch_is_no_larger_than_the_profile_allows(rescaler: Rescaler) -> None:
    pictures = [photo(32, 48, seed) for seed in range(7)]
    with rescaler:
        packets = rescaler.downscale_batch(pictures)
        assert [close(packet.lr, rescaler.downscale(one).lr) for packet, one in zip(packets, pictures, strict=True)]
        assert len(rescaler.upscale_batch(packets)) == 7


def test_a_picture_smaller_than_the_profile_runs_on_another_backend_which_is_said_once(rescaler: Rescaler) -> None:
    """No PyTorch finds a GPU here, so the next that the host's arrays can go to is OpenVINO."""
    picture = photo(4, 6, 1)
    with rescaler, Rescaler(rescaler.card, backend="openvino") as reference:
        assert rescaler.backend_reason == "asked for"
        with pytest.warns(UserWarning, match="bdflow build .*Backend 'openvino' on cpu runs instead") as warned:
            packet = rescaler.downscale(picture)
        assert warned[0].filename == __file__
        assert np.array_equal(packet.lr, reference.downscale(picture).lr)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.array_equal(rescaler.upscale(packet), reference.upscale(packet))
            rescaler.downscale(photo(32, 32, 1))
        assert "openvino on cpu has run where the engines of tensorrt do not take" in rescaler.backend_reason


def test_where_nothing_else_runs_the_command_that_builds_for_it_is_named(
    rescaler: Rescaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BackendInfo, "is_installed", property(lambda info: info.builds_first))
    with rescaler, pytest.raises(OutsideProfileError, match="bdflow build"):
        rescaler.downscale(photo(4, 6, 1))


def test_tiles_stay_within_what_the_engine_takes() -> None:
    interface = paper_config(4).interface()
    limits: dict[str, Any] = {"memory_limit_mib": float("inf"), "backend": "tensorrt", "smallest": (16, 16)}
    for height, width in ((270, 480), (271, 481), (541, 961), (5000, 100), (300, 17)):
        rows, columns = tile_size(height, width, interface, largest=(270, 480), **limits)
        assert rows <= 270
        assert columns <= 480
        assert min(rows, columns) >= min(16, width)
    with pytest.raises(OutsideProfileError, match="smallest exact tile"):
        tile_size(270, 480, interface, largest=(20, 480), **limits)
