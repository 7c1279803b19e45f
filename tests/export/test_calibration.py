"""What calibration measures is kept in the cache for as long as it holds, and believed only where it can be right."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bdflow_rt.cache import Blob, cache_folder
from bdflow_rt.engines.openvino import OpenVINOEngine
from bdflow_rt.errors import CacheTrustError, NonFiniteOutputError
from bdflow_rt.export.calibration import builtin_pictures, calibrate, calibration_inputs, magnitudes
from bdflow_rt.export.onnx import read_graph
from bdflow_rt.export.precision import measure_overflow
from bdflow_rt.zoo import Direction, ModelCard
from tests.support import slow, slow_but
from tests.support_models import DIRECTIONS, assert_close_pixels, graph_inputs, make_model, tiny_config, with_weights

Measured = tuple[str, dict[str, float]]
Spoilt = Callable[[bytes], tuple[Blob, dict[str, float]]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an empty cache will keep calibrations."""
    monkeypatch.setenv("BDFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "calibration"


@pytest.fixture
def card(tmp_path: Path) -> ModelCard:
    return make_model(tmp_path, tiny_config(2, hidden=4))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """What the cache calls the calibration of the way down of `card`, and what it is."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BDFLOW_CACHE", str(folder))
        values = calibrate(make_model(folder, tiny_config(2, hidden=4)), "downscale")
    (path,) = (folder / "calibration").iterdir()
    return path.name, values


@pytest.fixture
def spoilt(cache: Path, card: ModelCard, measured: Measured) -> Spoilt:
    """Puts a text where the cache keeps the way down of `card`; gives that place, and what calibration makes then."""

    def put(text: bytes) -> tuple[Blob, dict[str, float]]:
        blob = Blob("calibration", measured[0])
        blob.write(text)
        return blob, calibrate(card, "downscale")

    return put


def kept(cache: Path) -> Blob:
    (path,) = cache.iterdir()
    return Blob("calibration", path.name)


def read(blob: Blob) -> dict[str, float]:
    return json.loads(blob.read() or b"")


def test_magnitudes_are_those_of_the_values(tmp_path: Path) -> None:
    card = make_model(tmp_path, tiny_config(4, hidden=4))
    inputs = graph_inputs(card, "downscale")
    found = magnitudes(read_graph(card, "downscale"), card, [{"image": np.zeros_like(inputs["image"])}, inputs])
    image = inputs["image"].astype(np.float64)
    assert found["image/cast"] == image.max()
    assert found["image/div"] == pytest.approx(image.max() / 255)
    difference = np.abs(image[:, :, ::2] - image[:, :, 1::2])
    bands = np.abs(image[:, ::2] - image[:, 1::2]).max(), difference.max()
    assert 0 < found["haar_forward/u2"] <= max(bands) / 2 / 255 + 1e-6
    # A weight overflows or not, whatever the picture.
    assert not found.keys() & {"255", "levels.0.0.phi.conv1.weight", "levels.0.0.phi.conv1.weight/float32"}


def test_builtin_pictures_reach_the_extremes_and_are_the_same_every_time() -> None:
    pictures = builtin_pictures(32)
    assert pictures.shape == (13, 32, 32, 3)
    assert np.array_equal(pictures, builtin_pictures(32))
    assert len({picture.tobytes() for picture in pictures}) == 13
    assert (pictures.min(), pictures.max()) == (0, 255)


def test_the_way_up_is_calibrated_with_the_packets_of_every_picture_and_with_what_no_picture_makes(
    card: ModelCard,
) -> None:
    images = list(calibration_inputs(card, "downscale"))
    inputs = list(calibration_inputs(card, "upscale"))
    assert (len(images), len(inputs)) == (13, 26)
    engine = OpenVINOEngine(card, "downscale")
    for image, packet in zip(images, inputs[:13], strict=True):
        wanted = engine.run(image)
        assert_close_pixels(packet["lr"], wanted["lr"])
        assert np.mean(packet["boundary"] != wanted["boundary"]) < 0.01
    assert {level for packet in inputs[13:] for level in np.unique(packet["boundary"])} == {0, 1}
    assert len({packet["lr"].tobytes() for packet in inputs}) == 26


@pytest.mark.parametrize("direction", slow_but(["downscale", "upscale_z"], DIRECTIONS))
def test_what_was_measured_is_kept_and_read(cache: Path, card: ModelCard, direction: Direction) -> None:
    first = calibrate(card, direction)
    assert first == magnitudes(read_graph(card, direction), card, calibration_inputs(card, direction))
    assert read(kept(cache)) == first
    planted = {name: value + 1 for name, value in first.items()}  # only a reader can come upon it
    kept(cache).write(json.dumps(planted).encode())
    assert calibrate(card, direction) == planted


def test_directions_and_weights_do_not_share_what_was_measured(cache: Path, card: ModelCard) -> None:
    found = [calibrate(card, direction) for direction in DIRECTIONS]
    found.append(calibrate(with_weights(card, {"levels.0.0.phi.conv1.weight": 3.0}), "downscale"))
    assert len(list(cache.iterdir())) == len(found)
    assert found[0].keys() == found[-1].keys()
    assert found[0] != found[-1]


def one_value(value: object) -> Callable[[dict[str, float]], object]:
    return lambda found: {**found, next(iter(found)): value}


FAULTS: dict[str, Callable[[dict[str, float]], object]] = {
    "a list": lambda found: list(found),
    "a name missing": lambda found: dict(list(found.items())[1:]),
    "a name more": lambda found: {**found, "more": 1.0},
    "NaN": one_value(float("nan")),
    "infinite": one_value(float("inf")),
    "negative": one_value(-1.0),
    "text": one_value("1.0"),
    "true": one_value(True),
}


@pytest.mark.parametrize("fault", slow_but(["a list", "a name missing", "infinite", "true"], FAULTS))
def test_what_cannot_be_right_is_measured_anew(spoilt: Spoilt, measured: Measured, fault: str) -> None:
    wanted = measured[1]
    blob, found = spoilt(json.dumps(FAULTS[fault](wanted)).encode())
    assert found == wanted
    assert read(blob) == wanted


def test_what_is_right_is_not_measured_anew(spoilt: Spoilt, measured: Measured) -> None:
    # Or the tests around this one would show nothing.
    planted = {name: value + 1 for name, value in measured[1].items()}
    assert spoilt(json.dumps(planted).encode())[1] == planted


@pytest.mark.parametrize("text", [b"", slow(b"{"), b"[" * 100_000], ids=["nothing", "an open brace", "endless nesting"])
def test_what_is_no_json_is_measured_anew(spoilt: Spoilt, measured: Measured, text: bytes) -> None:
    assert spoilt(text)[1] == measured[1]


def test_a_folder_that_others_can_write_to_is_refused(cache: Path, card: ModelCard) -> None:
    calibrate(card, "downscale")
    cache.chmod(0o777)
    with pytest.raises(CacheTrustError):
        calibrate(card, "downscale")


def test_a_cache_that_cannot_be_written_only_costs_time(cache: Path, card: ModelCard) -> None:
    wanted = calibrate(card, "downscale")
    kept(cache).path.unlink()
    cache.rmdir()
    cache.write_bytes(b"")  # a file where the folder should be, which stops root as well
    with pytest.warns(RuntimeWarning, match="The cache of calibration cannot be written"):
        assert calibrate(card, "downscale") == wanted
    assert cache.read_bytes() == b""


def test_what_is_not_kept_yet_is_announced_once(cache: Path, card: ModelCard) -> None:
    heard: list[str] = []
    for _ in range(2):
        calibrate(card, "upscale", say=heard.append)
    assert [text.startswith(f"Calibrating upscale of {card.id}") for text in heard] == [True]


def test_the_tests_leave_the_users_cache_alone() -> None:
    assert cache_folder() == Path(os.environ["BDFLOW_CACHE"])
    assert not cache_folder().is_relative_to(Path.home() / ".cache")


def test_values_that_are_not_finite_are_not_kept(cache: Path, card: ModelCard) -> None:
    broken = with_weights(card, {"levels.0.0.rho.conv2.weight": float("nan")})
    for _ in range(2):
        with pytest.raises(NonFiniteOutputError):
            measure_overflow(broken, "downscale")
    assert not cache.exists()
